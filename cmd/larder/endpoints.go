package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/sdk/api"
)

func endpointCommand() *cobra.Command {
	var page paging
	var key string
	var port int64
	var serverName, secure bool
	var networks []string
	show := func(c *call, e api.Endpoint) error {
		return c.show(e, field{"id", e.ID}, field{"cache", e.Cache}, field{"key", e.Key},
			field{"networks", e.Networks}, field{"TLS", yes(e.TLS)}, field{"problem", e.Problem}, field{"created", e.CreatedAt}, field{"created by", e.CreatedBy})
	}
	return verbs("endpoint", "Endpoints: doors to a cache for memcached clients that cannot log in",
		verb{
			use: "create CACHE", short: "Make an endpoint: a port, or a TLS server name, that implies a key", args: cobra.ExactArgs(1),
			example: "  larder endpoint create main --key 4kQ0c1mZx7Rb --network 10.1.0.0/16",
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&key, "key", "", "id of the key that whoever connects is taken for (needed)")
				f.Int64Var(&port, "port", 0, "port, of those that the installation has for endpoints; any that is free when left out")
				f.BoolVar(&serverName, "server-name", false, "a TLS server name on the port that all share, instead of a port")
				f.StringSliceVar(&networks, "network", nil, "from where it may be used (CIDR); when left out from the node itself, or, by server name, from everywhere")
				f.BoolVar(&secure, "tls", false, "nobody gets in without TLS")
			},
			run: func(c *call) error {
				if key == "" {
					return misuse("--key is needed")
				}
				e, err := c.api.CreateEndpoint(c.ctx, c.args[0], api.CreateEndpointRequest{
					Key: key, Port: given(c, "port", port), ServerName: given(c, "server-name", serverName), Networks: networks, TLS: given(c, "tls", secure),
				})
				if err != nil {
					return err
				}
				return show(c, e)
			},
		},
		verb{
			use: "list CACHE", short: "List a cache's endpoints", args: cobra.ExactArgs(1), flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "ID KEY NETWORKS TLS PROBLEM", func(cursor *string, limit *int) ([]api.Endpoint, string, error) {
					p, err := c.api.ListEndpoints(c.ctx, c.args[0], &api.ListEndpointsParams{Cursor: cursor, Limit: limit})
					return p.Endpoints, p.NextCursor, err
				}, func(e api.Endpoint) []any { return []any{e.ID, e.Key, e.Networks, yes(e.TLS), e.Problem} })
			},
		},
		verb{
			use: "show CACHE ENDPOINT", short: "Show an endpoint", args: cobra.ExactArgs(2),
			run: func(c *call) error {
				e, err := c.api.GetEndpoint(c.ctx, c.args[0], c.args[1])
				if err != nil {
					return err
				}
				return show(c, e)
			},
		},
		verb{
			use: "delete CACHE ENDPOINT", short: "Revoke an endpoint: its port is closed and its connections are cut", args: cobra.ExactArgs(2),
			run: func(c *call) error {
				if err := c.api.DeleteEndpoint(c.ctx, c.args[0], c.args[1]); err != nil {
					return err
				}
				return c.done("The endpoint %s is revoked.", c.args[1])
			},
		},
	)
}
