package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/internal/heap"
	"github.com/larder-cache/larder/internal/logs"
)

func serveCommand() *cobra.Command {
	s := &settings{}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start a node for production",
		Long: `Start a node for production.

Every setting is a flag, an environment variable (LARDER_ and the flag's name in capitals, with underscores)
and a key of the YAML file that --config names; a flag outweighs the environment, which outweighs the file.
On a new cluster the first operator's key is written to a file: see --operator-token-file.`,
		Example: `  larder serve --data-dir /var/lib/larder --http-addr 0.0.0.0:443 --tls-cert tls.crt --tls-key tls.key
  LARDER_ETCD=https://etcd-1:2379,https://etcd-2:2379 larder serve --config /etc/larder.yaml`,
		Args: cobra.NoArgs,
	}
	s.flags(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := s.load(cmd, os.Environ()); err != nil {
			return err
		}
		if s.operatorToken == "" {
			s.operatorToken = filepath.Join(s.dataDir, "operator-token")
		}
		defer heap.Headroom(headroom)()
		w := logs.NewWriter(os.Stderr)
		defer w.Close()
		return run(cmd.Context(), *s, logs.New(w, s.logFormat, s.level), nil)
	}
	return cmd
}
