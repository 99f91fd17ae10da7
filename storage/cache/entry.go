package cache

import (
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/rowlock-io/rowlock/storage"
)

// Entry is one state of one object. It is shared by everybody and immutable but for the aux word and whether its bytes are
// in memory.
type Entry struct {
	storage.Key
	Revision storage.Revision
	source   *source // where the bytes can be read again; nil: they are always here
	data     atomic.Pointer[byte]
	size     uint32
	mode     atomic.Uint32
	aux      atomic.Pointer[any]
}

// What the mode of an Entry says.
const (
	counted    = 1 << iota // in its cache's meter
	used                   // its bytes were asked for since the last look
	superseded             // it is no longer the present state
	visited                // its bytes were read and dropped again since the last look
	deletion               // it holds the last bytes under the deletion's revision
)

// NewEntry makes an entry that belongs to no cache, for the layer above to treat states alike wherever they came from.
func NewEntry(o storage.Object) *Entry { return newEntry(nil, o.Key, o.Revision, o.Data) }

func newEntry(s *source, key storage.Key, rev storage.Revision, data []byte) *Entry {
	e := &Entry{Key: key, Revision: rev, source: s, size: uint32(len(data))}
	e.data.Store(unsafe.SliceData(data))
	return e
}

// Bytes returns the object as it is stored. It is shared and must not be changed. Where they are not in memory they are
// read from the store: storage.ErrCompacted tells that the state is one of the past that is gone there.
func (e *Entry) Bytes() ([]byte, error) {
	if data, ok := e.resident(); ok {
		if e.mode.Load()&used == 0 {
			e.mode.Or(used)
		}
		return data, nil
	}
	return e.source.read(e)
}

func (e *Entry) resident() ([]byte, bool) {
	if e.size == 0 {
		return []byte{}, true
	}
	p := e.data.Load()
	if p == nil {
		return nil, false
	}
	return unsafe.Slice(p, e.size), true //nolint:gosec // the length is that of the slice that the pointer was taken from
}

// Object is the entry as the store gives it.
func (e *Entry) Object() (storage.Object, error) {
	data, err := e.Bytes()
	return storage.Object{Key: e.Key, Revision: e.Revision, Data: data}, err
}

// Size is the number of bytes, whether they are in memory or not.
func (e *Entry) Size() int { return int(e.size) }

// Resident tells whether the bytes are in memory.
func (e *Entry) Resident() bool { return e.size == 0 || e.data.Load() != nil }

// Aux is what SetAux stored last, nil at first.
func (e *Entry) Aux() any {
	if p := e.aux.Load(); p != nil {
		return *p
	}
	return nil
}

// SetAux remembers one thing about this state for the layer above: a label index, a decoded object. The last writer
// wins, and the entry may be replaced by an equal one without it, so it must be safe to lose. If it has a method
// Superseded(), that is called when the state is no longer the present one, and if it has Evicted() (keep, ok bool) that is
// called before the bytes leave memory: it lets go of what it holds of them, and tells whether it is worth keeping itself and,
// by ok, whether it could. Neither may wait.
func (e *Entry) SetAux(v any) {
	if v == nil {
		e.aux.Store(nil)
		return
	}
	e.aux.Store(&v)
}

// CompareAndSwapAux sets the aux value only if there is none yet and returns the one that is there afterwards, so that
// concurrent first users agree on one value.
func (e *Entry) CompareAndSwapAux(v any) any {
	for {
		if e.aux.CompareAndSwap(nil, &v) {
			return v
		}
		if p := e.aux.Load(); p != nil {
			return *p
		}
	}
}

// Change is one change of one object as watchers get it.
type Change struct {
	Verb storage.Verb
	// Entry is the state after. For Delete it holds the last data under the deletion's revision.
	Entry *Entry
	// Prev is the state before; nil for Create.
	Prev *Entry
	Time time.Time
}

// before orders entries of one resource.
func before(a, b *Entry) bool {
	if c := strings.Compare(a.Namespace, b.Namespace); c != 0 {
		return c < 0
	}
	return a.Name < b.Name
}
