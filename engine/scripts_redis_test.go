package engine

import (
	"os"
	"strings"
	"testing"
)

// sinceRedis7 makes Redis 7.0's words those of Redis 7.4 and Valkey 8.
var sinceRedis7 = strings.NewReplacer("Unknown Redis command", "Unknown command", "calling Redis command", "calling command", "Lua redis lib command arguments", "Command arguments",
	"for this redis.call() call", "for this call", "Invalid debug level.", "Invalid log level.", "redis.acl_check_cmd", "server.acl_check_cmd", "redis.setresp()", "server.setresp()", "redis.log()", "server.log()",
	"Please specify at least one argument for this redis lib call", "Please specify at least one argument for this call")

// TestScriptsAnswerAsRedis runs the scripts of testdata/scripts.lua, which are separated by lines of dashes, on both sides.
func TestScriptsAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	r.same("FLUSHALL")
	text, err := os.ReadFile("testdata/scripts.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strings.Split(string(text), "\n----\n") {
		ours, theirs := r.answers("EVAL", strings.TrimSuffix(s, "\n"), "2", "k1", "k2", "a1", "10", "")
		if theirs = sinceRedis7.Replace(theirs); ours != theirs {
			t.Errorf("%s\n got %.500s\nwant %.500s", s, ours, theirs)
		}
	}
}
