package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/sdk/api"
)

func clusterCommand() *cobra.Command {
	var limit int
	var undo, yes bool
	var to string
	cmd := verbs("cluster", "Look after the nodes of a cluster (for operators)",
		verb{
			use: "status", short: "Show how the cluster is", args: cobra.NoArgs, operator: true,
			run: func(c *call) error {
				s, err := c.api.DescribeCluster(c.ctx)
				if err != nil {
					return err
				}
				return c.show(s, clusterFields(s)...)
			},
		},
		verb{
			use: "nodes", short: "List the nodes, with what they hold", args: cobra.NoArgs, operator: true,
			run: func(c *call) error {
				s, err := c.api.DescribeCluster(c.ctx)
				if err != nil {
					return err
				}
				replicas, leads := map[string]int{}, map[string]int{}
				for _, p := range s.Partitions {
					leads[p.Leader]++
					for _, node := range p.Replicas {
						replicas[node]++
					}
				}
				return tabulate(c, "NAME ZONE STATE REPLICAS LEADS VERSION HTTP STARTED", s.Nodes, func(n api.Node) []any {
					return []any{n.Name, n.Zone, n.State, replicas[n.Name], leads[n.Name], n.Version, n.HTTP, n.StartedAt}
				})
			},
		},
		verb{
			use: "partitions", short: "List the partitions, with where their replicas are", args: cobra.NoArgs, operator: true,
			run: func(c *call) error {
				s, err := c.api.DescribeCluster(c.ctx)
				if err != nil {
					return err
				}
				return tabulate(c, "ID DURABILITY LEADER VOTERS REPLICAS SIZE GENERATION", s.Partitions, func(p api.Partition) []any {
					return []any{p.ID, p.Durability, p.Leader, p.Voters, p.Replicas, bytesize(p.Bytes), p.Generation}
				})
			},
		},
		verb{
			use: "events", short: "List what happened to the cluster, the newest first", args: cobra.NoArgs, operator: true,
			flags: func(f *pflag.FlagSet) { f.IntVar(&limit, "limit", 100, "how many are shown, at most 1000") },
			run: func(c *call) error {
				list, err := c.api.ListEvents(c.ctx, &api.ListEventsParams{Limit: &limit})
				if err != nil {
					return err
				}
				return tabulate(c, "AT BY NODE PARTITION WHAT", list.Events, func(e api.Event) []any {
					about := ""
					if e.Partition != nil {
						about = strconv.FormatInt(*e.Partition, 10)
					}
					return []any{e.At, e.By, e.Node, about, e.What}
				})
			},
		},
		verb{
			use: "drain NODE", short: "Have a node's replicas move to others, or end that", args: cobra.ExactArgs(1), operator: true,
			long: `
Have a node's replicas move to other nodes, so that it can be taken away without a loss of safety. "larder cluster nodes" shows
how many it has left. Where the other nodes are too few for the replicas that are wanted, it keeps them.`,
			flags: func(f *pflag.FlagSet) { f.BoolVar(&undo, "undo", false, "the node is drained no more") },
			run: func(c *call) error {
				if undo {
					if err := c.api.UndrainNode(c.ctx, c.args[0]); err != nil {
						return err
					}
					return c.done("The node %s is drained no more.", c.args[0])
				}
				if err := c.api.DrainNode(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The node %s is drained from now on.", c.args[0])
			},
		},
		verb{
			use: "forget NODE", short: "Forget a node that is gone for good and has no replica", args: cobra.ExactArgs(1), operator: true,
			run: func(c *call) error {
				if err := c.api.ForgetNode(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The node %s is forgotten.", c.args[0])
			},
		},
		verb{
			use: "move PARTITION FROM TO", short: "Move a replica of a partition from one node to another", args: cobra.ExactArgs(3), operator: true,
			run: func(c *call) error {
				if err := c.api.MovePartition(c.ctx, c.args[0], api.MovePartitionRequest{From: c.args[1], To: c.args[2]}); err != nil {
					return err
				}
				return c.done("A replica of partition %s moves from %s to %s.", c.args[0], c.args[1], c.args[2])
			},
		},
		verb{
			use: "failover PARTITION", short: "Have another replica lead a partition", args: cobra.ExactArgs(1), operator: true,
			flags: func(f *pflag.FlagSet) {
				f.StringVar(&to, "to", "", "the node that is to lead; the next one if not given")
			},
			run: func(c *call) error {
				if err := c.api.FailoverPartition(c.ctx, c.args[0], api.FailoverPartitionRequest{To: given(c, "to", to)}); err != nil {
					return err
				}
				return c.done("Partition %s is led by another node in a moment.", c.args[0])
			},
		},
		verb{
			use: "abandon PARTITION NODE", short: "Give up the data of a partition that has lost its quorum", args: cobra.ExactArgs(2), operator: true,
			long: `
Give up the data of a partition that has lost its quorum: it begins anew, empty, on NODE. Do so when the nodes that had the
data do not come back. While a quorum of its replicas is there, this is refused.`,
			flags: yesFlag(&yes),
			run: func(c *call) error {
				if err := confirm(c.Command, yes, "Give up all that is in partition %s?", c.args[0]); err != nil {
					return err
				}
				if err := c.api.AbandonPartition(c.ctx, c.args[0], api.AbandonPartitionRequest{To: c.args[1]}); err != nil {
					return err
				}
				return c.done("Partition %s begins anew on %s.", c.args[0], c.args[1])
			},
		},
	)
	cmd.AddCommand(certsCommand(), etcdCommand(), operatorKeyCommand())
	return cmd
}

// clusterFields sums a cluster up.
func clusterFields(s api.Cluster) []field {
	states, zones := map[string]int{}, map[string]bool{}
	for _, n := range s.Nodes {
		states[n.State]++
		if n.State != "gone" {
			zones[n.Zone] = true
		}
	}
	leaderless, lacking, size := 0, 0, int64(0)
	for _, p := range s.Partitions {
		if p.Leader == "" {
			leaderless++
		}
		if p.Voters != int64(len(p.Replicas)) {
			lacking++
		}
		size += p.Bytes
	}
	return []field{
		{"id", s.ID}, {"version", s.Version},
		{"nodes", fmt.Sprintf("%d up, %d draining, %d gone, in %d zones", states["up"], states["draining"], states["gone"], len(zones))},
		{"partitions", fmt.Sprintf("%d, of them %d that lack a replica, %d without a leader", len(s.Partitions), lacking, leaderless)},
		{"size", bytesize(size)},
	}
}

// tabulate prints a list that comes as a whole.
func tabulate[T any](c *call, header string, items []T, row func(T) []any) error {
	if c.json {
		return writeJSON(c.out, items)
	}
	return c.table(true, header, rows(items, row))
}
