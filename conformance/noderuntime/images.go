package noderuntime

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Names of images, as Kubernetes' own tests call them.
const (
	PauseImage   = "registry.k8s.io/pause:3.10.2"
	BusyboxImage = "registry.k8s.io/e2e-test-images/busybox:1.37.0-1"
	AgnhostImage = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"
)

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

// Busybox is the image with a shell and the usual tools.
func Busybox(t testing.TB) *Image {
	t.Helper()
	return &Image{
		Name:   BusyboxImage,
		Files:  busyboxFiles(t),
		Config: imagespec.ImageConfig{Cmd: []string{"sh"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}},
	}
}

// busyboxFiles are the program, its applets and what surrounds them. Applets are hard links: a mask over a symbolic link, which a
// runtime may be asked for, would be one over the program itself.
func busyboxFiles(t testing.TB) []File {
	t.Helper()
	program := busybox(t)
	files := []File{
		Tool("bin/busybox", program), Dir("tmp", 0o1777), Dir("root", 0o700), Dir("home", 0), Dir("var/run", 0), Dir("var/tmp", 0o1777),
		Dir("dev", 0), Dir("proc", 0), Dir("sys", 0), Dir("usr/sbin", 0), Dir("usr/local/bin", 0),
		{Path: "etc/passwd", Text: "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/home:/bin/false\n"},
		{Path: "etc/group", Text: "root:x:0:\ndaemon:x:1:\nnogroup:x:65534:\n"},
		{Path: "etc/nsswitch.conf", Text: "passwd: files\ngroup: files\nhosts: files dns\n"},
	}
	seen := map[string]bool{"busybox": true}
	for name := range strings.FieldsSeq(run(t, program, "--list")) {
		if !seen[name] {
			seen[name] = true
			files = append(files, File{Path: "bin/" + name, Link: "bin/busybox"})
		}
	}
	return append(files, File{Path: "usr/bin/env", Link: "bin/busybox"})
}

// Agnhost is the image of Kubernetes' test program, with busybox's tools around it.
func Agnhost(t testing.TB) *Image {
	t.Helper()
	files := busyboxFiles(t)
	for i := range files {
		switch files[i].Path {
		case "etc/passwd":
			files[i].Text += "user-defined-in-image:x:1000:1000::/home:/bin/sh\n"
		case "etc/group":
			files[i].Text += "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"
		}
	}
	certificate := filepath.Join(harness.KubernetesSource(t), "test/images/agnhost/porter")
	return &Image{
		Name: AgnhostImage,
		Files: append(files,
			Tool("agnhost", harness.Static(t, "k8s.io/kubernetes/test/images/agnhost", "agnhost")),
			File{Path: "agnhost-2", Symlink: "agnhost"}, Dir("uploads", 0o755),
			File{Path: "localhost.crt", From: filepath.Join(certificate, "localhost.crt"), Mode: 0o644},
			File{Path: "localhost.key", From: filepath.Join(certificate, "localhost.key"), Mode: 0o644},
		),
		Config: imagespec.ImageConfig{
			Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		},
	}
}

// busybox is the static program of Debian 13, whose own wget works, or else that of the machine's Debian.
func busybox(t testing.TB) string {
	t.Helper()
	return harness.Cached(t, "busybox", "debian-13-"+runtime.GOARCH, func(path string) {
		dir := t.TempDir()
		list, state := filepath.Join(dir, "trixie.list"), filepath.Join(dir, "state")
		source := "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main\n"
		if err := os.WriteFile(list, []byte(source), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(state, "partial"), 0o755); err != nil {
			t.Fatal(err)
		}
		options := []string{
			"-q", "-o", "APT::Sandbox::User=root", "-o", "Dir::Etc::sourcelist=" + list, "-o", "Dir::Etc::sourceparts=/dev/null",
			"-o", "Dir::State::lists=" + state, "-o", "Dir::Cache=" + dir,
		}
		get := func(args ...string) error {
			cmd := exec.CommandContext(t.Context(), "apt-get", args...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Logf("%s: %v\n%s", cmd, err, out)
			}
			return err
		}
		err := get(append(options, "update")...)
		if err == nil {
			err = get(append(options, "download", "busybox-static")...)
		}
		if err != nil {
			if err := get("download", "busybox-static"); err != nil {
				missing(t, "busybox comes from Debian's package busybox-static, which cannot be had: %v", err)
			}
		}
		packages, err := filepath.Glob(filepath.Join(dir, "busybox-static_*.deb"))
		if err != nil || len(packages) != 1 {
			t.Fatalf("the package is not there: %v, %v", packages, err)
		}
		run(t, "dpkg", "-x", packages[0], filepath.Join(dir, "tree"))
		matches, _ := filepath.Glob(filepath.Join(dir, "tree/*/busybox"))
		more, _ := filepath.Glob(filepath.Join(dir, "tree/usr/bin/busybox"))
		if matches = append(matches, more...); len(matches) == 0 {
			t.Fatal("the package has no busybox")
		}
		run(t, "cp", matches[0], path)
	})
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
