package aggregation

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// The test's binary is the sample API server too, when it is started with this in its environment.
const asServer = "ROWLOCK_TEST_SAMPLE_APISERVER"

func TestMain(m *testing.M) {
	if address := os.Getenv(asServer); address != "" {
		fmt.Fprintln(os.Stderr, serve(address))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// setup is what the process is told.
type setup struct {
	Cert, Key []byte // of its serving certificate
	URL       string // of the cluster's API
	CA        []byte
	Token     string // of its service account
}

// serve is the sample API server: it reads its setup from stdin, listens and prints its port. As every aggregated server
// does, it learns from the cluster whom to believe, and asks the cluster what users may do.
func serve(address string) error {
	var s setup
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(&rest.Config{Host: s.URL, BearerToken: s.Token, TLSClientConfig: rest.TLSClientConfig{CAData: s.CA}})
	if err != nil {
		return err
	}
	cert, err := tls.X509KeyPair(s.Cert, s.Key)
	if err != nil {
		return err
	}
	trust, err := newTrust(client)
	if err != nil {
		return err
	}
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert})
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return http.Serve(listener, &wardle{trust: trust, client: client, flunders: map[string]json.RawMessage{}})
}

// sample is a running process.
type sample struct {
	setup   setup
	address string
	cmd     *exec.Cmd
}

// start starts the process and returns its port.
func (s *sample) start(t *testing.T) int {
	t.Helper()
	var port int
	s.cmd, port = harness.StartSelf(t, asServer, s.address, s.setup)
	s.address = net.JoinHostPort(harness.MachineAddress(t), strconv.Itoa(port)) // where it starts again
	return port
}

func (s *sample) stop() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

// may asks the cluster whether a user may do something.
func may(client kubernetes.Interface, req *http.Request, user string, groups []string, verb, namespace, name string) error {
	review, err := client.AuthorizationV1().SubjectAccessReviews().Create(req.Context(), &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{User: user, Groups: groups, ResourceAttributes: &authorizationv1.ResourceAttributes{
			Group: group, Version: version, Resource: "flunders", Verb: verb, Namespace: namespace, Name: name,
		}},
	}, metav1.CreateOptions{})
	switch {
	case err != nil:
		return err
	case !review.Status.Allowed:
		return fmt.Errorf("%s may not %s flunders", user, verb)
	}
	return nil
}

// authenticationConfig is where a cluster says whom aggregated servers may believe.
func authenticationConfig(client kubernetes.Interface) (*corev1.ConfigMap, error) {
	ctx, cancel := newContext()
	defer cancel()
	return client.CoreV1().ConfigMaps(metav1.NamespaceSystem).Get(ctx, "extension-apiserver-authentication", metav1.GetOptions{})
}
