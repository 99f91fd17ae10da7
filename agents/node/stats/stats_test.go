package stats

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// tree writes files below a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var procFiles = map[string]string{
	"stat":                   "cpu  100 0 50 9000 7 0 0 0 0 0\ncpu0 100 0 50 9000 7 0 0 0 0 0\nbtime 1700000000\n",
	"meminfo":                "MemTotal:       1000 kB\nMemFree:         400 kB\nInactive(file):  100 kB\nAnonPages:        50 kB\nSwapTotal:       20 kB\nSwapFree:         5 kB\n",
	"vmstat":                 "pgfault 77\npgmajfault 7\n",
	"loadavg":                "3.86 3.35 2.53 5/125 6938\n",
	"sys/kernel/pid_max":     "4194304\n",
	"sys/kernel/threads-max": "190000\n",
	"net/dev": "Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n" +
		"    lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n  ens3:1000 10 1 0 0 0 0 0 2000 20 2 0 0 0 0 0\nveth1: 5 5 0 0 0 0 0 0 5 5 0 0 0 0 0 0\n",
	"net/route":       "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\nens3\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
	"pressure/cpu":    "some avg10=1.50 avg60=2.00 avg300=3.00 total=4000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
	"pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=2\n",
	"pressure/io":     "some avg10=0.00 avg60=0.00 avg300=0.00 total=3\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=4\n",
}

// The node's figures come from either kind of cgroups.
func TestNode(t *testing.T) {
	t.Parallel()
	const kb = 1024
	for name, tc := range map[string]struct {
		v2                            bool
		files                         map[string]string
		cpu, used, set, free, rss     uint64
		podsCPU, podsUsed, podsSet    uint64
		podsFree, faults, majorfaults uint64
	}{
		"v1": {
			files: map[string]string{
				"cpuacct/cpuacct.usage": "5000000000\n", "memory/memory.usage_in_bytes": "614400\n", "memory/memory.limit_in_bytes": "9223372036854771712\n",
				"memory/memory.stat":             "cache 1\ninactive_file 1\ntotal_inactive_file 102400\ntotal_rss 51200\ntotal_pgfault 77\ntotal_pgmajfault 7\n",
				"cpuacct/kubepods/cpuacct.usage": "1000\n", "memory/kubepods/memory.usage_in_bytes": "3000\n", "memory/kubepods/memory.limit_in_bytes": "5000\n",
				"memory/kubepods/memory.stat": "total_inactive_file 1000\n",
			},
			cpu: 5e9, podsCPU: 1000, podsUsed: 3000, podsSet: 2000, podsFree: 3000,
		},
		"v2": {
			v2: true,
			files: map[string]string{
				"cpu.stat": "usage_usec 5000000\nuser_usec 1\n", "memory.stat": "inactive_file 102400\n",
				"kubepods/cpu.stat": "usage_usec 1\n", "kubepods/memory.current": "3000\n", "kubepods/memory.max": "max\n",
				"kubepods/memory.stat": "anon 500\ninactive_file 1000\n",
			},
			cpu: 5e9, podsCPU: 1000, podsUsed: 3000, podsSet: 2000, podsFree: 1000*kb - 2000,
		},
		"none": {cpu: 15e8},
	} {
		p := New(Config{
			Node: "one", Proc: tree(t, procFiles), Cgroups: tree(t, tc.files), V2: tc.v2, Pods: "/kubepods", Log: slog.New(slog.DiscardHandler),
		})
		node, err := p.node(true)
		if err != nil {
			t.Fatal(name, err)
		}
		m := node.Memory
		if *node.CPU.UsageCoreNanoSeconds != tc.cpu || *m.UsageBytes != 600*kb || *m.WorkingSetBytes != 500*kb || *m.AvailableBytes != 500*kb ||
			*m.RSSBytes != 50*kb || *m.PageFaults != 77 || *m.MajorPageFaults != 7 {
			t.Errorf("%s: %d, memory %d %d %d %d %d %d", name, *node.CPU.UsageCoreNanoSeconds, *m.UsageBytes, *m.WorkingSetBytes, *m.AvailableBytes, *m.RSSBytes, *m.PageFaults, *m.MajorPageFaults)
		}
		if *node.Swap.SwapUsageBytes != 15*kb || *node.Swap.SwapAvailableBytes != 5*kb || node.StartTime.Unix() != 1700000000 || node.CPU.PSI.Some.Avg10 != 1.5 {
			t.Errorf("%s: %+v", name, node)
		}
		if tc.files == nil {
			if len(node.SystemContainers) != 0 {
				t.Errorf("%s: groups that are not there: %+v", name, node.SystemContainers)
			}
			continue
		}
		pods := node.SystemContainers[0]
		if pods.Name != "pods" || *pods.CPU.UsageCoreNanoSeconds != tc.podsCPU || *pods.Memory.UsageBytes != tc.podsUsed ||
			*pods.Memory.WorkingSetBytes != tc.podsSet || *pods.Memory.AvailableBytes != tc.podsFree {
			t.Errorf("%s: pods: %d of CPU, memory %d %d %d", name, *pods.CPU.UsageCoreNanoSeconds, *pods.Memory.UsageBytes, *pods.Memory.WorkingSetBytes, *pods.Memory.AvailableBytes)
		}
	}
}

func newRuntime(t *testing.T, profile fakecri.Profile) (*fakecri.Runtime, *runtime.Runtime) {
	t.Helper()
	fake := fakecri.Start(t, profile)
	fake.AddImages("busybox")
	cri, err := runtime.Dial(t.Context(), fake.Endpoint(), runtime.Options{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cri.Close(context.Background()) }) //nolint:usetesting // the test's has ended
	return fake, cri
}

// start runs a pod of containers of these names.
func start(t *testing.T, cri *runtime.Runtime, logs, name string, containers ...string) {
	t.Helper()
	config := &runtimeapi.PodSandboxConfig{
		Metadata: &runtimeapi.PodSandboxMetadata{Name: name, Namespace: "default", Uid: "u-" + name}, LogDirectory: filepath.Join(logs, "default_"+name+"_u-"+name),
	}
	sandbox, err := cri.Service().RunPodSandbox(t.Context(), config, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		id, err := cri.Service().CreateContainer(t.Context(), sandbox, &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: c}, Image: &runtimeapi.ImageSpec{Image: "busybox", UserSpecifiedImage: "busybox"}, LogPath: c + "/0.log",
		}, config)
		if err == nil {
			err = cri.Service().StartContainer(t.Context(), id)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A pod's figures are the runtime's, or what those of its containers add up to.
func TestPods(t *testing.T) {
	t.Parallel()
	for name, profile := range map[string]fakecri.Profile{
		"of pods": fakecri.Containerd(), "of containers": fakecri.OldContainerd(), "of pods, from CRI-O": fakecri.CRIO(),
	} {
		fake, cri := newRuntime(t, profile)
		fake.Script("over", fakecri.Life{Runs: fakecri.AtOnce})
		logs, volume := t.TempDir(), tree(t, map[string]string{"a": "a", "b/c": "c"})
		start(t, cri, logs, "web", "c", "d", "over")
		if err := os.WriteFile(filepath.Join(logs, "default_web_u-web/c/0.log"), make([]byte, 10000), 0o600); err != nil {
			t.Fatal(err)
		}
		for fake.Container("over").State != runtimeapi.ContainerState_CONTAINER_EXITED {
			if t.Context().Err() != nil {
				t.Fatal("it does not end")
			}
		}
		p := New(Config{
			Node: "one", Runtime: cri.Service(), Images: cri.Images(), Data: t.TempDir(), PodLogs: logs, Proc: tree(t, procFiles),
			Volumes: func(uid types.UID) []Volume {
				return []Volume{{Name: "v", Path: volume, Local: uid == "u-web"}, {Name: "gone", Path: filepath.Join(volume, "gone")}}
			},
			Log: slog.New(slog.DiscardHandler),
		})
		summary, err := p.Summary(t.Context())
		if err != nil {
			t.Fatal(name, err)
		}
		if len(summary.Pods) != 1 {
			t.Fatalf("%s: %+v", name, summary.Pods)
		}
		pod := summary.Pods[0]
		if pod.PodRef != (statsapi.PodReference{Name: "web", Namespace: "default", UID: "u-web"}) || *pod.Memory.WorkingSetBytes != 2*fakecri.WorkingSet ||
			*pod.CPU.UsageNanoCores != uint64(2*time.Second/10) || *pod.CPU.UsageCoreNanoSeconds == 0 || pod.StartTime.IsZero() {
			t.Errorf("%s: %+v", name, pod)
		}
		var names []string
		for _, c := range pod.Containers {
			names = append(names, c.Name)
			if c.Name == "c" && (*c.Rootfs.UsedBytes != fakecri.WrittenBytes || *c.Rootfs.CapacityBytes == 0 || *c.Logs.UsedBytes < 10000 || *c.Logs.InodesUsed != 1 ||
				*c.Memory.WorkingSetBytes != fakecri.WorkingSet) {
				t.Errorf("%s: %+v", name, c)
			}
		}
		slices.Sort(names)
		if !slices.Equal(names, []string{"c", "d"}) {
			t.Errorf("%s: containers %v", name, names)
		}
		if len(pod.VolumeStats) != 1 || *pod.VolumeStats[0].InodesUsed != 4 || pod.VolumeStats[0].Name != "v" {
			t.Errorf("%s: volumes %+v", name, pod.VolumeStats)
		}
		if got, least := *pod.EphemeralStorage.UsedBytes, 2*fakecri.WrittenBytes+10000+*pod.VolumeStats[0].UsedBytes; got < least {
			t.Errorf("%s: it takes %d bytes, want at least %d", name, got, least)
		}
		if (pod.Network != nil) != profile.PodStats || pod.Network != nil && (*pod.Network.RxBytes != fakecri.Received || pod.Network.Name != "eth0") {
			t.Errorf("%s: network %+v", name, pod.Network)
		}
		node := summary.Node
		if node.NodeName != "one" || *node.Fs.CapacityBytes == 0 || node.Network.Name != "ens3" || *node.Network.TxErrors != 2 || len(node.Network.Interfaces) != 1 ||
			*node.Rlimit.MaxPID != 190000 || *node.Rlimit.NumOfRunningProcesses != 125 || node.IO.PSI.Full.Avg10 != 0.25 || node.Runtime.ImageFs == nil {
			t.Errorf("%s: %+v", name, node)
		}
		small, err := p.CPUAndMemory(t.Context())
		if err != nil || small.Pods[0].EphemeralStorage != nil || small.Pods[0].Containers[0].Rootfs != nil || *small.Pods[0].Memory.WorkingSetBytes != 2*fakecri.WorkingSet || small.Node.Fs != nil {
			t.Errorf("%s: %v %+v", name, err, small)
		}
		if err := cri.Service().StopPodSandbox(t.Context(), fake.Sandboxes()[0].Id); err != nil {
			t.Fatal(err)
		}
		if summary, err = p.Summary(t.Context()); err != nil || len(summary.Pods) != 0 {
			t.Errorf("%s: when it is over: %v %+v", name, err, summary)
		}
	}
}

// What a pod's cgroup counts is the pod's where the runtime does not say it.
func TestPodsCgroup(t *testing.T) {
	t.Parallel()
	_, cri := newRuntime(t, fakecri.OldContainerd())
	start(t, cri, t.TempDir(), "web", "c")
	now := time.Unix(1000, 0)
	cgroups := tree(t, map[string]string{
		"cpu.stat": "usage_usec 9\n", "web/cpu.stat": "usage_usec 1000000\n", "web/memory.current": "5000\n", "web/memory.stat": "inactive_file 2000\n", "web/memory.max": "8000\n",
	})
	p := New(Config{
		Runtime: cri.Service(), Images: cri.Images(), Proc: tree(t, procFiles), Cgroups: cgroups, V2: true, Now: func() time.Time { return now },
		PodCgroup: func(types.UID) string { return "/web" }, Log: slog.New(slog.DiscardHandler),
	})
	for i, want := range []uint64{0, 5e8} {
		summary, err := p.CPUAndMemory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pod := summary.Pods[0]
		if *pod.CPU.UsageCoreNanoSeconds != 1e9*uint64(i+1) || *pod.Memory.WorkingSetBytes != 3000 || *pod.Memory.AvailableBytes != 5000 {
			t.Errorf("%d: %+v %+v", i, pod.CPU, pod.Memory)
		}
		if rate := pod.CPU.UsageNanoCores; (rate == nil) != (i == 0) || rate != nil && *rate != want {
			t.Errorf("%d: rate %v, want %d", i, rate, want)
		}
		now = now.Add(2 * time.Second)
		if err := os.WriteFile(filepath.Join(cgroups, "web/cpu.stat"), []byte("usage_usec 2000000\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRates(t *testing.T) {
	t.Parallel()
	r, at := rates{}, time.Unix(1000, 0)
	for i, step := range []struct {
		after time.Duration
		sum   uint64
		want  int64 // -1: not known
	}{
		{0, 100, -1},
		{time.Second / 2, 200, -1}, // too soon
		{time.Second / 2, 300, 200},
		{0, 300, 200},
		{2 * time.Second, 301, 0},
		{time.Second, 10, -1}, // it began anew
		{time.Second, 30, 20},
		{time.Hour, 60, -1},
		{time.Second, 65, 5},
	} {
		at = at.Add(step.after)
		got := r.of("a", at, step.sum)
		if (got == nil) != (step.want < 0) || got != nil && int64(*got) != step.want {
			t.Errorf("%d: %v, want %d", i, got, step.want)
		}
	}
	r.of("b", at.Add(time.Hour), 1)
	if r.forget(at.Add(time.Hour)); len(r) != 1 {
		t.Errorf("it keeps %d", len(r))
	}
}
