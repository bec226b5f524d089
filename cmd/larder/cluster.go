package main

import "github.com/spf13/cobra"

func clusterCommand() *cobra.Command {
	return group("cluster", "Look after the nodes of a cluster", "", certsCommand())
}
