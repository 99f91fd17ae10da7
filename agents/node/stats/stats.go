// Package stats says what a node, its pods and their containers use, in the form of the kubelet's Summary API: pods as the container
// runtime measures them, the node itself from the kernel. Nothing is measured but when somebody asks, so that pods of which nobody
// does cost nothing; how much of a CPU is in use is told from the second question on where the runtime does not tell it.
package stats

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	internalapi "k8s.io/cri-api/pkg/apis"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"
	"k8s.io/kubernetes/pkg/volume/util/fs"
)

// Config says what is measured.
type Config struct {
	Node    string
	Runtime internalapi.RuntimeService
	Images  internalapi.ImageManagerService
	// Data is the agent's directory; the filesystem that it is on is the node's.
	Data    string
	PodLogs string // directory of all pods' logs
	Proc    string // "": /proc
	Cgroups string // "": /sys/fs/cgroup
	// V2 says that Cgroups is one hierarchy for all controllers.
	V2 bool
	// Pods is the cgroup that all pods are in; "": none.
	Pods string
	// PodCgroup is a pod's cgroup; nil, or "": not known, and a pod uses what its containers use.
	PodCgroup func(types.UID) string
	// Volumes are a pod's; nil: they are not measured.
	Volumes func(types.UID) []Volume
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger
}

// Volume is one of a pod's.
type Volume struct {
	Name string
	Path string
	// Local says that what is in it is on the node's own filesystem, and counts as the pod's use of it.
	Local bool
	// Whole says that it is a filesystem of its own.
	Whole bool
	PVC   *statsapi.PVCReference
}

// Provider measures.
type Provider struct {
	cfg     Config
	cgroups cgroups
	booted  time.Time
	started time.Time

	mu    sync.Mutex
	rates rates
	usage map[string]measured // of directories
}

// New makes a provider.
func New(cfg Config) *Provider {
	if cfg.Proc == "" {
		cfg.Proc = "/proc"
	}
	if cfg.Cgroups == "" {
		cfg.Cgroups = "/sys/fs/cgroup"
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Provider{cfg: cfg, cgroups: cgroups{root: cfg.Cgroups, v2: cfg.V2}, started: cfg.Now(), rates: rates{}, usage: map[string]measured{}}
	p.booted = bootTime(cfg.Proc, p.started)
	return p
}

// Summary is all that is known of the node and its pods.
func (p *Provider) Summary(ctx context.Context) (*statsapi.Summary, error) {
	pods, err := p.pods(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("failed to list pod stats: %w", err)
	}
	node, err := p.node(true)
	if err != nil {
		return nil, fmt.Errorf("failed to get root cgroup stats: %w", err)
	}
	now := metav1.NewTime(p.cfg.Now())
	if err := p.left(ctx, node, now); err != nil {
		return nil, err
	}
	node.Network = network(p.cfg.Proc, now)
	node.IO = pressureOfIO(p.cfg.Proc, now)
	return &statsapi.Summary{Node: *node, Pods: pods}, nil
}

// CPUAndMemory is what the node and its pods use of these.
func (p *Provider) CPUAndMemory(ctx context.Context) (*statsapi.Summary, error) {
	pods, err := p.pods(ctx, false)
	if err != nil {
		return nil, fmt.Errorf("failed to list pod stats: %w", err)
	}
	node, err := p.node(false)
	if err != nil {
		return nil, fmt.Errorf("failed to get root cgroup stats: %w", err)
	}
	return &statsapi.Summary{Node: *node, Pods: pods}, nil
}

// ImageFS are the filesystems of images and of what containers write.
func (p *Provider) ImageFS(ctx context.Context) (images, containers *statsapi.FsStats, err error) {
	resp, err := p.cfg.Images.ImageFsInfo(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(resp.GetImageFilesystems()) == 0 {
		return nil, nil, fmt.Errorf("imageFs information is unavailable")
	}
	images = written(resp.GetImageFilesystems()[0])
	containers = images
	if others := resp.GetContainerFilesystems(); len(others) > 0 {
		containers = written(others[0])
	}
	return images, containers, nil
}

// NodeFS is the filesystem that the agent's directory is on.
func (p *Provider) NodeFS() (*statsapi.FsStats, error) {
	return filesystem(p.cfg.Data, metav1.NewTime(p.cfg.Now()))
}

// filesystem is the whole one that a path is on.
func filesystem(path string, now metav1.Time) (*statsapi.FsStats, error) {
	available, capacity, used, inodes, inodesFree, inodesUsed, err := fs.Info(path)
	if err != nil {
		return nil, err
	}
	return &statsapi.FsStats{
		Time: now, AvailableBytes: number(available), CapacityBytes: number(capacity), UsedBytes: number(used),
		Inodes: number(inodes), InodesFree: number(inodesFree), InodesUsed: number(inodesUsed),
	}, nil
}

func number(n int64) *uint64 {
	u := uint64(max(n, 0))
	return &u
}
