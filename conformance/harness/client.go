package harness

import (
	"context"
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Config returns how the cluster admin reaches the server, without a limit on requests per second.
func (s *Server) Config(t testing.TB) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// Through writes the cluster admin's kubeconfig for the way through a balancer, and returns the file.
func (s *Server) Through(t testing.TB, b *Balancer) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(s.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, cluster := range config.Clusters {
		cluster.Server = "https://" + b.Addr()
	}
	file := s.Kubeconfig + ".front"
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// Client returns a client of the cluster admin.
func (s *Server) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	return ClientFor(t, s.Config(t))
}

// ClientFor returns a client by its configuration.
func ClientFor(t testing.TB, config *rest.Config) kubernetes.Interface {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// NewNamespace makes a namespace in which pods can be created: with the service account "default", which a controller
// makes where controllers run.
func NewNamespace(t testing.TB, client kubernetes.Interface, name string) {
	t.Helper()
	if err := CreateNamespace(t.Context(), client, name); err != nil {
		t.Fatal(err)
	}
}

// CreateNamespace is NewNamespace where there is no test.
func CreateNamespace(ctx context.Context, client kubernetes.Interface, name string) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, nsErr := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{})
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	_, saErr := client.CoreV1().ServiceAccounts(name).Create(ctx, sa, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(saErr) {
		saErr = nil
	}
	return errors.Join(nsErr, saErr)
}
