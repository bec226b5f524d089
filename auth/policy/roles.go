package policy

import (
	"slices"

	"github.com/go-json-experiment/json"
)

// A Role is a ready-made identity document. Its resource is "*", which is safe because an identity document
// alone never reaches another tenant.
type Role struct {
	Name   string
	About  string // one line for people
	Policy []byte // the document
}

// The names of the ready-made roles.
const (
	RoleOwner     = "owner"
	RoleReadWrite = "read-write"
	RoleReadOnly  = "read-only"
	RoleMetrics   = "metrics"
)

var roles = []Role{
	{RoleOwner, "everything in the tenant: data, caches, snapshots, keys and policies, but nothing of the operator's",
		roleDocument("Owner", "cache:*", "topic:*", "leaderboard:*", "snapshot:*", "iam:*", "kms:*", "audit:*", "metrics:*", "quota:*")},
	{RoleReadWrite, "reads and changes the data of every cache, and lists the caches",
		roleDocument("ReadWrite", actionsOf(reads, writes, CacheListCaches, CacheDescribeCache)...)},
	{RoleReadOnly, "reads the data of every cache, and lists the caches",
		roleDocument("ReadOnly", actionsOf(reads, reads, CacheListCaches, CacheDescribeCache)...)},
	{RoleMetrics, "sees metrics, limits and the list of caches, but no data",
		roleDocument("Metrics", actionsOf(0, 0, MetricsRead, QuotaGet, CacheListCaches, CacheDescribeCache)...)},
}

// Roles lists the ready-made roles.
func Roles() []Role {
	all := slices.Clone(roles)
	for i := range all {
		all[i].Policy = slices.Clone(all[i].Policy)
	}
	return all
}

// actionsOf names the actions of the classes from first to last, and the others given.
func actionsOf(first, last access, others ...Action) []string {
	var names []string
	for a := Action(1); a < actionEnd; a++ {
		if c := actions[a].class; c >= first && c <= last || slices.Contains(others, a) {
			names = append(names, a.String())
		}
	}
	return names
}

// roleDocument is a document of one statement that allows actions on everything.
func roleDocument(sid string, allowed ...string) []byte {
	type rule struct {
		Sid, Effect string
		Action      []string
		Resource    string
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []rule
	}{"2012-10-17", []rule{{sid, "Allow", allowed, "*"}}})
	if err != nil {
		panic(err) // strings always marshal
	}
	return text
}
