package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/sdk/api"
)

// duration reads a length of time as the API does: 90s, 15m, 24h, 7d, or seconds.
func duration(flag, text string) (*api.Duration, error) {
	if text == "" {
		return nil, nil
	}
	var d api.Duration
	if err := d.UnmarshalJSON([]byte(fmt.Sprintf("%q", text))); err != nil {
		return nil, misuse("--%s: %q is not a length of time such as 90s, 15m, 24h or 7d", flag, text)
	}
	return &d, nil
}

// readDocument reads a file that holds JSON; - is standard input.
func readDocument(c *call, file string) (api.JSON, error) {
	text, err := readAll(c.InOrStdin(), file)
	if err != nil {
		return nil, &usageError{err}
	}
	if !json.Valid([]byte(text)) {
		return nil, misuse("%s: this is not JSON", file)
	}
	return api.JSON(text), nil
}

func keyCommand() *cobra.Command {
	var page paging
	var name, role, expires, cache, grace string
	var networks []string
	var test, certificate, newCertificate bool
	var newName, newRole, newCache string
	var newNetworks []string
	return verbs("key", "API keys: make, look at, change, rotate, delete",
		verb{
			use: "create", short: "Make a key, which is shown only now", args: cobra.NoArgs,
			example: "  larder key create --name web --role read-write --expires-in 90d --network 10.0.0.0/8",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&name, "name", "", "what it is for (needed)")
				f.StringVar(&role, "role", "", "its rights: owner, read-write, read-only, metrics, or a role of your own (needed)")
				f.StringVar(&expires, "expires-in", "", "how long it works, such as 90d; for ever when left out")
				f.StringSliceVar(&networks, "network", nil, "where it may be used from (CIDR); everywhere when left out")
				f.StringVar(&cache, "default-cache", "", "cache for protocols that name none")
				f.BoolVar(&certificate, "client-certificate", false, "TLS client certificates that name the key log in as it")
				f.BoolVar(&test, "test", false, "mark it as a key for tests (lk_test_…)")
			},
			run: func(c *call) error {
				if name == "" || role == "" {
					return misuse("--name and --role are needed")
				}
				life, err := duration("expires-in", expires)
				if err != nil {
					return err
				}
				req := api.CreateAPIKeyRequest{Name: name, Role: role, ExpiresIn: life, Networks: networks, DefaultCache: given(c, "default-cache", cache), ClientCertificate: given(c, "client-certificate", certificate)}
				if test {
					kind := "test"
					req.Kind = &kind
				}
				made, err := c.api.CreateAPIKey(c.ctx, req)
				if err != nil {
					return err
				}
				return showNewKey(c, made)
			},
		},
		verb{
			use: "list", short: "List keys", args: cobra.NoArgs, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "ID NAME ROLE EXPIRES LAST_USED", func(cursor *string, limit *int) ([]api.APIKey, string, error) {
					p, err := c.api.ListAPIKeys(c.ctx, &api.ListAPIKeysParams{Cursor: cursor, Limit: limit})
					return p.Keys, p.NextCursor, err
				}, func(k api.APIKey) []any { return []any{k.ID, k.Name, k.Role, k.ExpiresAt, k.LastUsedAt} })
			},
		},
		verb{
			use: "show ID", short: "Show a key, but for its text", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				k, err := c.api.GetAPIKey(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return c.show(k, keyFields(k)...)
			},
		},
		verb{
			use: "update ID", short: "Change a key; what is not given stays as it is", args: cobra.ExactArgs(1),
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&newName, "name", "", "what it is for")
				f.StringVar(&newRole, "role", "", "its rights")
				f.StringSliceVar(&newNetworks, "network", nil, "where it may be used from (CIDR); they replace all there are")
				f.StringVar(&newCache, "default-cache", "", "cache for protocols that name none; empty: none")
				f.BoolVar(&newCertificate, "client-certificate", false, "TLS client certificates that name the key log in as it")
			},
			run: func(c *call) error {
				k, err := c.api.UpdateAPIKey(c.ctx, c.args[0], api.UpdateAPIKeyRequest{
					Name: given(c, "name", newName), Role: given(c, "role", newRole), Networks: newNetworks, DefaultCache: given(c, "default-cache", newCache),
					ClientCertificate: given(c, "client-certificate", newCertificate),
				})
				if err != nil {
					return err
				}
				return c.show(k, keyFields(k)...)
			},
		},
		verb{
			use: "rotate ID", short: "Make a key that takes the place of another", args: cobra.ExactArgs(1),
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&grace, "grace", "", "how long the old key goes on working, up to 7d (default 24h)")
			},
			run: func(c *call) error {
				made, err := c.api.RotateAPIKey(c.ctx, c.args[0], api.RotateAPIKeyRequest{Grace: given(c, "grace", grace)})
				if err != nil {
					return err
				}
				return showNewKey(c, made)
			},
		},
		verb{
			use: "presign CACHE", short: "Make a password for Redis and memcached clients that lets in for 15 minutes", args: cobra.ExactArgs(1),
			long: `
Make a password for Redis and memcached clients that opens one cache for 15 minutes. The user to log in with is the cache.
It is signed here with the API key in use: the server is not asked.`,
			example: "  redis-cli --user main --pass \"$(larder key presign main)\"",
			run: func(c *call) error {
				now := time.Now()
				password, err := larder.PresignPassword(c.key, c.args[0], now)
				if err != nil {
					return &usageError{err}
				}
				if c.json {
					return c.show(presignedLogin{c.args[0], password, now.Add(larder.PresignLife).UTC().Truncate(time.Second)})
				}
				return c.done("%s", password)
			},
		},
		verb{
			use: "delete ID", short: "Revoke a key", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				if err := c.api.DeleteAPIKey(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The key %s is revoked.", c.args[0])
			},
		},
	)
}

// A presignedLogin is what a client of the Redis or memcached protocol needs to log in.
type presignedLogin struct {
	User      string    `json:"user"`
	Password  string    `json:"password"`
	ExpiresAt time.Time `json:"expires_at"`
}

func keyFields(k api.APIKey) []field {
	return []field{
		{"id", k.ID}, {"name", k.Name}, {"kind", k.Kind}, {"role", k.Role}, {"networks", k.Networks}, {"default cache", k.DefaultCache}, {"client certificates", yes(k.ClientCertificate != nil && *k.ClientCertificate)},
		{"created", k.CreatedAt}, {"created by", k.CreatedBy}, {"expires", k.ExpiresAt}, {"last used", k.LastUsedAt}, {"replaced by", k.RotatedTo},
	}
}

// showNewKey shows a key at the only time that its text is known.
func showNewKey(c *call, k api.NewAPIKey) error {
	fields := keyFields(api.APIKey{
		ID: k.ID, Name: k.Name, Kind: k.Kind, Role: k.Role, Networks: k.Networks, DefaultCache: k.DefaultCache,
		CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy, ExpiresAt: k.ExpiresAt, LastUsedAt: k.LastUsedAt, RotatedTo: k.RotatedTo, ClientCertificate: k.ClientCertificate,
	})
	return c.show(k, append(fields, field{"API key", k.APIKey})...)
}

func roleCommand() *cobra.Command {
	var page paging
	type flags struct {
		policies              []string
		boundary, description string
	}
	declare := func(s *flags) func(*pflag.FlagSet) {
		return func(f *pflag.FlagSet) {
			f.StringSliceVar(&s.policies, "policy", nil, "names of policies: what any of them allows (needed)")
			f.StringVar(&s.boundary, "boundary", "", "name of a policy that must allow as well")
			f.StringVar(&s.description, "description", "", "what it is for")
		}
	}
	show := func(c *call, r api.Role) error {
		return c.show(r, field{"name", r.Name}, field{"description", r.Description}, field{"policies", r.Policies}, field{"boundary", r.Boundary},
			field{"ready-made", yes(r.ReadyMade)}, field{"created", r.CreatedAt}, field{"updated", r.UpdatedAt})
	}
	var fresh, change flags
	return verbs("role", "Roles: named sets of rights, which keys point to",
		verb{
			use: "create NAME", short: "Make a role", args: cobra.ExactArgs(1), flags: declare(&fresh),
			run: func(c *call) error {
				r, err := c.api.CreateRole(c.ctx, api.CreateRoleRequest{
					Name: c.args[0], Policies: notNil(fresh.policies), Boundary: given(c, "boundary", fresh.boundary), Description: given(c, "description", fresh.description),
				})
				if err != nil {
					return err
				}
				return show(c, r)
			},
		},
		verb{
			use: "list", short: "List roles", args: cobra.NoArgs, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "NAME POLICIES BOUNDARY READY_MADE DESCRIPTION", func(cursor *string, limit *int) ([]api.Role, string, error) {
					p, err := c.api.ListRoles(c.ctx, &api.ListRolesParams{Cursor: cursor, Limit: limit})
					return p.Roles, p.NextCursor, err
				}, func(r api.Role) []any { return []any{r.Name, r.Policies, r.Boundary, yes(r.ReadyMade), r.Description} })
			},
		},
		verb{
			use: "show NAME", short: "Show a role", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				r, err := c.api.GetRole(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return show(c, r)
			},
		},
		verb{
			use: "replace NAME", alias: "update", short: "Give a role other policies; what is not given is taken away", args: cobra.ExactArgs(1), flags: declare(&change),
			run: func(c *call) error {
				r, err := c.api.ReplaceRole(c.ctx, c.args[0], api.RoleSettings{
					Policies: notNil(change.policies), Boundary: given(c, "boundary", change.boundary), Description: given(c, "description", change.description),
				})
				if err != nil {
					return err
				}
				return show(c, r)
			},
		},
		verb{
			use: "delete NAME", short: "Delete a role that no key has", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				if err := c.api.DeleteRole(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The role %s is deleted.", c.args[0])
			},
		},
	)
}

// yes is a flag for people, to whom no is the usual.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func notNil(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func policyCommand() *cobra.Command {
	var page paging
	var key, role, action, resource string
	var documents, facts []string
	show := func(c *call, p api.Policy) error {
		fields := []field{{"name", p.Name}, {"version", p.Version}, {"ready-made", yes(p.ReadyMade)}, {"created", p.CreatedAt}, {"updated", p.UpdatedAt}}
		if err := c.show(p, fields...); err != nil || c.json || p.Document == nil {
			return err
		}
		return c.done("%s", indented(*p.Document))
	}
	cmd := verbs("policy", "Policies: who may do what",
		verb{
			use: "put NAME FILE", alias: "create", short: "Write a policy, new or over the one there is", args: cobra.ExactArgs(2),
			long: `
Write a policy, new or over the one there is. FILE holds the document; - is standard input.`,
			run: func(c *call) error {
				document, err := readDocument(c, c.args[1])
				if err != nil {
					return err
				}
				p, err := c.api.PutPolicy(c.ctx, c.args[0], api.PutPolicyRequest{Document: document})
				if err != nil {
					return err
				}
				return show(c, p)
			},
		},
		verb{
			use: "list", short: "List policies", args: cobra.NoArgs, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "NAME VERSION READY_MADE UPDATED", func(cursor *string, limit *int) ([]api.Policy, string, error) {
					p, err := c.api.ListPolicies(c.ctx, &api.ListPoliciesParams{Cursor: cursor, Limit: limit})
					return p.Policies, p.NextCursor, err
				}, func(p api.Policy) []any { return []any{p.Name, p.Version, yes(p.ReadyMade), p.UpdatedAt} })
			},
		},
		verb{
			use: "show NAME", short: "Show a policy with its document", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				p, err := c.api.GetPolicy(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return show(c, p)
			},
		},
		verb{
			use: "simulate", short: "Ask what somebody might do, without doing it", args: cobra.NoArgs,
			long: `
Ask the server what a key, a role, or the documents of policies would allow, and why, without doing it.`,
			example: "  larder policy simulate --role read-only --action cache:Set --resource cache/main/key/user:4",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&key, "key", "", "id of the key that asks")
				f.StringVar(&role, "role", "", "role that asks")
				f.StringArrayVar(&documents, "document", nil, "file with a policy of who asks; may be given more than once")
				f.StringVar(&action, "action", "", "what is asked for, such as cache:Get (needed)")
				f.StringVar(&resource, "resource", "", "of what: a resource name or its last part, such as cache/main/key/user:4 (needed)")
				f.StringArrayVar(&facts, "context", nil, "a fact, KEY=VALUE, such as cache:SourceIp=10.1.2.3; may be given more than once")
			},
			run: func(c *call) error {
				if action == "" || resource == "" {
					return misuse("--action and --resource are needed")
				}
				who, context := map[string]any{}, map[string]any{}
				if key != "" {
					who["key"] = key
				}
				if role != "" {
					who["role"] = role
				}
				var policies []api.JSON
				for _, file := range documents {
					document, err := readDocument(c, file)
					if err != nil {
						return err
					}
					policies = append(policies, document)
				}
				if policies != nil {
					who["policies"] = policies
				}
				if len(who) != 1 {
					return misuse("give one of --key, --role and --document")
				}
				for _, fact := range facts {
					name, value, ok := strings.Cut(fact, "=")
					if !ok {
						return misuse("--context %q is not KEY=VALUE", fact)
					}
					context[name] = value
				}
				v, err := c.api.SimulatePolicy(c.ctx, api.SimulateRequest{"principal": who, "action": action, "resource": resource, "context": context})
				if err != nil {
					return err
				}
				statement := any(nil)
				if v.Statement != nil {
					statement = *v.Statement
				}
				return c.show(v, field{"decision", v.Decision}, field{"reason", v.Reason}, field{"policy", v.Policy}, field{"statement", statement},
					field{"sid", v.Sid}, field{"error", v.Error})
			},
		},
		verb{
			use: "delete NAME", short: "Delete a policy that no role has", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				if err := c.api.DeletePolicy(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The policy %s is deleted.", c.args[0])
			},
		},
	)
	cmd.AddCommand(policyTestCommand())
	return cmd
}

func tokenCommand() *cobra.Command {
	var page paging
	var ttl, subject, document, use string
	var scopes []string
	return verbs("token", "Tokens: credentials that live for minutes and can do less than their maker",
		verb{
			use: "create", short: "Make a token, which is shown only now", args: cobra.NoArgs,
			example: "  larder token create --subject user-4 --ttl 15m --policy only-own-keys.json",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&ttl, "ttl", "", "how long it works, 1s to 25h (default 15m)")
				f.StringVar(&subject, "subject", "", "for whom it is; the maker's id when left out")
				f.StringVar(&document, "policy", "", "file with a policy that narrows what it may do; - is standard input")
				f.StringVar(&use, "use", "", "what it opens: data or manage (default data)")
				f.StringSliceVar(&scopes, "scope", nil, "scopes that conditions may ask for")
			},
			run: func(c *call) error {
				life, err := duration("ttl", ttl)
				if err != nil {
					return err
				}
				req := api.CreateTokenRequest{TTL: life, Subject: given(c, "subject", subject), Use: given(c, "use", use), Scopes: scopes}
				if document != "" {
					text, err := readDocument(c, document)
					if err != nil {
						return err
					}
					req.Policy = &text
				}
				t, err := c.api.CreateToken(c.ctx, req)
				if err != nil {
					return err
				}
				fields := tokenFields(api.Token{ID: t.ID, Subject: t.Subject, Maker: t.Maker, Use: t.Use, Scopes: t.Scopes, IssuedAt: t.IssuedAt, ExpiresAt: t.ExpiresAt})
				return c.show(t, append(fields, field{"token", t.Token})...)
			},
		},
		verb{
			use: "list", short: "List the tokens that are in force", args: cobra.NoArgs, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "ID SUBJECT USE MAKER EXPIRES", func(cursor *string, limit *int) ([]api.Token, string, error) {
					p, err := c.api.ListTokens(c.ctx, &api.ListTokensParams{Cursor: cursor, Limit: limit})
					return p.Tokens, p.NextCursor, err
				}, func(t api.Token) []any { return []any{t.ID, t.Subject, t.Use, t.Maker, t.ExpiresAt} })
			},
		},
		verb{
			use: "show ID", short: "Show a token, but for its text", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				t, err := c.api.GetToken(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				if err := c.show(t, tokenFields(t)...); err != nil || c.json || t.Policy == nil {
					return err
				}
				return c.done("%s", indented(*t.Policy))
			},
		},
		verb{
			use: "delete ID", short: "Revoke a token", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				if err := c.api.RevokeToken(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The token %s is revoked.", c.args[0])
			},
		},
	)
}

func tokenFields(t api.Token) []field {
	return []field{
		{"id", t.ID}, {"subject", t.Subject}, {"use", t.Use}, {"scopes", t.Scopes}, {"maker", t.Maker}, {"issued", t.IssuedAt}, {"expires", t.ExpiresAt},
	}
}

func whoamiCommand() *cobra.Command {
	return verb{
		use: "whoami", short: "Show who the credential belongs to, and where", args: cobra.NoArgs,
		run: func(c *call) error {
			w, err := c.api.Whoami(c.ctx)
			if err != nil {
				return err
			}
			return c.show(w, field{"server", c.api.Server}, field{"tenant", w.Tenant}, field{"kind", w.Kind}, field{"id", w.ID}, field{"name", w.Name},
				field{"role", w.Role}, field{"use", w.Use}, field{"default cache", w.DefaultCache}, field{"expires", w.ExpiresAt})
		},
	}.command()
}
