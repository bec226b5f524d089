// Command larder is a cache service that many applications share: one binary for development, for production,
// and for the operator's work.
//
// dev.go and serve.go start servers; node.go puts one together from settings.go. The other files are the
// operator's verbs, which speak to a server through the SDK; client.go is what they have in common.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

func main() {
	beAside()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(execute(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// execute carries out one command line and returns the exit status.
func execute(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	cmd := root()
	began := false
	each(cmd, func(c *cobra.Command) {
		if run := c.RunE; run != nil {
			c.RunE = func(c *cobra.Command, args []string) error { began = true; return run(c, args) }
		}
	})
	cmd.SetArgs(args)
	cmd.SetIn(in)
	cmd.SetOut(out)
	cmd.SetErr(errs)
	err := cmd.ExecuteContext(ctx)
	if err != nil && !began { // cobra's own errors are about flags, arguments and names of commands
		err = &usageError{err}
	}
	if err != nil {
		_, _ = io.WriteString(errs, complaint(err)) // the status says it as well
	}
	return exitStatus(err)
}

// each calls fn for cmd and everything below it.
func each(cmd *cobra.Command, fn func(*cobra.Command)) {
	fn(cmd)
	for _, c := range cmd.Commands() {
		each(c, fn)
	}
}

// root is the whole command line.
func root() *cobra.Command {
	cmd := group("larder", "A cache service that many applications share, HTTP first", `
A cache service that many applications share, HTTP first: values, sessions, leaderboards and counters behind
API keys and policies.

  larder dev      starts everything on this machine and prints how to use it
  larder serve    is the start for production

All other commands but "policy test", "cluster certs", "cluster etcd", "cluster operator-key", "health" and "bench" speak to a
server, which is found, first match wins, by
  1. the flags --url and --api-key
  2. the environment variables LARDER_URL and LARDER_API_KEY
  3. the login that "larder login" stored or "larder context use" chose
  4. larder-data/dev.json in the current directory, which is there while "larder dev" runs

Exit status: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not authenticated or not allowed,
5 it exists already, or has changed, or a condition was not met.`)
	cmd.SilenceUsage = true
	cmd.SilenceErrors = true
	cmd.Version = version
	cmd.SetVersionTemplate("larder {{.Version}}\n")
	cmd.AddGroup(&cobra.Group{ID: "servers", Title: "Servers:"}, &cobra.Group{ID: "client", Title: "Speaking to a server:"})
	for _, c := range []*cobra.Command{devCommand(), serveCommand()} {
		c.GroupID = "servers"
		cmd.AddCommand(c)
	}
	for _, c := range []*cobra.Command{
		kvCommand(), cacheCommand(), snapshotCommand(), scheduleCommand(), encryptionCommand(), importCommand(), exportCommand(), migrateCommand(), endpointCommand(), keyCommand(), roleCommand(), policyCommand(), tokenCommand(), tenantCommand(),
		usageCommand(), whoamiCommand(), loginCommand(), contextCommand(), clusterCommand(),
	} {
		c.GroupID = "client"
		cmd.AddCommand(c)
	}
	cmd.AddCommand(benchCommand(), healthCommand(), versionCommand())
	return cmd
}

// group makes a command that only holds others.
func group(use, short, long string, below ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Long: trimLines(long), Args: cobra.ArbitraryArgs, DisableFlagsInUseLine: true}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		hint := ""
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			hint = fmt.Sprintf("; did you mean %q?", near[0])
		}
		return misuse("unknown command %q for %q%s", args[0], cmd.CommandPath(), hint)
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(below...)
	return cmd
}

// versionInfo is what `larder version` tells.
type versionInfo struct {
	Version string `json:"version"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

func versionCommand() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show which larder this is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := versionInfo{version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if asJSON {
				return writeJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "larder %s (%s, %s/%s)\n", v.Version, v.Go, v.OS, v.Arch)
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
