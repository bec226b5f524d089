package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// A nemesis does harm to a cluster, and undoes it: no replica is lost while another one of its group is.
type nemesis struct {
	rig   *rig.Rig
	rng   *rand.Rand
	brief bool
}

// A fault begins, and says what it is; heal ends it.
type fault struct {
	name  string
	odds  int  // how often it is picked
	space bool // needs network namespaces
	more  bool // needs a fourth node
	begin func(*nemesis) (what string, heal func() error)
}

var faults = []fault{
	{"kill", 6, false, false, (*nemesis).kill},
	{killsAll, 6, false, false, (*nemesis).killAll},
	{"pause", 6, false, false, (*nemesis).pause},
	{"pause-all", 1, false, false, (*nemesis).pauseAll},
	{"isolate", 4, true, false, (*nemesis).isolate},
	{"one-way", 4, true, false, (*nemesis).oneWay},
	{"ring", 2, true, false, (*nemesis).ring},
	{"flap", 2, true, false, (*nemesis).flap},
	{"slow", 2, true, false, (*nemesis).slow},
	{"lossy", 2, true, false, (*nemesis).lossy},
	{"etcd-kill", 2, false, false, (*nemesis).etcdKill},
	{"etcd-pause", 1, false, false, (*nemesis).etcdPause},
	{"etcd-cut", 2, true, false, (*nemesis).etcdCut},
	{"failover", 3, false, false, (*nemesis).failover},
	{"rolling", 1, false, false, (*nemesis).rolling},
	{"clock", 2, true, false, (*nemesis).clock},
	{"kill-slow", 2, true, false, (*nemesis).killSlow},
	{"kill-pause", 2, false, false, (*nemesis).killPause},
	{"kill-without-etcd", 2, false, false, (*nemesis).killWithoutEtcd},
	{"kill-failover", 2, false, false, (*nemesis).killFailover},
	{"pause-failover", 2, false, false, (*nemesis).pauseFailover},
	{"move", 4, false, true, (*nemesis).move},
	{"drain", 2, false, true, (*nemesis).drain},
	{"kill-move", 3, false, true, (*nemesis).killMove},
	{"scale", 2, false, false, (*nemesis).scale},
	{"kill-scale", 4, false, false, (*nemesis).killScale},
	{"isolate-scale", 2, true, false, (*nemesis).isolateScale},
	{"failover-scale", 2, false, false, (*nemesis).failoverScale},
}

// killsAll is for durable caches alone: what others held is lost.
const killsAll = "kill-all"

// pick chooses a fault that is possible here.
func (n *nemesis) pick(only string) *fault {
	sum := 0
	possible := func(f *fault) bool {
		return (f.name != killsAll || *durability == "durable") && (!f.space || n.rig.Switch != nil) && (!f.more || len(n.rig.Nodes) > 3) && (only == "" || strings.Contains(","+only+",", ","+f.name+","))
	}
	for i := range faults {
		if possible(&faults[i]) {
			sum += faults[i].odds
		}
	}
	if sum == 0 {
		return nil
	}
	at := n.rng.IntN(sum)
	for i := range faults {
		if !possible(&faults[i]) {
			continue
		}
		if at -= faults[i].odds; at < 0 {
			return &faults[i]
		}
	}
	return nil
}

func (n *nemesis) node() *rig.Node { return n.rig.Nodes[n.rng.IntN(len(n.rig.Nodes))] }

// two returns two different nodes.
func (n *nemesis) two() (a, b *rig.Node) {
	p := n.rng.Perm(len(n.rig.Nodes))
	return n.rig.Nodes[p[0]], n.rig.Nodes[p[1]]
}

// some returns a time between two, any power of ten as likely as another.
func (n *nemesis) some(least, most time.Duration) time.Duration {
	if n.brief {
		most = min(most, time.Second)
	}
	d := least
	for d < most && n.rng.IntN(3) > 0 {
		d *= 2
	}
	return min(d/2+time.Duration(n.rng.Int64N(int64(d))), most)
}

// readiness is how long a node may take until it serves.
const readiness = 60 * time.Second

func ready(n *rig.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), readiness)
	defer cancel()
	return n.Ready(ctx)
}

func (n *nemesis) kill() (string, func() error) {
	v := n.node()
	away := n.some(50*time.Millisecond, 4*time.Second)
	v.Kill()
	return fmt.Sprintf("kill -9 %s for %v", v.Name, away), func() error { time.Sleep(away); return v.Again() }
}

// killAll has all nodes die at once, and come back one by one.
func (n *nemesis) killAll() (string, func() error) {
	away := n.some(50*time.Millisecond, 4*time.Second)
	for _, at := range n.rng.Perm(len(n.rig.Nodes)) {
		n.rig.Nodes[at].Signal(syscall.SIGKILL)
	}
	for _, v := range n.rig.Nodes {
		v.Kill()
	}
	return fmt.Sprintf("kill -9 all for %v", away), func() error {
		time.Sleep(away)
		for _, at := range n.rng.Perm(len(n.rig.Nodes)) {
			if err := n.rig.Nodes[at].Again(); err != nil {
				return err
			}
			time.Sleep(time.Duration(n.rng.IntN(1000)) * time.Millisecond)
		}
		return nil
	}
}

func (n *nemesis) pause() (string, func() error) {
	v := n.node()
	away := n.some(100*time.Millisecond, 8*time.Second)
	v.Signal(syscall.SIGSTOP)
	return fmt.Sprintf("SIGSTOP %s for %v", v.Name, away), func() error { time.Sleep(away); v.Signal(syscall.SIGCONT); return nil }
}

func (n *nemesis) pauseAll() (string, func() error) {
	away := n.some(200*time.Millisecond, 4*time.Second)
	for _, v := range n.rig.Nodes {
		v.Signal(syscall.SIGSTOP)
	}
	return fmt.Sprintf("SIGSTOP all for %v", away), func() error {
		time.Sleep(away)
		for _, at := range n.rng.Perm(len(n.rig.Nodes)) {
			n.rig.Nodes[at].Signal(syscall.SIGCONT)
			time.Sleep(time.Duration(n.rng.IntN(300)) * time.Millisecond)
		}
		return nil
	}
}

var cut = rig.Link{Cut: true}

// heal makes all links good after a while.
func (n *nemesis) heal(after time.Duration) func() error {
	return func() error { time.Sleep(after); n.rig.Switch.Heal(); return nil }
}

func (n *nemesis) isolate() (string, func() error) {
	v, away, etcd := n.node(), n.some(300*time.Millisecond, 10*time.Second), n.rng.IntN(2) == 0
	for _, o := range n.rig.Nodes {
		if o != v {
			n.rig.Switch.Set(v.Addr, o.Addr, cut)
			n.rig.Switch.Set(o.Addr, v.Addr, cut)
		}
	}
	if etcd {
		n.rig.Switch.Set(v.Addr, n.rig.EtcdAddr(), cut)
		n.rig.Switch.Set(n.rig.EtcdAddr(), v.Addr, cut)
	}
	return fmt.Sprintf("%s cut off from the others (and from etcd: %v) for %v", v.Name, etcd, away), n.heal(away)
}

func (n *nemesis) oneWay() (string, func() error) {
	v, away, deaf := n.node(), n.some(300*time.Millisecond, 10*time.Second), n.rng.IntN(2) == 0
	for _, o := range n.rig.Nodes {
		if o == v {
			continue
		}
		if deaf {
			n.rig.Switch.Set(o.Addr, v.Addr, cut)
		} else {
			n.rig.Switch.Set(v.Addr, o.Addr, cut)
		}
	}
	return fmt.Sprintf("%s hears nobody (%v) or nobody hears it (%v) for %v", v.Name, deaf, !deaf, away), n.heal(away)
}

func (n *nemesis) ring() (string, func() error) {
	a, b := n.two()
	away := n.some(300*time.Millisecond, 10*time.Second)
	n.rig.Switch.Set(a.Addr, b.Addr, cut)
	n.rig.Switch.Set(b.Addr, a.Addr, cut)
	return fmt.Sprintf("no packets between %s and %s for %v", a.Name, b.Name, away), n.heal(away)
}

func (n *nemesis) flap() (string, func() error) {
	v, times, each := n.node(), 3+n.rng.IntN(5), n.some(100*time.Millisecond, time.Second)
	return fmt.Sprintf("%s cut off %d times for %v", v.Name, times, each), func() error {
		for range times {
			for _, o := range n.rig.Nodes {
				if o != v {
					n.rig.Switch.Set(v.Addr, o.Addr, cut)
					n.rig.Switch.Set(o.Addr, v.Addr, cut)
				}
			}
			time.Sleep(each)
			n.rig.Switch.Heal()
			time.Sleep(each)
		}
		return nil
	}
}

// all sets all links between nodes.
func (n *nemesis) all(l rig.Link) {
	for _, a := range n.rig.Nodes {
		for _, b := range n.rig.Nodes {
			if a != b {
				n.rig.Switch.Set(a.Addr, b.Addr, l)
			}
		}
	}
}

func (n *nemesis) slow() (string, func() error) {
	l := rig.Link{Delay: n.some(5*time.Millisecond, 200*time.Millisecond), Jitter: n.some(time.Millisecond, 300*time.Millisecond)}
	n.all(l)
	away := n.some(time.Second, 6*time.Second)
	return fmt.Sprintf("all links take %v and up to %v more, for %v", l.Delay, l.Jitter, away), n.heal(away)
}

func (n *nemesis) lossy() (string, func() error) {
	l := rig.Link{Delay: n.some(time.Millisecond, 20*time.Millisecond), Jitter: n.some(time.Millisecond, 50*time.Millisecond), Loss: 0.02 + 0.3*n.rng.Float64()}
	n.all(l)
	away := n.some(time.Second, 6*time.Second)
	return fmt.Sprintf("all links lose %.0f %%, and take %v to %v more, for %v", 100*l.Loss, l.Delay, l.Delay+l.Jitter, away), n.heal(away)
}

func (n *nemesis) etcdKill() (string, func() error) {
	away := n.some(500*time.Millisecond, 15*time.Second)
	n.rig.Etcd.Kill()
	return fmt.Sprintf("etcd killed for %v", away), func() error { time.Sleep(away); return n.rig.RestartEtcd() }
}

func (n *nemesis) etcdPause() (string, func() error) {
	away := n.some(500*time.Millisecond, 15*time.Second)
	n.rig.Etcd.Signal(syscall.SIGSTOP)
	return fmt.Sprintf("etcd paused for %v", away), func() error { time.Sleep(away); n.rig.Etcd.Signal(syscall.SIGCONT); return nil }
}

func (n *nemesis) etcdCut() (string, func() error) {
	v, away := n.node(), n.some(500*time.Millisecond, 15*time.Second)
	n.rig.Switch.Set(v.Addr, n.rig.EtcdAddr(), cut)
	if n.rng.IntN(2) == 0 {
		n.rig.Switch.Set(n.rig.EtcdAddr(), v.Addr, cut)
	}
	return fmt.Sprintf("%s cut off from etcd for %v", v.Name, away), n.heal(away)
}

// failover has other replicas lead, as an operator does.
func (n *nemesis) failover() (string, func() error) {
	v, err := n.rig.View()
	if err != nil {
		return "failover: " + err.Error(), nil
	}
	times := 1 + n.rng.IntN(6)
	for range times {
		p := v.Partitions[n.rng.IntN(len(v.Partitions))]
		_, _ = n.rig.Operate(http.MethodPost, fmt.Sprintf("/v1/cluster/partitions/%d/failover", p.ID), "{}") // refused at times
		time.Sleep(n.some(50*time.Millisecond, time.Second))
	}
	return fmt.Sprintf("%d times another replica leads", times), nil
}

func (n *nemesis) rolling() (string, func() error) {
	return "each node is stopped and started", func() error {
		for _, v := range n.rig.Nodes {
			if err := restart(n.rig, v); err != nil {
				return err
			}
		}
		return nil
	}
}

// restart stops a node in good order, starts it, and waits until nothing is missing.
func restart(r *rig.Rig, v *rig.Node) error {
	if err := v.Stop(time.Minute); err != nil {
		return fmt.Errorf("%s: %w", v.Name, err)
	}
	if err := v.Again(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), readiness)
	defer cancel()
	return r.Healthy(ctx)
}

// clock restarts a node with other monotonic and boot clocks than the machine's. The time of day cannot be set for one
// process alone.
func (n *nemesis) clock() (string, func() error) {
	v := n.node()
	shift := n.rng.IntN(1_000_000)
	v.Kill()
	return fmt.Sprintf("%s comes back in a time namespace that is %d s on", v.Name, shift), func() error {
		return v.Again("unshare", "-T", "--monotonic", fmt.Sprint(shift), "--boottime", fmt.Sprint(shift/2))
	}
}

func (n *nemesis) killSlow() (string, func() error) {
	a, b := n.two()
	l := rig.Link{Delay: n.some(5*time.Millisecond, 100*time.Millisecond), Loss: 0.05}
	for _, o := range n.rig.Nodes {
		if o != b {
			n.rig.Switch.Set(b.Addr, o.Addr, l)
			n.rig.Switch.Set(o.Addr, b.Addr, l)
		}
	}
	time.Sleep(n.some(100*time.Millisecond, time.Second))
	a.Kill()
	return fmt.Sprintf("kill -9 %s while the links of %s take %v", a.Name, b.Name, l.Delay), func() error {
		time.Sleep(n.some(100*time.Millisecond, 4*time.Second))
		err := a.Again()
		time.Sleep(n.some(100*time.Millisecond, 4*time.Second))
		n.rig.Switch.Heal()
		return err
	}
}

func (n *nemesis) killPause() (string, func() error) {
	a, b := n.two()
	b.Signal(syscall.SIGSTOP)
	time.Sleep(n.some(50*time.Millisecond, time.Second))
	a.Kill()
	return fmt.Sprintf("kill -9 %s while %s is stopped", a.Name, b.Name), func() error {
		time.Sleep(n.some(50*time.Millisecond, 2*time.Second))
		err := a.Again()
		time.Sleep(n.some(50*time.Millisecond, 2*time.Second))
		b.Signal(syscall.SIGCONT)
		return err
	}
}

func (n *nemesis) killWithoutEtcd() (string, func() error) {
	v := n.node()
	n.rig.Etcd.Kill()
	time.Sleep(n.some(100*time.Millisecond, 4*time.Second))
	v.Kill()
	return fmt.Sprintf("kill -9 %s while etcd is down", v.Name), func() error {
		time.Sleep(n.some(100*time.Millisecond, time.Second))
		err := v.Again()
		time.Sleep(n.some(time.Second, 12*time.Second))
		if err != nil {
			return err
		}
		return n.rig.RestartEtcd()
	}
}

func (n *nemesis) killFailover() (string, func() error) {
	v := n.node()
	what, _ := n.failover()
	v.Kill()
	return what + ", and kill -9 " + v.Name, func() error { time.Sleep(n.some(50*time.Millisecond, 2*time.Second)); return v.Again() }
}

func (n *nemesis) pauseFailover() (string, func() error) {
	v := n.node()
	what, _ := n.failover()
	v.Signal(syscall.SIGSTOP)
	return what + ", and SIGSTOP " + v.Name, func() error {
		time.Sleep(n.some(100*time.Millisecond, 4*time.Second))
		v.Signal(syscall.SIGCONT)
		return nil
	}
}

// move has replicas of some partitions go to a node that has none.
func (n *nemesis) move() (string, func() error) {
	v, err := n.rig.View()
	if err != nil {
		return "move: " + err.Error(), nil
	}
	moved := 0
	for range 1 + n.rng.IntN(3) {
		p := v.Partitions[n.rng.IntN(len(v.Partitions))]
		from, to := p.Replicas[n.rng.IntN(len(p.Replicas))], ""
		for _, o := range n.rig.Nodes {
			if !strings.Contains(" "+strings.Join(p.Replicas, " ")+" ", " "+o.Name+" ") {
				to = o.Name
			}
		}
		if _, err := n.rig.Operate(http.MethodPost, fmt.Sprintf("/v1/cluster/partitions/%d/move", p.ID), fmt.Sprintf(`{"from":%q,"to":%q}`, from, to)); err == nil {
			moved++
		}
		time.Sleep(n.some(50*time.Millisecond, time.Second))
	}
	return fmt.Sprintf("%d replicas move", moved), nil
}

func (n *nemesis) drain() (string, func() error) {
	v := n.node()
	path := "/v1/cluster/nodes/" + v.Name + "/drain"
	_, err := n.rig.Operate(http.MethodPost, path, "")
	return fmt.Sprintf("%s is drained (%v)", v.Name, err), func() error {
		time.Sleep(n.some(time.Second, 8*time.Second))
		_, err := n.rig.Operate(http.MethodDelete, path, "")
		return err
	}
}

func (n *nemesis) killMove() (string, func() error) {
	what, _ := n.move()
	killed, heal := n.kill()
	return what + ", and " + killed, heal
}

// scale gives a cache another number of ranges. It is healed when the cache has them: whatever happens meanwhile, a movement comes
// to its end.
func (n *nemesis) scale() (string, func() error) {
	cache, ranges := 1+n.rng.IntN(*caches), 1+n.rng.IntN(*partitions)
	path := fmt.Sprintf("/v1/caches/c%d", cache)
	what := fmt.Sprintf("c%d gets %d ranges", cache, ranges)
	if _, err := n.rig.Own(http.MethodPost, path+"/scale", fmt.Sprintf(`{"ranges":%d}`, ranges)); err != nil {
		return what + ": " + err.Error(), nil
	}
	return what, func() error {
		last := ""
		for end := time.Now().Add(*recovery); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
			text, err := n.rig.Own(http.MethodGet, path, "")
			if last = string(text); err == nil && !strings.Contains(last, `"scaling"`) && strings.Contains(last, fmt.Sprintf(`"ranges":%d,`, ranges)) {
				return nil
			}
		}
		return fmt.Errorf("c%d does not come to have %d ranges: %s", cache, ranges, last)
	}
}

// amid does harm at some step of a movement.
func (n *nemesis) amid(harm func(*nemesis) (string, func() error)) (string, func() error) {
	what, scaled := n.scale()
	time.Sleep(time.Duration(n.rng.Int64N(int64(600 * time.Millisecond))))
	more, heal := harm(n)
	return what + ", and " + more, func() error {
		if heal != nil {
			if err := heal(); err != nil {
				return err
			}
		}
		if scaled == nil {
			return nil
		}
		return scaled()
	}
}

func (n *nemesis) killScale() (string, func() error)     { return n.amid((*nemesis).kill) }
func (n *nemesis) isolateScale() (string, func() error)  { return n.amid((*nemesis).isolate) }
func (n *nemesis) failoverScale() (string, func() error) { return n.amid((*nemesis).failover) }
