package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/logs"
)

// etcdStart is how long an etcd may take to serve.
const etcdStart = time.Minute

func etcdCommand() *cobra.Command {
	dir, listen := "", ""
	cmd := &cobra.Command{
		Use:   "etcd",
		Short: "Run an etcd on this machine, to try a cluster with",
		Long: trimLines(`
Run one member of etcd on loopback, to try a cluster of several processes on one machine with. Nobody needs a credential
for it: who may log in to the machine can read and change the control data. In production, run three members of etcd
on machines of their own.`),
		Example: "  larder cluster etcd --data-dir etcd-data --listen 127.0.0.1:2379",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "data-dir", "etcd-data", "directory of the data; made if missing")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:2379", "loopback address of the clients' port; port 0 picks a free one")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if listen == "" {
			return misuse("--listen is needed")
		}
		w := logs.NewWriter(os.Stderr)
		defer w.Close()
		start, cancel := context.WithTimeout(cmd.Context(), etcdStart)
		defer cancel()
		server, err := etcdembed.Start(start, etcdembed.Config{Dir: dir, ListenClient: listen, Logger: logs.New(w, "auto", slog.LevelWarn)})
		if err != nil {
			return err
		}
		defer server.Close()
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), strings.Join(server.Endpoints(), ",")); err != nil {
			return err
		}
		<-cmd.Context().Done()
		return nil
	}
	return cmd
}
