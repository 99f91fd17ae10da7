package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/docker/go-units"
	"github.com/go-logr/logr"
	libcontainer "github.com/opencontainers/cgroups"
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
	corehelper "k8s.io/kubernetes/pkg/apis/core/v1/helper"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// Setup makes the cgroups that pods' are in. allocatable is what all pods have together; what it does not name is not limited.
func (m *Manager) Setup(allocatable corev1.ResourceList) error {
	var top cm.ResourceConfig
	if q, ok := allocatable[corev1.ResourceMemory]; ok {
		top.Memory = new(int64)
		*top.Memory = q.Value()
	}
	if q, ok := allocatable[corev1.ResourceCPU]; ok {
		top.CPUShares = new(uint64)
		*top.CPUShares = cm.MilliCPUToShares(q.MilliValue())
	}
	if q, ok := allocatable["pid"]; ok {
		top.PidsLimit = new(int64)
		*top.PidsLimit = q.Value()
	}
	top.HugePageLimit = cm.HugePageLimits(allocatable)
	// A limit below what pods use that run already is refused: that is no reason for them to have no node.
	if err := m.make(m.top, &top); err != nil {
		if !m.exists(m.top) {
			return err
		}
		m.Log.Warn("What all pods have together could not be limited", "error", err)
	}
	return m.SetQoS(nil)
}

// SetQoS gives the burstable pods together what they request of the CPU, and those that request nothing what is left.
func (m *Manager) SetQoS(pods []*corev1.Pod) error {
	requested := int64(0)
	for _, pod := range pods {
		if qos.GetPodQOS(pod) != corev1.PodQOSBurstable {
			continue
		}
		requests := resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{})
		requested += requests.Cpu().MilliValue()
	}
	unlimited := map[int64]int64{}
	for _, size := range libcontainer.HugePageSizes() {
		if n, err := units.RAMInBytes(size); err == nil {
			unlimited[n] = 1 << 62
		}
	}
	shares, least := cm.MilliCPUToShares(requested), uint64(cm.MinShares)
	return errors.Join(
		m.make(m.burstable, &cm.ResourceConfig{CPUShares: &shares, HugePageLimit: unlimited}),
		m.make(m.bestEffort, &cm.ResourceConfig{CPUShares: &least, HugePageLimit: unlimited}),
	)
}

// Ensure makes the pod's cgroup, or gives it what the pod now has.
func (m *Manager) Ensure(pod *corev1.Pod) error {
	name, err := m.name(pod)
	if err != nil {
		return err
	}
	return m.make(name, m.values(pod))
}

// Exists tells whether the pod's cgroup is there, in all hierarchies.
func (m *Manager) Exists(pod *corev1.Pod) bool {
	name, err := m.name(pod)
	if err != nil {
		return false
	}
	return m.exists(name)
}

func (m *Manager) exists(name cm.CgroupName) bool {
	for _, mount := range m.Hierarchies.directories() {
		if _, err := os.Stat(filepath.Join(mount, m.literal(name))); err != nil {
			return false
		}
	}
	return true
}

// values are those of a pod, upstream's.
func (m *Manager) values(pod *corev1.Pod) *cm.ResourceConfig {
	c := cm.ResourceConfigForPod(pod, !m.NoCPUQuota, cm.QuotaPeriod, false, kubeletconfig.NoneMemoryReservationPolicy)
	if m.PodPids > 0 {
		pids := m.PodPids
		c.PidsLimit = &pids
	}
	return c
}

// make makes a cgroup and those that it is in, as far as they are not there, and sets its values.
func (m *Manager) make(name cm.CgroupName, values *cm.ResourceConfig) error {
	if m.systemd != nil {
		log, config := logr.FromSlogHandler(m.Log.Handler()), &cm.CgroupConfig{Name: name, ResourceParameters: values}
		if !m.exists(name) {
			return m.systemd.Create(log, config)
		}
		return m.systemd.Update(log, config)
	}
	literal := m.literal(name)
	for _, mount := range m.Hierarchies.directories() {
		if err := m.directories(mount, literal); err != nil {
			return fmt.Errorf("cgroup %s: %w", literal, err)
		}
	}
	if err := m.write(literal, values); err != nil {
		return fmt.Errorf("cgroup %s: %w", literal, err)
	}
	return nil
}

// write sets values. Those of controllers that the machine does not have are left out.
func (m *Manager) write(literal string, c *cm.ResourceConfig) error {
	set := func(controller, file, value string) error {
		mount := m.Hierarchies.Mounts[controller]
		if mount == "" {
			return nil
		}
		err := m.store(filepath.Join(mount, literal, file), value)
		if m.Hierarchies.V2 && errors.Is(err, fs.ErrNotExist) { // the controller is not to be had below its parent
			m.Log.Warn("A cgroup's value could not be set", "cgroup", literal, "file", file)
			return nil
		}
		return err
	}
	var errs []error
	v2 := m.Hierarchies.V2
	if c.CPUShares != nil {
		if v2 {
			errs = append(errs, set("cpu", "cpu.weight", strconv.FormatUint(weight(*c.CPUShares), 10)))
		} else {
			errs = append(errs, set("cpu", "cpu.shares", strconv.FormatUint(*c.CPUShares, 10)))
		}
	}
	if c.CPUQuota != nil && c.CPUPeriod != nil {
		period := strconv.FormatUint(*c.CPUPeriod, 10)
		switch {
		case v2 && *c.CPUQuota <= 0:
			errs = append(errs, set("cpu", "cpu.max", "max "+period))
		case v2:
			errs = append(errs, set("cpu", "cpu.max", strconv.FormatInt(*c.CPUQuota, 10)+" "+period))
		default:
			errs = append(errs, set("cpu", "cpu.cfs_period_us", period), set("cpu", "cpu.cfs_quota_us", strconv.FormatInt(*c.CPUQuota, 10)))
		}
	}
	if c.Memory != nil && *c.Memory != 0 {
		file, value := "memory.limit_in_bytes", strconv.FormatInt(*c.Memory, 10)
		if v2 {
			file = "memory.max"
			if *c.Memory < 0 {
				value = "max"
			}
		}
		errs = append(errs, set("memory", file, value))
	}
	if c.PidsLimit != nil {
		value := "max"
		if *c.PidsLimit > 0 {
			value = strconv.FormatInt(*c.PidsLimit, 10)
		}
		errs = append(errs, set("pids", "pids.max", value))
	}
	if v2 {
		for _, file := range slices.Sorted(maps.Keys(c.Unified)) {
			errs = append(errs, set("memory", file, c.Unified[file]))
		}
	}
	return errors.Join(append(errs, m.hugepages(c.HugePageLimit, set))...)
}

// hugepages are limited to none of the sizes that are not named.
func (m *Manager) hugepages(limits map[int64]int64, set func(controller, file, value string) error) error {
	named := map[string]int64{}
	for size, limit := range limits {
		if unit, err := corehelper.HugePageUnitSizeFromByteSize(size); err == nil {
			named[unit] = limit
		}
	}
	suffix := ".limit_in_bytes"
	if m.Hierarchies.V2 {
		suffix = ".max"
	}
	var errs []error
	for _, unit := range libcontainer.HugePageSizes() {
		value := strconv.FormatInt(named[unit], 10)
		errs = append(errs, set("hugetlb", "hugetlb."+unit+suffix, value))
		if err := set("hugetlb", "hugetlb."+unit+".rsvd"+suffix, value); !errors.Is(err, fs.ErrNotExist) { // since Linux 5.7
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// weight is what shares are with v2 (KEP-2254).
func weight(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}
