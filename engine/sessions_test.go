package engine

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// A sessionTwin is a session as a reader would keep it: deadlines as times, 0 for none, and who it is.
type sessionTwin struct {
	serial                                int // no two sessions ever made have the same
	key, user                             string
	created, idle, idleDeadline, deadline int64
}

func (s *sessionTwin) over(now int64) bool {
	return (s.idleDeadline != 0 && s.idleDeadline <= now) || (s.deadline != 0 && s.deadline <= now)
}

// sessionTwins are all sessions that have not been ended by a command; those that are over are passed by.
type sessionTwins struct {
	live   []*sessionTwin
	serial int
}

func (m *sessionTwins) find(key string, now int64) *sessionTwin {
	for _, s := range m.live {
		if s.key == key && !s.over(now) {
			return s
		}
	}
	return nil
}

func (m *sessionTwins) end(s *sessionTwin) {
	m.live = slices.DeleteFunc(m.live, func(x *sessionTwin) bool { return x == s })
}

// of lists a user's sessions, the oldest first.
func (m *sessionTwins) of(user string, now int64) (list []*sessionTwin) {
	for _, s := range m.live {
		if s.user == user && !s.over(now) {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *sessionTwin) int {
		return cmp.Or(cmp.Compare(a.created, b.created), cmp.Compare(a.key, b.key))
	})
	return list
}

// session reads a record and skips its version.
func (s *sessionTwin) same(c *Cursor) error {
	if n := c.Next(); n.Kind != ReplyArray || n.Int != 8 {
		return fmt.Errorf("no session, want %+v", *s)
	}
	key, data, user := string(c.Next().Bytes), string(c.Next().Bytes), string(c.Next().Bytes)
	got := sessionTwin{serial: s.serial, key: key, user: user, created: c.Next().Int, idle: c.Next().Int, idleDeadline: c.Next().Int, deadline: c.Next().Int}
	c.Next()
	if got != *s || data != fmt.Sprintf(`{"serial":%d}`, s.serial) {
		return fmt.Errorf("session %+v with %s, want %+v", got, data, *s)
	}
	return nil
}

// TestModelSessions is the promise that an expired session never comes back, whatever the order of touches,
// and that everything else about sessions is as a naive twin has it.
func TestModelSessions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, model := newWorld(t), &sessionTwins{}
		keys := rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})
		users := rapid.SampledFrom([]string{"", "ann", "bob"})
		span := rapid.Int64Range(1, 50)
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			key := keys.Draw(t, "key")
			s := model.find(key, w.now)
			ask := func(args ...string) Cursor {
				task := w.task(args)
				if task.Writes() {
					w.apply(task)
				} else {
					w.p.Query(w.now, 0, task)
				}
				return task.Reply.(*Recording).Cursor()
			}
			// answer checks that a command on key found s, or nothing.
			answer := func(c Cursor) {
				if s == nil {
					if n := c.Next(); n.Kind != ReplyNull {
						t.Fatalf("%s: %+v came back", key, n)
					}
				} else if err := s.same(&c); err != nil {
					t.Fatalf("%s: %v", key, err)
				}
			}
			use := func() {
				if s != nil && s.idle != 0 {
					s.idleDeadline = w.now + s.idle
				}
			}
			switch op := rapid.SampledFrom([]string{"create", "get", "touch", "set", "patch", "rotate", "delete", "list", "revoke",
				"wait", "wait", "sweep", "rename", "undone", "expire"}).Draw(t, "op"); op {
			case "create":
				args := []string{"SESSION.CREATE", key, fmt.Sprintf(`{"serial":%d}`, model.serial)}
				made := &sessionTwin{serial: model.serial, key: key, user: users.Draw(t, "user"), created: w.now}
				if made.user != "" {
					args = append(args, "USER", made.user)
				}
				if rapid.Bool().Draw(t, "idles") {
					made.idle = span.Draw(t, "idle")
					made.idleDeadline = w.now + made.idle
					args = append(args, "IDLE", fmt.Sprint(made.idle))
				}
				if rapid.Bool().Draw(t, "ends") {
					ttl := span.Draw(t, "ttl")
					made.deadline = w.now + ttl
					args = append(args, "TTL", fmt.Sprint(ttl))
				}
				most := 0
				if made.user != "" && rapid.Bool().Draw(t, "max") {
					most = rapid.IntRange(1, 3).Draw(t, "most")
					args = append(args, "MAX", fmt.Sprint(most))
				}
				c := ask(args...)
				if s != nil {
					if n := c.Next(); n.Kind != ReplyError {
						t.Fatalf("%s was made twice", key)
					}
					break
				}
				model.serial++
				if old := model.of(made.user, w.now); most > 0 {
					for _, o := range old[:max(0, len(old)-most+1)] {
						model.end(o)
					}
				}
				model.live = append(model.live, made)
				s = made
				answer(c)
			case "get":
				answer(ask("SESSION.GET", key))
			case "touch":
				use()
				answer(ask("SESSION.TOUCH", key))
			case "set", "patch":
				use()
				data := `{"serial":0}`
				if s != nil {
					data = fmt.Sprintf(`{"serial":%d}`, s.serial)
				}
				answer(ask(map[string]string{"set": "SESSION.SET", "patch": "SESSION.PATCH"}[op], key, data))
			case "rotate", "rename":
				to := keys.Draw(t, "to")
				taken := model.find(to, w.now)
				if op == "rename" {
					if to == key {
						break
					}
					ask("RENAME", key, to)
					if s != nil && taken != nil {
						model.end(taken)
					}
					if s != nil {
						s.key = to
					}
					break
				}
				c := ask("SESSION.ROTATE", key, to)
				if s != nil && taken != nil {
					if n := c.Next(); n.Kind != ReplyError {
						t.Fatalf("%s was rotated to %s, which is there", key, to)
					}
					break
				}
				if s != nil {
					use()
					s.key = to
				}
				answer(c)
			case "delete":
				c := ask("SESSION.DEL", key)
				if (c.Next().Int == 1) != (s != nil) {
					t.Fatalf("%s: wrongly deleted or not", key)
				}
				model.end(s)
			case "list":
				user, got := users.Draw(t, "of"), []*sessionTwin(nil)
				want := model.of(user, w.now)
				if user == "" {
					want = nil // sessions without a user are nobody's
				}
				for after := ""; ; {
					c := ask("SESSION.LIST", user, "COUNT", fmt.Sprint(rapid.IntRange(1, 3).Draw(t, "count")), "AFTER", after)
					c.Next()
					after = string(c.Next().Bytes)
					for range c.Next().Int {
						if len(got) == len(want) {
							t.Fatalf("%s has more than %d sessions", user, len(want))
						}
						if err := want[len(got)].same(&c); err != nil {
							t.Fatalf("session %d of %s: %v", len(got), user, err)
						}
						got = append(got, want[len(got)])
					}
					if after == "" {
						break
					}
				}
				if len(got) != len(want) {
					t.Fatalf("%s has %d sessions, want %d", user, len(got), len(want))
				}
			case "revoke":
				user := users.Draw(t, "of")
				c := ask("SESSION.REVOKE", user, "EXCEPT", key)
				var ended int64
				for _, o := range model.of(user, w.now) {
					if o.key != key && user != "" {
						model.end(o)
						ended++
					}
				}
				if n := c.Next().Int; n != ended {
					t.Fatalf("%d sessions of %s revoked, want %d", n, user, ended)
				}
			case "wait":
				w.now += rapid.Int64Range(0, 30).Draw(t, "by")
			case "sweep":
				w.sweep(rapid.IntRange(0, 3).Draw(t, "at most"))
			case "expire":
				for _, args := range [][]string{{"PEXPIRE", key, "100000"}, {"PERSIST", key}, {"PEXPIREAT", key, "1"}} {
					want := ReplyInt // 0: there is no such key, or no deadline to take away
					if s != nil && (args[0] != "PERSIST" || s.idle+s.deadline != 0) {
						want = ReplyError
					}
					c := ask(args...)
					if n := c.Next(); n.Kind != want || n.Int != 0 {
						t.Fatalf("%s of %s: %+v, want %q", args[0], key, n, want)
					}
				}
			case "undone":
				before := w.p.Digest()
				task := w.task([]string{"SESSION.TOUCH", key}, []string{"SESSION.SET", key, "{}"}, []string{"SESSION.ROTATE", key, "elsewhere"},
					[]string{"SESSION.CREATE", "another", "{}", "USER", "ann", "MAX", "1"}, []string{"SESSION.REVOKE", "bob"}, []string{"SESSION.DEL", "a"}, []string{"SESSION.GET"})
				task.Atomic = true
				w.apply(task)
				if w.p.Digest() != before {
					t.Fatal("an undone task changed something")
				}
			}
		}
	})
}

// TestSessionsOfManyUsers: the index of users is one tree, so a list must not run over into a neighbour's.
func TestSessionsOfManyUsers(t *testing.T) {
	w := newWorld(t)
	for i := range 300 {
		w.do("SESSION.CREATE", strconv.Itoa(i), strconv.Itoa(i), "USER", strconv.Itoa(i%100))
	}
	for user := range 100 {
		task := w.task([]string{"SESSION.LIST", strconv.Itoa(user)})
		w.p.Query(w.now, 0, task)
		c := task.Reply.(*Recording).Cursor()
		c.Next()
		c.Next()
		if n := c.Next().Int; n != 3 {
			t.Fatalf("user %d has %d sessions, want 3", user, n)
		}
	}
	w.do("SESSION.REVOKE", "7")
	if n := w.p.caches[testCache].dbs[0].sessions.Len(); n != 297 {
		t.Fatalf("%d sessions are listed, want 297", n)
	}
}
