package noderuntime

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// corednsVersion is not the version in the image's name, which is the one that Kubernetes' own installer takes.
const corednsVersion = "v1.15.0"

// corednsPlugins are what a cluster's DNS and Kubernetes' tests configure. All that there are would bring several clouds along.
var corednsPlugins = []string{
	"cache", "errors", "forward", "health", "hosts", "kubernetes", "loadbalance", "log", "loop", "metrics", "ready", "reload",
}

// CoreDNS is the image of clusters' DNS servers.
func CoreDNS(t testing.TB) *Image {
	t.Helper()
	return &Image{
		Name: CoreDNSImage, Layers: []string{coredns(t)},
		Config: imagespec.ImageConfig{Entrypoint: []string{"/coredns"}, WorkingDir: "/"},
	}
}

// coredns is a layer with the program, which has a shorter list of plugins.
func coredns(t testing.TB) string {
	t.Helper()
	build := harness.Install{Package: "github.com/coredns/coredns", Version: corednsVersion, Name: "coredns"}
	program := harness.Copied(t, build, func(dir string) {
		var list strings.Builder
		list.WriteString("package plugin\n")
		for _, plugin := range corednsPlugins {
			list.WriteString("import _ \"github.com/coredns/coredns/plugin/" + plugin + "\"\n")
		}
		if err := os.WriteFile(filepath.Join(dir, "core/plugin/zplugin.go"), []byte(list.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	return stored(t, "coredns-files", Tool("coredns", program))
}
