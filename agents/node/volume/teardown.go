package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	utilstrings "k8s.io/utils/strings"
)

// TearDown takes a pod's volumes away, with all that is in those that were the pod's own. None of its containers may run any more. What
// else is in the pod's directory stays, such as messages of containers that have ended, until Remove. It may be called again, also for a
// pod of which nothing is known but what lies there.
func (m *Manager) TearDown(ctx context.Context, pod types.UID) error {
	top, err := m.podDirectory(pod)
	if err != nil {
		return err
	}
	m.mu.Lock()
	s := m.have[pod]
	if s == nil {
		s = newState()
		m.have[pod] = s // so that nobody begins anew meanwhile
	}
	s.due = time.Time{}
	m.mu.Unlock()
	s.end()
	select { // of who still makes volumes
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := m.tearDown(ctx, pod, top); err != nil {
		return err
	}
	m.mu.Lock()
	delete(m.have, pod)
	m.mu.Unlock()
	return nil
}

func (m *Manager) tearDown(ctx context.Context, pod types.UID, top string) error {
	if _, err := os.Lstat(top); errors.Is(err, unix.ENOENT) {
		return nil
	}
	// Mounts of containers lie on volumes, and go first.
	if err := m.clear(ctx, top, subPathsName); err != nil {
		return fmt.Errorf("take away the sub-paths of pod %q: %w", pod, err)
	}
	if err := m.tearDownVolumes(ctx, pod, filepath.Join(top, volumesName)); err != nil {
		return fmt.Errorf("take away the volumes of pod %q: %w", pod, err)
	}
	return m.clear(ctx, top, pluginsName)
}

// tearDownVolumes goes by what lies on the disk.
func (m *Manager) tearDownVolumes(ctx context.Context, pod types.UID, volumes string) error {
	kinds, err := os.ReadDir(volumes)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, kind := range kinds {
		plugin := m.named(kind.Name())
		if plugin == nil {
			// Of a kubelet with more plug-ins. What is mounted there may be somebody's only copy.
			errs = append(errs, m.emptied(ctx, volumes, kind.Name()))
			continue
		}
		names, err := os.ReadDir(filepath.Join(volumes, kind.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		failed := false
		for _, name := range names {
			at := filepath.Join(volumes, kind.Name(), name.Name())
			began := time.Now()
			err := plugin.TearDown(ctx, pod, name.Name(), at)
			if err == nil {
				err = m.clear(ctx, filepath.Dir(at), name.Name())
			}
			m.tell("volume_unmount", plugin, began, err)
			if err != nil {
				failed = true
				errs = append(errs, fmt.Errorf("volume %q: %w", name.Name(), err))
			}
		}
		if !failed {
			errs = append(errs, m.clear(ctx, volumes, kind.Name()))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return m.clear(ctx, filepath.Dir(volumes), volumesName)
}

// named is the plug-in that a directory is called after; nil: none of ours.
func (m *Manager) named(directory string) Plugin {
	for _, p := range m.plugins {
		if utilstrings.EscapeQualifiedName(p.Name()) == directory {
			return p
		}
	}
	return nil
}

// emptied removes directories with nothing in them.
func (m *Manager) emptied(ctx context.Context, volumes, kind string) error {
	at := filepath.Join(volumes, kind)
	if points, err := mountsIn(at); err != nil {
		return err
	} else if len(points) > 0 {
		return fmt.Errorf("%s is mounted, by a plug-in that is not known here", points[0])
	}
	names, err := os.ReadDir(at)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := errors.Join(ctx.Err(), unix.Rmdir(filepath.Join(at, name.Name()))); err != nil {
			return fmt.Errorf("%s was made by a plug-in that is not known here: %w", filepath.Join(at, name.Name()), err)
		}
	}
	return unix.Rmdir(at)
}

// clear unmounts what is in a directory, and removes it with everything that is left there. Above it is nothing that pods can write to.
func (m *Manager) clear(ctx context.Context, parent, name string) error {
	at := filepath.Join(parent, name)
	if _, err := os.Lstat(at); errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err := m.unmountAll(ctx, at); err != nil {
		return err
	}
	top, err := m.files.root(parent, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(top) //nolint:errcheck // only read
	if err := m.files.remove(ctx, top, name); err != nil {
		return fmt.Errorf("remove %s: %w", at, err)
	}
	return nil
}

// Remove takes away all that is in a pod's directory, its volumes first. It is for pods that nobody asks about any more.
func (m *Manager) Remove(ctx context.Context, pod types.UID) error {
	if err := m.TearDown(ctx, pod); err != nil {
		return err
	}
	if err := m.clear(ctx, m.pods, string(pod)); err != nil {
		return fmt.Errorf("remove the directory of pod %q: %w", pod, err)
	}
	return nil
}

// Orphans removes what lies there of pods that are not kept, of which an agent before this one did not see the end. Those kept are the ones
// that are bound to the node or have containers that run.
func (m *Manager) Orphans(ctx context.Context, keep func(types.UID) bool) error {
	entries, err := os.ReadDir(m.pods)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if pod := types.UID(e.Name()); e.IsDir() && !keep(pod) {
			errs = append(errs, m.Remove(ctx, pod))
		}
	}
	return errors.Join(errs...)
}
