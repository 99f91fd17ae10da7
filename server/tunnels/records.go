package tunnels

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// recordResource is the internal resource by which servers tell each other which tunnels they have: an object for each node.
const recordResource = "tunnels.rowlock.internal"

// record says where a node's tunnel is.
type record struct {
	ID     string `json:"id"`     // of the tunnel
	Server string `json:"server"` // that has it: a process, not a machine
	At     string `json:"at"`     // where other servers reach that one

	revision storage.Revision
}

const (
	recordTime = 5 * time.Second
	recordTry  = 5
	sweepEvery = time.Minute
)

func recordKey(node string) storage.Key { return storage.Key{Resource: recordResource, Name: node} }

// recorded is what the database says of a node.
func (t *Tunnels) recorded(node string) (record, bool) {
	if !t.cfg.Replicas {
		return record{}, false
	}
	e, _ := t.cfg.Backend.Cache.Get(recordKey(node))
	if e == nil {
		return record{}, false
	}
	data, err := e.Bytes()
	r := record{revision: e.Revision}
	if err != nil || json.Unmarshal(data, &r) != nil {
		return record{}, false
	}
	return r, true
}

// record tells the other servers of a tunnel. Where that fails, it is tried again by confirm.
func (t *Tunnels) record(h *held) {
	if !t.cfg.Replicas {
		return
	}
	data, err := json.Marshal(record{ID: h.id, Server: t.id, At: t.cfg.Self})
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	for try := range recordTry {
		op := storage.Op{Key: recordKey(h.node), Verb: storage.Create, Data: data, Relaxed: true}
		if e, _ := t.cfg.Backend.Cache.Get(op.Key); e != nil {
			op.Verb, op.Expect = storage.Update, e.Revision
		}
		var result storage.Result
		result, err = t.cfg.Backend.Committer.Commit(ctx, op, nil)
		if err == nil {
			h.mu.Lock()
			h.told = result.Revision
			h.mu.Unlock()
			t.sweep(ctx)
			return
		}
		if !errors.Is(err, storage.ErrExists) && !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrNotFound) {
			break
		}
		select { // until this server has heard of the other's
		case <-time.After(time.Duration(1+try) * retryWait):
		case <-ctx.Done():
		}
	}
	t.cfg.Log.Warn("Other servers were not told of a tunnel", "node", h.node, "err", err)
}

// confirm sees to it that the record is there, unless a tunnel that came later has taken its place.
func (t *Tunnels) confirm(h *held) {
	if !t.cfg.Replicas {
		return
	}
	told, _ := h.state()
	r, ok := t.recorded(h.node)
	switch {
	case ok && r.ID == h.id:
	case !ok, told == 0 && r.revision == h.before:
		t.record(h)
	case r.revision > told:
		h.retire()
	}
}

// erase takes a tunnel's record back.
func (t *Tunnels) erase(h *held) {
	if r, ok := t.recorded(h.node); ok && r.ID == h.id {
		ctx, cancel := context.WithTimeout(context.Background(), recordTime)
		defer cancel()
		t.forget(ctx, h.node, r.revision)
	}
}

// forget removes a record that has turned out not to be true. A server that has the tunnel after all records it again.
func (t *Tunnels) forget(ctx context.Context, node string, at storage.Revision) {
	_, err := t.cfg.Backend.Committer.Commit(ctx, storage.Op{Key: recordKey(node), Verb: storage.Delete, Expect: at, Relaxed: true}, nil)
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrConflict) {
		t.cfg.Log.Debug("The record of a tunnel was not removed", "node", node, "err", err)
	}
}

// sweep removes records of nodes that are gone, whose servers did not live to do it.
func (t *Tunnels) sweep(ctx context.Context) {
	t.mu.Lock()
	due := time.Since(t.swept) > sweepEvery
	if due {
		t.swept = time.Now()
	}
	t.mu.Unlock()
	if !due {
		return
	}
	var stale []*cache.Entry
	t.cfg.Backend.Cache.Snapshot(recordResource).Scan("", storage.Key{}, func(e *cache.Entry) bool {
		if !t.exists(e.Name) {
			stale = append(stale, e)
		}
		return true
	})
	for _, e := range stale {
		t.forget(ctx, e.Name, e.Revision)
	}
}
