package env

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/kubelet/network/dns"
)

// DNS knows who answers pods' questions for names. It is the kubelet's, with its limits and events.
type DNS struct {
	configurer *dns.Configurer
	log        *slog.Logger
}

// DNSConfig is what a node says about names.
type DNSConfig struct {
	Node     *corev1.ObjectReference // for events
	NodeIPs  []netip.Addr
	Servers  []netip.Addr // of the cluster; none: its pods ask whom the node asks
	Domain   string       // of the cluster
	Resolver string       // the file that says whom the node asks; "": nobody
	Recorder record.EventRecorderLogger
	Log      *slog.Logger
}

// NewDNS returns one for the node.
func NewDNS(c DNSConfig) *DNS {
	return &DNS{dns.NewConfigurer(c.Recorder, c.Node, addresses(c.NodeIPs), addresses(c.Servers), c.Domain, c.Resolver), c.Log}
}

func addresses(addrs []netip.Addr) []net.IP {
	var out []net.IP
	for _, a := range addrs {
		out = append(out, a.AsSlice())
	}
	return out
}

// Config is what a pod's policy and its own words make of it.
func (d *DNS) Config(ctx context.Context, pod *corev1.Pod) (*runtimeapi.DNSConfig, error) {
	config, err := d.configurer.GetPodDNS(logr.NewContextWithSlogLogger(ctx, d.log), pod)
	if err != nil {
		return nil, err
	}
	config.Options = slices.Sorted(slices.Values(config.Options)) // upstream's are in no order
	return config, nil
}

// Check records an event of the node if its own file is more than pods can be given.
func (d *DNS) Check() {
	d.configurer.CheckLimitsForResolvConf(logr.FromSlogHandler(d.log.Handler()))
}

// Resolver finds the file that says whom the node asks, below a directory that is "/" but for tests. Where that is only a server on the
// node itself, which pods do not reach, it is the file that says whom that one asks.
func Resolver(root string) string {
	const usual, behind = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	content, err := os.ReadFile(filepath.Join(root, usual))
	if err != nil {
		return usual
	}
	servers := 0
	for lines := bufio.NewScanner(bytes.NewReader(content)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		servers++
		if ip, err := netip.ParseAddr(fields[1]); err != nil || !ip.IsLoopback() {
			return usual
		}
	}
	if _, err := os.Stat(filepath.Join(root, behind)); err != nil || servers == 0 {
		return usual
	}
	return behind
}
