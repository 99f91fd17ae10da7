package noderuntime

import (
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
	AgnhostPrev  = "registry.k8s.io/e2e-test-images/agnhost:2.55"
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
