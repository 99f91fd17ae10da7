package outbound

import (
	"net/url"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
)

func TestResolver(t *testing.T) {
	t.Parallel()
	port := []corev1.ServicePort{{Name: "https", Port: 443}}
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{})
	for name, spec := range map[string]corev1.ServiceSpec{
		"some":     {Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.9", Ports: port},
		"headless": {Type: corev1.ServiceTypeClusterIP, ClusterIP: corev1.ClusterIPNone, Ports: port},
		"empty":    {Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.96.0.8", Ports: port},
		"external": {Type: corev1.ServiceTypeExternalName, ExternalName: "hooks.example.com"},
	} {
		if err := store.Add(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: spec}); err != nil {
			t.Fatal(err)
		}
	}
	https, number, no := "https", int32(8443), false
	slice := func(name, service string) *discoveryv1.EndpointSlice {
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
			Ports:      []discoveryv1.EndpointPort{{Name: &https, Port: &number}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"192.0.2.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
				{Addresses: []string{"192.0.2.2"}},
			},
		}
	}
	cfg := ResolverConfig{
		Services: listers.NewServiceLister(store),
		Slices:   NewSlices(fake.NewClientset(slice("a", "some"), slice("b", "headless"))),
		Self:     &url.URL{Scheme: "https", Host: "self:443"},
	}
	for _, tc := range []struct {
		service   string
		port      int32
		endpoints bool
		want      string // "" for an error
	}{
		{"some", 443, false, "10.96.0.9:443"},
		{"some", 443, true, "192.0.2.2:8443"},
		{"some", 80, true, ""},
		{"headless", 443, false, ""},
		{"headless", 443, true, "192.0.2.2:8443"},
		{"empty", 443, true, ""},
		{"external", 8443, false, "hooks.example.com:8443"},
		{"external", 8443, true, "hooks.example.com:8443"},
		{"none", 443, true, ""},
		{"kubernetes", 443, true, ""}, // of another namespace
		{"default/kubernetes", 443, true, "self:443"},
		{"default/kubernetes", 443, false, "self:443"},
		{"default/kubernetes", 80, true, ""},
	} {
		cfg.ToEndpoints = tc.endpoints
		namespace, service, ok := strings.Cut(tc.service, "/")
		if !ok {
			namespace, service = "ns", tc.service
		}
		got, err := NewResolver(cfg).ResolveEndpoint(namespace, service, tc.port)
		switch {
		case err != nil && tc.want != "":
			t.Errorf("%+v: %v", tc, err)
		case err == nil && (got.Host != tc.want || got.Scheme != "https"):
			t.Errorf("%+v: %s", tc, got)
		}
	}
}
