package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"

	"github.com/rowlock-io/rowlock/agents/node/cgroup"
	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/env"
	"github.com/rowlock-io/rowlock/agents/node/eviction"
	"github.com/rowlock-io/rowlock/agents/node/gc"
	"github.com/rowlock-io/rowlock/agents/node/hook"
	"github.com/rowlock-io/rowlock/agents/node/image"
	"github.com/rowlock-io/rowlock/agents/node/metrics"
	"github.com/rowlock-io/rowlock/agents/node/network"
	"github.com/rowlock-io/rowlock/agents/node/objects"
	"github.com/rowlock-io/rowlock/agents/node/observe"
	"github.com/rowlock-io/rowlock/agents/node/probe"
	"github.com/rowlock-io/rowlock/agents/node/register"
	"github.com/rowlock-io/rowlock/agents/node/runtime"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
	"github.com/rowlock-io/rowlock/agents/node/source"
	"github.com/rowlock-io/rowlock/agents/node/stats"
	"github.com/rowlock-io/rowlock/agents/node/volume"
	"github.com/rowlock-io/rowlock/agents/node/worker"
)

// Agent is one, with its parts.
type Agent struct {
	cfg    Config
	client kubernetes.Interface
	events record.EventRecorderLogger
	// listener is the node's own API's; nil: it has none.
	listener net.Listener

	runtime    *runtime.Runtime
	observer   *observe.Observer
	objects    *objects.Objects
	services   *env.Services
	images     *image.Manager
	volumes    *volume.Manager
	users      *users
	prober     *probe.Prober
	probes     *prometheus.Registry
	metrics    *metrics.Metrics
	hooks      *hook.Runner
	cgroups    *cgroup.Manager // nil: they are not kept
	dns        *env.DNS
	source     *source.Source
	workers    *worker.Workers
	node       *register.Node
	health     *register.Health
	network    *network.Network          // nil: others give pods theirs
	declares   []string                  // features, sorted
	undeclared lifecycle.PodAdmitHandler // refuses pods that need others; nil: nothing is declared
	classes    classes
	garbage    *gc.Collector
	measures   *stats.Provider
	eviction   *eviction.Manager
	shutdown   *shutdown.Manager
}

// heartbeat bounds one write of the node's status or its Lease.
const heartbeat = 10 * time.Second

// runtimeWait is how long is waited for the container runtime: with the machine both are started at once.
const runtimeWait = 2 * time.Minute

// Run is a node until ctx ends. Its pods run on after it. It returns an error when the machine cannot be a node.
func Run(ctx context.Context, cfg Config) error {
	if err := cfg.complete(); err != nil {
		return err
	}
	for _, directory := range []string{cfg.DataDir, cfg.PodLogs, cfg.ContainerLogs} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return fmt.Errorf("node: %w", err)
		}
	}
	a := &Agent{cfg: cfg, metrics: metrics.New(cfg.Metrics, cfg.Name)}
	a.metrics.Version(cfg.Version)
	a.cfg.count(a.metrics.Client)
	var err error
	if a.client, err = cfg.client(0); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if err := a.listen(ctx); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	if a.listener != nil {
		defer a.listener.Close() //nolint:errcheck // who serves has closed it
	}
	shutdown, err := a.record(ctx)
	if err != nil {
		return err
	}
	defer shutdown()
	a.runtime, err = a.dial(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return fmt.Errorf("node: %w", err)
	}
	defer func() { _ = a.runtime.Close(context.WithoutCancel(ctx)) }()
	if err := a.make(ctx); err != nil {
		return fmt.Errorf("node: %w", err)
	}
	return a.run(ctx)
}

// record has events written, by a client of their own.
func (a *Agent) record(ctx context.Context) (shutdown func(), err error) {
	client, err := a.cfg.client(0)
	if err != nil {
		return nil, fmt.Errorf("node: %w", err)
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	a.events = broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "kubelet", Host: a.cfg.Name})
	return broadcaster.Shutdown, nil
}

// make makes the parts; none does anything yet.
func (a *Agent) make(ctx context.Context) (err error) {
	cfg, log := &a.cfg, a.cfg.Log
	service := a.runtime.Service()
	changed := func(uid types.UID) { a.workers.Changed(uid) } // workers are made last
	a.observer = observe.New(observe.Config{Runtime: service, Name: a.runtime.Name(), Changed: changed, Listed: a.metrics.Listed, Log: log})
	a.objects = objects.New(objects.Config{Client: a.client, Changed: func(uid types.UID) {
		a.volumes.Changed(uid)
		changed(uid) // the pod may wait for it
	}, Log: log})
	if a.services, err = env.NewServices(a.client); err != nil {
		return err
	}
	a.classes = classes{client: a.client, known: map[string]string{}}
	if cfg.Pulls.Providers != nil {
		if err := cfg.Pulls.Providers(a.client); err != nil {
			return err
		}
	}
	a.images, err = image.Open(ctx, image.Config{
		Images: a.runtime.Images(), Secrets: a.objects, Recorder: a.events, Log: log, Directory: cfg.DataDir, Parallel: cfg.Pulls.Parallel,
		QPS: cfg.Pulls.QPS, Burst: cfg.Pulls.Burst, Verify: cfg.Pulls.Verify, Allow: cfg.Pulls.Allow,
	})
	if err != nil {
		return err
	}
	a.volumes, err = volume.Open(volume.Config{
		Root: cfg.DataDir, Objects: a.objects, Images: volumeImages{a}, Allocatable: a.allocatable, RecursiveReadOnly: a.recursiveReadOnly, Log: log,
		SELinux: selinux.GetEnabled(), Done: a.metrics.VolumeDone, Failed: func(pod *corev1.Pod, err *volume.Error) {
			a.events.Eventf(pod, corev1.EventTypeWarning, events.FailedMountVolume, "%v", err)
		},
	})
	if err != nil {
		return err
	}
	if a.users, err = newUsers(filepath.Join(cfg.DataDir, "pods"), cfg.MaxPods, a.runtime.Handler, log); err != nil {
		return err
	}
	a.probes = prometheus.NewRegistry()
	a.prober = probe.New(probe.Config{Runtime: service, Recorder: a.events, Log: log, Changed: changed, Metrics: a.probes})
	a.hooks = hook.New(hook.Config{Runtime: service, Recorder: a.events, Log: log})
	if cfg.Cgroups {
		if err := a.makeCgroups(); err != nil {
			return err
		}
	}
	a.dns = env.NewDNS(env.DNSConfig{
		Node: &corev1.ObjectReference{Kind: "Node", Name: cfg.Name, UID: types.UID(cfg.Name)}, Servers: cfg.ClusterDNS,
		Domain: cfg.ClusterDomain, Resolver: cfg.resolver(), NodeIPs: cfg.given(), Recorder: a.events, Log: log,
	})
	if err := a.makeFeatures(); err != nil {
		return err
	}
	a.makeNetwork()
	a.measures = a.stats()
	a.makeEviction()
	a.makeShutdown()
	if err := a.makeNode(); err != nil {
		return err
	}
	if err := a.makePods(); err != nil {
		return err
	}
	a.metrics.Watch(a.present)
	a.metrics.Volumes(a.volumes.Count)
	a.metrics.Cgroups(cgroupVersion())
	return a.makeGarbage()
}

func (a *Agent) makeNode() error {
	client, err := a.cfg.client(heartbeat)
	if err != nil {
		return err
	}
	a.health = register.NewHealth(a.runtime, a.turned)
	a.node, err = register.New(register.Config{
		Name: a.cfg.Name, Hostname: a.cfg.Hostname, Addresses: a.cfg.Addresses, Labels: a.cfg.Labels, Taints: a.cfg.Taints,
		ProviderID: a.cfg.ProviderID, MaxPods: a.cfg.MaxPods, PodsPerCore: a.cfg.PodsPerCore, Reserved: a.cfg.Reserved, Port: a.cfg.Port,
		Watching: a.client,
		Version:  a.cfg.Version, DeclaredFeatures: a.declares, DataDir: a.cfg.DataDir, Runtime: a.health.Runtime, Images: a.health.Images,
		Ready: a.ready, Client: client, Pressure: a.pressure, Kept: a.kept, Changed: a.registered, Events: a.events, Log: a.cfg.Log,
	})
	return err
}

func (a *Agent) makePods() error {
	cfg := &a.cfg
	admit, err := source.Admission(source.Rules{
		Node: a.nodeObject, UnsafeSysctls: cfg.UnsafeSysctls, Active: func() []*corev1.Pod { return a.workers.Active() }, Kill: a.kill, Events: a.events,
		First: []lifecycle.PodAdmitHandler{a.eviction, a.shutdown}, Last: a.undeclared,
	})
	if err != nil {
		return err
	}
	a.source = source.New(source.Config{
		Node: cfg.Name, Directory: cfg.StaticPods, Checkpoint: filepath.Join(cfg.DataDir, "allotted.json"), Admit: admit, Running: a.has,
		NodeUID: a.nodeUID, Client: a.client, Events: a.events, Log: cfg.Log,
	})
	v2 := cri.CgroupV2()
	var own worker.Cgroups
	if a.cgroups != nil {
		own = podCgroups{a.cgroups, func() []*corev1.Pod { return a.workers.Active() }, a.metrics.CgroupDone}
	}
	a.workers = worker.New(worker.Config{
		Node: &cri.Node{
			MemoryCapacity: memoryCapacity(), PodLogs: cfg.PodLogs, SeccompRoot: filepath.Join(cfg.DataDir, "seccomp"),
			SeccompDefault: cfg.SeccompDefault, CgroupV2: v2, SwapController: cri.SwapController(), NoHugetlb: !cri.HugetlbController(),
			NoCPUQuota: cfg.NoCPUQuota, KillGroup: v2,
		},
		Links: cfg.ContainerLogs, RuntimeName: a.runtime.Name(), Runtime: a.runtime.Service(), Observer: observer{a.observer},
		Images: images{a.images}, Environment: environment{a}, Volumes: podVolumes{a.volumes, a.users}, Objects: a.objects, Hooks: hooks{a.hooks},
		Probes: a.prober, Cgroups: own, Givens: givens{filepath.Join(cfg.DataDir, "pods")}, Handler: a.classes.handler, RecursiveReadOnly: a.handlerReadOnly, NetworkReady: a.health.Network,
		NodeIPs: a.nodeIPs, API: a.source.API, Settled: a.source.Retry, Meter: a.metrics, Users: a.users.of, Client: a.client, Events: a.events, Log: cfg.Log,
	})
	return nil
}

// run runs the parts until ctx ends, and waits for them.
func (a *Agent) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		wg.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("node: %s: %w", name, err))
			}
		})
	}
	part("health", a.health.Run)
	part("observer", a.observer.Run)
	part("objects", a.objects.Run)
	if a.cgroups != nil {
		part("cgroups", a.keepCgroups)
	}
	part("services", func(ctx context.Context) error { a.services.Run(ctx); return nil })
	part("volumes", a.volumes.Run)
	part("probes", func(ctx context.Context) error { a.prober.Run(ctx); return nil })
	part("workers", a.workers.Run)
	part("garbage", a.garbage.Run)
	part("names", a.checkNames)
	part("eviction", a.evict)
	part("shutdown", a.shutdown.Run)
	part("node", a.node.Run)
	part("pods", func(ctx context.Context) error {
		if err := a.observed(ctx); err != nil {
			return nil //nolint:nilerr // ctx has ended
		}
		return a.source.Run(ctx, a.workers, a.workers.Status)
	})
	if a.network != nil {
		part("network", a.network.Run)
	}
	if a.cfg.Port != 0 {
		part("node API", a.serve)
	}
	<-ctx.Done()
	wg.Wait()
	a.hooks.Wait()
	a.images.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// observed returns when it is known what the runtime has, and whether it is in order: what runs is not to be asked whether it may.
func (a *Agent) observed(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, known := a.observer.Pods(); known && a.health.Known() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// nodeIPs are the node's addresses, the primary one first.
func (a *Agent) nodeIPs() []netip.Addr {
	var ips []netip.Addr
	for _, address := range a.node.Addresses() {
		if ip, err := netip.ParseAddr(address.Address); err == nil && address.Type == corev1.NodeInternalIP {
			ips = append(ips, ip)
		}
	}
	return ips
}
