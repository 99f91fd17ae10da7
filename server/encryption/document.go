package encryption

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// Resource is the storage resource that data keys are kept under. It is internal: the API does not serve it.
const Resource = "encryptionkeys.rowlock.internal"

// documentKey is the one object of Resource.
var documentKey = storage.Key{Resource: Resource, Name: "data"}

// documentVersion is raised when an older binary could not use a newer document.
const documentVersion = 1

// ErrFormat: the stored keys were written by a newer version of Rowlock, or not by Rowlock.
var ErrFormat = errors.New("encryption: stored keys not understood")

// Store is the part of storage.Store that Load and Rotate need.
type Store interface {
	Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error)
	Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error)
}

// sealed is the document's stored form.
type sealed struct {
	Sealed []byte `json:"sealed"` // base64 of a sealed document
}

// document is what is sealed.
type document struct {
	Version int `json:"version"`
	// Cluster is a random name that is part of what everything encrypted is bound to. It is not the cluster's name, so
	// that a cluster can be restored under another.
	Cluster string `json:"cluster"`
	// Keys: the first encrypts, every one decrypts.
	Keys []dataKey `json:"keys"`
	// Next is a key that only decrypts yet: the first half of a rotation.
	Next *dataKey `json:"next,omitempty"`
}

type dataKey struct {
	Key     string    `json:"key"` // as seal.Parse reads it
	Created time.Time `json:"created"`
	// Retired is when another key took over; zero for the one that encrypts.
	Retired time.Time `json:"retired,omitzero"`
}

func newDataKey(now time.Time) dataKey {
	return dataKey{Key: strings.TrimSpace(seal.Generate()), Created: now.UTC().Truncate(time.Second)}
}

func newDocument(now time.Time) *document {
	return &document{Version: documentVersion, Cluster: rand.Text(), Keys: []dataKey{newDataKey(now)}}
}

// all are the document's keys, the one that encrypts first.
func (d *document) all() []dataKey {
	all := append([]dataKey{}, d.Keys...)
	if d.Next != nil {
		all = append(all, *d.Next)
	}
	return all
}

// ring makes the keys usable.
func (d *document) ring() (*seal.Keyring, error) {
	var text strings.Builder
	for _, k := range d.all() {
		text.WriteString(k.Key + "\n")
	}
	ring, err := seal.Parse(text.String())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return ring, nil
}

// open reads a document's stored form. stale tells that the operator is rotating out the key that sealed it.
func open(data []byte, operator *seal.Keyring) (doc *document, stale bool, err error) {
	var outer sealed
	if err := json.Unmarshal(data, &outer); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	plain, err := operator.Open(outer.Sealed, documentKey.String())
	if err != nil {
		return nil, false, err
	}
	doc = &document{}
	if err := json.Unmarshal(plain, doc); err != nil {
		return nil, false, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if doc.Version != documentVersion || doc.Cluster == "" || len(doc.Keys) == 0 {
		return nil, false, fmt.Errorf("%w: version %d with %d keys, this binary knows %d", ErrFormat, doc.Version, len(doc.Keys), documentVersion)
	}
	return doc, operator.Stale(outer.Sealed), nil
}

func (d *document) seal(operator *seal.Keyring) ([]byte, error) {
	plain, err := json.Marshal(d)
	if err != nil {
		return nil, err
	}
	return json.Marshal(sealed{Sealed: operator.Seal(plain, documentKey.String())})
}

// revise reads the document, lets change work on it, and writes what came of it, until nobody was quicker. change is given a
// new document where there is none, and tells whether to write. It returns the document as it is stored, and at which revision.
func revise(ctx context.Context, store Store, operator *seal.Keyring, change func(doc *document, fresh bool) (bool, error)) (*document, storage.Revision, error) {
	for {
		op := storage.Op{Key: documentKey}
		doc, stale := (*document)(nil), false
		obj, err := store.Get(ctx, documentKey, 0)
		switch {
		case errors.Is(err, storage.ErrNotFound):
			op.Verb = storage.Create
			doc = newDocument(time.Now())
		case err != nil:
			return nil, 0, err
		default:
			op.Verb, op.Expect = storage.Update, obj.Revision
			if doc, stale, err = open(obj.Data, operator); err != nil {
				return nil, 0, err
			}
		}
		write, err := change(doc, op.Verb == storage.Create)
		if err != nil {
			return nil, 0, err
		}
		if !write && !stale {
			return doc, obj.Revision, nil
		}
		if op.Data, err = doc.seal(operator); err != nil {
			return nil, 0, err
		}
		done, err := store.Commit(ctx, []storage.Op{op})
		if err != nil {
			return nil, 0, err
		}
		if err = done.Results[0].Err; err == nil {
			return doc, done.Results[0].Revision, nil
		}
		if !errors.Is(err, storage.ErrExists) && !errors.Is(err, storage.ErrConflict) && !errors.Is(err, storage.ErrNotFound) {
			return nil, 0, err
		}
	}
}
