package fieldmanager

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	extensionsfuzzer "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/fuzzer"
	"k8s.io/apimachinery/pkg/api/apitesting/fuzzer"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	kubetesting "k8s.io/kubernetes/pkg/api/testing"
	"sigs.k8s.io/randfill"
)

var rounds = flag.Int("rounds", 1, "sequences of random writes per resource and subresource")

// TestEqualsUpstream plays sequences of random writes through our field managers and upstream's and compares every
// object and error. Time stands still in the bubble, so that times in managedFields are equal too.
func TestEqualsUpstream(t *testing.T) {
	t.Parallel()
	f := sharedFixture(t)
	var outcomes tally
	t.Run("all", func(t *testing.T) {
		for i, e := range f.endpoints {
			t.Run(e.resource, func(t *testing.T) {
				t.Parallel()
				for round := range *rounds {
					synctest.Test(t, func(t *testing.T) {
						newPlayer(t, e, int64(round*len(f.endpoints)+i), &outcomes).play()
					})
				}
			})
		}
	})
	// Equal answers prove little when they are all of one sort.
	for _, o := range []outcome{worked, conflicted, failed, noChange} {
		if n := outcomes[o].Load(); n < 20 {
			t.Errorf("only %d writes %s", n, o)
		}
	}
}

type outcome int

const (
	worked outcome = iota
	noChange
	conflicted
	failed
)

func (o outcome) String() string {
	return [...]string{"worked", "changed nothing", "met a conflict", "failed otherwise"}[o]
}

// tally counts writes by outcome.
type tally [4]atomic.Int32

// player plays one sequence of writes.
type player struct {
	t        *testing.T
	e        endpoint
	seed     int64
	rng      *rand.Rand
	filler   *randfill.Filler
	live     runtime.Object // the stored object, in the hub version
	outcomes *tally
}

func newPlayer(t *testing.T, e endpoint, seed int64, outcomes *tally) *player {
	codecs := serializer.NewCodecFactory(e.scheme)
	funcs := fuzzer.MergeFuzzerFuncs(kubetesting.FuzzerFuncs, extensionsfuzzer.Funcs)
	return &player{
		t: t, e: e, seed: seed, outcomes: outcomes,
		rng:    rand.New(rand.NewSource(seed)),
		filler: fuzzer.FuzzerFor(funcs, rand.NewSource(seed), codecs),
	}
}

// act is one call of a field manager. live and obj are copies of its own.
type act func(m manager, live, obj runtime.Object) (runtime.Object, error)

func update(name string) act {
	return func(m manager, live, obj runtime.Object) (runtime.Object, error) {
		return m.Update(live, obj, name)
	}
}

func apply(name string, force bool) act {
	return func(m manager, live, obj runtime.Object) (runtime.Object, error) {
		return m.Apply(live, obj, name, force)
	}
}

func updateNoErrors(name string) act {
	return func(m manager, live, obj runtime.Object) (runtime.Object, error) {
		return m.UpdateNoErrors(live, obj, name), nil
	}
}

func (p *player) play() {
	empty, err := p.e.scheme.New(p.e.kind.GroupKind().WithVersion(p.e.hub.Version))
	if err != nil {
		p.t.Fatal(err)
	}
	p.live = empty
	created := p.fill()
	if _, err := meta.Accessor(created); err != nil {
		// Objects without metadata (options of connections) have no owners: both must leave them alone.
		p.step("without metadata", created, update("creator"))
		return
	}
	config := applied(keep(p.rng, p.versioned(created), 0.7))
	p.step("create by apply", config, apply("applier", false))
	p.step("apply the same again", config, apply("applier", false))
	p.live = empty
	p.step("create", created, update("creator"))
	p.step("update", p.changed(), update("updater"))
	p.step("update without change", p.live.DeepCopyObject(), update("idle"))
	config = p.configuration()
	p.step("apply", config, apply("applier", false))
	p.step("apply the same", config, apply("applier", true))
	p.step("apply the same by another", config, apply("another", false))
	p.step("apply forced", p.configuration(), apply("applier", true))
	p.step("apply by another", p.configuration(), apply("another", false))
	p.step("apply by another, forced", p.configuration(), apply("another", true))
	p.step("apply by kubectl over an annotation", p.annotated(), apply("kubectl", false))
	p.step("apply less", p.less(), apply("another", true))
	p.step("update after applies", p.changed(), update("updater"))
	odd := oddOwners(p.e)
	for i := range 4 { // of each endpoint: all of them over all endpoints
		p.odd(odd[(int(p.seed)+i*len(odd)/4)%len(odd)])
	}
	many := 0
	if p.seed%8 == 0 {
		many = 12 // more than are told apart
	}
	for i := range many {
		p.step(fmt.Sprintf("update by one of many %d", i), p.changed(), update(fmt.Sprintf("many-%d", i)))
	}
	p.owners(p.live, nil)
	p.step("first apply to an object without owners", p.configuration(), apply("applier", true))
	reset := p.changed()
	p.owners(reset, []metav1.ManagedFieldsEntry{{}})
	p.step("owners reset", reset, update("updater"))
}

// odd writes managedFields that no field manager would write, and then writes to an object that has them.
func (p *player) odd(odd oddEntries) {
	before := p.live
	sent, changed, configuration := p.changed(), p.changed(), p.configuration()
	p.owners(sent, odd.entries)
	p.step("update with owners: "+odd.name, sent, updateNoErrors("odd"))
	if odd.sentOnly {
		return
	}

	p.live = before.DeepCopyObject()
	p.owners(p.live, odd.entries)
	p.step("update of an object with owners: "+odd.name, changed, updateNoErrors("odd"))

	p.live = before.DeepCopyObject()
	p.owners(p.live, odd.entries)
	p.step("apply to an object with owners: "+odd.name, configuration, apply("applier", true))
	p.live = before
}

// step writes obj with both managers and compares. When it worked, the result is the stored object from then on.
func (p *player) step(name string, obj runtime.Object, w act) {
	p.t.Helper()
	liveOurs, liveStock := p.live.DeepCopyObject(), p.live.DeepCopyObject()
	ours, errOurs := w(p.e.ours, liveOurs, obj.DeepCopyObject())
	stock, errStock := w(p.e.stock, liveStock, obj.DeepCopyObject())
	where := fmt.Sprintf("%s, seed %d, %s", p.e.resource, p.seed, name)
	if fmt.Sprint(errOurs) != fmt.Sprint(errStock) || reflect.TypeOf(errOurs) != reflect.TypeOf(errStock) {
		p.t.Fatalf("%s: error\n%T %v\nupstream's\n%T %v", where, errOurs, errOurs, errStock, errStock)
	}
	p.equal(where, ours, stock)
	p.equal(where+": live object", liveOurs, liveStock)
	switch {
	case apierrors.IsConflict(errStock):
		p.outcomes[conflicted].Add(1)
	case errStock != nil:
		p.outcomes[failed].Add(1)
	case stock == nil || reflect.DeepEqual(stock, p.live):
		p.outcomes[noChange].Add(1)
	default:
		p.outcomes[worked].Add(1)
		p.live = p.stored(stock)
	}
}

// stored is an object as it is read after it was written: it went through JSON, which knows no empty lists where there are none.
func (p *player) stored(obj runtime.Object) runtime.Object {
	versioned, err := p.e.scheme.ConvertToVersion(obj, p.e.kind.GroupVersion())
	if err != nil {
		p.t.Fatal(err)
	}
	data, err := json.Marshal(versioned)
	if err != nil {
		p.t.Fatal(err)
	}
	read := mustNewOf(p.t, p.e, p.e.kind.GroupVersion())
	if err := json.Unmarshal(data, read); err != nil {
		p.t.Fatal(err)
	}
	p.e.scheme.Default(read)
	out, err := p.e.scheme.ConvertToVersion(read, p.e.hub)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *player) equal(where string, ours, stock runtime.Object) {
	p.t.Helper()
	if reflect.DeepEqual(ours, stock) {
		return
	}
	p.t.Fatalf("%s: objects differ (-upstream +ours):\n%s", where, cmp.Diff(p.tree(stock), p.tree(ours)))
}

// tree shows an object for a difference.
func (p *player) tree(obj runtime.Object) any {
	data, err := json.Marshal(obj)
	if err != nil {
		return fmt.Sprintf("%#v", obj)
	}
	var v any
	if err := json.Unmarshal(data, &v); err != nil {
		p.t.Fatal(err)
	}
	return v
}

// owners sets an object's managedFields.
func (p *player) owners(obj runtime.Object, entries []metav1.ManagedFieldsEntry) {
	accessor, err := meta.Accessor(obj)
	if err != nil {
		p.t.Fatal(err)
	}
	accessor.SetManagedFields(entries)
}

// versioned is a copy of an object in the version of the endpoint, as a tree.
func (p *player) versioned(obj runtime.Object) map[string]any {
	out, err := p.e.scheme.ConvertToVersion(obj, p.e.kind.GroupVersion())
	if err != nil {
		p.t.Fatal(err)
	}
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(out)
	if err != nil {
		p.t.Fatal(err)
	}
	tree["apiVersion"], tree["kind"] = p.e.kind.GroupVersion().String(), p.e.kind.Kind
	return tree
}

// applied makes what a client sends to apply.
func applied(tree map[string]any) runtime.Object {
	if m, ok := tree["metadata"].(map[string]any); ok {
		for _, field := range []string{"managedFields", "creationTimestamp", "resourceVersion", "uid", "generation"} {
			delete(m, field)
		}
	}
	return &unstructured.Unstructured{Object: tree}
}
