package redisapi

import (
	"slices"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of the channels and patterns that a connection may listen to.
const (
	maxSubscriptions   = 100_000
	maxSubscribedNames = 16 << 20 // bytes of their names
)

var subscribeWords = [3]struct{ on, off string }{
	gateway.Channel:      {"subscribe", "unsubscribe"},
	gateway.ShardChannel: {"ssubscribe", "sunsubscribe"},
	gateway.Pattern:      {"psubscribe", "punsubscribe"},
}

// counted is the number that the answer to a subscription tells: shard channels are counted by themselves.
func (s *Session) counted(kind gateway.ChannelKind) int64 {
	if kind == gateway.ShardChannel {
		return int64(len(s.channels[kind]))
	}
	return int64(len(s.channels[gateway.Channel]) + len(s.channels[gateway.Pattern]))
}

func subscribe(kind gateway.ChannelKind) handler {
	return func(s *Session, _ *engine.Command, args [][]byte) {
		fresh := false
		for _, a := range args[1:] {
			name := string(a)
			if !s.channels[kind][name] {
				if s.subscriptions() >= maxSubscriptions {
					s.out.ErrorText("ERR a connection listens to at most 100000 channels and patterns")
					return
				}
				if s.names+len(name) > maxSubscribedNames {
					s.out.ErrorText("ERR the names of what a connection listens to have at most 16 MiB")
					return
				}
				if err := s.server.Gateway.Hub().Subscribe(s.state.id, kind, name, s); err != nil {
					s.out.Error(fault.From(err))
					return
				}
				if s.channels[kind] == nil {
					s.channels[kind] = map[string]bool{}
				}
				s.channels[kind][name], fresh = true, true
				s.names += len(name)
			}
			s.confirm(subscribeWords[kind].on, kind, a)
		}
		if fresh { // the confirmations go out when this has returned
			s.server.Gateway.Hub().Await()
		}
		s.noteSubs()
	}
}

func unsubscribe(kind gateway.ChannelKind) handler {
	return func(s *Session, _ *engine.Command, args [][]byte) {
		names := args[1:]
		if len(names) == 0 {
			for name := range s.channels[kind] {
				names = append(names, []byte(name))
			}
			slices.SortFunc(names, slices.Compare)
			if len(names) == 0 {
				s.confirm(subscribeWords[kind].off, kind, nil)
				return
			}
		}
		for _, a := range names {
			s.stop(kind, string(a))
			s.confirm(subscribeWords[kind].off, kind, a)
		}
		s.noteSubs()
	}
}

func (s *Session) stop(kind gateway.ChannelKind, name string) {
	if s.channels[kind][name] {
		s.server.Gateway.Hub().Unsubscribe(s.state.id, kind, name, s)
		delete(s.channels[kind], name)
		s.names -= len(name)
	}
}

func (s *Session) confirm(word string, kind gateway.ChannelKind, name []byte) {
	s.out.Push(3)
	s.out.Text(word)
	if name == nil {
		s.out.Null()
	} else {
		s.out.Bulk(name)
	}
	s.out.Int(s.counted(kind))
}

func (s *Session) noteSubs() {
	s.facts.mu.Lock()
	defer s.facts.mu.Unlock()
	for i := range s.channels {
		s.facts.subs[i] = len(s.channels[i])
	}
}

// stopListening ends all subscriptions without a word.
func (s *Session) stopListening() {
	for kind := range s.channels {
		for name := range s.channels[kind] {
			s.stop(gateway.ChannelKind(kind), name)
		}
		s.channels[kind] = nil
	}
	s.noteSubs()
}

// ping serves PING, which answers listeners of RESP2 with a message.
func ping(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args) > 2 {
		s.out.ErrorText(arityError(cmd))
		return
	}
	switch {
	case s.listens():
		s.out.Push(2)
		s.out.Text("pong")
		if len(args) == 2 {
			s.out.Bulk(args[1])
		} else {
			s.out.Text("")
		}
	case len(args) == 2:
		s.out.Bulk(args[1])
	default:
		s.out.Status("PONG")
	}
}

func pubsubChannels(kind gateway.ChannelKind) handler {
	return func(s *Session, cmd *engine.Command, args [][]byte) {
		if len(args) > 3 {
			s.out.ErrorText(excess(cmd))
			return
		}
		var matching *engine.Pattern
		if len(args) == 3 {
			p, err := engine.NewPattern(args[2])
			if err != nil {
				s.out.Error(fault.From(err))
				return
			}
			matching = &p
		}
		names := s.server.Gateway.Hub().Channels(s.state.id, kind, matching)
		s.out.Array(len(names))
		for _, name := range names {
			s.out.Text(name)
		}
	}
}

func pubsubNumsub(kind gateway.ChannelKind) handler {
	return func(s *Session, cmd *engine.Command, args [][]byte) {
		if s.asksTooMuch(cmd, args[2:]) {
			return
		}
		s.out.Array(2 * (len(args) - 2))
		for _, name := range args[2:] {
			s.out.Bulk(name)
			s.out.Int(int64(s.server.Gateway.Hub().Listeners(s.state.id, kind, string(name))))
		}
	}
}

func pubsubNumpat(s *Session, _ *engine.Command, _ [][]byte) {
	s.out.Int(int64(s.server.Gateway.Hub().Patterns(s.state.id)))
}

// monitor serves MONITOR.
func monitor(s *Session, _ *engine.Command, _ [][]byte) {
	if !s.monitors {
		s.monitors = true
		s.server.Gateway.Hub().Monitor(s.state.id, s)
		s.facts.mu.Lock()
		s.facts.flags.monitor = true
		s.facts.mu.Unlock()
	}
	s.out.Status("OK")
}
