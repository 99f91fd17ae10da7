package cri

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	libcontainer "github.com/opencontainers/cgroups"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	corehelper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
	"k8s.io/kubernetes/pkg/kubelet/cm"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/qos"
)

// Resources are the container's, also while it runs and is given others.
func (c *Container) Resources() *runtimeapi.LinuxContainerResources {
	limit := func(name corev1.ResourceName) *resource.Quantity {
		q := c.Spec.Resources.Limits[name]
		if q.IsZero() && resourcehelper.IsPodLevelResourcesSet(c.Pod.Pod) {
			q = c.Pod.Spec.Resources.Limits[name]
		}
		return &q
	}
	r := c.resources(amount(c.Spec.Resources.Requests, corev1.ResourceCPU), limit(corev1.ResourceCPU), limit(corev1.ResourceMemory))
	r.OomScoreAdj = int64(qos.GetContainerOOMScoreAdjust(c.Pod.Pod, c.Spec, c.MemoryCapacity))
	r.HugepageLimits = c.hugepages()
	if c.SwapController { // no container swaps
		if c.CgroupV2 {
			unified(r)[cm.Cgroup2MaxSwapFilename] = "0"
		} else {
			r.MemorySwapLimitInBytes = r.MemoryLimitInBytes
		}
	}
	return r
}

func unified(r *runtimeapi.LinuxContainerResources) map[string]string {
	if r.Unified == nil {
		r.Unified = map[string]string{}
	}
	return r.Unified
}

// resources are a cgroup's: shares of the CPU as requested, and limits. Without a request the limit is the request.
func (n *Node) resources(request, limit, memory *resource.Quantity) *runtimeapi.LinuxContainerResources {
	r := &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: memory.Value()}
	if request == nil {
		request = limit
	}
	r.CpuShares = int64(cm.MilliCPUToShares(request.MilliValue()))
	if !n.NoCPUQuota {
		r.CpuPeriod = cm.QuotaPeriod
		r.CpuQuota = cm.MilliCPUToQuota(limit.MilliValue(), r.CpuPeriod)
	}
	if n.CgroupV2 && n.KillGroup {
		unified(r)["memory.oom.group"] = "1"
	}
	return r
}

// hugepages are none of each size, but where the container has a limit, or else the pod. Where nothing counts them, CRI-O would fail
// for being asked to.
func (c *Container) hugepages() []*runtimeapi.HugepageLimit {
	if c.NoHugetlb {
		return nil
	}
	wanted := map[string]uint64{}
	read := func(list corev1.ResourceList) {
		for name, q := range list {
			if !corehelper.IsHugePageResourceName(name) {
				continue
			}
			size, err := corehelper.HugePageSizeFromResourceName(name)
			if err != nil {
				continue // the API server refuses it
			}
			if unit, err := corehelper.HugePageUnitSizeFromByteSize(size.Value()); err == nil {
				wanted[unit] = uint64(q.Value())
			}
		}
	}
	if resourcehelper.IsPodLevelResourcesSet(c.Pod.Pod) {
		read(c.Pod.Spec.Resources.Limits)
	}
	read(c.Spec.Resources.Limits)
	var limits []*runtimeapi.HugepageLimit
	for _, size := range libcontainer.HugePageSizes() {
		limits = append(limits, &runtimeapi.HugepageLimit{PageSize: size, Limit: wanted[size]})
	}
	return limits
}

// reportedResources are those that a runtime says a container has; nil: it does not say.
func reportedResources(r *runtimeapi.LinuxContainerResources) *kubecontainer.ContainerResources {
	var out kubecontainer.ContainerResources
	if r.GetCpuPeriod() > 0 {
		if m := cm.QuotaToMilliCPU(r.GetCpuQuota(), r.GetCpuPeriod()); m > 0 {
			out.CPULimit = resource.NewMilliQuantity(m, resource.DecimalSI)
		}
	}
	if r.GetCpuShares() > 0 {
		if m := cm.SharesToMilliCPU(r.GetCpuShares()); m > 0 {
			out.CPURequest = resource.NewMilliQuantity(m, resource.DecimalSI)
		}
	}
	if n := r.GetMemoryLimitInBytes(); n > 0 {
		out.MemoryLimit = resource.NewQuantity(n, resource.BinarySI)
	}
	if out == (kubecontainer.ContainerResources{}) {
		return nil
	}
	return &out
}

// CgroupV2 tells whether the machine has one hierarchy of cgroups for all controllers.
func CgroupV2() bool { return libcontainer.IsCgroup2UnifiedMode() }

// SwapController tells whether the kernel counts, and so can limit, what a cgroup swaps.
func SwapController() bool {
	path := "/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes"
	if CgroupV2() { // the root has none: the process's own has
		own, err := libcontainer.ParseCgroupFile("/proc/self/cgroup")
		if err != nil {
			return false
		}
		path = filepath.Join("/sys/fs/cgroup", own[""], "memory.swap.max")
	}
	_, err := os.Stat(path)
	return err == nil
}

// HugetlbController tells whether cgroups count huge pages.
func HugetlbController() bool {
	if !CgroupV2() {
		_, err := libcontainer.FindCgroupMountpoint("", "hugetlb")
		return err == nil
	}
	controllers, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
	return err == nil && slices.Contains(strings.Fields(string(controllers)), "hugetlb")
}
