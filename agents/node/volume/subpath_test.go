package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// parts returns a pod with an emptyDir that is set up, and the directory of it.
func parts(t testing.TB, m *Manager, subPath string) (*corev1.Pod, string) {
	t.Helper()
	pod := newPod(emptyDirVolume("data"))
	pod.Spec.Containers[0].VolumeMounts[0].SubPath = subPath
	setUp(t, m, pod)
	return pod, filepath.Join(m.pods, string(uid), "volumes", "kubernetes.io~empty-dir", "data")
}

func TestSubPath(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		pod, data := parts(t, m, "made/here")
		if err := os.Chmod(data, 0o777|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		at := paths(t, m, pod)[0]
		if want := filepath.Join(m.pods, string(uid), "volume-subpaths", "data", "main", "0"); at != want {
			t.Errorf("mounted at %s, want %s", at, want)
		}
		write(t, "hello", data, "made/here/file")
		if got := read(t, at, "file"); got != "hello" {
			t.Errorf("read %q", got)
		}
		info, err := os.Stat(filepath.Join(data, "made"))
		if err != nil || info.Mode() != os.ModeDir|os.ModeSetgid|0o777 {
			t.Errorf("the directory that was made: %v, %v", info.Mode(), err)
		}
		// A container that starts again gets the same, and what is there by then if the pod has put another thing in its place.
		if again := paths(t, m, pod)[0]; again != at || read(t, again, "file") != "hello" {
			t.Errorf("the second time: %s", again)
		}
		if points, _ := mountsIn(at); len(points) != 1 {
			t.Errorf("mounts: %v", points)
		}
		if err := os.RemoveAll(filepath.Join(data, "made")); err != nil {
			t.Fatal(err)
		}
		write(t, "a file by now", data, "made/here")
		if got := read(t, paths(t, m, pod)[0]); got != "a file by now" {
			t.Errorf("after the change: %q", got)
		}
		if err := m.TearDown(t.Context(), uid); err != nil {
			t.Fatal(err)
		}
		gone(t, m.pods, string(uid), "volume-subpaths")
		gone(t, data)
	})
}

// TestSubPathKinds: whatever lies there is mounted, without waiting for anybody.
func TestSubPathKinds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		pod, data := parts(t, m, "x")
		x := filepath.Join(data, "x")
		for name, put := range map[string]func() error{
			"file":          func() error { return os.WriteFile(x, nil, 0o600) },
			"fifo":          func() error { return unix.Mkfifo(x, 0o600) },
			"device":        func() error { return unix.Mknod(x, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))) },
			"directory":     func() error { return os.Mkdir(x, 0o700) },
			"link":          func() error { return os.Symlink("y", x) },
			"link from top": func() error { return os.Symlink(filepath.Join(data, "y"), x) },
		} {
			write(t, "", data, "y")
			if err := put(); err != nil {
				t.Fatal(err)
			}
			var is, want unix.Stat_t
			if err := errors.Join(unix.Lstat(paths(t, m, pod)[0], &is), unix.Stat(x, &want)); err != nil {
				t.Fatal(err)
			}
			if is.Ino != want.Ino || is.Mode != want.Mode {
				t.Errorf("%s: another file is mounted", name)
			}
			if err := os.RemoveAll(x); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSubPathLinks: a pod cannot get out of its volume by links, nor have directories made outside.
func TestSubPathLinks(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		subPath string
		lay     func(t *testing.T, data, outside string)
		reason  string
	}{
		"absolute link": {subPath: "x", lay: func(t *testing.T, data, outside string) { link(t, outside, data, "x") }, reason: "prepare"},
		"link upwards":  {subPath: "x", lay: func(t *testing.T, data, _ string) { link(t, "../..", data, "x") }, reason: "prepare"},
		"in the middle": {subPath: "x/secret", lay: func(t *testing.T, data, outside string) { link(t, outside, data, "x") }, reason: "prepare"},
		"through links": {subPath: "x", lay: func(t *testing.T, data, outside string) {
			link(t, "y", data, "x")
			link(t, outside, data, "y")
		}, reason: "prepare"},
		"makes outside":   {subPath: "x/new/er", lay: func(t *testing.T, data, outside string) { link(t, outside, data, "x") }, reason: "create"},
		"leads nowhere":   {subPath: "x", lay: func(t *testing.T, data, outside string) { link(t, outside+"/new", data, "x") }, reason: "create"},
		"nowhere, within": {subPath: "x/y", lay: func(t *testing.T, data, _ string) { link(t, "nothing", data, "x") }, reason: "create"},
		"below a file":    {subPath: "x/y", lay: func(t *testing.T, data, _ string) { write(t, "", data, "x") }, reason: "prepare"},
		"circle":          {subPath: "x", lay: func(t *testing.T, data, _ string) { link(t, "x", data, "x") }, reason: "prepare"},
		"proc":            {subPath: "x", lay: func(t *testing.T, data, _ string) { link(t, "/proc/self/root", data, "x") }, reason: "prepare"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			both(t, func(t *testing.T, m *Manager) {
				outside := t.TempDir()
				write(t, "of the node", outside, "secret")
				before := tree(t, outside)
				pod, data := parts(t, m, tc.subPath)
				tc.lay(t, data, outside)
				mounts, err := m.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
				var waiting *podstatus.Waiting
				if !errors.As(err, &waiting) || waiting.Reason != "CreateContainerConfigError" || !strings.Contains(waiting.Message, tc.reason) {
					t.Errorf("mounts %v, error %v", mounts, err)
				} else if strings.Contains(waiting.Message, outside) {
					t.Errorf("the error tells of the node's files: %v", err)
				}
				if after := tree(t, outside); len(after) != len(before) {
					t.Errorf("made outside: %v", after)
				}
			})
		})
	}
}

// TestSubPathSwap puts a link in the place of a directory at the worst moment.
func TestSubPathSwap(t *testing.T) {
	t.Parallel()
	for _, swapped := range []string{"x", "x/y"} {
		both(t, func(t *testing.T, m *Manager) {
			outside := t.TempDir()
			write(t, "of the node", outside, "y/secret")
			write(t, "of the node", outside, "secret")
			pod, data := parts(t, m, "x/y")
			write(t, "of the pod", data, "x/y/file")
			m.files.resolved = func() {
				if err := os.Rename(filepath.Join(data, swapped), filepath.Join(data, "away")); err != nil {
					t.Error(err)
				}
				link(t, outside, data, swapped)
			}
			mounts, err := m.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil)
			if err == nil {
				t.Errorf("mounted %s: %v", mounts[0].HostPath, tree(t, mounts[0].HostPath))
			}
			if points, _ := mountsIn(filepath.Join(m.pods, string(uid), "volume-subpaths")); len(points) > 0 {
				t.Errorf("mounted: %v", points)
			}
		})
	}
}

// TestSubPathRace has somebody swap links and directories all the time.
func TestSubPathRace(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		outside := t.TempDir()
		write(t, "of the node", outside, "y/secret")
		pod, data := parts(t, m, "x/y/new")
		var swapper sync.WaitGroup
		stop := make(chan struct{})
		swapper.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				_ = os.MkdirAll(filepath.Join(data, "x/y"), 0o755)
				_ = os.Rename(filepath.Join(data, "x"), filepath.Join(data, "away"))
				_ = os.Symlink(outside, filepath.Join(data, "x"))
				_ = os.Remove(filepath.Join(data, "x"))
				_ = os.RemoveAll(filepath.Join(data, "away"))
			}
		})
		for range 300 {
			if mounts, err := m.Mounts(t.Context(), pod, &pod.Spec.Containers[0], nil); err == nil {
				if _, err := os.Stat(filepath.Join(mounts[0].HostPath, "secret")); err == nil {
					t.Error("the node's files are mounted")
				}
			}
		}
		close(stop)
		swapper.Wait()
		if got := tree(t, outside); len(got) != 2 { // y, y/secret
			t.Errorf("made outside: %v", got)
		}
	})
}

func TestSubPathNames(t *testing.T) {
	t.Parallel()
	needRoot(t)
	envs := []kubecontainer.EnvVar{{Name: "POD", Value: "web-0"}, {Name: "UP", Value: "../../.."}, {Name: "TOP", Value: "/etc"}, {Name: "NONE"}}
	for name, tc := range map[string]struct {
		mount corev1.VolumeMount
		base  string // of what is made; "" with an error
		err   string
	}{
		"expression":      {mount: corev1.VolumeMount{SubPathExpr: "$(POD)/logs"}, base: "web-0/logs"},
		"escaped":         {mount: corev1.VolumeMount{SubPathExpr: "$$(POD)"}, base: "$(POD)"},
		"dots in a name":  {mount: corev1.VolumeMount{SubPath: "..a/b.."}, base: "..a/b.."},
		"missing":         {mount: corev1.VolumeMount{SubPathExpr: "$(NOBODY)"}, err: "missing value for NOBODY"},
		"empty":           {mount: corev1.VolumeMount{SubPathExpr: "$(NONE)"}, err: "missing value for NONE"},
		"up":              {mount: corev1.VolumeMount{SubPathExpr: "$(UP)"}, err: "unable to provision SubPath `../../..`: must not contain '..'"},
		"up in the path":  {mount: corev1.VolumeMount{SubPath: "a/../../b"}, err: "unable to provision SubPath `a/../../b`: must not contain '..'"},
		"absolute":        {mount: corev1.VolumeMount{SubPathExpr: "$(TOP)"}, err: "error SubPath `/etc` must not be an absolute path"},
		"of a long name":  {mount: corev1.VolumeMount{SubPath: strings.Repeat("x", 300)}, err: `failed to prepare subPath for volumeMount "data" of container "main"`},
		"read only, all":  {mount: corev1.VolumeMount{SubPath: "a", RecursiveReadOnly: ptr.To(corev1.RecursiveReadOnlyEnabled)}, err: `failed to resolve recursive read-only mode: volume "data" requested recursive read-only mode, but it is not read-only`},
		"wrong direction": {mount: corev1.VolumeMount{MountPropagation: ptr.To(corev1.MountPropagationMode("Sideways"))}, err: `invalid MountPropagation mode: "Sideways"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := open(t, t.TempDir(), nil)
			pod, data := parts(t, m, "")
			tc.mount.Name, tc.mount.MountPath = "data", "data"
			pod.Spec.Containers[0].VolumeMounts[0] = tc.mount
			mounts, err := m.Mounts(t.Context(), pod, &pod.Spec.Containers[0], envs)
			if tc.err != "" {
				if want := "CreateContainerConfigError: " + tc.err; err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				if left := tree(t, data); len(left) > 0 && !strings.HasPrefix(name, "read only") {
					t.Errorf("made %v", left)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if mounts[0].ContainerPath != "/data" {
				t.Errorf("mounted at %s", mounts[0].ContainerPath)
			}
			write(t, "", data, tc.base, "file")
			read(t, mounts[0].HostPath, "file")
		})
	}
}
