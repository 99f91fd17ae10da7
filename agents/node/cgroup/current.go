package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/kubernetes/pkg/kubelet/cm"
)

// unlimited is what the kernel says of v1 without a limit, but for the page size.
const unlimited = 1 << 62

// Current is what the pod's cgroup has now of the CPU and of memory. What is not limited is nil.
func (m *Manager) Current(pod *corev1.Pod) (*cm.ResourceConfig, error) {
	c := &cm.ResourceConfig{}
	read := func(controller, file string) (string, error) {
		data, err := os.ReadFile(filepath.Join(m.Directory(pod, controller), file))
		return strings.TrimSpace(string(data)), err
	}
	memory, cpu := m.currentV1, m.currentCPU
	if m.Hierarchies.V2 {
		memory, cpu = m.currentV2, m.currentCPUV2
	}
	if m.Directory(pod, "memory") != "" {
		if err := memory(read, c); err != nil {
			return nil, fmt.Errorf("memory of the pod's cgroup: %w", err)
		}
	}
	if m.Directory(pod, "cpu") != "" {
		if err := cpu(read, c); err != nil {
			return nil, fmt.Errorf("CPU of the pod's cgroup: %w", err)
		}
	}
	return c, nil
}

type reading func(controller, file string) (string, error)

func (*Manager) currentV1(read reading, c *cm.ResourceConfig) error {
	text, err := read("memory", "memory.limit_in_bytes")
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < unlimited {
		c.Memory = &n
	}
	return err
}

func (*Manager) currentV2(read reading, c *cm.ResourceConfig) error {
	text, err := read("memory", "memory.max")
	if err != nil || text == "max" {
		return err
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		c.Memory = &n
	}
	return err
}

func (*Manager) currentCPU(read reading, c *cm.ResourceConfig) error {
	var texts [3]string
	for i, file := range []string{"cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us"} {
		var err error
		if texts[i], err = read("cpu", file); err != nil {
			return err
		}
	}
	return setCPU(c, texts[0], texts[1], texts[2])
}

func (*Manager) currentCPUV2(read reading, c *cm.ResourceConfig) error {
	weight, err := read("cpu", "cpu.weight")
	if err != nil {
		return err
	}
	most, err := read("cpu", "cpu.max")
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(weight, 10, 64)
	if err != nil {
		return err
	}
	quota, period, _ := strings.Cut(most, " ")
	if quota == "max" {
		quota = "-1"
	}
	return setCPU(c, strconv.FormatUint((max(n, 1)-1)*262142/9999+2, 10), quota, period)
}

func setCPU(c *cm.ResourceConfig, shares, quota, period string) error {
	s, err := strconv.ParseUint(shares, 10, 64)
	if err != nil {
		return err
	}
	q, err := strconv.ParseInt(quota, 10, 64)
	if err != nil {
		return err
	}
	p, err := strconv.ParseUint(period, 10, 64)
	if err != nil {
		return err
	}
	c.CPUShares = &s
	if q > 0 && p > 0 {
		c.CPUQuota, c.CPUPeriod = &q, &p
	}
	return nil
}
