package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

func memoryVolume(name string, limit *resource.Quantity) corev1.Volume {
	v := emptyDirVolume(name)
	v.EmptyDir.Medium, v.EmptyDir.SizeLimit = corev1.StorageMediumMemory, limit
	return v
}

// TestMemory: what may be held is what is asked for, unless the pod or the node has less.
func TestMemory(t *testing.T) {
	t.Parallel()
	needRoot(t)
	quantity := func(text string) *resource.Quantity { return ptr.To(resource.MustParse(text)) }
	for name, tc := range map[string]struct {
		asked *resource.Quantity
		pod   string
		want  uint64
	}{
		"nothing asked":        {want: 1 << 30},
		"asked":                {asked: quantity("64Mi"), want: 64 << 20},
		"nothing is no limit":  {asked: quantity("0"), want: 1 << 30},
		"more than the node":   {asked: quantity("64Gi"), want: 1 << 30},
		"the pod's":            {pod: "32Mi", want: 32 << 20},
		"more than the pod's":  {asked: quantity("64Mi"), pod: "32Mi", want: 32 << 20},
		"less than the pod's":  {asked: quantity("16Mi"), pod: "32Mi", want: 16 << 20},
		"a pod above the node": {pod: "64Gi", want: 1 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			pod := newPod(memoryVolume("fast", tc.asked))
			if tc.pod != "" {
				pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse(tc.pod)}
			}
			m := open(t, root, nil)
			setUp(t, m, pod)
			at := paths(t, m, pod)[0]
			write(t, "kept", at, "file")
			if err := os.Chmod(at, 0o700); err != nil {
				t.Fatal(err)
			}
			used, err := m.Usage(t.Context(), uid)
			if err != nil || len(used) != 1 || used[0].CapacityBytes != tc.want || !used[0].Memory || used[0].Limit != tc.asked || used[0].Bytes == 0 {
				t.Errorf("usage %+v, %v; want %d", used, err, tc.want)
			}
			// Another agent leaves it as it is.
			setUp(t, open(t, root, nil), pod)
			if points, _ := mountsIn(at); len(points) != 1 {
				t.Errorf("mounted %v", points)
			}
			if info, err := os.Stat(at); err != nil || info.Mode().Perm() != 0o700 || read(t, at, "file") != "kept" {
				t.Errorf("the pod's own mode: %v, %v", info.Mode(), err)
			}
			if err := m.TearDown(t.Context(), uid); err != nil {
				t.Error(err)
			}
			gone(t, at)
		})
	}
}

func TestHugePages(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := os.Stat("/sys/kernel/mm/hugepages/hugepages-2048kB"); err != nil {
		t.Skip("the kernel has no huge pages of 2 MiB")
	}
	pages := func(pod *corev1.Pod, names ...corev1.ResourceName) {
		list := corev1.ResourceList{}
		for _, name := range names {
			list[name] = resource.MustParse("4Mi")
		}
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: list, Limits: list}
	}
	for name, tc := range map[string]struct {
		medium corev1.StorageMedium
		ask    []corev1.ResourceName
		err    string
	}{
		"one size":       {medium: "HugePages", ask: []corev1.ResourceName{"hugepages-2Mi"}},
		"this size":      {medium: "HugePages-2Mi", ask: []corev1.ResourceName{"hugepages-2Mi", "hugepages-1Gi"}},
		"which size":     {medium: "HugePages", ask: []corev1.ResourceName{"hugepages-2Mi", "hugepages-1Gi"}, err: "medium: HugePages can't be used if container requests multiple huge page sizes"},
		"none asked for": {medium: "HugePages", err: "medium HugePages: hugePages storage requested, but there is no resource request for huge pages"},
		"another size":   {medium: "HugePages-1Gi", ask: []corev1.ResourceName{"hugepages-2Mi"}, err: "medium HugePages-1Gi: hugePages storage requested, but there is no resource request for huge pages"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := emptyDirVolume("huge")
			v.EmptyDir.Medium = tc.medium
			pod := newPod(v)
			pages(pod, tc.ask...)
			root := t.TempDir()
			m := open(t, root, nil)
			err := m.Setup(t.Context(), pod)
			if tc.err != "" {
				if want := `MountVolume.SetUp failed for volume "huge" : ` + tc.err; err == nil || err.Error() != want {
					t.Errorf("error %v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var st unix.Statfs_t
			if err := unix.Statfs(paths(t, m, pod)[0], &st); err != nil || int64(st.Type) != unix.HUGETLBFS_MAGIC || st.Bsize != 2<<20 {
				t.Errorf("%+v, %v", st, err)
			}
			setUp(t, open(t, root, nil), pod)
		})
	}
}

// TestReboot: what was in memory has gone, what was on disk has not, and mounts are made again.
func TestReboot(t *testing.T) {
	t.Parallel()
	needRoot(t)
	root := t.TempDir()
	pod := newPod(emptyDirVolume("data"), memoryVolume("fast", nil), secretVolume("keys", "keys"))
	pod.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](2002)}
	pod.Spec.Containers[0].VolumeMounts[0].SubPath = "part"
	m := open(t, root, nil)
	setUp(t, m, pod)
	from := paths(t, m, pod)
	write(t, "kept", from[0], "file")
	write(t, "lost", from[1], "file")
	if err := m.unmountAll(t.Context(), m.pods); err != nil {
		t.Fatal(err)
	}
	m = open(t, root, nil)
	setUp(t, m, pod)
	if again := paths(t, m, pod); !slices.Equal(from, again) {
		t.Errorf("paths %v, then %v", from, again)
	}
	if got := read(t, from[0], "file") + read(t, from[2], "password"); got != "kepthidden" {
		t.Errorf("read %q", got)
	}
	gone(t, from[1], "file")
	if points, _ := mountsIn(m.pods); len(points) != 3 {
		t.Errorf("mounted %v", points)
	}
	var st unix.Stat_t
	if err := unix.Stat(from[1], &st); err != nil || st.Gid != 2002 || st.Mode&unix.S_ISGID == 0 {
		t.Errorf("memory: %d %o, %v", st.Gid, st.Mode, err)
	}
}

func TestHostPath(t *testing.T) {
	t.Parallel()
	top := t.TempDir()
	at := func(name string) string { return filepath.Join(top, name) }
	write(t, "", at("file"))
	if err := os.Mkdir(at("dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, "file", at("link"))
	link(t, "nothing", at("dangling"))
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, tc := range []struct {
		path string
		kind corev1.HostPathType
		want string
	}{
		{"dir", corev1.HostPathUnset, ""},
		{"nothing", corev1.HostPathUnset, ""},
		{"dir", corev1.HostPathDirectory, ""},
		{"dir", corev1.HostPathDirectoryOrCreate, ""},
		{"file", corev1.HostPathFile, ""},
		{"link", corev1.HostPathFile, ""},
		{"file", corev1.HostPathFileOrCreate, ""},
		{"socket", corev1.HostPathSocket, ""},
		{"new/dir", corev1.HostPathDirectoryOrCreate, ""},
		{"new/dir", corev1.HostPathDirectory, ""},
		{"newfile", corev1.HostPathFileOrCreate, ""},
		{"newfile", corev1.HostPathFile, ""},
		{"/dev/null", corev1.HostPathCharDev, ""},
		{"file", corev1.HostPathDirectory, "is not a directory"},
		{"file", corev1.HostPathDirectoryOrCreate, "is not a directory"},
		{"dir", corev1.HostPathFile, "is not a file"},
		{"dir", corev1.HostPathFileOrCreate, "is not a file"},
		{"nothing", corev1.HostPathFile, "is not a file"},
		{"nothing", corev1.HostPathDirectory, "is not a directory"},
		{"dangling", corev1.HostPathFile, "is not a file"},
		{"file", corev1.HostPathSocket, "is not a socket file"},
		{"file", corev1.HostPathCharDev, "is not a character device"},
		{"/dev/null", corev1.HostPathBlockDev, "is not a block device"},
		{"file", "Sideways", "Sideways is an invalid volume type"},
	} {
		path := tc.path
		if !filepath.IsAbs(path) {
			path = at(path)
		}
		v := corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &tc.kind}}}
		done, err := (&hostPath{}).SetUp(t.Context(), &Volume{Pod: newPod(v), Spec: &v})
		switch {
		case tc.want == "" && (err != nil || done.Path != path || done.ReadOnly):
			t.Errorf("%s %s: %v, %v", tc.path, tc.kind, done, err)
		case tc.want != "" && (err == nil || !strings.HasSuffix(err.Error(), tc.want)):
			t.Errorf("%s %s: %v, want %s", tc.path, tc.kind, err, tc.want)
		}
	}
	v := corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var/../etc"}}}
	if _, err := (&hostPath{}).SetUp(t.Context(), &Volume{Spec: &v}); err == nil || err.Error() != "invalid HostPath `/var/../etc`: must not contain '..'" {
		t.Errorf("error %v", err)
	}
	// Parts of the node's directories are taken as safely as others.
	needRoot(t)
	m := open(t, t.TempDir(), nil)
	pod := newPod(corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: top}}})
	pod.Spec.Containers[0].VolumeMounts[0].SubPath = "dir"
	setUp(t, m, pod)
	write(t, "", top, "dir/here")
	read(t, paths(t, m, pod)[0], "here")
	if err := m.TearDown(t.Context(), uid); err != nil {
		t.Error(err)
	}
	read(t, top, "dir/here")
}

type pulled struct{ err error }

func (p pulled) ImageVolume(_ context.Context, pod *corev1.Pod, v *corev1.Volume) (*runtimeapi.ImageSpec, error) {
	if p.err != nil {
		return nil, p.err
	}
	return &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: v.Image.Reference, Annotations: pod.Annotations}, nil
}

// TestMounts: what the runtime is asked to mount.
func TestMounts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	images := &pulled{}
	can := false
	m := open(t, t.TempDir(), func(c *Config) {
		c.Images, c.SELinux = images, true
		c.RecursiveReadOnly = func(*corev1.Pod) bool { return can }
	})
	pod := newPod(
		emptyDirVolume("data"), configMapVolume("cfg", "settings"),
		corev1.Volume{Name: "host", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/var"}}},
		corev1.Volume{Name: "img", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "tools:1"}}},
	)
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = []corev1.VolumeMount{
		{Name: "data", MountPath: "/data", MountPropagation: ptr.To(corev1.MountPropagationHostToContainer)},
		{Name: "cfg", MountPath: "cfg"},
		{Name: "host", MountPath: "/host", ReadOnly: true, RecursiveReadOnly: ptr.To(corev1.RecursiveReadOnlyIfPossible)},
		{Name: "host", MountPath: "/both", MountPropagation: ptr.To(corev1.MountPropagationBidirectional)},
		{Name: "img", MountPath: "/img", SubPath: "bin"},
	}
	setUp(t, m, pod)
	volumes := filepath.Join(m.pods, string(uid), "volumes")
	want := []*runtimeapi.Mount{
		{ContainerPath: "/data", HostPath: volumes + "/kubernetes.io~empty-dir/data", SelinuxRelabel: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		{ContainerPath: "/cfg", HostPath: volumes + "/kubernetes.io~configmap/cfg", SelinuxRelabel: true, Readonly: true},
		{ContainerPath: "/host", HostPath: "/var", Readonly: true},
		{ContainerPath: "/both", HostPath: "/var", Propagation: runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL},
		{ContainerPath: "/img", Readonly: true, Image: &runtimeapi.ImageSpec{Image: "sha256:1", UserSpecifiedImage: "tools:1"}, ImageSubPath: "bin"},
	}
	got, err := m.Mounts(t.Context(), pod, c, nil)
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" || err != nil {
		t.Errorf("error %v, want -, got +:\n%s", err, diff)
	}
	places := m.Places(uid)
	if len(places) != 2 || places[0].Name != "data" || places[0].Path != want[0].HostPath || !places[0].Local || places[1].Name != "cfg" {
		t.Errorf("places %+v", places)
	}
	can = true
	if got, err = m.Mounts(t.Context(), pod, c, nil); err != nil || !got[2].RecursiveReadOnly {
		t.Errorf("recursive where it can be: %v, %v", got, err)
	}

	fails := func(what, want string, mount corev1.VolumeMount) {
		t.Helper()
		broken := c.DeepCopy()
		broken.VolumeMounts = []corev1.VolumeMount{mount}
		var waiting *podstatus.Waiting
		if _, err := m.Mounts(t.Context(), pod, broken, nil); !errors.As(err, &waiting) || err.Error() != want {
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	can = false
	const recursive = "CreateContainerConfigError: failed to resolve recursive read-only mode: volume \"host\" requested recursive read-only mode, but it is "
	fails("enabled", recursive+"not supported by the runtime",
		corev1.VolumeMount{Name: "host", ReadOnly: true, RecursiveReadOnly: ptr.To(corev1.RecursiveReadOnlyEnabled)})
	fails("propagated", recursive+`not compatible with propagation "HostToContainer"`, corev1.VolumeMount{
		Name: "host", ReadOnly: true, RecursiveReadOnly: ptr.To(corev1.RecursiveReadOnlyEnabled), MountPropagation: ptr.To(corev1.MountPropagationHostToContainer),
	})
	fails("missing", `CreateContainerConfigError: cannot find volume "nobody" to mount into container "main"`, corev1.VolumeMount{Name: "nobody"})
	images.err = &podstatus.Waiting{Reason: "ImagePullBackOff", Message: "Back-off"}
	fails("image", "ImagePullBackOff: Back-off", corev1.VolumeMount{Name: "img", MountPath: "/img"})
	unknown := newPod(emptyDirVolume("data"))
	unknown.UID = "unknown"
	if _, err := m.Mounts(t.Context(), unknown, &unknown.Spec.Containers[0], nil); err == nil {
		t.Error("mounts of a pod that was not set up")
	}
}

func TestOwner(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		outside := t.TempDir()
		write(t, "", outside, "file")
		data := filepath.Join(m.pods, "data")
		write(t, "", data, "in/file")
		link(t, filepath.Join(outside, "file"), data, "in/link")
		link(t, outside, data, "out")
		if err := os.Mkdir(filepath.Join(data, "mount"), 0o755); err != nil {
			t.Fatal(err)
		}
		mountOn(t, m, outside, data, "mount")
		group, mismatch := ptr.To[int64](3003), ptr.To(corev1.FSGroupChangeOnRootMismatch)
		look := func(elements ...string) string {
			t.Helper()
			var st unix.Stat_t
			if err := unix.Lstat(filepath.Join(elements...), &st); err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%d %o", st.Gid, st.Mode&0o7777)
		}
		expect := func(want string, elements ...string) {
			t.Helper()
			if got := look(elements...); got != want {
				t.Errorf("%s: %s, want %s", elements[len(elements)-1], got, want)
			}
		}
		if err := m.own(t.Context(), data, nil, nil, false); err != nil {
			t.Fatal(err)
		}
		expect("0 755", data)
		if err := m.own(t.Context(), data, group, mismatch, false); err != nil {
			t.Fatal(err)
		}
		expect("3003 2775", data)
		expect("3003 2775", data, "in")
		expect("3003 664", data, "in/file")
		expect("3003 777", data, "in/link")
		expect("0 755", outside)
		expect("0 644", outside, "file")
		expect("0 755", data, "mount")
		expect("0 644", data, "mount/big")

		write(t, "", data, "in/late")
		if err := m.own(t.Context(), data, group, mismatch, false); err != nil {
			t.Fatal(err)
		}
		expect("3003 644", data, "in/late") // by the directory, and no more was done
		if err := m.own(t.Context(), data, group, ptr.To(corev1.FSGroupChangeAlways), true); err != nil {
			t.Fatal(err)
		}
		expect("3003 644", data, "in/late")
		if err := os.Chmod(data, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := m.own(t.Context(), data, group, mismatch, false); err != nil {
			t.Fatal(err)
		}
		expect("3003 664", data, "in/late")
		expect("3003 2770", data)
	})
}

func TestUsage(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, m *Manager) {
		outside := t.TempDir()
		write(t, strings.Repeat("x", 1<<20), outside, "big")
		_, data := parts(t, m, "")
		usage := func() Usage {
			t.Helper()
			used, err := m.Usage(t.Context(), uid)
			if err != nil || len(used) != 1 || used[0].Volume != "data" || used[0].CapacityBytes == 0 || used[0].FreeInodes > used[0].CapacityInodes {
				t.Fatalf("%+v, %v", used, err)
			}
			return used[0]
		}
		before := usage()
		write(t, strings.Repeat("x", 64<<10), data, "deep/er/file")
		if err := os.Link(filepath.Join(data, "deep/er/file"), filepath.Join(data, "again")); err != nil {
			t.Fatal(err)
		}
		link(t, outside, data, "link")
		if err := os.Mkdir(filepath.Join(data, "mount"), 0o755); err != nil {
			t.Fatal(err)
		}
		mountOn(t, m, outside, data, "mount")
		after := usage()
		if more := after.Bytes - before.Bytes; more < 64<<10 || more > 128<<10 || after.Inodes-before.Inodes != 4 { // two directories, a file, a link
			t.Errorf("before %+v, after %+v", before, after)
		}
	})
}

// mountOn mounts a directory of the node's, or, where one file system's mounts cannot be told from one another, another one with a file.
func mountOn(t *testing.T, m *Manager, outside string, elements ...string) {
	t.Helper()
	at := filepath.Join(elements...)
	err := unix.Mount(outside, at, "", unix.MS_BIND, "")
	if !m.files.openat2 {
		err = errors.Join(err, unix.Unmount(at, 0), unix.Mount("tmpfs", at, "tmpfs", 0, "mode=755"))
	}
	if err != nil {
		t.Fatal(err)
	}
	write(t, strings.Repeat("x", 1<<20), at, "big")
}

func TestGiven(t *testing.T) {
	t.Parallel()
	m := open(t, t.TempDir(), nil)
	pod := newPod()
	c := &pod.Spec.Containers[0]
	hosts, err := m.Hosts(pod, c, []byte("127.0.0.1 localhost\n"))
	if err != nil || hosts.ContainerPath != "/etc/hosts" || hosts.HostPath != filepath.Join(m.pods, string(uid), "etc-hosts") || hosts.Readonly {
		t.Fatalf("%v, %v", hosts, err)
	}
	file, err := os.Open(hosts.HostPath) // as a container has it
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := m.Hosts(pod, c, []byte("::1 localhost\n")); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 100)
	if n, _ := file.Read(text); string(text[:n]) != "::1 localhost\n" {
		t.Errorf("a container that runs reads %q", text[:n])
	}
	own := c.DeepCopy()
	own.VolumeMounts = []corev1.VolumeMount{{Name: "x", MountPath: "/etc/hosts"}}
	if hosts, err := m.Hosts(pod, own, nil); hosts != nil || err != nil {
		t.Errorf("%v, %v", hosts, err)
	}

	if none, err := m.TerminationLog(pod, c); none != nil || err != nil {
		t.Errorf("%v, %v", none, err)
	}
	c.TerminationMessagePath = "dev/termination-log"
	var last string
	for range 3 * messages {
		log, err := m.TerminationLog(pod, c)
		if err != nil || log.ContainerPath != "/dev/termination-log" || log.HostPath == last {
			t.Fatalf("%v, %v", log, err)
		}
		last = log.HostPath
	}
	info, err := os.Stat(last)
	if err != nil || info.Mode() != 0o666 {
		t.Errorf("%v, %v", info, err)
	}
	if files := tree(t, filepath.Dir(last)); len(files) != messages {
		t.Errorf("%d files", len(files))
	}
	if err := m.TearDown(t.Context(), uid); err != nil {
		t.Error(err)
	}
	read(t, last) // the status may still speak of it
	if err := m.Remove(t.Context(), uid); err != nil {
		t.Error(err)
	}
	gone(t, m.pods, string(uid))
}
