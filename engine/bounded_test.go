package engine

import (
	"testing"

	"github.com/larder-cache/larder/internal/fault"
)

// everyShape writes five replies: a null, a map of everything nested, an empty list, an error, a word.
func everyShape(r Reply, bulk []byte) {
	r.Null()
	r.Map(2)
	r.Text("a")
	r.Array(3)
	r.Int(1)
	r.Set(1)
	r.Double(1.5)
	r.Bulk(bulk)
	r.Bool(true)
	r.Pairs(1)
	r.Status("m")
	r.NullArray()
	r.Array(0)
	r.Error(fault.New(fault.WrongType, "", "no"))
	r.Status("OK")
}

// TestBoundedIsARecordingUntilItIsFull tries every limit there is between none and enough: each reply is whole
// or one error, and the bound is kept but for the errors themselves.
func TestBoundedIsARecordingUntilItIsFull(t *testing.T) {
	bulk := make([]byte, 100)
	var plain Recording
	everyShape(&plain, bulk)
	for limit := range plain.Len() + 2*pieceOverhead {
		var r Recording
		everyShape(&Bounded{Recording: &r, Max: limit}, bulk)
		want, got := plain.Cursor(), r.Cursor()
		refused := 0
		for range 5 {
			wantHere, gotHere := want, got
			want.Skip()
			got.Skip()
			whole := wantHere.b[:len(wantHere.b)-len(want.b)]
			here := gotHere.b[:len(gotHere.b)-len(got.b)]
			if string(whole) == string(here) {
				continue
			}
			refused++
			if token := gotHere.Next(); token.Kind != ReplyError || token.Err.Kind != fault.TooLarge || len(gotHere.b) != len(got.b) {
				t.Fatalf("limit %d: a reply that is neither whole nor refused: %q", limit, here)
			}
		}
		if end := got.Next(); end.Kind != ReplyEnd {
			t.Fatalf("limit %d: something is left: %c", limit, end.Kind)
		}
		if refused == 0 && r.Len() > limit {
			t.Errorf("limit %d: %d bytes", limit, r.Len())
		}
		if limit < pieceOverhead && refused != 5 {
			t.Errorf("limit %d: only %d replies are refused", limit, refused)
		}
	}
}

// TestBothFormsArrive: a reply with two forms reaches each receiver in its own, whatever recorded it on the way.
func TestBothFormsArrive(t *testing.T) {
	write := func(out Reply) {
		out.Array(2)
		either(out, func(out Reply) { out.Text("two") }, func(out Reply) {
			out.Array(2)
			out.Int(3)
			decimal(out, []byte("1.50"))
		})
		out.Int(4)
	}
	var plain Recording
	var transcript Transcript
	var bounded, short, loose Recording
	write(&plain)
	write(&transcript)
	write(&Bounded{Recording: &bounded, Max: 1000, Exact: true})
	write(&Bounded{Recording: &short, Max: 30, Exact: true})
	write(&Bounded{Recording: &loose, Max: 1000})
	const two, three = `["two" 4]`, `[[3 "1.50"] 4]`
	for name, r := range map[string]*Recording{"transcript": &transcript.Recording, "bounded": &bounded} {
		var out third
		r.Replay(&out)
		if got := show(&out.Recording); got != three {
			t.Errorf("%s for RESP3: %s", name, got)
		}
		var flat Recording
		if err := ReplayBytes(r.Bytes(), &flat); err != nil || show(&flat) != two {
			t.Errorf("%s for RESP2: %s, %v", name, show(&flat), err)
		}
		c := r.Cursor()
		if c.Skip(); c.Next().Kind != ReplyEnd {
			t.Errorf("%s: a form is left", name)
		}
	}
	for name, r := range map[string]*Recording{"plain": &plain, "loose": &loose} {
		if got := show(r); got != two {
			t.Errorf("%s: %s", name, got)
		}
	}
	if c := short.Cursor(); c.Next().Kind != ReplyError {
		t.Error("two forms passed the bound")
	}
}
