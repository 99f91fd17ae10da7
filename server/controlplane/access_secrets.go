package controlplane

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
)

// bootstrapSecrets finds the Secrets of bootstrap tokens, by name and in what this replica knows: whoever tries tokens at
// random does not make it ask the database, and no copy of kube-system's Secrets is kept. It implements
// listers.SecretNamespaceLister.
type bootstrapSecrets struct{ client kubernetes.Interface }

// bootstrapTimeout bounds a look into the own memory.
const bootstrapTimeout = 10 * time.Second

func (s bootstrapSecrets) Get(name string) (*corev1.Secret, error) {
	ctx, cancel := context.WithTimeout(context.Background(), bootstrapTimeout)
	defer cancel()
	return s.client.CoreV1().Secrets(metav1.NamespaceSystem).Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
}

// List is there for the interface; bootstrap tokens are looked up by name.
func (s bootstrapSecrets) List(labels.Selector) ([]*corev1.Secret, error) {
	return nil, errors.ErrUnsupported
}
