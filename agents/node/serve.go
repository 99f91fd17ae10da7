package node

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/server/healthz"

	"github.com/rowlock-io/rowlock/agents/node/cri"
	"github.com/rowlock-io/rowlock/agents/node/network"
	"github.com/rowlock-io/rowlock/agents/node/serve"
	"github.com/rowlock-io/rowlock/agents/node/stats"
	"github.com/rowlock-io/rowlock/agents/node/uplink"
)

// systemLogs is the directory of the machine's logs, which who may see a node's logs sees.
const systemLogs = "/var/log"

// listen takes the port of the node's own API, if it is to have one. Before that nothing is done to pods: where a kubelet runs they are
// its.
func (a *Agent) listen(ctx context.Context) (err error) {
	if a.cfg.Port == 0 {
		return nil
	}
	var config net.ListenConfig
	a.listener, err = config.Listen(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(int(a.cfg.Port))))
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("another agent, or a kubelet, may run on this machine: %w", err)
	}
	return err
}

// serve is the node's own API.
func (a *Agent) serve(ctx context.Context) error {
	certificate, err := a.cfg.Serving(ctx, a.client, a.node.Addresses)
	if err != nil {
		return err
	}
	checkpoints, err := a.checkpoints()
	if err != nil {
		return err
	}
	server, err := serve.New(serve.Config{
		Node: a.cfg.Name, Certificate: certificate, ClientCAs: a.authority, Tokens: a.client.AuthenticationV1(),
		SubjectAccess: a.client.AuthorizationV1(), Pods: a, Runtime: a.runtime.Service(), Stats: a.measures,
		Metrics: a.metrics.Gatherer(), Requests: a.metrics.Requests, Probes: a.probes, SystemLogs: systemLogs, Checkpoints: checkpoints,
		Configz: func() any { return a.cfg.configz(a.runtime.CgroupDriver()) },
		Healthz: []healthz.HealthChecker{syncLoop(a.workers.Looped)}, Flags: a.cfg.Flags, SetVerbosity: a.cfg.SetVerbosity, Object: a.node.Get,
		PodCgroup: func(uid string) string { return a.podCgroup(types.UID(uid)) }, Log: a.cfg.Log,
	})
	if err != nil {
		return err
	}
	listener := a.listener
	up, err := uplink.New(uplink.Config{
		Node: a.cfg.Name, API: a.cfg.API, DialPod: a.dialPod, Metrics: a.cfg.Metrics, Log: a.cfg.Log,
		Dial: func(ctx context.Context) (net.Conn, error) {
			var dialer net.Dialer
			return dialer.DialContext(ctx, "tcp", net.JoinHostPort("", strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)))
		},
	})
	if err != nil {
		return fmt.Errorf("tunnel: %w", err)
	}
	lasting, stop := context.WithCancel(context.WithoutCancel(ctx)) // until what goes over it has ended
	var tunnelled sync.WaitGroup
	tunnelled.Go(func() { up.Run(lasting) })
	defer tunnelled.Wait()
	defer stop()
	return server.Run(ctx, listener)
}

func (a *Agent) stats() *stats.Provider {
	pods := ""
	if a.cgroups != nil {
		pods = a.cgroups.All()
	}
	return stats.New(stats.Config{
		Node: a.cfg.Name, Runtime: a.runtime.Service(), Images: a.runtime.Images(), Data: a.cfg.DataDir, PodLogs: a.cfg.PodLogs,
		V2: cri.CgroupV2(), Pods: pods, PodCgroup: a.podCgroup, Volumes: a.measured, Log: a.cfg.Log,
	})
}

// authority are those whose certificates the node believes; none while they cannot be read.
func (a *Agent) authority() *x509.CertPool {
	pool, err := a.cfg.Authority()
	if err != nil {
		a.cfg.Log.Error("The cluster's authority was not read", "error", err)
		return x509.NewCertPool()
	}
	return pool
}

// Pod is the one of this name, with the newest status; nil: there is none.
func (a *Agent) Pod(namespace, name string) *corev1.Pod {
	return a.withStatus(a.source.Pod(namespace, name))
}

// Pods are all of the node, with their newest statuses.
func (a *Agent) Pods() []*corev1.Pod {
	pods := a.source.Pods()
	for i := range pods {
		pods[i] = a.withStatus(pods[i])
	}
	return pods
}

func (a *Agent) withStatus(pod *corev1.Pod) *corev1.Pod {
	if pod == nil {
		return nil
	}
	status, ok := a.workers.Status.Get(pod.UID)
	if !ok {
		return pod
	}
	with := *pod
	with.Status = *status
	return &with
}

// makeNetwork makes the part that gives pods a network, when the node has a part of the cluster's addresses.
func (a *Agent) makeNetwork() {
	if a.cfg.CNIConfig != "" {
		a.network = network.New(network.Config{
			Node: a.cfg.Name, Self: func() *corev1.Node { return a.node.Get() }, Client: a.client, ConfDir: a.cfg.CNIConfig,
			BinDirs: a.cfg.CNIPlugins, Recorder: a.events, Log: a.cfg.Log,
		})
	}
}

// registered is called when the server has the node in another way than before.
func (a *Agent) registered() {
	if a.network != nil {
		a.network.Changed()
	}
}
