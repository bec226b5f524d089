package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// threeNodes starts three nodes in three zones, with four partitions and the tenant acme.
func threeNodes(t *testing.T) []*server { return newTrio(t).nodes }

// A trio is three nodes, each of which may be started again.
type trio struct {
	nodes []*server
	dirs  []string
	args  [][]string
}

func newTrio(t *testing.T, more ...string) *trio {
	t.Helper()
	_, endpoint := etcd(t, filepath.Join(t.TempDir(), "etcd"), "127.0.0.1:0")
	certs := filepath.Join(t.TempDir(), "certs")
	if out, err := exec.Command(binary, "cluster", "certs", "--dir", certs, "n1", "n2", "n3").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	dir := t.TempDir()
	c := &trio{nodes: make([]*server, 3)}
	for i := range c.nodes {
		name := fmt.Sprint("n", i+1)
		c.dirs = append(c.dirs, filepath.Join(dir, name))
		c.args = append(c.args, append([]string{"--name", name, "--zone", "z" + name, "--etcd", endpoint, "--partitions", "4", "--peer-addr", "127.0.0.1:0",
			"--peer-ca", filepath.Join(certs, "ca.crt"), "--peer-cert", filepath.Join(certs, name+".crt"), "--peer-key", filepath.Join(certs, name+".key")}, more...))
		c.nodes[i] = serve(t, c.dirs[i], c.args[i]...)
	}
	operator, err := os.ReadFile(filepath.Join(dir, "n1", "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	first := c.nodes[0]
	first.operator = string(operator)
	first.tenant(t, "acme")
	for _, n := range c.nodes {
		n.key, n.operator = first.key, first.operator
	}
	return c
}

// start starts a node again.
func (c *trio) start(t *testing.T, i int) {
	t.Helper()
	was := c.nodes[i]
	c.nodes[i] = serve(t, c.dirs[i], c.args[i]...)
	c.nodes[i].key, c.nodes[i].operator = was.key, was.operator
}

// Three nodes in three zones take every partition of a cluster in hand together. One of them is killed under writes: those
// that were acknowledged are there, and any other node goes on serving.
func TestThreeNodes(t *testing.T) {
	t.Parallel()
	nodes := threeNodes(t)
	first := nodes[0]
	put := func(n *server, key string) int {
		a, err := n.try(http.DefaultClient, http.MethodPut, "/v1/caches/main/kv/"+key, "v")
		if err != nil {
			return 0
		}
		return a.status
	}
	for _, n := range nodes {
		until(t, "it has heard of the cache", func() bool { return put(n, "heard")/100 == 2 })
	}
	for i := range 20 { // while the partitions get their replicas
		if status := put(nodes[i%3], fmt.Sprint("early", i)); status != http.StatusCreated {
			t.Errorf("write %d is answered with %d", i, status)
		}
	}
	until(t, "three replicas of each partition vote", func() bool {
		body := first.asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body
		return strings.Count(body, `"voters":3`) == 4
	})
	id := snapshotsOfACluster(t, nodes)
	first.asOperator(t, http.MethodPost, "/v1/cluster/partitions/0/failover", `{}`).want(t, http.StatusNoContent)
	until(t, "the log tells of it", func() bool {
		return strings.Contains(first.asOperator(t, http.MethodGet, "/v1/cluster/events", "").want(t, http.StatusOK).body, "an operator wants it")
	})
	nodes[0].kill()
	acked := map[string]bool{}
	for i := range 60 {
		key := fmt.Sprint("late", i)
		if put(nodes[1+i%2], key) == http.StatusCreated {
			acked[key] = true
		}
	}
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged after a node was lost")
	}
	for i := range 20 {
		acked[fmt.Sprint("early", i)] = true
	}
	for key := range acked {
		until(t, key+" is there", func() bool {
			a := nodes[2].do(t, http.MethodGet, "/v1/caches/main/kv/"+key, "")
			if a.status == http.StatusNotFound {
				t.Fatalf("%s was acknowledged and is lost", key)
			}
			return a.status == http.StatusOK
		})
	}
	// The node that had begun it is gone; whoever is asked, the snapshot can be restored as long as the node that made it is there.
	until(t, "the snapshot is restored after a node was lost", func() bool {
		a := nodes[2].do(t, http.MethodPost, "/v1/caches/main/snapshots/"+id+"/restore", `{"into":"after"}`)
		return a.status == http.StatusAccepted || a.status == http.StatusConflict
	})
	until(t, "what was restored is there", func() bool {
		return nodes[2].do(t, http.MethodGet, "/v1/caches/after/kv/early7", "").status == http.StatusOK
	})
}

// snapshotsOfACluster makes a snapshot on one node, follows it on another, restores it over a third, and branches; it returns the snapshot's
// id, which the second node has.
func snapshotsOfACluster(t *testing.T, nodes []*server) string {
	const all = "/v1/caches/main/snapshots"
	id := ""
	until(t, "a snapshot is begun", func() bool { // a moment ago replicas were still taking their data over
		a := nodes[1].do(t, http.MethodPost, all, `{}`)
		if a.status != http.StatusAccepted {
			return false
		}
		id = a.get(t, "id").(string)
		return true
	})
	says := func(n *server, path, state string) {
		until(t, path+" is "+state, func() bool {
			a := n.do(t, http.MethodGet, path, "")
			if a.status == http.StatusOK && a.get(t, "state") == "failed" {
				t.Fatal(a.body)
			}
			return a.status == http.StatusOK && a.get(t, "state") == state
		})
	}
	says(nodes[0], all+"/"+id, "available")
	nodes[2].do(t, http.MethodGet, all+"/"+id, "").want(t, http.StatusOK).says(t, "keys", "21")
	nodes[0].do(t, http.MethodPut, "/v1/caches/main/kv/late", "v").want(t, http.StatusCreated)
	nodes[2].do(t, http.MethodPost, all+"/"+id+"/restore", `{"into":"copy"}`).want(t, http.StatusAccepted)
	says(nodes[0], "/v1/caches/copy/restoration", "done")
	nodes[1].do(t, http.MethodPost, "/v1/caches/main/branches", `{"name":"twig"}`).want(t, http.StatusAccepted)
	says(nodes[2], "/v1/caches/twig/restoration", "done")
	for path, status := range map[string]int{"copy/kv/early7": 200, "copy/kv/late": 404, "twig/kv/early7": 200, "twig/kv/late": 200} {
		for _, n := range nodes {
			until(t, path+" is known", func() bool { return n.do(t, http.MethodGet, "/v1/caches/"+path, "").status == status })
		}
	}
	file := nodes[0].do(t, http.MethodGet, all+"/"+id+"/download", "").want(t, http.StatusOK)
	if len(file.body) < 100 || file.body[:4] != "LARD" {
		t.Errorf("%d bytes from another node's directory", len(file.body))
	}
	return id
}
