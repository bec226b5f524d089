package policy

import (
	"bytes"
	"os"
	"testing"
)

// The case file of the specification holds in both modes.
func TestCaseFile(t *testing.T) {
	text, err := os.ReadFile("testdata/policy-cases.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, mode := range []Mode{ModeStrict, ModeAWS} {
		rep, err := RunFile(bytes.NewReader(text), mode)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range rep.Failures {
			t.Errorf("mode %d: %v", mode, f)
		}
		if want := 121 + 38 + 32 + 3; rep.Passed != want {
			t.Errorf("mode %d: %d passed, want %d", mode, rep.Passed, want)
		}
	}
}
