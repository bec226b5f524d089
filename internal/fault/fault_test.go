package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestEveryKindHasAFace(t *testing.T) {
	for _, k := range Kinds() {
		f := k.Face()
		if f.Code == "" || f.Title == "" || f.Redis == "" || f.Memcached == "" {
			t.Errorf("kind %d has an incomplete row: %+v", k, f)
		}
		if f.Status < 400 || f.Status > 599 {
			t.Errorf("%s: status %d is no error", f.Code, f.Status)
		}
		if f.Code != strings.ToLower(f.Code) {
			t.Errorf("%s: codes are snake_case", f.Code)
		}
	}
}

func TestFromFindsTheFaultInAChain(t *testing.T) {
	cause := errors.New("disk on fire")
	wrapped := fmt.Errorf("saving: %w", Wrap(Unavailable, "store.put", cause, "try again later"))
	e := From(wrapped)
	if e.Kind != Unavailable || e.Message != "try again later" || !errors.Is(e, cause) {
		t.Errorf("From lost something: %+v", e)
	}
	if From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
}

func TestAnUnclassifiedErrorShowsTheClientNothing(t *testing.T) {
	e := From(errors.New("password=hunter2"))
	if e.Kind != Internal || strings.Contains(e.Redis(), "hunter2") || strings.Contains(e.Message, "hunter2") {
		t.Errorf("an internal cause reached the client: %q", e.Redis())
	}
}

func TestRedisFace(t *testing.T) {
	tests := []struct {
		name string
		err  *Error
		want string
	}{
		{"the kind's prefix", New(WrongType, "get", "Operation against a key holding the wrong kind of value"), "WRONGTYPE Operation against a key holding the wrong kind of value"},
		{"a prefix of its own", &Error{Kind: Conflict, Prefix: "BUSYGROUP", Message: "exists"}, "BUSYGROUP exists"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.err.Redis(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
