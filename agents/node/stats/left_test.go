package stats

import (
	"context"
	"log/slog"
	"testing"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

// places are where a runtime has its images and what containers write.
type places struct {
	internalapi.ImageManagerService
	images, containers string
}

func (p places) ImageFsInfo(context.Context) (*runtimeapi.ImageFsInfoResponse, error) {
	at := func(path string) []*runtimeapi.FilesystemUsage {
		return []*runtimeapi.FilesystemUsage{{FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: path}}}
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: at(p.images), ContainerFilesystems: at(p.containers)}, nil
}

func TestApart(t *testing.T) {
	t.Parallel()
	const here, other = "/", "/proc" // which is a file system of its own
	for _, tc := range []struct {
		of            places
		images, split bool
	}{
		{of: places{images: here, containers: here}},
		{of: places{images: other, containers: other}, images: true},
		{of: places{images: other, containers: here}, images: true, split: true},
		{of: places{images: here, containers: other}, images: true, split: true},
	} {
		p := New(Config{Data: here, Images: tc.of, Proc: tree(t, procFiles), Log: slog.New(slog.DiscardHandler)})
		if images, split, err := p.Apart(t.Context()); err != nil || images != tc.images || split != tc.split {
			t.Errorf("%+v: %v, %v, %v", tc.of, images, split, err)
		}
	}
	p := New(Config{Data: here, Images: places{images: "/no/such"}, Proc: tree(t, procFiles), Log: slog.New(slog.DiscardHandler)})
	if _, _, err := p.Apart(t.Context()); err == nil {
		t.Error("images that are nowhere are somewhere")
	}
}

// TestLeft: the node is measured without its pods, or with them.
func TestLeft(t *testing.T) {
	t.Parallel()
	fake, cri := newRuntime(t, fakecri.Containerd())
	logs := t.TempDir()
	start(t, cri, logs, "web", "c")
	p := New(Config{Runtime: cri.Service(), Images: cri.Images(), Data: t.TempDir(), PodLogs: logs, Proc: tree(t, procFiles), Log: slog.New(slog.DiscardHandler)})
	for _, pods := range []bool{false, true} {
		fake.ForgetCalls()
		s, err := p.Left(t.Context(), pods)
		if err != nil {
			t.Fatal(err)
		}
		if n := s.Node; n.Memory.AvailableBytes == nil || n.Fs.AvailableBytes == nil || n.Rlimit.MaxPID == nil || n.Runtime.ImageFs.AvailableBytes == nil {
			t.Errorf("node: %+v", n)
		}
		if asked := len(fake.Calls("ListPodSandboxStats")) > 0; asked != pods || len(s.Pods) > 0 != pods {
			t.Errorf("pods %v: asked for them: %v, and told of %d", pods, asked, len(s.Pods))
		}
	}
}
