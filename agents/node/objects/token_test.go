package objects

import (
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

func TestToken(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		var asked []authenticationv1.TokenRequestSpec
		var fail error
		h.PrependReactor("create", "serviceaccounts", func(a clienttesting.Action) (bool, runtime.Object, error) {
			if fail != nil {
				return true, nil, fail
			}
			r := a.(clienttesting.CreateAction).GetObject().(*authenticationv1.TokenRequest).DeepCopy()
			asked = append(asked, r.Spec)
			r.Status.Token = fmt.Sprintf("token-%d", len(asked))
			r.Status.ExpirationTimestamp = metav1.NewTime(time.Now().Add(time.Duration(*r.Spec.ExpirationSeconds) * time.Second))
			return true, r, nil
		})
		p := pod("1")
		of := &corev1.ServiceAccountTokenProjection{Audience: "vault", ExpirationSeconds: ptr.To[int64](3600)}
		token := func() string {
			text, err := h.Token(t.Context(), p, of)
			if err != nil {
				return err.Error()
			}
			return text
		}
		fail = errors.New("connection refused")
		h.expect("never had", token(), "failed to fetch token: connection refused")
		fail = nil
		h.expect("first", token(), "token-1")
		want := authenticationv1.TokenRequestSpec{
			Audiences: []string{"vault"}, ExpirationSeconds: ptr.To[int64](3600),
			BoundObjectRef: &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: "pod-1", UID: "1"},
		}
		if diff := cmp.Diff(want, asked[0]); diff != "" {
			t.Error(diff)
		}
		time.Sleep(47 * time.Minute)
		h.expect("within four fifths", token(), "token-1")
		time.Sleep(time.Minute + time.Second)
		h.expect("after", token(), "token-2")
		fail = errors.New("connection refused")
		time.Sleep(59 * time.Minute)
		h.expect("while the server is away", token(), "token-2")
		time.Sleep(2 * time.Minute)
		if got := token(); !strings.HasSuffix(got, "expired and refresh failed: connection refused") {
			t.Errorf("too long: %s", got)
		}
		fail = nil
		h.expect("back", token(), "token-3")
		of.ExpirationSeconds = ptr.To[int64](7 * 86400)
		h.expect("another one", token(), "token-4")
		time.Sleep(24*time.Hour + time.Second)
		h.expect("a day is enough", token(), "token-5")
		h.Release(p)
		h.expect("of a pod that went", token(), "token-6")
	})
}

func certificate(text string) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(text)}))
}

func TestTrustAnchors(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		var fail error
		there := map[string]string{"one": certificate("a") + certificate("b") + certificate("a")}
		gets, selected := 0, ""
		h.PrependReactor("get", "clustertrustbundles", func(a clienttesting.Action) (bool, runtime.Object, error) {
			gets++
			name := a.(clienttesting.GetAction).GetName()
			text, ok := there[name]
			switch {
			case fail != nil:
				return true, nil, fail
			case !ok:
				return true, nil, apierrors.NewNotFound(certificatesv1beta1.Resource("clustertrustbundles"), name)
			}
			return true, &certificatesv1beta1.ClusterTrustBundle{Spec: certificatesv1beta1.ClusterTrustBundleSpec{TrustBundle: text}}, nil
		})
		h.PrependReactor("list", "clustertrustbundles", func(a clienttesting.Action) (bool, runtime.Object, error) {
			r := a.(clienttesting.ListAction).GetListRestrictions()
			selected = r.Labels.String() + " " + r.Fields.String()
			list := &certificatesv1beta1.ClusterTrustBundleList{}
			if r.Labels.String() == "live=yes" {
				for _, text := range there {
					list.Items = append(list.Items, certificatesv1beta1.ClusterTrustBundle{
						ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"live": "yes"}}, // which the client looks at too
						Spec:       certificatesv1beta1.ClusterTrustBundleSpec{TrustBundle: text},
					})
				}
			}
			return true, list, nil
		})
		get := func(p corev1.ClusterTrustBundleProjection) string {
			text, err := h.TrustAnchors(t.Context(), &p)
			if err != nil {
				return err.Error()
			}
			return string(text)
		}
		one := corev1.ClusterTrustBundleProjection{Name: ptr.To("one")}
		first := get(one)
		if a, b := certificate("a"), certificate("b"); first != a+b && first != b+a {
			t.Errorf("got %s", first)
		}
		h.expect("again", get(one), first)
		if gets != 1 {
			t.Errorf("asked %d times at once", gets)
		}
		time.Sleep(time.Minute)
		fail = errors.New("connection refused")
		h.expect("away", get(one), first)
		h.expect("never had", get(corev1.ClusterTrustBundleProjection{Name: ptr.To("two")}), "while getting ClusterTrustBundle: connection refused")
		fail = nil
		there["one"] += certificate("c")
		time.Sleep(time.Minute)
		if got := get(one); len(got) <= len(first) {
			t.Errorf("not read anew: %s", got)
		}
		missing := corev1.ClusterTrustBundleProjection{Name: ptr.To("missing")}
		h.expect("missing", get(missing), `while getting ClusterTrustBundle: clustertrustbundles.certificates.k8s.io "missing" not found`)
		missing.Optional = ptr.To(true)
		h.expect("optional", get(missing), "")
		fail = &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonNotFound, Code: 404, Message: "the server could not find the requested resource", Details: &metav1.StatusDetails{}}}
		if got := get(missing); got == "" {
			t.Error("a server without bundles is one without this bundle")
		}
		signer := corev1.ClusterTrustBundleProjection{SignerName: ptr.To("example.com/s"), LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"live": "yes"}}}
		if got := get(signer); strings.Count(got, "BEGIN") != 3 {
			t.Errorf("by signer: %s", got)
		}
		h.expect("selected", selected, "live=yes spec.signerName=example.com/s")
		signer.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"live": "no"}}
		h.expect("none", get(signer), "combination of signerName and labelSelector matched zero ClusterTrustBundles")
		signer.LabelSelector = nil
		selected = ""
		h.expect("no selector", get(signer), "combination of signerName and labelSelector matched zero ClusterTrustBundles")
		h.expect("which selects nothing", selected, "")
		h.expect("neither", get(corev1.ClusterTrustBundleProjection{}), "ClusterTrustBundle projection requires either name or signerName to be set")
	})
}
