package engine

import (
	"strconv"
	"strings"
	"testing"
)

// What commands of our own notify of has the names that Redis has for the same: who listens for "set" hears of it, whatever
// protocol it came by.
func TestEventsOfOurOwnCommands(t *testing.T) {
	w, log := newWorld(t), &eventLog{}
	class, err := ParseEventClass("EA")
	if err != nil {
		t.Fatal(err)
	}
	w.p.SetObserver(log)
	w.apply(ConfigureTask(testCache, Settings{Notify: class}))
	for _, line := range strings.Split(strings.TrimSpace(`
KV.SET k v TYPE text/plain > set k
KV.APPEND k v > append k
KV.DEL k > del k
COUNTER.ADD c 1 > incrby c
COUNTER.SET c 5 > set c
COUNTER.DEL c > del c
LEADERBOARD.PUT l SET 1 m > zadd l
LEADERBOARD.REMOVE l m > zrem l, del l
MC.SET m v 0 0 > set m
MC.SET m 5 0 1900000000000 > set m, expire m
MC.INCR m 1 > incrby m
MC.TOUCH m 0 > expire m
MC.DEL m > del m`), "\n") {
		command, want, _ := strings.Cut(line, " > ")
		log.events = nil
		answer := w.do(strings.Fields(command)...)
		if got := strings.Join(log.events, ", "); got != want {
			t.Errorf("%s notifies of %q, want %q; it answered %s", command, got, want, answer)
		}
	}
}

// A script that is undone, and a command of very many keys, take no longer because somebody wants notifications.
func TestManyEventsAreLinear(t *testing.T) {
	w, log := newWorld(t), &eventLog{}
	w.p.SetObserver(log)
	w.apply(ConfigureTask(testCache, Settings{Notify: EventKeyevent | EventString}))
	call := []string{"MSET"}
	for i := range 100_000 { // some 5 billion comparisons if each key were looked for among all before
		call = append(call, "k"+strconv.Itoa(i), "v")
	}
	if got := w.do(call...); got != "OK" || len(log.events) != 100_000 {
		t.Errorf("%s, %d events", got, len(log.events))
	}
}
