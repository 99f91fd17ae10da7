package noderuntime

import (
	"maps"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Names of images, as Kubernetes' own tests call them.
const (
	PauseImage   = "registry.k8s.io/pause:3.10.2"
	BusyboxImage = tests + "busybox:1.37.0-1"
	AgnhostImage = tests + "agnhost:2.63.0"
	CoreDNSImage = "registry.k8s.io/coredns/coredns:v1.14.2"

	tests = "registry.k8s.io/e2e-test-images/"
)

// makers make the images that Kubernetes' conformance tests name, and those of its other tests of containers that need no more than
// these do.
var makers = map[string]func(testing.TB) *Image{
	PauseImage:                        Pause,
	BusyboxImage:                      Busybox,
	AgnhostImage:                      completeAgnhost,
	CoreDNSImage:                      CoreDNS,
	tests + "agnhost:2.55":            labelled(Agnhost),
	tests + "nautilus:1.8":            pet("nautilus"),
	tests + "kitten:1.8":              pet("kitten"),
	tests + "nginx:1.15-4":            nginx,
	tests + "nginx:1.27-0":            labelled(nginx),
	tests + "glibc-dns-testing:2.0.0": glibcDNSTesting,
	tests + "sample-apiserver:1.29.2": sampleAPIServer,
	"registry.k8s.io/etcd:3.6.8-0":    etcd,
	tests + "nonroot:1.5":             nonRoot,
	tests + "nonewprivs:1.4":          noNewPrivs,
}

// CommonImages are what most of Kubernetes' tests make do with.
func CommonImages(t testing.TB) []*Image {
	t.Helper()
	return []*Image{Pause(t), Busybox(t), Agnhost(t)}
}

// Images are those of the names, or all that there are. To make all of them takes minutes, and what they are made of stays in the
// user's cache directory.
func Images(t testing.TB, names ...string) []*Image {
	t.Helper()
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(makers))
	}
	images := make([]*Image, len(names))
	for i, name := range names {
		maker, known := makers[name]
		if !known {
			t.Fatalf("there is no way to make the image %s", name)
		}
		images[i] = maker(t)
		images[i].Name = name
	}
	return images
}

// labelled is an image of the same files, under another name and with another digest.
func labelled(maker func(testing.TB) *Image) func(testing.TB) *Image {
	return func(t testing.TB) *Image {
		t.Helper()
		image := maker(t)
		image.Config.Labels = map[string]string{"version": "another"}
		return image
	}
}

// Pause is the image of sandboxes.
func Pause(t testing.TB) *Image {
	t.Helper()
	kubernetes := harness.KubernetesSource(t)
	source := filepath.Join(kubernetes, "build/pause/linux/pause.c")
	program := harness.Cached(t, "pause", filepath.Base(kubernetes)+"-"+runtime.GOARCH, func(path string) {
		run(t, "gcc", "-Os", "-static", "-DVERSION=rowlock", "-o", path, source)
	})
	return &Image{
		Name:   PauseImage,
		Files:  []File{Tool("pause", program)},
		Config: imagespec.ImageConfig{User: "65535:65535", Entrypoint: []string{"/pause"}, Env: []string{"PATH=/"}},
	}
}

// pet is an image of agnhost with a picture of a pet to serve.
func pet(name string) func(testing.TB) *Image {
	return func(t testing.TB) *Image {
		t.Helper()
		source := filepath.Join(harness.KubernetesSource(t), "test/images", name, "html")
		image := Agnhost(t)
		image.Config.Cmd = []string{"test-webserver"}
		for _, file := range []string{name + ".jpg", "data.json"} {
			image.Files = append(image.Files, File{Path: file, From: filepath.Join(source, file), Mode: 0o644})
		}
		// A test looks for the name of what upstream's is based on.
		image.Files = append(image.Files, File{Path: "etc/os-release", Text: "NAME=\"Alpine Linux\"\nID=alpine\n"})
		return image
	}
}

// nonRoot runs as a user that has no name.
func nonRoot(t testing.TB) *Image {
	t.Helper()
	return &Image{Base: Busybox(t), Config: imagespec.ImageConfig{User: "1234", Cmd: []string{"sh"}, Env: []string{defaultPath}}}
}

// noNewPrivs tells whose rights a program has that would have root's if it may.
func noNewPrivs(t testing.TB) *Image {
	t.Helper()
	nnp := Tool("usr/local/bin/nnp", harness.Static(t, "k8s.io/kubernetes/test/images/nonewprivs", "nnp"))
	nnp.Mode = 0o6755
	return &Image{Base: Busybox(t), Files: []File{nnp}, Config: imagespec.ImageConfig{Cmd: []string{"nnp"}, Env: []string{defaultPath}}}
}

// glibcDNSTesting is Debian with what asks DNS servers.
func glibcDNSTesting(t testing.TB) *Image {
	t.Helper()
	return &Image{
		Layers: []string{debian(t, "glibc-dns-testing", "base-files", "bash", "bind9-dnsutils", "coreutils", "dash", "findutils", "grep",
			"hostname", "libc-bin", "mawk", "netbase", "sed", "tar")},
		Files: []File{
			{Path: "bin", Symlink: "usr/bin"},
			{Path: "sbin", Symlink: "usr/sbin"},
			{Path: "usr/bin/awk", Symlink: "mawk"},
			{Path: "etc/passwd", Text: passwd},
			{Path: "etc/group", Text: group},
			{Path: "etc/nsswitch.conf", Text: nsswitch},
			Dir("dev", 0), Dir("proc", 0), Dir("run", 0), Dir("sys", 0), Dir("tmp", 0o1777), Dir("root", 0o700),
		},
		Config: imagespec.ImageConfig{Cmd: []string{"bash"}, Env: []string{defaultPath}},
	}
}

// run runs a program to its end and returns what it printed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", cmd, err, out, stderr.String())
	}
	return string(out)
}
