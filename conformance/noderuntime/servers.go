package noderuntime

import (
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// nginxConfig serves the page that comes with the package, where Debian's own configuration has no server before its scripts ran.
const nginxConfig = `user www-data;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 1024; }
http {
	include /etc/nginx/mime.types;
	access_log /dev/stdout;
	server {
		listen 80;
		root /usr/share/nginx/html;
	}
}
`

// nginx is Debian's, of a later version than the image's name says.
func nginx(t testing.TB) *Image {
	t.Helper()
	return &Image{
		Base: Busybox(t), Layers: []string{debian(t, "nginx", "nginx")},
		Files: []File{
			{Path: "etc/nginx/nginx.conf", Text: nginxConfig},
			{Path: "etc/passwd", Text: passwd},
			{Path: "etc/group", Text: group},
			Dir("run", 0),
		},
		Config: imagespec.ImageConfig{
			Cmd: []string{"nginx", "-g", "daemon off;"}, Env: []string{defaultPath}, StopSignal: "SIGQUIT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}},
		},
	}
}

func etcd(t testing.TB) *Image {
	t.Helper()
	return &Image{
		Layers: []string{stored(t, "etcd-files", Tool("usr/local/bin/etcd", harness.Static(t, "go.etcd.io/etcd/server/v3", "etcd")),
			Dir("tmp", 0o1777), Dir("var/lib/etcd", 0))},
		Config: imagespec.ImageConfig{Env: []string{defaultPath}},
	}
}

// sampleAPIServer is an aggregated API server, of the version that its name says.
func sampleAPIServer(t testing.TB) *Image {
	t.Helper()
	program := harness.Copied(t, harness.Install{Package: "k8s.io/sample-apiserver", Version: "v0.29.2", Name: "sample-apiserver"}, nil)
	return &Image{
		Base: Busybox(t), Layers: []string{stored(t, "sample-apiserver-files", Tool("sample-apiserver", program))},
		Config: imagespec.ImageConfig{Entrypoint: []string{"/sample-apiserver"}, Env: []string{defaultPath}},
	}
}
