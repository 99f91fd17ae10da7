package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestTearDownLinks: links and what they lead to are two things, and so is what is mounted.
func TestTearDownLinks(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		outside := t.TempDir()
		write(t, "of the node", outside, "in/secret")
		pod, data := parts(t, m, "part")
		paths(t, m, pod)
		link(t, outside, data, "link")
		link(t, filepath.Join(outside, "in/secret"), data, "file")
		link(t, "..", data, "up")
		link(t, "loop", data, "loop")
		if err := os.Link(filepath.Join(outside, "in/secret"), filepath.Join(data, "hard")); err != nil && !errors.Is(err, unix.EXDEV) {
			t.Fatal(err)
		}
		if err := unix.Mkfifo(filepath.Join(data, "fifo"), 0o600); err != nil {
			t.Fatal(err)
		}
		write(t, "", data, "closed/file")
		if err := os.Chmod(filepath.Join(data, "closed"), 0); err != nil {
			t.Fatal(err)
		}
		// What a container with mount propagation did: the node's own directory, twice in one place, and within one another.
		for _, at := range []string{"mount", "mount", "part/with a space\nand a line \\ too", "part/with a space\nand a line \\ too/in"} {
			at = filepath.Join(data, at)
			if err := os.MkdirAll(at, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mount(outside, at, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}
		before := tree(t, outside)
		if err := m.TearDown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
		if after := tree(t, outside); len(after) != len(before) || read(t, outside, "in/secret") != "of the node" {
			t.Errorf("outside is now %v", after)
		}
		if points, err := mountsIn(filepath.Join(m.pods, string(uid))); len(points) > 0 || err != nil {
			t.Errorf("still mounted: %v, %v", points, err)
		}
		if left := tree(t, filepath.Join(m.pods, string(uid))); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if err := errors.Join(m.TearDown(t.Context(), uid), m.Remove(t.Context(), uid), m.Remove(t.Context(), uid)); err != nil {
			t.Error(err)
		}
		gone(t, m.pods, string(uid))
	})
}

// TestRemoveStopsAtMounts: if something is mounted after all, what is in it is not removed.
func TestRemoveStopsAtMounts(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		outside := t.TempDir()
		if !m.files.openat2 { // which can tell mounts of one file system from one another
			if err := unix.Mount("tmpfs", outside, "tmpfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Unmount(outside, 0) })
		}
		write(t, "of the node", outside, "secret")
		_, data := parts(t, m, "")
		at := filepath.Join(data, "deep/mount")
		if err := os.MkdirAll(at, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(outside, at, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		top, err := unix.Open(filepath.Dir(data), unix.O_RDONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(top) //nolint:errcheck // only read
		if err := m.files.remove(t.Context(), top, "data"); err == nil {
			t.Error("removed what was mounted")
		}
		read(t, outside, "secret")
	})
}

// TestDeep: directories deeper than any path may be long.
func TestDeep(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		const depth = 3000
		_, data := parts(t, m, "")
		at, err := unix.Open(data, unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for range depth {
			if err := unix.Mkdirat(at, "d", 0o755); err != nil {
				t.Fatal(err)
			}
			next, err := unix.Openat(at, "d", unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(at)
			at = next
		}
		_ = unix.Close(at)
		used, err := m.Usage(t.Context(), uid)
		if err != nil || used[0].Inodes != depth+1 {
			t.Errorf("counted %v, %v", used, err)
		}
		if err := m.own(t.Context(), data, new(int64), nil, false); err != nil {
			t.Error(err)
		}
		if err := m.TearDown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
		gone(t, data)
	})
}

// TestWide: more names than are read at once.
func TestWide(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		_, data := parts(t, m, "")
		for i := range 600 {
			write(t, "", data, fmt.Sprintf("%s-%d", strings.Repeat("n", 100), i%300), fmt.Sprint(i))
		}
		if err := m.TearDown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
		gone(t, data)
	})
}

// TestNames: what would be another directory's name is refused, whoever wrote it.
func TestNames(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir(), nil)
	write(t, "of the node", m.config.Root, "file")
	for _, name := range []string{"..", ".", "", "a/b", "../../x", strings.Repeat("x", 300), "a\x00b"} {
		pod := newPod(emptyDirVolume(name))
		if err := m.Setup(t.Context(), pod); err == nil {
			t.Errorf("volume %q is set up", name)
		}
		pod = newPod(emptyDirVolume("data"))
		pod.UID = types.UID(name)
		if err := m.Setup(t.Context(), pod); err == nil {
			t.Errorf("pod %q is set up", name)
		}
		if err := errors.Join(m.TearDown(t.Context(), pod.UID)); err == nil {
			t.Errorf("pod %q is torn down", name)
		}
		if err := m.Remove(t.Context(), pod.UID); err == nil {
			t.Errorf("pod %q is removed", name)
		}
		container := &corev1.Container{Name: name, TerminationMessagePath: "/dev/termination-log"}
		if _, err := m.TerminationLog(newPod(), container); err == nil {
			t.Errorf("container %q has a directory", name)
		}
		if _, err := m.Hosts(pod, &corev1.Container{}, nil); err == nil {
			t.Errorf("pod %q has a hosts file", name)
		}
	}
	if got := strings.Join(tree(t, m.config.Root), " "); !strings.HasPrefix(got, "file pods") || strings.Contains(got, "empty-dir/") {
		t.Errorf("made: %s", got)
	}
}

// TestOrphans: an agent finds what one before it left.
func TestOrphans(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	before := open(t, root, nil)
	var keep types.UID = "kept"
	for _, id := range []types.UID{"kept", "old", "older"} {
		pod := newPod(emptyDirVolume("data"), secretVolume("keys", "keys"), configMapVolume("settings", "settings"))
		pod.UID = id
		pod.Spec.Containers[0].VolumeMounts[0].SubPath = "part"
		setUp(t, before, pod)
		write(t, "precious", paths(t, before, pod)[0], "file")
		if _, err := before.Hosts(pod, &pod.Spec.Containers[0], []byte("127.0.0.1 localhost")); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "by a driver", root, "pods/driver/volumes/kubernetes.io~csi/pv/mount/file")
	if err := os.MkdirAll(filepath.Join(root, "pods/empty/volumes/kubernetes.io~csi/pv"), 0o755); err != nil {
		t.Fatal(err)
	}
	after := open(t, root, nil)
	err := after.Orphans(t.Context(), func(id types.UID) bool { return id == keep })
	if err == nil || !strings.Contains(err.Error(), "plug-in that is not known here") {
		t.Errorf("the volume of a driver: %v", err)
	}
	read(t, root, "pods/driver/volumes/kubernetes.io~csi/pv/mount/file")
	for _, id := range []string{"old", "older", "empty"} {
		gone(t, root, "pods", id)
	}
	read(t, root, "pods/kept/volumes/kubernetes.io~empty-dir/data/part/file")
	read(t, root, "pods/kept/volumes/kubernetes.io~secret/keys/password")
	read(t, root, "pods/kept/volume-subpaths/data/main/0/file")
	if points, _ := mountsIn(after.pods); len(points) != 2 { // the kept one's
		t.Errorf("mounted: %v", points)
	}
}

// TestTearDownMeanwhile: what is being made is given up when the pod's volumes are to go, and not begun again.
func TestTearDownMeanwhile(t *testing.T) {
	t.Parallel()
	has := newAPI()
	has.hang = true
	m := open(t, t.TempDir(), func(c *Config) { c.Objects = has })
	pod := newPod(configMapVolume("settings", "settings"))
	failed := make(chan error)
	go func() { failed <- m.Setup(context.Background(), pod) }()
	for busy := false; !busy; {
		has.mu.Lock()
		busy = has.asked > 0
		has.mu.Unlock()
	}
	if err := m.TearDown(t.Context(), uid); err != nil {
		t.Error(err)
	}
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Errorf("set up: %v", err)
	}
	if len(m.have) != 0 {
		t.Error("the pod is still known")
	}
}

// TestDriver: a plug-in of somebody else's is asked, and what it mounts in its directory goes with it.
func TestDriver(t *testing.T) {
	t.Parallel()
	needRoot(t)
	driver := &driver{}
	m := open(t, t.TempDir(), func(c *Config) { c.Plugins = []Plugin{driver} })
	pod := newPod(corev1.Volume{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}})
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{SupplementalGroups: []int64{7}}
	driver.group = 42
	setUp(t, m, pod)
	if got := m.Groups(pod); len(got) != 1 || got[0] != 42 {
		t.Errorf("groups %v", got)
	}
	pod.Spec.SecurityContext.SupplementalGroups = []int64{42}
	if got := m.Groups(pod); len(got) != 0 {
		t.Errorf("groups %v", got)
	}
	write(t, "", paths(t, m, pod)[0], "file")
	driver.fail = errors.New("the volume is busy")
	if err := m.TearDown(t.Context(), uid); !errors.Is(err, driver.fail) {
		t.Errorf("torn down: %v", err)
	}
	read(t, driver.at, "file")
	if err := m.Setup(t.Context(), pod); !errors.Is(err, errGone) {
		t.Errorf("set up while it is torn down: %v", err)
	}
	driver.fail = nil
	if err := m.TearDown(t.Context(), uid); err != nil {
		t.Fatal(err)
	}
	gone(t, driver.at)
}

type driver struct {
	at    string
	group int64
	fail  error
}

func (*driver) Name() string                   { return "example.com/driver" }
func (*driver) Supports(v *corev1.Volume) bool { return v.PersistentVolumeClaim != nil }

func (d *driver) SetUp(_ context.Context, v *Volume) (Mounted, error) {
	d.at = v.Directory
	err := os.MkdirAll(d.at, 0o755)
	if err == nil {
		err = unix.Mount("tmpfs", d.at, "tmpfs", 0, "size=64k")
	}
	return Mounted{Path: d.at, Group: &d.group}, err
}

func (d *driver) TearDown(context.Context, types.UID, string, string) error { return d.fail }
