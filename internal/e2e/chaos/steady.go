package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// A steady load is what an application does that looks at no error: half of its clients speak HTTP, half the Redis
// protocol over connections that they open again when they have ended. Each goes to any node that says that it is ready,
// as behind a load balancer, and reads what it wrote itself.
type steady struct {
	rig    *rig.Rig
	caches int
	stop   chan struct{}
	all    sync.WaitGroup
	ready  []atomic.Bool

	requests atomic.Int64
	again    atomic.Int64 // commands that were sent again, because their connection had ended

	mu     sync.Mutex
	errors map[string]int
	took   []time.Duration // since it was asked for last
}

// begin sets clients to work.
func begin(r *rig.Rig, clients, caches int, pause time.Duration) *steady {
	s := &steady{rig: r, caches: caches, stop: make(chan struct{}), ready: make([]atomic.Bool, 16), errors: map[string]int{}}
	s.look()
	s.all.Go(func() {
		for {
			select {
			case <-s.stop:
				return
			case <-time.After(50 * time.Millisecond):
				s.look()
			}
		}
	})
	for i := range clients {
		s.all.Go(func() { s.client(i, pause) })
	}
	return s
}

// look asks who is ready.
func (s *steady) look() {
	for i, n := range s.rig.Nodes {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.HTTP+"/readyz", nil)
		if err == nil {
			var answer *http.Response
			if answer, err = checker.Do(req); err == nil {
				_ = answer.Body.Close()
				s.ready[i].Store(answer.StatusCode == http.StatusOK)
			}
		}
		if err != nil {
			s.ready[i].Store(false)
		}
		cancel()
	}
}

var checker = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// end stops the clients, and prints what they saw.
func (s *steady) end(what string) error {
	close(s.stop)
	s.all.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := 0
	for text, n := range s.errors {
		fmt.Printf("  %d × %s\n", n, text)
		sum += n
	}
	fmt.Printf("%s: %d requests, %d errors; %d commands were sent again over another connection\n", what, s.requests.Load(), sum, s.again.Load())
	if sum > 0 {
		return errors.New("clients saw errors")
	}
	return nil
}

// quantiles are the median and the 99th hundredth of how long requests took since they were asked for last, and the longest.
func (s *steady) quantiles() (p50, p99, most time.Duration) {
	s.mu.Lock()
	took := s.took
	s.took = nil
	s.mu.Unlock()
	if len(took) == 0 {
		return 0, 0, 0
	}
	slices.Sort(took)
	return took[len(took)/2], took[len(took)*99/100], took[len(took)-1]
}

func (s *steady) note(began time.Time, err error) {
	s.requests.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, time.Since(began))
	if err != nil {
		s.errors[err.Error()]++
	}
}

// pick chooses a node that is ready.
func (s *steady) pick(rng *rand.Rand) int {
	at := rng.IntN(len(s.rig.Nodes))
	for i := range s.rig.Nodes {
		if n := (at + i) % len(s.rig.Nodes); s.ready[n].Load() {
			return n
		}
	}
	return at
}

func (s *steady) client(id int, pause time.Duration) {
	rng := rand.New(rand.NewPCG(uint64(id), 99))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	var conn *session
	on := 0
	cache := fmt.Sprint("c", 1+id%s.caches)
	known := map[string]string{}
	for n := 0; ; n++ {
		select {
		case <-s.stop:
			conn.close()
			return
		case <-time.After(time.Duration(rng.Int64N(int64(2*pause) + 1))):
		}
		key, value := fmt.Sprintf("own-%d-%d", id, rng.IntN(100)), ""
		write := rng.IntN(2) == 0
		if write {
			value = fmt.Sprint(n)
		}
		began := time.Now()
		var err error
		if id%2 == 0 {
			err = s.overHTTP(client, s.rig.Nodes[s.pick(rng)], cache, key, value, known[key])
		} else {
			if conn != nil && !s.ready[on].Load() { // the load balancer sends us elsewhere
				conn.close()
				conn = nil
			}
			for tries := 0; ; tries++ {
				if conn == nil {
					on = s.pick(rng)
					if conn, err = dialRedis(s.rig.Nodes[on].Redis, cache, s.rig.Key); err != nil && tries < 5 {
						conn = nil
						continue
					}
				}
				if err == nil {
					err = overRedis(conn, key, value, known[key])
				}
				if errors.Is(err, errUnknown) && tries < 3 {
					s.again.Add(1)
					conn.close()
					conn = nil
					continue
				}
				break
			}
		}
		s.note(began, err)
		if err == nil && write {
			known[key] = value
		} else if err != nil {
			delete(known, key)
			conn.close()
			conn = nil
		}
	}
}

func (s *steady) overHTTP(client *http.Client, n *rig.Node, cache, key, value, known string) error {
	url := fmt.Sprintf("http://%s/v1/caches/%s/kv/%s", n.HTTP, cache, key)
	if value != "" {
		status, _, body, err := request(client, http.MethodPut, url, s.rig.Key, value)
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("PUT: %d %s", status, body)
		}
		return wrap("HTTP PUT", n, err)
	}
	status, _, body, err := request(client, http.MethodGet, url, s.rig.Key, "")
	switch {
	case err != nil:
		return wrap("HTTP GET", n, err)
	case status == http.StatusNotFound:
		body = ""
	case status != http.StatusOK:
		return wrap("HTTP GET", n, fmt.Errorf("%d %s", status, body))
	}
	if known != "" && body != known {
		return fmt.Errorf("HTTP GET: LOST: %s was acknowledged as %s and is %q", key, known, body)
	}
	return nil
}

func wrap(what string, n *rig.Node, err error) error {
	if err != nil {
		err = fmt.Errorf("%s through %s: %w", what, n.Name, err)
	}
	return err
}

func overRedis(conn *session, key, value, known string) error {
	if value != "" {
		_, err := conn.do("SET", key, value)
		return verdict(err)
	}
	reply, err := conn.do("GET", key)
	if err == nil && known != "" && reply != known {
		return fmt.Errorf("GET: LOST: %s was acknowledged as %s and is %v", key, known, reply)
	}
	return verdict(err)
}
