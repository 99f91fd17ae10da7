package cache

import (
	"strings"
	"sync/atomic"
	"time"

	"github.com/rowlock-io/rowlock/storage"
)

// Entry is one state of one object. It is shared by everybody and immutable but for the aux word; Data must not be
// changed.
type Entry struct {
	storage.Object
	aux atomic.Pointer[any]
}

// NewEntry makes an entry that belongs to no cache, for the layer above to treat states alike wherever they came from.
func NewEntry(o storage.Object) *Entry { return &Entry{Object: o} }

// Aux is what SetAux stored last, nil at first.
func (e *Entry) Aux() any {
	if p := e.aux.Load(); p != nil {
		return *p
	}
	return nil
}

// SetAux remembers one thing about this state for the layer above: a label index, a decoded object. The last writer
// wins, and the entry may be replaced by an equal one without it, so it must be safe to lose. If it has a method
// Superseded(), that is called when the state is no longer the present one; it must not wait.
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
