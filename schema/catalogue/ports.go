package catalogue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/kubernetes/pkg/registry/core/service/allocator"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// portResource is the internal resource whose objects are the taken node ports, one object a port: taking a port is
// creating its object, so replicas agree without a shared bitmap and neighbours do not conflict.
const portResource = "nodeports.rowlock.internal"

// portTimeout bounds one allocation: upstream's allocator interface carries no context.
const portTimeout = 10 * time.Second

// NodePorts hands out service node ports; it is the allocator.Interface behind upstream's port allocator.
type NodePorts struct {
	backend adapter.Backend
	ports   utilnet.PortRange

	mu      sync.Mutex
	reserve int // the first offsets, which AllocateNext takes only when the rest is gone (upstream: static band)
}

var _ allocator.Interface = &NodePorts{}

func newNodePorts(backend adapter.Backend, ports utilnet.PortRange) *NodePorts {
	return &NodePorts{backend: backend, ports: ports}
}

// factory fits allocator.AllocatorWithOffsetFactory.
func (p *NodePorts) factory(_ int, _ string, reserve int) (allocator.Interface, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reserve = reserve
	return p, nil
}

func (p *NodePorts) key(offset int) storage.Key {
	return storage.Key{Resource: portResource, Name: strconv.Itoa(p.ports.Base + offset)}
}

func (p *NodePorts) snapshot() map[string]storage.Revision {
	taken := map[string]storage.Revision{}
	p.backend.Cache.Snapshot(portResource).Scan("", storage.Key{}, func(e *cache.Entry) bool {
		taken[e.Name] = e.Revision
		return true
	})
	return taken
}

// Allocate takes one port; false when it is taken.
func (p *NodePorts) Allocate(offset int) (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	r, err := p.backend.Committer.Commit(ctx, storage.Op{Key: p.key(offset), Verb: storage.Create, Data: []byte("{}")}, nil)
	if err == nil {
		err = r.Err
	}
	switch {
	case errors.Is(err, storage.ErrExists):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("take node port %d: %w", p.ports.Base+offset, err)
	}
	return true, nil
}

// AllocateNext takes some free port, outside the band for static allocation while there is one.
func (p *NodePorts) AllocateNext() (int, bool, error) {
	p.mu.Lock()
	reserve := p.reserve
	p.mu.Unlock()
	for _, band := range [][2]int{{reserve, p.ports.Size}, {0, reserve}} {
		taken := p.snapshot()
		size := band[1] - band[0]
		if size <= 0 {
			continue
		}
		start := rand.IntN(size)
		for i := range size {
			offset := band[0] + (start+i)%size
			if _, ok := taken[strconv.Itoa(p.ports.Base+offset)]; ok {
				continue
			}
			// The snapshot may lag behind other replicas: then the create says so and the next is tried.
			ok, err := p.Allocate(offset)
			if err != nil || ok {
				return offset, ok, err
			}
		}
	}
	return 0, false, nil
}

// Release gives a port back; one that is free stays free.
func (p *NodePorts) Release(offset int) error {
	ctx, cancel := context.WithTimeout(context.Background(), portTimeout)
	defer cancel()
	if _, err := p.backend.Cache.Current(ctx); err != nil {
		return fmt.Errorf("give back node port %d: %w", p.ports.Base+offset, err)
	}
	e, _ := p.backend.Cache.Get(p.key(offset))
	if e == nil {
		return nil
	}
	return p.drop(ctx, e.Key, e.Revision)
}

func (p *NodePorts) drop(ctx context.Context, key storage.Key, at storage.Revision) error {
	r, err := p.backend.Committer.Commit(ctx, storage.Op{Key: key, Verb: storage.Delete, Expect: at}, nil)
	if err == nil {
		err = r.Err
	}
	if err != nil && !errors.Is(err, storage.ErrNotFound) && !errors.Is(err, storage.ErrConflict) {
		return fmt.Errorf("give back node port %s: %w", key.Name, err)
	}
	return nil
}

// ForEach calls fn with the offset of every taken port.
func (p *NodePorts) ForEach(fn func(int)) {
	for name := range p.snapshot() {
		if port, err := strconv.Atoi(name); err == nil && p.ports.Contains(port) {
			fn(port - p.ports.Base)
		}
	}
}

// Has tells whether a port is taken.
func (p *NodePorts) Has(offset int) bool {
	e, _ := p.backend.Cache.Get(p.key(offset))
	return e != nil
}

// Free counts the free ports.
func (p *NodePorts) Free() int {
	n := p.ports.Size
	p.ForEach(func(int) { n-- })
	return n
}

// Destroy implements allocator.Interface; nothing is held.
func (p *NodePorts) Destroy() {}

// Repair makes the taken ports match the ports that services use: a crash between taking a port and storing its
// service leaves a port that nobody uses. Such a port is freed when it was unused in the last round too, so that a
// service being created keeps it. It returns what to pass to the next round. Two replicas may repair at once.
func (p *NodePorts) Repair(ctx context.Context, used map[int]bool, suspects map[string]storage.Revision) (map[string]storage.Revision, error) {
	taken := p.snapshot()
	next := map[string]storage.Revision{}
	for name, at := range taken {
		port, err := strconv.Atoi(name)
		if err == nil && used[port] {
			continue
		}
		if suspects[name] != at {
			next[name] = at
			continue
		}
		if err := p.drop(ctx, storage.Key{Resource: portResource, Name: name}, at); err != nil {
			return next, err
		}
	}
	for port := range used {
		if _, ok := taken[strconv.Itoa(port)]; ok || !p.ports.Contains(port) {
			continue
		}
		if _, err := p.Allocate(port - p.ports.Base); err != nil {
			return next, err
		}
	}
	return next, nil
}
