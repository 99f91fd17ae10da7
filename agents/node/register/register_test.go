package register

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// fakeMachine has two CPUs, 2 GiB, two sizes of huge pages and the address 192.0.2.7.
func fakeMachine(t *testing.T) machine {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"sys/devices/system/cpu/online": "0,2\n", "proc/meminfo": "MemTotal:        2097152 kB\nMemFree: 1 kB\nSwapTotal:  1024 kB\n",
		"proc/sys/kernel/random/boot_id": "boot-1\n", "proc/sys/kernel/osrelease": "6.1.0\n", "etc/machine-id": "m1\n",
		"sys/class/dmi/id/product_uuid": "u1\n", "etc/os-release": "NAME=\"Debian\"\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\n",
		"sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages": "10\n", "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages": "0\n",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ip := net.IPv4(192, 0, 2, 7)
	return machine{root: root, network: &network{
		lookup:  func(context.Context, string) ([]net.IP, error) { return nil, errors.New("no such host") },
		own:     func() ([]net.Addr, error) { return []net.Addr{&net.IPNet{IP: ip, Mask: net.CIDRMask(24, 32)}}, nil },
		byRoute: func(net.IP) (net.IP, error) { return ip, nil },
	}}
}

func newNode(t *testing.T, client *fake.Clientset, change func(*Config)) *Node {
	t.Helper()
	cfg := Config{Name: "a", Client: client, DataDir: t.TempDir(), Version: "v1.36.3", Port: 10250, Log: slog.New(slog.DiscardHandler), machine: fakeMachine(t)}
	if change != nil {
		change(&cfg)
	}
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRegisters(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	n := newNode(t, client, func(c *Config) {
		c.Labels = map[string]string{"disk": "ssd"}
		c.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}}
		c.PodsPerCore = 4
		c.Reserved = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("1Gi")}
		c.Images = func(context.Context) ([]Image, error) {
			var all []Image
			for i := range 60 {
				all = append(all, Image{Digests: []string{fmt.Sprintf("i%d@sha256:0", i)}, Tags: []string{"1", "2", "3", "4", "5"}, Size: int64(i)})
			}
			return all, nil
		}
	})
	if err := n.tryRegister(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s := got.Status
	quantities := func(list corev1.ResourceList) map[corev1.ResourceName]string {
		text := map[corev1.ResourceName]string{}
		for name, q := range list {
			if name != corev1.ResourceEphemeralStorage { // the machine's own
				text[name] = q.String()
			}
		}
		return text
	}
	if d := cmp.Diff(map[corev1.ResourceName]string{"cpu": "2", "memory": "2Gi", "pods": "8", "hugepages-2Mi": "20Mi", "hugepages-1Gi": "0"}, quantities(s.Capacity)); d != "" {
		t.Errorf("capacity: %s", d)
	}
	// 2 GiB less 1 GiB, 100 MiB for evictions and 20 MiB of huge pages.
	if d := cmp.Diff(map[corev1.ResourceName]string{"cpu": "1500m", "memory": "904Mi", "pods": "8", "hugepages-2Mi": "20Mi", "hugepages-1Gi": "0"}, quantities(s.Allocatable)); d != "" {
		t.Errorf("allocatable: %s", d)
	}
	want := corev1.NodeSystemInfo{
		MachineID: "m1", SystemUUID: "u1", BootID: "boot-1", KernelVersion: "6.1.0", OSImage: "Debian GNU/Linux 12 (bookworm)",
		ContainerRuntimeVersion: "unknown://Unknown", KubeletVersion: "v1.36.3", OperatingSystem: s.NodeInfo.OperatingSystem, Architecture: s.NodeInfo.Architecture,
		Swap: s.NodeInfo.Swap,
	}
	if d := cmp.Diff(want, s.NodeInfo); d != "" || *s.NodeInfo.Swap.Capacity != 1<<20 {
		t.Errorf("info: %s", d)
	}
	if d := cmp.Diff([]corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, {Type: corev1.NodeHostName, Address: "a"}}, s.Addresses); d != "" {
		t.Errorf("addresses: %s", d)
	}
	if len(s.Images) != 50 || s.Images[0].SizeBytes != 59 || len(s.Images[0].Names) != 5 {
		t.Errorf("%d images, the first %v", len(s.Images), s.Images[0])
	}
	if last := s.Conditions[len(s.Conditions)-1]; len(s.Conditions) != 4 || last.Type != corev1.NodeReady || last.Status != corev1.ConditionTrue {
		t.Errorf("conditions: %v", s.Conditions)
	}
	if got.Labels["disk"] != "ssd" || got.Annotations[attachAnnotation] != "true" || len(got.Spec.Taints) != 1 {
		t.Errorf("the object: %v, %v", got.ObjectMeta, got.Spec)
	}
}

// TestReconciles: of a Node that is there the machine keeps what others wrote and corrects what is its own.
func TestReconciles(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{corev1.LabelHostname: "old", "somebody": "else"}},
		Spec:       corev1.NodeSpec{Unschedulable: true},
		Status: corev1.NodeStatus{
			Capacity:    corev1.ResourceList{"example.com/gpu": resource.MustParse("2"), "hugepages-32Mi": resource.MustParse("64Mi")},
			Allocatable: corev1.ResourceList{"example.com/gpu": resource.MustParse("2"), "hugepages-32Mi": resource.MustParse("64Mi")},
			NodeInfo:    corev1.NodeSystemInfo{BootID: "boot-0"},
		},
	})
	n := newNode(t, client, func(c *Config) { c.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}} })
	if err := n.tryRegister(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := n.sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().Nodes().Get(t.Context(), "a", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	gpu, huge := got.Status.Capacity["example.com/gpu"], false
	_, huge = got.Status.Capacity["hugepages-32Mi"]
	if got.Labels[corev1.LabelHostname] != "a" || got.Labels["somebody"] != "else" || !gpu.IsZero() || huge || len(got.Spec.Taints) != 0 || !got.Spec.Unschedulable {
		t.Errorf("the node is %v", got)
	}
	if got.Status.NodeInfo.BootID != "boot-1" || !n.rebooted {
		t.Errorf("boot ID %s, told %v", got.Status.NodeInfo.BootID, n.rebooted)
	}
}

// TestRhythm: the status is written when it changed, and else every five minutes, more or less.
func TestRhythm(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	var why []error
	n := newNode(t, client, func(c *Config) { c.Ready = func() []error { return why } })
	synctest.Test(t, func(t *testing.T) {
		if err := n.tryRegister(t.Context()); err != nil {
			t.Fatal(err)
		}
		writes := func() int {
			return len(slices.DeleteFunc(slices.Clone(client.Actions()), func(a clienttesting.Action) bool { return a.GetVerb() != "patch" }))
		}
		step := func(d time.Duration) {
			t.Helper()
			time.Sleep(d)
			if _, err := n.sync(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		step(10 * time.Second)
		if writes() != 0 {
			t.Errorf("%d writes of what had not changed", writes())
		}
		why = []error{errors.New("container runtime is down")}
		step(10 * time.Second)
		step(10 * time.Second)
		if writes() != 1 {
			t.Errorf("%d writes of one change", writes())
		}
		c := n.Get().Status.Conditions[3]
		if c.Status != corev1.ConditionFalse || c.Reason != "KubeletNotReady" || c.Message != "container runtime is down" || !c.LastTransitionTime.Equal(&c.LastHeartbeatTime) {
			t.Errorf("the condition is %v", c)
		}
		step(8 * time.Minute) // five, and half of that at most
		if writes() != 2 {
			t.Errorf("%d writes after eight minutes", writes())
		}
		if again := n.Get().Status.Conditions[3]; !again.LastTransitionTime.Equal(&c.LastTransitionTime) || !again.LastHeartbeatTime.After(c.LastHeartbeatTime.Time) {
			t.Errorf("the condition is %v, was %v", again, c)
		}
	})
}

func TestPressure(t *testing.T) {
	t.Parallel()
	n := newNode(t, fake.NewClientset(), func(c *Config) { c.Pressure = func() Pressure { return Pressure{Disk: true} } })
	node := n.initial(t.Context())
	var got []string
	for _, c := range node.Status.Conditions {
		got = append(got, fmt.Sprint(c.Type, c.Status, c.Reason, ": ", c.Message))
	}
	want := []string{
		"MemoryPressure False KubeletHasSufficientMemory: kubelet has sufficient memory available",
		"DiskPressure True KubeletHasDiskPressure: kubelet has disk pressure",
		"PIDPressure False KubeletHasSufficientPID: kubelet has sufficient PID available",
		"Ready True KubeletReady: kubelet is posting ready status",
	}
	for i := range got {
		if strings.ReplaceAll(got[i], " ", "") != strings.ReplaceAll(want[i], " ", "") {
			t.Errorf("%s\nwant %s", got[i], want[i])
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		said []string
		want string // in the error of New, or of what is found out
	}{
		"the machine's":      {said: []string{"192.0.2.7"}},
		"any of a family":    {said: []string{"0.0.0.0"}},
		"not the machine's":  {said: []string{"192.0.2.8"}, want: "not found in the host's network interfaces"},
		"loopback":           {said: []string{"127.0.0.1"}, want: "can't be loopback"},
		"no address":         {said: []string{"here"}, want: "is not an IP address"},
		"two of one family":  {said: []string{"192.0.2.7", "192.0.2.8"}, want: "one of each family"},
		"three":              {said: []string{"192.0.2.7", "::1", "::2"}, want: "one of each family"},
		"any beside another": {said: []string{"192.0.2.7", "::"}, want: "may not be"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n, err := New(Config{Name: "a", Addresses: tt.said, Client: fake.NewClientset(), Log: slog.New(slog.DiscardHandler), machine: fakeMachine(t)})
			if err == nil {
				_, err = n.addressesOf(t.Context())
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

func TestWrongMachine(t *testing.T) {
	t.Parallel()
	m := fakeMachine(t)
	for _, text := range []string{"", "MemTotal: lots kB\n", "MemTotal: 99999999999999999999 kB\n", "MemTotal: 5\n"} {
		if err := os.WriteFile(m.path("proc/meminfo"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := m.facts(); err == nil {
			t.Errorf("/proc/meminfo %q was believed", text)
		}
	}
	for text, want := range map[string]int{"0-3": 4, "0": 1, "0-1,4-5,7": 5} {
		if err := os.WriteFile(m.path("sys/devices/system/cpu/online"), []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := m.cpus(); got != want {
			t.Errorf("%q are %d CPUs", text, got)
		}
	}
}
