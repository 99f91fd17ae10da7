package env

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/utils/ptr"
)

func podOf(spec corev1.PodSpec) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u"}, Spec: spec}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	const domain = "cluster.local"
	long := strings.Repeat("a", 62) + "-b"
	for name, tc := range map[string]struct {
		spec                 corev1.PodSpec
		name                 string
		host, domain, kernel string
		err                  string
	}{
		"name":            {host: "p", kernel: "p"},
		"hostname":        {spec: corev1.PodSpec{Hostname: "h"}, host: "h", kernel: "h"},
		"subdomain":       {spec: corev1.PodSpec{Hostname: "h", Subdomain: "s"}, host: "h", domain: "s.n.svc.cluster.local", kernel: "h"},
		"FQDN":            {spec: corev1.PodSpec{Subdomain: "s", SetHostnameAsFQDN: ptr.To(true)}, host: "p", domain: "s.n.svc.cluster.local", kernel: "p.s.n.svc.cluster.local"},
		"FQDN, no domain": {spec: corev1.PodSpec{SetHostnameAsFQDN: ptr.To(true)}, host: "p", kernel: "p"},
		"long":            {name: long, host: long[:62], kernel: long[:62]},
		"override":        {spec: corev1.PodSpec{Hostname: "h", Subdomain: "s", HostnameOverride: ptr.To("my.own.name")}, host: "my.own.name", kernel: "my.own.name"},
		"bad hostname":    {spec: corev1.PodSpec{Hostname: "h.h"}, err: `pod Hostname "h.h" is not a valid DNS label: `},
		"bad subdomain":   {spec: corev1.PodSpec{Subdomain: "S"}, err: `pod Subdomain "S" is not a valid DNS label: `},
		"bad override":    {spec: corev1.PodSpec{HostnameOverride: ptr.To("-")}, err: `pod HostnameOverride "-" is not a valid DNS subdomain: `},
		"long FQDN": {
			name: long, spec: corev1.PodSpec{Subdomain: "s", SetHostnameAsFQDN: ptr.To(true)},
			err: "failed to construct FQDN from pod hostname and cluster domain, FQDN " + long[:62] + ".s.n.svc.cluster.local is too long (64 characters is the max, 84 characters requested)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := podOf(tc.spec)
			if tc.name != "" {
				pod.Name = tc.name
			}
			kernel, err := KernelHostname(pod, domain)
			if tc.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tc.err) {
					t.Errorf("error is %v, want %s", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			host, of, err := Hostname(pod, domain)
			if diff := cmp.Diff([]any{tc.host, tc.domain, tc.kernel, nil}, []any{host, of, kernel, err}); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	const top = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n" +
		"fe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
	const aliases = "\n# Entries added by HostAliases.\n192.0.2.9\tone\ttwo\nfd00::9\tthree\n"
	node, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Fatal(err)
	}
	more := []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"one", "two"}}, {IP: "fd00::9", Hostnames: []string{"three"}}}
	for name, tc := range map[string]struct {
		spec corev1.PodSpec
		ips  []string
		want string
	}{
		"plain":     {ips: []string{"10.1.0.5"}, want: top + "10.1.0.5\tp\n"},
		"subdomain": {spec: corev1.PodSpec{Subdomain: "s"}, ips: []string{"10.1.0.5", "fd00::5"}, want: top + "10.1.0.5\tp.s.n.svc.cluster.local\tp\nfd00::5\tp.s.n.svc.cluster.local\tp\n"},
		"aliases":   {spec: corev1.PodSpec{HostAliases: more}, ips: []string{"10.1.0.5"}, want: top + "10.1.0.5\tp\n" + aliases},
		"node's":    {spec: corev1.PodSpec{HostNetwork: true, HostAliases: more}, want: "# Kubernetes-managed hosts file (host network).\n" + string(node) + aliases},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := Hosts(podOf(tc.spec), tc.ips, "cluster.local")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, string(got)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
	if _, err := Hosts(podOf(corev1.PodSpec{Hostname: "A"}), nil, "cluster.local"); err == nil {
		t.Error("a bad hostname is in a hosts file")
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 192.0.2.53\nsearch example.com. .\noptions timeout:1 attempts:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	servers := []netip.Addr{netip.MustParseAddr("10.0.0.10"), netip.MustParseAddr("fd00::a")}
	more := &corev1.PodDNSConfig{
		Nameservers: []string{"1.1.1.1", "2.2.2.2"}, Searches: []string{"my.own"}, Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
	}
	for name, tc := range map[string]struct {
		spec     corev1.PodSpec
		servers  []netip.Addr
		resolver string
		want     *runtimeapi.DNSConfig
		events   []string
	}{
		"ClusterFirst": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, servers: servers, resolver: file,
			want: &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10", "fd00::a"}, Searches: []string{"n.svc.cluster.local", "svc.cluster.local", "cluster.local", "example.com"}, Options: []string{"ndots:5"}},
		},
		"with too much of one's own": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: more}, servers: servers,
			want:   &runtimeapi.DNSConfig{Servers: []string{"10.0.0.10", "fd00::a", "1.1.1.1"}, Searches: []string{"n.svc.cluster.local", "svc.cluster.local", "cluster.local", "my.own"}, Options: []string{"edns0", "ndots:2"}},
			events: []string{"Warning DNSConfigForming Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: 10.0.0.10 fd00::a 1.1.1.1"},
		},
		"Default": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, servers: servers, resolver: file,
			want: &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"example.com"}, Options: []string{"attempts:2", "timeout:1"}},
		},
		"in the node's network": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, HostNetwork: true}, servers: servers, resolver: file,
			want: &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"example.com"}, Options: []string{"attempts:2", "timeout:1"}},
		},
		"None":   {spec: corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: more}, servers: servers, resolver: file, want: &runtimeapi.DNSConfig{Servers: more.Nameservers, Searches: more.Searches, Options: []string{"edns0", "ndots:2"}}},
		"nobody": {spec: corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, servers: servers, want: &runtimeapi.DNSConfig{Servers: []string{"127.0.0.1", "::1"}, Searches: []string{"."}}},
		"no cluster's": {
			spec: corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst}, resolver: file,
			want: &runtimeapi.DNSConfig{Servers: []string{"192.0.2.53"}, Searches: []string{"example.com"}, Options: []string{"attempts:2", "timeout:1"}},
			events: []string{
				`Warning MissingClusterDNS kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
				`Warning MissingClusterDNS pod: "p_n(u)". kubelet does not have ClusterDNS IP configured and cannot create Pod using "ClusterFirst" policy. Falling back to "Default" policy.`,
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			recorder := record.NewFakeRecorder(10)
			d := NewDNS(DNSConfig{
				Node: &corev1.ObjectReference{Kind: "Node", Name: "node"}, NodeIPs: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("fd00::1")},
				Servers: tc.servers, Domain: "cluster.local", Resolver: tc.resolver, Recorder: recorder, Log: slog.New(slog.DiscardHandler),
			})
			got, err := d.Config(t.Context(), podOf(tc.spec))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
			d.Check()
			close(recorder.Events)
			var events []string
			for e := range recorder.Events {
				if !strings.HasPrefix(e, "Warning CheckLimitsForResolvConf open :") { // of a node that asks nobody
					events = append(events, e)
				}
			}
			if diff := cmp.Diff(tc.events, events); diff != "" {
				t.Errorf("events: want -, got +:\n%s", diff)
			}
		})
	}
}

func TestResolver(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		usual  string
		behind bool
		want   string
	}{
		"plain":         {usual: "nameserver 192.0.2.53\n", behind: true, want: "/etc/resolv.conf"},
		"resolved":      {usual: "# stub\nnameserver 127.0.0.53\noptions edns0\n", behind: true, want: "/run/systemd/resolve/resolv.conf"},
		"one's own":     {usual: "nameserver 127.0.0.1\n", want: "/etc/resolv.conf"},
		"one of two":    {usual: "nameserver 127.0.0.53\nnameserver 192.0.2.53\n", behind: true, want: "/etc/resolv.conf"},
		"nothing in it": {behind: true, want: "/etc/resolv.conf"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			files := map[string]string{"etc/resolv.conf": tc.usual}
			if tc.behind {
				files["run/systemd/resolve/resolv.conf"] = "nameserver 192.0.2.53\n"
			}
			for path, content := range files {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got := Resolver(root); got != tc.want {
				t.Errorf("Resolver() = %s, want %s", got, tc.want)
			}
		})
	}
	if got := Resolver(filepath.Join(t.TempDir(), "nothing")); got != "/etc/resolv.conf" {
		t.Errorf("Resolver() = %s where there is nothing", got)
	}
}

func TestServices(t *testing.T) {
	t.Parallel()
	whole := service("n", "web", "10.0.0.2", corev1.ServicePort{Name: "p", Port: 80, Protocol: corev1.ProtocolTCP, NodePort: 30000})
	whole.Labels, whole.Spec.Selector = map[string]string{"a": "b"}, map[string]string{"c": "d"}
	s, err := NewServices(fake.NewClientset(whole, service("other", "web", "10.0.0.3")))
	if err != nil {
		t.Fatal(err)
	}
	if _, known := s.Services("n"); known {
		t.Error("services are known before they were read")
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Run(t.Context()) }()
	t.Cleanup(func() { <-done })
	for {
		got, known := s.Services("n")
		if !known {
			continue
		}
		want := []*corev1.Service{service("n", "web", "10.0.0.2", corev1.ServicePort{Name: "p", Port: 80, Protocol: corev1.ProtocolTCP})}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("want -, got +:\n%s", diff)
		}
		return
	}
}
