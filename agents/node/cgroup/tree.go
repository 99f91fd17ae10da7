package cgroup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// directories makes a cgroup and those that it is in, in one hierarchy.
func (m *Manager) directories(mount, literal string) error {
	at := mount
	for part := range strings.SplitSeq(strings.Trim(literal, "/"), "/") {
		if m.Hierarchies.V2 {
			m.delegate(at)
		}
		parent := at
		at = filepath.Join(at, part)
		if err := os.Mkdir(at, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if mount == m.Hierarchies.Mounts["cpuset"] && !m.Hierarchies.V2 {
			if err := m.inherit(parent, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// inherit gives a new cgroup of v1 its parent's CPUs and memory nodes: without any, no process can be in it.
func (m *Manager) inherit(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		have, err := os.ReadFile(filepath.Join(child, file))
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(have)) > 0 {
			continue
		}
		from, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := m.store(filepath.Join(child, file), string(bytes.TrimSpace(from))); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// delegate has a cgroup of v2 hand all its controllers down. What cannot be handed down is missed when its values are set.
func (m *Manager) delegate(directory string) {
	list, err := os.ReadFile(filepath.Join(directory, "cgroup.controllers"))
	if err != nil {
		return
	}
	file := filepath.Join(directory, "cgroup.subtree_control")
	given, err := os.ReadFile(file)
	if err != nil {
		return
	}
	have := map[string]bool{}
	for _, c := range strings.Fields(string(given)) {
		have[c] = true
	}
	var missing []string
	for _, c := range strings.Fields(string(list)) {
		if !have[c] {
			missing = append(missing, "+"+c)
		}
	}
	if len(missing) == 0 || m.store(file, strings.Join(missing, " ")) == nil {
		return
	}
	for _, c := range missing { // one that cannot be had spoils all
		_ = m.store(file, c)
	}
}
