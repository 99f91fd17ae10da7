package controllers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"
	upstream "k8s.io/kubernetes/pkg/controller/certificates/signer"
	"k8s.io/utils/ptr"
)

// What kube-controller-manager answers with a key in files, the loop with the key in memory answers too.
func TestSignsAsUpstream(t *testing.T) {
	t.Parallel()
	const lifetime = 240 * time.Hour
	ca := newCA(t)
	node := pkix.Name{CommonName: "system:node:a", Organization: []string{"system:nodes"}}
	client := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageClientAuth}
	serving := []certificatesv1.KeyUsage{certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment, certificatesv1.UsageServerAuth}
	const (
		signed = "signed"
		failed = "failed"
		left   = "left alone"
	)
	type asked struct {
		signer     string
		template   x509.CertificateRequest
		usages     []certificatesv1.KeyUsage
		expiration *int32
		conditions []certificatesv1.RequestConditionType
		request    []byte // instead of one made of template
		want       string
	}
	approved := []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved}
	address := x509.CertificateRequest{Subject: node, DNSNames: []string{"a"}, IPAddresses: []net.IP{{10, 0, 0, 1}}}
	requests := map[string]asked{
		"kubelet client":            {certificatesv1.KubeAPIServerClientKubeletSignerName, x509.CertificateRequest{Subject: node}, client, nil, approved, nil, signed},
		"kubelet client, names":     {certificatesv1.KubeAPIServerClientKubeletSignerName, address, client, nil, approved, nil, failed},
		"kubelet client, no node":   {certificatesv1.KubeAPIServerClientKubeletSignerName, x509.CertificateRequest{Subject: pkix.Name{CommonName: "a"}}, client, nil, approved, nil, failed},
		"kubelet client, usages":    {certificatesv1.KubeAPIServerClientKubeletSignerName, x509.CertificateRequest{Subject: node}, serving, nil, approved, nil, failed},
		"kubelet serving":           {certificatesv1.KubeletServingSignerName, address, serving, nil, approved, nil, signed},
		"kubelet serving, no names": {certificatesv1.KubeletServingSignerName, x509.CertificateRequest{Subject: node}, serving, nil, approved, nil, failed},
		"client":                    {certificatesv1.KubeAPIServerClientSignerName, x509.CertificateRequest{Subject: pkix.Name{CommonName: "jane", Organization: []string{"dev"}}}, client, nil, approved, nil, signed},
		"client, server's usage":    {certificatesv1.KubeAPIServerClientSignerName, x509.CertificateRequest{Subject: node}, serving, nil, approved, nil, failed},
		"client, usage missing":     {certificatesv1.KubeAPIServerClientSignerName, x509.CertificateRequest{Subject: node}, client[:2], nil, approved, nil, failed},
		"legacy":                    {certificatesv1beta1.LegacyUnknownSignerName, address, []certificatesv1.KeyUsage{certificatesv1.UsageAny, certificatesv1.UsageCRLSign}, nil, approved, nil, signed},
		"legacy, no such usage":     {certificatesv1beta1.LegacyUnknownSignerName, address, []certificatesv1.KeyUsage{"sun bathing"}, nil, approved, nil, left},
		"shorter":                   {certificatesv1.KubeAPIServerClientSignerName, address, client, ptr.To[int32](36000), approved, nil, signed},
		"short":                     {certificatesv1.KubeAPIServerClientSignerName, address, client, ptr.To[int32](1800), approved, nil, signed},
		"too short":                 {certificatesv1.KubeAPIServerClientSignerName, address, client, ptr.To[int32](60), approved, nil, signed},
		"too long":                  {certificatesv1.KubeAPIServerClientSignerName, address, client, ptr.To[int32](1 << 30), approved, nil, signed},
		"not approved":              {certificatesv1.KubeAPIServerClientSignerName, address, client, nil, nil, nil, left},
		"denied":                    {certificatesv1.KubeAPIServerClientSignerName, address, client, nil, []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateDenied}, nil, left},
		"failed":                    {certificatesv1.KubeAPIServerClientSignerName, address, client, nil, []certificatesv1.RequestConditionType{certificatesv1.CertificateApproved, certificatesv1.CertificateFailed}, nil, left},
		"another signer":            {"example.com/mine", address, client, nil, approved, nil, left},
		"unknown signer":            {"kubernetes.io/kube-apiserver-serving", address, client, nil, approved, nil, left},
		"no request":                {certificatesv1.KubeAPIServerClientSignerName, address, client, nil, approved, []byte("garbage"), left},
	}
	var objects []*certificatesv1.CertificateSigningRequest
	want := map[string]string{}
	for name, a := range requests {
		want[name] = a.want
		csr := &certificatesv1.CertificateSigningRequest{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       certificatesv1.CertificateSigningRequestSpec{SignerName: a.signer, Usages: a.usages, ExpirationSeconds: a.expiration, Request: a.request},
		}
		if a.request == nil {
			csr.Spec.Request = newRequest(t, a.template)
		}
		for _, c := range a.conditions {
			csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: c, Status: corev1.ConditionTrue})
		}
		objects = append(objects, csr)
	}
	answers := func(start func(context.Context, *fake.Clientset, informers.SharedInformerFactory)) map[string]answer {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		kube := fake.NewClientset()
		for _, o := range objects {
			if err := kube.Tracker().Add(o.DeepCopy()); err != nil {
				t.Fatal(err)
			}
		}
		factory := informers.NewSharedInformerFactory(kube, 0)
		start(ctx, kube, factory)
		factory.Start(ctx.Done())
		got := map[string]answer{}
		err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
			list, err := kube.CertificatesV1().CertificateSigningRequests().List(ctx, metav1.ListOptions{})
			if err != nil {
				return false, err
			}
			open := false
			for _, csr := range list.Items {
				got[csr.Name] = answerOf(t, ca, csr)
				a, r := got[csr.Name], requests[csr.Name]
				open = open || r.want != left && a.Certificate == nil && len(a.Conditions) == len(r.conditions)
			}
			return !open, nil
		})
		if err != nil {
			t.Errorf("waiting for answers: %v", err)
		}
		return got
	}

	cert, key := ca.files(t)
	theirs := answers(func(ctx context.Context, kube *fake.Clientset, f informers.SharedInformerFactory) {
		for signer := range accepts {
			c, err := upstream.NewCSRSigningController(ctx, "test", signer, kube, f.Certificates().V1().CertificateSigningRequests(), cert, key, lifetime)
			if err != nil {
				t.Fatal(err)
			}
			go c.Run(ctx, 1)
		}
	})
	ours := answers(func(ctx context.Context, kube *fake.Clientset, f informers.SharedInformerFactory) {
		inside := app.ControllerContext{ClientBuilder: fakeClients{kube: kube}, InformerFactory: f}
		inside.ComponentConfig.CSRSigningController.ClusterSigningDuration.Duration = lifetime
		c, err := signs(&authority.CertificateAuthority{Certificate: ca.cert, PrivateKey: ca.key})(ctx, inside)
		if err != nil {
			t.Fatal(err)
		}
		go c.Run(ctx)
	})
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("upstream's answers and ours (-upstream's +ours):\n%s", diff)
	}
	got := map[string]string{}
	for name, a := range ours {
		switch {
		case a.Certificate != nil:
			got[name] = signed
		case len(a.Conditions) > len(requests[name].conditions):
			got[name] = failed
		default:
			got[name] = left
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
}

// fakeClients are of one fake cluster.
type fakeClients struct {
	Clients
	kube *fake.Clientset
}

func (f fakeClients) Client(string) (kubernetes.Interface, error) { return f.kube, nil }

// answer is what a signer said of a request, without what differs each time.
type answer struct {
	Conditions  []certificatesv1.CertificateSigningRequestCondition
	Certificate *x509.Certificate
	Lifetime    time.Duration
}

func answerOf(t *testing.T, ca testCA, csr certificatesv1.CertificateSigningRequest) answer {
	t.Helper()
	a := answer{Conditions: csr.Status.Conditions}
	for i := range a.Conditions {
		a.Conditions[i].LastUpdateTime = metav1.Time{}
	}
	if len(csr.Status.Certificate) == 0 {
		return a
	}
	block, rest := pem.Decode(csr.Status.Certificate)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) > 0 {
		t.Fatalf("%s: not a certificate: %q", csr.Name, csr.Status.Certificate)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", csr.Name, err)
	}
	if err := c.CheckSignatureFrom(ca.cert); err != nil {
		t.Errorf("%s: %v", csr.Name, err)
	}
	if c.NotBefore.After(time.Now().Add(-backdated)) {
		t.Errorf("%s: not backdated: %v", csr.Name, c.NotBefore)
	}
	a.Lifetime = c.NotAfter.Sub(c.NotBefore)
	a.Certificate = &x509.Certificate{
		Subject: c.Subject, Issuer: c.Issuer, DNSNames: c.DNSNames, IPAddresses: c.IPAddresses, KeyUsage: c.KeyUsage, ExtKeyUsage: c.ExtKeyUsage,
		BasicConstraintsValid: c.BasicConstraintsValid, IsCA: c.IsCA, AuthorityKeyId: c.AuthorityKeyId,
	}
	return a
}

type testCA struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newCA(t *testing.T) testCA {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(10000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{cert, key}
}

// files writes the pair where upstream reads it.
func (ca testCA) files(t *testing.T) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, block := range map[string]*pem.Block{"cert": {Type: "CERTIFICATE", Bytes: ca.cert.Raw}, "key": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cert"), filepath.Join(dir, "key")
}

func newRequest(t *testing.T, template x509.CertificateRequest) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}
