package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTime is how long a node may take to say that it is ready.
const healthTime = 3 * time.Second

// maxHealth bounds what is read of the answer.
const maxHealth = 4 << 10

// healthCommand asks a node on this machine how it is, for containers that hold no other program.
func healthCommand() *cobra.Command {
	url, alive := "http://127.0.0.1:8080", false
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a node on this machine whether it is ready, for health checks",
		Long: trimLines(`
Ask a node on this machine whether it is ready: exit status 0 if it is. No credential is needed. Over https the certificate is not
looked at: it is for the name by which clients know the service, and what is asked is whether something serves.`),
		Example: "  larder health --url https://127.0.0.1:8443",
		Args:    cobra.NoArgs,
	}
	if from := os.Getenv("LARDER_URL"); from != "" {
		url = from
	}
	cmd.Flags().StringVar(&url, "url", url, "where the node's HTTP API is [LARDER_URL]")
	cmd.Flags().BoolVar(&alive, "alive", false, "ask whether it is alive: also while it starts or drains")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		path := "/readyz"
		if alive {
			path = "/livez"
		}
		said, err := askHealth(cmd.Context(), strings.TrimSuffix(url, "/")+path)
		if err == nil {
			_, err = io.WriteString(cmd.OutOrStdout(), said)
		}
		return err
	}
	return cmd
}

func askHealth(ctx context.Context, url string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, healthTime)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", misuse("--url: %v", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}} // see the help
	a, err := client.Do(r)
	if err != nil {
		return "", err
	}
	body, err := io.ReadAll(io.LimitReader(a.Body, maxHealth))
	if err = errors.Join(err, a.Body.Close()); err != nil {
		return "", err
	}
	if a.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", a.Status, body)
	}
	return string(body), nil
}
