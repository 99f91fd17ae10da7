package server_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// effect is what a plug-in makes of requests: they are sent to a server with the plug-in and to one without it.
type effect struct {
	config      string            // of the plug-in
	others      []string          // plug-ins that both servers do without, since they do the same
	annotations map[string]string // of the namespace effects
	known       func(*testing.T, kubernetes.Interface) bool
	try         func(*testing.T, *servertest.Server) []string // what came of each request
	without     []string
	with        []string
}

const made = "made"

// outcome says what came of a request.
func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return made
}

var effects = map[string]effect{
	"LimitPodHardAntiAffinityTopology": {
		try: func(t *testing.T, s *servertest.Server) []string {
			return tryPods(t, s, apartBy("rack"), apartBy("kubernetes.io/hostname"))
		},
		without: []string{made, made},
		with: []string{
			`pods "p0" is forbidden: affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey rack but only key kubernetes.io/hostname is allowed`, made,
		},
	},
	"ExtendedResourceToleration": {
		try: func(t *testing.T, s *servertest.Server) []string {
			p, err := createPod(t, s.Client(t, servertest.Default), "effects", newPod("p", func(p *corev1.Pod) {
				device := corev1.ResourceList{"example.com/device": quantity("1")}
				p.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: device, Limits: device}
			}))
			return tolerated(p, err)
		},
		without: []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"},
		with:    []string{"example.com/device", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"},
	},
	"OwnerReferencesPermissionEnforcement": {
		try:     tryOwners,
		without: []string{made, made, made},
		with: []string{
			`configmaps "blocking" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>`,
			made,
			`configmaps "plain" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>`,
		},
	},
	"NamespaceExists": {
		others:  []string{"NamespaceLifecycle"},
		try:     tryMissing,
		without: []string{made, `namespaces "missing" not found`},
		with:    []string{`namespaces "missing" not found`, `namespaces "missing" not found`},
	},
	"NamespaceAutoProvision": {
		try:     tryMissing,
		without: []string{`namespaces "missing" not found`, `namespaces "missing" not found`},
		with:    []string{made, made},
	},
	"PodTopologyLabels": {
		known: func(t *testing.T, client kubernetes.Interface) bool {
			p, err := client.CoreV1().Pods("effects").Create(t.Context(), newPod("dry", func(p *corev1.Pod) { p.Spec.NodeName = "n" }),
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err == nil && len(p.Labels) > 0
		},
		try:     tryBinding,
		without: []string{made, ""},
		with:    []string{made, "topology.kubernetes.io/region=r,topology.kubernetes.io/zone=z"},
	},
	"PodNodeSelector": {
		config:      `{podNodeSelectorPluginConfig: {effects: "zone=b,disk=fast"}}`,
		annotations: map[string]string{"scheduler.alpha.kubernetes.io/node-selector": "zone=b"},
		try: func(t *testing.T, s *servertest.Server) []string {
			p, err := createPod(t, s.Client(t, servertest.Default), "effects", newPod("p"))
			return append([]string{outcome(err), labelsOf(p.Spec.NodeSelector)}, tryPods(t, s, onNodes("zone", "c"), onNodes("disk", "slow"), onNodes("disk", "fast"))...)
		},
		without: []string{made, "", made, made, made},
		with: []string{
			made, "zone=b", `pods "p0" is forbidden: pod node label selector conflicts with its namespace node label selector`,
			`pods "p1" is forbidden: pod node label selector labels conflict with its namespace whitelist`, made,
		},
	},
	"PodTolerationRestriction": {
		annotations: map[string]string{
			"scheduler.alpha.kubernetes.io/defaultTolerations":   `[{"key":"of-namespace","operator":"Exists","effect":"NoExecute"}]`,
			"scheduler.alpha.kubernetes.io/tolerationsWhitelist": `[{"operator":"Exists","effect":"NoExecute"}]`,
		},
		try: func(t *testing.T, s *servertest.Server) []string {
			p, err := createPod(t, s.Client(t, servertest.Default), "effects", newPod("p"))
			return append(tolerated(p, err), tryPods(t, s, func(p *corev1.Pod) {
				p.Spec.Tolerations = []corev1.Toleration{{Key: "mine", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}
			})...)
		},
		without: []string{"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", made},
		with: []string{
			"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "of-namespace",
			"pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist",
		},
	},
	"EventRateLimit": {
		config:  `{apiVersion: eventratelimit.admission.k8s.io/v1alpha1, kind: Configuration, limits: [{type: Namespace, qps: 1, burst: 1, cacheSize: 10}]}`,
		try:     tryEvents,
		without: []string{"all made"},
		with:    []string{"too many"},
	},
	"AlwaysPullImages": {
		try: func(t *testing.T, s *servertest.Server) []string {
			p, err := createPod(t, s.Client(t, servertest.Default), "effects", newPod("p", func(p *corev1.Pod) {
				p.Spec.Containers[0].ImagePullPolicy = corev1.PullNever
			}))
			return []string{outcome(err), string(p.Spec.Containers[0].ImagePullPolicy)}
		},
		without: []string{made, "Never"},
		with:    []string{made, "Always"},
	},
}

// Plug-ins that are off by default, and those that act on what is rare, do their work where they run and nowhere else.
func TestPluginsAct(t *testing.T) {
	t.Parallel()
	for name, e := range effects {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for side, want := range map[string][]string{"without": e.without, "with": e.with} {
				s := e.start(t, name, side == "with")
				if got := e.try(t, s); !cmp.Equal(got, want) {
					t.Errorf("%s %s: %s", side, name, cmp.Diff(want, got))
				}
			}
		})
	}
}

// start starts a server with or without a plug-in; its namespace effects is there.
func (e effect) start(t *testing.T, name string, with bool) *servertest.Server {
	t.Helper()
	config := filepath.Join(t.TempDir(), "admission.yaml")
	if e.config != "" {
		writeFile(t, config, plugin(name, e.config))
	}
	s := servertest.Start(t, servertest.Config{Plane: func(cfg *controlplane.Config) {
		cfg.Admission.Disable = e.others
		if !with {
			cfg.Admission.Disable = append(slices.Clone(e.others), name)
			return
		}
		cfg.Admission.Enable = []string{name}
		if e.config != "" {
			cfg.Admission.ConfigFile = config
		}
	}})
	client := s.Client(t, servertest.Default)
	must[any](t)(client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "effects", Annotations: e.annotations},
	}, metav1.CreateOptions{}))
	must[any](t)(client.CoreV1().ServiceAccounts("effects").Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	must[any](t)(client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{
		"topology.kubernetes.io/zone": "z", "topology.kubernetes.io/region": "r", "other": "o",
	}}}, metav1.CreateOptions{}))
	if with && e.known != nil {
		await(t, "what the plug-in looks at is known", func() bool { return e.known(t, client) })
	}
	return s
}

// tryPods creates a pod for each change.
func tryPods(t *testing.T, s *servertest.Server, changes ...func(*corev1.Pod)) []string {
	t.Helper()
	var got []string
	for i, change := range changes {
		_, err := createPod(t, s.Client(t, servertest.Default), "effects", newPod(fmt.Sprint("p", i), change))
		got = append(got, outcome(err))
	}
	return got
}

func apartBy(key string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{{
				TopologyKey: key, LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}},
			}},
		}}
	}
}

func onNodes(key, value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{key: value} }
}

func tolerated(p *corev1.Pod, err error) []string {
	if err != nil {
		return []string{err.Error()}
	}
	var keys []string
	for _, tol := range p.Spec.Tolerations {
		keys = append(keys, tol.Key)
	}
	slices.Sort(keys)
	return keys
}

func labelsOf(set map[string]string) string {
	var pairs []string
	for key, value := range set {
		pairs = append(pairs, key+"="+value)
	}
	slices.Sort(pairs)
	return strings.Join(pairs, ",")
}

// tryOwners lets alice, who may create and update ConfigMaps but not delete them, name owners.
func tryOwners(t *testing.T, s *servertest.Server) []string {
	t.Helper()
	admin := s.Client(t, servertest.Default)
	must[any](t)(admin.RbacV1().Roles("effects").Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, Verbs: []string{"get", "create", "update", "patch"}}},
	}, metav1.CreateOptions{}))
	must[any](t)(admin.RbacV1().RoleBindings("effects").Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "r"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "r"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "alice"}},
	}, metav1.CreateOptions{}))
	alice := servertest.NewClient(t, s.Config(servertest.Default, servertest.AliceToken)).CoreV1().ConfigMaps("effects")
	await(t, "the binding is known", func() bool {
		_, err := alice.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "dry"}}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil
	})
	owned := func(name string, block bool) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "apps/v1", Kind: "Deployment", Name: "d", UID: "u", BlockOwnerDeletion: &block,
		}}}}
	}
	_, blocking := alice.Create(t.Context(), owned("blocking", true), metav1.CreateOptions{})
	_, loose := alice.Create(t.Context(), owned("loose", false), metav1.CreateOptions{})
	must[any](t)(alice.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "plain"}}, metav1.CreateOptions{}))
	_, later := alice.Patch(t.Context(), "plain", types.MergePatchType,
		[]byte(`{"metadata":{"ownerReferences":[{"apiVersion":"apps/v1","kind":"Deployment","name":"d","uid":"u"}]}}`), metav1.PatchOptions{})
	return []string{outcome(blocking), outcome(loose), outcome(later)}
}

// tryMissing creates an object in a namespace that is not there, and looks for the namespace.
func tryMissing(t *testing.T, s *servertest.Server) []string {
	t.Helper()
	client := s.Client(t, servertest.Default)
	_, err := client.CoreV1().ConfigMaps("missing").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "c"}}, metav1.CreateOptions{})
	_, gone := client.CoreV1().Namespaces().Get(t.Context(), "missing", metav1.GetOptions{})
	return []string{outcome(err), outcome(gone)}
}

// tryBinding binds a pod to the node and looks at the labels that the pod has then.
func tryBinding(t *testing.T, s *servertest.Server) []string {
	t.Helper()
	client := s.Client(t, servertest.Default)
	must[any](t)(createPod(t, client, "effects", newPod("p")))
	err := client.CoreV1().Pods("effects").Bind(t.Context(), &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n"},
	}, metav1.CreateOptions{})
	p := must[*corev1.Pod](t)(client.CoreV1().Pods("effects").Get(t.Context(), "p", metav1.GetOptions{}))
	return []string{outcome(err), labelsOf(p.Labels)}
}

// tryEvents creates more events than a limit lets pass, however slowly this goes.
func tryEvents(t *testing.T, s *servertest.Server) []string {
	t.Helper()
	for i := range 50 {
		_, err := s.Client(t, servertest.Default).CoreV1().Events("effects").Create(t.Context(), &corev1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("e", i)}, InvolvedObject: corev1.ObjectReference{Namespace: "effects"},
		}, metav1.CreateOptions{})
		if apierrors.IsTooManyRequests(err) {
			return []string{"too many"}
		}
		if err != nil {
			return []string{err.Error()}
		}
	}
	return []string{"all made"}
}
