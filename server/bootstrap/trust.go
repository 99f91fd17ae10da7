package bootstrap

import (
	"context"
	"encoding/json"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trust is what aggregated servers read to check the users that the server names in its requests to them.
type Trust struct {
	ClientCA        []byte // PEM; signs client certificates
	RequestHeaderCA []byte // PEM; signs the certificate of the server as a proxy
	ProxyName       string // common name of that certificate
}

// trust publishes Trust in kube-system/extension-apiserver-authentication.
func trust(ctx context.Context, cfg Config) error {
	data, err := cfg.Trust.data()
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "extension-apiserver-authentication"}, Data: data}
	configMaps := cfg.Client.CoreV1().ConfigMaps(cm.Namespace)
	have, err := configMaps.Get(ctx, cm.Name, metav1.GetOptions{ResourceVersion: "0"})
	switch {
	case apierrors.IsNotFound(err):
		_, err = configMaps.Create(ctx, cm, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil // another replica has the same identity and so the same data
		}
		return err
	case err != nil:
		return err
	case maps.Equal(have.Data, data):
		return nil
	}
	have = have.DeepCopy()
	have.Data = data
	_, err = configMaps.Update(ctx, have, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

func (t Trust) data() (map[string]string, error) {
	lists := map[string][]string{
		"requestheader-allowed-names":        {t.ProxyName},
		"requestheader-username-headers":     {"X-Remote-User"},
		"requestheader-uid-headers":          {"X-Remote-Uid"},
		"requestheader-group-headers":        {"X-Remote-Group"},
		"requestheader-extra-headers-prefix": {"X-Remote-Extra-"},
	}
	data := map[string]string{
		"client-ca-file":               string(t.ClientCA),
		"requestheader-client-ca-file": string(t.RequestHeaderCA),
	}
	for key, list := range lists {
		text, err := json.Marshal(list)
		if err != nil {
			return nil, err
		}
		data[key] = string(text)
	}
	return data, nil
}
