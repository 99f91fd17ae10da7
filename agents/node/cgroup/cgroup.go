// Package cgroup keeps the cgroups that pods are in: kubepods, in it burstable and besteffort, and in these one of each pod, with the
// names, limits and weights that the kubelet gives them. It works with one hierarchy for all controllers (v2) and with one for each (v1),
// and with cgroups that it makes itself (cgroupfs) or has systemd make.
//
// Containers' cgroups are the runtime's. What a runtime leaves in a pod's is removed with it.
package cgroup

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/go-logr/logr"
	libcontainer "github.com/opencontainers/cgroups"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// Hierarchies are where cgroups are mounted.
type Hierarchies struct {
	V2 bool
	// Mounts are by their controllers; with v2 all are the same.
	Mounts map[string]string
	// Others are mounts in which nothing is made here, but runtimes make the same cgroups: that of v2 beside v1.
	Others []string
}

// Find finds those of the machine.
func Find() (Hierarchies, error) {
	found, err := cm.GetCgroupSubsystems()
	if err != nil {
		return Hierarchies{}, fmt.Errorf("cgroups: %w", err)
	}
	h := Hierarchies{V2: libcontainer.IsCgroup2UnifiedMode(), Mounts: found.MountPoints}
	if !h.V2 {
		if h.Others, err = unified(); err != nil {
			return Hierarchies{}, fmt.Errorf("cgroups: %w", err)
		}
	}
	return h, nil
}

// unified are mounts of v2.
func unified() ([]string, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	var found []string
	for line := range strings.Lines(string(mounts)) {
		if of := strings.Fields(line); len(of) > 2 && of[2] == "cgroup2" {
			found = append(found, of[1])
		}
	}
	return found, nil
}

// directories are the mounts, each once.
func (h Hierarchies) directories() []string {
	return slices.Compact(slices.Sorted(maps.Values(h.Mounts)))
}

// Config is how a node keeps them.
type Config struct {
	Log *slog.Logger
	// Hierarchies are those that Find found.
	Hierarchies Hierarchies
	// Systemd has systemd make them.
	Systemd bool
	// Root is the cgroup that all are in; "": the root.
	Root string
	// NoCPUQuota: CPU limits are not enforced.
	NoCPUQuota bool
	// PodPids is how many processes a pod may have; 0: as many as the node.
	PodPids int64
}

// Manager keeps them.
type Manager struct {
	Config
	top, burstable, bestEffort cm.CgroupName
	systemd                    cm.CgroupManager // nil: they are made here

	// How files are written and directories removed: tests' trees hold plain files.
	store func(file, value string) error
	rmdir func(directory string) error
}

// New makes one. It does nothing until Setup.
func New(c Config) (*Manager, error) {
	root := cm.ParseCgroupfsToCgroupName(filepath.Clean("/" + c.Root))
	if slices.ContainsFunc(root, func(part string) bool { return strings.Contains(part, "_") }) {
		return nil, fmt.Errorf("cgroup root %q: names with _ cannot be told from systemd's", c.Root)
	}
	m := &Manager{Config: c, top: cm.NewCgroupName(root, "kubepods"), store: store, rmdir: syscall.Rmdir}
	m.burstable, m.bestEffort = cm.NewCgroupName(m.top, "burstable"), cm.NewCgroupName(m.top, "besteffort")
	if c.Systemd {
		subsystems := &cm.CgroupSubsystems{MountPoints: c.Hierarchies.Mounts}
		m.systemd = cm.NewCgroupManager(logr.FromSlogHandler(c.Log.Handler()), subsystems, "systemd")
	}
	return m, nil
}

// store writes a file that is there: in a cgroup none can be made.
func store(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// wellFormed is what a UID may be that is put into a name: static pods' come from files.
var wellFormed = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]*$`)

func (m *Manager) name(pod *corev1.Pod) (cm.CgroupName, error) {
	if !wellFormed.MatchString(string(pod.UID)) {
		return nil, fmt.Errorf("cgroup of a pod: its UID %q is not one", pod.UID)
	}
	parent := m.top
	switch qos.GetPodQOS(pod) {
	case corev1.PodQOSBurstable:
		parent = m.burstable
	case corev1.PodQOSBestEffort:
		parent = m.bestEffort
	}
	return cm.NewCgroupName(parent, cm.GetPodCgroupNameSuffix(pod.UID)), nil
}

// literal is a name as it is below a mount.
func (m *Manager) literal(name cm.CgroupName) string {
	if m.Systemd {
		return name.ToSystemd()
	}
	return name.ToCgroupfs()
}

// All is the cgroup that all pods are in, below a mount.
func (m *Manager) All() string { return m.literal(m.top) }

// Parent is the pod's cgroup, as runtimes want to hear it.
func (m *Manager) Parent(pod *corev1.Pod) (string, error) {
	name, err := m.name(pod)
	if err != nil {
		return "", err
	}
	return m.literal(name), nil
}

// Directory is where a controller's files of the pod's cgroup are; "": the machine does not have the controller.
func (m *Manager) Directory(pod *corev1.Pod, controller string) string {
	name, err := m.name(pod)
	mount := m.Hierarchies.Mounts[controller]
	if err != nil || mount == "" {
		return ""
	}
	return filepath.Join(mount, m.literal(name))
}

// uid is that of the pod whose cgroup has this literal name; false: it is none of a pod.
func (m *Manager) uid(directory string) (types.UID, bool) {
	var name cm.CgroupName
	if m.Systemd {
		name = cm.ParseSystemdToCgroupName(directory)
	} else {
		name = cm.ParseCgroupfsToCgroupName(directory)
	}
	if len(name) == 0 {
		return "", false
	}
	id, found := strings.CutPrefix(name[len(name)-1], "pod")
	return types.UID(id), found && wellFormed.MatchString(id)
}
