package metrics

import (
	"context"
	"time"

	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Runtime counts what a runtime is asked. The context of each call goes through the function, if there is one.
func (m *Metrics) Runtime(service internalapi.RuntimeService, with func(context.Context) context.Context) internalapi.RuntimeService {
	return &runtime{service, calls{m, with}}
}

// Images counts what an image service is asked, in the same way.
func (m *Metrics) Images(service internalapi.ImageManagerService, with func(context.Context) context.Context) internalapi.ImageManagerService {
	return &images{service, calls{m, with}}
}

type calls struct {
	*Metrics
	with func(context.Context) context.Context
}

// count counts one call, which began then, and its error.
func (c calls) count(operation string, began time.Time, err *error) {
	c.operations.WithLabelValues(operation).Inc()
	c.operationTime.WithLabelValues(operation).Observe(time.Since(began).Seconds())
	if *err != nil {
		c.operationErrors.WithLabelValues(operation).Inc()
	}
}

func (c calls) context(ctx context.Context) context.Context {
	if c.with == nil {
		return ctx
	}
	return c.with(ctx)
}

// runtime is one that is counted. Methods whose count says nothing (closing it, the stream of its events) are its own.
type runtime struct {
	internalapi.RuntimeService
	calls calls
}

type images struct {
	internalapi.ImageManagerService
	calls calls
}

func (r *runtime) RunPodSandbox(ctx context.Context, config *runtimeapi.PodSandboxConfig, handler string) (id string, err error) {
	began := time.Now()
	defer r.calls.count("run_podsandbox", began, &err)
	id, err = r.RuntimeService.RunPodSandbox(r.calls.context(ctx), config, handler)
	r.calls.sandboxTime.WithLabelValues(handler).Observe(time.Since(began).Seconds())
	if err != nil {
		r.calls.sandboxErrors.WithLabelValues(handler).Inc()
	}
	return id, err
}

func (r *runtime) ExecSync(ctx context.Context, id string, cmd []string, timeout time.Duration) (stdout, stderr []byte, err error) {
	defer r.calls.count("exec_sync", time.Now(), &err)
	return r.RuntimeService.ExecSync(r.calls.context(ctx), id, cmd, timeout)
}

func (r *runtime) GetContainerEvents(
	ctx context.Context, events chan *runtimeapi.ContainerEventResponse, established func(runtimeapi.RuntimeService_GetContainerEventsClient),
) error {
	return r.RuntimeService.GetContainerEvents(r.calls.context(ctx), events, established)
}

func (r *runtime) Version(ctx context.Context, apiVersion string) (out *runtimeapi.VersionResponse, err error) {
	defer r.calls.count("version", time.Now(), &err)
	return r.RuntimeService.Version(r.calls.context(ctx), apiVersion)
}

func (r *runtime) Status(ctx context.Context, verbose bool) (out *runtimeapi.StatusResponse, err error) {
	defer r.calls.count("status", time.Now(), &err)
	return r.RuntimeService.Status(r.calls.context(ctx), verbose)
}

func (r *runtime) RuntimeConfig(ctx context.Context) (out *runtimeapi.RuntimeConfigResponse, err error) {
	defer r.calls.count("runtime_config", time.Now(), &err)
	return r.RuntimeService.RuntimeConfig(r.calls.context(ctx))
}

func (r *runtime) UpdateRuntimeConfig(ctx context.Context, config *runtimeapi.RuntimeConfig) (err error) {
	defer r.calls.count("update_runtime_config", time.Now(), &err)
	return r.RuntimeService.UpdateRuntimeConfig(r.calls.context(ctx), config)
}

func (r *runtime) StopPodSandbox(ctx context.Context, id string) (err error) {
	defer r.calls.count("stop_podsandbox", time.Now(), &err)
	return r.RuntimeService.StopPodSandbox(r.calls.context(ctx), id)
}

func (r *runtime) RemovePodSandbox(ctx context.Context, id string) (err error) {
	defer r.calls.count("remove_podsandbox", time.Now(), &err)
	return r.RuntimeService.RemovePodSandbox(r.calls.context(ctx), id)
}

func (r *runtime) PodSandboxStatus(ctx context.Context, id string, verbose bool) (out *runtimeapi.PodSandboxStatusResponse, err error) {
	defer r.calls.count("podsandbox_status", time.Now(), &err)
	return r.RuntimeService.PodSandboxStatus(r.calls.context(ctx), id, verbose)
}

func (r *runtime) ListPodSandbox(ctx context.Context, filter *runtimeapi.PodSandboxFilter) (out []*runtimeapi.PodSandbox, err error) {
	defer r.calls.count("list_podsandbox", time.Now(), &err)
	return r.RuntimeService.ListPodSandbox(r.calls.context(ctx), filter)
}

func (r *runtime) UpdatePodSandboxResources(ctx context.Context, req *runtimeapi.UpdatePodSandboxResourcesRequest) (out *runtimeapi.UpdatePodSandboxResourcesResponse, err error) {
	defer r.calls.count("update_podsandbox_resources", time.Now(), &err)
	return r.RuntimeService.UpdatePodSandboxResources(r.calls.context(ctx), req)
}

func (r *runtime) PortForward(ctx context.Context, req *runtimeapi.PortForwardRequest) (out *runtimeapi.PortForwardResponse, err error) {
	defer r.calls.count("port_forward", time.Now(), &err)
	return r.RuntimeService.PortForward(r.calls.context(ctx), req)
}

func (r *runtime) CreateContainer(ctx context.Context, sandbox string, config *runtimeapi.ContainerConfig, pod *runtimeapi.PodSandboxConfig) (out string, err error) {
	defer r.calls.count("create_container", time.Now(), &err)
	return r.RuntimeService.CreateContainer(r.calls.context(ctx), sandbox, config, pod)
}

func (r *runtime) StartContainer(ctx context.Context, id string) (err error) {
	defer r.calls.count("start_container", time.Now(), &err)
	return r.RuntimeService.StartContainer(r.calls.context(ctx), id)
}

func (r *runtime) StopContainer(ctx context.Context, id string, seconds int64) (err error) {
	defer r.calls.count("stop_container", time.Now(), &err)
	return r.RuntimeService.StopContainer(r.calls.context(ctx), id, seconds)
}

func (r *runtime) RemoveContainer(ctx context.Context, id string) (err error) {
	defer r.calls.count("remove_container", time.Now(), &err)
	return r.RuntimeService.RemoveContainer(r.calls.context(ctx), id)
}

func (r *runtime) ListContainers(ctx context.Context, filter *runtimeapi.ContainerFilter) (out []*runtimeapi.Container, err error) {
	defer r.calls.count("list_containers", time.Now(), &err)
	return r.RuntimeService.ListContainers(r.calls.context(ctx), filter)
}

func (r *runtime) ContainerStatus(ctx context.Context, id string, verbose bool) (out *runtimeapi.ContainerStatusResponse, err error) {
	defer r.calls.count("container_status", time.Now(), &err)
	return r.RuntimeService.ContainerStatus(r.calls.context(ctx), id, verbose)
}

func (r *runtime) UpdateContainerResources(ctx context.Context, id string, resources *runtimeapi.ContainerResources) (err error) {
	defer r.calls.count("update_container", time.Now(), &err)
	return r.RuntimeService.UpdateContainerResources(r.calls.context(ctx), id, resources)
}

func (r *runtime) ReopenContainerLog(ctx context.Context, id string) (err error) {
	defer r.calls.count("reopen_container_log", time.Now(), &err)
	return r.RuntimeService.ReopenContainerLog(r.calls.context(ctx), id)
}

func (r *runtime) Exec(ctx context.Context, req *runtimeapi.ExecRequest) (out *runtimeapi.ExecResponse, err error) {
	defer r.calls.count("exec", time.Now(), &err)
	return r.RuntimeService.Exec(r.calls.context(ctx), req)
}

func (r *runtime) Attach(ctx context.Context, req *runtimeapi.AttachRequest) (out *runtimeapi.AttachResponse, err error) {
	defer r.calls.count("attach", time.Now(), &err)
	return r.RuntimeService.Attach(r.calls.context(ctx), req)
}

func (r *runtime) CheckpointContainer(ctx context.Context, req *runtimeapi.CheckpointContainerRequest) (err error) {
	defer r.calls.count("checkpoint_container", time.Now(), &err)
	return r.RuntimeService.CheckpointContainer(r.calls.context(ctx), req)
}

func (r *runtime) ContainerStats(ctx context.Context, id string) (out *runtimeapi.ContainerStats, err error) {
	defer r.calls.count("container_stats", time.Now(), &err)
	return r.RuntimeService.ContainerStats(r.calls.context(ctx), id)
}

func (r *runtime) ListContainerStats(ctx context.Context, filter *runtimeapi.ContainerStatsFilter) (out []*runtimeapi.ContainerStats, err error) {
	defer r.calls.count("list_container_stats", time.Now(), &err)
	return r.RuntimeService.ListContainerStats(r.calls.context(ctx), filter)
}

func (r *runtime) PodSandboxStats(ctx context.Context, id string) (out *runtimeapi.PodSandboxStats, err error) {
	defer r.calls.count("podsandbox_stats", time.Now(), &err)
	return r.RuntimeService.PodSandboxStats(r.calls.context(ctx), id)
}

func (r *runtime) ListPodSandboxStats(ctx context.Context, filter *runtimeapi.PodSandboxStatsFilter) (out []*runtimeapi.PodSandboxStats, err error) {
	defer r.calls.count("list_podsandbox_stats", time.Now(), &err)
	return r.RuntimeService.ListPodSandboxStats(r.calls.context(ctx), filter)
}

func (r *runtime) ListMetricDescriptors(ctx context.Context) (out []*runtimeapi.MetricDescriptor, err error) {
	defer r.calls.count("list_metric_descriptors", time.Now(), &err)
	return r.RuntimeService.ListMetricDescriptors(r.calls.context(ctx))
}

func (r *runtime) ListPodSandboxMetrics(ctx context.Context) (out []*runtimeapi.PodSandboxMetrics, err error) {
	defer r.calls.count("list_podsandbox_metrics", time.Now(), &err)
	return r.RuntimeService.ListPodSandboxMetrics(r.calls.context(ctx))
}

func (r *images) ListImages(ctx context.Context, filter *runtimeapi.ImageFilter) (out []*runtimeapi.Image, err error) {
	defer r.calls.count("list_images", time.Now(), &err)
	return r.ImageManagerService.ListImages(r.calls.context(ctx), filter)
}

func (r *images) ImageStatus(ctx context.Context, image *runtimeapi.ImageSpec, verbose bool) (out *runtimeapi.ImageStatusResponse, err error) {
	defer r.calls.count("image_status", time.Now(), &err)
	return r.ImageManagerService.ImageStatus(r.calls.context(ctx), image, verbose)
}

func (r *images) PullImage(ctx context.Context, image *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, pod *runtimeapi.PodSandboxConfig) (out string, err error) {
	defer r.calls.count("pull_image", time.Now(), &err)
	return r.ImageManagerService.PullImage(r.calls.context(ctx), image, auth, pod)
}

func (r *images) RemoveImage(ctx context.Context, image *runtimeapi.ImageSpec) (err error) {
	defer r.calls.count("remove_image", time.Now(), &err)
	return r.ImageManagerService.RemoveImage(r.calls.context(ctx), image)
}

func (r *images) ImageFsInfo(ctx context.Context) (out *runtimeapi.ImageFsInfoResponse, err error) {
	defer r.calls.count("image_fs_info", time.Now(), &err)
	return r.ImageManagerService.ImageFsInfo(r.calls.context(ctx))
}
