package redisapi

import (
	"bytes"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"CLUSTER": noSubcommand, "CLUSTER|SLOTS": clusterSlots, "CLUSTER|SHARDS": clusterShards, "CLUSTER|NODES": clusterNodes, "CLUSTER|INFO": clusterInfo,
		"CLUSTER|MYID": clusterID, "CLUSTER|MYSHARDID": clusterID, "CLUSTER|KEYSLOT": clusterKeySlot,
		"CLUSTER|COUNTKEYSINSLOT": clusterCountKeys, "CLUSTER|GETKEYSINSLOT": clusterGetKeys,
		"CLUSTER|LINKS": func(s *Session, _ *engine.Command, _ [][]byte) { s.out.Array(0) },
		"CLUSTER|HELP": help("CLUSTER",
			"COUNTKEYSINSLOT <slot>", "Return the number of keys in <slot>.",
			"GETKEYSINSLOT <slot> <count>", "Return key names stored by current node in a slot.",
			"INFO", "Return information about the cluster.",
			"KEYSLOT <key>", "Return the hash slot for <key>.",
			"LINKS", "Return information about all network links between this node and its peers.",
			"MYID", "Return the node id.",
			"MYSHARDID", "Return the node's shard id.",
			"NODES", "Return cluster configuration as seen by node.",
			"SHARDS", "Return information about slot range mappings and the nodes associated with them.",
			"SLOTS", "Return information about slots range mappings.",
		),
		"ROLE": role, "WAIT": wait, "WAITAOF": waitAOF, "MODULE": module,
		"LASTSAVE": func(s *Session, _ *engine.Command, _ [][]byte) { s.out.Int(s.state.began.Unix()) },
	})
	for _, name := range strings.Fields("ADDSLOTS ADDSLOTSRANGE BUMPEPOCH DELSLOTS DELSLOTSRANGE FAILOVER FLUSHSLOTS FORGET MEET REPLICATE RESET SAVECONFIG SET-CONFIG-EPOCH SETSLOT") {
		handlers["CLUSTER|"+name] = refuse("where data lives is the service's business")
	}
	for _, name := range strings.Fields("SAVE BGSAVE BGREWRITEAOF") {
		handlers[name] = refuse("snapshots are made by the service, over the HTTP API")
	}
	for _, name := range strings.Fields("DEBUG SHUTDOWN FAILOVER REPLICAOF SLAVEOF SYNC MIGRATE") {
		handlers[name] = refuse("the server and its replicas are the service's business")
	}
}

// refuse answers a command that a managed cache does not offer.
func refuse(why string) handler {
	return func(s *Session, cmd *engine.Command, _ [][]byte) {
		s.out.ErrorText("ERR " + strings.ReplaceAll(cmd.Name, "|", " ") + " is not offered by a managed cache: " + why)
	}
}

// To a client in cluster mode, a cache is one shard with one node: the address that the client connected to.

// endpoint is that address.
func (s *Session) endpoint() (host string, port int64) {
	host, text, err := net.SplitHostPort(s.local)
	if err != nil {
		return "", 0 // there is no socket
	}
	port, _ = strconv.ParseInt(text, 10, 64) // it is a number
	return host, port
}

func clusterSlots(s *Session, _ *engine.Command, _ [][]byte) {
	host, port := s.endpoint()
	s.out.Array(1)
	s.out.Array(3)
	s.out.Int(0)
	s.out.Int(gateway.Slots - 1)
	s.out.Array(4)
	s.out.Text(host)
	s.out.Int(port)
	s.out.Text(s.state.runID())
	s.out.Array(0)
}

func clusterShards(s *Session, _ *engine.Command, _ [][]byte) {
	host, port := s.endpoint()
	s.out.Array(1)
	s.out.Map(2)
	s.out.Text("slots")
	s.out.Array(2)
	s.out.Int(0)
	s.out.Int(gateway.Slots - 1)
	s.out.Text("nodes")
	s.out.Array(1)
	s.out.Map(7)
	s.out.Text("id")
	s.out.Text(s.state.runID())
	if s.caller.Secure {
		s.out.Text("tls-port")
	} else {
		s.out.Text("port")
	}
	s.out.Int(port)
	s.out.Text("ip")
	s.out.Text(host)
	s.out.Text("endpoint")
	s.out.Text(host)
	s.out.Text("role")
	s.out.Text("master")
	s.out.Text("replication-offset")
	s.out.Int(0)
	s.out.Text("health")
	s.out.Text("online")
}

func clusterNodes(s *Session, _ *engine.Command, _ [][]byte) {
	host, port := s.endpoint()
	s.out.Prose(s.state.runID() + " " + net.JoinHostPort(host, strconv.FormatInt(port, 10)) + "@0 myself,master - 0 0 1 connected 0-" + strconv.Itoa(gateway.Slots-1) + "\n")
}

func clusterInfo(s *Session, _ *engine.Command, _ [][]byte) {
	slots := strconv.Itoa(gateway.Slots)
	s.out.Prose(strings.Join([]string{
		"cluster_state:ok", "cluster_slots_assigned:" + slots, "cluster_slots_ok:" + slots, "cluster_slots_pfail:0", "cluster_slots_fail:0", "cluster_known_nodes:1",
		"cluster_size:1", "cluster_current_epoch:1", "cluster_my_epoch:1", "cluster_stats_messages_sent:0", "cluster_stats_messages_received:0",
		"total_cluster_links_buffer_limit_exceeded:0", "",
	}, "\r\n"))
}

func clusterID(s *Session, _ *engine.Command, _ [][]byte) { s.out.Text(s.state.runID()) }

func clusterKeySlot(s *Session, _ *engine.Command, args [][]byte) {
	s.out.Int(int64(gateway.Slot(args[2])))
}

// maxSlotScan is how many keys are looked at for those of one slot: a cache does not keep them by slot.
const maxSlotScan = 100_000

var (
	scanCommand = engine.MustLookup("SCAN")
	sizeCommand = engine.MustLookup("DBSIZE")
)

// ask carries out a command for a handler, whose answer stays with it.
func (s *Session) ask(cmd *engine.Command, args ...string) (engine.Cursor, error) {
	call := engine.Call{Command: cmd, Args: [][]byte{cmd.NameArg()}}
	for _, a := range args {
		call.Args = append(call.Args, []byte(a))
	}
	s.record.Reset()
	r := s.newRequest([]engine.Call{call})
	r.Reply = &s.record
	if err := s.do(r); err != nil {
		return engine.Cursor{}, err
	}
	return s.record.Cursor(), nil
}

// inSlot lists keys of a slot, at most so many.
func (s *Session) inSlot(slot, atMost int) (keys [][]byte, err error) {
	size, err := s.ask(sizeCommand)
	if err != nil {
		return nil, err
	}
	if n := size.Next(); n.Err != nil {
		return nil, n.Err
	} else if n.Int > maxSlotScan {
		return nil, fault.New(fault.NotSupported, "cluster", "a cache does not keep its keys by slot: in a database of more than %d keys they are not looked for", maxSlotScan)
	}
	for cursor := "0"; ; {
		c, err := s.ask(scanCommand, cursor, "COUNT", "1000")
		if err != nil {
			return nil, err
		}
		if t := c.Next(); t.Err != nil {
			return nil, t.Err
		}
		cursor = string(c.Next().Bytes)
		for range c.Next().Int {
			if key := c.Next().Bytes; gateway.Slot(key) == slot && len(keys) < atMost {
				keys = append(keys, bytes.Clone(key))
			}
		}
		if cursor == "0" {
			slices.SortFunc(keys, bytes.Compare)
			return slices.CompactFunc(keys, bytes.Equal), nil
		}
	}
}

// slot reads the number of a slot.
func (s *Session) slot(arg []byte) (int, bool) {
	n, err := strconv.Atoi(string(arg))
	switch {
	case err != nil:
		s.out.ErrorText(notInteger)
	case n < 0 || n >= gateway.Slots:
		s.out.ErrorText("ERR Invalid slot")
	default:
		return n, true
	}
	return 0, false
}

func clusterCountKeys(s *Session, _ *engine.Command, args [][]byte) {
	slot, ok := s.slot(args[2])
	if !ok {
		return
	}
	keys, err := s.inSlot(slot, maxSlotScan)
	if err != nil {
		s.out.Error(fault.From(err))
		return
	}
	s.out.Int(int64(len(keys)))
}

func clusterGetKeys(s *Session, _ *engine.Command, args [][]byte) {
	slot, ok := s.slot(args[2])
	if !ok {
		return
	}
	n, err := strconv.Atoi(string(args[3]))
	if err != nil || n < 0 {
		s.out.ErrorText("ERR Invalid number of keys")
		return
	}
	keys, err := s.inSlot(slot, n)
	if err != nil {
		s.out.Error(fault.From(err))
		return
	}
	s.out.Array(len(keys))
	for _, k := range keys {
		s.out.Bulk(k)
	}
}

func role(s *Session, _ *engine.Command, _ [][]byte) {
	s.out.Array(3)
	list := replicas(s.server.living(s.state))
	s.out.Text("master")
	s.out.Int(0)
	s.out.Array(len(list))
	for _, r := range list {
		s.out.Array(3)
		s.out.Text(r.host)
		s.out.Text(r.port)
		s.out.Text(strconv.FormatInt(r.acked.Load(), 10))
	}
}

// modules are the modules of Redis whose commands are there, with the versions whose commands they are. Programs look for them before
// they use these.
var modules = []struct {
	name    string
	version int64
}{{"ReJSON", 20800}, {"bf", 20800}}

// listModules writes the modules as MODULE LIST does.
func (s *Session) listModules() {
	s.out.Array(len(modules))
	for _, m := range modules {
		s.out.Map(4)
		s.out.Text("name")
		s.out.Text(m.name)
		s.out.Text("ver")
		s.out.Int(m.version)
		s.out.Text("path")
		s.out.Text("")
		s.out.Text("args")
		s.out.Array(0)
	}
}

// module serves MODULE, of which LIST has an answer.
func module(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args) == 2 && equalFold(args[1], "LIST") {
		s.listModules()
		return
	}
	refuse("commands are the service's business")(s, cmd, args)
}

// acknowledged is how many replicas beside the leader have what this client has written, and whether it is on the leader's disk. A
// write is answered when a majority has it, so what came before is known at once, and waiting brings no more that is sure.
func (s *Session) acknowledged() (replicas int64, synced bool) {
	c := s.server.Gateway.Cache(&s.caller, s.cache)
	if c == nil {
		return 0, false
	}
	if s.server.Copies != nil {
		replicas = int64(s.server.Copies(c))
	}
	return replicas, c.Durability == "durable" // see tenants.Durabilities
}

// wait serves WAIT.
func wait(s *Session, _ *engine.Command, args [][]byte) {
	if s.counts(args[1:]) {
		replicas, _ := s.acknowledged()
		s.out.Int(replicas)
	}
}

// waitAOF serves WAITAOF: of a durable cache, what is acknowledged is on the disks of all that have it.
func waitAOF(s *Session, _ *engine.Command, args [][]byte) {
	if !s.counts(args[1:]) {
		return
	}
	replicas, synced := s.acknowledged()
	local := int64(0)
	if synced {
		local = 1
	} else {
		replicas = 0
	}
	switch n := string(args[1]); {
	case n != "0" && n != "1":
		s.out.ErrorText("ERR value is out of range, value must between 0 and 1")
	case n == "1" && !synced:
		s.out.ErrorText("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
	default:
		s.out.Array(2)
		s.out.Int(local)
		s.out.Int(replicas)
	}
}

// counts checks numbers of replicas, the last being a timeout.
func (s *Session) counts(args [][]byte) bool {
	for i, a := range args {
		n, err := strconv.ParseInt(string(a), 10, 64)
		last := i == len(args)-1
		switch {
		case err != nil && last:
			s.out.ErrorText("ERR timeout is not an integer or out of range")
			return false
		case err != nil:
			s.out.ErrorText(notInteger)
			return false
		case n < 0 && last:
			s.out.ErrorText("ERR timeout is negative")
			return false
		}
	}
	return true
}
