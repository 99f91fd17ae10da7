package network

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/knftables"

	"github.com/rowlock-io/rowlock/agents/podnetwork"
)

// apart moves the test into a network namespace that nobody else is in. Its goroutine keeps its thread, which ends with it.
func apart(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can make a network namespace")
	}
	goruntime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skipf("make a network namespace: %v", err)
	}
}

// segment attaches the namespace to a segment, with an address on it.
func segment(t *testing.T, address string) {
	t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "peer0"}
	addr, err := netlink.ParseAddr(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkAdd(link); err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(link, addr); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "peer0"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// newNetwork is one in directories of the test's, with plugins, and tables that are only written down.
func newNetwork(t *testing.T) (*Network, map[knftables.Family]*knftables.Fake) {
	t.Helper()
	bin := t.TempDir()
	for _, name := range plugins {
		if err := os.WriteFile(filepath.Join(bin, name), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n := New(Config{
		Node: "a", ConfDir: filepath.Join(t.TempDir(), "net.d"), BinDirs: []string{"/nowhere", bin}, StateDir: "/state",
		Recorder: record.NewFakeRecorder(10), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	fakes := map[knftables.Family]*knftables.Fake{}
	n.tables = func(family knftables.Family) (knftables.Interface, error) {
		if fakes[family] == nil {
			fakes[family] = knftables.NewFake(family, table)
		}
		return fakes[family], nil
	}
	return n, fakes
}

func node(name, address string, pods ...string) podnetwork.Network {
	n := podnetwork.Network{Node: name, Addresses: []netip.Addr{netip.MustParseAddr(address)}}
	for _, p := range pods {
		n.Pods = append(n.Pods, netip.MustParsePrefix(p))
	}
	return n
}

// ours are the routes by our protocol, and others' that go to the networks of tests.
func ours(t *testing.T) []string {
	t.Helper()
	list, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, r := range list {
		if len(r.Gw) > 0 {
			texts = append(texts, fmt.Sprintf("%s via %s %d", r.Dst, r.Gw, r.Protocol))
		}
	}
	return texts
}

func TestRoutes(t *testing.T) {
	apart(t)
	segment(t, "192.168.5.1/24")
	n, _ := newNetwork(t)
	self := node("a", "192.168.5.1", "10.244.0.0/24")
	for _, step := range []struct {
		what   string
		others []podnetwork.Network
		want   []string
	}{
		{what: "alone"},
		{
			what: "two others, and one that is elsewhere", others: []podnetwork.Network{
				node("b", "192.168.5.2", "10.244.1.0/24"), node("c", "192.168.5.3", "10.244.2.0/24", "fd00::/64"), node("d", "172.16.0.1", "10.244.3.0/24"),
			},
			want: []string{"10.244.1.0/24 via 192.168.5.2 82", "10.244.2.0/24 via 192.168.5.3 82"},
		},
		{
			what: "one has a new address, the other is gone", others: []podnetwork.Network{node("b", "192.168.5.9", "10.244.1.0/24")},
			want: []string{"10.244.1.0/24 via 192.168.5.9 82"},
		},
		{what: "alone again"},
	} {
		for range 2 { // the second time there is nothing to do
			if err := n.routes(append([]podnetwork.Network{self}, step.others...)); err != nil {
				t.Fatalf("%s: %v", step.what, err)
			}
			if diff := cmp.Diff(step.want, ours(t)); diff != "" {
				t.Fatalf("%s: want -, got +:\n%s", step.what, diff)
			}
		}
	}
}

// TestOthersRoute: a route that an operator made is left as it is, and behind a gateway no node is reached.
func TestOthersRoute(t *testing.T) {
	apart(t)
	segment(t, "192.168.5.1/24")
	n, _ := newNetwork(t)
	link, err := netlink.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{"10.244.1.0/24", "0.0.0.0/0"} {
		_, dst, err := net.ParseCIDR(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Gw: netip.MustParseAddr("192.168.5.254").AsSlice(), LinkIndex: link.Attrs().Index}); err != nil {
			t.Fatal(err)
		}
	}
	before := ours(t)
	nodes := []podnetwork.Network{
		node("a", "192.168.5.1", "10.244.0.0/24"), node("b", "192.168.5.2", "10.244.1.0/24"), node("c", "172.16.0.1", "10.244.3.0/24"),
	}
	for _, list := range [][]podnetwork.Network{nodes, nil} {
		if err := n.routes(list); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, ours(t)); diff != "" {
			t.Fatalf("want -, got +:\n%s", diff)
		}
	}
}

func TestMasquerade(t *testing.T) {
	t.Parallel()
	n, fakes := newNetwork(t)
	nodes := []podnetwork.Network{node("a", "192.168.5.1", "10.244.0.0/24"), node("b", "192.168.5.2", "10.244.1.0/24", "fd00:1::/64")}
	for range 2 {
		if err := n.masquerade(t.Context(), nodes); err != nil {
			t.Fatal(err)
		}
	}
	want := strings.TrimSpace(`
add table ip rowlock-pods { comment "pod network of rowlock's agent" ; }
add chain ip rowlock-pods input { type filter hook input priority 0 ; }
add chain ip rowlock-pods postrouting { type nat hook postrouting priority 100 ; }
add set ip rowlock-pods pods { type ipv4_addr ; flags interval ; auto-merge ; comment "all nodes' pods" ; }
add rule ip rowlock-pods input iifname rowlock0 ip daddr 127.0.0.0/8 ct state != { established, related } drop
add rule ip rowlock-pods postrouting ip daddr 224.0.0.0/4 return
add rule ip rowlock-pods postrouting ip saddr 10.244.0.0/24 ip daddr != @pods masquerade fully-random
add rule ip rowlock-pods postrouting oifname rowlock0 ip saddr 127.0.0.0/8 masquerade
add element ip rowlock-pods pods { 10.244.0.0/24 }
add element ip rowlock-pods pods { 10.244.1.0/24 }`)
	if diff := cmp.Diff(want, strings.TrimSpace(fakes[knftables.IPv4Family].Dump())); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if got := fakes[knftables.IPv6Family].Dump(); got != "" {
		t.Errorf("without IPv6 there is %s", got)
	}
}

// TestNft has the real program take the table, and take it away.
func TestNft(t *testing.T) {
	apart(t)
	n, _ := newNetwork(t)
	n.tables = New(Config{}).tables
	if _, err := n.tables(knftables.IPv4Family); err != nil {
		t.Skipf("nftables: %v", err)
	}
	nodes := []podnetwork.Network{node("a", "192.168.5.1", "10.244.0.0/24", "fd00:0:0:1::/64"), node("b", "192.168.5.2", "10.244.1.0/24", "10.244.1.0/24")}
	for range 2 {
		if err := n.masquerade(t.Context(), nodes); err != nil {
			t.Fatal(err)
		}
	}
	nft, err := n.tables(knftables.IPv4Family)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := nft.ListRules(t.Context(), "postrouting")
	if err != nil || len(rules) != 3 {
		t.Errorf("the rules are %v, %v", rules, err)
	}
	if err := n.unmasquerade(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := nft.List(t.Context(), "chains"); !knftables.IsNotFound(err) {
		t.Errorf("the table is still there: %v", err)
	}
}

func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestConfiguration(t *testing.T) {
	t.Parallel()
	golden := filepath.Join("testdata", file)
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	pods := []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24"), netip.MustParsePrefix("fd00::/64")}
	if diff := cmp.Diff(string(want), string(configuration(pods, 1450, "/run/rowlock/addresses"))); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// TestStandBack: ours is written when there is no other, and goes with all else when there is one.
func TestStandBack(t *testing.T) {
	apart(t)
	segment(t, "192.168.5.1/24")
	n, fakes := newNetwork(t)
	nodes := []podnetwork.Network{node("a", "192.168.5.1", "10.244.0.0/24"), node("b", "192.168.5.2", "10.244.1.0/24")}
	apply := func() {
		t.Helper()
		if err := n.apply(t.Context(), nodes, nil); err != nil {
			t.Fatal(err)
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(n.ConfDir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	for name, text := range map[string]string{
		"99-loopback.conf": `{"cniVersion":"1.0.0","type":"loopback"}`, "05-broken.conf": "{", "calico-kubeconfig": `{"type":"x"}`,
		".calico.conflist.tmp": `{"type":"x"}`,
	} {
		put(name, text)
	}
	apply()
	ourFiles := []string{".calico.conflist.tmp", "05-broken.conf", file, "99-loopback.conf", "calico-kubeconfig"}
	if diff := cmp.Diff(ourFiles, files(t, n.ConfDir)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if len(ours(t)) != 1 || fakes[knftables.IPv4Family].Dump() == "" {
		t.Errorf("routes %v, tables %s", ours(t), fakes[knftables.IPv4Family].Dump())
	}
	put("20-calico.conflist", `{"name":"calico","plugins":[{"type":"calico"}]}`)
	apply()
	if got := files(t, n.ConfDir); strings.Contains(fmt.Sprint(got), file) {
		t.Errorf("beside another network there are %v", got)
	}
	if len(ours(t)) != 0 || fakes[knftables.IPv4Family].Dump() != "" {
		t.Errorf("routes %v, tables %s", ours(t), fakes[knftables.IPv4Family].Dump())
	}
	if err := os.Remove(filepath.Join(n.ConfDir, "20-calico.conflist")); err != nil {
		t.Fatal(err)
	}
	apply()
	if diff := cmp.Diff(ourFiles, files(t, n.ConfDir)); diff != "" || len(ours(t)) != 1 {
		t.Errorf("routes %v; want -, got +:\n%s", ours(t), diff)
	}
}

// TestMissingPlugins: without plugins there is no configuration, and the node says which are wanting.
func TestMissingPlugins(t *testing.T) {
	t.Parallel()
	n, _ := newNetwork(t)
	if err := os.Remove(filepath.Join(n.BinDirs[1], "portmap")); err != nil {
		t.Fatal(err)
	}
	nodes := []podnetwork.Network{node("a", "192.168.5.1", "10.244.0.0/24")}
	for range 2 {
		if err := n.apply(t.Context(), nodes, nil); err == nil || !strings.Contains(err.Error(), ": portmap (") {
			t.Errorf("the problem is %v", err)
		}
	}
	if _, err := os.Stat(filepath.Join(n.ConfDir, file)); !os.IsNotExist(err) {
		t.Errorf("the configuration is there: %v", err)
	}
	events := n.Recorder.(*record.FakeRecorder).Events
	if len(events) != 1 || !strings.HasPrefix(<-events, "Warning MissingNetworkPlugins CNI plugins are missing") {
		t.Errorf("there are %d events", len(events))
	}
}

// TestRun: the network comes with the node's CIDR and with what is said of the other nodes, which it follows, and asks for nothing else.
func TestRun(t *testing.T) {
	n, _ := newNetwork(t)
	var self atomic.Pointer[corev1.Node]
	client := fake.NewClientset()
	n.Self, n.Client = self.Load, client
	var forbidden atomic.Bool
	forbidden.Store(true)
	client.PrependReactor("*", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		return forbidden.Load(), nil, apierrors.NewForbidden(a.GetResource().GroupResource(), "", nil)
	})
	ctx, cancel := context.WithCancel(t.Context())
	done, inside := make(chan struct{}), make(chan *netlink.Handle, 1)
	go func() {
		defer close(done)
		defer close(inside)
		apart(t)
		segment(t, "192.168.5.1/24")
		if h, err := netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			t.Error(err)
		} else {
			inside <- h
			_ = n.Run(ctx)
		}
	}()
	defer func() {
		cancel()
		<-done
	}()
	h := <-inside
	if h == nil {
		return
	}
	defer h.Close()
	routes := func() string {
		list, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: protocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			t.Fatal(err)
		}
		var texts []string
		for _, r := range list {
			texts = append(texts, r.Dst.String()+" via "+r.Gw.String())
		}
		return strings.Join(texts, ", ")
	}
	await := func(what string, f func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: problem %v, routes %s", what, n.Problem(), routes())
			}
		}
	}
	says := func(text string) {
		t.Helper()
		await(text, func() bool { return n.Problem() != nil && strings.Contains(n.Problem().Error(), text) })
	}
	says("is not known yet")
	self.Store(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a"}})
	n.Changed()
	says("other nodes' pod networks are not known yet")
	forbidden.Store(false)
	says("no pod CIDR yet")
	self.Store(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.244.7.0/24"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.168.5.1"}}},
	})
	n.Changed()
	await("the network comes", func() bool { return n.Problem() == nil })
	data, err := os.ReadFile(filepath.Join(n.ConfDir, file))
	if err != nil || !strings.Contains(string(data), "10.244.7.0/24") {
		t.Errorf("the configuration is %s, %v", data, err)
	}
	objects := client.CoreV1().ConfigMaps(podnetwork.Namespace)
	object := node("b", "192.168.5.2", "10.244.8.0/24").ConfigMap()
	if _, err := objects.Create(ctx, object, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("a node comes", func() bool { return routes() == "10.244.8.0/24 via 192.168.5.2" })
	if _, err := objects.Update(ctx, node("b", "192.168.5.3", "10.244.8.0/24").ConfigMap(), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await("it moves", func() bool { return routes() == "10.244.8.0/24 via 192.168.5.3" })
	if err := objects.Delete(ctx, object.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await("it goes", func() bool { return routes() == "" })
	for _, a := range client.Actions() {
		if a.GetResource().Resource != "configmaps" {
			t.Errorf("%s of %s", a.GetVerb(), a.GetResource())
		}
	}
}
