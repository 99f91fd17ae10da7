package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// Pods are those whose cgroups are there, in any hierarchy.
func (m *Manager) Pods() ([]types.UID, error) {
	var all []types.UID
	for _, directory := range m.podDirectories() {
		if id, ok := m.uid(directory); ok {
			all = append(all, id)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// podDirectories are all directories of pods' cgroups, of all hierarchies.
func (m *Manager) podDirectories() []string {
	var found []string
	for _, mount := range append(m.Hierarchies.directories(), m.Hierarchies.Others...) {
		for _, parent := range []cm.CgroupName{m.top, m.burstable, m.bestEffort} {
			directory := filepath.Join(mount, m.literal(parent))
			entries, err := os.ReadDir(directory)
			if err != nil {
				continue // it is not there
			}
			for _, e := range entries {
				path := filepath.Join(directory, e.Name())
				if _, ok := m.uid(path); ok && e.IsDir() {
					found = append(found, path)
				}
			}
		}
	}
	return found
}

// Remove kills what is left in a pod's cgroups and removes them, with what a runtime left in them. A pod that has none is no error.
func (m *Manager) Remove(ctx context.Context, id types.UID) error {
	var mine []string
	for _, directory := range m.podDirectories() {
		if found, _ := m.uid(directory); found == id {
			mine = append(mine, directory)
		}
	}
	for _, directory := range mine { // what is there cannot make more of itself
		_ = m.store(filepath.Join(directory, "pids.max"), "0")
	}
	var errs []error
	for _, directory := range mine {
		if err := m.kill(ctx, directory); err != nil {
			errs = append(errs, err)
		}
	}
	if m.systemd != nil && len(mine) > 0 && len(errs) == 0 {
		name := cm.ParseSystemdToCgroupName(mine[0])
		if err := m.systemd.Destroy(logr.FromSlogHandler(m.Log.Handler()), &cm.CgroupConfig{Name: name, ResourceParameters: &cm.ResourceConfig{}}); err != nil {
			errs = append(errs, err)
		}
	}
	for _, directory := range mine {
		if err := m.removeAll(ctx, directory); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// attempts bounds how often it is looked whether processes have ended, with pauses that add up to some seconds.
const (
	attempts = 50
	pause    = 100 * time.Millisecond
)

// kill kills all processes in a cgroup and below.
func (m *Manager) kill(ctx context.Context, directory string) error {
	for range attempts {
		var pids []int
		_ = filepath.WalkDir(directory, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				pids = append(pids, processes(path)...)
			}
			return nil
		})
		if len(pids) == 0 {
			return nil
		}
		if m.store(filepath.Join(directory, "cgroup.kill"), "1") != nil { // v2 since Linux 5.14
			for _, pid := range pids {
				_ = syscall.Kill(pid, syscall.SIGKILL) // one that has ended is what is wanted
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("cgroup %s: processes in it do not end", directory)
}

// processes are those in one cgroup.
func processes(directory string) []int {
	data, err := os.ReadFile(filepath.Join(directory, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for line := range strings.FieldsSeq(string(data)) {
		// 0 is one that this process cannot see; a signal to it would go to this process's group.
		if pid, err := strconv.Atoi(line); err == nil && pid > 1 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// removeAll removes a cgroup and those in it.
func (m *Manager) removeAll(ctx context.Context, directory string) error {
	entries, err := os.ReadDir(directory)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := m.removeAll(ctx, filepath.Join(directory, e.Name())); err != nil {
				return err
			}
		}
	}
	for range attempts {
		if err = m.rmdir(directory); err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) { // processes that were killed are not gone at once
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("cgroup %s: %w", directory, err)
}

// MemoryUsage is what a pod uses now, in bytes.
func (m *Manager) MemoryUsage(pod *corev1.Pod) (int64, error) {
	file := "memory.usage_in_bytes"
	if m.Hierarchies.V2 {
		file = "memory.current"
	}
	return number(filepath.Join(m.Directory(pod, "memory"), file))
}

func number(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}
