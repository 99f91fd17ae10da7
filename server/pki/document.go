package pki

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// place is that of the one object of Resource.
var place = storage.Key{Resource: Resource, Name: "control-plane"}

// documentVersion is raised when an older binary could not use a newer document.
const documentVersion = 1

// sealed is the object's stored form.
type sealed struct {
	Sealed []byte `json:"sealed"` // base64 of a sealed document
}

// document is what is sealed. Of each list the first entry signs, and the others are still trusted, which is what
// rotation needs.
type document struct {
	Version            int        `json:"version"`
	ClusterCA          []pemPair  `json:"clusterCA"`
	FrontProxyCA       []pemPair  `json:"frontProxyCA"`
	ServiceAccountKeys []pemBlock `json:"serviceAccountKeys"`
}

type pemPair struct {
	Cert pemBlock `json:"cert"`
	Key  pemBlock `json:"key"`
}

// pemBlock is PEM text, which JSON shows as a string.
type pemBlock string

// complete makes what a document lacks and tells whether there was any.
func (d *document) complete(now time.Time) (added bool, err error) {
	d.Version = documentVersion
	for _, ca := range []struct {
		list *[]pemPair
		name string
	}{
		{&d.ClusterCA, "kubernetes"}, // the names kubeadm gives, which people know
		{&d.FrontProxyCA, "front-proxy-ca"},
	} {
		if len(*ca.list) > 0 {
			continue
		}
		pair, err := newAuthority(ca.name, now)
		if err != nil {
			return false, err
		}
		*ca.list, added = []pemPair{pair}, true
	}
	if len(d.ServiceAccountKeys) == 0 {
		key, err := newKey()
		if err != nil {
			return false, err
		}
		text, err := encodeKey(key)
		if err != nil {
			return false, err
		}
		d.ServiceAccountKeys, added = []pemBlock{pemBlock(text)}, true
	}
	return added, nil
}

func (d *document) identity() (*Identity, error) {
	var id Identity
	var err error
	if id.ClusterCA, err = loadAuthority(d.ClusterCA); err != nil {
		return nil, fmt.Errorf("%w: cluster authority: %w", ErrFormat, err)
	}
	if id.FrontProxyCA, err = loadAuthority(d.FrontProxyCA); err != nil {
		return nil, fmt.Errorf("%w: front proxy authority: %w", ErrFormat, err)
	}
	for _, text := range d.ServiceAccountKeys {
		var key *ecdsa.PrivateKey
		if key, err = decodeKey([]byte(text)); err != nil {
			return nil, fmt.Errorf("%w: service account key: %w", ErrFormat, err)
		}
		id.serviceAccountKeys = append(id.serviceAccountKeys, key)
	}
	return &id, nil
}

// writeOp is the conditional write that would replace what was read.
type writeOp struct {
	storage.Op
	stale bool // sealed with a key that the operator is rotating out
}

func read(ctx context.Context, store Getter, keys *seal.Keyring, key storage.Key) (*document, writeOp, error) {
	op := writeOp{Op: storage.Op{Key: key}}
	obj, err := store.Get(ctx, key, 0)
	if errors.Is(err, storage.ErrNotFound) {
		op.Verb = storage.Create
		return &document{}, op, nil
	}
	if err != nil {
		return nil, op, err
	}
	op.Verb, op.Expect = storage.Update, obj.Revision
	var outer sealed
	if err := json.Unmarshal(obj.Data, &outer); err != nil {
		return nil, op, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	plain, err := keys.Open(outer.Sealed, key.String())
	if err != nil {
		return nil, op, err
	}
	op.stale = keys.Stale(outer.Sealed)
	var doc document
	if err := json.Unmarshal(plain, &doc); err != nil {
		return nil, op, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if doc.Version != documentVersion {
		return nil, op, fmt.Errorf("%w: version %d, this binary knows %d", ErrFormat, doc.Version, documentVersion)
	}
	return &doc, op, nil
}

func write(ctx context.Context, store Store, keys *seal.Keyring, doc *document, op storage.Op) error {
	plain, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	if op.Data, err = json.Marshal(sealed{Sealed: keys.Seal(plain, op.Key.String())}); err != nil {
		return err
	}
	done, err := store.Commit(ctx, []storage.Op{op})
	if err != nil {
		return err
	}
	return done.Results[0].Err
}
