package main

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/anishathalye/porcupine"
)

// An input is what a client asked for.
type input struct {
	Kind string
	A, B string // arguments: see the models
}

// An output is what it was told. Of an operation whose outcome is unknown, nothing.
type output struct {
	Unknown bool
	Value   string
}

func (in input) String() string { return strings.TrimSpace(in.Kind + " " + in.A + " " + in.B) }

func describe(in, out any) string {
	o := out.(output)
	if o.Unknown {
		return fmt.Sprintf("%v → ?", in)
	}
	return fmt.Sprintf("%v → %s", in, o.Value)
}

func model(init string, step func(state string, in input, out output) (bool, string)) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return init },
		Step: func(state, in, out any) (bool, any) {
			ok, next := step(state.(string), in.(input), out.(output))
			return ok, next
		},
		DescribeOperation: describe,
	}
}

// registers: "set A", "get", "cas A B" when the state was A and became B.
var registers = model("", func(s string, in input, out output) (bool, string) {
	switch in.Kind {
	case "set":
		return true, in.A
	case "cas": // one that is known has succeeded; the others are not in the history
		if s == in.A {
			return true, in.B
		}
		return out.Unknown, s
	}
	return out.Value == s, s
})

// counters: "add A" answers the sum, "get" too.
var counters = model("0", func(s string, in input, out output) (bool, string) {
	if in.Kind == "add" {
		s = strconv.Itoa(number(s) + number(in.A))
	}
	return out.Unknown || out.Value == s, s
})

// lists: "push A" answers the length, "all" the elements with commas between, "pop" the first.
var lists = model("", func(s string, in input, out output) (bool, string) {
	switch in.Kind {
	case "push":
		if s != "" {
			s += ","
		}
		s += in.A
		return out.Unknown || out.Value == strconv.Itoa(strings.Count(s, ",")+1), s
	case "pop":
		first, rest, _ := strings.Cut(s, ",")
		return out.Unknown || out.Value == first, rest
	}
	return out.Value == s, s
})

// sortedSets: "add A B" adds B to the score of A and answers that, "all" the members in order: a 1 b 2.
var sortedSets = model("", func(s string, in input, out output) (bool, string) {
	if in.Kind == "all" {
		return out.Value == s, s
	}
	f := strings.Fields(s)
	scores := map[string]int{}
	for i := 0; i < len(f); i += 2 {
		scores[f[i]] = number(f[i+1])
	}
	scores[in.A] += number(in.B)
	names := make([]string, 0, len(scores))
	for n := range scores {
		names = append(names, n)
	}
	sort.Slice(names, func(i, j int) bool {
		if x, y := scores[names[i]], scores[names[j]]; x != y {
			return x < y
		}
		return names[i] < names[j]
	})
	f = f[:0]
	for _, n := range names {
		f = append(f, n, strconv.Itoa(scores[n]))
	}
	return out.Unknown || out.Value == strconv.Itoa(scores[in.A]), strings.Join(f, " ")
})

// pairs: "move A" takes A from the first and gives it to the second, "both" reads them: all or nothing.
var pairs = model("0 0", func(s string, in input, out output) (bool, string) {
	if in.Kind == "move" {
		f := strings.Fields(s)
		s = fmt.Sprint(number(f[0])-number(in.A), " ", number(f[1])+number(in.A))
	}
	return out.Unknown || out.Value == s, s
})

func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err) // we wrote it
	}
	return n
}

// checkQueue says what is wrong with the history of a queue: "push A" and "pop" of blocking clients, and whatever was left
// over. An element is popped once; one that was acknowledged is lost only if somebody's pop is of unknown outcome.
func checkQueue(history []porcupine.Operation, left []string) error {
	pushed, acked, popped := map[string]bool{}, map[string]bool{}, map[string]int{}
	unknown := 0
	for _, o := range history {
		in, out := o.Input.(input), o.Output.(output)
		switch {
		case in.Kind == "push":
			pushed[in.A] = true
			acked[in.A] = !out.Unknown
		case out.Unknown:
			unknown++
		case out.Value != "":
			popped[out.Value]++
		}
	}
	for _, e := range left {
		popped[e]++
	}
	var lost, wrong []string
	for e, n := range popped {
		if n > 1 || !pushed[e] {
			wrong = append(wrong, fmt.Sprintf("%s×%d", e, n))
		}
	}
	for e := range acked {
		if acked[e] && popped[e] == 0 {
			lost = append(lost, e)
		}
	}
	slices.Sort(wrong)
	slices.Sort(lost)
	if len(wrong) > 0 {
		return fmt.Errorf("popped twice, or never pushed: %v", wrong)
	}
	if len(lost) > unknown {
		return fmt.Errorf("%d acknowledged elements are gone, and only %d pops are of unknown outcome: %v", len(lost), unknown, lost)
	}
	return nil
}
