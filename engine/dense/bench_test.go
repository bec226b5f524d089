package dense

import (
	"encoding/binary"
	"testing"
)

func filled(b *testing.B, n int) (*Store, *Table, func(i int) []byte) {
	s := NewStore(Seed{1, 2})
	b.Cleanup(s.Close)
	t := s.NewTable(true, nil, nil)
	key := make([]byte, 16)
	keyOf := func(i int) []byte {
		binary.BigEndian.PutUint64(key[8:], uint64(i)*0x9E3779B97F4A7C15)
		return key
	}
	for i := range n {
		k := keyOf(i)
		t.Insert(s.Hash(k), 1, k, 71, 0, 0)
	}
	return s, t, keyOf
}

func BenchmarkFind(b *testing.B) {
	s, t, keyOf := filled(b, 1_000_000)
	var out [71]byte
	for i := 0; b.Loop(); i++ {
		k := keyOf(i * 7919 % 1_000_000)
		r := t.Find(s.Hash(k), k)
		copy(out[:], s.Open(r).Value)
	}
	u := s.Usage()
	b.ReportMetric(float64(u.All)/1e6, "bytes/item")
}

func BenchmarkInsertAndRemove(b *testing.B) {
	s, t, keyOf := filled(b, 1_000_000)
	for i := 0; b.Loop(); i++ {
		k := keyOf(1_000_000 + i)
		t.Insert(s.Hash(k), 1, k, 71, 0, 0)
		k = keyOf(i)
		h := s.Hash(k)
		t.Remove(h, t.Find(h, k))
		s.Settle()
	}
}
