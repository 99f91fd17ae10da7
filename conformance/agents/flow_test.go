package agents

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/ext"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// patience bounds a wait. It is only for tests that fail.
const patience = 3 * time.Minute

// flow is one test: clients of a cluster that it shares with others, and a namespace of its own. Its methods take
// manifests, in which $NS stands for the namespace, and refer to objects as RESOURCE/NAME, where RESOURCE may be followed
// by a group: "deployments.apps/web", "nodes/NAME".
type flow struct {
	*testing.T
	cluster *harness.Cluster
	server  *harness.Server
	config  *rest.Config
	client  kubernetes.Interface
	dynamic dynamic.Interface
	mapper  meta.ResettableRESTMapper
	ns      string
}

// in is the flow in another namespace.
func (f *flow) in(namespace string) *flow {
	other := *f
	other.ns = namespace
	return &other
}

// as is the flow with the rights of somebody else.
func (f *flow) as(config *rest.Config) *flow {
	f.Helper()
	other := *f
	other.config = config
	other.client = harness.ClientFor(f, config)
	var err error
	if other.dynamic, err = dynamic.NewForConfig(config); err != nil {
		f.Fatal(err)
	}
	return &other
}

func (f *flow) check(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *flow) expand(text string) string { return strings.ReplaceAll(text, "$NS", f.ns) }

// resource returns the client of "RESOURCE" or "RESOURCE.GROUP", in the namespace when it has namespaces.
func (f *flow) resource(name string) (dynamic.ResourceInterface, error) {
	gvr, err := f.mapper.ResourceFor(schema.ParseGroupResource(name).WithVersion(""))
	if meta.IsNoMatchError(err) {
		f.mapper.Reset() // it is new, or will be
	}
	if err != nil {
		return nil, err
	}
	kind, err := f.mapper.KindFor(gvr)
	if err != nil {
		return nil, err
	}
	return f.of(kind)
}

func (f *flow) of(kind schema.GroupVersionKind) (dynamic.ResourceInterface, error) {
	m, err := f.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, err
	}
	if m.Scope.Name() == meta.RESTScopeNameRoot {
		return f.dynamic.Resource(m.Resource), nil
	}
	return f.dynamic.Resource(m.Resource).Namespace(f.ns), nil
}

// try creates the objects of a manifest until one is refused.
func (f *flow) try(manifest string) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	for doc := range strings.SplitSeq(f.expand(manifest), "\n---\n") {
		obj := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(doc), &obj.Object); err != nil {
			return nil, fmt.Errorf("%w in %s", err, doc)
		}
		if err := normal(obj); err != nil {
			return nil, err
		}
		client, err := f.of(obj.GroupVersionKind())
		if err != nil {
			return nil, err
		}
		made, err := client.Create(f.Context(), obj, metav1.CreateOptions{})
		if err != nil {
			return nil, err
		}
		all = append(all, made)
	}
	return all, nil
}

// normal makes numbers what JSON's decoder for unstructured objects makes of them.
func normal(obj *unstructured.Unstructured) error {
	data, err := obj.MarshalJSON()
	if err != nil {
		return err
	}
	return obj.UnmarshalJSON(data)
}

// create creates the objects of a manifest and returns the first.
func (f *flow) create(manifest string) *unstructured.Unstructured {
	f.Helper()
	all, err := f.try(manifest)
	f.check(err)
	return all[0]
}

// refused expects an object to be refused, with these words and as Forbidden.
func (f *flow) refused(manifest string, words ...string) {
	f.Helper()
	_, err := f.try(manifest)
	if !apierrors.IsForbidden(err) {
		f.Fatalf("creating an object gave %v; expected it to be forbidden", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			f.Errorf("%q does not say %q", err, w)
		}
	}
}

func (f *flow) ref(ref string) (client dynamic.ResourceInterface, name string, sub []string) {
	f.Helper()
	parts := strings.Split(f.expand(ref), "/")
	if len(parts) < 2 {
		f.Fatalf("%q does not name an object", ref)
	}
	client, err := f.resource(parts[0])
	f.check(err)
	return client, parts[1], parts[2:]
}

// get returns an object that is there.
func (f *flow) get(ref string) *unstructured.Unstructured {
	f.Helper()
	client, name, _ := f.ref(ref)
	obj, err := client.Get(f.Context(), name, metav1.GetOptions{})
	f.check(err)
	return obj
}

// patch merges YAML into an object, or into a subresource: RESOURCE/NAME/SUBRESOURCE.
func (f *flow) patch(ref, patch string) *unstructured.Unstructured {
	f.Helper()
	client, name, sub := f.ref(ref)
	data, err := yaml.YAMLToJSON([]byte(f.expand(patch)))
	f.check(err)
	obj, err := client.Patch(f.Context(), name, types.MergePatchType, data, metav1.PatchOptions{}, sub...)
	f.check(err)
	return obj
}

// delete deletes an object, by the rule of its kind or by the one given.
func (f *flow) delete(ref string, propagation ...metav1.DeletionPropagation) {
	f.Helper()
	client, name, _ := f.ref(ref)
	var opts metav1.DeleteOptions
	if len(propagation) > 0 {
		opts.PropagationPolicy = ptr.To(propagation[0])
	}
	f.check(client.Delete(f.Context(), name, opts))
}

// await waits until an object is as a CEL expression says of "o"; a field that is missing counts as no.
func (f *flow) await(ref, expression string) *unstructured.Unstructured {
	f.Helper()
	client, name, _ := f.ref(ref)
	holds := f.compile(expression)
	var last *unstructured.Unstructured
	var why error
	f.wait(func() bool {
		obj, err := client.Get(f.Context(), name, metav1.GetOptions{})
		if err != nil {
			why = err
			return false
		}
		last = obj
		why = holds(map[string]any{"o": obj.Object, "items": nil})
		return why == nil
	}, func() string { return fmt.Sprintf("%s: %s (%v); it is\n%s", ref, expression, why, show(last)) })
	return last
}

// awaitAll waits until the objects "RESOURCE" or "RESOURCE?LABEL SELECTOR" are as a CEL expression says of "items".
func (f *flow) awaitAll(ref, expression string) []unstructured.Unstructured {
	f.Helper()
	name, selector, _ := strings.Cut(f.expand(ref), "?")
	holds := f.compile(expression)
	var last *unstructured.UnstructuredList
	var why error
	f.wait(func() bool {
		client, err := f.resource(name)
		if err == nil {
			last, err = client.List(f.Context(), metav1.ListOptions{LabelSelector: selector})
		}
		if err != nil {
			why = err
			return false
		}
		items := make([]any, len(last.Items))
		for i := range last.Items {
			items[i] = last.Items[i].Object
		}
		why = holds(map[string]any{"o": nil, "items": items})
		return why == nil
	}, func() string {
		var all strings.Builder
		if last != nil {
			for i := range last.Items {
				fmt.Fprintf(&all, "---\n%s", show(&last.Items[i]))
			}
		}
		return fmt.Sprintf("%s: %s (%v); they are\n%s", ref, expression, why, all.String())
	})
	return last.Items
}

// awaitEvent waits for an Event about an object of a name: with a reason and with words in its message.
func (f *flow) awaitEvent(name, reason, words string) {
	f.Helper()
	f.awaitAll("events.events.k8s.io", fmt.Sprintf("items.exists(e, e.regarding.name == %q && e.reason == %q && e.note.contains(%q))", f.expand(name), reason, words))
}

// gone waits until an object is not there.
func (f *flow) gone(ref string) {
	f.Helper()
	client, name, _ := f.ref(ref)
	var last *unstructured.Unstructured
	f.wait(func() bool {
		obj, err := client.Get(f.Context(), name, metav1.GetOptions{})
		last = obj
		return apierrors.IsNotFound(err)
	}, func() string { return fmt.Sprintf("%s is still there:\n%s", ref, show(last)) })
}

// wait asks until done, and fails the test after long.
func (f *flow) wait(done func() bool, what func() string) {
	f.Helper()
	pause := 20 * time.Millisecond
	for deadline := time.Now().Add(patience); !done(); pause = min(2*pause, 300*time.Millisecond) {
		if time.Now().After(deadline) {
			f.Fatalf("waited in vain for %s", what())
		}
		select {
		case <-time.After(pause):
		case <-f.Context().Done():
			f.Fatal(context.Cause(f.Context()))
		}
	}
}

// show prints an object for people.
func show(obj *unstructured.Unstructured) string {
	if obj == nil {
		return "(nothing)"
	}
	obj.SetManagedFields(nil)
	text, err := yaml.Marshal(obj.Object)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

var errNot = errors.New("false")

// compile returns what tells why an expression does not hold.
func (f *flow) compile(expression string) func(vars map[string]any) error {
	f.Helper()
	env, err := cel.NewEnv(
		cel.Variable("o", cel.DynType), cel.Variable("items", cel.ListType(cel.DynType)),
		cel.OptionalTypes(), cel.CrossTypeNumericComparisons(true), ext.Strings(), ext.Sets(), ext.Lists(),
	)
	f.check(err)
	ast, issues := env.Compile(f.expand(expression))
	f.check(issues.Err())
	program, err := env.Program(ast)
	f.check(err)
	return func(vars map[string]any) error {
		out, _, err := program.Eval(vars)
		if err != nil {
			return err
		}
		if out.Value() != true {
			return errNot
		}
		return nil
	}
}

// cleaning is the context of what is done after the flow.
func (f *flow) cleaning() context.Context { return context.WithoutCancel(f.Context()) }
