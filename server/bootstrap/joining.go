package bootstrap

import (
	"bytes"
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	tokenapi "k8s.io/cluster-bootstrap/token/api"
)

// Joining is what machines that join are told of the cluster, before they can verify anything.
type Joining struct {
	CA     []byte // PEM; what tokens pin
	Server string // URL
}

// Names of what lets machines join. Where they exist they stay as they are, so that whoever does not want to have requests
// approved by themselves takes the subjects out of a binding.
const (
	readClusterInfo = "rowlock:read-cluster-info"
	bootstrapNodes  = "rowlock:bootstrap-nodes"
	approveNew      = "rowlock:approve-new-nodes"
	approveRenewal  = "rowlock:approve-renewals-of-nodes"
	reachNodes      = "rowlock:reach-nodes"
	approveServing  = "rowlock:approve-serving-certificates-of-nodes"
	readPodNetworks = "rowlock:read-pod-networks"
)

// kubeletClient is who servers are to nodes.
const kubeletClient = "kube-apiserver-kubelet-client"

// joining makes what a machine with a token needs, as kubeadm makes it: the cluster's authority where anybody may read it, and the rights to
// ask for certificates and to have them.
func joining(ctx context.Context, cfg Config) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return clusterInfo(ctx, cfg) })
	// Who joins has nothing yet to be known by.
	g.Go(func() error {
		return readable(ctx, cfg, metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: readClusterInfo}, rbacv1.PolicyRule{
			Verbs: []string{"get"}, ResourceNames: []string{tokenapi.ConfigMapClusterInfo},
		}, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user.Anonymous}, groupOf(user.AllAuthenticated))
	})
	// Agents make their pods' network, and must know the way to other nodes' pods. They do not see the other Nodes.
	g.Go(func() error {
		return readable(ctx, cfg, metav1.ObjectMeta{Namespace: corev1.NamespaceNodeLease, Name: readPodNetworks}, rbacv1.PolicyRule{
			Verbs: []string{"get", "list", "watch"},
		}, groupOf(user.NodesGroup))
	})
	signer := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: metav1.NamespaceSystem, Name: "certificate-controller"}
	for name, grant := range map[string]struct {
		role string
		to   rbacv1.Subject
	}{
		bootstrapNodes: {"system:node-bootstrapper", groupOf(tokenapi.BootstrapDefaultGroup)},
		approveNew:     {"system:certificates.k8s.io:certificatesigningrequests:nodeclient", groupOf(tokenapi.BootstrapDefaultGroup)},
		approveRenewal: {"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", groupOf(user.NodesGroup)},
		reachNodes:     {"system:kubelet-api-admin", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: kubeletClient}},
		approveServing: {"system:certificates.k8s.io:kubelet-serving-approver", signer},
	} {
		g.Go(func() error {
			bindings := cfg.Client.RbacV1().ClusterRoleBindings()
			_, err := bindings.Get(ctx, name, metav1.GetOptions{ResourceVersion: "0"})
			if apierrors.IsNotFound(err) {
				_, err = bindings.Create(ctx, &rbacv1.ClusterRoleBinding{
					ObjectMeta: metav1.ObjectMeta{Name: name},
					RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: grant.role},
					Subjects:   []rbacv1.Subject{grant.to},
				}, metav1.CreateOptions{})
			}
			return benign(name, err)
		})
	}
	return g.Wait()
}

func groupOf(name string) rbacv1.Subject {
	return rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: name}
}

// clusterInfo publishes the cluster's authority. Signatures of it are the business of the bootstrap-signer.
func clusterInfo(ctx context.Context, cfg Config) error {
	configMaps := cfg.Client.CoreV1().ConfigMaps(metav1.NamespacePublic)
	have, err := configMaps.Get(ctx, tokenapi.ConfigMapClusterInfo, metav1.GetOptions{ResourceVersion: "0"})
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	if err == nil && tells(have.Data[tokenapi.KubeConfigKey], cfg.Joining.CA) {
		return nil // replicas have addresses of their own: whichever is there is as good
	}
	config := api.NewConfig()
	config.Clusters[""] = &api.Cluster{Server: cfg.Joining.Server, CertificateAuthorityData: cfg.Joining.CA}
	text, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	cm := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespacePublic, Name: tokenapi.ConfigMapClusterInfo},
		Data:       map[string]string{tokenapi.KubeConfigKey: string(text)},
	}
	if have != nil && have.UID != "" {
		cm = have.DeepCopy()
		cm.Data[tokenapi.KubeConfigKey] = string(text)
		_, err = configMaps.Update(ctx, cm, metav1.UpdateOptions{})
	} else {
		_, err = configMaps.Create(ctx, cm, metav1.CreateOptions{})
	}
	return benign(cm.Name, err)
}

// tells whether a kubeconfig names an authority.
func tells(kubeconfig string, ca []byte) bool {
	config, err := clientcmd.Load([]byte(kubeconfig))
	if err != nil {
		return false
	}
	for _, c := range config.Clusters {
		if bytes.Equal(c.CertificateAuthorityData, ca) {
			return true
		}
	}
	return false
}

// readable lets somebody read ConfigMaps of a namespace.
func readable(ctx context.Context, cfg Config, meta metav1.ObjectMeta, rule rbacv1.PolicyRule, who ...rbacv1.Subject) error {
	roles, bindings := cfg.Client.RbacV1().Roles(meta.Namespace), cfg.Client.RbacV1().RoleBindings(meta.Namespace)
	rule.APIGroups, rule.Resources = []string{""}, []string{"configmaps"}
	_, err := roles.Get(ctx, meta.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		_, err = roles.Create(ctx, &rbacv1.Role{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{rule}}, metav1.CreateOptions{})
	}
	if err = benign(meta.Name, err); err != nil {
		return err
	}
	_, err = bindings.Get(ctx, meta.Name, metav1.GetOptions{ResourceVersion: "0"})
	if apierrors.IsNotFound(err) {
		_, err = bindings.Create(ctx, &rbacv1.RoleBinding{
			ObjectMeta: meta, Subjects: who,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: meta.Name},
		}, metav1.CreateOptions{})
	}
	return benign(meta.Name, err)
}
