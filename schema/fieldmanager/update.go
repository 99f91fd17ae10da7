package fieldmanager

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// update returns the owners after a write that made obj of live.
func (m *Manager) update(live, obj runtime.Object, before owners, manager string) (owners, error) {
	self := m.identity(manager, metav1.ManagedFieldsOperationUpdate)
	objVersioned, err := m.toVersion(obj)
	if err != nil {
		return nil, says("failed to convert new object (%v) to proper version (%v): %v", describe(obj), m.kind.GroupVersion(), err)
	}
	liveVersioned, err := m.toVersion(live)
	if err != nil {
		return nil, says("failed to convert live object (%v) to proper version: %v", describe(live), err)
	}
	objTyped, err := m.types.ObjectToTyped(objVersioned, typed.AllowDuplicates)
	if err != nil {
		return nil, says("failed to convert new object (%v) to smd typed: %v", describe(objVersioned), err)
	}
	liveTyped, err := m.types.ObjectToTyped(liveVersioned, typed.AllowDuplicates)
	if err != nil {
		return nil, says("failed to convert live object (%v) to smd typed: %v", describe(liveVersioned), err)
	}
	w := &write{Manager: m, live: liveTyped}
	all, err := w.reconciled(before)
	if err != nil {
		return nil, says("failed to update ManagedFields (%v): %v", describe(objVersioned), err)
	}
	previous := all.index(self)
	var had *fields
	if previous >= 0 {
		had = all[previous].fields
	}
	all, change, err := w.compared(objTyped, all, nil, true)
	if err != nil {
		return nil, says("failed to update ManagedFields (%v): %v", describe(objVersioned), err)
	}
	own := union(change.Modified, change.Added)
	if filter := m.reset[m.version]; filter != nil {
		own = filter.Filter(own)
	}
	if !own.Empty() {
		own = own.Difference(m.unchanging)
	}
	if !own.Empty() {
		f := newFields(own)
		if i := all.index(self); i >= 0 {
			f = with(all[i].fields, own)
		}
		if had != nil && f.json == nil && had.set.Equals(f.set) {
			f = had // what was taken from it by the change was given back
		}
		all.set(self, m.version, false, f).time = now()
	}
	return all.capped(), nil
}

// with is the union of a set and another one.
func with(f *fields, own *fieldpath.Set) *fields {
	if own.Difference(f.set).Empty() {
		return f
	}
	return newFields(own.Union(f.set))
}

func union(a, b *fieldpath.Set) *fieldpath.Set {
	switch {
	case a.Empty():
		return b
	case b.Empty():
		return a
	}
	return a.Union(b)
}

// write is one write to an object.
type write struct {
	*Manager
	live *typed.TypedValue // in the version of the write
}

// reconciled returns the owners whose version is still known, with sets that fit the models of now.
func (w *write) reconciled(before owners) (owners, error) {
	out := slices.Clone(before)[:0]
	var others map[fieldpath.APIVersion]*typed.TypedValue
	for _, e := range before {
		object := w.live
		if e.version != w.version {
			known, seen := others[e.version]
			if !seen {
				var err error
				if known, err = w.convert(w.live, e.version); err != nil && !w.missing(err) {
					return nil, err
				} else if err != nil {
					known = nil
				}
				if others == nil {
					others = map[fieldpath.APIVersion]*typed.TypedValue{}
				}
				others[e.version] = known
			}
			if object = known; object == nil {
				continue
			}
		}
		f, err := e.fields.reconciled(object)
		if err != nil {
			return nil, err
		}
		e.fields = f
		out = append(out, e)
	}
	return out, nil
}

// compared takes from the owners, but for self, what differs between the live object and another one. Without force it
// does not take but answers with conflicts.
func (w *write) compared(obj *typed.TypedValue, all owners, self *identity, force bool) (owners, *typed.Comparison, error) {
	change, err := w.compare(w.live, obj)
	if err != nil {
		return nil, nil, says("failed to compare objects: %v", err)
	}
	change = change.FilterFields(w.reset[w.version])
	seen := map[fieldpath.APIVersion]*difference{w.version: newDifference(change)}
	var met conflicts
	out := all[:0:0]
	for _, e := range all {
		if self != nil && e.identity == *self {
			out = append(out, e)
			continue
		}
		d, ok := seen[e.version]
		if !ok {
			if d, err = w.comparedIn(obj, e.version); err != nil {
				return nil, nil, err
			}
			seen[e.version] = d
		}
		if d == nil {
			continue // a version that is not known any more
		}
		taken := e.fields.set.Intersection(d.changed)
		if !taken.Empty() {
			if !force {
				met = append(met, conflict{e.identity, taken})
			}
			e.fields = newFields(e.fields.set.Difference(taken))
		}
		if !d.Removed.Empty() && !e.fields.set.Intersection(d.Removed).Empty() {
			e.fields = newFields(e.fields.set.Difference(d.Removed))
		}
		out = append(out, e)
	}
	if len(met) > 0 {
		return nil, nil, met
	}
	return slices.DeleteFunc(out, func(e owner) bool { return e.fields.set.Empty() }), change, nil
}

// difference is a comparison, and what it has modified or added.
type difference struct {
	*typed.Comparison
	changed *fieldpath.Set
}

func newDifference(c *typed.Comparison) *difference {
	return &difference{c, union(c.Modified, c.Added)}
}

// comparedIn compares the live object with another one in a version; nil when that is not known.
func (w *write) comparedIn(obj *typed.TypedValue, version fieldpath.APIVersion) (*difference, error) {
	before, err := w.convert(w.live, version)
	if err != nil {
		if w.missing(err) {
			return nil, nil
		}
		return nil, says("failed to convert old object: %v", err)
	}
	after, err := w.convert(obj, version)
	if err != nil {
		if w.missing(err) {
			return nil, nil
		}
		return nil, says("failed to convert new object: %v", err)
	}
	change, err := w.compare(before, after)
	if err != nil {
		return nil, says("failed to compare objects: %v", err)
	}
	return newDifference(change.FilterFields(w.reset[version])), nil
}

// convert returns an object in another version.
func (m *Manager) convert(object *typed.TypedValue, version fieldpath.APIVersion) (*typed.TypedValue, error) {
	obj, err := m.types.TypedToObject(object)
	if err != nil {
		return object, err
	}
	to, err := schema.ParseGroupVersion(string(version))
	if err != nil {
		return object, err
	}
	from := obj.GetObjectKind().GroupVersionKind().GroupVersion()
	if from == to {
		return object, nil
	}
	internal, err := m.objects.ConvertToVersion(obj, m.hubOf(from))
	if err != nil {
		return object, err
	}
	converted, err := m.objects.ConvertToVersion(internal, to)
	if err != nil {
		return object, err
	}
	return m.types.ObjectToTyped(converted)
}

func (m *Manager) toVersion(obj runtime.Object) (runtime.Object, error) {
	return m.objects.ConvertToVersion(obj, m.kind.GroupVersion())
}

// describe names an object in upstream's words.
func describe(obj runtime.Object) string {
	name, namespace := "<unknown>", "<unknown>"
	if accessor, err := meta.Accessor(obj); err == nil {
		name, namespace = accessor.GetName(), accessor.GetNamespace()
	}
	return fmt.Sprintf("%v/%v; %v", namespace, name, obj.GetObjectKind().GroupVersionKind())
}
