package wire

import (
	"testing"
	"time"
)

// A loop that is about to lie down when it is rung for does not sleep through it, and one that has ended is not woken up.
func TestRinging(t *testing.T) {
	t.Run("kernel", func(t *testing.T) { ringing(t, false) })
	t.Run("Go", func(t *testing.T) { ringing(t, true) })
}

func ringing(t *testing.T, shared bool) {
	l, err := newLoop(New(Config{Shared: shared}))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run()
	}()
	for range 1000 { // at any moment between two looks
		l.mu.Lock()
		l.mail = append(l.mail, &client{l: l})
		l.mu.Unlock()
		l.ring()
		for began := time.Now(); ; time.Sleep(time.Microsecond) {
			l.mu.Lock()
			read := !l.news()
			l.mu.Unlock()
			if read {
				break
			}
			if time.Since(began) > 30*time.Second {
				t.Fatal("it sleeps")
			}
		}
	}
	(&engines{loops: []*loop{l}}).stop(leave)
	<-done
	l.asleep.Store(true)
	l.ring()
}
