package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/apimachinery/pkg/types"
	utilstrings "k8s.io/utils/strings"
)

// The names below a pod's directory are the kubelet's.
const (
	volumesName    = "volumes"
	pluginsName    = "plugins"
	subPathsName   = "volume-subpaths"
	containersName = "containers"
	hostsName      = "etc-hosts"
)

// element refuses what is not the name of one directory. The API does not let such names in; files of static pods may.
func element(what, name string) error {
	if name == "" || name == "." || name == ".." || len(name) > 255 || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%s %q cannot be the name of a directory", what, name)
	}
	return nil
}

func (m *Manager) podDirectory(pod types.UID) (string, error) {
	if err := element("pod UID", string(pod)); err != nil {
		return "", err
	}
	return filepath.Join(m.pods, string(pod)), nil
}

func (m *Manager) volumeDirectory(pod types.UID, plugin, name string) (string, error) {
	top, err := m.podDirectory(pod)
	if err == nil {
		err = element("volume", name)
	}
	if err != nil {
		return "", err
	}
	return filepath.Join(top, volumesName, utilstrings.EscapeQualifiedName(plugin), name), nil
}

// makeDirectory makes a pod's directory with those above it, which only the node's own processes get through.
func makeDirectory(path string, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	if err := os.Mkdir(path, mode); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case info.Mode().Perm() != mode: // the process may have a umask
		return os.Chmod(path, mode)
	}
	return nil
}

// ready is the file by which an agent knows that an emptyDir was made, and may have been written to.
func (m *Manager) ready(pod types.UID, name string) string {
	return filepath.Join(m.pods, string(pod), pluginsName, utilstrings.EscapeQualifiedName(emptyDirName), name, "ready")
}

func isReady(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func setReady(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return file.Close()
}
