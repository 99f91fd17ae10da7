package webhooks

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// The test's binary is the webhook's too, when it is started with this in its environment.
const asServer = "ROWLOCK_TEST_WEBHOOK"

func TestMain(m *testing.M) {
	if address := os.Getenv(asServer); address != "" {
		fmt.Fprintln(os.Stderr, serve(address))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// serve is the webhook's process: it reads its key pair from stdin, listens and prints its port.
func serve(address string) error {
	var pair [2][]byte
	if err := json.NewDecoder(os.Stdin).Decode(&pair); err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(pair[0], pair[1])
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", net.JoinHostPort(address, "0"), &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, newMux())
}

// newMux answers reviews by path; see rules.
func newMux() http.Handler {
	mux := http.NewServeMux()
	for path, rule := range rules {
		mux.HandleFunc("POST /"+path, func(w http.ResponseWriter, req *http.Request) {
			var review admissionv1.AdmissionReview
			if err := json.NewDecoder(req.Body).Decode(&review); err != nil {
				http.Error(w, err.Error(), http.StatusBadRequest)
				return
			}
			review.Response = rule(review.Request)
			review.Response.UID, review.Request = review.Request.UID, nil
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(review)
		})
	}
	mux.HandleFunc("POST /convert", convert)
	mux.HandleFunc("GET /ready", func(http.ResponseWriter, *http.Request) {})
	return mux
}

// The Service of the webhook.
const (
	hooksNamespace = "hooks"
	hooksService   = "webhook"
	hooksPort      = 8443
)

// startHooks starts the webhook's process and makes the Service for it. It returns the CA of its certificate.
func startHooks(t *testing.T, client kubernetes.Interface) []byte {
	t.Helper()
	address := harness.MachineAddress(t)
	certPEM, keyPEM := harness.NewCertificate(t, hooksService+"."+hooksNamespace+".svc")
	cmd, port := harness.StartSelf(t, asServer, address, [2][]byte{certPEM, keyPEM})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	harness.NewNamespace(t, client, hooksNamespace)
	create(t, client.CoreV1().Services(hooksNamespace).Create, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: hooksService},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "https", Port: hooksPort}}},
	})
	create(t, client.DiscoveryV1().EndpointSlices(hooksNamespace).Create, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: hooksService, Labels: map[string]string{discoveryv1.LabelServiceName: hooksService}},
		AddressType: harness.AddressType(address),
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("https"), Port: ptr.To(int32(port))}},
	})
	return certPEM
}
