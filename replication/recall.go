package replication

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/wal"
	"github.com/larder-cache/larder/placement"
)

// How a durable replica comes back.
//
// Load reads the log. A replica's state is the newest of its state files; behind that lies what the log has of later entries. A
// state file is only ever of what was committed, so one that is newer than the log is right, too: what the log has in its place
// gives way. When something is missing in the middle, the replica is not who it was any more: its vote may be among what is lost.
// It is forgotten, and its node asks for another id, under which it gets everything from the leader.

// A recalled is what the log says of a replica.
type recalled struct {
	lodger
	known    bool     // where it began was found
	founders []uint64 // none for one that joined
	hard     raftpb.HardState
	entries  []*raftpb.Entry
	damage   error // why it cannot come back
}

// Load finds out who is here, and reads the log if there is anybody. Nothing is changed of what cannot be read.
func (v *Vault) Load() error {
	names, err := v.cfg.shelf.list()
	if err != nil {
		return err
	}
	var old []string
	here := map[vaultFile]lodger{}
	for _, name := range names {
		if f, kind, ok := parseVaultFile(name); ok && kind != stateOf {
			here[f] = lodger{generation: f.generation, self: f.self, trail: kind == trailOf}
		} else if unfinished(name) {
			old = append(old, name)
		}
	}
	for _, name := range names {
		f, kind, ok := parseVaultFile(name)
		if !ok || kind != stateOf {
			continue
		}
		of := vaultFile{partition: f.partition, generation: f.generation, self: f.self}
		l, some := here[of]
		if !some {
			old = append(old, name)
			continue
		}
		l.index = max(l.index, f.index)
		here[of] = l
	}
	if err := v.cfg.shelf.remove(old...); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for f, l := range here {
		if v.read[f] = (&recalled{lodger: l}); l.trail {
			v.past[f.partition] = append(v.past[f.partition], l)
		} else {
			v.kept[f.partition] = l
		}
	}
	for _, list := range v.past { // a map has no order
		slices.SortFunc(list, func(a, b lodger) int {
			return cmp.Or(cmp.Compare(a.generation, b.generation), cmp.Compare(a.self, b.self))
		})
	}
	if len(here) == 0 {
		return nil
	}
	return v.openLog()
}

// openLog reads the log, unless that has been done: a node that has never had a durable replica has none.
func (v *Vault) openLog() error {
	v.opening.Lock()
	defer v.opening.Unlock()
	if v.open {
		return nil
	}
	err := v.log.Recover(0, func(r wal.Record) error {
		of := &reader{b: r.Data}
		f := vaultFile{partition: placement.PartitionID(r.Partition), generation: uint32(of.uvarint()), self: of.uvarint()}
		rec := v.read[f]
		switch {
		case of.bad:
			return errEntry
		case rec == nil:
			return nil // it has been forgotten
		}
		return rec.visit(r.Kind, of)
	}, func(d *wal.Damage) {
		v.cfg.Log.Error("durable data is damaged", "error", d)
		for f, rec := range v.read {
			if d.Affects(uint32(f.partition)) {
				rec.damage = d
			}
		}
	})
	if err != nil {
		return fmt.Errorf("reading the write-ahead log: %w", err)
	}
	if v.open = true; !v.cfg.byHand {
		v.running.Go(v.log.Run)
	}
	return nil
}

// visit takes the next record of the replica.
func (rec *recalled) visit(kind byte, r *reader) error {
	switch kind {
	case recordReplica:
		rec.known, rec.damage, rec.founders, rec.entries = true, nil, nil, nil
		for n := r.count(1); n > 0 && !r.bad; n-- {
			rec.founders = append(rec.founders, r.uvarint())
		}
	case recordFrom:
		index := r.uvarint()
		r.uvarint()             // its term, which the state file has, too
		if index <= rec.index { // J3: it stands for all before
			rec.known, rec.damage, rec.entries = true, nil, nil
		}
		rec.appended(r)
	case recordAppended:
		rec.appended(r)
	case recordGone:
		rec.damage = errors.New("the log says that it has gone")
	default:
		return fmt.Errorf("replication: a record of kind %q is not known here: it may be of a later version", kind)
	}
	if r.bad {
		return errEntry
	}
	return nil
}

// appended takes what raft had to remember, and entries.
func (rec *recalled) appended(r *reader) {
	rec.hard = raftpb.HardState{Term: new(r.uvarint()), Vote: new(r.uvarint()), Commit: new(r.uvarint())}
	for len(r.b) > 0 && !r.bad {
		kind := raftpb.EntryType(r.byte())
		e := &raftpb.Entry{Type: &kind, Term: new(r.uvarint()), Index: new(r.uvarint()), Data: slices.Clone(r.text())}
		if r.bad {
			return
		}
		rec.put(e)
	}
}

// put puts an entry in its place. One that does not follow on those before follows on a state file, or something is missing:
// take finds out.
func (rec *recalled) put(e *raftpb.Entry) {
	if n := len(rec.entries); n > 0 {
		if first := rec.entries[0].GetIndex(); e.GetIndex() > first && e.GetIndex() <= first+uint64(n) {
			rec.entries = append(rec.entries[:e.GetIndex()-first], e)
			return
		}
	}
	rec.entries = []*raftpb.Entry{e}
}

// errForgotten is why a replica does not come back.
var errForgotten = errors.New("what it must not have forgotten is missing in the write-ahead log")

// recall is a replica as it was: its log, and its state and its partition, which are nil while there is no state file. It can be had
// once. With an error, the replica must not come back under its id.
func (v *Vault) recall(id groupID, self uint64, seed engine.Seed, budget *logBudget) (log *memoryLog, s *groupState, p *engine.Partition, err error) {
	f := vaultFile{partition: id.partition, generation: id.generation, self: self}
	v.mu.Lock()
	rec := v.read[f]
	delete(v.read, f)
	v.mu.Unlock()
	switch {
	case rec == nil: // it has been asked for
		return nil, nil, nil, errForgotten
	case rec.damage != nil:
		return nil, nil, nil, rec.damage
	case !rec.known:
		return nil, nil, nil, fmt.Errorf("%w: its beginning", errForgotten)
	}
	log = newMemoryLog(rec.founders, budget)
	hard := log.hard
	if rec.index > 0 {
		if s, p, err = v.readState(vaultFile{id.partition, id.generation, self, rec.index}, seed); err != nil {
			log.Close()
			return nil, nil, nil, err
		}
		if err := log.Restart(&raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{Index: new(rec.index), Term: new(s.term), ConfState: s.conf}}); err != nil {
			panic(err)
		}
		hard = &raftpb.HardState{Term: new(s.term), Commit: new(rec.index)}
	}
	entries, err := rec.behind(log.base, log.baseTerm)
	if err == nil {
		err = log.Append(entries)
	}
	if err != nil {
		log.Close()
		if p != nil {
			p.Close()
		}
		return nil, nil, nil, err
	}
	if rec.hard.GetTerm() >= hard.GetTerm() {
		hard = &raftpb.HardState{Term: new(rec.hard.GetTerm()), Vote: new(rec.hard.GetVote()), Commit: new(max(hard.GetCommit(), min(rec.hard.GetCommit(), log.last())))}
	}
	log.hard = hard
	return log, s, p, nil
}

// behind is what is known of the log behind an index that has been applied.
func (rec *recalled) behind(base, term uint64) ([]*raftpb.Entry, error) {
	if len(rec.entries) == 0 {
		return nil, nil
	}
	first := rec.entries[0].GetIndex()
	last := first + uint64(len(rec.entries)) - 1
	switch {
	case first > base+1:
		return nil, fmt.Errorf("%w: entries %d to %d of its group's log", errForgotten, base+1, first-1)
	case last < base:
		return nil, nil
	case first <= base && rec.entries[base-first].GetTerm() != term:
		return nil, nil // the log had gone another way, which was given up
	}
	return rec.entries[base+1-first:], nil
}
