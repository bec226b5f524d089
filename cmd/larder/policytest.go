package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/auth/policy"
)

// A testMode is a way to decide, by the name that --mode gives it.
type testMode struct {
	name string
	mode policy.Mode
}

var (
	strictMode = testMode{"strict", policy.ModeStrict}
	awsMode    = testMode{"aws", policy.ModeAWS}
	testModes  = map[string][]testMode{"strict": {strictMode}, "aws": {awsMode}, "both": {strictMode, awsMode}}
)

func policyTestCommand() *cobra.Command {
	mode := "strict"
	cmd := &cobra.Command{
		Use:   "test FILE",
		Short: "Test policies against a file of cases; needs no server",
		Long: trimLines(`
Test policies against a file of cases (- is standard input), print each case that does not hold, and how many
passed and failed. It needs no server. Exit status 1 says that a case failed, 2 that the file is not usable.

The file is a JSON object with any of these lists:

  cases                decisions: given these policies, this request is allowed or denied
  validation_cases     documents that may, or may not, be written
  wildcard_cases       {"pattern": "user:*", "text": "user:4", "match": true}
  wildcard_perf_cases  the same with "name" and "max_millis", in which the matcher must answer

A decision, in which policies, request and expected must stand:

  {"cases": [{
    "id": "D1", "title": "web reads sessions",
    "policies": {"identity": [{"Version": "2012-10-17", "Statement": [{"Sid": "Read", "Effect": "Allow",
      "Action": "cache:Get", "Resource": "arn:cache:cache:local:acme:cache/sessions/*"}]}]},
    "request": {"principal": {"type": "key", "tenant": "acme", "arn": "arn:cache:iam::acme:key/web"},
      "action": "cache:Get", "resource": "arn:cache:cache:local:acme:cache/sessions/key/a", "context": {}},
    "expected": "Allow", "reason": "identity_policy"}]}`),
		Example: "  larder policy test cases.json\n  larder policy test --mode both - < cases.json",
		Args:    cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&mode, "mode", mode, "strict (as the server decides), aws (as AWS does), or both")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"strict", "aws", "both"}, cobra.ShellCompDirectiveNoFileComp)) // fails only if there is no such flag
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		modes, ok := testModes[mode]
		if !ok {
			return misuse("--mode %q is not strict, aws or both", mode)
		}
		text, err := readAll(cmd.InOrStdin(), args[0])
		if err != nil {
			return &usageError{err}
		}
		return testPolicies(cmd.OutOrStdout(), text, modes)
	}
	return cmd
}

// testPolicies runs a file of cases in each mode and prints what failed.
func testPolicies(out io.Writer, text string, modes []testMode) error {
	failed := 0
	for _, mode := range modes {
		report, err := policy.RunFile(strings.NewReader(text), mode.mode)
		if err != nil {
			return &usageError{err}
		}
		for _, f := range report.Failures {
			fmt.Fprintln(out, "FAIL", f)
		}
		where := ""
		if len(modes) > 1 {
			where = mode.name + ": "
		}
		fmt.Fprintf(out, "%s%d passed, %d failed\n", where, report.Passed, report.Failed)
		failed += report.Failed
	}
	if failed > 0 {
		return &statusError{status: exitFailed}
	}
	return nil
}

// readAll reads a file, or in when its name is "-".
func readAll(in io.Reader, name string) (string, error) {
	if name == "-" {
		text, err := io.ReadAll(in)
		return string(text), err
	}
	text, err := os.ReadFile(name)
	return string(text), err
}
