package fakecri

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type container struct {
	sandbox string
	config  *runtimeapi.ContainerConfig
	status  *runtimeapi.ContainerStatus
	life    Life
	timer   *time.Timer   // nil: it does not end by itself
	ended   chan struct{} // closed when it has; nil: it has not begun
}

func (c *container) cancel() {
	if c.timer != nil {
		c.timer.Stop()
	}
}

func (c *container) messagePath() string {
	if p := c.config.Annotations["io.kubernetes.container.terminationMessagePath"]; p != "" {
		return p
	}
	return "/dev/termination-log"
}

// write adds a line to its log, as runtimes do.
func (c *container) write(stream, text, zone string) {
	if c.status.LogPath == "" {
		return
	}
	if zone == "" {
		zone = "Z"
	}
	stamp := time.Now().UTC().Format("2006-01-02T15:04:05.000000000")
	f, err := os.OpenFile(c.status.LogPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return // a container hears nothing of it
	}
	defer f.Close() //nolint:errcheck // as above
	_, _ = fmt.Fprintf(f, "%s%s %s F %s\n", stamp, zone, stream, text)
}

func (r *runtimeServer) CreateContainer(_ context.Context, req *runtimeapi.CreateContainerRequest) (*runtimeapi.CreateContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	config := req.GetConfig()
	s := r.sandboxes[req.PodSandboxId]
	switch {
	case s == nil:
		return nil, status.Errorf(codes.NotFound, "failed to find sandbox id %q: not found", req.PodSandboxId)
	case !s.ready:
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox container task: no running task found: task %s not found", s.id)
	case config.GetMetadata().GetName() == "":
		return nil, status.Error(codes.InvalidArgument, "container config must include metadata")
	}
	for _, c := range r.containers {
		if c.sandbox == s.id && proto.Equal(c.config.Metadata, config.Metadata) {
			name := fmt.Sprintf("%s_%s_%d", config.Metadata.Name, s.config.Metadata.Uid, config.Metadata.Attempt)
			return nil, status.Errorf(codes.Unknown, "failed to reserve container name %q: name %q is reserved for %q", name, name, c.status.Id)
		}
	}
	if r.Profile.StrictPID {
		// What is not said is POD, the zero value.
		mine, pods := config.GetLinux().GetSecurityContext().GetNamespaceOptions(), s.config.GetLinux().GetSecurityContext().GetNamespaceOptions()
		if mine.GetPid() == runtimeapi.NamespaceMode_POD && pods.GetPid() != runtimeapi.NamespaceMode_POD {
			return nil, status.Errorf(codes.Unknown, "pod level PID namespace requested for the container, but pod sandbox was not similarly configured, and does not have an infra container")
		}
	}
	if r.Profile.WantsUserImage && config.GetImage().GetUserSpecifiedImage() == "" {
		return nil, status.Error(codes.Unknown, "user specified image not specified, cannot verify image signature")
	}
	life := r.life(config.Metadata.Name)
	if life.Create != nil {
		return nil, life.Create
	}
	image := r.find(config.GetImage().GetImage())
	if image == nil {
		return nil, status.Errorf(codes.NotFound, "failed to resolve image %q: not found", config.GetImage().GetImage())
	}
	c := &container{sandbox: s.id, config: clone(config), life: life}
	c.status = &runtimeapi.ContainerStatus{
		Id: r.id(), Metadata: c.config.Metadata, CreatedAt: now(), Image: &runtimeapi.ImageSpec{Image: name(image)},
		ImageRef: ref(image), ImageId: image.Id, Labels: c.config.Labels, Annotations: c.config.Annotations, Mounts: c.config.Mounts,
		Resources: &runtimeapi.ContainerResources{Linux: c.config.GetLinux().GetResources()}, User: user(c.config, image),
	}
	if dir := s.config.LogDirectory; dir != "" && config.LogPath != "" {
		c.status.LogPath = filepath.Join(dir, config.LogPath)
		if err := os.MkdirAll(filepath.Dir(c.status.LogPath), 0o755); err != nil {
			return nil, status.Errorf(codes.Unknown, "failed to create container loggers: %v", err)
		}
	}
	r.containers[c.status.Id] = c
	r.event(c.status.Id, s, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	return &runtimeapi.CreateContainerResponse{ContainerId: c.status.Id}, nil
}

func user(config *runtimeapi.ContainerConfig, image *runtimeapi.Image) *runtimeapi.ContainerUser {
	sc := config.GetLinux().GetSecurityContext()
	u := &runtimeapi.LinuxContainerUser{
		Uid: image.GetUid().GetValue(), Gid: sc.GetRunAsGroup().GetValue(), SupplementalGroups: sc.GetSupplementalGroups(),
	}
	if sc.GetRunAsUser() != nil {
		u.Uid = sc.RunAsUser.Value
	}
	return &runtimeapi.ContainerUser{Linux: u}
}

func (r *runtimeServer) StartContainer(_ context.Context, req *runtimeapi.StartContainerRequest) (*runtimeapi.StartContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	switch {
	case c == nil:
		return nil, notFound(req.ContainerId)
	case c.status.State != runtimeapi.ContainerState_CONTAINER_CREATED:
		return nil, status.Errorf(codes.Unknown, "container is in %s state", c.status.State)
	case !r.sandboxes[c.sandbox].ready:
		return nil, status.Errorf(codes.Unknown, "sandbox container %q is not running", c.sandbox)
	case c.life.Start != nil: // it is then as if it had run
		t := now()
		c.status.State, c.status.StartedAt, c.status.FinishedAt = runtimeapi.ContainerState_CONTAINER_EXITED, t, t
		c.status.ExitCode, c.status.Reason, c.status.Message = 128, "StartError", c.life.Start.Error()
		r.event(c.status.Id, r.sandboxes[c.sandbox], runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
		if r.Profile.ForgetsFailedStarts {
			r.remove(c)
		}
		return nil, c.life.Start
	}
	r.live(c)
	return &runtimeapi.StartContainerResponse{}, nil
}

func notFound(id string) error {
	return status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
}

func (r *runtimeServer) StopContainer(ctx context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.mu.Lock()
	c := r.containers[req.ContainerId]
	if c == nil || c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		r.mu.Unlock()
		return &runtimeapi.StopContainerResponse{}, nil
	}
	ended := c.ended
	r.mu.Unlock()
	grace := time.Duration(req.Timeout) * time.Second
	code, wait := c.life.StopCode, c.life.StopsAfter
	if code == 0 {
		code = 143
	}
	if c.life.IgnoresTerm || wait > grace || grace <= 0 {
		code, wait = 137, max(grace, 0)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ended:
		return &runtimeapi.StopContainerResponse{}, nil
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	case <-timer.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.end(c, code, "", "")
	return &runtimeapi.StopContainerResponse{}, nil
}

func (r *runtimeServer) RemoveContainer(_ context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[req.ContainerId]; c != nil {
		r.remove(c)
	}
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *Runtime) remove(c *container) {
	r.end(c, 137, "", "")
	c.cancel()
	delete(r.containers, c.status.Id)
	r.event(c.status.Id, r.sandboxes[c.sandbox], runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
}

func (r *runtimeServer) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, notFound(req.ContainerId)
	}
	return &runtimeapi.ContainerStatusResponse{Status: clone(c.status)}, nil
}

func (r *runtimeServer) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListContainersResponse{}
	f := req.GetFilter()
	for id, c := range r.containers {
		s := c.status
		if f.GetId() != "" && f.Id != id || f.GetPodSandboxId() != "" && f.PodSandboxId != c.sandbox ||
			f.GetState() != nil && f.State.State != s.State || !selects(f.GetLabelSelector(), s.Labels) {
			continue
		}
		out.Containers = append(out.Containers, clone(&runtimeapi.Container{
			Id: id, PodSandboxId: c.sandbox, Metadata: s.Metadata, Image: c.config.Image, ImageRef: s.ImageRef, ImageId: s.ImageId,
			State: s.State, CreatedAt: s.CreatedAt, Labels: s.Labels, Annotations: s.Annotations,
		}))
	}
	return out, nil
}

func (r *runtimeServer) UpdateContainerResources(_ context.Context, req *runtimeapi.UpdateContainerResourcesRequest) (*runtimeapi.UpdateContainerResourcesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, notFound(req.ContainerId)
	}
	have := c.status.Resources.GetLinux()
	if have == nil {
		have = &runtimeapi.LinuxContainerResources{}
	}
	have = clone(have)
	proto.Merge(have, req.GetLinux()) // what is not given stays
	c.status.Resources = &runtimeapi.ContainerResources{Linux: have}
	return &runtimeapi.UpdateContainerResourcesResponse{}, nil
}

func (r *runtimeServer) ReopenContainerLog(_ context.Context, req *runtimeapi.ReopenContainerLogRequest) (*runtimeapi.ReopenContainerLogResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.containers[req.ContainerId]
	if c == nil {
		return nil, notFound(req.ContainerId)
	}
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return nil, status.Error(codes.Unknown, "container is not running")
	}
	f, err := os.OpenFile(c.status.LogPath, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, status.Error(codes.Unknown, err.Error())
	}
	return &runtimeapi.ReopenContainerLogResponse{}, f.Close()
}

// Containers are the statuses of all, the newest first.
func (r *Runtime) Containers() []*runtimeapi.ContainerStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*runtimeapi.ContainerStatus
	for _, c := range slices.SortedFunc(maps.Values(r.containers), func(a, b *container) int {
		return cmp.Compare(b.status.CreatedAt, a.status.CreatedAt)
	}) {
		all = append(all, clone(c.status))
	}
	return all
}

// Container is the newest one of this name; nil: there is none.
func (r *Runtime) Container(name string) *runtimeapi.ContainerStatus {
	for _, c := range r.Containers() {
		if c.GetMetadata().GetName() == name {
			return c
		}
	}
	return nil
}

// ContainerConfig is what a container was made of; nil: there is none.
func (r *Runtime) ContainerConfig(id string) *runtimeapi.ContainerConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return clone(c.config)
	}
	return nil
}

// SandboxOf is the id of the sandbox that a container is in.
func (r *Runtime) SandboxOf(id string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		return c.sandbox
	}
	return ""
}

// Write adds a line to a container's log.
func (r *Runtime) Write(id, stream, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.write(stream, text, r.Profile.Zone)
	}
}

// Age has a container or sandbox be made and ended so much earlier.
func (r *Runtime) Age(id string, by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.status.CreatedAt -= int64(by)
		if c.status.StartedAt != 0 {
			c.status.StartedAt -= int64(by)
		}
		if c.status.FinishedAt != 0 {
			c.status.FinishedAt -= int64(by)
		}
	}
	if s := r.sandboxes[id]; s != nil {
		s.created -= int64(by)
	}
}

// SetState has a container be in a state that nothing led to, as UNKNOWN.
func (r *Runtime) SetState(id string, state runtimeapi.ContainerState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		c.status.State = state
	}
}
