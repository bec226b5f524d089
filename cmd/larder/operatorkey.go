package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

// operatorKeyCommand prints what found wrote, for containers that hold no other program to read a file with.
func operatorKeyCommand() *cobra.Command {
	file := os.Getenv(envName("operator-token-file"))
	if dir := os.Getenv(envName("data-dir")); file == "" && dir != "" {
		file = filepath.Join(dir, "operator-token")
	}
	if file == "" {
		file = filepath.Join(defaultDataDir, "operator-token")
	}
	cmd := &cobra.Command{
		Use:   "operator-key",
		Short: "Print the first operator's key that a node on this machine has written",
		Long: trimLines(`
Print the key of a new cluster's first operator, which the node that founded the cluster has written to a file: see
--operator-token-file of larder serve. Make keys for your operators with it, and remove the file.`),
		Example: "  docker compose exec n1 larder cluster operator-key",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&file, "file", file, "the file [LARDER_OPERATOR_TOKEN_FILE, or operator-token in LARDER_DATA_DIR]")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("there is no %s: this node has not founded the cluster, or somebody has removed it", file)
		}
		if err == nil {
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(text)))
		}
		return err
	}
	return cmd
}
