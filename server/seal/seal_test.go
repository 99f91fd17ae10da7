package seal_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/seal"
)

func ring(t *testing.T, texts ...string) *seal.Keyring {
	t.Helper()
	r, err := seal.Parse(strings.Join(texts, ""))
	if err != nil {
		t.Fatalf("Parse: %v", err)
	}
	return r
}

func TestOpenReturnsWhatWasSealed(t *testing.T) {
	t.Parallel()
	r := ring(t, seal.Generate())
	for _, plain := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("secret"), 10_000)} {
		sealed := r.Seal(plain, "place")
		if len(plain) > 8 && bytes.Contains(sealed, plain[:8]) {
			t.Errorf("sealed value of %d bytes shows its text", len(plain))
		}
		got, err := r.Open(sealed, "place")
		if err != nil || !bytes.Equal(got, plain) {
			t.Errorf("Open of %d bytes: got %d bytes, %v", len(plain), len(got), err)
		}
	}
	if bytes.Equal(r.Seal([]byte("x"), "p"), r.Seal([]byte("x"), "p")) {
		t.Error("sealing twice gave the same bytes")
	}
}

func TestWrongKeyNamesTheKeyWanted(t *testing.T) {
	t.Parallel()
	right, wrong := ring(t, seal.Generate()), ring(t, seal.Generate())
	_, err := wrong.Open(right.Seal([]byte("x"), "p"), "p")
	if !errors.Is(err, seal.ErrWrongKey) || errors.Is(err, seal.ErrTampered) {
		t.Fatalf("got %v, want ErrWrongKey", err)
	}
	for _, id := range []seal.KeyID{right.KeyIDs()[0], wrong.KeyIDs()[0]} {
		if !strings.Contains(err.Error(), id.String()) {
			t.Errorf("error %q does not name key %s", err, id)
		}
	}
	var detail *seal.WrongKeyError
	if !errors.As(err, &detail) || detail.Want != right.KeyIDs()[0] {
		t.Errorf("WrongKeyError is %+v", detail)
	}
}

func TestEveryChangeIsNoticed(t *testing.T) {
	t.Parallel()
	r := ring(t, seal.Generate())
	sealed := r.Seal([]byte("text"), "place")
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := r.Open(changed, "place"); !errors.Is(err, seal.ErrTampered) && !errors.Is(err, seal.ErrWrongKey) {
			t.Errorf("bit of byte %d flipped: got %v", i, err)
		}
		if _, err := r.Open(sealed[:i], "place"); !errors.Is(err, seal.ErrTampered) {
			t.Errorf("cut to %d bytes: got %v", i, err)
		}
	}
	if _, err := r.Open(sealed, "other place"); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("moved: got %v", err)
	}
}

func TestRotation(t *testing.T) {
	t.Parallel()
	first, second := seal.Generate(), seal.Generate()
	before, during, after := ring(t, first), ring(t, second, first), ring(t, second)
	old := before.Seal([]byte("x"), "p")
	if _, err := during.Open(old, "p"); err != nil {
		t.Errorf("old value under both keys: %v", err)
	}
	if !during.Stale(old) || before.Stale(old) {
		t.Error("Stale must be true exactly for values of another key than the first")
	}
	if _, err := after.Open(during.Seal([]byte("x"), "p"), "p"); err != nil {
		t.Errorf("new value under the new key: %v", err)
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	good := seal.Generate()
	for name, tc := range map[string]struct {
		text string
		keys int
	}{
		"one":                {good, 1},
		"no newline":         {strings.TrimSpace(good), 1},
		"windows newlines":   {strings.TrimSpace(good) + "\r\n", 1},
		"comments and blank": {"# made on Monday\n\n" + good + "\n" + seal.Generate(), 2},
		"empty":              {"", 0},
		"only a comment":     {"# key\n", 0},
		"not base64":         {"correct horse battery staple\n", 0},
		"short":              {"c2hvcnQ=\n", 0},
		"one bad of two":     {good + "c2hvcnQ=\n", 0},
		"huge line":          {strings.Repeat("A", 1<<20), 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := seal.Parse(tc.text)
			if tc.keys == 0 {
				if !errors.Is(err, seal.ErrBadKey) {
					t.Fatalf("got %v, want ErrBadKey", err)
				}
				if len(err.Error()) > 200 || strings.Contains(err.Error(), "horse") {
					t.Errorf("the error quotes the key text: %q", err)
				}
				return
			}
			if err != nil || len(r.KeyIDs()) != tc.keys {
				t.Fatalf("got %v, %v; want %d keys", r, err, tc.keys)
			}
		})
	}
}
