package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

const (
	clients  = 200
	members  = 300 // of each of the two leaderboards
	idleTTL  = time.Hour
	totalTTL = 24 * time.Hour
)

// workFor is how long the clients work.
func workFor(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("LARDER_E2E_SECONDS")
	if text == "" {
		return 5 * time.Second
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 1 {
		t.Fatalf("LARDER_E2E_SECONDS is a number of seconds, not %q", text)
	}
	return time.Duration(seconds) * time.Second
}

// A ledger is what one client knows to have done. Together the ledgers say what the server must hold.
type ledger struct {
	calls   int
	sum     int64            // added to the counter
	tickets []int64          // what the counter of tickets answered
	added   map[string]int64 // to scores of the board "sums"
	best    map[string]int64 // given to members of the board "bests"
	patches int64            // how often this client wrote its member of the session
	idle    time.Time        // the latest idle deadline it saw
}

// Many clients work on the same counter, leaderboards and session at once. At the end every sum, every rank
// and every deadline is what the clients' own ledgers add up to.
func TestManyClients(t *testing.T) {
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	client, err := larder.New(s.url, larder.WithAPIKey(s.key))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cache := t.Context(), client.Cache("main")
	begun, err := cache.Sessions().Create(ctx, larder.NewSession{User: "ann", Data: map[string]int{}, IdleTTL: idleTTL, AbsoluteTTL: totalTTL})
	if err != nil {
		t.Fatal(err)
	}
	checkDeadlines(t, begun, begun)

	enough, stop := context.WithTimeout(ctx, workFor(t))
	defer stop()
	ledgers := make([]ledger, clients)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var group sync.WaitGroup
	for id := range ledgers {
		group.Go(func() {
			l := &ledgers[id]
			l.added, l.best = map[string]int64{}, map[string]int64{}
			dice := rand.New(rand.NewPCG(seed, uint64(id)))
			for enough.Err() == nil && !t.Failed() {
				if err := l.work(t, ctx, cache, id, begun, dice); err != nil {
					t.Errorf("client %d: %v", id, err)
				}
			}
		})
	}
	group.Wait()
	if t.Failed() {
		return
	}
	total := ledger{added: map[string]int64{}, best: map[string]int64{}}
	for _, l := range ledgers {
		total.calls += l.calls
		total.sum += l.sum
		total.tickets = append(total.tickets, l.tickets...)
		for m, by := range l.added {
			total.added[m] += by
		}
		for m, score := range l.best {
			if old, ok := total.best[m]; !ok || score > old {
				total.best[m] = score
			}
		}
		if l.idle.After(total.idle) {
			total.idle = l.idle
		}
	}
	t.Logf("%d calls of %d clients", total.calls, clients)

	if c, err := cache.Counter("sum").Get(ctx); err != nil || c.Value != api.Int(total.sum) {
		t.Errorf("the counter is %s, %v; the clients added %d", c.Value, err, total.sum)
	}
	slices.Sort(total.tickets)
	for i, ticket := range total.tickets {
		if ticket != int64(i+1) {
			t.Errorf("ticket %d was not given out exactly once", i+1)
			break
		}
	}
	checkBoard(t, cache.Leaderboard("sums"), total.added)
	checkBoard(t, cache.Leaderboard("bests"), total.best)

	final, err := cache.Sessions().Peek(ctx, begun.ID)
	if err != nil {
		t.Fatal(err)
	}
	checkDeadlines(t, begun, final)
	if !final.IdleExpiresAt.Equal(total.idle) {
		t.Errorf("the session's idle deadline is %v; the latest that a client moved it to is %v", final.IdleExpiresAt, total.idle)
	}
	var data map[string]int64
	if err := final.Decode(&data); err != nil {
		t.Fatal(err)
	}
	for id, l := range ledgers {
		if got := data[memberOf(id)]; got != l.patches {
			t.Errorf("client %d wrote %d into the session, which holds %d", id, l.patches, got)
		}
	}
	s.stop(t)
}

// memberOf is the member of the session's data that a client writes.
func memberOf(id int) string { return fmt.Sprintf("client-%03d", id) }

// work makes one call and notes it.
func (l *ledger) work(t *testing.T, ctx context.Context, cache larder.Cache, id int, begun larder.Session, dice *rand.Rand) error {
	l.calls++
	member, by := fmt.Sprintf("m%03d", dice.IntN(members)), dice.Int64N(41)-20
	switch dice.IntN(7) {
	case 0:
		l.sum += by
		_, err := cache.Counter("sum").Add(ctx, by)
		return err
	case 1:
		c, err := cache.Counter("tickets").Add(ctx, 1)
		if err != nil {
			return err
		}
		ticket, err := c.Value.Int64()
		l.tickets = append(l.tickets, ticket)
		return err
	case 2:
		l.added[member] += by
		_, err := cache.Leaderboard("sums").Put(ctx, member, float64(by), larder.Increment)
		return err
	case 3: // several at once, one of them twice
		list := []api.MemberScore{}
		for i := range 5 {
			m := fmt.Sprintf("m%03d", (dice.IntN(2)+i/2*7)%members)
			list = append(list, api.MemberScore{Member: api.Bytes(m), Score: api.Score(by)})
			l.added[m] += by
		}
		_, err := cache.Leaderboard("sums").PutAll(ctx, list, larder.Increment)
		return err
	case 4:
		score := dice.Int64N(1000)
		if old, ok := l.best[member]; !ok || score > old {
			l.best[member] = score
		}
		got, err := cache.Leaderboard("bests").Put(ctx, member, float64(score), larder.Highest)
		if err == nil && (got.Score < api.Score(score) || got.Rank < 1) {
			return fmt.Errorf("after %d %s stands at %+v", score, member, got)
		}
		return err
	case 5:
		session, err := cache.Sessions().Get(ctx, begun.ID)
		if err != nil {
			return err
		}
		return l.saw(t, begun, session)
	default:
		l.patches++
		session, err := cache.Sessions().Patch(ctx, begun.ID, map[string]int64{memberOf(id): l.patches})
		if err != nil {
			return err
		}
		return l.saw(t, begun, session)
	}
}

// saw notes a session that a use of it answered.
func (l *ledger) saw(t *testing.T, begun, session larder.Session) error {
	checkDeadlines(t, begun, session)
	if session.IdleExpiresAt.Before(l.idle) {
		return fmt.Errorf("the idle deadline went back from %v to %v", l.idle, session.IdleExpiresAt)
	}
	l.idle = *session.IdleExpiresAt
	return nil
}

// checkDeadlines holds a session to how it began.
func checkDeadlines(t *testing.T, begun, now larder.Session) {
	t.Helper()
	switch {
	case now.ID != begun.ID || !now.CreatedAt.Equal(begun.CreatedAt):
		t.Errorf("%+v is not the session %+v", now, begun)
	case now.ExpiresAt == nil || !now.ExpiresAt.Equal(begun.CreatedAt.Add(totalTTL)):
		t.Errorf("a session of %v that began at %v ends at %v", totalTTL, begun.CreatedAt, now.ExpiresAt)
	case now.IdleExpiresAt == nil || now.IdleExpiresAt.Before(begun.CreatedAt.Add(idleTTL)):
		t.Errorf("an idle deadline of %v is before that of a session nobody used, %v", now.IdleExpiresAt, begun.CreatedAt.Add(idleTTL))
	}
}

// checkBoard holds a leaderboard to the scores that its members must have: order, all three ranks, and what
// is around and among members.
func checkBoard(t *testing.T, board larder.Leaderboard, scores map[string]int64) {
	t.Helper()
	want := slices.Collect(maps.Keys(scores))
	slices.SortFunc(want, func(a, b string) int { return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b)) })
	standings := map[string]api.Standing{}
	for i, m := range want {
		s := api.Standing{Member: api.Bytes(m), Score: api.Score(scores[m]), Rank: int64(i + 1), CompetitionRank: int64(i + 1), DenseRank: 1}
		if i > 0 {
			before := standings[want[i-1]]
			s.DenseRank = before.DenseRank + 1
			if before.Score == s.Score {
				s.DenseRank, s.CompetitionRank = before.DenseRank, before.CompetitionRank
			}
		}
		standings[m] = s
	}
	same := func(got api.Standing, member string) {
		t.Helper()
		got.Percentile = 0
		if got != standings[member] {
			t.Errorf("got %+v, want %+v", got, standings[member])
		}
	}
	i := 0
	for got, err := range board.Members(t.Context(), larder.Page{Limit: 70}) {
		if err != nil || i >= len(want) {
			t.Fatalf("place %d of %d: %+v, %v", i+1, len(want), got, err)
		}
		same(got, want[i])
		i++
	}
	if i != len(want) {
		t.Errorf("the board has %d members, want %d", i, len(want))
	}
	for range 20 {
		at := rand.IntN(len(want))
		got, err := board.Get(t.Context(), want[at])
		if err != nil {
			t.Fatal(err)
		}
		same(got, want[at])
		around, err := board.Around(t.Context(), want[at], 3, 2)
		if err != nil {
			t.Fatal(err)
		}
		near := want[max(0, at-3):min(len(want), at+3)]
		if len(around.Members) != len(near) {
			t.Fatalf("%d around %s, want %v", len(around.Members), want[at], near)
		}
		for i, m := range near {
			same(around.Members[i], m)
		}
	}
	friends := []string{want[len(want)-1], "nobody", want[0], want[len(want)/2]}
	among, err := board.Among(t.Context(), friends)
	if err != nil || len(among) != 3 {
		t.Fatalf("%d of 3 friends, %v", len(among), err)
	}
	for i, m := range []string{want[0], want[len(want)/2], want[len(want)-1]} {
		if got := among[i]; string(got.Member) != m || got.RankAmong != int64(i+1) || got.Rank != standings[m].Rank {
			t.Errorf("among friends: got %+v, want %s with rank %d, %d of all", got, m, i+1, standings[m].Rank)
		}
	}
}

// A session that clients use all the time ends at its absolute deadline, one that nobody uses at its idle
// deadline; neither comes back for anybody who asks after somebody was told that it is gone.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	client, err := larder.New(s.url, larder.WithAPIKey(s.key))
	if err != nil {
		t.Fatal(err)
	}
	ctx, sessions := t.Context(), client.Cache("main").Sessions()
	used, err := sessions.Create(ctx, larder.NewSession{User: "ann", IdleTTL: time.Hour, AbsoluteTTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	unused, err := sessions.Create(ctx, larder.NewSession{User: "ann", IdleTTL: time.Second, AbsoluteTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for _, session := range []struct {
		id   string
		uses []func(string) error
	}{
		{used.ID, []func(string) error{
			func(id string) error { _, err := sessions.Get(ctx, id); return err },
			func(id string) error { _, err := sessions.Patch(ctx, id, map[string]int{"n": 1}); return err },
			func(id string) error { _, err := sessions.Replace(ctx, id, json.RawMessage(`{}`)); return err },
		}},
		{unused.ID, []func(string) error{func(id string) error { _, err := sessions.Peek(ctx, id); return err }}},
	} {
		var gone atomic.Bool // somebody was told so
		for i := range 20 {
			use := session.uses[i%len(session.uses)]
			group.Go(func() {
				for end := time.Now().Add(patience); time.Now().Before(end); {
					wasGone := gone.Load()
					err := use(session.id)
					switch {
					case errors.Is(err, larder.ErrNotFound) && wasGone:
						return
					case errors.Is(err, larder.ErrNotFound):
						gone.Store(true)
					case err != nil:
						t.Error(err)
						return
					case wasGone:
						t.Error("a session came back")
						return
					}
				}
				t.Error("a session does not end")
			})
		}
	}
	group.Wait()
	for session, err := range sessions.OfUser(ctx, "ann") {
		t.Errorf("ann still has the session %+v, %v", session, err)
	}
	s.stop(t)
}
