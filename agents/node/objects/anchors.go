package objects

import (
	"cmp"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"slices"
	"sync"
	"time"

	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// anchors are asked for when somebody wants them, and kept for a moment: few pods do, and their volumes are refreshed each minute.
type anchors struct {
	client kubernetes.Interface
	log    *slog.Logger
	seed   maphash.Seed // of the order of certificates

	mu   sync.Mutex
	have map[string]bundle
}

type bundle struct {
	pem []byte
	at  time.Time
}

const (
	fresh  = 45 * time.Second // less than the time between two refreshes of a volume
	forget = 10 * time.Minute
)

// TrustAnchors returns the certificates, as PEM, of the ClusterTrustBundles that a projection names, each once. Their order says nothing,
// and is another one in another process.
func (o *Objects) TrustAnchors(ctx context.Context, p *corev1.ClusterTrustBundleProjection) ([]byte, error) {
	optional := p.Optional != nil && *p.Optional
	var id string
	var ask func(context.Context) ([]certificatesv1beta1.ClusterTrustBundle, error)
	switch {
	case p.Name != nil:
		id = "name " + *p.Name
		ask = func(ctx context.Context) ([]certificatesv1beta1.ClusterTrustBundle, error) {
			found, err := o.anchors.client.CertificatesV1beta1().ClusterTrustBundles().Get(ctx, *p.Name, metav1.GetOptions{})
			if err != nil {
				return nil, fmt.Errorf("while getting ClusterTrustBundle: %w", err)
			}
			return []certificatesv1beta1.ClusterTrustBundle{*found}, nil
		}
	case p.SignerName != nil:
		selector, err := metav1.LabelSelectorAsSelector(p.LabelSelector) // nil selects nothing
		if err != nil {
			return nil, fmt.Errorf("while parsing label selector: %w", err)
		}
		id = "signer " + *p.SignerName + " " + selector.String()
		ask = func(ctx context.Context) ([]certificatesv1beta1.ClusterTrustBundle, error) {
			if p.LabelSelector == nil {
				return nil, nil
			}
			list, err := o.anchors.client.CertificatesV1beta1().ClusterTrustBundles().List(ctx, metav1.ListOptions{
				LabelSelector: selector.String(), FieldSelector: fields.OneTermEqualSelector("spec.signerName", *p.SignerName).String(),
			})
			if err != nil {
				return nil, fmt.Errorf("while listing ClusterTrustBundles matching label selector %v: %w", p.LabelSelector, err)
			}
			return list.Items, nil
		}
	default:
		return nil, errors.New("ClusterTrustBundle projection requires either name or signerName to be set")
	}
	text, err := o.anchors.get(ctx, id, ask)
	switch {
	case apierrors.IsNotFound(err) && served(err) && optional:
		return []byte{}, nil
	case err != nil:
		return nil, err
	case len(text) == 0 && p.Name == nil && !optional:
		return nil, errors.New("combination of signerName and labelSelector matched zero ClusterTrustBundles")
	}
	return text, nil
}

// served tells a bundle that is not there from an API server that does not serve any.
func served(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status) && status.Status().Details != nil && status.Status().Details.Name != ""
}

func (a *anchors) get(ctx context.Context, id string, ask func(context.Context) ([]certificatesv1beta1.ClusterTrustBundle, error)) ([]byte, error) {
	now := time.Now()
	a.mu.Lock()
	old, ok := a.have[id]
	for other, b := range a.have {
		if other != id && now.Sub(b.at) > forget {
			delete(a.have, other)
		}
	}
	a.mu.Unlock()
	if ok && now.Sub(old.at) < fresh {
		return old.pem, nil
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := ask(ctx)
	switch {
	case apierrors.IsNotFound(err) || err != nil && !ok:
		a.mu.Lock()
		delete(a.have, id)
		a.mu.Unlock()
		return nil, err
	case err != nil:
		a.log.Warn("Trust bundles were not read again", "which", id, "error", err)
		return old.pem, nil
	}
	b := bundle{pem: normalize(a.seed, found), at: now}
	a.mu.Lock()
	a.have[id] = b
	a.mu.Unlock()
	return b.pem, nil
}

// normalize leaves each certificate once, and in an order that nobody can rely on but that stays while the process does, so that files
// are not written anew for nothing.
func normalize(seed maphash.Seed, bundles []certificatesv1beta1.ClusterTrustBundle) []byte {
	certificates := map[string]bool{}
	for i := range bundles {
		rest := []byte(bundles[i].Spec.TrustBundle)
		for {
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			certificates[string(block.Bytes)] = true
		}
	}
	order := make([]string, 0, len(certificates))
	for der := range certificates {
		order = append(order, der)
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(maphash.String(seed, a), maphash.String(seed, b)), cmp.Compare(a, b))
	})
	out := []byte{}
	for _, der := range order {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(der)})...)
	}
	return out
}
