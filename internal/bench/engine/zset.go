package main

import (
	"encoding/json"
	"io"
	"math/rand/v2"
	"strconv"
)

// Board is what was measured of one sorted set.
type Board struct {
	PerMember float64 // bytes of RSS
	Usage     float64 // bytes for each member as MEMORY USAGE or our account has it
	Fill      Latency // ZADD of new members (ours only)
	Add       Latency // ZADD of a new score
	Rank      Latency // ZRANK
	Range     Latency // ZRANGE of 10 at a random offset
}

// boardOps is how many of each operation are measured.
const boardOps = 50 * batch

var boardName = []byte("board")

// appendScore appends a random score as text.
func appendScore(dst []byte, r *rand.Rand) []byte {
	return strconv.AppendFloat(dst, r.Float64(), 'g', -1, 64)
}

// zsetChild fills a sorted set of Larder's and measures it.
func zsetChild(j job, _ io.Reader, out *json.Encoder) {
	var h [4]histogram
	for i := range h {
		for b := range h[i].counts {
			h[i].counts[b] = 1
		}
		h[i] = histogram{}
	}
	keys, scores := make([]byte, batch*keySize), make([][]byte, batch)
	for i := range scores {
		scores[i] = make([]byte, 0, 32)
	}
	dice := rand.New(rand.NewPCG(21, 22))
	for i := range keys {
		keys[i] = 'k'
	}
	empty := settledRSS()
	s := newStore(emptySettings)
	zadd, zrank, zrange := s.command("ZADD", 3), s.command("ZRANK", 2), s.command("ZRANGE", 3)
	zadd.args[0], zrank.args[0], zrange.args[0] = boardName, boardName, boardName
	var watch stopwatch
	timed := func(h *histogram, n int, call func(i int)) {
		s.tick()
		watch.start()
		for i := range n {
			call(i)
			watch.lap(h)
		}
		watch.stop()
	}
	add := func(i int) {
		zadd.args[1], zadd.args[2] = scores[i], keys[i*keySize:][:keySize]
		s.do(&zadd.task)
	}
	for done := 0; done < j.N; done += batch {
		n := min(batch, j.N-done)
		for i := range n {
			putKey(keys[i*keySize:][:keySize], uint64(done+i))
			scores[i] = appendScore(scores[i][:0], dice)
		}
		timed(&h[0], n, add)
	}
	for range 100 {
		s.tick()
	}
	answer := Board{PerMember: float64(settledRSS()-empty) / float64(j.N), Usage: float64(s.stats().Bytes) / float64(j.N)}
	members := newWalk(j.N, 3000)
	ends := make([][]byte, batch)
	for range boardOps / batch {
		members.fill(keys)
		for i := range scores {
			scores[i] = appendScore(scores[i][:0], dice)
		}
		timed(&h[1], batch, add)
		timed(&h[2], batch, func(i int) {
			zrank.args[1] = keys[i*keySize:][:keySize]
			s.do(&zrank.task)
		})
		for i := range scores {
			from := dice.IntN(max(1, j.N-10))
			scores[i] = strconv.AppendInt(scores[i][:0], int64(from), 10)
			ends[i] = strconv.AppendInt(ends[i][:0], int64(from+9), 10)
		}
		timed(&h[3], batch, func(i int) {
			zrange.args[1], zrange.args[2] = scores[i], ends[i]
			s.do(&zrange.task)
		})
	}
	if s.out.errors > 0 {
		panic(string(s.out.b))
	}
	answer.Fill, answer.Add, answer.Rank, answer.Range = h[0].latency(), h[1].latency(), h[2].latency(), h[3].latency()
	must(out.Encode(answer))
}
