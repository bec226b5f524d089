// Command larder is a cache service that many applications share: one binary for development, for production,
// and for the operator's work.
//
// dev.go and serve.go start servers; node.go puts one together; the other files are the operator's verbs,
// which speak to a server through the SDK.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "larder:", err)
		os.Exit(exitCode(err))
	}
}

// root is the whole command line.
func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "larder",
		Short:         "A cache service that many applications share, HTTP first",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version,
	}
	cmd.AddCommand(devCommand(), serveCommand())
	return cmd
}

func exitCode(error) int { return 1 }
