package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/larder-cache/larder/internal/etcdembed"
)

// maxDevNodes bounds `larder dev --nodes`: all of them share one machine.
const maxDevNodes = 9

// bandPartitions is how many partitions a development cluster has: enough to be spread, few enough to be whole in seconds.
const bandPartitions = 8

// settleTime is how long a development cluster waits for its partitions to have all their replicas before it greets.
const settleTime = 30 * time.Second

// A band is the nodes of `larder dev --nodes N`: each has all of its parts, and a zone of its own, in one process. They share
// an etcd, and speak to each other over loopback with certificates, as nodes on several machines do.
type band struct {
	log     *slog.Logger
	out     io.Writer
	members []*bandsman
	ended   chan *bandsman
	parting *sync.WaitGroup // of all that end together; nil while they do not
}

// A bandsman is one node of a band.
type bandsman struct {
	settings settings
	node     *node // nil while it does not run
	end      context.CancelCauseFunc
	part     func() // it has drained, or has ended
	err      error  // with which it ended
}

// errKilled is why a node ends that is not to end orderly.
var errKilled = errors.New("killed")

// devNodes runs a development cluster of several nodes until ctx ends. in may tell it to stop, kill and start nodes.
func devNodes(ctx context.Context, s settings, count int, log *slog.Logger, in io.Reader, out io.Writer) (err error) {
	if err := os.MkdirAll(s.dataDir, 0o700); err != nil {
		return err
	}
	lock, err := lockDir(s.dataDir)
	if err != nil {
		return err
	}
	defer lock.Close()
	withdraw(s.dataDir, log)
	defer withdraw(s.dataDir, log)
	// A cluster of another size has other data: its partitions would wait for nodes that are not there.
	dir := filepath.Join(s.dataDir, fmt.Sprintf("nodes-%d", count))
	etcd, err := etcdembed.Start(ctx, etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: log})
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("starting the embedded etcd: %w", err)
	}
	defer etcd.Close()
	b := &band{log: log, out: out, ended: make(chan *bandsman, count)}
	if err := b.enlist(s, count, dir, etcd.Endpoints()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.endAll()) }()
	for _, m := range b.members {
		if err := b.start(ctx, m); err != nil || ctx.Err() != nil {
			return err
		}
	}
	if err := b.greet(ctx, s.dataDir); err != nil || ctx.Err() != nil {
		return err
	}
	return b.obey(ctx, in)
}

// enlist writes the settings of the nodes. The first serves where a single one would, the others at the ports behind it.
func (b *band) enlist(s settings, count int, dir string, etcd []string) error {
	certs := filepath.Join(dir, "certs")
	if err := os.MkdirAll(certs, 0o700); err != nil {
		return err
	}
	ca, err := openAuthority(certs)
	if err != nil {
		return err
	}
	for i := range count {
		m := s
		m.name, m.zone = fmt.Sprintf("n%d", i+1), fmt.Sprintf("zone-%d", i+1)
		m.dataDir, m.etcd = filepath.Join(dir, m.name), etcd
		m.partitions, m.peerAddr = bandPartitions, "127.0.0.1:0"
		m.peerCA, m.peerCert, m.peerKey = filepath.Join(certs, "ca.crt"), filepath.Join(certs, m.name+".crt"), filepath.Join(certs, m.name+".key")
		if err := ca.issue(certs, m.name); err != nil {
			return err
		}
		if i > 0 {
			m.httpAny, m.redisAny, m.memcacheAny, m.endpointsElsewhere = true, true, true, true
			for _, addr := range []*string{&m.httpAddr, &m.redisAddr, &m.memcacheAddr} {
				*addr = portBehind(*addr, i)
			}
		}
		b.members = append(b.members, &bandsman{settings: m})
	}
	return nil
}

// portBehind is an address with a port that comes n behind; port 0 stays 0, and so does "".
func portBehind(addr string, n int) string {
	host, text, _ := net.SplitHostPort(addr) // it was checked
	port, err := strconv.Atoi(text)
	if err != nil || port == 0 || port+n > 65535 {
		return addr
	}
	return net.JoinHostPort(host, strconv.Itoa(port+n))
}

// start runs a node and returns when it serves.
func (b *band) start(ctx context.Context, m *bandsman) error {
	own, end := context.WithCancelCause(context.WithoutCancel(ctx))
	m.end, m.part = end, func() {}
	serves := make(chan struct{})
	go func() {
		m.err = run(own, m.settings, b.log.With("node", m.settings.name), func(_ context.Context, n *node) error {
			m.node, n.parting = n, func() {
				if b.parting != nil {
					m.part()
					b.parting.Wait()
				}
			}
			close(serves)
			return nil
		})
		m.part()
		b.ended <- m
	}()
	select {
	case <-serves:
	case ended := <-b.ended: // nobody else ends meanwhile without being asked to
		ended.node, ended.end = nil, nil
		return ended.err
	case <-ctx.Done():
		return nil
	}
	for _, at := range [][2]*string{{&m.settings.httpAddr, new(strings.TrimPrefix(m.node.url, "http://"))}, {&m.settings.redisAddr, &m.node.redisAt}, {&m.settings.memcacheAddr, &m.node.memcacheAt}} {
		*at[0] = samePort(*at[0], *at[1]) // also after a restart
	}
	return nil
}

// samePort is an address to listen on with the port that was found.
func samePort(addr, found string) string {
	host, _, err := net.SplitHostPort(addr)
	_, port, err2 := net.SplitHostPort(found)
	if err != nil || err2 != nil {
		return addr
	}
	return net.JoinHostPort(host, port)
}

// endAll stops all nodes that run: first each drains, and when all have, they close.
func (b *band) endAll() (err error) {
	var running []*bandsman
	for _, m := range b.members {
		if m.end != nil {
			running = append(running, m)
		}
	}
	parting := &sync.WaitGroup{}
	for _, m := range running {
		parting.Add(1)
		m.part = sync.OnceFunc(parting.Done)
	}
	b.parting = parting
	for _, m := range running {
		m.end(nil)
	}
	for range running {
		err = errors.Join(err, (<-b.ended).err)
	}
	return err
}

// greet makes the demo, waits until the cluster is whole, and tells out and dev.json how to use it.
func (b *band) greet(ctx context.Context, dir string) error {
	first := b.members[0].node
	facts, err := first.setUpDemo(ctx)
	if err == nil {
		err = first.openDemo(ctx, &facts)
	}
	if err != nil {
		return err
	}
	for _, m := range b.members {
		facts.Nodes = append(facts.Nodes, devNode{Name: m.settings.name, Zone: m.settings.zone, HTTP: m.node.url, Redis: m.node.redisAt, Memcache: m.node.memcacheAt})
	}
	b.settle(ctx)
	file := filepath.Join(dir, devFileName)
	err = writeSecret(file, func() ([]byte, error) {
		text, err := json.Marshal(facts)
		return append(text, '\n'), err
	})
	if err != nil || ctx.Err() != nil {
		return err
	}
	greet(b.out, facts, file)
	return nil
}

// settle waits until each partition has its replicas, so that the first node to be killed takes nothing with it.
func (b *band) settle(ctx context.Context) {
	place := b.members[0].node.place
	want := min(len(b.members)-(len(b.members)+1)%2, b.members[0].settings.replicas)
	for end := time.Now().Add(settleTime); ctx.Err() == nil && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		whole := true
		for _, p := range place.Partitions() {
			whole = whole && place.Voting(p) >= want
		}
		if whole {
			return
		}
	}
	if ctx.Err() == nil {
		b.log.Warn("some partitions do not have all their replicas yet")
	}
}

// obey does what in says, line by line, until ctx ends or a node ends by itself.
func (b *band) obey(ctx context.Context, in io.Reader) error {
	signal.Ignore(syscall.SIGTTIN) // in the background nothing is to be read, and nothing to be stopped for
	lines := make(chan string)
	go func() {
		for s := bufio.NewScanner(in); s.Scan(); {
			select {
			case lines <- s.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case m := <-b.ended:
			m.node, m.end = nil, nil
			return m.err
		case line := <-lines:
			if err := b.do(ctx, strings.Fields(line)); err != nil {
				return err
			}
		}
	}
}

// do carries out one line: a verb and a node.
func (b *band) do(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return nil
	}
	at := -1
	if len(words) == 2 {
		at = slices.IndexFunc(b.members, func(m *bandsman) bool { return m.settings.name == words[1] })
	}
	if at < 0 || !slices.Contains([]string{"stop", "kill", "start"}, words[0]) {
		fmt.Fprintf(b.out, "Want stop, kill or start, and a node from n1 to n%d.\n", len(b.members))
		return nil
	}
	m, name := b.members[at], words[1]
	switch {
	case words[0] == "start" && m.end != nil:
		fmt.Fprintf(b.out, "%s runs.\n", name)
	case words[0] == "start":
		if err := b.start(ctx, m); err != nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintf(b.out, "%s serves again, without data at first: %s\n", name, m.node.url)
	case m.end == nil:
		fmt.Fprintf(b.out, "%s does not run.\n", name)
	default:
		cause := errKilled
		if words[0] == "stop" {
			cause = nil
		}
		m.end(cause)
		ended := <-b.ended
		ended.node, ended.end = nil, nil
		if ended.err != nil {
			return ended.err
		}
		fmt.Fprintf(b.out, "%s has ended.\n", name)
	}
	return nil
}
