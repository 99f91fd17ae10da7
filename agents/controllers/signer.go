package controllers

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"time"

	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	certificatesclient "k8s.io/client-go/kubernetes/typed/certificates/v1"
	"k8s.io/client-go/util/certificate/csr"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	certificatesapi "k8s.io/kubernetes/pkg/apis/certificates"
	"k8s.io/kubernetes/pkg/controller/certificates"
	"k8s.io/kubernetes/pkg/controller/certificates/authority"
)

// Bounds of the certificates that are signed, as kube-controller-manager has them.
const (
	backdated   = 5 * time.Minute
	shortLived  = 8 * time.Hour // and less: what it was backdated by is not taken off its end
	minLifetime = 2 * backdated
)

// workers is how many requests for certificates are answered at a time, as in kube-controller-manager.
const workers = 5

// signer answers certificate signing requests in the name of the four signers that kube-controller-manager has. Upstream's, whose
// answers are the same, take the key from a file, which each of them watches. Here it never leaves the memory.
type signer struct {
	ca          *authority.CertificateAuthority
	maxLifetime time.Duration
	client      certificatesclient.CertificateSigningRequestInterface
}

// signs makes the loop that signs with keys in memory.
func signs(ca *authority.CertificateAuthority) func(context.Context, app.ControllerContext) (app.Controller, error) {
	return func(ctx context.Context, inside app.ControllerContext) (app.Controller, error) {
		client, err := inside.NewClient("certificate-controller")
		if err != nil {
			return nil, err
		}
		s := signer{ca, inside.ComponentConfig.CSRSigningController.ClusterSigningDuration.Duration, client.CertificatesV1().CertificateSigningRequests()}
		requests := inside.InformerFactory.Certificates().V1().CertificateSigningRequests()
		return signingLoop{certificates.NewCertificateController(ctx, "csrsigning", client, requests, s.handle)}, nil
	}
}

type signingLoop struct {
	*certificates.CertificateController
}

func (signingLoop) Name() string { return names.CertificateSigningRequestSigningController }

func (l signingLoop) Run(ctx context.Context) { l.CertificateController.Run(ctx, workers) }

// accepts are what each signer demands of a request.
var accepts = map[string]func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error{
	certificatesv1.KubeletServingSignerName: func(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		return certificatesapi.ValidateKubeletServingCSR(req, usageSet(usages))
	},
	certificatesv1.KubeAPIServerClientKubeletSignerName: func(req *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		return certificatesapi.ValidateKubeletClientCSR(req, usageSet(usages))
	},
	certificatesv1.KubeAPIServerClientSignerName: func(_ *x509.CertificateRequest, usages []certificatesv1.KeyUsage) error {
		return clientUsages(usages)
	},
	certificatesv1beta1.LegacyUnknownSignerName: func(*x509.CertificateRequest, []certificatesv1.KeyUsage) error { return nil },
}

func usageSet(usages []certificatesv1.KeyUsage) sets.String { //nolint:staticcheck // upstream's functions take it
	set := sets.NewString()
	for _, u := range usages {
		set.Insert(string(u))
	}
	return set
}

func clientUsages(usages []certificatesv1.KeyUsage) error {
	auth := false
	for _, u := range usages {
		switch u {
		case certificatesv1.UsageDigitalSignature, certificatesv1.UsageKeyEncipherment:
		case certificatesv1.UsageClientAuth:
			auth = true
		default:
			return fmt.Errorf("invalid usage for client certificate: %s", u)
		}
	}
	if !auth {
		return fmt.Errorf("missing required usage for client certificate: %s", certificatesv1.UsageClientAuth)
	}
	return nil
}

// handle signs a request that was approved, or says in its status why it is not signed. The object is its own.
func (s signer) handle(ctx context.Context, request *certificatesv1.CertificateSigningRequest) error {
	accept := accepts[request.Spec.SignerName]
	if accept == nil || !certificates.IsCertificateRequestApproved(request) || certificates.HasTrueCondition(request, certificatesv1.CertificateFailed) {
		return nil
	}
	parsed, err := certificatesapi.ParseCSR(request.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr %q: %w", request.Name, err)
	}
	if err := accept(parsed, request.Spec.Usages); err != nil {
		request.Status.Conditions = append(request.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
			Type:           certificatesv1.CertificateFailed,
			Status:         corev1.ConditionTrue,
			Reason:         "SignerValidationFailure",
			Message:        err.Error(),
			LastUpdateTime: metav1.Now(),
		})
		if _, err := s.client.UpdateStatus(ctx, request, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("error adding failure condition for csr: %w", err)
		}
		return nil
	}
	der, err := s.ca.Sign(parsed.Raw, authority.PermissiveSigningPolicy{
		TTL: s.lifetime(request.Spec.ExpirationSeconds), Usages: request.Spec.Usages, Backdate: backdated, Short: shortLived,
	})
	if err != nil {
		return fmt.Errorf("error auto signing csr: %w", err)
	}
	request.Status.Certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if _, err := s.client.UpdateStatus(ctx, request, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("error updating signature for csr: %w", err)
	}
	return nil
}

// lifetime is what was asked for, within bounds.
func (s signer) lifetime(seconds *int32) time.Duration {
	if seconds == nil {
		return s.maxLifetime
	}
	asked := csr.ExpirationSecondsToDuration(*seconds)
	if asked > s.maxLifetime {
		return s.maxLifetime
	}
	return max(asked, minLifetime)
}
