package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

// A target is a server and who to be there.
type target struct {
	URL    string `json:"url"`
	APIKey string `json:"api_key"`
	CA     string `json:"ca,omitempty"` // file of certificates to trust instead of the system's
}

// flags declares how a command is told its target.
func (t *target) flags(f *pflag.FlagSet) {
	f.StringVar(&t.URL, "url", "", "server to speak to [LARDER_URL]")
	f.StringVar(&t.APIKey, "api-key", "", "API key or token; better given by environment or login [LARDER_API_KEY]")
	f.StringVar(&t.CA, "ca", "", "certificates to trust instead of the system's, PEM [LARDER_CA]")
}

// find fills in what the flags did not say: from the environment, from the login in use, from the dev.json of
// a server that was started in the current directory. A key goes to the server it belongs to and to no other:
// who names a server names the key as well. operator says whose key of a dev.json is wanted.
func (t *target) find(operator bool) error {
	for _, v := range []struct {
		to   *string
		name string
	}{{&t.URL, "LARDER_URL"}, {&t.APIKey, "LARDER_API_KEY"}, {&t.CA, "LARDER_CA"}} {
		if *v.to == "" {
			*v.to = os.Getenv(v.name)
		}
	}
	if t.URL != "" {
		return nil
	}
	known, err := storedTarget()
	if err == nil && known == nil {
		known, err = devTarget(operator)
	}
	if err != nil {
		return err
	}
	if known == nil {
		return misuse("no server is known: give --url and --api-key, or run larder login, or start larder dev in this directory")
	}
	t.URL = known.URL
	if t.APIKey == "" {
		t.APIKey = known.APIKey
	}
	if t.CA == "" {
		t.CA = known.CA
	}
	return nil
}

// devTarget reads the dev.json of a server that was started in the current directory; nil if there is none.
func devTarget(operator bool) (*target, error) {
	path := filepath.Join(defaultDataDir, devFileName)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var f devFile
	if err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil {
		return nil, misuse("%s: %v", path, err)
	}
	if operator {
		return &target{URL: f.HTTP, APIKey: f.OperatorToken}, nil
	}
	return &target{URL: f.HTTP, APIKey: f.APIKey}, nil
}

// client makes a client of the target.
func (t *target) client() (*larder.Client, error) {
	options := []larder.Option{larder.WithUserAgent("larder-cli/" + version)}
	if t.APIKey != "" {
		options = append(options, larder.WithAPIKey(t.APIKey))
	}
	if t.CA != "" {
		pem, err := os.ReadFile(t.CA)
		if err != nil {
			return nil, misuse("ca: %v", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, misuse("ca: %s holds no certificate", t.CA)
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
		options = append(options, larder.WithHTTPClient(&http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // a key goes nowhere else
		}))
	}
	c, err := larder.New(t.URL, options...)
	if err != nil {
		return nil, &usageError{err}
	}
	return c, nil
}

// A call is a command that speaks to a server, while it is carried out.
type call struct {
	*cobra.Command
	ctx    context.Context
	args   []string
	client *larder.Client
	api    *api.Client // every operation of client
	key    string      // the credential
	printer
}

// A verb is a command that speaks to a server.
type verb struct {
	use, short string
	long       string // short and more; may be empty
	example    string
	alias      string // another name; may be empty
	args       cobra.PositionalArgs
	operator   bool // is for operators: it takes their key of a dev.json
	flags      func(*pflag.FlagSet)
	run        func(*call) error
}

// command is the verb on the command line.
func (v verb) command() *cobra.Command {
	var at target
	var asJSON bool
	cmd := &cobra.Command{Use: v.use, Short: v.short, Long: trimLines(v.long), Example: v.example, Args: v.args}
	if v.alias != "" {
		cmd.Aliases = []string{v.alias}
	}
	at.flags(cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	if v.flags != nil {
		v.flags(cmd.Flags())
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := at.find(v.operator); err != nil {
			return err
		}
		client, err := at.client()
		if err != nil {
			return err
		}
		return v.run(&call{cmd, cmd.Context(), args, client, client.API(), at.APIKey, printer{cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON}})
	}
	return cmd
}

// given is a pointer to the value of a flag, nil when the flag was not given: what is not said is not sent.
func given[T any](c *call, flag string, value T) *T {
	if !c.Flags().Changed(flag) {
		return nil
	}
	return &value
}

// verbs makes a group of verbs.
func verbs(use, short string, list ...verb) *cobra.Command {
	cmd := group(use, short, "")
	for _, v := range list {
		cmd.AddCommand(v.command())
	}
	return cmd
}
