package controllers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// asked is a request for a certificate, of a node unless a test says otherwise.
type asked struct {
	signer, user string
	groups       []string
	usages       []certificatesv1.KeyUsage
	template     x509.CertificateRequest
}

func servingCertificate(names []string, addresses ...string) asked {
	a := asked{
		signer: certificatesv1.KubeletServingSignerName, user: "system:node:a", groups: []string{"system:nodes", "system:authenticated"},
		usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageServerAuth},
		template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes"}}, DNSNames: names},
	}
	for _, text := range addresses {
		a.template.IPAddresses = append(a.template.IPAddresses, net.ParseIP(text))
	}
	return a
}

func clientCertificate(user, node string) asked {
	return asked{
		signer: certificatesv1.KubeAPIServerClientKubeletSignerName, user: user,
		usages:   []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageClientAuth},
		template: x509.CertificateRequest{Subject: pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}},
	}
}

func (a asked) request(t *testing.T) *certificatesv1.CertificateSigningRequest {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &a.template, key)
	if err != nil {
		t.Fatal(err)
	}
	return &certificatesv1.CertificateSigningRequest{ObjectMeta: metav1.ObjectMeta{Name: "r"}, Spec: certificatesv1.CertificateSigningRequestSpec{
		Request: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), SignerName: a.signer, Username: a.user, Groups: a.groups, Usages: a.usages,
	}}
}

func nodeWith(name, podRange string, addresses ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.NodeSpec{PodCIDR: podRange, PodCIDRs: []string{podRange}}}
	for _, a := range addresses {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
	}
	return n
}

func leaseOf(name string, renewed time.Time) *coordinationv1.Lease {
	return &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: name}, Spec: coordinationv1.LeaseSpec{
		RenewTime: &metav1.MicroTime{Time: renewed}, LeaseDurationSeconds: ptr.To[int32](40),
	}}
}

// TestApproves shows what is approved, and what an attacker with a token or with one node's certificate asks for in vain.
func TestApproves(t *testing.T) {
	t.Parallel()
	objects := []runtime.Object{
		nodeWith("a", "10.244.0.0/24", "192.0.2.1", "2001:db8::1", "10.96.0.7", "192.0.2.2", "10.244.1.9", "192.0.2.100", "192.0.2.101", "127.0.0.1", "169.254.0.1"),
		nodeWith("b", "10.244.1.0/24", "192.0.2.2"),
		nodeWith("local", "", "192.0.2.100"), nodeWith("kubernetes", ""), nodeWith("api.example.com", ""), nodeWith("x.svc", ""), nodeWith("dead", ""),
		leaseOf("a", time.Now()), leaseOf("b", time.Now()), leaseOf("dead", time.Now().Add(-time.Minute)),
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16"}}},
		&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
			Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.101"}}},
		},
	}
	as := func(a asked, change func(*asked)) asked { change(&a); return a }
	named := func(name string) asked {
		return as(servingCertificate([]string{name}), func(a *asked) {
			a.user, a.template.Subject.CommonName = "system:node:"+name, "system:node:"+name
		})
	}
	const token = "system:bootstrap:abcdef"
	for name, tt := range map[string]struct {
		asked
		why string // in the error; "": it is approved
		no  bool   // nor is there an error: it is somebody else's business
	}{
		"name and address":          {asked: servingCertificate([]string{"a"}, "192.0.2.1")},
		"two addresses":             {asked: servingCertificate([]string{"a"}, "192.0.2.1", "2001:db8::1")},
		"another's name":            {asked: servingCertificate([]string{"b"}, "192.0.2.1"), why: "is not the node's"},
		"a server's name besides":   {asked: servingCertificate([]string{"a", "kubernetes.default.svc"}, "192.0.2.1"), why: "is not the node's"},
		"a wildcard":                {asked: servingCertificate([]string{"*"}, "192.0.2.1"), why: "is not the node's"},
		"a node called kubernetes":  {asked: named("kubernetes"), why: "belongs to the cluster"},
		"a node called x.svc":       {asked: named("x.svc"), why: "belongs to the cluster"},
		"a node called as a server": {asked: named("api.example.com"), why: "is a server's"},
		"no such node":              {asked: named("nobody"), why: "there is no such node"},
		"another's address":         {asked: servingCertificate([]string{"a"}, "192.0.2.2"), why: "is that of node b"},
		"a service's address":       {asked: servingCertificate([]string{"a"}, "10.96.0.7"), why: "is in the range of services"},
		"a pod's address":           {asked: servingCertificate([]string{"a"}, "10.244.1.9"), why: "is in the range of pods of node b"},
		"a server's endpoint":       {asked: servingCertificate([]string{"a"}, "192.0.2.101"), why: "is a server's"},
		"loopback":                  {asked: servingCertificate([]string{"a"}, "127.0.0.1"), why: "is none that others reach a node by"},
		"link-local":                {asked: servingCertificate([]string{"a"}, "169.254.0.1"), why: "is none that others reach a node by"},
		"an address it has not":     {asked: servingCertificate([]string{"a"}, "192.0.2.77"), why: "is not in the node's status"},
		"for another node":          {asked: as(servingCertificate([]string{"a"}, "192.0.2.1"), func(a *asked) { a.user = "system:node:b" }), no: true},
		"by a person":               {asked: as(servingCertificate([]string{"a"}, "192.0.2.1"), func(a *asked) { a.groups = nil }), no: true},
		"a URI":                     {asked: as(servingCertificate([]string{"a"}, "192.0.2.1"), func(a *asked) { a.template.URIs = []*url.URL{{Scheme: "spiffe", Host: "a"}} }), no: true},
		"as a client, too":          {asked: as(servingCertificate([]string{"a"}, "192.0.2.1"), func(a *asked) { a.usages = append(a.usages, certificatesv1.UsageClientAuth) }), no: true},

		"a new node":               {asked: clientCertificate(token, "new")},
		"a renewal":                {asked: clientCertificate("system:node:a", "a")},
		"a node that is off":       {asked: clientCertificate(token, "dead")},
		"a node that is alive":     {asked: clientCertificate(token, "a"), why: "is alive"},
		"another node":             {asked: clientCertificate("system:node:a", "b"), why: "subject access review was not approved"},
		"somebody without a right": {asked: clientCertificate("alice", "new"), why: "subject access review was not approved"},
		"a person's certificate":   {asked: as(clientCertificate(token, "new"), func(a *asked) { a.template.Subject.Organization = []string{"system:masters"} }), no: true},
		"another signer":           {asked: as(clientCertificate(token, "new"), func(a *asked) { a.signer = certificatesv1.KubeAPIServerClientSignerName }), no: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			request := tt.request(t)
			client := fake.NewClientset(append(objects, request)...)
			client.PrependReactor("create", "subjectaccessreviews", func(action clienttesting.Action) (bool, runtime.Object, error) {
				review := action.(clienttesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
				of, self := review.Spec.User, review.Spec.ResourceAttributes.Subresource == "selfnodeclient"
				review.Status.Allowed = !self && of == token || self && strings.HasPrefix(of, "system:node:")
				return true, review, nil
			})
			a := approverOf(t, client)
			err := a.handle(t.Context(), request.DeepCopy())
			got, getErr := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
			if getErr != nil {
				t.Fatal(getErr)
			}
			approved := len(got.Status.Conditions) == 1 && got.Status.Conditions[0].Type == certificatesv1.CertificateApproved
			switch {
			case tt.why != "" && (approved || err == nil || !strings.Contains(err.Error(), tt.why)):
				t.Errorf("approved %v, error %v; want %q", approved, err, tt.why)
			case tt.why == "" && (err != nil || approved == tt.no):
				t.Errorf("approved %v, error %v", approved, err)
			}
		})
	}
}

func approverOf(t *testing.T, client *fake.Clientset) *approver {
	t.Helper()
	f := informers.NewSharedInformerFactory(client, 0)
	a := &approver{
		client: client, log: slog.New(slog.DiscardHandler), now: time.Now,
		own:   Own{Names: []string{"api.example.com", "198.51.100.1"}, Node: func(name string) bool { return name == "local" }},
		nodes: f.Core().V1().Nodes().Lister(), leases: f.Coordination().V1().Leases().Lister().Leases(corev1.NamespaceNodeLease),
		ranges: f.Networking().V1().ServiceCIDRs().Lister(), servers: f.Discovery().V1().EndpointSlices().Lister().EndpointSlices("default"),
	}
	ctx, stop := context.WithCancel(t.Context())
	f.Start(ctx.Done())
	f.WaitForCacheSync(ctx.Done())
	t.Cleanup(func() { stop(); f.Shutdown() })
	return a
}

// TestApprovesLocalNode: the node in the server's own process has the server's address.
func TestApprovesLocalNode(t *testing.T) {
	t.Parallel()
	endpoints := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes", Labels: map[string]string{discoveryv1.LabelServiceName: "kubernetes"}},
		Endpoints:  []discoveryv1.Endpoint{{Addresses: []string{"192.0.2.100"}}},
	}
	a := servingCertificate([]string{"local"}, "192.0.2.100")
	a.user, a.template.Subject.CommonName = "system:node:local", "system:node:local"
	request := a.request(t)
	client := fake.NewClientset(nodeWith("local", "", "192.0.2.100"), endpoints, request)
	if err := approverOf(t, client).handle(t.Context(), request.DeepCopy()); err != nil {
		t.Error(err)
	}
	got, err := client.CertificatesV1().CertificateSigningRequests().Get(t.Context(), "r", metav1.GetOptions{})
	if err != nil || len(got.Status.Conditions) != 1 {
		t.Errorf("%v, %v", got, err)
	}
}
