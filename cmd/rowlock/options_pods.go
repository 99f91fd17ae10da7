package main

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/rowlock-io/rowlock/agents/node"
)

// podOptions say how a node runs pods. Where a kubelet has the flag, or the same in its configuration, name and meaning are its.
type podOptions struct {
	manifests      string
	logs           string
	dns            []string
	domain         string
	resolver       string
	cgroups        bool
	cgroupRoot     string
	cgroupDriver   string
	maxPids        int64
	quota          bool
	seccompDefault bool
	sysctls        []string
	network        bool
	cniConfig      string
	cniPlugins     []string
	port           int32
	images         imageOptions
	pressure       pressureOptions
}

func (o *podOptions) addFlags(fs *pflag.FlagSet) {
	fs.StringVar(&o.manifests, "pod-manifest-path", "", "directory of static pods: files with a pod each, which run on this node whatever the API says")
	fs.StringVar(&o.logs, "pod-logs-dir", "", "directory of containers' logs; links for collectors of logs are made beside it, in containers (default: /var/log/pods)")
	fs.StringSliceVar(&o.dns, "cluster-dns", nil, "addresses of the cluster's DNS servers, which pods ask (default: none; pods ask whom the node asks)")
	fs.StringVar(&o.domain, "cluster-domain", "cluster.local", "domain of the cluster's names")
	fs.StringVar(&o.resolver, "resolv-conf", "", "file that says whom the node asks for names (default: the machine's)")
	fs.BoolVar(&o.cgroups, "cgroups-per-qos", true, "pods have cgroups of their own, within those of their QoS classes")
	fs.StringVar(&o.cgroupRoot, "cgroup-root", "", "cgroup that pods' are in (default: the root)")
	fs.StringVar(&o.cgroupDriver, "cgroup-driver", "", "how cgroups are made, cgroupfs or systemd, where the runtime does not tell (default: cgroupfs)")
	fs.Int64Var(&o.maxPids, "pod-max-pids", 0, "how many processes a pod may have; 0: as many as the node")
	fs.BoolVar(&o.quota, "cpu-cfs-quota", true, "enforce limits of CPUs")
	fs.BoolVar(&o.seccompDefault, "seccomp-default", false, "containers that say nothing of seccomp have the runtime's profile")
	fs.BoolVar(&o.network, "pod-network", true, "give pods a network, by CNI's bridge plugin, if nobody else does")
	fs.StringVar(&o.cniConfig, "cni-conf-dir", "/etc/cni/net.d", "directory where the container runtime looks for its network's configuration")
	fs.StringSliceVar(&o.cniPlugins, "cni-bin-dir", []string{"/opt/cni/bin"}, "directories where the container runtime looks for CNI's plugins")
	fs.Int32Var(&o.port, "kubelet-port", kubeletPort, "port of the node's own API, for logs, exec and metrics; 0: there is none")
	o.images.addFlags(fs)
	fs.StringSliceVar(&o.sysctls, "allowed-unsafe-sysctls", nil, "sysctls, or patterns that end in *, that pods may set though they reach beyond the pod")
	o.pressure.addFlags(fs)
}

// kubeletPort is where kubelets serve.
const kubeletPort = 10250

// complete puts it into a node's configuration.
func (o *podOptions) complete(cfg *node.Config) error {
	var errs []error
	for _, text := range o.dns {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("--cluster-dns: %w", err))
		}
		cfg.ClusterDNS = append(cfg.ClusterDNS, ip)
	}
	switch o.cgroupDriver {
	case "", "cgroupfs", "systemd":
	default:
		errs = append(errs, fmt.Errorf("--cgroup-driver: %q is neither cgroupfs nor systemd", o.cgroupDriver))
	}
	if o.port < 0 || o.port > 65535 {
		errs = append(errs, errors.New("--kubelet-port must be between 0 and 65535"))
	}
	if o.maxPids < 0 {
		errs = append(errs, errors.New("--pod-max-pids must not be negative"))
	}
	for flag, path := range map[string]*string{"--pod-manifest-path": &o.manifests, "--pod-logs-dir": &o.logs, "--resolv-conf": &o.resolver} {
		if *path == "" {
			continue
		}
		whole, err := filepath.Abs(*path)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", flag, err))
		}
		*path = whole
	}
	whole, err := filepath.Abs(cfg.DataDir)
	cfg.DataDir = whole
	errs = append(errs, err)
	cfg.StaticPods, cfg.PodLogs, cfg.ClusterDomain, cfg.Resolver = o.manifests, o.logs, o.domain, o.resolver
	if o.network {
		cfg.CNIConfig, cfg.CNIPlugins = o.cniConfig, o.cniPlugins
	}
	cfg.Port = o.port
	if o.logs != "" {
		cfg.ContainerLogs = filepath.Join(filepath.Dir(o.logs), "containers")
	}
	cfg.Cgroups = o.cgroups
	cfg.CgroupRoot, cfg.CgroupDriver, cfg.PodPids, cfg.NoCPUQuota = o.cgroupRoot, o.cgroupDriver, o.maxPids, !o.quota
	cfg.SeccompDefault, cfg.UnsafeSysctls = o.seccompDefault, o.sysctls
	return errors.Join(append(errs, o.images.complete(cfg), o.pressure.complete(cfg))...)
}
