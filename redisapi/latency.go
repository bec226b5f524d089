package redisapi

import (
	"maps"
	"strings"

	"github.com/larder-cache/larder/engine"
)

func init() {
	none := func(s *Session, _ *engine.Command, _ [][]byte) { s.out.Array(0) }
	maps.Copy(handlers, map[string]handler{
		"LATENCY": noSubcommand, "LATENCY|HISTOGRAM": latencyHistogram, "LATENCY|DOCTOR": latencyDoctor,
		"LATENCY|HISTORY": none, "LATENCY|LATEST": none, "LATENCY|GRAPH": latencyGraph,
		"LATENCY|RESET": func(s *Session, _ *engine.Command, _ [][]byte) { s.out.Int(0) },
		"LATENCY|HELP": help("LATENCY",
			"DOCTOR", "Return a human readable latency analysis report.",
			"GRAPH <event>", "Return an ASCII latency graph for the <event> class.",
			"HISTORY <event>", "Return time-latency samples for the <event> class.",
			"LATEST", "Return the latest latency samples for all events.",
			"RESET [<event> ...]", "Reset latency data of one or more <event> classes.",
			"HISTOGRAM [COMMAND ...]", "Return a cumulative distribution of commands in histogram format.",
		),
	})
}

// latencyDoctor serves LATENCY DOCTOR.
func latencyDoctor(s *Session, _ *engine.Command, _ [][]byte) {
	s.out.Prose("The events that Redis monitors (fork, fsync, eviction cycles) are the service's own here, and are not told of.\n" +
		"How long the commands on this cache took is what LATENCY HISTOGRAM and SLOWLOG GET answer.\n")
}

func latencyGraph(s *Session, _ *engine.Command, args [][]byte) {
	s.out.ErrorText("ERR No samples available for event '" + clip(args[2]) + "'")
}

// latencyHistogram serves LATENCY HISTOGRAM.
func latencyHistogram(s *Session, _ *engine.Command, args [][]byte) {
	names, counts := s.state.tally.each()
	if len(args) > 2 {
		wanted := map[string]bool{}
		for _, a := range args[2:] {
			wanted[strings.ToLower(clip(a))] = true
		}
		kept := names[:0]
		for _, name := range names {
			container, _, _ := strings.Cut(name, "|")
			if wanted[name] || wanted[container] {
				kept = append(kept, name)
			}
		}
		names = kept
	}
	kept := names[:0]
	for _, name := range names {
		if counts[name].calls > 0 {
			kept = append(kept, name)
		}
	}
	s.out.Map(len(kept))
	for _, name := range kept {
		c := counts[name]
		used := 0
		for _, n := range c.times {
			if n > 0 {
				used++
			}
		}
		s.out.Text(name)
		s.out.Map(2)
		s.out.Text("calls")
		s.out.Int(c.calls)
		s.out.Text("histogram_usec")
		s.out.Map(used)
		sum := int64(0)
		for i, n := range c.times {
			if sum += n; n > 0 {
				s.out.Int(1 << i)
				s.out.Int(sum)
			}
		}
	}
}
