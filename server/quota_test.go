package server_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/servertest"
	"github.com/rowlock-io/rowlock/storage"
)

func quantity(s string) resource.Quantity { return resource.MustParse(s) }

// createQuota makes a quota with nothing used, which is what the controller says of a namespace without objects.
func createQuota(t *testing.T, client kubernetes.Interface, namespace, doc string) {
	t.Helper()
	q := parse[corev1.ResourceQuota](t, doc)
	api := client.CoreV1().ResourceQuotas(namespace)
	q = must[*corev1.ResourceQuota](t)(api.Create(t.Context(), q, metav1.CreateOptions{}))
	q.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: corev1.ResourceList{}}
	for name := range q.Spec.Hard {
		q.Status.Used[name] = resource.MustParse("0")
	}
	must[any](t)(api.UpdateStatus(t.Context(), q, metav1.UpdateOptions{}))
}

// awaitQuotas waits until the plug-in knows the quotas of a namespace that were made before. Its informer hears of them
// in order.
func awaitQuotas(t *testing.T, namespace string, clients ...kubernetes.Interface) {
	t.Helper()
	createQuota(t, clients[0], namespace, "{metadata: {name: probe}, spec: {hard: {count/leases.coordination.k8s.io: 0}}}")
	for _, client := range clients {
		await(t, "the quotas are in force", func() bool {
			lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}
			_, err := client.CoordinationV1().Leases(namespace).Create(t.Context(), lease, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), "exceeded quota: probe")
		})
	}
}

// createAny creates an object in a namespace.
func createAny(t *testing.T, client kubernetes.Interface, namespace string, obj any) error {
	t.Helper()
	var err error
	switch obj := obj.(type) {
	case *corev1.Pod:
		_, err = client.CoreV1().Pods(namespace).Create(t.Context(), obj, metav1.CreateOptions{})
	case *corev1.Service:
		_, err = client.CoreV1().Services(namespace).Create(t.Context(), obj, metav1.CreateOptions{})
	case *corev1.PersistentVolumeClaim:
		_, err = client.CoreV1().PersistentVolumeClaims(namespace).Create(t.Context(), obj, metav1.CreateOptions{})
	default:
		t.Fatalf("no way to create a %T", obj)
	}
	return err
}

func newNamespace(t *testing.T, client kubernetes.Interface, name string, labels map[string]string) {
	t.Helper()
	must[any](t)(client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}))
	must[any](t)(client.CoreV1().ServiceAccounts(name).Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
}

// Two replicas on one database charge the same quota at the same time; the store's condition on its status keeps them
// from spending it twice.
func TestReplicasDoNotExceedAQuota(t *testing.T) {
	t.Parallel()
	for name, open := range databases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			replicasWithAQuota(t, open(t))
		})
	}
}

func replicasWithAQuota(t *testing.T, db storage.Database) {
	one := servertest.Start(t, servertest.Config{Database: db})
	two := servertest.Start(t, servertest.Config{Database: db, Keys: one.Keys})
	clients := []kubernetes.Interface{one.Client(t, servertest.Default), two.Client(t, servertest.Default)}
	newNamespace(t, clients[0], "counted", nil)
	createQuota(t, clients[0], "counted", "{metadata: {name: few}, spec: {hard: {count/configmaps: 10}}}")
	awaitQuotas(t, "counted", clients...)
	var made atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 5 {
				_, err := clients[i%2].CoreV1().ConfigMaps("counted").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("c-%d-%d", i, n)}}, metav1.CreateOptions{})
				switch {
				case err == nil:
					made.Add(1)
				case apierrors.IsForbidden(err) && strings.Contains(err.Error(), "exceeded quota: few"), apierrors.IsConflict(err):
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, used := made.Load(), usedConfigMaps(t, clients[0]); got > 10 || got == 0 || used < got || used > 10 {
		t.Errorf("made %d, the quota says %d of 10", got, used)
	}
}

func usedConfigMaps(t *testing.T, client kubernetes.Interface) int64 {
	t.Helper()
	q := must[*corev1.ResourceQuota](t)(client.CoreV1().ResourceQuotas("counted").Get(t.Context(), "few", metav1.GetOptions{}))
	used := q.Status.Used["count/configmaps"]
	return used.Value()
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	pod := func(name, priority, cpu, ephemeral string) any {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       corev1.PodSpec{PriorityClassName: priority, Containers: []corev1.Container{{Name: "c", Image: "i"}}},
		}
		if cpu != "" {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse(cpu), "ephemeral-storage": resource.MustParse(ephemeral)}
		}
		return p
	}
	service := func(name string, kind corev1.ServiceType) any {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Type: kind, Ports: []corev1.ServicePort{{Port: 80}}}}
	}
	claim := func(name, class, size string) any {
		return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse(size)}},
		}}
	}
	for name, c := range map[string]struct {
		quota  string
		fits   any
		beyond any
		words  string
	}{
		"pods":            {"{hard: {pods: 1}}", pod("a", "", "", ""), pod("b", "", "", ""), "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"},
		"cpu":             {"{hard: {limits.cpu: 2}}", pod("a", "", "1500m", "1Gi"), pod("b", "", "1", "1Gi"), "requested: limits.cpu=1, used: limits.cpu=1500m, limited: limits.cpu=2"},
		"unlimited":       {"{hard: {limits.cpu: 2}}", pod("a", "", "1", "1Gi"), pod("b", "", "", ""), "failed quota: q: must specify limits.cpu for: c"},
		"ephemeral":       {"{hard: {requests.ephemeral-storage: 3Gi}}", pod("a", "", "1", "2Gi"), pod("b", "", "1", "2Gi"), "requests.ephemeral-storage=2Gi"},
		"best effort":     {"{hard: {pods: 1}, scopes: [BestEffort]}", pod("a", "", "", ""), pod("b", "", "", ""), "limited: pods=1"},
		"not best effort": {"{hard: {pods: 0}, scopes: [NotBestEffort]}", pod("a", "", "", ""), pod("b", "", "1", "1Gi"), "limited: pods=0"},
		"priority class": {
			"{hard: {pods: 0}, scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [system-cluster-critical]}]}}",
			pod("a", "", "", ""), pod("b", "system-cluster-critical", "", ""), "limited: pods=0",
		},
		"services":       {"{hard: {services: 1}}", service("a", ""), service("b", ""), "limited: services=1"},
		"node ports":     {"{hard: {services.nodeports: 1}}", service("a", corev1.ServiceTypeNodePort), service("b", corev1.ServiceTypeNodePort), "limited: services.nodeports=1"},
		"load balancers": {"{hard: {services.loadbalancers: 0}}", service("a", ""), service("b", corev1.ServiceTypeLoadBalancer), "limited: services.loadbalancers=0"},
		"storage":        {"{hard: {requests.storage: 5Gi}}", claim("a", "", "3Gi"), claim("b", "", "3Gi"), "requested: requests.storage=3Gi, used: requests.storage=3Gi, limited: requests.storage=5Gi"},
		"storage class": {
			"{hard: {gold.storageclass.storage.k8s.io/requests.storage: 1Gi}}", claim("a", "silver", "3Gi"), claim("b", "gold", "3Gi"),
			"limited: gold.storageclass.storage.k8s.io/requests.storage=1Gi",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := shared.Client(t, servertest.Default)
			ns := "quota-" + strings.ReplaceAll(name, " ", "-")
			newNamespace(t, client, ns, nil)
			createQuota(t, client, ns, "{metadata: {name: q}, spec: "+c.quota+"}")
			awaitQuotas(t, ns, client)
			if err := createAny(t, client, ns, c.fits); err != nil {
				t.Fatal(err)
			}
			err := createAny(t, client, ns, c.beyond)
			if !apierrors.IsForbidden(err) {
				t.Errorf("reason %s", apierrors.ReasonForError(err))
			}
			wantDenied(t, err, c.words)
		})
	}
}
