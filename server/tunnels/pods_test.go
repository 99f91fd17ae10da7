package tunnels

import (
	"context"
	"errors"
	"net"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

type slicesOf []*discoveryv1.EndpointSlice

func (s slicesOf) GetEndpointSlices(string, string) ([]*discoveryv1.EndpointSlice, error) {
	return s, nil
}

// Whoever may write EndpointSlices does not choose where agents connect to: what they say has to be so by the pod's status, too.
func TestBehind(t *testing.T) {
	t.Parallel()
	const its = "10.1.0.7"
	pods := map[string]*corev1.Pod{
		"pod":   {Spec: corev1.PodSpec{NodeName: "one"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: its}, {IP: "fd00::7"}}}},
		"host":  {Spec: corev1.PodSpec{NodeName: "one", HostNetwork: true}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: its}}}},
		"moved": {Spec: corev1.PodSpec{NodeName: "one"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: "10.1.0.8"}}}},
		"away":  {Spec: corev1.PodSpec{NodeName: "two"}, Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: its}}}},
		"new":   {},
	}
	no := false
	ref := func(kind, namespace, name string) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{Addresses: []string{its, "fd00::7"}, TargetRef: &corev1.ObjectReference{Kind: kind, Namespace: namespace, Name: name}}
	}
	unready := ref("Pod", "default", "pod")
	unready.Conditions.Ready = &no
	for name, tt := range map[string]struct {
		endpoints []discoveryv1.Endpoint
		address   string
		directly  bool
		own, want bool
	}{
		"a pod":                   {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "pod")}, want: true},
		"by IPv6":                 {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "pod")}, address: "[fd00::7]:443", want: true},
		"in the node's network":   {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "host")}, own: true, want: true},
		"of several, one is it":   {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "moved"), ref("Pod", "", "pod"), ref("Pod", "default", "away")}, want: true},
		"another address":         {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "pod")}, address: "10.1.0.9:443"},
		"a name":                  {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "pod")}, address: "example.com:443"},
		"not its address":         {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "moved")}},
		"a node without a tunnel": {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "away")}},
		"on no node yet":          {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "new")}},
		"no pod":                  {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "gone")}},
		"another namespace's":     {endpoints: []discoveryv1.Endpoint{ref("Pod", "kube-system", "pod")}},
		"another kind":            {endpoints: []discoveryv1.Endpoint{ref("Node", "default", "pod")}},
		"nobody":                  {endpoints: []discoveryv1.Endpoint{{Addresses: []string{its}}}},
		"not ready":               {endpoints: []discoveryv1.Endpoint{unready}},
		"pods are dialled":        {endpoints: []discoveryv1.Endpoint{ref("Pod", "default", "pod")}, directly: true},
	} {
		dialled := ""
		tunnels := &Tunnels{held: map[string]*held{"one": {node: "one"}}, cfg: Config{
			Slices: slicesOf{{Endpoints: tt.endpoints}}, PodsDirectly: tt.directly,
			Pod: func(_ context.Context, namespace, name string) (*corev1.Pod, error) {
				if namespace != "default" || pods[name] == nil {
					return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, name)
				}
				return pods[name], nil
			},
			Direct: func(_ context.Context, _, address string) (net.Conn, error) {
				dialled = address
				return nil, errors.New("directly")
			},
		}}
		if tt.address == "" {
			tt.address = its + ":443"
		}
		node, own, ok := tunnels.behind(t.Context(), "default", "web", tt.address)
		if ok != tt.want || ok && node != "one" || own != tt.own {
			t.Errorf("%s: %q, %v, %v", name, node, own, ok)
		}
		if tt.want {
			continue
		}
		if _, err := tunnels.DialService(t.Context(), "default", "web", "tcp", tt.address); err == nil || dialled != tt.address {
			t.Errorf("%s: dialled %q, %v", name, dialled, err)
		}
	}
}
