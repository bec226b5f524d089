package placement

import (
	"fmt"
	"testing"
)

// T2 and T3: who is founded on what is left, and when.
func TestWhoseTrailIsTheHeir(t *testing.T) {
	const a, b, c, d, e = 1<<8 | 1, 2<<8 | 2, 3<<8 | 3, 4<<8 | 4, 5<<8 | 5
	names := map[uint8]string{1: "a", 2: "b", 3: "c", 4: "d", 5: "e"}
	type offers map[uint64]Trail
	for _, tt := range []struct {
		name    string
		voters  []uint64
		wanted  []uint64
		leaving []uint64
		offers  offers // by the replica that the record has
		gone    string // a node whose process has ended since
		want    string // node and replica
	}{
		{name: "nobody offers", voters: []uint64{a, b, c}, wanted: []uint64{a, b, c}},
		{name: "one of three", voters: []uint64{a, b, c}, wanted: []uint64{a, b, c}, offers: offers{a: {Replica: a, Term: 9, Index: 9}}},
		{name: "two of three", voters: []uint64{a, b, c}, wanted: []uint64{a, b, c}, offers: offers{a: {Replica: a, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 10}}, want: "c 303"},
		{name: "a higher term has more, whatever the index", voters: []uint64{a, b, c}, wanted: []uint64{a, b, c}, offers: offers{a: {Replica: a, Term: 3, Index: 5}, c: {Replica: c, Term: 2, Index: 10}}, want: "a 101"},
		{name: "one of two has ended again", voters: []uint64{a, b, c}, wanted: []uint64{a, b, c}, offers: offers{a: {Replica: a, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 10}}, gone: "a"},
		{name: "a node that has had another replica meanwhile", voters: []uint64{a, b, c}, wanted: []uint64{7<<8 | 1, b, c}, offers: offers{7<<8 | 1: {Replica: a, Term: 2, Index: 9}, b: {Replica: b, Term: 2, Index: 8}}, want: "a 101"},
		{name: "alone", voters: []uint64{a}, wanted: []uint64{a}, offers: offers{a: {Replica: a, Term: 1, Index: 1}}, want: "a 101"},
		{name: "two that joined, and perhaps never voted", voters: []uint64{a}, wanted: []uint64{a, b, c}, offers: offers{b: {Replica: b, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 9}}},
		{name: "the founder and one that joined", voters: []uint64{a}, wanted: []uint64{a, b, c}, offers: offers{a: {Replica: a, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 8}}, want: "a 101"},
		{name: "one in the place of another, of which a majority of both offers", voters: []uint64{a, b, c}, wanted: []uint64{d, b, c}, leaving: []uint64{a}, offers: offers{b: {Replica: b, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 8}}, want: "b 202"},
		{name: "the same, of the wanted alone", voters: []uint64{a, b, c}, wanted: []uint64{d, b, c}, leaving: []uint64{a}, offers: offers{d: {Replica: d, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 8}}},
		{name: "two at once, and one is missing", voters: []uint64{a, b, c}, wanted: []uint64{d, e, c}, leaving: []uint64{a, b}, offers: offers{a: {Replica: a, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 8}, e: {Replica: e, Term: 2, Index: 8}, d: {Replica: d, Term: 2, Index: 8}}},
		{name: "two at once, and all offer", voters: []uint64{a, b, c}, wanted: []uint64{d, e, c}, leaving: []uint64{a, b}, offers: offers{a: {Replica: a, Term: 2, Index: 9}, b: {Replica: b, Term: 2, Index: 9}, c: {Replica: c, Term: 2, Index: 8}, e: {Replica: e, Term: 2, Index: 8}, d: {Replica: d, Term: 2, Index: 8}}, want: "a 101"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &Partition{Async: true, Durable: true, Generation: 1}
			list := func(ids []uint64) (all []Replica) {
				for _, id := range ids {
					all = append(all, Replica{ID: id, Node: names[number(id)], Life: "before"})
				}
				return all
			}
			p.Replicas, p.Leaving = list(tt.wanted), list(tt.leaving)
			for id, trail := range tt.offers {
				trail.Life = "now"
				if !p.Offer(names[number(id)], id, trail) {
					t.Fatalf("%x cannot offer", id)
				}
			}
			got := ""
			if heir := p.Heir(tt.voters, func(node, life string) bool { return life == "now" && node != tt.gone }); heir != nil {
				got = fmt.Sprintf("%s %x", heir.Node, heir.Trail.Replica)
			}
			if got != tt.want {
				t.Errorf("the heir is %q, want %q", got, tt.want)
			}
		})
	}
}

// What an async replica's node has on disk is left to be offered, and a founder that did not come to begin does so.
func TestAnAsyncReplicaDoesNotComeBack(t *testing.T) {
	node := func(name string, number uint8, life string) *Node {
		return &Node{Name: name, Number: number, Incarnation: life}
	}
	p := &Partition{ID: 7, Durable: true, Async: true}
	p.Found(node("n1", 1, "a"), node("n2", 2, "b"), node("n3", 3, "c"))
	first := p.Replicas[0].ID
	has := func(generation uint32, replica uint64) Keeps {
		return func(_ PartitionID, g uint32, id uint64) bool { return g == generation && id == replica }
	}
	if p.Settle(node("n1", 1, "d"), has(1, first)) || p.Replicas[0].ID != first {
		t.Errorf("what it has is not left to be offered: %+v", p)
	}
	if !p.Settle(node("n1", 1, "d"), nil) || p.Replicas[0].ID == first || p.Generation != 1 {
		t.Errorf("with nothing on disk it is no new replica: %+v", p)
	}
	second := p.Replicas[1].ID
	p.Offer("n2", second, Trail{Life: "e", Replica: second, Term: 1, Index: 4})
	if p.Readmit(second, func(string) *Node { return node("n2", 2, "f") }) {
		t.Error("another process is readmitted than the one that offers")
	}
	heir := p.Replicas[1]
	p.Recover(&heir, func(name string) *Node {
		return map[string]*Node{"n1": node("n1", 1, "d"), "n2": node("n2", 2, "e")}[name]
	})
	if p.Generation != 2 || p.Origin != second || len(p.Replicas) != 2 || len(p.Founders) != 1 || p.Founders[0] != p.On("n2").ID || p.Waits() {
		t.Fatalf("it begins anew as %+v", p)
	}
	founder := p.Founders[0]
	if !p.Settle(node("n2", 2, "g"), has(1, second)) || p.On("n2").ID != founder || p.On("n2").Life != "g" {
		t.Errorf("a founder that did not begin does not begin again: %+v", p)
	}
	if p.Settle(node("n2", 2, "h"), has(2, founder)) || p.On("n2").Life != "g" {
		t.Errorf("one that did comes back as who it was: %+v", p)
	}
}
