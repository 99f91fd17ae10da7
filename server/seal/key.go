package seal

import (
	"bufio"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"
)

const (
	// KeyBytes is the length of a key.
	KeyBytes = chacha20poly1305.KeySize
	idBytes  = 8
)

// KeyID names a key without telling anything about it. It may be logged.
type KeyID [idBytes]byte

func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

func joinIDs(ids []KeyID) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
	}
	return strings.Join(texts, ", ")
}

// Generate returns the text of a new random key, as Parse reads it.
func Generate() string {
	var raw [KeyBytes]byte
	rand.Read(raw[:])
	return base64.StdEncoding.EncodeToString(raw[:]) + "\n"
}

// Parse reads a keyring: one key a line, each 32 bytes in base64, the sealing key first. Empty lines and lines that
// start with # are skipped. Errors wrap ErrBadKey and never quote the text.
func Parse(text string) (*Keyring, error) {
	var ring Keyring
	lines := bufio.NewScanner(strings.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		raw, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d is not base64", ErrBadKey, n)
		}
		if len(raw) != KeyBytes {
			return nil, fmt.Errorf("%w: line %d holds %d bytes, must be %d", ErrBadKey, n, len(raw), KeyBytes)
		}
		k, err := newKey(raw)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrBadKey, n, err)
		}
		ring.keys = append(ring.keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadKey, err)
	}
	if len(ring.keys) == 0 {
		return nil, fmt.Errorf("%w: it is empty", ErrBadKey)
	}
	return &ring, nil
}

// Join returns a keyring of the keys of several, in their order.
func Join(rings ...*Keyring) *Keyring {
	var all Keyring
	for _, r := range rings {
		all.keys = append(all.keys, r.keys...)
	}
	return &all
}

// newKey uses XChaCha20-Poly1305: its nonces are long enough to be drawn at random for as many values as a key ever
// seals, from any number of replicas that do not know of each other.
func newKey(raw []byte) (key, error) {
	aead, err := chacha20poly1305.NewX(raw)
	if err != nil {
		return key{}, err
	}
	k := key{aead: aead}
	sum := sha256.Sum256(append([]byte("rowlock encryption key id\x00"), raw...))
	copy(k.id[:], sum[:])
	return k, nil
}
