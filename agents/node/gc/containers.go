package gc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	apitypes "k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/types"
)

// ContainerPolicy is which containers that have ended are kept.
type ContainerPolicy struct {
	// MinAge is how old one is at least when it is removed, unless its pod is gone.
	MinAge time.Duration
	// MaxPerContainer is how many are kept of each container of a pod; negative: all.
	MaxPerContainer int
	// Max is how many are kept on the node; negative: all.
	Max int
}

func (p ContainerPolicy) check() error {
	if p.MinAge < 0 {
		return fmt.Errorf("invalid minimum garbage collection age: %v", p.MinAge)
	}
	return nil
}

// unit is a container of a pod, in all its attempts.
type unit struct {
	pod  apitypes.UID
	name string
}

// removable are the containers to be removed, the oldest first. all: also those of pods that are over but not gone.
func (p ContainerPolicy) removable(containers []*runtimeapi.Container, pods Pods, all bool, now time.Time) []*runtimeapi.Container {
	units := map[unit][]*runtimeapi.Container{}
	for _, c := range containers {
		if c.State == runtimeapi.ContainerState_CONTAINER_RUNNING || now.Add(-p.MinAge).Before(time.Unix(0, c.CreatedAt)) {
			continue
		}
		u := unit{apitypes.UID(c.Labels[types.KubernetesPodUIDLabel]), c.GetMetadata().GetName()}
		if u.pod == "" { // somebody else's, who uses the runtime too
			continue
		}
		units[u] = append(units[u], c)
	}
	var out []*runtimeapi.Container
	keep := func(u unit, n int) {
		have := units[u]
		if over := len(have) - n; over > 0 {
			slices.SortFunc(have, oldest)
			out = append(out, have[:over]...)
			units[u] = have[over:]
		}
		if len(units[u]) == 0 {
			delete(units, u)
		}
	}
	for u := range units {
		switch {
		case pods.Known() && (pods.Gone(u.pod) || all && pods.Over(u.pod)):
			keep(u, 0)
		case p.MaxPerContainer >= 0:
			keep(u, p.MaxPerContainer)
		}
	}
	count := func() (n int) {
		for _, have := range units {
			n += len(have)
		}
		return n
	}
	if p.Max >= 0 && count() > p.Max {
		each := max(p.Max/len(units), 1)
		for u := range units {
			keep(u, each)
		}
		if over := count() - p.Max; over > 0 {
			var rest []*runtimeapi.Container
			for _, have := range units {
				rest = append(rest, have...)
			}
			slices.SortFunc(rest, oldest)
			out = append(out, rest[:over]...)
		}
	}
	slices.SortFunc(out, oldest)
	return out
}

func oldest(a, b *runtimeapi.Container) int {
	return cmp.Or(cmp.Compare(a.CreatedAt, b.CreatedAt), cmp.Compare(a.Id, b.Id))
}

// emptied are the sandboxes to be removed: those without containers that do not run, but the newest of each pod; all when the pod is gone.
func emptied(sandboxes []*runtimeapi.PodSandbox, containers []*runtimeapi.Container, pods Pods, all bool) []string {
	used := map[string]bool{}
	for _, c := range containers {
		used[c.PodSandboxId] = true
	}
	of := map[apitypes.UID][]*runtimeapi.PodSandbox{}
	for _, s := range sandboxes {
		id := apitypes.UID(s.Labels[types.KubernetesPodUIDLabel])
		if id == "" {
			continue
		}
		of[id] = append(of[id], s)
	}
	var out []string
	for id, have := range of {
		slices.SortFunc(have, func(a, b *runtimeapi.PodSandbox) int { return cmp.Compare(a.CreatedAt, b.CreatedAt) })
		if !pods.Known() || !pods.Gone(id) && (!all || !pods.Over(id)) {
			have = have[:len(have)-1]
		}
		for _, s := range have {
			if s.State != runtimeapi.PodSandboxState_SANDBOX_READY && !used[s.Id] {
				out = append(out, s.Id)
			}
		}
	}
	slices.Sort(out)
	return out
}

// CollectContainers removes containers, sandboxes and directories of logs.
func (c *Collector) CollectContainers(ctx context.Context) error { return c.collect(ctx, false) }

// RemoveUnusedContainers does so also for pods that are over but not gone, for a node whose disk is full.
func (c *Collector) RemoveUnusedContainers(ctx context.Context) error { return c.collect(ctx, true) }

func (c *Collector) collect(ctx context.Context, all bool) error {
	containers, err := c.Runtime.ListContainers(ctx, nil)
	if err != nil {
		return err
	}
	for _, gone := range c.Containers.removable(containers, c.Pods, all, time.Now()) {
		if err := c.removeContainer(ctx, gone); err != nil {
			c.Log.Warn("A container could not be removed", "id", gone.Id, "error", err) // the others can
		}
	}
	// Containers that are made meanwhile are in sandboxes that run, or are listed now.
	sandboxes, err := c.Runtime.ListPodSandbox(ctx, nil)
	if err != nil {
		return err
	}
	if containers, err = c.Runtime.ListContainers(ctx, nil); err != nil {
		return err
	}
	for _, id := range emptied(sandboxes, containers, c.Pods, all) {
		err := c.Runtime.StopPodSandbox(ctx, id)
		if err == nil {
			err = c.Runtime.RemovePodSandbox(ctx, id)
		}
		if err != nil {
			c.Log.Warn("A pod sandbox could not be removed", "id", id, "error", err)
		}
	}
	return errors.Join(c.removeLogs(), c.removeLinks(containers))
}

// removeLinks removes links to logs that are not there any more. The log of a container that may run is away only while it is rotated.
func (c *Collector) removeLinks(containers []*runtimeapi.Container) error {
	if c.Links == "" {
		return nil
	}
	entries, err := os.ReadDir(c.Links)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	mayRun := map[string]bool{}
	for _, one := range containers {
		mayRun[one.Id] = one.State != runtimeapi.ContainerState_CONTAINER_EXITED
	}
	for _, e := range entries {
		name, isLog := strings.CutSuffix(e.Name(), ".log")
		id := name[strings.LastIndexByte(name, '-')+1:] // pod_namespace_container-id
		if !isLog || e.Type() != os.ModeSymlink || mayRun[id] {
			continue
		}
		path := filepath.Join(c.Links, e.Name())
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err := os.Remove(path); err != nil {
			c.Log.Warn("A link to a log could not be removed", "link", e.Name(), "error", err)
		}
	}
	return nil
}

func (c *Collector) removeContainer(ctx context.Context, gone *runtimeapi.Container) error {
	if gone.State == runtimeapi.ContainerState_CONTAINER_UNKNOWN { // it may run
		if err := c.Runtime.StopContainer(ctx, gone.Id, unknownGrace); err != nil {
			return err
		}
	}
	if err := RemoveLogs(ctx, c.Runtime, gone.Id); err != nil {
		return err
	}
	return c.Runtime.RemoveContainer(ctx, gone.Id)
}

// unknownGrace is how many seconds a container has that nobody knows anything of.
const unknownGrace = 2

// RemoveLogs removes a container's log, and what was rotated of it. It is to be done before the container is removed.
func RemoveLogs(ctx context.Context, runtime Runtime, id string) error {
	resp, err := runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		return fmt.Errorf("failed to get container status %q: %w", id, err)
	}
	path := resp.GetStatus().GetLogPath()
	if path == "" {
		return nil
	}
	files, err := rotated(path)
	if err != nil {
		return err
	}
	for _, file := range append(files, path) {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("failed to remove container %q log %q: %w", id, file, err)
		}
	}
	return nil
}

// removeLogs removes directories of logs of pods that are gone.
func (c *Collector) removeLogs() error {
	if !c.Pods.Known() {
		return nil
	}
	entries, err := os.ReadDir(c.PodLogs)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		parts := strings.Split(e.Name(), "_") // namespace, name, UID: none of them has a _
		if len(parts) != 3 || !c.Pods.Gone(apitypes.UID(parts[2])) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(c.PodLogs, e.Name())); err != nil {
			c.Log.Warn("A pod's logs could not be removed", "directory", e.Name(), "error", err)
		}
	}
	return nil
}
