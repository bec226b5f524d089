package engine

import (
	"os"
	"strings"
	"testing"
)

// TestScriptsAnswerAsRedis runs the scripts of testdata/scripts.lua, which are separated by lines of dashes, on both sides.
func TestScriptsAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	r.same("FLUSHALL")
	text, err := os.ReadFile("testdata/scripts.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(string(text), "\n----\n") {
		r.same("EVAL", strings.TrimSuffix(s, "\n"), "2", "k1", "k2", "a1", "10", "")
	}
}
