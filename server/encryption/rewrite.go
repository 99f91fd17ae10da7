package encryption

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// Rewrite says what is to be written anew, and how.
type Rewrite struct {
	Keys      *Keys
	Providers *Providers
	// Objects goes through what is stored, once each time it is called.
	Objects func(ctx context.Context) iter.Seq2[storage.Object, error]
	// Commit makes conditional writes and answers each.
	Commit func(ctx context.Context, ops []storage.Op) ([]storage.Result, error)
	// Progress is told, now and then, how far it came; nil: nobody is.
	Progress func(Rewritten)
	// Unreadable is told of each object that cannot be decrypted; nil: nobody is.
	Unreadable func(storage.Key, error)
}

// Rewritten is what a rewrite has done so far.
type Rewritten struct {
	Seen       int // objects of encrypted resources, or of those that were encrypted once
	Written    int
	Unreadable int // cannot be decrypted, and were left as they are
}

// Bounds of one commit of a rewrite: others are writing too.
const (
	rewriteOps   = 64
	rewriteBytes = 1 << 20
)

// Run encrypts whatever is not encrypted as the configuration and the keys of now want it. Each object is replaced only as it
// was read, so what others write meanwhile is never lost: it is looked at again. It can be cut short anywhere and run again. It
// ends when it went through everything and found nothing to do but what nobody can decrypt.
func (r *Rewrite) Run(ctx context.Context) (Rewritten, error) {
	var total Rewritten
	for {
		pass, again, err := r.pass(ctx, total.Written)
		total = Rewritten{Seen: pass.Seen, Written: total.Written + pass.Written, Unreadable: pass.Unreadable}
		if err != nil || !again {
			return total, err
		}
		select { // what others wrote may be on its way to a cache
		case <-time.After(settlePause):
		case <-ctx.Done():
			return total, ctx.Err()
		}
	}
}

const settlePause = 100 * time.Millisecond

// pass goes through everything once. again tells that it met writes of others.
func (r *Rewrite) pass(ctx context.Context, before int) (done Rewritten, again bool, err error) {
	transformers := map[string]value.Transformer{}
	var ops []storage.Op
	size := 0
	flush := func() error {
		if len(ops) == 0 {
			return nil
		}
		results, err := r.Commit(ctx, ops)
		if err != nil {
			return err
		}
		for i, res := range results {
			switch {
			case res.Err == nil:
				done.Written++
			case errors.Is(res.Err, storage.ErrConflict), errors.Is(res.Err, storage.ErrNotFound):
				again = true
			default:
				return fmt.Errorf("write %s: %w", ops[i].Key, res.Err)
			}
		}
		ops, size = nil, 0
		if r.Progress != nil {
			r.Progress(Rewritten{Seen: done.Seen, Written: before + done.Written, Unreadable: done.Unreadable})
		}
		return nil
	}
	for obj, err := range r.Objects(ctx) {
		if err != nil {
			return done, again, err
		}
		t, known := transformers[obj.Resource]
		if !known {
			t = r.transformer(obj.Resource)
			transformers[obj.Resource] = t
		}
		if t == nil && !bytes.HasPrefix(obj.Data, encrypted) {
			continue
		}
		done.Seen++
		data, err := r.anew(ctx, t, &obj)
		switch {
		case err != nil:
			done.Unreadable++
			if r.Unreadable != nil {
				r.Unreadable(obj.Key, err)
			}
		case data != nil:
			ops = append(ops, storage.Op{Key: obj.Key, Verb: storage.Update, Expect: obj.Revision, Data: data})
			size += len(data)
		}
		if len(ops) >= rewriteOps || size >= rewriteBytes {
			if err := flush(); err != nil {
				return done, again, err
			}
		}
	}
	return done, again, flush()
}

// transformer is that of stored objects; nil for what is none of the API's, or not to be encrypted.
func (r *Rewrite) transformer(resource string) value.Transformer {
	if strings.HasSuffix(resource, internal) {
		return nil
	}
	return r.Keys.Transformer(groupResource(resource), r.Providers)
}

// groupResource is what the API calls a stored resource. Custom resources that share the name of a built-in one are kept apart
// from it by something behind a slash.
func groupResource(resource string) schema.GroupResource {
	name, _, _ := strings.Cut(resource, "/")
	return schema.ParseGroupResource(name)
}

// internal is the group of what is stored and not served.
const internal = ".rowlock.internal"

// anew returns the bytes that are to replace an object's; nil when it can stay as it is.
func (r *Rewrite) anew(ctx context.Context, t value.Transformer, obj *storage.Object) ([]byte, error) {
	at := value.DefaultContext(obj.Key.String())
	if t == nil {
		// No longer to be encrypted at all.
		t = r.Keys.always(groupResource(obj.Resource), r.Providers)
	}
	if own, ok := t.(*transformer); ok && own.fresh(obj.Data) {
		return nil, nil
	}
	plain, stale, err := t.TransformFromStorage(ctx, obj.Data, at)
	if err != nil || !stale {
		return nil, err
	}
	return t.TransformToStorage(ctx, plain, at)
}

// fresh tells, without decrypting, that bytes were encrypted with the generated key of the day where that is what is wanted.
func (t *transformer) fresh(data []byte) bool {
	sealed, ok := bytes.CutPrefix(data, prefix)
	return ok && secret(t.resource) && t.providers.transformer(t.resource) == nil && !t.keys.current().ring.Stale(sealed)
}

// Scheme names how bytes are encrypted: "plain", a generated key by its id, or a provider by its prefix.
func Scheme(data []byte) string {
	if sealed, ok := bytes.CutPrefix(data, prefix); ok {
		if id, ok := seal.SealedBy(sealed); ok {
			return "key " + id.String()
		}
		return "damaged"
	}
	if !bytes.HasPrefix(data, encrypted) {
		return "plain"
	}
	parts := bytes.SplitN(data, []byte(":"), 6) // k8s:enc:<provider>:<version>:<name>:
	if len(parts) < 6 {
		return "damaged"
	}
	return string(bytes.Join(parts[2:5], []byte(":")))
}

// UsedKey tells which generated key bytes were encrypted with.
func UsedKey(data []byte) (seal.KeyID, bool) {
	sealed, ok := bytes.CutPrefix(data, prefix)
	if !ok {
		return seal.KeyID{}, false
	}
	return seal.SealedBy(sealed)
}
