// Package pki holds what makes a cluster itself: the authority that its certificates come from, the authority of its
// front proxy, and the keys that sign its service account tokens.
//
// All of it lives in the cluster's own part of the database, sealed with the operator's key, in one object, so that
// every replica reads the same identity. Whoever starts first makes it. Everything else is derived: serving and client
// certificates are issued on the spot and stored nowhere, since any replica can issue them again in microseconds.
//
// Keys are ECDSA P-256: upstream accepts them everywhere an RSA key would do, and making one takes no time.
package pki

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// Resource is the storage resource that identities are kept under. It is internal: the API does not serve it.
const Resource = "identities.rowlock.internal"

// ErrFormat: the stored identity was written by a newer version of Rowlock, or not by Rowlock.
var ErrFormat = errors.New("pki: stored identity not understood")

// Getter is the part of storage.Store that Read needs.
type Getter interface {
	Get(ctx context.Context, key storage.Key, at storage.Revision) (storage.Object, error)
}

// Store is the part of storage.Store that Load needs.
type Store interface {
	Getter
	Commit(ctx context.Context, ops []storage.Op) (storage.Committed, error)
}

// Identity is one cluster's identity. It is immutable and safe for concurrent use.
type Identity struct {
	// ClusterCA signs what clients and the server show each other.
	ClusterCA *Authority
	// FrontProxyCA signs the certificates of front proxies, whose word is taken for who a user is. It is separate from
	// ClusterCA so that no client certificate ever passes for a proxy's.
	FrontProxyCA *Authority

	serviceAccountKeys []*ecdsa.PrivateKey
}

// ServiceAccountKey returns the key that signs service account tokens.
func (id *Identity) ServiceAccountKey() *ecdsa.PrivateKey { return id.serviceAccountKeys[0] }

// ServiceAccountKeyPEM returns that key, for signers that are not ours.
func (id *Identity) ServiceAccountKeyPEM() ([]byte, error) {
	return encodeKey(id.serviceAccountKeys[0])
}

// ServiceAccountPublicKeys returns the keys that service account tokens are verified with, the signing key's first.
func (id *Identity) ServiceAccountPublicKeys() []*ecdsa.PublicKey {
	keys := make([]*ecdsa.PublicKey, len(id.serviceAccountKeys))
	for i, k := range id.serviceAccountKeys {
		keys[i] = &k.PublicKey
	}
	return keys
}

// Load returns the identity of the cluster whose store it is given, and makes what is missing of it. Of several replicas
// that start at once one makes it and all return the same.
//
// Errors wrap seal.ErrWrongKey or seal.ErrTampered when the stored identity cannot be opened, ErrFormat when it is not
// understood, and what the store returned, such as storage.ErrBusy, when it could not be reached. An identity that is
// there but cannot be read is never replaced.
func Load(ctx context.Context, store Store, keys *seal.Keyring) (*Identity, error) {
	for {
		doc, op, err := read(ctx, store, keys, place)
		if err != nil {
			return nil, fmt.Errorf("load cluster identity: %w", err)
		}
		added, err := doc.complete(time.Now())
		if err != nil {
			return nil, fmt.Errorf("make cluster identity: %w", err)
		}
		if added || op.stale {
			err := write(ctx, store, keys, doc, op.Op)
			if lostRace(err) {
				continue // take what the other replica wrote
			}
			if err != nil {
				return nil, fmt.Errorf("store cluster identity: %w", err)
			}
		}
		id, err := doc.identity()
		if err != nil {
			return nil, fmt.Errorf("load cluster identity: %w", err)
		}
		return id, nil
	}
}

// Read returns the identity of a cluster that has one already, storage.ErrNotFound otherwise. It changes nothing. The other
// errors are Load's.
func Read(ctx context.Context, store Getter, keys *seal.Keyring) (*Identity, error) {
	doc, op, err := read(ctx, store, keys, place)
	if err != nil {
		return nil, fmt.Errorf("read cluster identity: %w", err)
	}
	if op.Verb == storage.Create {
		return nil, fmt.Errorf("read cluster identity: %w", storage.ErrNotFound)
	}
	id, err := doc.identity()
	if err != nil {
		return nil, fmt.Errorf("read cluster identity: %w", err)
	}
	return id, nil
}

// lostRace tells whether a conditional write failed because somebody else's came first.
func lostRace(err error) bool {
	return errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrConflict) || errors.Is(err, storage.ErrNotFound)
}
