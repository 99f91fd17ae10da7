package cache

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/tidwall/btree"

	"github.com/rowlock-io/rowlock/storage"
)

// degree of the trees. A publish copies the path to each changed leaf, so small nodes keep that cheap.
const degree = 16

type tree = btree.BTreeG[*Entry]

func newTree() *tree {
	return btree.NewBTreeGOptions(before, btree.Options{Degree: degree, NoLocks: true})
}

// world is everything that was built from one load of one epoch.
type world struct {
	epoch     uint64
	source    *source // of the bytes of its entries
	start     storage.Revision
	rev       atomic.Uint64
	resources atomic.Pointer[map[string]*resource] // replaced whole when a resource appears
	ledger    ledger
	bells     bells // of watchers of all resources
	ended     atomic.Pointer[error]
	objects   atomic.Int64
	pivots    sync.Pool // of *Entry, for look-ups

	kept int64 // what the publish under way adds to the bytes in memory

	// scratch of one publish
	touched []*resource
	mixed   []Change
}

// resource is one resource's objects and recent history. Fields that are not atomic belong to the publisher.
type resource struct {
	world   *world
	name    string
	tree    *tree // the publisher's own; what is published is a copy-on-write copy
	version atomic.Pointer[version]
	history atomic.Pointer[history]
	tail    *chunk
	staged  []Change
	bells   bells
	index   atomic.Pointer[index] // nil: nobody has asked for one
}

// version is one resource as it was at rev. It last changed at changed, or before the world began when that is 0.
type version struct {
	tree         *tree
	rev, changed storage.Revision
}

// row is one change to be published.
type row struct {
	key     storage.Key
	rev     storage.Revision
	prevRev storage.Revision
	verb    storage.Verb
	data    []byte
	time    time.Time
	aux     any
}

func newWorld(at storage.Position, maxBytes, maxEntries int64) *world {
	w := &world{epoch: at.Epoch, start: at.Revision, ledger: ledger{maxBytes: maxBytes, maxEntries: maxEntries}}
	w.rev.Store(uint64(at.Revision))
	w.resources.Store(&map[string]*resource{})
	w.pivots.New = func() any { return new(Entry) }
	return w
}

func (w *world) revision() storage.Revision { return storage.Revision(w.rev.Load()) }

func (w *world) position() storage.Position {
	return storage.Position{Epoch: w.epoch, Revision: w.revision()}
}

func (w *world) find(name string) *resource { return (*w.resources.Load())[name] }

// resource finds or makes a resource. Only the publisher, holding the cache's lock, may call it.
func (w *world) resource(name string) *resource {
	if r := w.find(name); r != nil {
		return r
	}
	r := &resource{world: w, name: strings.Clone(name), tree: newTree()}
	r.version.Store(&version{tree: r.tree.Copy(), rev: w.revision()})
	// What is not there yet has not changed since the start.
	r.history.Store(&history{floor: w.start})
	next := maps.Clone(*w.resources.Load())
	next[r.name] = r
	w.resources.Store(&next)
	return r
}

// err is why the world ended, or nil.
func (w *world) err() error {
	if p := w.ended.Load(); p != nil {
		return *p
	}
	return nil
}

// end ends the world's watchers.
func (w *world) end(err error) {
	w.ended.CompareAndSwap(nil, &err)
	for _, r := range *w.resources.Load() {
		r.bells.ringAll()
	}
	w.bells.ringAll()
}

// get looks a name up in one of the world's trees.
func (w *world) get(t *tree, namespace, name string) *Entry {
	p := w.pivots.Get().(*Entry)
	p.Namespace, p.Name = namespace, name
	e, _ := t.Get(p)
	p.Namespace, p.Name = "", ""
	w.pivots.Put(p)
	return e
}

// read returns a resource's published version and the revision at which it is exactly the resource: versions are
// published just before the position moves to them, so the later of the two holds.
func (r *resource) read() (*version, storage.Revision) {
	for {
		v := r.version.Load()
		rev := r.world.revision()
		if r.version.Load() == v {
			return v, max(rev, v.rev)
		}
	}
}

// publish makes rows, the changes between the world's revision and to, visible. The caller holds the cache's lock. On
// an error nothing became visible and the world must be abandoned: its state and the log do not fit together.
func (w *world) publish(rows []row, to storage.Revision) error {
	touched, mixed := w.touched[:0], w.mixed[:0]
	grown := int64(0)
	for i := range rows {
		r := w.resource(rows[i].key.Resource)
		c, err := r.change(&rows[i])
		if err != nil {
			return err
		}
		switch c.Verb {
		case storage.Create:
			grown++
		case storage.Delete:
			grown--
		}
		if len(r.staged) == 0 {
			touched = append(touched, r)
		}
		r.staged = append(r.staged, c)
		mixed = append(mixed, c)
	}
	for _, r := range touched {
		r.version.Store(&version{tree: r.tree.Copy(), rev: to, changed: r.staged[len(r.staged)-1].Entry.Revision})
	}
	for _, r := range touched {
		w.ledger.push(r, r.staged)
		r.bells.mark(r.staged)
	}
	w.bells.mark(mixed)
	w.objects.Add(grown)
	w.rev.Store(uint64(to))
	for _, r := range touched {
		r.bells.ring()
		r.staged = reuse(r.staged)
	}
	w.bells.ring()
	w.touched, w.mixed = reuse(touched), reuse(mixed)
	w.ledger.trim()
	return nil
}

// reuse empties a scratch slice, so that it holds nothing alive, and lets a large one go.
func reuse[T any](s []T) []T {
	if cap(s) > maxChunk {
		return nil
	}
	clear(s)
	return s[:0]
}

// change puts one row into the publisher's tree.
func (r *resource) change(o *row) (Change, error) {
	prev := r.world.get(r.tree, o.key.Namespace, o.key.Name)
	var have storage.Revision
	if prev != nil {
		have = prev.Revision
	}
	if (o.verb == storage.Create) != (prev == nil) || have != o.prevRev {
		return Change{}, fmt.Errorf("%s at %d replaces %d, cache holds %d", o.key, o.rev, o.prevRev, have)
	}
	var key storage.Key
	if prev != nil {
		key = prev.Key // shares the strings
	} else {
		key = r.key(o.key)
	}
	e := newEntry(r.world.source, key, o.rev, o.data)
	if o.aux != nil {
		e.SetAux(o.aux)
	}
	if o.verb == storage.Delete {
		e.mode.Store(deletion)
		e.size = prev.size
		e.data.Store(prev.data.Load())
		r.tree.Delete(prev)
	} else {
		e.mode.Store(used)
		r.world.kept += e.count()
		r.tree.Set(e)
	}
	if prev != nil {
		r.world.kept += prev.uncount(superseded)
		if aux, ok := prev.Aux().(interface{ Superseded() }); ok {
			aux.Superseded()
		}
	}
	return Change{Verb: o.verb, Entry: e, Prev: prev, Time: o.time}, nil
}

// key returns the key made of strings that are shared where that pays and pin nothing larger than themselves.
func (r *resource) key(k storage.Key) storage.Key {
	return storage.Key{
		Resource:  r.name,
		Namespace: unique.Make(k.Namespace).Value(),
		Name:      strings.Clone(k.Name),
	}
}
