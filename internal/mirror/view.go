package mirror

import (
	"strings"

	"k8s.io/utils/third_party/forked/golang/btree"
)

// A tree holds records by key. Clone takes constant time, and a change after it copies one path, so the
// writer keeps editing its own tree while readers hold earlier clones without any lock. It is the tree that
// etcd itself keeps its index in.
type tree = btree.BTree[*Record]

func newTree() *tree {
	return btree.New(32, func(a, b *Record) bool { return a.Key < b.Key })
}

// A view is the prefix at one revision of one cluster. It never changes.
type view struct {
	cluster  uint64
	revision int64
	records  *tree
}

// list is Mirror.List.
func (v *view) list(prefix, after string, limit int) []Record {
	var out []Record
	v.ascend(prefix, after, func(r *Record) bool {
		out = append(out, *r)
		return limit <= 0 || len(out) < limit
	})
	return out
}

// ascend calls fn in key order with the records that begin with prefix and lie behind after, until fn says
// false. An empty after excludes nothing.
func (v *view) ascend(prefix, after string, fn func(*Record) bool) {
	from := prefix
	if after != "" {
		from = max(from, after+"\x00") // the least key behind after
	}
	v.records.AscendGreaterOrEqual(&Record{Key: from}, func(r *Record) bool {
		return strings.HasPrefix(r.Key, prefix) && fn(r)
	})
}
