package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Files of cases of which one, and one of two, holds.
const oneRight = `{"wildcard_cases": [{"pattern": "user:*", "text": "user:4", "match": true}]}`
const oneWrong = `{"wildcard_cases": [{"name": "W1", "pattern": "user:*", "text": "user:4", "match": true}, {"name": "W2", "pattern": "user:*", "text": "user:4", "match": false}]}`

func TestPolicyTest(t *testing.T) {
	cases := []struct {
		name   string
		args   []string
		in     string
		status int
		out    []string // parts of what is printed
		errs   string   // part of what is said of an error
	}{
		{name: "all hold", args: []string{"-"}, in: oneRight, out: []string{"1 passed, 0 failed\n"}},
		{name: "in both modes", args: []string{"-", "--mode", "both"}, in: oneRight, out: []string{"strict: 1 passed, 0 failed\n", "aws: 1 passed, 0 failed\n"}},
		{name: "one does not hold", args: []string{"-"}, in: oneWrong, status: exitFailed, out: []string{"FAIL wildcard_cases W2", "expected", "got", "1 passed, 1 failed\n"}},
		{name: "one does not hold in one of the modes", args: []string{"-", "--mode=both"}, in: oneWrong, status: exitFailed, out: []string{"strict: 1 passed, 1 failed", "aws: 1 passed, 1 failed"}},
		{name: "an empty file of cases", args: []string{"-"}, in: `{}`, out: []string{"0 passed, 0 failed\n"}},
		{name: "no JSON", args: []string{"-"}, in: `cases:`, status: exitUsage, errs: "not a file of policy cases"},
		{name: "an unknown list", args: []string{"-"}, in: `{"case": []}`, status: exitUsage, errs: "case"},
		{name: "no such file", args: []string{"/nowhere.json"}, status: exitUsage, errs: "/nowhere.json"},
		{name: "no file", status: exitUsage, errs: "1 arg"},
		{name: "an unknown mode", args: []string{"-", "--mode", "lax"}, in: oneRight, status: exitUsage, errs: "lax"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := cli(t, c.in, append([]string{"policy", "test"}, c.args...)...)
			if status != c.status || !strings.Contains(errs, c.errs) || (c.errs == "") != (errs == "") {
				t.Errorf("exit status %d, want %d: %q", status, c.status, errs)
			}
			for _, part := range c.out {
				if !strings.Contains(out, part) {
					t.Errorf("%q does not say %q", out, part)
				}
			}
		})
	}
}

// The project's own cases hold in both modes.
func TestPolicyTestOwnCases(t *testing.T) {
	status, out, errs := cli(t, "", "policy", "test", "--mode", "both", "../../auth/policy/testdata/policy-cases.json")
	if status != exitDone || strings.Count(out, " passed, 0 failed\n") != 2 || errs != "" {
		t.Errorf("exit status %d: %s%s", status, out, errs)
	}
}

// The example in the help is a file of cases that holds.
func TestPolicyTestHelp(t *testing.T) {
	_, help, _ := cli(t, "", "policy", "test", "--help")
	begin, end := strings.Index(help, `{"cases": [`), strings.Index(help, "Usage:")
	if begin < 0 || end < begin {
		t.Fatalf("no example in the help:\n%s", help)
	}
	path := filepath.Join(t.TempDir(), "cases.json")
	if err := os.WriteFile(path, []byte(help[begin:end]), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := cli(t, "", "policy", "test", "--mode", "both", path); status != exitDone || !strings.Contains(out, "aws: 1 passed, 0 failed") {
		t.Errorf("exit status %d: %s%s", status, out, errs)
	}
}

func TestVersion(t *testing.T) {
	status, out, _ := cli(t, "", "version", "--json")
	var v versionInfo
	if err := json.Unmarshal([]byte(out), &v); status != exitDone || err != nil || v.Version != version || v.Go == "" {
		t.Errorf("exit status %d: %v: %q", status, err, out)
	}
	for _, args := range [][]string{{"version"}, {"--version"}} {
		if status, out, _ := cli(t, "", args...); status != exitDone || !strings.HasPrefix(out, "larder "+version) || strings.Count(out, "\n") != 1 {
			t.Errorf("%v: exit status %d: %q", args, status, out)
		}
	}
}

// What is called wrongly ends with 2 and one line that says what was wrong.
func TestMisuse(t *testing.T) {
	cases := []struct {
		name string
		args []string
		says string
	}{
		{name: "an unknown command", args: []string{"servr"}, says: `did you mean "serve"?`},
		{name: "an unknown command below another", args: []string{"policy", "tset"}, says: `"larder policy"`},
		{name: "an unknown flag", args: []string{"version", "--yaml"}, says: "--yaml"},
		{name: "an argument too many", args: []string{"version", "now"}, says: "now"},
		{name: "a flag without its value", args: []string{"dev", "--data-dir"}, says: "--data-dir"},
		{name: "a refused setting", args: []string{"dev", "--http-addr", "0.0.0.0:0", "--data-dir", "/nowhere"}, says: "http-addr"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			status, out, errs := cli(t, "", c.args...)
			if status != exitUsage || out != "" || !strings.HasPrefix(errs, "larder: ") || !strings.Contains(errs, c.says) || strings.Count(errs, "\n") != 1 {
				t.Errorf("exit status %d, printed %q, said %q; want %d and one line with %q", status, out, errs, exitUsage, c.says)
			}
		})
	}
}

// Every command says what it does, and the help of each can be shown.
func TestHelp(t *testing.T) {
	each(root(), func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: %q is no short description", c.CommandPath(), c.Short)
		}
		args := append(strings.Fields(c.CommandPath())[1:], "--help")
		if status, out, errs := cli(t, "", args...); status != exitDone || !strings.Contains(out, c.UseLine()) || errs != "" {
			t.Errorf("%s: exit status %d: %s%s", c.CommandPath(), status, out, errs)
		}
	})
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if status, out, errs := cli(t, "", "completion", shell); status != exitDone || !strings.Contains(out, "larder") {
			t.Errorf("%s: exit status %d: %s", shell, status, errs)
		}
	}
	status, out, _ := cli(t, "", "__complete", "pol")
	if status != exitDone || !strings.HasPrefix(out, "policy\t") {
		t.Errorf("exit status %d: %q", status, out)
	}
}
