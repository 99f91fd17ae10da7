package object

import (
	"sync"
	"sync/atomic"
	"weak"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// View is what is known about one state of one object. It is safe for concurrent use.
type View struct {
	codec *Codec
	entry atomic.Pointer[cache.Entry]
	next  atomic.Pointer[View] // the same entry seen by another codec
	pairs atomic.Pointer[attrs]

	mu      sync.Mutex
	written *written // until the entry is known
	seed    runtime.Object
	plain   []byte // decrypted; nil where nothing is encrypted
	obj     weak.Pointer[decoded]
	proto   weak.Pointer[encoded]
	made    weak.Pointer[derived]
	marks   atomic.Uint32
	outer   weak.Pointer[byte] // see Codec.weaken
	jsonOff int32
}

// What is marked of a View.
const (
	wanted     = 1 << iota // it was decoded, or has just been written
	superseded             // it is no longer the present state
)

// written is a state that is being committed: there is no entry yet.
type written struct {
	key   storage.Key
	plain []byte
	rev   storage.Revision
}

// decoded and encoded are boxes, so that a weak pointer can be made to what is in them.
type decoded struct {
	item
	obj runtime.Object
	rev storage.Revision
}

type encoded struct {
	item
	data []byte
}

func (v *View) bind(e *cache.Entry) {
	if v.entry.Load() != nil {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.entry.Load() != nil {
		return
	}
	if w := v.written; w != nil {
		if !v.codec.asStored() {
			v.plain = w.plain
		}
		v.written = nil
	}
	v.entry.Store(e)
	// Who watches may be here before who wrote has come to call Committed.
	v.growLocked()
}

// Committed tells a View made by Written at which revision it was committed.
func (v *View) Committed(rev storage.Revision) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.written != nil {
		v.written.rev = rev
	}
	v.growLocked()
}

// Revision is the revision of this state.
func (v *View) Revision() storage.Revision {
	if e := v.entry.Load(); e != nil {
		return e.Revision
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, rev := v.identityLocked()
	return rev
}

// Key is the object's key.
func (v *View) Key() storage.Key {
	if e := v.entry.Load(); e != nil {
		return e.Key
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	key, _ := v.identityLocked()
	return key
}

func (v *View) identityLocked() (storage.Key, storage.Revision) {
	if e := v.entry.Load(); e != nil {
		return e.Key, e.Revision
	}
	return v.written.key, v.written.rev
}

// Plain returns the stored JSON, decrypted and as it is shown today. The bytes are shared: do not change them.
func (v *View) Plain() ([]byte, error) {
	if e := v.entry.Load(); e != nil && v.codec.asStored() {
		return e.Bytes()
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.plainLocked()
}

// Stale tells that the state should be written anew even if nothing changes: it was encrypted with a key that is being
// retired, or written under another schema. It asks each time, since keys are retired while servers run.
func (v *View) Stale() bool {
	e := v.entry.Load()
	if e == nil || v.codec.asStored() {
		return false
	}
	data, err := e.Bytes()
	if err != nil {
		return false // nobody can write it anew either
	}
	_, stale, err := v.codec.open(e.Key, data)
	// What is known although it can no longer be decrypted is better written anew.
	return stale || err != nil
}

func (v *View) plainLocked() ([]byte, error) {
	if v.plain != nil {
		return v.plain, nil
	}
	e := v.entry.Load()
	if e == nil {
		return v.written.plain, nil
	}
	data, err := e.Bytes()
	if err != nil || v.codec.asStored() {
		return data, err
	}
	plain, _, err := v.codec.open(e.Key, data)
	if err != nil {
		return nil, err
	}
	v.plain = plain
	return plain, nil
}

// Object returns the decoded object with its resourceVersion. It is shared: DeepCopy it before changing anything, and
// encode ObjectAt instead, because upstream's encoders set an object's type for a moment.
func (v *View) Object() (runtime.Object, error) {
	d, err := v.decoded()
	if err != nil {
		return nil, err
	}
	return d.obj, nil
}

// Assignable returns the object for a caller that copies what the pointer points to and nothing deeper, as lists do. It
// is shared, but for unstructured objects, where such a copy would still share the type and the metadata.
func (v *View) Assignable() (runtime.Object, error) {
	d, err := v.decoded()
	if err != nil {
		return nil, err
	}
	if _, ok := d.obj.(*unstructured.Unstructured); ok {
		return shallowCopy(d.obj), nil
	}
	return d.obj, nil
}

// ObjectAt returns a copy of the object's top level with another resourceVersion: a watch shows what was deleted at the
// revision of its deletion. What lies deeper is shared, as in the objects that upstream's cacher hands out.
func (v *View) ObjectAt(rev storage.Revision) (runtime.Object, error) {
	d, err := v.decoded()
	if err != nil {
		return nil, err
	}
	obj := shallowCopy(d.obj)
	if rev != d.rev {
		if err := setRevision(obj, rev); err != nil {
			return nil, err
		}
	}
	return obj, nil
}

// Mutable returns an object of the caller's own, with its resourceVersion.
func (v *View) Mutable() (runtime.Object, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := v.obj.Value(); d != nil {
		d.used.Store(true)
		return d.obj.DeepCopyObject(), nil
	}
	// A fresh decode is as private as a copy; it is not kept, because the caller is about to replace this state.
	key, rev := v.identityLocked()
	plain, err := v.plainLocked()
	if err != nil {
		return nil, err
	}
	return v.codec.decode(key, plain, rev)
}

func (v *View) decoded() (*decoded, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if d := v.obj.Value(); d != nil {
		d.used.Store(true)
		return d, nil
	}
	key, rev := v.identityLocked()
	plain, err := v.plainLocked()
	if err != nil {
		return nil, err
	}
	obj, err := v.codec.decode(key, plain, rev)
	if err != nil {
		return nil, err
	}
	d := &decoded{obj: obj, rev: rev}
	d.bytes = v.codec.decodedBytes(obj, plain)
	v.obj = weak.Make(d)
	// What is asked for once (a list of everything) must not push out what is asked for again and again. A state that
	// was just written counts as wanted: its controllers are about to read it.
	if v.marks.Load()&wanted != 0 || v.written != nil {
		v.keepDecoded(&d.item)
	}
	v.marks.Or(wanted)
	return d, nil
}

// keep gives to Hot what was made of this state, for as long as it is the present one.
func (v *View) keep(i *item) {
	if v.marks.Load()&superseded != 0 {
		return
	}
	v.codec.cfg.Hot.add(i)
	if v.marks.Load()&superseded != 0 {
		v.codec.cfg.Hot.drop(i)
	}
}

// keepDecoded is keep for a decoded object. Of what expires by itself (Events) much is written, and next to nothing read.
func (v *View) keepDecoded(i *item) {
	if v.codec.cfg.TTL == 0 {
		v.keep(i)
	}
}

// Superseded tells that another state has taken this one's place, or none: what was made of it is kept no longer. It does
// not wait, so that who publishes changes does not either: what is being made at this moment may be kept as before.
func (v *View) Superseded() {
	for ; v != nil; v = v.next.Load() {
		v.marks.Or(superseded)
		if !v.mu.TryLock() {
			continue
		}
		if d := v.obj.Value(); d != nil {
			v.codec.cfg.Hot.drop(&d.item)
		}
		if e := v.proto.Value(); e != nil {
			v.codec.cfg.Hot.drop(&e.item)
		}
		if d := v.made.Value(); d != nil {
			v.codec.cfg.Hot.drop(&d.item)
		}
		v.mu.Unlock()
	}
}
