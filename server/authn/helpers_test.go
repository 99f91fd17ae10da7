package authn_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"github.com/rowlock-io/rowlock/server/authn"
	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/seal"
	"github.com/rowlock-io/rowlock/storage/memory"
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newIdentity(t testing.TB) *pki.Identity {
	t.Helper()
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "c"); err != nil {
		t.Fatal(err)
	}
	store := must(db.OpenCluster(t.Context(), "c"))
	return must(pki.Load(t.Context(), store, must(seal.Parse(seal.Generate()))))
}

func trust(ca *pki.Authority) dynamiccertificates.CAContentProvider {
	return must(dynamiccertificates.NewStaticCAContent("test", ca.Bundle()))
}

func get(path string, headers ...string) *http.Request {
	req := httptest.NewRequest(http.MethodGet, "https://localhost"+path, nil)
	req.TLS = &tls.ConnectionState{}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

func withCert(req *http.Request, pair *pki.KeyPair) *http.Request {
	req.TLS.PeerCertificates = []*x509.Certificate{pair.TLS.Leaf}
	return req
}

// accounts is the lookup of a cluster that holds one service account.
type accounts struct{ gone atomic.Bool }

func (a *accounts) account() *corev1.ServiceAccount {
	return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "red", Name: "bot", UID: types.UID("1")}}
}

func (a *accounts) GetServiceAccount(_ context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	if sa := a.account(); !a.gone.Load() && namespace == sa.Namespace && name == sa.Name {
		return sa, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("serviceaccounts"), name)
}

func (a *accounts) GetPod(_ context.Context, _, name string) (*corev1.Pod, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("pods"), name)
}

func (a *accounts) GetSecret(_ context.Context, _, name string) (*corev1.Secret, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("secrets"), name)
}

func (a *accounts) GetNode(_ context.Context, name string) (*corev1.Node, error) {
	return nil, apierrors.NewNotFound(corev1.Resource("nodes"), name)
}

const issuerURL = "https://kubernetes.default.svc.cluster.local"

func newIssuer(id *pki.Identity) *authn.Issuer {
	issuer, undiscoverable, err := authn.NewIssuer(authn.IssuerConfig{
		URL: issuerURL, Signing: id.ServiceAccountKey(), Trusted: must(authn.PublicKeys(id.ServiceAccountPublicKeys())), ExternalAddress: "127.0.0.1:6443",
	})
	if err != nil || undiscoverable != nil {
		panic(err)
	}
	return issuer
}

// token returns a token of the service account for an hour.
func token(t testing.TB, issuer *authn.Issuer, audiences ...string) string {
	t.Helper()
	sa := core.ServiceAccount{ObjectMeta: (&accounts{}).account().ObjectMeta}
	public, private, err := serviceaccount.Claims(sa, nil, nil, nil, 3600, 0, audiences)
	if err != nil {
		t.Fatal(err)
	}
	return must(issuer.Tokens.GenerateToken(t.Context(), public, private))
}
