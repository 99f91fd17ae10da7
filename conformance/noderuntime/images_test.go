package noderuntime

import (
	"context"
	"flag"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

var allImages = flag.Bool("all-images", false, "make and run all images; they take minutes to make")

// output is what a container of an image prints until it ends.
func output(t *testing.T, m *Machine, image, name string, config *runtimeapi.ContainerConfig) string {
	t.Helper()
	service, images := m.CRI(t)
	if _, err := images.PullImage(t.Context(), &runtimeapi.ImageSpec{Image: image}, nil, nil); err != nil {
		t.Fatal(err)
	}
	sandbox := pod(name)
	id, err := service.RunPodSandbox(t.Context(), sandbox, "")
	if err != nil {
		t.Fatal(err)
	}
	config.Metadata, config.Image, config.LogPath = &runtimeapi.ContainerMetadata{Name: "c"}, &runtimeapi.ImageSpec{Image: image}, "c.log"
	container, err := service.CreateContainer(t.Context(), id, config, sandbox)
	if err == nil {
		err = service.StartContainer(t.Context(), container)
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the container", func(ctx context.Context) (bool, error) {
		status, err := service.ContainerStatus(ctx, container, false)
		return err == nil && status.Status.State == runtimeapi.ContainerState_CONTAINER_EXITED, err
	})
	data, err := os.ReadFile(filepath.Join(m.Path(sandbox.LogDirectory), "c.log"))
	if err != nil {
		t.Fatal(err)
	}
	if err := service.RemovePodSandbox(t.Context(), id); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		if f := strings.SplitN(line, " ", 4); len(f) == 4 {
			out.WriteString(f[3])
		}
	}
	return out.String()
}

// TestBusybox: its programs are there, and its shell hands on variables whose names are none in a shell.
func TestBusybox(t *testing.T) {
	fabric := NewFabric(t)
	fabric.Registry.Add(t, Pause(t))
	fabric.Registry.Add(t, Busybox(t))
	m := fabric.NewMachine(t, "one")
	m.Runtime(t, Chosen(t))
	m.Bridge(t, "10.244.1.0/24")
	got := strings.Fields(output(t, m, BusyboxImage, "env", &runtimeapi.ContainerConfig{
		Command: []string{"sh", "-c", "/usr/bin/env; id; wget -T 1 -O - http://127.0.0.1:9/"},
		Envs:    []*runtimeapi.KeyValue{{Key: "data-1", Value: []byte("one")}, {Key: "p.data-2", Value: []byte("two")}},
	}))
	for _, want := range []string{"data-1=one", "p.data-2=two", "uid=0(root)", "refused"} {
		if !slices.Contains(got, want) {
			t.Errorf("%s is not in %q", want, got)
		}
	}
}

// TestImages runs a command in each image that takes long to make.
func TestImages(t *testing.T) {
	if !*allImages {
		t.Skip("the larger images are only made with -args -all-images")
	}
	fabric := NewFabric(t)
	fabric.Registry.Add(t, Pause(t))
	m := fabric.NewMachine(t, "one")
	m.Runtime(t, Chosen(t))
	m.Bridge(t, "10.244.1.0/24")
	for _, test := range []struct {
		image   string
		command []string // the image's own, where there is none
		args    []string
		want    []string // in what it prints
	}{
		{
			image: AgnhostImage,
			command: []string{"sh", "-c", `
				curl --version; dig -v; nc -h; ip -V; ss -V; iperf -v; bash --version; curl -s http://127.0.0.1:9/ || echo curl $?
				id user-defined-in-image; readlink /agnhost-2; ls -d /uploads; cat /var/registry/pause/manifests/testing; /coredns -plugins`},
			want: []string{
				"curl 8.", "DiG 9.", "OpenBSD netcat", "ip utility", "ss utility", "iperf version 2", "GNU bash", "curl 7",
				"uid=1000(user-defined-in-image)", "50000(group-defined-in-image)", "agnhost", "/uploads", "sha256:", "\nhosts\n",
			},
		},
		{image: tests + "agnhost:2.55", args: []string{"--version"}, want: []string{"app version"}},
		{image: CoreDNSImage, args: []string{"-version"}, want: []string{"CoreDNS-1.15.0"}},
		{image: tests + "nautilus:1.8", command: []string{"cat", "/data.json"}, want: []string{`"image": "nautilus.jpg"`}},
		{image: tests + "kitten:1.8", command: []string{"cat", "/data.json"}, want: []string{`"image": "kitten.jpg"`}},
		{
			image: tests + "nginx:1.15-4", command: []string{"sh", "-c", "nginx; wget -q -O - http://127.0.0.1/; nginx -s quit"},
			want: []string{"Welcome to nginx"},
		},
		{image: tests + "nginx:1.27-0", args: []string{"nginx", "-v"}, want: []string{"nginx version"}},
		{
			image:   tests + "glibc-dns-testing:2.0.0",
			command: []string{"sh", "-c", `dig -v; getent passwd root; hostname; echo a b | awk '{print $2 "!"}'; seq 3 | tail -1; echo $(sed -n 1p /etc/passwd)`},
			want:    []string{"DiG 9.", "root:x:0:0:root", "glibc-dns-testing-2.0.0", "b!", "3", "root:x:0:0"},
		},
		{image: tests + "sample-apiserver:1.29.2", args: []string{"--help"}, want: []string{"Launch a wardle API server"}},
		{image: "registry.k8s.io/etcd:3.6.8-0", command: []string{"/usr/local/bin/etcd", "--version"}, want: []string{"etcd Version: 3.6.8"}},
		{image: tests + "nonroot:1.5", command: []string{"id", "-u"}, want: []string{"1234"}},
		{image: tests + "nonewprivs:1.4", want: []string{"Effective uid: 0"}},
	} {
		name := strings.ReplaceAll(path.Base(test.image), ":", "-")
		t.Run(name, func(t *testing.T) {
			for _, image := range Images(t, test.image) {
				fabric.Registry.Add(t, image)
			}
			got := output(t, m, test.image, name, &runtimeapi.ContainerConfig{Command: test.command, Args: test.args})
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is not in what it printed:\n%s", want, got)
				}
			}
		})
	}
}
