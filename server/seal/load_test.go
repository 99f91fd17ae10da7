package seal_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/server/seal"
)

func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	inFile, inEnv := seal.Generate(), seal.Generate()
	file := filepath.Join(dir, "key")
	bad := filepath.Join(dir, "bad")
	for path, text := range map[string]string{file: inFile, bad: "nonsense"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("KEY", inEnv)
	t.Setenv("BAD_KEY", "nonsense")
	for name, tc := range map[string]struct {
		src  seal.Source
		want string // a key's text
		err  error
	}{
		"file":         {seal.Source{File: file}, inFile, nil},
		"env":          {seal.Source{Env: "KEY"}, inEnv, nil},
		"file wins":    {seal.Source{File: file, Env: "KEY"}, inFile, nil},
		"nothing":      {seal.Source{}, "", seal.ErrNoKey},
		"missing file": {seal.Source{File: filepath.Join(dir, "none"), Env: "KEY"}, "", seal.ErrNoKey},
		"unset env":    {seal.Source{Env: "NO_SUCH_KEY"}, "", seal.ErrNoKey},
		"bad file":     {seal.Source{File: bad}, "", seal.ErrBadKey},
		"bad env":      {seal.Source{Env: "BAD_KEY"}, "", seal.ErrBadKey},
		"a directory":  {seal.Source{File: dir}, "", errAny},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := seal.LoadKey(tc.src)
			switch {
			case tc.err == errAny && err == nil, tc.err != errAny && !errors.Is(err, tc.err):
				t.Fatalf("got %v, want %v", err, tc.err)
			case err == nil && got.KeyIDs()[0] != ring(t, tc.want).KeyIDs()[0]:
				t.Errorf("got key %v", got.KeyIDs())
			}
		})
	}
}

var errAny = errors.New("any error")

func TestLoadOrGenerateAgrees(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	path := filepath.Join(dir, "encryption.key")
	var wg sync.WaitGroup
	ids := make([]seal.KeyID, 16)
	for i := range ids {
		wg.Go(func() {
			r, err := seal.LoadOrGenerate(path)
			if err != nil {
				t.Errorf("LoadOrGenerate: %v", err)
				return
			}
			ids[i] = r.KeyIDs()[0]
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("processes disagree: %v", ids)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("key file: %v, %v; want mode 0600", info, err)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("data directory: %v, %v; want mode 0700", info, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLoadOrGenerateKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.LoadOrGenerate(path); !errors.Is(err, seal.ErrBadKey) {
		t.Errorf("got %v, want ErrBadKey", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "damaged" {
		t.Errorf("file is now %q, %v", text, err)
	}
}
