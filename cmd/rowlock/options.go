package main

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/pflag"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/rowlock-io/rowlock/server/controlplane"
)

// options are the flags of a server. Names and meanings are kube-apiserver's where it has the same.
type options struct {
	flow     flowOptions
	http     httpOptions
	features featureOptions
	tls      tlsOptions
	all      *pflag.FlagSet // of the command

	BindAddress     net.IP
	SecurePort      int
	Advertise       net.IP
	TLSNames        []string
	WriteKubeconfig string

	EncryptionKeyFile string
	access            accessOptions

	ClusterHosts  string
	ServiceRange  net.IPNet
	NodePortRange utilnet.PortRange
	EventTTL      time.Duration
	RequestTime   time.Duration

	HistoryAge    time.Duration
	HistoryBytes  int64
	DecodedBytes  int64
	ShutdownDelay time.Duration
	LogFormat     string
	Verbosity     int

	admit      admissionOptions
	record     recordOptions
	outbound   outboundOptions
	encryption encryptionOptions
	memory     memoryOptions
	agents     agentOptions
	simulate   simulateOptions // of rowlock up
	local      localNode       // of rowlock up
}

func (o *options) addFlags(fs *pflag.FlagSet) {
	o.all = fs
	o.flow.addFlags(fs)
	o.http.addFlags(fs)
	o.features.addFlags(fs)
	_, serviceRange, _ := net.ParseCIDR(controlplane.DefaultServiceRange)
	o.ServiceRange = *serviceRange
	o.NodePortRange = utilnet.PortRange{Base: 30000, Size: 2768}

	fs.IPVar(&o.BindAddress, "bind-address", o.BindAddress, "IP address to listen on")
	fs.IntVar(&o.SecurePort, "secure-port", 6443, "port to listen on; 0 takes a free one")
	fs.IPVar(&o.Advertise, "advertise-address", nil, "IP address at which pods reach this server (default: the host's, unless it listens on loopback only)")
	fs.StringSliceVar(&o.TLSNames, "tls-san", nil, "further host names and IP addresses of the serving certificate")
	fs.StringVar(&o.ClusterHosts, "cluster-host-suffix", "", "DNS suffix below which each cluster answers at a host name of its own, CLUSTER.SUFFIX, with a certificate of its own authority; empty: none does")
	fs.StringVar(&o.WriteKubeconfig, "write-kubeconfig", o.WriteKubeconfig, "file to merge an administrator's kubeconfig into; empty writes none")

	o.tls.addFlags(fs)
	o.access.addFlags(fs)

	fs.IPNetVar(&o.ServiceRange, "service-cluster-ip-range", o.ServiceRange, "range of the cluster IPs of services")
	fs.Var(&o.NodePortRange, "service-node-port-range", "range of the node ports of services")
	fs.DurationVar(&o.EventTTL, "event-ttl", time.Hour, "how long Events are kept")
	fs.DurationVar(&o.RequestTime, "request-timeout", time.Minute, "bound of requests other than watches and streams")

	fs.DurationVar(&o.HistoryAge, "history-retention", 24*time.Hour, "how long changes are kept for resumed watches and reads of the past")
	fs.Int64Var(&o.HistoryBytes, "history-max-bytes", 1<<30, "size of the kept changes of one cluster; 0 is unbounded")
	fs.Int64Var(&o.DecodedBytes, "decoded-object-bytes", 32<<20, "memory for decoded objects of one cluster")
	fs.DurationVar(&o.ShutdownDelay, "shutdown-delay-duration", 0, "how long to go on serving, not ready, before stopping")
	fs.StringVar(&o.LogFormat, "logging-format", "text", "text or json")
	fs.IntVarP(&o.Verbosity, "v", "v", 0, "verbosity; 2 and more shows debug messages and tells where slow requests spent their time")
	o.admit.addFlags(fs)
	o.record.addFlags(fs)
	o.outbound.addFlags(fs)
	o.encryption.addFlags(fs)
	o.memory.addFlags(fs)
	o.agents.addFlags(fs)
}

// validate reports everything that is wrong at once.
func (o *options) validate() error {
	errs := []error{o.flow.validate(), o.outbound.validate(), o.http.validate(), o.features.validate(), o.memory.validate()}
	if o.BindAddress == nil {
		errs = append(errs, errors.New("--bind-address must be an IP address"))
	}
	if o.SecurePort < 0 || o.SecurePort > 65535 {
		errs = append(errs, fmt.Errorf("--secure-port %d must be between 0 and 65535", o.SecurePort))
	}
	if ones, bits := o.ServiceRange.Mask.Size(); bits-ones < 3 {
		errs = append(errs, fmt.Errorf("--service-cluster-ip-range %s must hold at least 8 addresses", o.ServiceRange.String()))
	}
	if o.NodePortRange.Size <= 0 || o.NodePortRange.Base+o.NodePortRange.Size > 65536 {
		errs = append(errs, fmt.Errorf("--service-node-port-range %s must lie between 1 and 65535", o.NodePortRange.String()))
	}
	for name, d := range map[string]time.Duration{"event-ttl": o.EventTTL, "request-timeout": o.RequestTime, "history-retention": o.HistoryAge} {
		if d <= 0 {
			errs = append(errs, fmt.Errorf("--%s %s must be greater than 0", name, d))
		}
	}
	if o.ShutdownDelay < 0 {
		errs = append(errs, fmt.Errorf("--shutdown-delay-duration %s must not be negative", o.ShutdownDelay))
	}
	if o.HistoryBytes < 0 || o.DecodedBytes < 0 {
		errs = append(errs, errors.New("--history-max-bytes and --decoded-object-bytes must not be negative"))
	}
	errs = append(errs, o.record.validate(), o.admit.Validate())
	_, err := o.tls.tls()
	errs = append(errs, o.encryption.validate(), o.access.validate(), o.agents.validate(), o.simulate.validate("simulate-"), o.local.validate(), err)
	return errors.Join(errs...)
}
