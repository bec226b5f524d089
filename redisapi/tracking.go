package redisapi

import (
	"bytes"
	"slices"
	"strconv"
	"sync"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// tracking is client-side caching: what a client wants to be told of the keys that it has read. It implements
// gateway.Tracker. One serves a client from CLIENT TRACKING ON to OFF, however often the options change in between: the
// keys that were read stay tracked.
type tracking struct {
	prefixes []string // in broadcast mode; "" for all keys
	bcast    bool
	optIn    bool
	optOut   bool
	caching  bool // CLIENT CACHING was said for the next command

	mu     sync.Mutex
	s      *Session // nil when tracking has ended
	to     *Session // who is told: s, or the client that CLIENT TRACKING redirects to
	noLoop bool
}

// Invalidate implements gateway.Tracker. The keys that one prefix asked for and one task changes are told in one message.
func (t *tracking) Invalidate(key []byte, origin any) (settled func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.s == nil || t.noLoop && origin == any(t.s) {
		return nil
	}
	if t.to != t.s && t.to.facts.gone.Load() {
		t.s.facts.broken.Store(true)
		t.s.post(letter{id: t.to.id}, 0)
		return nil
	}
	l := letter{own: origin == any(t.s) && t.to == t.s, redirected: t.to != t.s, flushed: key == nil, broadcast: t.bcast}
	if key == nil {
		t.to.post(l, 0)
		return nil
	}
	l.key = bytes.Clone(key)
	if !t.bcast {
		t.to.post(l, len(key))
		return nil
	}
	for _, p := range t.prefixes {
		if bytes.HasPrefix(key, []byte(p)) {
			l.prefix = p
		}
	}
	if t.to.put(l, len(key)) {
		return t.to.wake
	}
	return nil
}

// track remembers the keys that a command is about to read, for a client that keeps copies.
func (s *Session) track(cmd *engine.Command, args [][]byte) {
	t := s.tracking
	if t == nil || t.bcast || cmd.Flags&engine.Writes != 0 || cmd.Group == engine.GroupScripting || (t.optIn && !t.caching) || (t.optOut && t.caching) {
		return
	}
	for _, key := range cmd.AppendKeys(nil, args) {
		s.server.Gateway.Hub().Track(s.state.id, key, t)
	}
}

func (s *Session) stopTracking() {
	t := s.tracking
	if t == nil {
		return
	}
	s.server.Gateway.Hub().EndTracking(s.state.id, t, t.prefixes)
	s.tracking = nil
	t.mu.Lock()
	t.s, t.to = nil, nil
	t.mu.Unlock()
	s.noteTracking()
}

// noteTracking tells others what this client tracks.
func (s *Session) noteTracking() {
	s.facts.mu.Lock()
	defer s.facts.mu.Unlock()
	f := &s.facts.flags
	f.tracking, f.broadcasting, f.redirect = s.tracking != nil, false, -1
	s.facts.broken.Store(false)
	if t := s.tracking; t != nil {
		f.broadcasting, f.redirect = t.bcast, 0
		if t.to != s {
			f.redirect = t.to.id
		}
	}
}

// deliverInvalidation writes which keys have changed: the first letter, and with it those after it that the same prefix
// asked for. It returns how many letters that were.
func (s *Session) deliverInvalidation(letters []letter) int {
	l, n := &letters[0], 1
	keys := [][]byte{l.key}
	for l.broadcast && !l.flushed && n < len(letters) {
		next := &letters[n]
		if !next.broadcast || next.flushed || next.prefix != l.prefix || next.redirected != l.redirected {
			break
		}
		keys = append(keys, next.key)
		n++
	}
	switch {
	case s.out.proto == 3:
		s.out.Push(2)
		s.out.Text("invalidate")
	case l.redirected && s.subscriptions() > 0:
		s.out.Push(3)
		s.out.Text("message")
		s.out.Text("__redis__:invalidate")
	default:
		return n // a client of RESP2 cannot be told
	}
	if l.flushed {
		s.out.Null()
		return n
	}
	slices.SortFunc(keys, bytes.Compare)
	keys = slices.CompactFunc(keys, bytes.Equal)
	s.out.Array(len(keys))
	for _, k := range keys {
		s.out.Bulk(k)
	}
	return n
}

// deliverBroken says that the client is gone which was to hear of this one's keys.
func (s *Session) deliverBroken(id int64) {
	if s.out.proto != 3 {
		return
	}
	s.out.Push(2)
	s.out.Text("tracking-redir-broken")
	s.out.Int(id)
}

// Bounds of the prefixes that a client asks for: each change of a key is compared with all of them, and no key is longer.
const (
	maxPrefixes = 1000
	maxPrefix   = engine.MaxKey
)

// trackingOptions are what CLIENT TRACKING asks for.
type trackingOptions struct {
	to                           *Session // nil for the client itself
	prefixes                     []string
	bcast, optIn, optOut, noLoop bool
}

// parse reads the options, which begin at args[3].
func (o *trackingOptions) parse(s *Session, args [][]byte) (problem string) {
	redirect := int64(0)
	for i := 3; i < len(args); i++ {
		more := i+1 < len(args)
		switch a := args[i]; {
		case equalFold(a, "REDIRECT") && more:
			i++
			if redirect != 0 {
				return "ERR A client can only redirect to a single other client"
			}
			n, err := strconv.ParseInt(string(args[i]), 10, 64)
			if err != nil {
				return notInteger
			}
			redirect = n
			if o.to = s.server.client(s.state, n); o.to == nil {
				return "ERR The client ID you want redirect to does not exist"
			}
		case equalFold(a, "BCAST"):
			o.bcast = true
		case equalFold(a, "OPTIN"):
			o.optIn = true
		case equalFold(a, "OPTOUT"):
			o.optOut = true
		case equalFold(a, "NOLOOP"):
			o.noLoop = true
		case equalFold(a, "PREFIX") && more:
			i++
			if len(o.prefixes) == maxPrefixes {
				return tooManyPrefixes
			}
			if len(args[i]) > maxPrefix {
				return "ERR a prefix has at most " + itoa(maxPrefix) + " bytes, as a key"
			}
			o.prefixes = append(o.prefixes, string(args[i]))
		default:
			return syntaxError
		}
	}
	return ""
}

const (
	syntaxError     = "ERR syntax error"
	notInteger      = "ERR value is not an integer or out of range"
	tooManyPrefixes = "ERR a client tracks at most 1000 prefixes"
)

// conflict says why the options do not go together, or not with those that hold already.
func (o *trackingOptions) conflict(t *tracking) string {
	const again = " mode before disabling tracking for this client, and then re-enabling it with a different mode."
	switch {
	case !o.bcast && len(o.prefixes) > 0:
		return "ERR PREFIX option requires BCAST mode to be enabled"
	case t != nil && t.bcast != o.bcast:
		return "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode."
	case o.bcast && (o.optIn || o.optOut):
		return "ERR OPTIN and OPTOUT are not compatible with BCAST"
	case o.optIn && o.optOut:
		return "ERR You can't specify both OPTIN mode and OPTOUT mode"
	case t != nil && (o.optIn && t.optOut || o.optOut && t.optIn):
		return "ERR You can't switch OPTIN/OPTOUT" + again
	}
	var have []string
	if t != nil {
		have = t.prefixes
	}
	if len(have)+len(o.prefixes) > maxPrefixes { // before each is compared with each
		return tooManyPrefixes
	}
	for i, p := range o.prefixes {
		for _, old := range have {
			if overlap(p, old) {
				return "ERR Prefix '" + p + "' overlaps with an existing prefix '" + old + "'. Prefixes for a single client must not overlap."
			}
		}
		for _, other := range o.prefixes[i+1:] {
			if overlap(p, other) {
				return "ERR Prefix '" + p + "' overlaps with another provided prefix '" + other + "'. Prefixes for a single client must not overlap."
			}
		}
	}
	return ""
}

func overlap(a, b string) bool {
	n := min(len(a), len(b))
	return a[:n] == b[:n]
}

// clientTracking serves CLIENT TRACKING.
func clientTracking(s *Session, _ *engine.Command, args [][]byte) {
	var o trackingOptions
	if problem := o.parse(s, args); problem != "" {
		s.out.ErrorText(problem)
		return
	}
	switch {
	case equalFold(args[2], "OFF"):
		s.stopTracking()
	case !equalFold(args[2], "ON"):
		s.out.ErrorText(syntaxError)
		return
	default:
		if problem := o.conflict(s.tracking); problem != "" {
			s.out.ErrorText(problem)
			return
		}
		if err := s.beginTracking(&o); err != nil {
			s.out.Error(fault.From(err))
			return
		}
	}
	s.out.Status("OK")
}

// beginTracking has the client told of changes, or changes how.
func (s *Session) beginTracking(o *trackingOptions) error {
	if o.bcast {
		// Whoever hears of all keys learns their names.
		if err := s.permit(scanAll.Command, scanAll.Args); err != nil {
			return err
		}
	}
	t, hub := s.tracking, s.server.Gateway.Hub()
	if t == nil {
		t = &tracking{s: s}
	} else {
		hub.EndTracking(s.state.id, t, t.prefixes)
	}
	t.mu.Lock()
	t.bcast, t.optIn, t.optOut, t.noLoop, t.to = o.bcast, o.optIn, o.optOut, o.noLoop, o.to
	if t.to == nil {
		t.to = s
	}
	if t.prefixes = append(slices.Clone(t.prefixes), o.prefixes...); t.bcast && len(t.prefixes) == 0 {
		t.prefixes = []string{""}
	}
	t.mu.Unlock()
	s.tracking = t
	hub.BeginTracking(s.state.id, t, t.prefixes)
	s.noteTracking()
	return nil
}

var scanAll = engine.Call{Command: engine.MustLookup("SCAN"), Args: [][]byte{[]byte("SCAN"), []byte("0")}}

// clientCaching serves CLIENT CACHING.
func clientCaching(s *Session, _ *engine.Command, args [][]byte) {
	t := s.tracking
	switch {
	case t == nil || !t.optIn && !t.optOut && !equalFold(args[2], "YES") && !equalFold(args[2], "NO"):
		s.out.ErrorText("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled")
	case equalFold(args[2], "YES") && !t.optIn:
		s.out.ErrorText("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
	case equalFold(args[2], "NO") && !t.optOut:
		s.out.ErrorText("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
	case !equalFold(args[2], "YES") && !equalFold(args[2], "NO"):
		s.out.ErrorText(syntaxError)
	default:
		t.caching = true
		s.out.Status("OK")
	}
}

// clientTrackingInfo serves CLIENT TRACKINGINFO.
func clientTrackingInfo(s *Session, _ *engine.Command, _ [][]byte) {
	t := s.tracking
	flags := []string{"off"}
	var prefixes []string
	if t != nil {
		flags, prefixes = []string{"on"}, t.prefixes
		for _, f := range []struct {
			on   bool
			name string
		}{{t.bcast, "bcast"}, {t.optIn, "optin"}, {t.optIn && t.caching, "caching-yes"}, {t.optOut, "optout"}, {t.optOut && t.caching, "caching-no"}, {t.noLoop, "noloop"}, {t.to.facts.gone.Load(), "broken_redirect"}} {
			if f.on {
				flags = append(flags, f.name)
			}
		}
	}
	s.out.Map(3)
	s.out.Text("flags")
	s.out.Set(len(flags))
	for _, f := range flags {
		s.out.Text(f)
	}
	s.out.Text("redirect")
	s.out.Int(s.redirect())
	s.out.Text("prefixes")
	s.out.Array(len(prefixes))
	for _, p := range prefixes {
		s.out.Text(p)
	}
}

// redirect is the client that hears of this one's keys: 0 for itself, -1 for nobody.
func (s *Session) redirect() int64 {
	switch t := s.tracking; {
	case t == nil:
		return -1
	case t.to == s:
		return 0
	default:
		return t.to.id
	}
}

// Wants implements gateway.Reader.
func (s *Session) Wants() bool { return s.tracking != nil }

// Reads implements gateway.Reader: what a script reads is tracked as what the client reads itself.
func (s *Session) Reads(cmd *engine.Command, args [][]byte) { s.track(cmd, args) }
