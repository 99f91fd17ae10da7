package agents

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/client-go/util/keyutil"
)

var accounts = group{
	"each namespace has its account and the authority's certificate, which come again": func(f *flow) {
		f.await("configmaps/kube-root-ca.crt", "o.data['ca.crt'].startsWith('-----BEGIN CERTIFICATE-----')")
		f.delete("configmaps/kube-root-ca.crt")
		f.await("configmaps/kube-root-ca.crt", "true")
		f.patch("configmaps/kube-root-ca.crt", "data: {ca.crt: nonsense}")
		f.await("configmaps/kube-root-ca.crt", "o.data['ca.crt'] != 'nonsense'")
		f.delete("serviceaccounts/default")
		f.await("serviceaccounts/default", "true")
	},
	"a Secret that asks for a token gets one, and goes with its account": func(f *flow) {
		f.create("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}")
		f.create("{apiVersion: v1, kind: Secret, metadata: {name: token, annotations: {kubernetes.io/service-account.name: robot}}, type: kubernetes.io/service-account-token}")
		f.await("secrets/token", "has(o.data.token) && has(o.data.namespace) && o.data['ca.crt'] != ''")
		secret, err := f.client.CoreV1().Secrets(f.ns).Get(f.Context(), "token", metav1.GetOptions{})
		f.check(err)
		config := rest.AnonymousClientConfig(f.config)
		config.BearerToken = string(secret.Data["token"])
		review, err := f.as(config).client.AuthenticationV1().SelfSubjectReviews().Create(f.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
		f.check(err)
		if want := "system:serviceaccount:" + f.ns + ":robot"; review.Status.UserInfo.Username != want {
			f.Errorf("the token is of %s, expected %s", review.Status.UserInfo.Username, want)
		}
		f.patch("secrets/token", "data: {token: null}")
		f.await("secrets/token", "has(o.data.token)")
		f.delete("serviceaccounts/robot")
		f.gone("secrets/token")
	},
	"a Secret for an account that is not there goes": func(f *flow) {
		f.create("{apiVersion: v1, kind: ServiceAccount, metadata: {name: robot}}")
		f.create("{apiVersion: v1, kind: Secret, metadata: {name: token, annotations: {kubernetes.io/service-account.name: robot, kubernetes.io/service-account.uid: 00000000-0000-0000-0000-000000000000}}, type: kubernetes.io/service-account-token}")
		f.gone("secrets/token")
	},
	"a bootstrap token that has ended goes": func(f *flow) {
		id := f.token(time.Now().Add(2 * time.Second))
		f.in("kube-system").gone("secrets/bootstrap-token-" + id)
	},
}

// token makes a bootstrap token and returns its ID.
func (f *flow) token(expires time.Time) string {
	f.Helper()
	random := make([]byte, 3)
	_, _ = rand.Read(random)
	id := fmt.Sprintf("%x", random)
	f.in("kube-system").create(fmt.Sprintf(`{apiVersion: v1, kind: Secret, metadata: {name: bootstrap-token-%s}, type: bootstrap.kubernetes.io/token,
		stringData: {token-id: '%s', token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true', usage-bootstrap-signing: 'true', auth-extra-groups: 'system:bootstrappers:flow', expiration: %q}}`,
		id, id, expires.UTC().Format(time.RFC3339)))
	return id
}

// request makes a CertificateSigningRequest and returns the key.
func (f *flow) request(name, signer string, subject pkix.Name, usages ...string) *ecdsa.PrivateKey {
	f.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	f.check(err)
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	f.check(err)
	text := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
	all := ""
	for _, u := range usages {
		all += "'" + u + "', "
	}
	f.create(fmt.Sprintf("{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name: %s}, spec: {signerName: %s, request: %s, expirationSeconds: 7200, usages: [%s]}}", name, signer, text, all))
	return key
}

// approve says yes or no to a request.
func (f *flow) approve(name string, verdict certificatesv1.RequestConditionType) {
	f.Helper()
	client := f.client.CertificatesV1().CertificateSigningRequests()
	csr, err := client.Get(f.Context(), name, metav1.GetOptions{})
	f.check(err)
	csr.Status.Conditions = append(csr.Status.Conditions, certificatesv1.CertificateSigningRequestCondition{Type: verdict, Status: "True", Reason: "Flow"})
	_, err = client.UpdateApproval(f.Context(), name, csr, metav1.UpdateOptions{})
	f.check(err)
}

// issued waits for a certificate.
func (f *flow) issued(name string) []byte {
	f.Helper()
	f.await("certificatesigningrequests/"+name, "o.status.certificate != ''")
	csr, err := f.client.CertificatesV1().CertificateSigningRequests().Get(f.Context(), name, metav1.GetOptions{})
	f.check(err)
	return csr.Status.Certificate
}

var certificates = group{
	"a node that joins by a token gets its certificate, and is believed by it": func(f *flow) {
		for name, role := range map[string]string{"bootstrapper": "system:node-bootstrapper", "approver": "system:certificates.k8s.io:certificatesigningrequests:nodeclient"} {
			f.create("{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRoleBinding, metadata: {name: $NS-" + name + "}, roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: '" + role +
				"'}, subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: 'system:bootstrappers:flow'}]}")
		}
		config := rest.AnonymousClientConfig(f.config)
		config.BearerToken = f.token(time.Now().Add(time.Hour)) + ".0123456789abcdef"
		joining := f.as(config)
		f.wait(func() bool { // until the token and the role bindings have come to those who judge
			review, err := joining.client.AuthenticationV1().SelfSubjectReviews().Create(f.Context(), &authenticationv1.SelfSubjectReview{}, metav1.CreateOptions{})
			if err != nil || len(review.Status.UserInfo.Groups) == 0 {
				return false
			}
			_, err = joining.client.CertificatesV1().CertificateSigningRequests().Get(f.Context(), "none", metav1.GetOptions{})
			return err != nil && !bytes.Contains([]byte(err.Error()), []byte("forbidden"))
		}, func() string { return "the token to be believed" })
		node := f.ns + "-joined"
		key := joining.request("$NS-node", "kubernetes.io/kube-apiserver-client-kubelet", pkix.Name{CommonName: "system:node:" + node, Organization: []string{"system:nodes"}}, "digital signature", "client auth")
		keyPEM, err := keyutil.MarshalPrivateKeyToPEM(key)
		f.check(err)
		config = rest.AnonymousClientConfig(f.config)
		config.CertData, config.KeyData = f.issued(f.ns+"-node"), keyPEM
		f.await("certificatesigningrequests/$NS-node", "o.status.conditions.exists(c, c.type == 'Approved' && c.reason == 'AutoApproved')")
		certs, err := cert.ParseCertsPEM(config.CertData)
		f.check(err)
		if left := time.Until(certs[0].NotAfter); left > 2*time.Hour {
			f.Errorf("the certificate is good for %v, and two hours were asked for", left)
		}
		f.as(config).create("{apiVersion: v1, kind: Node, metadata: {name: " + node + "}}")
	},
	"a client's is signed when somebody approves it": func(f *flow) {
		f.request("$NS-client", "kubernetes.io/kube-apiserver-client", pkix.Name{CommonName: "jane"}, "client auth")
		f.request("$NS-denied", "kubernetes.io/kube-apiserver-client", pkix.Name{CommonName: "mallory"}, "client auth")
		f.approve(f.ns+"-client", certificatesv1.CertificateApproved)
		f.approve(f.ns+"-denied", certificatesv1.CertificateDenied)
		f.issued(f.ns + "-client")
		f.await("certificatesigningrequests/$NS-denied", "!has(o.status.certificate)")
	},
	"a usage that the signer does not sign fails": func(f *flow) {
		f.request("$NS-usage", "kubernetes.io/kube-apiserver-client", pkix.Name{CommonName: "jane"}, "server auth")
		f.approve(f.ns+"-usage", certificatesv1.CertificateApproved)
		f.await("certificatesigningrequests/$NS-usage", "o.status.conditions.exists(c, c.type == 'Failed' && c.reason == 'SignerValidationFailure')")
	},
	"somebody else's signer is left alone": func(f *flow) {
		f.request("$NS-other", "example.com/signer", pkix.Name{CommonName: "jane"}, "client auth")
		f.approve(f.ns+"-other", certificatesv1.CertificateApproved)
		f.request("$NS-ours", "kubernetes.io/kube-apiserver-client", pkix.Name{CommonName: "jane"}, "client auth")
		f.approve(f.ns+"-ours", certificatesv1.CertificateApproved)
		f.issued(f.ns + "-ours")
		f.await("certificatesigningrequests/$NS-other", "!has(o.status.certificate) && !o.status.conditions.exists(c, c.type == 'Failed')")
	},
}
