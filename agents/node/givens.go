package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// givens are files in pods' directories, with which they go.
type givens struct {
	pods string // directory
}

func (g givens) file(uid types.UID) (string, error) {
	if name := string(uid); name != filepath.Base(name) || name == "." || name == ".." {
		return "", fmt.Errorf("pod UID %q cannot be the name of a directory", name)
	}
	return filepath.Join(g.pods, string(uid), "resources.json"), nil
}

// Load returns nothing when nothing was saved.
func (g givens) Load(uid types.UID) (given worker.Given, err error) {
	file, err := g.file(uid)
	if err != nil {
		return given, err
	}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return given, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &given)
	}
	return given, err
}

// Save replaces what was saved.
func (g givens) Save(uid types.UID, given worker.Given) error {
	file, err := g.file(uid)
	if err != nil {
		return err
	}
	data, err := json.Marshal(given)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	next := file + ".next"
	if err := os.WriteFile(next, data, 0o600); err != nil {
		return err
	}
	return os.Rename(next, file)
}
