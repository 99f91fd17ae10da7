package pods

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"reflect"
	"slices"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metafuzzer "k8s.io/apimachinery/pkg/apis/meta/fuzzer"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	genericapirequest "k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	api "k8s.io/kubernetes/pkg/apis/core"
	corefuzzer "k8s.io/kubernetes/pkg/apis/core/fuzzer"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	registrypod "k8s.io/kubernetes/pkg/registry/core/pod"
	"sigs.k8s.io/randfill"
)

// random makes pods, valid ones and ones with all that types allow.
type random struct {
	*rand.Rand
	t      *testing.T
	filler *randfill.Filler
}

func newRandom(t *testing.T, seed int64) *random {
	r := rand.New(rand.NewSource(seed))
	funcs := fuzzer.MergeFuzzerFuncs(metafuzzer.Funcs, corefuzzer.Funcs)
	return &random{Rand: r, t: t, filler: fuzzer.FuzzerFor(funcs, rand.NewSource(seed), serializer.NewCodecFactory(legacyscheme.Scheme))}
}

// oneOf is mostly the first.
func (r *random) oneOf(list ...string) string {
	if r.Intn(8) > 0 {
		return list[0]
	}
	return list[r.Intn(len(list))]
}

// plain is a pod as clients send it: valid, or with one of a few faults.
func (r *random) plain() *api.Pod {
	container := func(i int) string {
		return fmt.Sprintf(`{"name":"c%d","image":%q,"env":[{"name":"N","value":%q}],"resources":{"requests":{"cpu":%q,"memory":"64Mi"}},
			"ports":[{"containerPort":%d}],"volumeMounts":[{"name":%q,"mountPath":"/m"}],"livenessProbe":{"httpGet":{"path":"/","port":80}}}`,
			i, r.oneOf("i:1", "i:2", " i", ""), r.oneOf("a", "b"), r.oneOf("1", "100m", "1000m"), 80+r.Intn(3), r.oneOf("v", "w"))
	}
	text := fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"n","uid":"u","labels":{"a":%q},"annotations":{%q:%q}},"spec":{"containers":[%s,%s],
		"volumes":[{"name":"v",%s},{"name":"w","persistentVolumeClaim":{"claimName":%q}}],"nodeName":%q,"nodeSelector":{"x":%q},
		"tolerations":[{"key":"k","operator":"Exists","effect":%q}],"hostname":%q,"activeDeadlineSeconds":%d,"schedulingGates":[%s]}}`,
		r.oneOf("p", "q"), r.oneOf("x", "y", "not/valid"), r.oneOf("note", "kubernetes.io/config.mirror", "controller.kubernetes.io/pod-deletion-cost"), r.oneOf("x", "1"),
		container(0), container(1),
		r.oneOf(`"emptyDir":{}`, `"configMap":{"name":"c"}`, `"ephemeral":{"volumeClaimTemplate":{"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}}`),
		r.oneOf("claim", "p-v", "q-v"), r.oneOf("", "node"), r.oneOf("1", "2"), r.oneOf("NoSchedule", "NoExecute", "Never"), r.oneOf("h", "not.valid"),
		min(1+r.Intn(12), 10)%10, r.oneOf("", `{"name":"g"}`))
	var v1 corev1.Pod
	if err := json.Unmarshal([]byte(text), &v1); err != nil {
		r.t.Fatal(err, text)
	}
	legacyscheme.Scheme.Default(&v1)
	pod := &api.Pod{}
	if err := legacyscheme.Scheme.Convert(&v1, pod, nil); err != nil {
		r.t.Fatal(err)
	}
	pod.Generation = int64(1 + r.Intn(3))
	pod.ResourceVersion = "1"
	return pod
}

// wild is a pod with anything in it.
func (r *random) wild() *api.Pod {
	pod := &api.Pod{}
	r.filler.Fill(pod)
	return pod
}

// update makes an update of a pod: it leaves parts as they are and takes others from another pod.
func (r *random) update(old, other *api.Pod) *api.Pod {
	pod := old.DeepCopy()
	if r.Intn(3) == 0 {
		pod.Labels = other.Labels
	}
	switch r.Intn(4) {
	case 0:
		pod.Annotations = other.Annotations
	case 1:
		pod.Annotations = map[string]string{"note": r.oneOf("x", "2")}
	}
	switch r.Intn(8) {
	case 0:
		pod.Spec = other.Spec
	case 1:
		pod.Spec.Containers = other.Spec.Containers
	case 2:
		pod.Spec.Tolerations, pod.Spec.ActiveDeadlineSeconds = other.Spec.Tolerations, other.Spec.ActiveDeadlineSeconds
	case 3: // the same, said in another way
		for i := range pod.Spec.Containers {
			for name, q := range pod.Spec.Containers[i].Resources.Requests {
				again, err := resource.ParseQuantity(q.String())
				if err == nil {
					pod.Spec.Containers[i].Resources.Requests[name] = again
				}
			}
		}
		if pod.Spec.NodeSelector == nil {
			pod.Spec.NodeSelector = map[string]string{}
		}
	}
	if r.Intn(4) == 0 {
		pod.Status = other.Status
	}
	if r.Intn(10) == 0 {
		pod.Name = "renamed"
	}
	return pod.DeepCopy()
}

// outcome is all that an update makes of a pod, and says.
type outcome struct {
	pod, old *api.Pod
	errs     field.ErrorList
	said     []string
}

func (r *random) run(s rest.RESTUpdateStrategy, pod, old *api.Pod) outcome {
	ctx := genericapirequest.WithNamespace(r.t.Context(), pod.Namespace)
	out := outcome{pod: pod.DeepCopy(), old: old.DeepCopy()}
	if err := rest.BeforeUpdate(s, ctx, out.pod, out.old); err != nil {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			r.t.Fatal(err)
		}
		for _, cause := range status.Status().Details.Causes {
			out.said = append(out.said, fmt.Sprint("refused: ", cause))
		}
	}
	out.errs = s.ValidateUpdate(ctx, out.pod, out.old)
	for _, err := range out.errs {
		out.said = append(out.said, err.Error())
	}
	out.said = append(out.said, s.WarningsOnUpdate(ctx, out.pod, out.old)...)
	return out
}

// TestUpstream: what is skipped makes no difference, neither for the first update of a pod nor for the next ones.
func TestUpstream(t *testing.T) { //nolint:paralleltest // the logger is everybody's
	klog.SetLogger(logr.Discard()) // upstream tells of each error that there is twice
	t.Cleanup(klog.ClearLogger)
	ours := UpdateStrategy()
	s := ours.(*strategy)
	r := newRandom(t, 1)
	valid, same := 0, 0
	for i := range 600 {
		some := r.plain
		if i%6 == 0 {
			some = r.wild
		}
		old, other := some(), some()
		for range 5 {
			pod := r.update(old, other)
			want, got := r.run(registrypod.Strategy, pod, old), r.run(ours, pod, old)
			if i%6 == 0 { // upstream walks maps
				slices.Sort(got.said)
				slices.Sort(want.said)
			}
			if diff := cmp.Diff(want.said, got.said); diff != "" {
				t.Fatalf("step %d: %s", i, diff)
			}
			if !reflect.DeepEqual(encode(t, got.pod), encode(t, want.pod)) || !apiequality.Semantic.DeepEqual(got.pod, want.pod) {
				t.Fatal(cmp.Diff(encode(t, want.pod), encode(t, got.pod)))
			}
			if !apiequality.Semantic.DeepEqual(got.old, old) {
				t.Fatal("the old pod was changed")
			}
			if sameSpec(&pod.Spec, &old.Spec) {
				same++
				if len(want.errs) == 0 {
					valid++
				}
			}
		}
	}
	if valid < 100 || same < 1000 || len(s.valid.young) == 0 {
		t.Errorf("%d were the same, %d of them valid, %d known: the test says nothing", same, valid, len(s.valid.young))
	}
}

func encode(t *testing.T, pod *api.Pod) string {
	t.Helper()
	v1 := &corev1.Pod{}
	if err := legacyscheme.Scheme.Convert(pod, v1, nil); err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(v1)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestSame: what is the same is equal, and is written the same; each difference is seen.
func TestSame(t *testing.T) {
	t.Parallel()
	r := newRandom(t, 2)
	for range 300 {
		a := r.wild()
		b := a.DeepCopy()
		if !sameSpec(&a.Spec, &b.Spec) {
			t.Fatalf("a copy is not the same: %s", cmp.Diff(encode(t, a), encode(t, b)))
		}
		keyA, okA := keyOf(a)
		keyB, okB := keyOf(b)
		if !okA || !okB || keyA != keyB {
			t.Fatalf("a copy is written in another way (%v, %v)", okA, okB)
		}
		for range 20 {
			b := a.DeepCopy()
			if !r.spoil(reflect.ValueOf(&b.Spec).Elem()) {
				continue
			}
			equal := apiequality.Semantic.DeepEqual(a.Spec, b.Spec) && encode(t, a) == encode(t, b)
			if key, _ := keyOf(b); !equal && (sameSpec(&a.Spec, &b.Spec) || key == keyA) {
				t.Fatalf("a difference is not seen: %s", cmp.Diff(encode(t, a), encode(t, b)))
			}
		}
	}
}

// spoil changes one value somewhere in v, and tells whether it did.
func (r *random) spoil(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + "x")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() ^ 1)
	case reflect.Pointer:
		if v.IsNil() || r.Intn(8) == 0 {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			} else {
				v.SetZero()
			}
			return true
		}
		return r.spoil(v.Elem())
	case reflect.Slice:
		switch {
		case v.Len() == 0 || r.Intn(8) == 0:
			v.Set(reflect.Append(v, reflect.New(v.Type().Elem()).Elem()))
		case r.Intn(8) == 0:
			v.Set(v.Slice(0, v.Len()-1))
		default:
			return r.spoil(v.Index(r.Intn(v.Len())))
		}
	case reflect.Struct:
		if q, ok := v.Addr().Interface().(*resource.Quantity); ok {
			q.Add(resource.MustParse("1"))
			return true
		}
		f := v.Field(r.Intn(v.NumField()))
		return f.CanSet() && r.spoil(f)
	case reflect.Map:
		switch m := v.Interface().(type) {
		case map[string]string:
			if m == nil {
				return false
			}
			m["spoiled"] = "x"
		case api.ResourceList:
			if m == nil {
				return false
			}
			m["spoiled"] = resource.MustParse("1")
		default:
			return false
		}
	default:
		return false
	}
	return true
}

// TestSums: what is asked for stays, and there are never more than two halves.
func TestSums(t *testing.T) {
	t.Parallel()
	var s sums
	key := func(i int) (k sum) {
		k[0], k[1], k[2] = byte(i), byte(i>>8), byte(i>>16)
		return k
	}
	for i := range 5 * maxSums {
		s.add(key(i))
		if !s.has(key(0)) || !s.has(key(i)) {
			t.Fatalf("forgotten after %d", i)
		}
		if n := len(s.young) + len(s.aged); n > 2*maxSums {
			t.Fatalf("%d are kept", n)
		}
	}
	if s.has(key(1)) {
		t.Error("nothing is forgotten")
	}
}

// TestKeys: pods are told apart by what validation of their specs looks at, and by nothing else.
func TestKeys(t *testing.T) {
	t.Parallel()
	r := newRandom(t, 3)
	pod := r.plain()
	pod.Spec.Volumes = nil
	key := func(change func(*api.Pod)) sum {
		p := pod.DeepCopy()
		change(p)
		k, ok := keyOf(p)
		if !ok {
			t.Fatal("not known")
		}
		return k
	}
	base := key(func(*api.Pod) {})
	ephemeral := func(name string) func(*api.Pod) {
		return func(p *api.Pod) {
			p.Name = name
			p.Spec.Volumes = []api.Volume{{Name: "v", VolumeSource: api.VolumeSource{Ephemeral: &api.EphemeralVolumeSource{}}}}
		}
	}
	if key(func(p *api.Pod) { p.Name, p.Labels, p.DeletionTimestamp = "z", nil, &metav1.Time{} }) != base {
		t.Error("a pod of the same template has another key")
	}
	if key(func(p *api.Pod) { p.Annotations = map[string]string{"b": "c"} }) == base {
		t.Error("annotations make no difference")
	}
	if key(ephemeral("a")) == key(ephemeral("b")) {
		t.Error("the names of pods with claims of their own make no difference")
	}
}
