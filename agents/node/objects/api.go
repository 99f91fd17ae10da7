package objects

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// api is that of one kind. Lists are of one object or none.
type api[T any] interface {
	list(ctx context.Context, namespace string, opts metav1.ListOptions) (object T, found bool, revision string, err error)
	watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error)
}

type configMapAPI struct{ kubernetes.Interface }

func (a configMapAPI) list(ctx context.Context, namespace string, opts metav1.ListOptions) (*corev1.ConfigMap, bool, string, error) {
	list, err := a.CoreV1().ConfigMaps(namespace).List(ctx, opts)
	if err != nil {
		return nil, false, "", err
	}
	if len(list.Items) == 0 {
		return nil, false, list.ResourceVersion, nil
	}
	return &list.Items[0], true, list.ResourceVersion, nil
}

func (a configMapAPI) watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	return a.CoreV1().ConfigMaps(namespace).Watch(ctx, opts)
}

type secretAPI struct{ kubernetes.Interface }

func (a secretAPI) list(ctx context.Context, namespace string, opts metav1.ListOptions) (*corev1.Secret, bool, string, error) {
	list, err := a.CoreV1().Secrets(namespace).List(ctx, opts)
	if err != nil {
		return nil, false, "", err
	}
	if len(list.Items) == 0 {
		return nil, false, list.ResourceVersion, nil
	}
	return &list.Items[0], true, list.ResourceVersion, nil
}

func (a secretAPI) watch(ctx context.Context, namespace string, opts metav1.ListOptions) (watch.Interface, error) {
	return a.CoreV1().Secrets(namespace).Watch(ctx, opts)
}
