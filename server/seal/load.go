package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// EnvVar is the environment variable that may hold the key in place of a file.
const EnvVar = "ROWLOCK_ENCRYPTION_KEY"

// Source says where the operator put the key. File wins over Env; an empty field is not looked at.
type Source struct {
	File string // path
	Env  string // name of an environment variable
}

// LoadKey reads the keyring from where the source says: ErrNoKey when nothing is there.
func LoadKey(src Source) (*Keyring, error) {
	if src.File != "" {
		text, err := os.ReadFile(src.File)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w: file %s does not exist", ErrNoKey, src.File)
		}
		if err != nil {
			return nil, fmt.Errorf("read encryption key: %w", err)
		}
		ring, err := Parse(string(text))
		if err != nil {
			return nil, fmt.Errorf("encryption key file %s: %w", src.File, err)
		}
		return ring, nil
	}
	if src.Env != "" {
		if text := os.Getenv(src.Env); text != "" {
			ring, err := Parse(text)
			if err != nil {
				return nil, fmt.Errorf("environment variable %s: %w", src.Env, err)
			}
			return ring, nil
		}
	}
	return nil, ErrNoKey
}

// LoadOrGenerate reads the key file at path, and makes it first when it is missing: readable by its owner only, complete
// or not there at all, and on disk before it is used, so that nothing can be sealed with a key that a power cut takes
// away. Of several processes that start at once, all get the same key.
func LoadOrGenerate(path string) (*Keyring, error) {
	ring, err := LoadKey(Source{File: path})
	if !errors.Is(err, ErrNoKey) {
		return ring, err
	}
	if err := create(path, Generate()); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("write encryption key: %w", err)
	}
	return LoadKey(Source{File: path})
}

// create makes a whole file appear under its name, or returns fs.ErrExist.
func create(path, text string) (err error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.WriteString(text)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return err
	}
	// A link, unlike a rename, never replaces a key that another process has made meanwhile.
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
