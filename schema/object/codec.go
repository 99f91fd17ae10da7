package object

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// Config says how one resource of one control plane is stored.
type Config struct {
	Resource schema.GroupResource // Resource.String() is the Resource of its keys
	// Codec encodes to the stored version's JSON and decodes to what Protobuf, GetAttrs and the registries take: the
	// internal version of built-in resources.
	Codec runtime.Codec
	// Default returns an object with all defaults set, in its stored version and in that which Codec decodes to; it may
	// change the object, and the three may share what lies below their top level. Upstream sets
	// defaults whenever it decodes what is stored, also those of fields that a registry's strategy has just cleared, and
	// replies are made of stored bytes, so they have to be in there. Nil: the resource has no defaults.
	Default func(obj runtime.Object) (stored, decoded runtime.Object, err error)
	// Decodes tells that Default answers what decoding the stored object would give, in an object that is nobody else's.
	Decodes bool
	// External converts a decoded object, which it may change, to its stored version; the two may share what lies below their
	// top level. Nil: View.External must not be called.
	External func(obj runtime.Object) (runtime.Object, error)
	// Stored decodes stored JSON to its version, with defaults; see DecodeStored. It returns false for what Codec has to
	// decode. Nil: it has to decode everything.
	Stored func(plain []byte) (runtime.Object, bool)
	// Protobuf encodes to the stored version's protobuf, with upstream's envelope. Nil: the resource has none.
	Protobuf     runtime.Encoder
	New, NewList func() runtime.Object
	// GetAttrs gives the labels and selectable fields of a decoded object. The labels must be metadata.labels, and the
	// fields metadata.name and metadata.namespace those of the key. Nil: each selection brings its own.
	GetAttrs apistorage.AttrFunc
	// Indexed names selectable fields, other than metadata.name and metadata.namespace, that lists ask for often. They are strings of
	// the stored version at the path that is their name.
	Indexed []string
	// Canonical turns stored JSON into the JSON that is shown, in the stored version, for resources whose schema can change
	// after an object was written; it may return what it was given. What Default returns must be encoded as that. Nil: what
	// is stored is what is shown.
	Canonical func(stored []byte) ([]byte, error)
	// Transformer encrypts what goes to the database. Nil: nothing does.
	Transformer value.Transformer
	// Relaxed tells which writes may be acknowledged before they are on disk, by the object (nil: it is deleted) and what it
	// was (nil: it is created). It changes neither. Nil: none may.
	Relaxed func(obj, old runtime.Object) bool
	TTL     time.Duration // objects expire so long after their last change (adapter.Sweeper); 0: never
	Hot     *Hot          // keeps decoded objects; nil: nothing does
	// Weight is what a decoded object takes in memory, in multiples of its JSON; 0: as most do.
	Weight int
}

// TransformerFor chooses a resource's Config.Transformer; nil means none.
type TransformerFor func(schema.GroupResource) value.Transformer

// Codec encodes and decodes one resource. It is safe for concurrent use.
type Codec struct {
	names    names
	cfg      Config
	resource string
	times    func() *times                // of the objects
	external atomic.Pointer[reflect.Type] // of what External returns
	buffers  sync.Pool                    // *bytes.Buffer
}

// NewCodec returns a Codec. Resource, Codec, New and NewList must be set.
func NewCodec(cfg Config) *Codec {
	return &Codec{cfg: cfg, resource: cfg.Resource.String(), times: sync.OnceValue(func() *times {
		return timesOf(reflect.TypeOf(cfg.New()).Elem(), map[reflect.Type]*times{})
	})}
}

// Config returns what the codec was made with.
func (c *Codec) Config() Config { return c.cfg }

// Resource is the Resource of this codec's keys.
func (c *Codec) Resource() string { return c.resource }

// Encode returns an object's stored JSON. It clears the object's resourceVersion and selfLink, which are not stored.
func (c *Codec) Encode(obj runtime.Object) ([]byte, error) {
	plain, _, err := c.Normalize(obj)
	return plain, err
}

// Normalize returns an object's stored JSON, as Encode does, and the object that decoding it would give, but for the
// precision of its times. The two objects may share what lies below their top level.
func (c *Codec) Normalize(obj runtime.Object) ([]byte, runtime.Object, error) {
	if err := (apistorage.APIObjectVersioner{}).PrepareObjectForStorage(obj); err != nil {
		return nil, nil, fmt.Errorf("prepare %s for storage: %w", c.resource, err)
	}
	stored, shown := obj, obj
	if c.cfg.Default != nil {
		var err error
		if stored, shown, err = c.cfg.Default(obj); err != nil {
			return nil, nil, fmt.Errorf("default %s for storage: %w", c.resource, err)
		}
	}
	buf, _ := c.buffers.Get().(*bytes.Buffer)
	if buf == nil {
		buf = new(bytes.Buffer)
	}
	if err := c.cfg.Codec.Encode(stored, buf); err != nil {
		return nil, nil, err
	}
	// A copy of the very size: it is kept for long, and a buffer that grew has room for up to as much again.
	data := bytes.Clone(bytes.TrimSuffix(buf.Bytes(), []byte{'\n'}))
	if buf.Cap() <= maxBuffer {
		buf.Reset()
		c.buffers.Put(buf)
	}
	return data, shown, nil
}

// maxBuffer: larger buffers are not kept for the next object.
const maxBuffer = 64 << 10

// Seal returns the form in which stored JSON goes to the database under a key.
func (c *Codec) Seal(ctx context.Context, key storage.Key, plain []byte) ([]byte, error) {
	if c.cfg.Transformer == nil {
		return plain, nil
	}
	data, err := c.cfg.Transformer.TransformToStorage(ctx, plain, sealContext(key))
	if err != nil {
		return nil, apistorage.NewInternalError(err)
	}
	return data, nil
}

// asStored tells whether what is in the database is what is shown.
func (c *Codec) asStored() bool { return c.cfg.Transformer == nil && c.cfg.Canonical == nil }

// open is the way back. stale asks for the object to be written anew even when nothing in it changes.
func (c *Codec) open(key storage.Key, data []byte) (plain []byte, stale bool, err error) {
	if plain, stale, err = c.unseal(key, data); err != nil || c.cfg.Canonical == nil {
		return plain, stale, err
	}
	shown, err := c.cfg.Canonical(plain)
	if err != nil {
		return nil, false, &CorruptError{Key: key, err: err}
	}
	if bytes.Equal(shown, plain) {
		return plain, stale, nil
	}
	return shown, true, nil
}

func (c *Codec) unseal(key storage.Key, data []byte) (plain []byte, stale bool, err error) {
	if c.cfg.Transformer == nil {
		return data, false, nil
	}
	// The result is kept for later callers, so no single caller's context ends it.
	plain, stale, err = c.cfg.Transformer.TransformFromStorage(context.Background(), data, sealContext(key))
	if err != nil {
		return nil, false, &CorruptError{Key: key, err: apistorage.NewInternalError(fmt.Errorf("unable to transform key %q: %w", key, err))}
	}
	return plain, stale, nil
}

// sealContext binds sealed bytes to their key, so that those of one object cannot be passed off as another's.
func sealContext(key storage.Key) value.Context {
	return value.DefaultContext(key.String())
}

// decode makes an object of stored JSON, with its revision set.
func (c *Codec) decode(key storage.Key, plain []byte, rev storage.Revision) (runtime.Object, error) {
	into := c.cfg.New()
	if _, _, err := c.cfg.Codec.Decode(plain, nil, into); err != nil {
		return nil, &CorruptError{Key: key, err: err}
	}
	if err := setRevision(into, rev); err != nil {
		return nil, err
	}
	return into, nil
}

func setRevision(obj runtime.Object, rev storage.Revision) error {
	return apistorage.APIObjectVersioner{}.UpdateObject(obj, uint64(rev))
}

// CorruptError tells that stored bytes cannot be decrypted or decoded.
type CorruptError struct {
	Key storage.Key
	err error
}

func (e *CorruptError) Error() string { return e.err.Error() }

// Unwrap returns what the transformer or the decoder said.
func (e *CorruptError) Unwrap() error { return e.err }

// IsCorrupt tells whether an error means that stored bytes are unreadable.
func IsCorrupt(err error) bool {
	var c *CorruptError
	return errors.As(err, &c)
}

// View returns the View of an entry, making it when this codec is the first to look. Concurrent callers may get
// different Views of one entry; they say the same.
func (c *Codec) View(e *cache.Entry) *View {
	head, _ := e.Aux().(*View)
	depth := 0
	for v := head; v != nil; v = v.next.Load() {
		if v.codec == c {
			v.bind(e)
			return v
		}
		depth++
	}
	v := &View{codec: c, jsonOff: offUnknown}
	v.bind(e)
	switch {
	case head == nil:
		// Concurrent first readers agree on one View, or an object would be decoded by each of them.
		if other, ok := e.CompareAndSwapAux(v).(*View); ok && other.codec == c {
			other.bind(e)
			return other
		}
	case depth >= maxChain:
		e.SetAux(v)
	default:
		v.marks.Or(head.marks.Load() & superseded)
		// Several versions of a custom resource have codecs of their own and share the entries.
		v.next.Store(head)
		e.SetAux(v)
	}
	return v
}

// maxChain bounds the Views of one entry: codecs come and go when a CustomResourceDefinition changes.
const maxChain = 4

// Written returns the View for stored JSON that is about to be committed, to be attached to the new entry (the aux
// value of storage/commit). Call Committed once the revision is known.
func (c *Codec) Written(key storage.Key, plain []byte) *View {
	v := &View{codec: c, jsonOff: offUnknown, written: &written{key: key, plain: plain}}
	return v
}
