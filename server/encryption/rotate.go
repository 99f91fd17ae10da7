package encryption

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage"
)

// AddKey makes the key that is to take over: the first half of a rotation. Every replica can decrypt with it once it is in the
// log, and none encrypts with it. When such a key is there already, it is that one: a rotation that was cut short goes on.
func AddKey(ctx context.Context, store Store, operator *seal.Keyring) (seal.KeyID, error) {
	doc, _, err := revise(ctx, store, operator, func(doc *document, _ bool) (bool, error) {
		if doc.Next != nil {
			return false, nil
		}
		next := newDataKey(time.Now())
		doc.Next = &next
		return true, nil
	})
	if err != nil {
		return seal.KeyID{}, fmt.Errorf("add data key: %w", err)
	}
	return doc.Next.id()
}

// ErrNoNext: there is no key to be promoted.
var ErrNoNext = errors.New("encryption: no data key was added")

// PromoteKey makes the key that AddKey made the one that encrypts. The others go on decrypting.
func PromoteKey(ctx context.Context, store Store, operator *seal.Keyring) (seal.KeyID, error) {
	doc, _, err := revise(ctx, store, operator, func(doc *document, fresh bool) (bool, error) {
		if doc.Next == nil || fresh {
			return false, ErrNoNext
		}
		doc.Keys[0].Retired = time.Now().UTC().Truncate(time.Second)
		doc.Keys = append([]dataKey{*doc.Next}, doc.Keys...)
		doc.Next = nil
		return true, nil
	})
	if err != nil {
		return seal.KeyID{}, fmt.Errorf("promote data key: %w", err)
	}
	return doc.Keys[0].id()
}

// Reseal seals the data keys with the operator's first key, if another one sealed them.
func Reseal(ctx context.Context, store Store, operator *seal.Keyring) error {
	_, _, err := revise(ctx, store, operator, func(*document, bool) (bool, error) { return false, nil })
	if err != nil {
		return fmt.Errorf("seal data keys: %w", err)
	}
	return nil
}

// RetiredFor is how long a key must not have encrypted before Prune takes it away: a replica that was cut off from the log may
// not have heard of its retirement.
const RetiredFor = 10 * time.Minute

// Prune takes away the retired keys that used does not name, and returns them.
func Prune(ctx context.Context, store Store, operator *seal.Keyring, used map[seal.KeyID]bool, now time.Time) ([]seal.KeyID, error) {
	var gone []seal.KeyID
	_, _, err := revise(ctx, store, operator, func(doc *document, _ bool) (bool, error) {
		gone = nil
		kept := doc.Keys[:1:1]
		for _, k := range doc.Keys[1:] {
			id, err := k.id()
			if err != nil {
				return false, err
			}
			if used[id] || now.Sub(k.Retired) < RetiredFor {
				kept = append(kept, k)
			} else {
				gone = append(gone, id)
			}
		}
		doc.Keys = kept
		return len(gone) > 0, nil
	})
	if err != nil {
		return nil, fmt.Errorf("prune data keys: %w", err)
	}
	return gone, nil
}

// KeyInfo is what may be told of a data key.
type KeyInfo struct {
	ID               seal.KeyID
	Created, Retired time.Time
	Role             string // encrypts, decrypts, or added: the first half of a rotation
}

// Describe lists the data keys of a cluster, the one that encrypts first. It changes nothing; a cluster that was never served has none.
func Describe(ctx context.Context, store Store, operator *seal.Keyring) ([]KeyInfo, error) {
	obj, err := store.Get(ctx, documentKey, 0)
	if errors.Is(err, storage.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	doc, _, err := open(obj.Data, operator)
	if err != nil {
		return nil, err
	}
	var all []KeyInfo
	for i, k := range doc.all() {
		id, err := k.id()
		if err != nil {
			return nil, err
		}
		info := KeyInfo{ID: id, Created: k.Created, Retired: k.Retired, Role: "decrypts"}
		switch {
		case i == 0:
			info.Role = "encrypts"
		case i == len(doc.Keys):
			info.Role = "added"
		}
		all = append(all, info)
	}
	return all, nil
}

func (k dataKey) id() (seal.KeyID, error) {
	ring, err := seal.Parse(k.Key)
	if err != nil {
		return seal.KeyID{}, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return ring.KeyIDs()[0], nil
}
