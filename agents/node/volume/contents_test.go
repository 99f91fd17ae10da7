package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// TestErrors: what keeps a pod waiting is said as the kubelet says it.
func TestErrors(t *testing.T) {
	t.Parallel()
	items := configMapVolume("cfg", "settings")
	items.ConfigMap.Items = []corev1.KeyToPath{{Key: "nothing", Path: "x"}}
	up := configMapVolume("cfg", "settings")
	up.ConfigMap.Items = []corev1.KeyToPath{{Key: "a", Path: "../../x"}}
	certificate := corev1.Volume{Name: "cert", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To[int32](0o644), Sources: []corev1.VolumeProjection{{PodCertificate: &corev1.PodCertificateProjection{}}},
	}}}
	for _, tc := range []struct {
		volume corev1.Volume
		want   string
	}{
		{configMapVolume("cfg", "nobody"), `MountVolume.SetUp failed for volume "cfg" : configmap "nobody" not found`},
		{secretVolume("keys", "nobody"), `MountVolume.SetUp failed for volume "keys" : secret "nobody" not found`},
		{items, `MountVolume.SetUp failed for volume "cfg" : configmap references non-existent config key: nothing`},
		{up, `MountVolume.SetUp failed for volume "cfg" : invalid path: must not contain '..': ../../x`},
		{certificate, `MountVolume.SetUp failed for volume "cert" : podCertificate projections are not supported on this node: the feature PodCertificateRequest is off`},
		{
			corev1.Volume{Name: "claim", VolumeSource: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{}}},
			`MountVolume.FindPluginBySpec failed for volume "claim" : volumes of kind persistentVolumeClaim are not supported on this node`,
		},
		{
			corev1.Volume{Name: "disk", VolumeSource: corev1.VolumeSource{ISCSI: &corev1.ISCSIVolumeSource{}}},
			`MountVolume.FindPluginBySpec failed for volume "disk" : volumes of kind iscsi are not supported on this node`,
		},
		{
			corev1.Volume{Name: "img", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{}}},
			`MountVolume.FindPluginBySpec failed for volume "img" : volumes of kind image are not supported on this node`,
		},
		{
			corev1.Volume{Name: "odd", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: "Tape"}}},
			`MountVolume.SetUp failed for volume "odd" : unknown storage medium "Tape"`,
		},
	} {
		m := open(t, t.TempDir(), nil)
		pod := newPod(tc.volume, emptyDirVolume("data"))
		err := m.Setup(t.Context(), pod)
		var all Errors
		if !errors.As(err, &all) || len(all) != 1 || all[0].Error() != tc.want {
			t.Errorf("error %v\nwant  %s", err, tc.want)
		}
		read := filepath.Join(m.pods, string(uid), "volumes/kubernetes.io~empty-dir/data")
		if _, err := os.Stat(read); err != nil {
			t.Errorf("what can be ready is not: %v", err)
		}
		// What no container uses is not looked at.
		pod = newPod(tc.volume)
		pod.UID, pod.Spec.Containers[0].VolumeMounts = "other", nil
		if err := m.Setup(t.Context(), pod); err != nil {
			t.Errorf("unused: %v", err)
		}
	}
}

// TestRefresh: contents change when they are told to have, and every minute or so without.
func TestRefresh(t *testing.T) {
	t.Parallel()
	needRoot(t)
	synctest.Test(t, func(t *testing.T) {
		has := newAPI()
		var failed []string
		m := open(t, t.TempDir(), func(c *Config) {
			c.Objects = has
			c.Failed = func(_ *corev1.Pod, err *Error) { failed = append(failed, err.Error()) }
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		pod := newPod(configMapVolume("cfg", "settings"), emptyDirVolume("data"), corev1.Volume{Name: "me", VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{DefaultMode: ptr.To[int32](0o644), Sources: []corev1.VolumeProjection{
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}}}},
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}},
			}},
		}})
		setUp(t, m, pod)
		from := paths(t, m, pod)
		cfg, me := from[0], from[2]
		expect := func(what, want string, elements ...string) {
			t.Helper()
			synctest.Wait()
			if got := read(t, elements...); got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		held, err := os.Open(filepath.Join(cfg, "a"))
		if err != nil {
			t.Fatal(err)
		}
		defer held.Close()
		has.set("settings", map[string]string{"a": "changed", "c": "new"})
		m.Changed(uid)
		expect("told", "changed", cfg, "a")
		expect("new file", "new", cfg, "c")
		gone(t, cfg, "b")
		gone(t, cfg, "raw")
		if info, err := held.Stat(); err != nil || info.Size() != 1 {
			t.Errorf("who has the old file open: %v, %v", info, err)
		}
		if got := tree(t, cfg); len(got) != 6 { // ..data, its directory with two files, two links
			t.Errorf("left: %v", got)
		}

		has.set("settings", map[string]string{"a": "by itself"})
		has.mu.Lock()
		has.token = "renewed"
		has.mu.Unlock()
		time.Sleep(50 * time.Second)
		expect("too early", "changed", cfg, "a")
		time.Sleep(50 * time.Second)
		expect("in time", "by itself", cfg, "a")
		expect("token", "renewed", me, "token")

		pod = pod.DeepCopy()
		pod.Labels["app"] = "db"
		setUp(t, m, pod)
		expect("label", `app="db"`, me, "labels")

		// What cannot be made anew stays as it is, and is said.
		has.mu.Lock()
		delete(has.configMaps, "settings")
		has.mu.Unlock()
		m.Changed(uid)
		expect("gone", "by itself", cfg, "a")
		if len(failed) != 1 || failed[0] != `MountVolume.SetUp failed for volume "cfg" : configmap "settings" not found` {
			t.Errorf("said: %q", failed)
		}
		if err := m.TearDown(ctx, uid); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		if len(failed) > 1 {
			t.Errorf("of a pod that went: %q", failed[1:])
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// TestUnfinished: a write that was cut short does not keep the next ones from being done, nor stay.
func TestUnfinished(t *testing.T) {
	t.Parallel()
	has := newAPI()
	root := t.TempDir()
	pod := newPod(configMapVolume("cfg", "settings"))
	m := open(t, root, func(c *Config) { c.Objects = has })
	setUp(t, m, pod)
	cfg := paths(t, m, pod)[0]
	write(t, "half", cfg, "..2026_01_01_00_00_00.123/a")
	link(t, "..2026_01_01_00_00_00.123", cfg, "..data_tmp")
	has.set("settings", map[string]string{"a": "whole"})
	setUp(t, open(t, root, func(c *Config) { c.Objects = has }), pod)
	if got := read(t, cfg, "a"); got != "whole" {
		t.Errorf("read %q", got)
	}
	gone(t, cfg, "..data_tmp")
	gone(t, cfg, "..2026_01_01_00_00_00.123")
}

// TestFull: what does not fit is an error, and leaves what was there.
func TestFull(t *testing.T) {
	t.Parallel()
	needRoot(t)
	has := newAPI()
	root := t.TempDir()
	pod := newPod(secretVolume("keys", "keys"))
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Ki")}
	m := open(t, root, func(c *Config) { c.Objects = has })
	setUp(t, m, pod)
	at := paths(t, m, pod)[0]
	for range 3 {
		has.secrets["keys"] = &corev1.Secret{Data: map[string][]byte{"big": make([]byte, 1<<20), "user": []byte("other")}}
		err := open(t, root, func(c *Config) { c.Objects = has }).Setup(t.Context(), pod)
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("error %v", err)
		}
		if got := read(t, at, "user"); got != "me" {
			t.Errorf("read %q", got)
		}
	}
	has.secrets["keys"] = &corev1.Secret{Data: map[string][]byte{"user": []byte("small")}}
	setUp(t, open(t, root, func(c *Config) { c.Objects = has }), pod)
	if got := read(t, at, "user"); got != "small" {
		t.Errorf("read %q", got)
	}
	gone(t, at, "big")
}

func TestHugeConfigMap(t *testing.T) {
	t.Parallel()
	has := newAPI()
	data := map[string]string{"big": strings.Repeat("x", 1<<20)}
	for i := range 1000 {
		data[fmt.Sprint(i)] = "x"
	}
	has.set("settings", data)
	m := open(t, t.TempDir(), func(c *Config) { c.Objects = has })
	pod := newPod(configMapVolume("cfg", "settings"))
	setUp(t, m, pod)
	at := paths(t, m, pod)[0]
	if len(read(t, at, "big")) != 1<<20 || read(t, at, "999") != "x" {
		t.Error("not all is there")
	}
	used, err := m.Usage(t.Context(), uid)
	if err != nil || used[0].Inodes < 2000 || used[0].Bytes < 1<<20 {
		t.Errorf("used %+v, %v", used, err)
	}
	if err := m.TearDown(t.Context(), uid); err != nil {
		t.Error(err)
	}
}
