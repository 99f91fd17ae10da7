package podnetwork

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

var asText = cmp.Transformer("text", func(v interface{ String() string }) string { return v.String() })

// TestRoundTrip: what the control plane writes of a Node is what nodes read.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "a.example.com", UID: "u"},
		Spec:       corev1.NodeSpec{PodCIDR: "10.244.1.0/24", PodCIDRs: []string{"10.244.1.0/24", "fd00:0:0:1::7/64", "nonsense"}},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeExternalIP, Address: "203.0.113.1"},
			{Type: corev1.NodeHostName, Address: "a"},
			{Type: corev1.NodeInternalIP, Address: "a"},
			{Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			{Type: corev1.NodeInternalIP, Address: "192.0.2.2"},
			{Type: corev1.NodeInternalIP, Address: "fe80::1%eth0"},
			{Type: corev1.NodeInternalIP, Address: "2001:db8::1"},
		}},
	}
	want := Network{
		Node: "a.example.com", UID: "u", Pods: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:0:0:1::/64")},
		Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")},
	}
	got := Of(node)
	if d := cmp.Diff(want, got, asText); d != "" || !got.Equal(want) || !got.Complete() {
		t.Errorf("want -, got +:\n%s", d)
	}
	object := got.ConfigMap()
	read, err := Read(object)
	if err != nil || !read.Equal(want) {
		t.Errorf("%v, want -, got +:\n%s", err, cmp.Diff(want, read, asText))
	}
	object.Name = "pod-network.b"
	if _, err := Read(object); err == nil {
		t.Error("an object is read that does not belong to its node")
	}
	if Of(&corev1.Node{}).Complete() {
		t.Error("a node without a network is complete")
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	label := strings.Repeat("a", 63)
	long := strings.Join([]string{label, label, label, strings.Repeat("a", 61)}, ".")
	seen := map[string]string{}
	for _, node := range []string{"a", "b", "a.example.com", long, long[1:], long[12:], "sha256." + long[12:]} {
		if errs := validation.IsDNS1123Subdomain(node); len(errs) > 0 {
			t.Fatalf("%q is no name of a node: %v", node, errs)
		}
		name := Name(node)
		if errs := validation.IsDNS1123Subdomain(name); len(errs) > 0 {
			t.Errorf("%q: %v", name, errs)
		}
		if other, ok := seen[name]; ok {
			t.Errorf("%q and %q are both called %q", node, other, name)
		}
		seen[name] = node
	}
}

func TestOverlaps(t *testing.T) {
	t.Parallel()
	of := func(pods ...string) (n Network) {
		for _, p := range pods {
			n.addPods(p)
		}
		return n
	}
	for _, tt := range []struct {
		a, b Network
		want bool
	}{
		{of("10.1.0.0/24"), of("10.1.1.0/24"), false},
		{of("10.1.0.0/24"), of("10.1.0.0/16"), true},
		{of("10.1.0.0/24", "fd00::/64"), of("10.1.1.0/24", "fd00::/64"), true},
		{of("10.1.0.0/24"), of(), false},
		{of("0.0.0.0/0"), of("fd00::/64"), false},
	} {
		if got := tt.a.Overlaps(tt.b); got != tt.want || got != tt.b.Overlaps(tt.a) {
			t.Errorf("%v and %v: %v", tt.a.Pods, tt.b.Pods, got)
		}
	}
}
