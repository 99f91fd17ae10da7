package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/healthz"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/image"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/agents/node/serve"
	"github.com/rowlock-io/rowlock/agents/node/stats"
)

// configz is the node's configuration in the kubelet's form: what of it there is here, and nothing else.
func (c *Config) configz(cgroupDriver string) any {
	out := kubeletv1beta1.KubeletConfiguration{
		TypeMeta:     metav1.TypeMeta{Kind: "KubeletConfiguration", APIVersion: kubeletv1beta1.SchemeGroupVersion.String()},
		EnableServer: new(c.Port != 0), Port: c.Port, StaticPodPath: c.StaticPods, PodLogsDir: c.PodLogs,
		ClusterDomain: c.ClusterDomain, ContainerRuntimeEndpoint: c.Runtime, ImageServiceEndpoint: c.Images,
		MaxPods: int32(cmp.Or(c.MaxPods, register.MaxPods)), PodsPerCore: int32(c.PodsPerCore), ProviderID: c.ProviderID,
		RegisterNode: new(true), RegisterWithTaints: c.Taints, AllowedUnsafeSysctls: c.UnsafeSysctls,
		CgroupsPerQOS: new(c.Cgroups), CgroupRoot: c.CgroupRoot, CgroupDriver: cgroupDriver, CPUCFSQuota: new(!c.NoCPUQuota),
		PodPidsLimit: new(cmp.Or(c.PodPids, -1)), SeccompDefault: new(c.SeccompDefault), FailCgroupV1: new(false), FailSwapOn: new(false),
		RotateCertificates: true, ServerTLSBootstrap: true,
		ConfigMapAndSecretChangeDetectionStrategy: kubeletv1beta1.WatchChangeDetectionStrategy,
		RegistryPullQPS: new(int32(c.Pulls.QPS)), RegistryBurst: int32(c.Pulls.Burst),
		SerializeImagePulls: new(false), MaxParallelImagePulls: new(cmp.Or(c.Pulls.Parallel, image.DefaultParallel)),
		ImagePullCredentialsVerificationPolicy: kubeletv1beta1.ImagePullCredentialsVerificationPolicy(cmp.Or(c.Pulls.Verify, kubeletconfig.NeverVerifyPreloadedImages)),
		PreloadedImagesVerificationAllowlist:   c.Pulls.Allow,
		ImageMinimumGCAge:                      metav1.Duration{Duration: c.Keep.Images.MinAge}, ImageMaximumGCAge: metav1.Duration{Duration: c.Keep.Images.MaxAge},
		ImageGCHighThresholdPercent: new(int32(c.Keep.Images.High)), ImageGCLowThresholdPercent: new(int32(c.Keep.Images.Low)),
		ContainerLogMaxSize:  resource.NewQuantity(c.Keep.Logs.MaxSize, resource.BinarySI).String(),
		ContainerLogMaxFiles: new(int32(c.Keep.Logs.MaxFiles)), ContainerLogMonitorInterval: &metav1.Duration{Duration: c.Keep.Logs.Every},
	}
	if resolver := c.resolver(); resolver != "" {
		out.ResolverConfig = &resolver
	}
	for _, ip := range c.ClusterDNS {
		out.ClusterDNS = append(out.ClusterDNS, ip.String())
	}
	c.served(&out)
	c.habits(&out)
	c.givingWay(&out)
	for name, q := range c.Reserved { // for whom is not known any more: both count alike
		if out.SystemReserved == nil {
			out.SystemReserved = map[string]string{}
		}
		out.SystemReserved[string(name)] = q.String()
	}
	return said(out)
}

// served is what of the configuration is about the node's own API.
func (c *Config) served(out *kubeletv1beta1.KubeletConfiguration) {
	out.Address = "0.0.0.0"
	out.Authentication = kubeletv1beta1.KubeletAuthentication{
		Anonymous: kubeletv1beta1.KubeletAnonymousAuthentication{Enabled: new(false)},
		Webhook:   kubeletv1beta1.KubeletWebhookAuthentication{Enabled: new(true), CacheTTL: metav1.Duration{Duration: serve.TokenTTL}},
	}
	out.Authorization = kubeletv1beta1.KubeletAuthorization{Mode: kubeletv1beta1.KubeletAuthorizationModeWebhook, Webhook: kubeletv1beta1.KubeletWebhookAuthorization{
		CacheAuthorizedTTL: metav1.Duration{Duration: serve.AllowedTTL}, CacheUnauthorizedTTL: metav1.Duration{Duration: serve.DeniedTTL},
	}}
	out.EnableDebuggingHandlers, out.EnableProfilingHandler, out.EnableSystemLogHandler = new(true), new(true), new(true)
	out.EnableSystemLogQuery, out.EnableDebugFlagsHandler = new(false), new(c.SetVerbosity != nil)
	out.VolumeStatsAggPeriod.Duration = stats.Remeasured
}

// habits is what nobody can change.
func (c *Config) habits(out *kubeletv1beta1.KubeletConfiguration) {
	out.NodeStatusUpdateFrequency.Duration, out.NodeStatusReportFrequency.Duration = register.SyncInterval, register.PostInterval
	out.NodeLeaseDurationSeconds, out.NodeStatusMaxImages = register.LeaseSeconds, new(int32(register.MaxImages))
	out.KubeAPIQPS, out.KubeAPIBurst, out.EventRecordQPS, out.EventBurst = new(int32(queries)), burst, new(int32(queries)), burst
	out.ContentType = protobuf
	out.RuntimeRequestTimeout.Duration = runtime.DefaultTimeout
	out.CPUManagerPolicy, out.MemoryManagerPolicy, out.TopologyManagerPolicy = "none", kubeletv1beta1.NoneMemoryManagerPolicy, kubeletv1beta1.NoneTopologyManagerPolicy
	out.CPUCFSQuotaPeriod = &metav1.Duration{Duration: cm.QuotaPeriod * time.Microsecond}
	out.MemorySwap.SwapBehavior = string(kubetypes.NoSwap)
	out.SingleProcessOOMKill = new(!cri.CgroupV2())
	if c.Cgroups {
		out.EnforceNodeAllocatable = []string{kubetypes.NodeAllocatableEnforcementKey}
	}
}

// givingWay is what is to stay free, and how pods end when the machine does.
func (c *Config) givingWay(out *kubeletv1beta1.KubeletConfiguration) {
	out.EvictionHard, out.EvictionSoft, out.EvictionSoftGracePeriod, out.EvictionMinimumReclaim = c.Eviction.Flags()
	out.EvictionPressureTransitionPeriod.Duration = c.Eviction.Transition
	out.EvictionMaxPodGracePeriod = int32(c.Eviction.MaxGrace)
	out.LocalStorageCapacityIsolation = new(c.Eviction.Limits)
	for _, p := range c.Shutdown {
		out.ShutdownGracePeriodByPodPriority = append(out.ShutdownGracePeriodByPodPriority, kubeletv1beta1.ShutdownGracePeriodByPodPriority{
			Priority: p.Priority, ShutdownGracePeriodSeconds: int64(p.Grace / time.Second),
		})
	}
}

// said is the configuration without what it does not tell: durations and structs of upstream's are written even when they are not set.
func said(c kubeletv1beta1.KubeletConfiguration) any {
	data, err := json.Marshal(c)
	if err != nil {
		return c
	}
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		return c
	}
	delete(all, "logging") // zeros, which say nothing
	prune(all)
	return all
}

func prune(all map[string]any) {
	for name, value := range all {
		if inner, ok := value.(map[string]any); ok {
			prune(inner)
			if len(inner) == 0 {
				delete(all, name)
			}
		}
		if value == "0s" || value == nil {
			delete(all, name)
		}
	}
}

// loopAge is how old the last round of the workers' loop may be, as with kubelets.
const loopAge = 5 * time.Minute

// syncLoop is the check that kubelets have of their loop.
func syncLoop(looped func() time.Time) healthz.HealthChecker {
	return healthz.NamedCheck("syncloop", func(*http.Request) error {
		if last := looped(); !last.IsZero() && time.Since(last) > loopAge {
			return errors.New("sync Loop took longer than expected")
		}
		return nil
	})
}

// checkpoints is the directory that containers' checkpoints are written to.
func (a *Agent) checkpoints() (string, error) {
	directory := filepath.Join(a.cfg.DataDir, "checkpoints")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return "", fmt.Errorf("checkpoints of containers: %w", err)
	}
	return directory, nil
}
