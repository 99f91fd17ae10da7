package node

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	resourcev1 "k8s.io/api/resource/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/kubernetes/pkg/auth/nodeidentifier"
	upstream "k8s.io/kubernetes/plugin/pkg/auth/authorizer/node"
	"k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac/bootstrappolicy"
	"sigs.k8s.io/yaml"
)

// everything is a pod on the node "one" that refers to others in all ways there are, and a mirror pod there that claims to.
const everything = `
metadata:
  name: pod
  namespace: ns
  uid: u
  labels: {a: b}
  annotations: {note: n}
spec:
  nodeName: one
  serviceAccountName: account
  imagePullSecrets: [{name: pull}]
  initContainers:
  - {name: i, image: i, env: [{name: A, value: plain}, {name: B, valueFrom: {secretKeyRef: {name: init-env, key: k}}}]}
  containers:
  - name: c
    image: i
    envFrom: [{secretRef: {name: env-from}}, {configMapRef: {name: map-from}}]
    env: [{name: A, valueFrom: {configMapKeyRef: {name: map-env, key: k}}}]
  ephemeralContainers:
  - {name: e, image: i, envFrom: [{secretRef: {name: debugged}}]}
  resourceClaims: [{name: direct, resourceClaimName: claim}, {name: templated, resourceClaimTemplateName: t}]
  volumes:
  - {name: s, secret: {secretName: mounted}}
  - {name: m, configMap: {name: map-mounted}}
  - {name: p, projected: {sources: [{secret: {name: projected}}, {configMap: {name: map-projected}}]}}
  - {name: csi, csi: {driver: d, nodePublishSecretRef: {name: csi}}}
  - {name: v, persistentVolumeClaim: {claimName: disk}}
  - {name: w, ephemeral: {volumeClaimTemplate: {spec: {}}}}
status:
  resourceClaimStatuses: [{name: templated, resourceClaimName: made}]
  extendedResourceClaimStatus: {resourceClaimName: extended}
  message: m
`

func object[T any](t *testing.T, doc string) *T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict([]byte(doc), &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

func objects(t *testing.T) []runtime.Object {
	t.Helper()
	mirror := object[corev1.Pod](t, everything)
	mirror.Name, mirror.Annotations = "mirror", map[string]string{corev1.MirrorPodAnnotationKey: "m"}
	mirror.Spec.ImagePullSecrets[0].Name, mirror.Spec.ServiceAccountName = "claimed", "claimed"
	return []runtime.Object{
		object[corev1.Pod](t, everything), mirror,
		object[corev1.Pod](t, `{metadata: {name: waiting, namespace: ns}, spec: {serviceAccountName: nobodys, imagePullSecrets: [{name: nobodys}]}}`),
		object[corev1.PersistentVolume](t, `
metadata: {name: volume}
spec: {capacity: {storage: 1Gi}, claimRef: {namespace: ns, name: disk}, csi: {driver: d, volumeHandle: h, nodeStageSecretRef: {namespace: ns, name: staged}}}`),
		object[storagev1.VolumeAttachment](t, `{metadata: {name: attachment}, spec: {nodeName: one, attacher: a, source: {persistentVolumeName: volume}}}`),
		object[resourcev1.ResourceSlice](t, `{metadata: {name: slice}, spec: {nodeName: one, driver: d, pool: {name: p, resourceSliceCount: 1}, devices: [{name: x}]}}`),
	}
}

// graphOf puts objects into a graph, as upstream's handlers do.
func graphOf(objs []runtime.Object) authorizer.Authorizer {
	g := upstream.NewGraph()
	for _, obj := range objs {
		switch o := obj.(type) {
		case *corev1.Pod:
			if o.Spec.NodeName != "" {
				g.AddPod(o)
			}
		case *corev1.PersistentVolume:
			g.AddPV(o)
		case *storagev1.VolumeAttachment:
			g.AddVolumeAttachment(o.Name, o.Spec.NodeName)
		case *resourcev1.ResourceSlice:
			g.AddResourceSlice(o.Name, *o.Spec.NodeName)
		}
	}
	return upstream.NewAuthorizer(g, nodeidentifier.NewDefaultNodeIdentifier(), bootstrappolicy.NodeRules())
}

func ask(node, verb, group, resource, sub, namespace, name string) authorizer.AttributesRecord {
	return authorizer.AttributesRecord{
		User: &user.DefaultInfo{Name: "system:node:" + node, Groups: []string{user.NodesGroup}},
		Verb: verb, APIGroup: group, APIVersion: "*", Resource: resource, Subresource: sub, Namespace: namespace, Name: name, ResourceRequest: true,
	}
}

// requests are all that nodes might ask about the objects, and more.
func requests() []authorizer.AttributesRecord {
	var all []authorizer.AttributesRecord
	for resource, names := range map[[3]string][]string{
		{"", "secrets", "ns"}: {
			"pull", "init-env", "env-from", "debugged", "mounted", "projected", "csi", "staged", "nobodys", "claimed", "",
		},
		{"", "configmaps", "ns"}:                             {"map-from", "map-env", "map-mounted", "map-projected", "nobodys", ""},
		{"", "serviceaccounts", "ns"}:                        {"account", "nobodys", "claimed", ""},
		{"", "persistentvolumeclaims", "ns"}:                 {"disk", "pod-w", "mirror-w", ""},
		{"", "persistentvolumes", ""}:                        {"volume", "other", ""},
		{"", "pods", "ns"}:                                   {"pod", "mirror", "waiting", ""},
		{"", "nodes", ""}:                                    {"one", "two", ""},
		{"", "services", "ns"}:                               {"s", ""},
		{"coordination.k8s.io", "leases", "kube-node-lease"}: {"one", "two", ""},
		{"storage.k8s.io", "csinodes", ""}:                   {"one", "two", ""},
		{"storage.k8s.io", "volumeattachments", ""}:          {"attachment", "other", ""},
		{"resource.k8s.io", "resourceslices", ""}:            {"slice", "other", ""},
		{"resource.k8s.io", "resourceclaims", "ns"}:          {"claim", "made", "extended", "templated", ""},
	} {
		for _, name := range names {
			for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
				for _, sub := range []string{"", "status", "token", "eviction"} {
					for _, node := range []string{"one", "two"} {
						all = append(all, ask(node, verb, resource[0], resource[1], sub, resource[2], name))
					}
				}
			}
		}
	}
	return all
}

func decide(t *testing.T, by authorizer.Authorizer, r authorizer.AttributesRecord) authorizer.Decision {
	t.Helper()
	decision, _, err := by.Authorize(t.Context(), r)
	if err != nil {
		t.Errorf("%s: %v", said(r), err)
	}
	return decision
}

func said(r authorizer.AttributesRecord) string {
	return fmt.Sprintf("%s %s %s/%s/%s %q", r.User.GetName(), r.Verb, r.APIGroup, r.Resource, r.Subresource, r.Name)
}

// What is taken away from objects before they are kept changes no decision.
func TestStrippedObjectsSayTheSame(t *testing.T) {
	t.Parallel()
	whole := graphOf(objects(t))
	var small []runtime.Object
	for _, obj := range objects(t) {
		kept, err := strip(obj)
		if err != nil {
			t.Fatal(err)
		}
		small = append(small, kept.(runtime.Object))
	}
	if p := small[0].(*corev1.Pod); p.Labels != nil || p.Status.Message != "" || p.Spec.Containers[0].Image != "" {
		t.Errorf("nothing was taken away: %v", p)
	}
	stripped := graphOf(small)
	for _, r := range requests() {
		if want, got := decide(t, whole, r), decide(t, stripped, r); got != want {
			t.Errorf("%s: %v, want %v", said(r), got, want)
		}
	}
	for _, name := range []string{"pull", "init-env", "env-from", "debugged", "mounted", "projected", "csi", "staged"} {
		if r := ask("one", "get", "", "secrets", "", "ns", name); decide(t, stripped, r) != authorizer.DecisionAllow {
			t.Errorf("%s is refused", said(r))
		}
	}
	for _, name := range []string{"nobodys", "claimed"} {
		if r := ask("one", "get", "", "secrets", "", "ns", name); decide(t, stripped, r) == authorizer.DecisionAllow {
			t.Errorf("%s is allowed", said(r))
		}
	}
}

// A request whose answer hangs on the graph waits for it: whatever an empty graph says otherwise is known to hang on it.
func TestNothingThatHangsOnTheGraphIsAnsweredWithoutIt(t *testing.T) {
	t.Parallel()
	whole, empty := graphOf(objects(t)), graphOf(nil)
	differ := 0
	for _, r := range requests() {
		if decide(t, whole, r) == decide(t, empty, r) {
			continue
		}
		differ++
		if !hangsOnGraph(r) {
			t.Errorf("%s is answered before the graph is there", said(r))
		}
	}
	if differ < 30 {
		t.Errorf("only %d answers hang on the graph", differ)
	}
}

// The first request of the first node starts the graph, and waits until it is whole.
func TestFirstRequestIsAnsweredRight(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	a := New(fake.NewClientset(objects(t)...))
	done := make(chan error, 1)
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	go func() { done <- a.Run(ctx) }()
	other := authorizer.AttributesRecord{User: &user.DefaultInfo{Name: "alice"}, Verb: "get", Resource: "secrets", Namespace: "ns", Name: "pull", ResourceRequest: true}
	if d := decide(t, a, other); d != authorizer.DecisionNoOpinion {
		t.Errorf("of alice: %v", d)
	}
	if d := decide(t, a, ask("one", "get", "", "nodes", "", "", "one")); d != authorizer.DecisionAllow {
		t.Errorf("own Node: %v", d)
	}
	select {
	case <-a.wanted:
		t.Error("the graph was wanted before a request that hangs on it")
	default:
	}
	for _, r := range []authorizer.AttributesRecord{
		ask("one", "get", "", "secrets", "", "ns", "staged"), // by way of a volume
		ask("one", "get", "storage.k8s.io", "volumeattachments", "", "", "attachment"),
		ask("one", "get", "resource.k8s.io", "resourceslices", "", "", "slice"),
	} {
		if d := decide(t, a, r); d != authorizer.DecisionAllow {
			t.Errorf("%s: %v", said(r), d)
		}
	}
	if r := ask("two", "get", "", "secrets", "", "ns", "staged"); decide(t, a, r) == authorizer.DecisionAllow {
		t.Errorf("%s is allowed", said(r))
	}
}

// While the graph is not whole a node is told that nobody knows, not that it may not.
func TestUnknownIsAnErrorAndNoRefusal(t *testing.T) {
	t.Parallel()
	a := New(fake.NewClientset())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	decision, _, err := a.Authorize(ctx, ask("one", "get", "", "secrets", "", "ns", "pull"))
	if err == nil || decision != authorizer.DecisionNoOpinion {
		t.Errorf("%v, %v", decision, err)
	}
}

// What binds a pod to a node later, and what deletes it, is followed.
func TestGraphFollowsChanges(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset(objects(t)...)
	ctx, cancel := context.WithCancel(t.Context())
	a := New(client)
	done := make(chan error, 1)
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	go func() { done <- a.Run(ctx) }()
	nobodys := ask("two", "get", "", "secrets", "", "ns", "nobodys")
	if d := decide(t, a, nobodys); d == authorizer.DecisionAllow {
		t.Fatalf("%s: %v", said(nobodys), d)
	}
	pods := client.CoreV1().Pods("ns")
	p, err := pods.Get(ctx, "waiting", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.Spec.NodeName = "two"
	if _, err := pods.Update(ctx, p, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the binding", func() bool { return decide(t, a, nobodys) == authorizer.DecisionAllow })
	if err := pods.Delete(ctx, "waiting", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "the deletion", func() bool { return decide(t, a, nobodys) != authorizer.DecisionAllow })
}

// await waits for what happens soon but not at once. The bound is only for tests that fail.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}
