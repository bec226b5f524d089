package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	_ "gocloud.dev/secrets/awskms"        // awskms://
	_ "gocloud.dev/secrets/azurekeyvault" // azurekeyvault://
	_ "gocloud.dev/secrets/gcpkms"        // gcpkms://
	_ "gocloud.dev/secrets/hashivault"    // hashivault://

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/kms"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
)

// keysetFile is where the master keys lie, within the data directory.
const keysetFile = "master-keys.json"

// openKeys reads this node's master keys, makes them when it starts for the first time, and connects to the service that has the
// cluster's, if there is one.
func (n *node) openKeys(ctx context.Context, m *mirror.Mirror) error {
	path := filepath.Join(n.settings.dataDir, keysetFile)
	keys, made, err := seal.OpenKeyset(path)
	if err != nil {
		return refuse("data-dir", "%v", err)
	}
	if made {
		n.log.Info("new master keys: back this file up and keep it apart from the data, for nobody can read snapshots without it", "file", path)
	}
	n.keys = keys
	if n.settings.kms != "" {
		key, err := kms.Open(ctx, n.settings.kms)
		if err != nil {
			return refuse("kms", "%v", err)
		}
		n.later(func() { _ = key.Close() })
		n.kms = kms.Chain{key, keys} // what the file has wrapped before stays readable
		return nil
	}
	n.shared = &sharedKeys{n: n, table: records.Open[clusterKey](m, "master key", "master-key", n.log), wanted: make(chan struct{}, 1)}
	n.kms = n.shared
	n.shared.table.OnChange(func(string, *clusterKey, *clusterKey) { n.shared.want() })
	return n.shared.found(ctx)
}

// sharedKeys is a keyset that all nodes of a cluster have: the control data say which of its keys wraps, by its id, and nodes give each
// other the keys over their links, which prove who they are.
type sharedKeys struct {
	n      *node
	table  *records.Table[clusterKey]
	wanted chan struct{}
	missed string // the key that was logged last as being nowhere; run's own
}

// clusterKey names the key that wraps.
type clusterKey struct {
	ID string `json:"id"`
}

// newestKey is the name of the one record.
const newestKey = "newest"

// Bounds of how nodes give each other keys.
const (
	keysEvery = 2 * time.Second
	keysTime  = 5 * time.Second
	maxKeyset = 1 << 20 // bytes
)

// found names this node's key as the cluster's, if there is none yet.
func (k *sharedKeys) found(ctx context.Context) error {
	if _, ok := k.table.Get(newestKey); ok {
		return nil
	}
	err := k.table.Create(ctx, newestKey, &clusterKey{ID: k.n.keys.Newest()})
	if fault.Is(err, fault.Conflict) || fault.Is(err, fault.Unavailable) { // it is named before anything is wrapped
		return nil
	}
	return err
}

func (k *sharedKeys) want() {
	select {
	case k.wanted <- struct{}{}:
	default: // it looks at all of them anyway
	}
}

// ready reports whether this node has the key that wraps, and wraps with it.
func (k *sharedKeys) ready() bool {
	named, ok := k.table.Get(newestKey)
	return ok && k.n.keys.Newest() == named.ID
}

// Wrap implements seal.KMS.
func (k *sharedKeys) Wrap(ctx context.Context, key, to []byte) (seal.Wrapped, error) {
	if !k.ready() {
		return seal.Wrapped{}, fault.New(fault.Unavailable, "keys.wrap", "this node does not have the cluster's master key yet")
	}
	return k.n.keys.Wrap(ctx, key, to)
}

// Unwrap implements seal.KMS.
func (k *sharedKeys) Unwrap(ctx context.Context, w seal.Wrapped, to []byte) ([]byte, error) {
	return k.n.keys.Unwrap(ctx, w, to)
}

// Rotate makes a new key and has it wrap on all nodes, also where the one before is on none of them any more.
func (k *sharedKeys) Rotate(ctx context.Context) error {
	if err := k.n.keys.Rotate(); err != nil {
		return err
	}
	return k.table.Put(ctx, newestKey, &clusterKey{ID: k.n.keys.Newest()})
}

// run fetches keys from other nodes when one is named that is not here, until ctx ends.
func (k *sharedKeys) run(ctx context.Context) {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		if named, ok := k.table.Get(newestKey); !ok {
			if err := k.found(ctx); err != nil && ctx.Err() == nil {
				k.n.log.Warn("the cluster's master key cannot be named; trying again", "error", err)
			}
		} else if k.n.keys.Newest() != named.ID {
			k.fetch(ctx, named.ID)
		}
		select {
		case <-k.wanted:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// fetch gets a key from whichever node has it.
func (k *sharedKeys) fetch(ctx context.Context, id string) {
	var failed error
	for _, other := range k.n.place.Nodes() {
		if k.n.peers == nil || other.Name == k.n.settings.name || other.Peer == "" {
			continue
		}
		text, err := k.ask(ctx, other.Name)
		if err == nil {
			err = k.n.keys.Adopt(text, id)
		}
		if err == nil {
			k.n.log.Info("the cluster's master key is here: back the file up", "from", other.Name, "file", filepath.Join(k.n.settings.dataDir, keysetFile))
			return
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", other.Name, err))
	}
	if ctx.Err() == nil && k.missed != id {
		k.missed = id
		k.n.log.Warn("the cluster's master key is on no node in reach; trying again", "key", id, "error", failed)
	}
}

func (k *sharedKeys) ask(ctx context.Context, node string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	stream, err := k.n.peers.links.Open(ctx, node, peerlink.KindKeys)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	stop := context.AfterFunc(ctx, func() { _ = stream.Close() })
	defer stop()
	return io.ReadAll(io.LimitReader(stream, maxKeyset))
}

// serve gives another node of the cluster the keys.
func (k *sharedKeys) serve(to string, stream io.ReadWriteCloser) {
	defer func() { _ = stream.Close() }()
	text, err := k.n.keys.Export()
	if err == nil {
		_, err = stream.Write(text)
	}
	if err != nil {
		k.n.log.Warn("another node did not get the master keys", "node", to, "error", err)
		return
	}
	k.n.log.Info("another node got the master keys", "node", to)
}

// rotateMaster has a new master key wrap the keys of all tenants: one of the keyset's, or the newest version of the one that is in a service and is
// rotated there.
func (n *node) rotateMaster(ctx context.Context) (rewrapped int, err error) {
	if n.shared != nil {
		if err := n.shared.Rotate(ctx); err != nil {
			return 0, err
		}
	}
	return n.snapshots.RewrapTenants(ctx)
}
