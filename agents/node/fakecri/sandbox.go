package fakecri

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

type sandbox struct {
	id      string
	config  *runtimeapi.PodSandboxConfig
	handler string
	created int64
	ready   bool
	ips     []string
}

func (s *sandbox) state() runtimeapi.PodSandboxState {
	if s.ready {
		return runtimeapi.PodSandboxState_SANDBOX_READY
	}
	return runtimeapi.PodSandboxState_SANDBOX_NOTREADY
}

func (s *sandbox) status() *runtimeapi.PodSandboxStatus {
	out := &runtimeapi.PodSandboxStatus{
		Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created, Network: &runtimeapi.PodSandboxNetworkStatus{},
		Labels: s.config.Labels, Annotations: s.config.Annotations, RuntimeHandler: s.handler,
		Linux: &runtimeapi.LinuxPodSandboxStatus{Namespaces: &runtimeapi.Namespace{
			Options: s.config.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	for i, ip := range s.ips {
		if i == 0 {
			out.Network.Ip = ip
		} else {
			out.Network.AdditionalIps = append(out.Network.AdditionalIps, &runtimeapi.PodIP{Ip: ip})
		}
	}
	return clone(out)
}

// clone is a copy that the caller, or the encoder, may read without the lock.
func clone[M proto.Message](m M) M { return proto.CloneOf(m) }

func (r *runtimeServer) RunPodSandbox(_ context.Context, req *runtimeapi.RunPodSandboxRequest) (*runtimeapi.RunPodSandboxResponse, error) {
	config := req.GetConfig()
	m := config.GetMetadata()
	if m.GetName() == "" || m.GetNamespace() == "" || m.GetUid() == "" {
		return nil, status.Error(codes.InvalidArgument, "sandbox config must include metadata")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.ContainsFunc(r.handlers, func(h *runtimeapi.RuntimeHandler) bool { return h.Name == req.RuntimeHandler }) && req.RuntimeHandler != "" {
		return nil, status.Errorf(codes.Unknown, "failed to get sandbox runtime: no runtime for %q is configured", req.RuntimeHandler)
	}
	if c := r.condition(runtimeapi.NetworkReady); c != nil && !c.Status &&
		config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimeapi.NamespaceMode_NODE {
		return nil, status.Error(codes.Unknown, "failed to setup network for sandbox: cni plugin not initialized")
	}
	for _, s := range r.sandboxes {
		if proto.Equal(s.config.Metadata, m) {
			name := fmt.Sprintf("%s_%s_%s_%d", m.Name, m.Namespace, m.Uid, m.Attempt)
			return nil, status.Errorf(codes.Unknown, "failed to reserve sandbox name %q: name %q is reserved for %q", name, name, s.id)
		}
	}
	s := &sandbox{id: r.id(), config: clone(config), handler: req.RuntimeHandler, created: now(), ready: true}
	if config.GetLinux().GetSecurityContext().GetNamespaceOptions().GetNetwork() != runtimeapi.NamespaceMode_NODE {
		s.ips = []string{fmt.Sprintf("10.88.%d.%d", r.n/250, r.n%250+2)}
	}
	if r.Profile.Leftovers && config.GetLinux().GetCgroupParent() == "" {
		r.leftovers = append(r.leftovers, "crio-conmon-"+s.id)
	}
	r.sandboxes[s.id] = s
	r.event(s.id, s, runtimeapi.ContainerEventType_CONTAINER_CREATED_EVENT)
	r.event(s.id, s, runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	return &runtimeapi.RunPodSandboxResponse{PodSandboxId: s.id}, nil
}

func (r *runtimeServer) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[req.PodSandboxId]; s != nil {
		r.stopSandbox(s)
	}
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

// stopSandbox kills what runs in it.
func (r *Runtime) stopSandbox(s *sandbox) {
	for _, c := range r.containers {
		if c.sandbox == s.id && c.status.State == runtimeapi.ContainerState_CONTAINER_RUNNING {
			r.end(c, 137, "", "")
		}
	}
	if s.ready {
		s.ready, s.ips = false, nil
		r.event(s.id, s, runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
	}
}

func (r *runtimeServer) RemovePodSandbox(_ context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return &runtimeapi.RemovePodSandboxResponse{}, nil
	}
	r.stopSandbox(s)
	for _, c := range r.containers {
		if c.sandbox == s.id {
			r.remove(c)
		}
	}
	delete(r.sandboxes, s.id)
	r.event(s.id, s, runtimeapi.ContainerEventType_CONTAINER_DELETED_EVENT)
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *runtimeServer) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.sandboxes[req.PodSandboxId]
	if s == nil {
		return nil, status.Errorf(codes.NotFound, "an error occurred when try to find sandbox: not found")
	}
	return &runtimeapi.PodSandboxStatusResponse{Status: s.status()}, nil
}

func (r *runtimeServer) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := &runtimeapi.ListPodSandboxResponse{}
	f := req.GetFilter()
	for _, s := range r.sandboxes {
		if f.GetId() != "" && f.Id != s.id || f.GetState() != nil && f.State.State != s.state() || !selects(f.GetLabelSelector(), s.config.Labels) {
			continue
		}
		out.Items = append(out.Items, clone(&runtimeapi.PodSandbox{
			Id: s.id, Metadata: s.config.Metadata, State: s.state(), CreatedAt: s.created,
			Labels: s.config.Labels, Annotations: s.config.Annotations, RuntimeHandler: s.handler,
		}))
	}
	return out, nil
}

func (r *runtimeServer) UpdatePodSandboxResources(_ context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (*runtimeapi.UpdatePodSandboxResourcesResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sandboxes[req.PodSandboxId] == nil {
		return nil, status.Error(codes.NotFound, "failed to find sandbox: not found")
	}
	return &runtimeapi.UpdatePodSandboxResourcesResponse{}, nil
}

func selects(selector, labels map[string]string) bool {
	for k, v := range selector {
		if have, ok := labels[k]; !ok || have != v {
			return false
		}
	}
	return true
}

// Sandboxes are the statuses of all, the newest first.
func (r *Runtime) Sandboxes() []*runtimeapi.PodSandboxStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*runtimeapi.PodSandboxStatus
	for _, s := range r.sandboxes {
		all = append(all, s.status())
	}
	slices.SortFunc(all, func(a, b *runtimeapi.PodSandboxStatus) int { return int(b.CreatedAt - a.CreatedAt) })
	return all
}

// SandboxConfig is what a sandbox was made of; nil: there is none.
func (r *Runtime) SandboxConfig(id string) *runtimeapi.PodSandboxConfig {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		return clone(s.config)
	}
	return nil
}

// KillSandbox ends a sandbox and all in it, as when its process dies.
func (r *Runtime) KillSandbox(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		r.stopSandbox(s)
	}
}

// SetIPs sets the addresses of a sandbox.
func (r *Runtime) SetIPs(id string, ips ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.sandboxes[id]; s != nil {
		s.ips = ips
	}
}

func (r *Runtime) condition(kind string) *runtimeapi.RuntimeCondition {
	for _, c := range r.conditions {
		if c.Type == kind {
			return c
		}
	}
	return nil
}
