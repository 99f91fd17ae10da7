// Package seal keeps the secrets that replicas share unreadable to whoever can only read the database.
//
// An operator supplies the key, as a file or as an environment variable; the database never holds it. What is sealed
// carries the id of the key that sealed it, so that a wrong key is told apart from damaged data, and is bound to the
// place it is stored at, so that one sealed value cannot stand in for another.
//
// Keyrings allow rotation: the first key seals, and every key opens.
package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
)

var (
	// ErrWrongKey: the value was sealed with a key that the keyring does not hold. Errors that wrap it name the id of
	// the key that is wanted; see [WrongKeyError].
	ErrWrongKey = errors.New("seal: wrong encryption key")
	// ErrTampered: the right key is there, but the value, or the place it was found at, is not what was sealed.
	ErrTampered = errors.New("seal: sealed value was changed")
	// ErrBadKey: a text that should hold an encryption key does not.
	ErrBadKey = errors.New("seal: malformed encryption key")
	// ErrNoKey: neither a file nor an environment variable supplies an encryption key.
	ErrNoKey = errors.New("seal: no encryption key")
)

// WrongKeyError is the ErrWrongKey that Open returns.
type WrongKeyError struct {
	Want KeyID   // of the key that sealed the value
	Have []KeyID // of the keys in the keyring
}

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("%v: the data was sealed with key %s, but the supplied key is %s", ErrWrongKey, e.Want, joinIDs(e.Have))
}

// Unwrap makes errors.Is(err, ErrWrongKey) true.
func (e *WrongKeyError) Unwrap() error { return ErrWrongKey }

// envelope is what a sealed value starts with: four bytes that name the format, then the key's id, then the nonce.
var envelope = [4]byte{'r', 'l', 'k', 1}

const headerBytes = len(envelope) + idBytes

// Keyring seals with its first key and opens with any. It is immutable and safe for concurrent use.
type Keyring struct {
	keys []key
}

// KeyIDs returns the ids of the keyring's keys, the sealing one first.
func (r *Keyring) KeyIDs() []KeyID {
	ids := make([]KeyID, len(r.keys))
	for i, k := range r.keys {
		ids[i] = k.id
	}
	return ids
}

// Seal encrypts and authenticates plain. The same place must be given to Open; it is authenticated, not kept.
func (r *Keyring) Seal(plain []byte, place string) []byte {
	k := r.keys[0]
	sealed := make([]byte, headerBytes+k.aead.NonceSize(), headerBytes+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	copy(sealed, envelope[:])
	copy(sealed[len(envelope):], k.id[:])
	nonce := sealed[headerBytes:]
	rand.Read(nonce) // never fails: crypto/rand ends the process when the system has no randomness
	return k.aead.Seal(sealed, nonce, plain, additional(sealed[:headerBytes], place))
}

// Open returns what Seal was given: ErrWrongKey when the keyring lacks the key that sealed it, ErrTampered when
// anything else about the value or the place is not as it was.
func (r *Keyring) Open(sealed []byte, place string) ([]byte, error) {
	id, ok := sealedBy(sealed)
	if !ok {
		return nil, fmt.Errorf("%w: not a sealed value", ErrTampered)
	}
	i := slices.IndexFunc(r.keys, func(k key) bool { return k.id == id })
	if i < 0 {
		return nil, &WrongKeyError{Want: id, Have: r.KeyIDs()}
	}
	aead := r.keys[i].aead
	body := sealed[headerBytes:]
	if len(body) < aead.NonceSize()+aead.Overhead() {
		return nil, fmt.Errorf("%w: %d bytes are missing", ErrTampered, aead.NonceSize()+aead.Overhead()-len(body))
	}
	nonce, text := body[:aead.NonceSize()], body[aead.NonceSize():]
	plain, err := aead.Open(nil, nonce, text, additional(sealed[:headerBytes], place))
	if err != nil {
		return nil, fmt.Errorf("%w (sealed with key %s)", ErrTampered, id)
	}
	return plain, nil
}

// Stale tells whether a sealed value should be sealed again because a key other than the first one sealed it.
func (r *Keyring) Stale(sealed []byte) bool {
	id, ok := sealedBy(sealed)
	return !ok || id != r.keys[0].id
}

// SealedBy tells which key sealed a value; not ok when it is no sealed value.
func SealedBy(sealed []byte) (id KeyID, ok bool) { return sealedBy(sealed) }

func sealedBy(sealed []byte) (id KeyID, ok bool) {
	if len(sealed) < headerBytes || !bytes.Equal(sealed[:len(envelope)], envelope[:]) {
		return id, false
	}
	copy(id[:], sealed[len(envelope):])
	return id, true
}

// additional is what is authenticated beside the text: the header, of fixed length, and the place.
func additional(header []byte, place string) []byte {
	return append(slices.Clone(header), place...)
}

type key struct {
	id   KeyID
	aead cipher.AEAD
}
