package noderuntime

import (
	"path/filepath"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Agnhost is the image of Kubernetes' test program: with busybox, as in the official one, and with what that has besides, which
// comes from Debian here. It lacks the DNS server, which takes longer to compile than the rest and which one test starts.
func Agnhost(t testing.TB) *Image {
	t.Helper()
	certificate := filepath.Join(harness.KubernetesSource(t), "test/images/agnhost/porter")
	files := append([]File{
		Tool("agnhost", harness.Static(t, "k8s.io/kubernetes/test/images/agnhost", "agnhost")),
		{Path: "agnhost-2", Symlink: "agnhost"},
		Dir("uploads", 0),
		{Path: "localhost.crt", From: filepath.Join(certificate, "localhost.crt"), Mode: 0o644},
		{Path: "localhost.key", From: filepath.Join(certificate, "localhost.key"), Mode: 0o644},
		{Path: "etc/passwd", Text: passwd + "user-defined-in-image:x:1000:1000::/home:/bin/sh\n"},
		{Path: "etc/group", Text: group + "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n"},
		{Path: "bin/bash", Symlink: "/usr/bin/bash"},
		{Path: "usr/bin/nc", Symlink: "nc.openbsd"},
		{Path: "usr/local/bin/iperf", Symlink: "/usr/bin/iperf"},
	}, served(t)...)
	return &Image{
		Name: AgnhostImage, Base: Busybox(t),
		Layers: []string{
			debian(t, "agnhost-tools", "bash", "bind9-dnsutils", "curl", "iperf", "iproute2", "netcat-openbsd"),
			stored(t, "agnhost-files", files...),
		},
		Config: imagespec.ImageConfig{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: []string{defaultPath}},
	}
}

// completeAgnhost has the DNS server too.
func completeAgnhost(t testing.TB) *Image {
	t.Helper()
	image := Agnhost(t)
	image.Layers = append(image.Layers, coredns(t))
	return image
}

// served are the files that agnhost serves when it is a registry: pause, by the tag testing.
func served(t testing.TB) []File {
	t.Helper()
	manifest, parts, err := Pause(t).build()
	if err != nil {
		t.Fatal(err)
	}
	file := func(kind string, b blob) File {
		name := b.Digest.Encoded()
		return File{Path: "var/registry/pause/" + kind + "/sha256/" + name[:2] + "/" + name + "/data", Text: string(b.data)}
	}
	files := []File{{Path: "var/registry/pause/manifests/testing", Text: manifest.Digest.String()}, file("manifests", manifest)}
	for _, part := range parts {
		files = append(files, file("blobs", part))
	}
	return files
}
