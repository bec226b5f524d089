package engine

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestModelIncrex compares INCREX with integers without bounds.
func TestModelIncrex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		at := big.NewInt(0)
		number := rapid.OneOf(rapid.Int64(), rapid.Int64Range(-20, 20), rapid.SampledFrom([]int64{math.MaxInt64, math.MinInt64, math.MaxInt64 - 1, math.MinInt64 + 1}))
		for range 30 {
			by, low, high := number.Draw(t, "by"), int64(math.MinInt64), int64(math.MaxInt64)
			call := []string{"INCREX", "k", "BYINT", strconv.FormatInt(by, 10)}
			if rapid.Bool().Draw(t, "LBOUND") {
				low = number.Draw(t, "low")
				call = append(call, "LBOUND", strconv.FormatInt(low, 10))
			}
			if rapid.Bool().Draw(t, "UBOUND") {
				high = number.Draw(t, "high")
				call = append(call, "UBOUND", strconv.FormatInt(high, 10))
			}
			saturate := rapid.Bool().Draw(t, "SATURATE")
			if saturate {
				call = append(call, "SATURATE")
			}
			before := new(big.Int).Set(at)
			sum := new(big.Int).Add(at, big.NewInt(by))
			below, above := sum.Cmp(big.NewInt(low)) < 0, sum.Cmp(big.NewInt(high)) > 0
			want := "(error) ERR LBOUND can't be greater than UBOUND"
			if low <= high {
				switch {
				case above && saturate:
					at = big.NewInt(high)
				case below && saturate:
					at = big.NewInt(low)
				case !above && !below:
					at = sum
				}
				added := new(big.Int).Sub(at, before)
				if !added.IsInt64() { // more than can be said
					added = big.NewInt(math.MinInt64)
				}
				want = fmt.Sprintf("[%v %v]", at, added)
			}
			if got := w.do(call...); got != want {
				t.Fatalf("%q from %v: %s, want %s", call, before, got, want)
			}
		}
	})
}

// TestThrottleKeepsItsPromise: from any time to any later one no more passes than a burst and what the rate allows; what is
// refused passes after the wait that the answer tells, not a second before.
func TestThrottleKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		burst := rapid.Int64Range(0, 20).Draw(t, "burst")
		requests := rapid.Int64Range(1, 50).Draw(t, "requests")
		period := rapid.Int64Range(1, 100).Draw(t, "period")
		limit := []string{"CL.THROTTLE", "k", strconv.FormatInt(burst, 10), strconv.FormatInt(requests, 10), strconv.FormatInt(period, 10)}
		ask := func(quantity int64) (passed bool, left, retry int64) {
			var limited, most, reset int64
			got := w.do(append(slices.Clone(limit), strconv.FormatInt(quantity, 10))...)
			if n, err := fmt.Sscanf(got, "[%d %d %d %d %d]", &limited, &most, &left, &retry, &reset); n != 5 || most != burst+1 || left < 0 || left > most {
				t.Fatalf("%s: %v", got, err)
			}
			return limited == 0, left, retry
		}
		type event struct{ at, quantity int64 }
		var events []event
		for range 60 {
			w.now += rapid.Int64Range(0, 2000*period/requests+1).Draw(t, "later")
			quantity := rapid.Int64Range(0, burst+3).Draw(t, "quantity")
			_, before, _ := ask(0)
			passed, left, retry := ask(quantity)
			switch {
			case passed != (quantity <= before):
				t.Fatalf("%d of %d left: passed %v", quantity, before, passed)
			case passed && (left != before-quantity || retry != -1):
				t.Fatalf("%d of %d left, then %d, retry %d", quantity, before, left, retry)
			case !passed && (quantity > burst+1) != (retry == -1):
				t.Fatalf("%d of a burst of %d: retry %d", quantity, burst+1, retry)
			}
			if !passed && retry > 0 && rapid.Bool().Draw(t, "wait") {
				w.now += (retry - 1) * 1000
				if early, _, _ := ask(quantity); early && retry > 1 {
					t.Fatal("a second before the time it passed")
				} else if !early {
					w.now += 1000
					if passed, _, _ = ask(quantity); !passed {
						t.Fatal("after the time it did not pass")
					}
				} else {
					passed = true
				}
			}
			if passed {
				events = append(events, event{w.now, quantity})
			}
		}
		for i := range events {
			sum := int64(0)
			for _, e := range events[i:] {
				sum += e.quantity
				if most := burst + 1 + (e.at-events[i].at)*requests/(period*1000) + 1; sum > most {
					t.Fatalf("%d passed in %d ms, at most %d may", sum, e.at-events[i].at, most)
				}
			}
		}
	})
}

// TestTrimmingByReferences compares what trimming removes with a list that says of each entry who refers to it.
func TestTrimmingByReferences(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		n := rapid.IntRange(1, 250).Draw(t, "entries")
		for i := range n {
			w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task([]string{"XADD", "s", fmt.Sprintf("%d-1", i+1), "f", "v"})}})
		}
		for _, g := range []string{"g", "h"}[:rapid.IntRange(0, 2).Draw(t, "groups")] {
			w.do("XGROUP", "CREATE", "s", g, "0")
			read := rapid.IntRange(0, n).Draw(t, "read")
			if read > 0 {
				w.do("XREADGROUP", "GROUP", g, "ann", "COUNT", strconv.Itoa(read), "STREAMS", "s", ">")
			}
			for range rapid.IntRange(0, 300).Draw(t, "acks") {
				w.do("XACK", "s", g, fmt.Sprintf("%d-1", rapid.IntRange(1, n).Draw(t, "id")))
			}
		}
		s := w.p.objects[w.p.caches[testCache].dbs[0].find([]byte("s")).object()].value.(*streamValue)
		w.p.viewed = 0
		refs := rapid.SampledFrom([]string{"KEEPREF", "DELREF", "ACKED"}).Draw(t, "references")
		by, threshold := rapid.SampledFrom([]string{"MAXLEN", "MINID"}).Draw(t, "by"), rapid.IntRange(0, n+1).Draw(t, "threshold")
		var left, pending []string
		length := n
		for i := range n {
			id := streamID{uint64(i + 1), 1}
			goes := by == "MINID" && i+1 < threshold || by == "MAXLEN" && length > threshold
			if goes = goes && (refs != "ACKED" || !s.referred(id)); goes {
				length--
			} else {
				left = append(left, id.String())
			}
			for _, g := range s.groups {
				if g.delivery(id) != nil && !(goes && refs == "DELREF") {
					pending = append(pending, g.name+id.String())
				}
			}
		}
		if got := w.do("XTRIM", "s", by, "=", strconv.Itoa(threshold), refs); got != strconv.Itoa(n-length) {
			t.Fatalf("XTRIM %s %d %s removed %s, want %d", by, threshold, refs, got, n-length)
		}
		var got, gotPending []string
		s.walk(streamSpan{noID, maxID, math.MaxInt}, func(e streamEntry) { got = append(got, e.id.String()) })
		for i := range n {
			for _, g := range s.groups {
				if g.delivery(streamID{uint64(i + 1), 1}) != nil {
					gotPending = append(gotPending, g.name+streamID{uint64(i + 1), 1}.String())
				}
			}
		}
		if strings.Join(got, " ") != strings.Join(left, " ") || strings.Join(gotPending, " ") != strings.Join(pending, " ") {
			t.Fatalf("XTRIM %s %d %s left %v, pending %v; want %v, %v", by, threshold, refs, got, gotPending, left, pending)
		}
	})
}
