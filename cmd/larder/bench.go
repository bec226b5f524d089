package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/larder-cache/larder/engine/hitratio"
	"github.com/larder-cache/larder/internal/traces"
)

func benchCommand() *cobra.Command {
	return group("bench", "Measure; needs no server", "Measure. It needs no server.", benchHitRatioCommand())
}

// maxBenchCapacity bounds --capacity: the largest cache that a run on a trace could fill.
const maxBenchCapacity = traces.MaxRequests

func benchHitRatioCommand() *cobra.Command {
	file, format, capacities, policies := "", string(traces.Keys), "", ""
	cmd := &cobra.Command{
		Use:   "hitratio --trace FILE --capacity N[,N…]",
		Short: "Show which share of a trace's requests a cache would answer, by eviction policy",
		Long: trimLines(`
Show which share of a trace's requests a cache would answer, by eviction policy and by how many items the cache has
room for. All items count as equal in size. It needs no server.

The trace is a file, gzipped or not; - is standard input. Its lines are, by --format,

  keys   one key each
  arc    "first count …", as in the traces of the ARC paper: requests of so many blocks with consecutive numbers

The allkeys-… and volatile-… policies run in the engine itself; for the latter every item has a deadline far away.
The others are there to compare: "adaptive" is the default, allkeys-adaptive, without the engine around it; lru,
s3fifo, sieve and arc are as their papers give them; belady knows the future, and no policy can do better.`),
		Example: "  larder bench hitratio --trace oltp.gz --format arc --capacity 250,500,1000\n" +
			"  larder bench hitratio --trace - --capacity 1000 --policy allkeys-adaptive,lru < keys.txt",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&file, "trace", "", "file of requests")
	cmd.Flags().StringVar(&format, "format", format, strings.Join(traces.Formats(), " or "))
	cmd.Flags().StringVar(&capacities, "capacity", "", "numbers of items, separated by commas")
	cmd.Flags().StringVar(&policies, "policy", "", "policies, separated by commas (default all: "+strings.Join(hitratio.Policies(), ", ")+")")
	for _, name := range []string{"trace", "capacity"} {
		_ = cmd.MarkFlagRequired(name) // fails only if there is no such flag
	}
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(traces.Formats(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("policy", cobra.FixedCompletions(hitratio.Policies(), cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		sizes, err := parseCapacities(capacities)
		if err != nil {
			return err
		}
		chosen := hitratio.Policies()
		if policies != "" {
			chosen = strings.Split(policies, ",")
		}
		for i, name := range chosen {
			chosen[i] = strings.TrimSpace(name)
			if !slices.Contains(hitratio.Policies(), chosen[i]) {
				return misuse("--policy: there is no %q; there are %s", chosen[i], strings.Join(hitratio.Policies(), ", "))
			}
		}
		if !slices.Contains(traces.Formats(), format) {
			return misuse("--format %q is not %s", format, strings.Join(traces.Formats(), " or "))
		}
		trace, err := traces.Open(file, cmd.InOrStdin(), traces.Format(format))
		if err != nil {
			return &usageError{err}
		}
		return benchHitRatio(cmd.OutOrStdout(), trace, sizes, chosen)
	}
	return cmd
}

func parseCapacities(list string) (sizes []int, err error) {
	for part := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 || n > maxBenchCapacity {
			return nil, misuse("--capacity: %q is no number of items from 1 to %d", part, maxBenchCapacity)
		}
		sizes = append(sizes, n)
	}
	return sizes, nil
}

// benchHitRatio prints a row for each policy and a column for each capacity.
func benchHitRatio(out io.Writer, trace *traces.Trace, sizes []int, policies []string) error {
	fmt.Fprintf(out, "%d requests of %d keys; hit ratio in per cent by number of items\n\n", len(trace.Requests), trace.Distinct)
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, n := range sizes {
		fmt.Fprintf(table, "\t%d", n)
	}
	fmt.Fprintln(table, "\t")
	for _, policy := range policies {
		fmt.Fprint(table, policy)
		for _, n := range sizes {
			r, err := hitratio.Run(trace, policy, n)
			if err != nil {
				return fmt.Errorf("%s with %d items: %w", policy, n, err)
			}
			fmt.Fprintf(table, "\t%.2f", 100*r.Ratio)
		}
		fmt.Fprintln(table, "\t")
	}
	return table.Flush()
}
