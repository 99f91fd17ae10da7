package controllers

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	coordinationlisters "k8s.io/client-go/listers/coordination/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	networkinglisters "k8s.io/client-go/listers/networking/v1"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/names"
	certificatesapi "k8s.io/kubernetes/pkg/apis/certificates"
	"k8s.io/kubernetes/pkg/controller/certificates"
)

// approver approves what nodes ask for by themselves. Upstream's approves client certificates only, and those for whoever has a token,
// whatever node it claims to be. This one
//
//   - approves a node's own renewal as upstream's does: who asks is the node that the certificate is for;
//   - approves a first client certificate as upstream's does, unless a node of that name is alive: a token lets machines in, it does not let
//     them be one of those that are there;
//   - approves serving certificates of nodes, within the bounds that approve_serving.go draws.
//
// What it does not approve it leaves to people: kubectl certificate approve.
type approver struct {
	client  kubernetes.Interface
	nodes   corelisters.NodeLister
	leases  coordinationlisters.LeaseNamespaceLister
	ranges  networkinglisters.ServiceCIDRLister
	servers discoverylisters.EndpointSliceNamespaceLister
	own     Own
	log     *slog.Logger
	now     func() time.Time
}

// Own is what the process knows of names and nodes that the API does not tell.
type Own struct {
	// Names are those of the servers: no node has a certificate for them.
	Names []string
	// Node tells of a node that it runs in this very process: it may have the servers' address, since it is on their machine. Optional.
	Node func(name string) bool
}

// approves makes the loop that approves requests of nodes, in the place of upstream's.
func approves(own Own, log *slog.Logger) func(context.Context, app.ControllerContext) (app.Controller, error) {
	return func(ctx context.Context, inside app.ControllerContext) (app.Controller, error) {
		client, err := inside.NewClient("certificate-controller")
		if err != nil {
			return nil, err
		}
		f := inside.InformerFactory
		a := &approver{
			client: client, own: own, log: log, now: time.Now,
			nodes: f.Core().V1().Nodes().Lister(), leases: f.Coordination().V1().Leases().Lister().Leases(corev1.NamespaceNodeLease),
			ranges: f.Networking().V1().ServiceCIDRs().Lister(), servers: f.Discovery().V1().EndpointSlices().Lister().EndpointSlices(metav1.NamespaceDefault),
		}
		synced := []func() bool{
			f.Core().V1().Nodes().Informer().HasSynced, f.Coordination().V1().Leases().Informer().HasSynced,
			f.Networking().V1().ServiceCIDRs().Informer().HasSynced, f.Discovery().V1().EndpointSlices().Informer().HasSynced,
		}
		requests := f.Certificates().V1().CertificateSigningRequests()
		c := certificates.NewCertificateController(ctx, "csrapproving", client, requests, func(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) error {
			for _, is := range synced {
				if !is() {
					return later("informers have not synced yet")
				}
			}
			return a.handle(ctx, csr)
		})
		return approvingLoop{c}, nil
	}
}

type approvingLoop struct {
	*certificates.CertificateController
}

func (approvingLoop) Name() string { return names.CertificateSigningRequestApprovingController }

func (l approvingLoop) Run(ctx context.Context) { l.CertificateController.Run(ctx, workers) }

// later is an error by which a request is looked at again.
func later(format string, args ...any) error { return certificates.IgnorableError(format, args...) }

// handle approves a request, or says in its error why not. The object is its own.
func (a *approver) handle(ctx context.Context, csr *certificatesv1.CertificateSigningRequest) error {
	if len(csr.Status.Certificate) > 0 {
		return nil
	}
	if approved, denied := certificates.GetCertApprovalCondition(&csr.Status); approved || denied {
		return nil
	}
	if csr.Spec.SignerName != certificatesv1.KubeAPIServerClientKubeletSignerName && csr.Spec.SignerName != certificatesv1.KubeletServingSignerName {
		return nil
	}
	parsed, err := certificatesapi.ParseCSR(csr.Spec.Request)
	if err != nil {
		return fmt.Errorf("unable to parse csr %q: %w", csr.Name, err)
	}
	if csr.Spec.SignerName == certificatesv1.KubeletServingSignerName {
		return a.serving(ctx, csr, parsed)
	}
	return a.clientCertificate(ctx, csr, parsed)
}

func (a *approver) clientCertificate(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, parsed *x509.CertificateRequest) error {
	if !certificatesapi.IsKubeletClientCSR(parsed, usageSet(csr.Spec.Usages)) {
		return nil
	}
	if csr.Spec.Username == parsed.Subject.CommonName {
		if may, err := a.may(ctx, csr, "selfnodeclient"); err != nil || may {
			return a.approve(ctx, csr, err, "Auto approving self kubelet client certificate after SubjectAccessReview.")
		}
	}
	may, err := a.may(ctx, csr, "nodeclient")
	if err == nil && !may {
		return later("recognized csr %q as [nodeclient] but subject access review was not approved", csr.Name)
	}
	if err == nil {
		if name := nodeName(parsed); a.alive(name) {
			return later("csr %q: a node named %s is alive: who has only a token does not become it; it may be approved with kubectl certificate approve", csr.Name, name)
		}
	}
	return a.approve(ctx, csr, err, "Auto approving kubelet client certificate after SubjectAccessReview.")
}

// may asks whether who made the request has the right that upstream's approver asks for.
func (a *approver) may(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, subresource string) (bool, error) {
	extra := map[string]authorizationv1.ExtraValue{}
	for k, v := range csr.Spec.Extra {
		extra[k] = authorizationv1.ExtraValue(v)
	}
	review, err := a.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: csr.Spec.Username, UID: csr.Spec.UID, Groups: csr.Spec.Groups, Extra: extra,
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Group: "certificates.k8s.io", Resource: "certificatesigningrequests", Verb: "create", Subresource: subresource, Version: "*",
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

func (a *approver) approve(ctx context.Context, csr *certificatesv1.CertificateSigningRequest, err error, message string) error {
	if err != nil {
		return err
	}
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{
		Type: certificatesv1.CertificateApproved, Status: corev1.ConditionTrue, Reason: "AutoApproved", Message: message,
	})
	if _, err := a.client.CertificatesV1().CertificateSigningRequests().UpdateApproval(ctx, csr.Name, csr, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("error updating approval for csr: %w", err)
	}
	return nil
}

// alive tells whether a node has lately said that it is there.
func (a *approver) alive(name string) bool {
	if _, err := a.nodes.Get(name); err != nil {
		return false
	}
	lease, err := a.leases.Get(name)
	if err != nil || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return false
	}
	return a.now().Before(lease.Spec.RenewTime.Add(time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second))
}

// addressIn tells whether an address lies in one of the ranges.
func addressIn(ip netip.Addr, ranges []string) bool {
	for _, text := range ranges {
		if p, err := netip.ParsePrefix(text); err == nil && p.Contains(ip) {
			return true
		}
	}
	return false
}
