package server_test

import (
	"context"
	"fmt"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/pki"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// nodes is a cluster with the nodes "one" and "two", which have registered themselves, and on each a pod called like the
// node that uses a Secret, a ConfigMap and a ServiceAccount called like it.
type nodes struct {
	*servertest.Server
	admin kubernetes.Interface
	one   kubernetes.Interface
	ns    string
}

func (n nodes) node(t *testing.T, name string) kubernetes.Interface {
	t.Helper()
	return servertest.NewClient(t, n.WithCertificate(t, servertest.Default, servertest.Default, pki.Client{
		User: "system:node:" + name, Groups: []string{"system:nodes"},
	}))
}

func newNodes(t *testing.T) nodes {
	t.Helper()
	n := nodes{Server: servertest.Start(t, servertest.Config{}), ns: "default"}
	n.admin, n.one = n.Client(t, servertest.Default), n.node(t, "one")
	for _, name := range []string{"one", "two"} {
		_, err := n.node(t, name).CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		n.pod(t, name, name)
	}
	return n
}

// pod makes a pod with what it uses, and puts it on a node.
func (n nodes) pod(t *testing.T, name, on string) {
	t.Helper()
	core := n.admin.CoreV1()
	meta := metav1.ObjectMeta{Name: name}
	_, err := core.Secrets(n.ns).Create(t.Context(), &corev1.Secret{ObjectMeta: meta}, metav1.CreateOptions{})
	if err == nil {
		_, err = core.ConfigMaps(n.ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: meta}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = core.ServiceAccounts(n.ns).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: meta}, metav1.CreateOptions{})
	}
	if err == nil {
		_, err = core.Pods(n.ns).Create(t.Context(), podWith(name, on), metav1.CreateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func podWith(name, node string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: node, ServiceAccountName: name,
			Containers: []corev1.Container{{Name: "c", Image: "i", EnvFrom: []corev1.EnvFromSource{
				{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}}},
			}}},
		},
	}
}

// refused fails the test unless the server forbade something.
func refused(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) {
		t.Errorf("%s: %v, want that it is forbidden", what, err)
	}
}

func allowed(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func named(name string) metav1.ListOptions {
	return metav1.ListOptions{FieldSelector: "metadata.name=" + name}
}

// A node reads the Secrets of its own pods and no others, however it asks.
func TestNodesDoNotReadOtherNodesSecrets(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	ctx := t.Context()
	secrets := n.one.CoreV1().Secrets(n.ns)
	_, err := secrets.Get(ctx, "one", metav1.GetOptions{}) // the first request that needs the graph
	allowed(t, "get own", err)
	_, err = secrets.List(ctx, named("one"))
	allowed(t, "list own by name", err)
	watch, err := secrets.Watch(ctx, named("one"))
	allowed(t, "watch own by name", err)
	if err == nil {
		watch.Stop()
	}
	_, err = n.one.CoreV1().ConfigMaps(n.ns).Get(ctx, "one", metav1.GetOptions{})
	allowed(t, "get own ConfigMap", err)

	_, err = secrets.Get(ctx, "two", metav1.GetOptions{})
	refused(t, "get", err)
	_, err = n.one.CoreV1().ConfigMaps(n.ns).Get(ctx, "two", metav1.GetOptions{})
	refused(t, "get ConfigMap", err)
	for what, opts := range map[string]metav1.ListOptions{
		"all":                {},
		"another's":          named("two"),
		"all but one":        {FieldSelector: "metadata.name!=one"},
		"another name":       {FieldSelector: "metadata.name=two,metadata.namespace=" + n.ns},
		"by type":            {FieldSelector: "type=Opaque"},
		"by label":           {LabelSelector: "a!=b"},
		"from the cache":     {ResourceVersion: "0"},
		"continued by count": {Limit: 1},
	} {
		_, err = secrets.List(ctx, opts)
		refused(t, "list "+what, err)
		_, err = secrets.Watch(ctx, opts)
		refused(t, "watch "+what, err)
		_, err = n.one.CoreV1().Secrets("").List(ctx, opts)
		refused(t, "list in all namespaces "+what, err)
	}
	for _, both := range []string{"metadata.name=one,metadata.name=two", "metadata.name=two,metadata.name=one"} {
		list, err := secrets.List(ctx, metav1.ListOptions{FieldSelector: both})
		if err == nil && len(list.Items) > 0 {
			t.Errorf("list %s: %d items, though nothing has two names", both, len(list.Items))
		}
	}
	_, err = secrets.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "mine"}}, metav1.CreateOptions{})
	refused(t, "create", err)
	_, err = secrets.Patch(ctx, "one", types.MergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{})
	refused(t, "patch own", err)
	refused(t, "delete own", secrets.Delete(ctx, "one", metav1.DeleteOptions{}))
}

// A node does not get at Secrets by making objects refer to them.
func TestNodesDoNotReferToOtherNodesSecrets(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	ctx := t.Context()
	pods := n.one.CoreV1().Pods(n.ns)
	_, err := pods.Create(ctx, podWith("two", "one"), metav1.CreateOptions{})
	refused(t, "a pod of its own", err)

	own, err := n.one.CoreV1().Nodes().Get(ctx, "one", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	mirror := podWith("mirror", "one")
	mirror.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x", "kubernetes.io/config.source": "file"}
	yes := true
	mirror.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "one", UID: own.UID, Controller: &yes}}
	mirror.Spec.ServiceAccountName = ""
	mirror.Spec.Containers[0].EnvFrom[0].SecretRef.Name = "two"
	_, err = pods.Create(ctx, mirror.DeepCopy(), metav1.CreateOptions{})
	refused(t, "a mirror pod that refers to a Secret", err)
	mirror.Spec.Containers[0].EnvFrom = nil
	elsewhere := mirror.DeepCopy()
	elsewhere.Spec.NodeName = "two"
	_, err = pods.Create(ctx, elsewhere, metav1.CreateOptions{})
	refused(t, "a mirror pod on another node", err)
	_, err = pods.Create(ctx, mirror.DeepCopy(), metav1.CreateOptions{})
	allowed(t, "a mirror pod", err)

	spec := []byte(`{"spec":{"volumes":[{"name":"v","secret":{"secretName":"two"}}]}}`)
	_, err = pods.Patch(ctx, "one", types.StrategicMergePatchType, spec, metav1.PatchOptions{})
	refused(t, "patch the spec of the own pod", err)
	_, err = pods.Patch(ctx, "one", types.StrategicMergePatchType, []byte(`{"spec":{"ephemeralContainers":[{"name":"e","image":"i","envFrom":[{"secretRef":{"name":"two"}}]}]}}`), metav1.PatchOptions{}, "ephemeralcontainers")
	refused(t, "an ephemeral container", err)
	err = pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "two"}, Target: corev1.ObjectReference{Kind: "Node", Name: "one"}}, metav1.CreateOptions{})
	refused(t, "bind another's pod to itself", err)
	_, err = pods.Patch(ctx, "two", types.MergePatchType, []byte(`{"spec":{"nodeName":"one"},"status":{"phase":"Running"}}`), metav1.PatchOptions{}, "status")
	refused(t, "the status of another's pod", err)
	refused(t, "evict another's pod", pods.Delete(ctx, "two", metav1.DeleteOptions{}))
	_, err = n.one.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "v"}}, metav1.CreateOptions{})
	refused(t, "make a volume", err)
	_, err = n.one.CoreV1().Secrets(n.ns).Get(ctx, "two", metav1.GetOptions{})
	refused(t, "read the Secret after all that", err)
}

// A node gets tokens for the pods that it runs and no others.
func TestNodesDoNotGetTokensOfPodsElsewhere(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	pods := map[string]*corev1.Pod{}
	for _, name := range []string{"one", "two"} {
		pod, err := n.admin.CoreV1().Pods(n.ns).Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pods[name] = pod
	}
	request := func(account, pod string, uid types.UID) error {
		r := newTokenRequest()
		if pod != "" {
			r.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod, UID: uid}
		}
		_, err := n.one.CoreV1().ServiceAccounts(n.ns).CreateToken(t.Context(), account, r, metav1.CreateOptions{})
		return err
	}
	allowed(t, "own pod", request("one", "one", pods["one"].UID))
	refused(t, "another's pod", request("two", "two", pods["two"].UID))
	refused(t, "own account with another's pod", request("one", "two", pods["two"].UID))
	refused(t, "another's account with own pod", request("two", "one", pods["one"].UID))
	refused(t, "not bound", request("one", "", ""))
	refused(t, "without a UID", request("one", "one", ""))
	if err := request("one", "one", "made-up"); err == nil {
		t.Error("a made-up UID: accepted")
	}
}

// A node changes its own Node, Lease and CSINode, and of its Node only what is its to say.
func TestNodesDoNotChangeOtherNodesNorPromoteThemselves(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	ctx := t.Context()
	all := n.one.CoreV1().Nodes()
	merge := func(name, patch string, subresources ...string) error {
		_, err := all.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}, subresources...)
		return err
	}
	allowed(t, "own label", merge("one", `{"metadata":{"labels":{"example.com/a":"b"}}}`))
	allowed(t, "own kubelet label", merge("one", `{"metadata":{"labels":{"kubelet.kubernetes.io/a":"b"}}}`))
	allowed(t, "own status", merge("one", `{"status":{"capacity":{"cpu":"2"}}}`, "status"))
	for what, patch := range map[string]string{
		"ownerReferences":     `{"metadata":{"ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"x","uid":"y"}]}}`,
		"isolation label":     `{"metadata":{"labels":{"node-restriction.kubernetes.io/a":"b"}}}`,
		"unknown k8s label":   `{"metadata":{"labels":{"foo.k8s.io/a":"b"}}}`,
		"taints":              `{"spec":{"taints":[{"key":"a","effect":"NoSchedule"}]}}`,
		"config source":       `{"spec":{"configSource":{"configMap":{"name":"a","namespace":"b","kubeletConfigKey":"c"}}}}`,
		"role label":          `{"metadata":{"labels":{"node-role.kubernetes.io/control-plane":""}}}`,
		"isolation by status": `{"metadata":{"labels":{"node-restriction.kubernetes.io/a":"b"}}}`,
	} {
		sub := []string{}
		if what == "isolation by status" {
			sub = append(sub, "status")
		}
		err := merge("one", patch, sub...)
		if what == "config source" && apierrors.IsInvalid(err) {
			continue // the field is refused for everybody
		}
		refused(t, what, err)
	}
	refused(t, "delete itself", all.Delete(ctx, "one", metav1.DeleteOptions{}))
	refused(t, "delete another", all.Delete(ctx, "two", metav1.DeleteOptions{}))
	refused(t, "delete all", all.DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
	refused(t, "patch another", merge("two", `{"metadata":{"labels":{"example.com/a":"b"}}}`))
	refused(t, "another's status", merge("two", `{"status":{"capacity":{"cpu":"2"}}}`, "status"))
	_, err := all.Get(ctx, "two", metav1.GetOptions{})
	refused(t, "read another", err)
	_, err = all.List(ctx, metav1.ListOptions{})
	refused(t, "list", err)
	_, err = all.Create(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "three"}}, metav1.CreateOptions{})
	refused(t, "register another", err)

	refusedEach(t, ctx, n)
}

// refusedEach tries the other objects that a node has one of.
func refusedEach(t *testing.T, ctx context.Context, n nodes) {
	t.Helper()
	for name, want := range map[string]func(*testing.T, string, error){"one": allowed, "two": refused} {
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err := n.one.CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, lease, metav1.CreateOptions{})
		want(t, fmt.Sprintf("Lease %s", name), err)
		_, err = n.one.CoordinationV1().Leases(n.ns).Create(ctx, lease, metav1.CreateOptions{})
		refused(t, fmt.Sprintf("Lease %s elsewhere", name), err)
		csi := &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: name}}
		_, err = n.one.StorageV1().CSINodes().Create(ctx, csi, metav1.CreateOptions{})
		want(t, fmt.Sprintf("CSINode %s", name), err)
	}
	_, err := n.node(t, "two").CoordinationV1().Leases(corev1.NamespaceNodeLease).Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "two"}}, metav1.CreateOptions{})
	allowed(t, "another's Lease by itself", err)
	_, err = n.one.CoordinationV1().Leases(corev1.NamespaceNodeLease).Patch(ctx, "two", types.MergePatchType, []byte(`{"spec":{"holderIdentity":"one"}}`), metav1.PatchOptions{})
	refused(t, "patch another's Lease", err)
	refused(t, "delete another's Lease", n.one.CoordinationV1().Leases(corev1.NamespaceNodeLease).Delete(ctx, "two", metav1.DeleteOptions{}))
}

// TestNodesReadPodNetworksAndDoNotWriteThem: whoever writes one has other nodes send it what they have for pods.
func TestNodesReadPodNetworksAndDoNotWriteThem(t *testing.T) {
	t.Parallel()
	n := newNodes(t)
	ctx := t.Context()
	const label = "rowlock.io/pod-network"
	network := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "pod-network.two", Labels: map[string]string{label: ""}}, Data: map[string]string{"podCIDRs": "10.244.1.0/24"}}
	if _, err := n.admin.CoreV1().ConfigMaps(corev1.NamespaceNodeLease).Create(ctx, network, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	all := n.one.CoreV1().ConfigMaps(corev1.NamespaceNodeLease)
	selected := metav1.ListOptions{LabelSelector: label}
	list, err := all.List(ctx, selected)
	allowed(t, "list", err)
	if err == nil && len(list.Items) != 1 {
		t.Errorf("there are %d", len(list.Items))
	}
	watch, err := all.Watch(ctx, selected)
	allowed(t, "watch", err)
	if err == nil {
		watch.Stop()
	}
	_, err = all.Get(ctx, network.Name, metav1.GetOptions{})
	allowed(t, "get", err)

	own := network.DeepCopy()
	own.Name = "pod-network.one"
	_, err = all.Create(ctx, own, metav1.CreateOptions{})
	refused(t, "create its own", err)
	network.Data["podCIDRs"] = "0.0.0.0/0"
	_, err = all.Update(ctx, network, metav1.UpdateOptions{})
	refused(t, "update", err)
	_, err = all.Patch(ctx, network.Name, types.MergePatchType, []byte(`{"data":{"podCIDRs":"0.0.0.0/0"}}`), metav1.PatchOptions{})
	refused(t, "patch", err)
	refused(t, "delete", all.Delete(ctx, network.Name, metav1.DeleteOptions{}))
	refused(t, "delete all", all.DeleteCollection(ctx, metav1.DeleteOptions{}, selected))
	for _, ns := range []string{"", "default", metav1.NamespaceSystem, metav1.NamespacePublic} {
		_, err = n.one.CoreV1().ConfigMaps(ns).List(ctx, selected)
		refused(t, fmt.Sprintf("list in namespace %q", ns), err)
	}
	_, err = n.one.CoreV1().Secrets(corev1.NamespaceNodeLease).List(ctx, metav1.ListOptions{})
	refused(t, "list Secrets", err)
}
