package httpapi

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// These routes are the operators', as those of tenants are. What changes the cluster changes what is wanted, a record in
// etcd; the nodes follow it, and the log of events says what was done and why.
func (a *API) clusterRoutes() []route {
	const node, partition = "/v1/cluster/nodes/:node", "/v1/cluster/partitions/:partition"
	return []route{
		{method: http.MethodGet, path: "/v1/cluster", manage: true, serve: (*exchange).describeCluster},
		{method: http.MethodGet, path: "/v1/cluster/events", manage: true, serve: (*exchange).listEvents},
		{method: http.MethodPost, path: node + "/drain", manage: true, serve: (*exchange).drainNode},
		{method: http.MethodDelete, path: node + "/drain", manage: true, serve: (*exchange).undrainNode},
		{method: http.MethodDelete, path: node, manage: true, serve: (*exchange).forgetNode},
		{method: http.MethodPost, path: partition + "/move", manage: true, serve: (*exchange).movePartition},
		{method: http.MethodPost, path: partition + "/failover", manage: true, serve: (*exchange).failoverPartition},
		{method: http.MethodPost, path: partition + "/abandon", manage: true, serve: (*exchange).abandonPartition},
	}
}

// Cluster is an installation as its operators see it.
type Cluster struct {
	ID         string      `json:"id" example:"6f1d3c0b9a8e4f5d8c7b6a5f4e3d2c1b"`
	CreatedAt  string      `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
	Version    string      `json:"version" example:"v1.0.0"` // of the node that answers
	Nodes      []Node      `json:"nodes"`
	Partitions []Partition `json:"partitions"`
}

// Node is a process of the cluster.
type Node struct {
	Name      string   `json:"name" example:"node-1"`
	Zone      string   `json:"zone" example:"zone-1"`
	State     string   `json:"state" enums:"up,draining,gone" example:"up"` // gone: it is remembered until it is back or forgotten
	Roles     []string `json:"roles" example:"gateway,engine"`
	Version   string   `json:"version" example:"v1.0.0"`
	HTTP      string   `json:"http" example:"https://10.0.0.4:8080"`
	StartedAt *string  `json:"started_at" example:"2026-11-23T16:10:00.000Z"` // null while it is gone
}

// Partition is one unit of replication.
type Partition struct {
	ID         int      `json:"id" minimum:"0" example:"0"`
	Replicas   []string `json:"replicas" example:"node-1"`                                // names of nodes; the first should lead
	Leader     string   `json:"leader" example:"node-1"`                                  // who leads, as it said last; empty until one has
	Voters     int      `json:"voters" minimum:"0" example:"3"`                           // replicas that vote and whose nodes are there; fewer than replicas while one is lost, or not up to date yet
	Durability string   `json:"durability" enums:"memory,async,durable" example:"memory"` // of which class the caches are that lie on it
	Generation int      `json:"generation" minimum:"0" example:"1"`                       // grows when the partition began anew: without its data, or an async one with what was left on a disk
	Bytes      int64    `json:"bytes" minimum:"0" example:"1048576"`                      // of data, about
}

// readsCluster checks the right to see all of the cluster.
func (x *exchange) readsCluster() error {
	for _, kind := range []string{"node", "partition"} {
		if err := x.operates(policy.AdminReadCluster, kind, "*"); err != nil {
			return err
		}
	}
	return nil
}

// describeCluster serves GET /v1/cluster.
//
// @Summary     Describe the cluster
// @Tags        cluster
// @Success     200 {object} Cluster
// @Failure     default {object} Problem
// @Router      /v1/cluster [get]
func (x *exchange) describeCluster() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.readsCluster(); err != nil {
		return err
	}
	place := x.api.Place
	answer := Cluster{ID: place.Cluster.ID, CreatedAt: showTime(place.Cluster.CreatedAt), Version: x.api.Version, Nodes: showNodes(place)}
	for _, p := range place.Partitions() { // without its seed, which is a secret
		status, _ := place.Status(p.ID)
		answer.Partitions = append(answer.Partitions, Partition{int(p.ID), p.Names(), status.Leader, place.Voting(p), p.Class(), int(p.Generation), status.Bytes})
	}
	return x.json(http.StatusOK, answer)
}

// showNodes lists the nodes that are there and, after them, those that should be.
func showNodes(place *placement.Map) (shown []Node) {
	there := place.Nodes()
	members := place.Members()
	for _, n := range there {
		started, state := showTime(n.StartedAt), "up"
		if slices.ContainsFunc(members, func(m *placement.Member) bool { return m.Name == n.Name && m.Draining }) {
			state = "draining"
		}
		shown = append(shown, Node{n.Name, n.Zone, state, n.Roles, n.Version, n.HTTP, &started})
	}
	for _, m := range members {
		if !slices.ContainsFunc(there, func(n *placement.Node) bool { return n.Name == m.Name }) {
			shown = append(shown, Node{Name: m.Name, Zone: m.Zone, State: "gone", Roles: []string{}})
		}
	}
	return shown
}

// EventList is the newest part of the cluster's log, the newest first.
type EventList struct {
	Events []Event `json:"events"`
}

// Event is something that happened to the cluster, or was done to it.
type Event struct {
	At        string `json:"at" example:"2026-11-27T08:15:00.000Z"`
	By        string `json:"by" example:"node-1"` // the node that noted it
	Partition *int   `json:"partition" minimum:"0" example:"3"`
	Node      string `json:"node,omitempty" example:"node-2"`
	What      string `json:"what" example:"moves a replica from node-2 to node-4: its node is drained"`
}

// listEvents serves GET /v1/cluster/events.
//
// @Summary     List what happened to the cluster
// @Description The newest first. The log keeps the last 500, about.
// @Tags        cluster
// @Param       limit query int false "how many are wanted" minimum(1) maximum(1000) default(100)
// @Success     200 {object} EventList
// @Failure     default {object} Problem
// @Router      /v1/cluster/events [get]
func (x *exchange) listEvents() error {
	q := x.query()
	limit := int(q.limit())
	if err := q.end(); err != nil {
		return err
	}
	if err := x.readsCluster(); err != nil {
		return err
	}
	all := x.api.Place.Events()
	list := EventList{Events: make([]Event, 0, min(limit, len(all)))}
	for _, e := range all[:min(limit, len(all))] {
		shown := Event{At: showTime(e.At), By: e.By, Node: e.Node, What: e.What}
		if e.Partition != nil {
			id := int(*e.Partition)
			shown.Partition = &id
		}
		list.Events = append(list.Events, shown)
	}
	return x.json(http.StatusOK, list)
}

// drainNode serves POST /v1/cluster/nodes/:node/drain.
//
// @Summary     Drain a node
// @Description Its replicas move to other nodes, and it gets no more; GET /v1/cluster shows how far that is. Where the other
// @Description nodes are too few for the replicas that are wanted, its replicas stay.
// @Tags        cluster
// @Success     204 "it is drained from now on"
// @Failure     default {object} Problem
// @Router      /v1/cluster/nodes/{node}/drain [post]
func (x *exchange) drainNode() error { return x.drain(true) }

// undrainNode serves DELETE /v1/cluster/nodes/:node/drain.
//
// @Summary     End the draining of a node
// @Description It may have replicas again.
// @Tags        cluster
// @Success     204 "it is drained no more"
// @Failure     default {object} Problem
// @Router      /v1/cluster/nodes/{node}/drain [delete]
func (x *exchange) undrainNode() error { return x.drain(false) }

func (x *exchange) drain(on bool) error {
	node, err := x.node(policy.AdminDrainNode)
	if err != nil {
		return err
	}
	if err := x.api.Place.Drain(x.Request().Context(), node, on); err != nil {
		return err
	}
	return x.noContent()
}

// forgetNode serves DELETE /v1/cluster/nodes/:node.
//
// @Summary     Forget a node that is gone for good
// @Description Once it has no replica.
// @Tags        cluster
// @Success     204 "it is forgotten"
// @Failure     default {object} Problem
// @Router      /v1/cluster/nodes/{node} [delete]
func (x *exchange) forgetNode() error {
	node, err := x.node(policy.AdminDrainNode)
	if err != nil {
		return err
	}
	if err := x.api.Place.Forget(x.Request().Context(), node); err != nil {
		return err
	}
	return x.noContent()
}

// node is the path's, if the caller may do this to it.
func (x *exchange) node(action policy.Action) (string, error) {
	name, err := x.plain("node")
	if err != nil {
		return "", err
	}
	return name, x.operates(action, "node", name)
}

// partition is the path's, if the caller may do this to it.
func (x *exchange) partition(action policy.Action) (placement.PartitionID, error) {
	text, err := x.named("partition")
	if err != nil {
		return 0, err
	}
	if err := x.operates(action, "partition", text); err != nil {
		return 0, err
	}
	id, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0, fault.About(fault.NotFound, "cluster", "partition", "no partition %.64q", text)
	}
	return placement.PartitionID(id), nil
}

// MovePartitionRequest says which replica goes where.
type MovePartitionRequest struct {
	From string `json:"from" maxLength:"63" example:"node-1"`
	To   string `json:"to" maxLength:"63" example:"node-2"`
}

// movePartition serves POST /v1/cluster/partitions/:partition/move.
//
// @Summary     Move a replica of a partition to another node
// @Description The replica on from votes until that on to has caught up. The controller may move replicas again for balance.
// @Tags        cluster
// @Param       request body MovePartitionRequest true "from where, to where"
// @Success     204 "it moves from now on"
// @Failure     default {object} Problem
// @Router      /v1/cluster/partitions/{partition}/move [post]
func (x *exchange) movePartition() error {
	var req MovePartitionRequest
	if err := x.read(&req); err != nil {
		return err
	}
	id, err := x.partition(policy.AdminMovePartition)
	if err != nil {
		return err
	}
	if err := needNode("from", req.From); err != nil {
		return err
	}
	if err := needNode("to", req.To); err != nil {
		return err
	}
	if err := x.api.Place.Move(x.Request().Context(), id, req.From, req.To); err != nil {
		return err
	}
	return x.noContent()
}

// needNode refuses an empty name of a node.
func needNode(argument, name string) error {
	if name == "" {
		return fault.About(fault.InvalidArgument, "cluster", argument, "the name of a node is needed")
	}
	return nil
}

// FailoverPartitionRequest says who is to lead.
type FailoverPartitionRequest struct {
	To string `json:"to,omitempty" maxLength:"63" example:"node-1"` // empty: the next replica whose node is there
}

// failoverPartition serves POST /v1/cluster/partitions/:partition/failover.
//
// @Summary     Have another replica lead a partition
// @Description The leader hands over. A leader that is lost needs nobody's help: the others elect one. The controller may
// @Description have another lead again for balance.
// @Tags        cluster
// @Param       request body FailoverPartitionRequest true "who is to lead"
// @Success     204 "it is to lead from now on"
// @Failure     default {object} Problem
// @Router      /v1/cluster/partitions/{partition}/failover [post]
func (x *exchange) failoverPartition() error {
	var req FailoverPartitionRequest
	if err := x.read(&req); err != nil {
		return err
	}
	id, err := x.partition(policy.AdminFailoverPartition)
	if err != nil {
		return err
	}
	if err := x.api.Place.Prefer(x.Request().Context(), id, req.To); err != nil {
		return err
	}
	return x.noContent()
}

// AbandonPartitionRequest says where a partition begins anew.
type AbandonPartitionRequest struct {
	To string `json:"to" maxLength:"63" example:"node-1"`
}

// abandonPartition serves POST /v1/cluster/partitions/:partition/abandon.
//
// @Summary     Give up the data of a partition that has lost its quorum
// @Description The partition begins anew, empty. It is refused while a quorum of its replicas is there.
// @Tags        cluster
// @Param       request body AbandonPartitionRequest true "where it begins anew"
// @Success     204 "it begins anew"
// @Failure     default {object} Problem
// @Router      /v1/cluster/partitions/{partition}/abandon [post]
func (x *exchange) abandonPartition() error {
	var req AbandonPartitionRequest
	if err := x.read(&req); err != nil {
		return err
	}
	id, err := x.partition(policy.AdminFailoverPartition)
	if err != nil {
		return err
	}
	if err := needNode("to", req.To); err != nil {
		return err
	}
	if err := x.api.Place.Abandon(x.Request().Context(), id, req.To); err != nil {
		return err
	}
	return x.noContent()
}
