package volume

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const hostsPath = "/etc/hosts"

// Hosts writes a pod's hosts file, and returns the mount of it for a container; nil: the container mounts something there itself. All
// containers of a pod have the one file.
func (m *Manager) Hosts(pod *corev1.Pod, container *corev1.Container, text []byte) (*runtimeapi.Mount, error) {
	for i := range container.VolumeMounts {
		if container.VolumeMounts[i].MountPath == hostsPath {
			return nil, nil
		}
	}
	top, err := m.podDirectory(pod.UID)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(top, 0o750); err != nil {
		return nil, err
	}
	at := filepath.Join(top, hostsName)
	// It is written in place: containers have the file, not its name.
	if err := os.WriteFile(at, text, 0o644); err != nil {
		return nil, err
	}
	if err := os.Chmod(at, 0o644); err != nil {
		return nil, err
	}
	return &runtimeapi.Mount{ContainerPath: hostsPath, HostPath: at, SelinuxRelabel: m.config.SELinux}, nil
}

// messages is how many files for messages of a container are kept. Statuses speak of the last two.
const messages = 10

// TerminationLog makes a file that a container writes its last message to, and returns the mount of it; nil: the container has none. Each
// start of a container has a file of its own.
func (m *Manager) TerminationLog(pod *corev1.Pod, container *corev1.Container) (*runtimeapi.Mount, error) {
	if container.TerminationMessagePath == "" {
		return nil, nil
	}
	top, err := m.podDirectory(pod.UID)
	if err == nil {
		err = element("container", container.Name)
	}
	if err != nil {
		return nil, err
	}
	directory := filepath.Join(top, containersName, container.Name)
	if err := os.MkdirAll(directory, 0o750); err != nil {
		return nil, err
	}
	forgetMessages(directory)
	at := filepath.Join(directory, fmt.Sprintf("%08x", rand.Uint32()))
	file, err := os.Create(at)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := file.Chmod(0o666); err != nil { // whoever the container's processes are
		return nil, err
	}
	return &runtimeapi.Mount{
		ContainerPath: absolute(container.TerminationMessagePath), HostPath: at, SelinuxRelabel: m.config.SELinux,
	}, nil
}

// forgetMessages removes the oldest files when there are many, as a container that always fails leaves them.
func forgetMessages(directory string) {
	entries, err := os.ReadDir(directory)
	if err != nil || len(entries) < messages {
		return
	}
	var files []os.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for _, old := range files[min(len(files), messages-1):] {
		_ = os.Remove(filepath.Join(directory, old.Name())) // or the next time
	}
}
