package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// logins are what `larder login` has stored: a file in the user's configuration directory, mode 0600.
type logins struct {
	Current  string            `json:"current"`
	Contexts map[string]target `json:"contexts"`
}

// loginFile is where the logins are.
func loginFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "larder", "contexts.json"), nil
}

// readLogins reads what is stored; nothing is nothing, not an error.
func readLogins() (l logins, path string, err error) {
	l.Contexts = map[string]target{}
	if path, err = loginFile(); err != nil {
		return l, path, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, path, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &l)
	}
	if err != nil {
		return l, path, fmt.Errorf("reading the stored logins: %s: %w", path, err)
	}
	return l, path, nil
}

func (l logins) write(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return writeSecret(path, func() ([]byte, error) { return json.MarshalIndent(l, "", "  ") })
}

// storedTarget is the login in use; nil if there is none.
func storedTarget() (*target, error) {
	path, err := loginFile()
	if err != nil {
		return nil, nil // a service account has no home, and nobody logged in there
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	l, _, err := readLogins()
	if err != nil {
		return nil, err
	}
	if t, ok := l.Contexts[l.Current]; ok {
		return &t, nil
	}
	return nil, nil
}

func loginCommand() *cobra.Command {
	var at target
	var name string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Store where a server is and a key for it",
		Long: trimLines(`
Try a server and a key, store them in the user's configuration directory for this user alone, and use them from now
on. Without --api-key the key is asked for without showing it, or read from standard input when that is no terminal.`),
		Example: "  larder login --url https://larder.example.com\n  larder login --url https://larder.example.com --name staging < key-file",
		Args:    cobra.NoArgs,
	}
	at.flags(cmd.Flags())
	cmd.Flags().StringVar(&name, "name", "", "name of the login, to choose it by with larder context use (default TENANT@HOST)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if at.URL == "" {
			return misuse("--url is needed")
		}
		if at.APIKey == "" {
			key, err := readSecret(cmd.InOrStdin(), cmd.ErrOrStderr(), "API key: ")
			if err != nil {
				return err
			}
			at.APIKey = key
		}
		if at.APIKey == "" {
			return misuse("no API key was given")
		}
		if at.CA != "" {
			ca, err := filepath.Abs(at.CA)
			if err != nil {
				return err
			}
			at.CA = ca
		}
		client, err := at.client()
		if err != nil {
			return err
		}
		who, err := client.API().Whoami(cmd.Context())
		if err != nil {
			return err
		}
		if name == "" {
			u, err := url.Parse(at.URL)
			if err != nil {
				return &usageError{err}
			}
			name = who.Tenant + "@" + u.Host
		}
		l, path, err := readLogins()
		if err != nil {
			return err
		}
		l.Contexts[name], l.Current = at, name
		if err := l.write(path); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "Logged in to the tenant %s at %s as %q (%s). The login is called %s.\n", who.Tenant, at.URL, who.Name, who.Role, name)
		return err
	}
	return cmd
}

// readSecret asks for a secret without showing it, or reads the first line of an input that is no terminal.
func readSecret(in io.Reader, prompts io.Writer, prompt string) (string, error) {
	if f, ok := in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return askSecret(f, prompts, prompt)
	}
	line, err := bufio.NewReader(io.LimitReader(in, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}

// askSecret asks at a terminal. What is typed is hidden before the question is there to be answered.
func askSecret(keyboard *os.File, screen io.Writer, question string) (secret string, err error) {
	fd := int(keyboard.Fd())
	usual, err := term.MakeRaw(fd)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, term.Restore(fd, usual)) }()
	both := struct {
		io.Reader
		io.Writer
	}{keyboard, screen}
	secret, err = term.NewTerminal(both, "").ReadPassword(question)
	if errors.Is(err, io.EOF) { // Ctrl-C, Ctrl-D
		err = errors.New("nothing was typed")
	}
	return strings.TrimSpace(secret), err
}

// confirm asks before something is lost. Only people are asked: what is no terminal has decided already.
func confirm(cmd *cobra.Command, yes bool, format string, args ...any) error {
	f, ok := cmd.InOrStdin().(*os.File)
	if yes || !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	fmt.Fprintf(cmd.ErrOrStderr(), format+" [y/N] ", args...)
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); answer != "y" && answer != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}

func contextCommand() *cobra.Command {
	return group("context", "The logins that are stored: list, choose, forget", "", contextList(), contextUse(), contextDelete())
}

// A shownContext is a login without its key.
type shownContext struct {
	Name    string `json:"name"`
	URL     string `json:"url"`
	Current bool   `json:"current"`
}

func contextList() *cobra.Command {
	asJSON := false
	cmd := &cobra.Command{Use: "list", Short: "List the stored logins", Args: cobra.NoArgs}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, _, err := readLogins()
		if err != nil {
			return err
		}
		p := &printer{cmd.OutOrStdout(), cmd.ErrOrStderr(), asJSON}
		fetch := func(*string, *int) (shown []shownContext, _ string, _ error) {
			for _, name := range slices.Sorted(maps.Keys(l.Contexts)) {
				shown = append(shown, shownContext{name, l.Contexts[name].URL, name == l.Current})
			}
			return shown, "", nil
		}
		return list(p, paging{all: true}, "NAME URL IN_USE", fetch, func(c shownContext) []any {
			inUse := ""
			if c.Current {
				inUse = "yes"
			}
			return []any{c.Name, c.URL, inUse}
		})
	}
	return cmd
}

// storedNames completes names of logins.
func storedNames(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	l, _, err := readLogins()
	if err != nil || len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return slices.Sorted(maps.Keys(l.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

func contextUse() *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Choose which login is used", Args: cobra.ExactArgs(1), ValidArgsFunction: storedNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeLogins(args[0], func(l *logins) { l.Current = args[0] })
		},
	}
}

func contextDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Forget a login and its key", Args: cobra.ExactArgs(1), ValidArgsFunction: storedNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return changeLogins(args[0], func(l *logins) {
				delete(l.Contexts, args[0])
				if l.Current == args[0] {
					l.Current = ""
				}
			})
		},
	}
}

// changeLogins changes what is stored, given that there is a login of this name.
func changeLogins(name string, change func(*logins)) error {
	l, path, err := readLogins()
	if err != nil {
		return err
	}
	if _, ok := l.Contexts[name]; !ok {
		return &statusError{exitNotFound, fmt.Errorf("no login is called %q", name)}
	}
	change(&l)
	return l.write(path)
}
