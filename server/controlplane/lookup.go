package controlplane

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// lookup finds what service-account tokens are bound to. It reads what this replica knows, and asks the database only
// when that is nothing: another replica may have just made it.
type lookup struct{ client kubernetes.Interface }

func find[T any](ctx context.Context, name string, get func(context.Context, string, metav1.GetOptions) (T, error)) (T, error) {
	obj, err := get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		return get(ctx, name, metav1.GetOptions{})
	}
	return obj, err
}

func (l lookup) GetServiceAccount(ctx context.Context, namespace, name string) (*corev1.ServiceAccount, error) {
	return find(ctx, name, l.client.CoreV1().ServiceAccounts(namespace).Get)
}

func (l lookup) GetPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	return find(ctx, name, l.client.CoreV1().Pods(namespace).Get)
}

func (l lookup) GetSecret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	return find(ctx, name, l.client.CoreV1().Secrets(namespace).Get)
}

func (l lookup) GetNode(ctx context.Context, name string) (*corev1.Node, error) {
	return find(ctx, name, l.client.CoreV1().Nodes().Get)
}
