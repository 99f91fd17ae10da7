// Package gc removes from a node what nobody needs any more: containers and sandboxes that have ended, images that no container uses when
// the disk fills or they are old, directories of logs whose pods are gone; and it rotates logs of containers that run. What is kept, and
// for how long, is the kubelet's policy.
package gc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/events"

	"github.com/rowlock-io/rowlock/agents/node/cri"
)

// Runtime is what is asked to remove containers and sandboxes.
type Runtime interface {
	ListPodSandbox(ctx context.Context, filter *runtimeapi.PodSandboxFilter) ([]*runtimeapi.PodSandbox, error)
	StopPodSandbox(ctx context.Context, id string) error
	RemovePodSandbox(ctx context.Context, id string) error
	ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) ([]*runtimeapi.Container, error)
	ContainerStatus(ctx context.Context, id string, verbose bool) (*runtimeapi.ContainerStatusResponse, error)
	StopContainer(ctx context.Context, id string, timeout int64) error
	RemoveContainer(ctx context.Context, id string) error
	ReopenContainerLog(ctx context.Context, id string) error
}

// Images is what is asked to remove images.
type Images interface {
	ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error)
	RemoveImage(ctx context.Context, image *runtimeapi.ImageSpec) error
	ImageFsInfo(ctx context.Context) (*runtimeapi.ImageFsInfoResponse, error)
}

// Pods says what becomes of pods.
type Pods interface {
	// Known: all sources of pods have been heard; before, a pod that nobody knows may yet be wanted.
	Known() bool
	// Gone: nothing of the pod is to be kept.
	Gone(types.UID) bool
	// Over: none of its containers will run again, though the API still has it.
	Over(types.UID) bool
}

// Config is what a Collector is made of. Zero values of policies are not the defaults: Defaults has these.
type Config struct {
	Log      *slog.Logger
	Runtime  Runtime
	Images   Images
	Pods     Pods
	Reports  func() []*cri.Report // what is known of all pods
	PodLogs  string               // directory of pods' logs
	Links    string               // directory of links to containers' logs; "": there are none
	Recorder record.EventRecorder
	Node     runtime.Object // that events are about

	Containers ContainerPolicy
	Image      ImagePolicy
	Logs       LogPolicy
	// ImagesRemoved is called when images were removed, with those that were left of a list that was made at that time; nil: nobody needs to
	// know.
	ImagesRemoved func(ctx context.Context, left []string, listed time.Time)
	// Usage is the space of a file system; nil: as the system says.
	Usage func(directory string) (capacity, available uint64, err error)
}

// Defaults are the kubelet's policies.
func Defaults() (ContainerPolicy, ImagePolicy, LogPolicy) {
	return ContainerPolicy{MaxPerContainer: 1, Max: -1},
		ImagePolicy{High: 85, Low: 80, MinAge: 2 * time.Minute},
		LogPolicy{MaxSize: 10 << 20, MaxFiles: 5, Every: 10 * time.Second}
}

// Collector removes.
type Collector struct {
	Config
	began   time.Time
	records imageRecords
}

// New makes one that does nothing until it is asked, or Run. Its error is about a policy.
func New(c Config) (*Collector, error) {
	if err := errors.Join(c.Containers.check(), c.Image.check(), c.Logs.check()); err != nil {
		return nil, err
	}
	if c.Usage == nil {
		c.Usage = usage
	}
	return &Collector{Config: c, began: time.Now(), records: imageRecords{of: map[string]*imageRecord{}}}, nil
}

// Every so often, as the kubelet does.
const (
	containersEvery = time.Minute
	imagesEvery     = 5 * time.Minute
)

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() {
		c.every(ctx, containersEvery, c.CollectContainers, events.ContainerGCFailed, 0)
	})
	if c.Image.High < 100 || c.Image.MaxAge > 0 { // or images are never removed, however full the disk
		all.Go(func() {
			c.every(ctx, imagesEvery, c.CollectImages, events.ImageGCFailed, 1)
		})
	}
	if c.Logs.MaxSize >= 0 {
		all.Go(func() {
			tick(ctx, c.Logs.Every, func() { c.RotateLogs(ctx) })
		})
	}
	all.Wait()
	return nil
}

// every does something again and again. After so many failures that are forgiven, the node hears of one.
func (c *Collector) every(ctx context.Context, pause time.Duration, do func(context.Context) error, reason string, forgiven int) {
	tick(ctx, pause, func() {
		err := do(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		c.Log.Warn("Garbage could not be collected", "reason", reason, "error", err)
		if forgiven--; forgiven < 0 {
			c.event(reason, err.Error())
		}
	})
}

func (c *Collector) event(reason, message string) {
	c.Recorder.Event(c.Node, corev1.EventTypeWarning, reason, message)
}

func tick(ctx context.Context, pause time.Duration, do func()) {
	t := time.NewTicker(pause)
	defer t.Stop()
	for {
		do()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func percent(name string, n int) error {
	if n < 0 || n > 100 {
		return fmt.Errorf("invalid %s %d, must be in range [0-100]", name, n)
	}
	return nil
}
