// Package node is a node's agent: it makes a machine with a container runtime a node of a cluster, and runs the pods that are bound to
// it. Here its parts, which lie in the packages below, are put together; each has its own to say what it promises.
//
// It knows the cluster's API and the runtime's CRI, and keeps nothing that it needs: one that is started again finds out from both
// what there is, and pods do not notice.
package node

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apiserver/pkg/server/flagz"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/agents/node/env"
	"github.com/rowlock-io/rowlock/agents/node/eviction"
	"github.com/rowlock-io/rowlock/agents/node/shutdown"
)

// Config is what an agent is told.
type Config struct {
	// Name is the node's, Hostname the machine's; "": Name.
	Name, Hostname string
	// DataDir is the agent's directory: pods' files are below it.
	DataDir string
	// PodLogs is the directory of containers' logs, ContainerLogs that of links to them, for who collects logs; "": a kubelet's.
	PodLogs, ContainerLogs string
	// StaticPods is a directory of pods that run on this node whatever the API says; "": there are none.
	StaticPods string

	// Runtime is the container runtime's endpoint, Images that of its image service; "": the same.
	Runtime, Images string
	// Cgroups: pods have cgroups of their own, within those of their classes; without, the runtime puts containers where it likes.
	Cgroups bool
	// CgroupDriver is that of a runtime that does not tell, CgroupRoot the cgroup that pods' are in; "": the root.
	CgroupDriver, CgroupRoot string

	// Addresses are the node's, as the operator says; none: they are found out.
	Addresses  []string
	Labels     map[string]string
	Taints     []corev1.Taint
	ProviderID string
	// MaxPods bounds how many pods the node takes; 0: 110. PodsPerCore bounds them by CPUs; PodPids how many processes a pod has.
	MaxPods, PodsPerCore int
	PodPids              int64
	// Reserved is what pods may not have.
	Reserved corev1.ResourceList
	// Eviction is what is to stay free of the machine, and how pods give way to that; none: nothing is looked after.
	Eviction eviction.Policy
	// Shutdown is how long pods have to end when the machine is shut down, by their priorities; none: it is not waited for them.
	Shutdown []shutdown.Period
	// UnsafeSysctls are those that pods may set though others feel them.
	UnsafeSysctls []string
	// NoCPUQuota: limits of CPUs are not enforced.
	NoCPUQuota bool
	// SeccompDefault: containers that say nothing have the runtime's profile.
	SeccompDefault bool
	// Pulls is how images are pulled, Keep how much is kept of what nobody uses; nil: as much as a kubelet keeps.
	Pulls Pulls
	Keep  *Keep

	// ClusterDNS are the addresses of those who answer pods' questions for names, ClusterDomain is what their names end in.
	ClusterDNS    []netip.Addr
	ClusterDomain string
	// Resolver is the file that says whom the machine asks; "": it is found.
	Resolver string

	// CNIConfig is the directory where the runtime looks for its network's configuration: one is written there when the node has its
	// part of the cluster's addresses and nobody else has written one; "": none is. CNIPlugins are where it looks for programs.
	CNIConfig  string
	CNIPlugins []string

	// Port is that of the node's own API; 0: it has none.
	Port int32
	// Serving is what the node shows to who calls it; Authority are those whose certificates it believes. Both are needed with Port.
	Serving   func(ctx context.Context, client kubernetes.Interface, addresses func() []corev1.NodeAddress) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error)
	Authority func() (*x509.CertPool, error)
	// Version is that of Kubernetes which the agent stands for.
	Version string

	// Flags are shown by the node's own API; nil: nobody sees them. SetVerbosity has it change how much is logged; nil: it does not.
	Flags        flagz.Reader
	SetVerbosity func(level int) error
	// Metrics is where the node's series are, beside what others have there; nil: a registry of its own.
	Metrics *prometheus.Registry
	// API is how the cluster is reached.
	API *rest.Config
	Log *slog.Logger

	clients func() kubernetes.Interface // tests have their own
}

// A kubelet's directories.
const (
	podLogs       = "/var/log/pods"
	containerLogs = "/var/log/containers"
)

// How often an agent may write; a kubelet's.
const (
	queries = 50
	burst   = 100
)

const protobuf = "application/vnd.kubernetes.protobuf"

// complete fills in what was not said, and refuses what makes no sense.
func (c *Config) complete() error {
	if c.Name == "" || c.API == nil || c.DataDir == "" || c.Runtime == "" {
		return errors.New("node: name, data directory, runtime and API must be said")
	}
	if !filepath.IsAbs(c.DataDir) {
		return fmt.Errorf("node: data directory %q must be absolute", c.DataDir)
	}
	if c.Port != 0 && (c.Serving == nil || c.Authority == nil) {
		return errors.New("node: who serves needs a certificate and an authority")
	}
	if memoryCapacity() == 0 {
		return errors.New("node: /proc/meminfo does not tell how much memory the machine has")
	}
	c.Hostname = cmp.Or(c.Hostname, c.Name)
	c.PodLogs, c.ContainerLogs = cmp.Or(c.PodLogs, podLogs), cmp.Or(c.ContainerLogs, containerLogs)
	c.ClusterDomain = cmp.Or(c.ClusterDomain, "cluster.local")
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Keep == nil {
		c.Keep = new(Kept())
	}
	return nil
}

// resolver is the file that says whom the machine asks for names.
func (c *Config) resolver() string { return cmp.Or(c.Resolver, env.Resolver("/")) }

// count has requests of all clients go through a counter.
func (c *Config) count(counter func(http.RoundTripper) http.RoundTripper) {
	c.API = rest.CopyConfig(c.API)
	c.API.Wrap(counter)
}

// client reaches the API; each has limits of its own, so that a burst of one kind of requests holds up no other.
func (c *Config) client(timeout time.Duration) (kubernetes.Interface, error) {
	if c.clients != nil {
		return c.clients(), nil
	}
	own := rest.CopyConfig(c.API)
	own.QPS, own.Burst, own.Timeout = queries, burst, timeout
	own.ContentType = protobuf
	own.AcceptContentTypes = protobuf + ",application/json"
	if own.UserAgent == "" {
		own.UserAgent = "rowlock-agent"
	}
	return kubernetes.NewForConfig(own)
}
