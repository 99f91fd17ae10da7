package fieldmanager

import (
	"fmt"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
	"sigs.k8s.io/structured-merge-diff/v6/value"
)

// firstUpdate owns what an object had when it was applied to for the first time.
const firstUpdate = "before-first-apply"

// apply merges a configuration into the live object and returns the object and its owners.
func (m *Manager) apply(live, config runtime.Object, before owners, manager string, force bool) (runtime.Object, owners, error) {
	if len(before) == 0 {
		empty, err := m.creater.New(m.kind)
		if err != nil {
			return nil, nil, says("failed to create empty object of type %v: %v", m.kind, err)
		}
		if u, ok := empty.(runtime.Unstructured); ok {
			u.GetObjectKind().SetGroupVersionKind(m.kind)
		}
		if before, err = m.update(empty, live, before, firstUpdate); err != nil {
			return nil, nil, says("failed to create manager for existing fields: %v", err)
		}
	}
	self := m.identity(manager, metav1.ManagedFieldsOperationApply)
	out, after, err := m.merged(live, config, before, self, force)
	if err != nil {
		return nil, nil, err
	}
	if i := after.index(self); i >= 0 {
		e := &after[i]
		if own := e.fields.set.Difference(m.unchanging); own.Empty() {
			after.remove(self)
		} else if e.fields = newFields(own); out != nil {
			e.time = now()
		}
		// Bytes of the last time are used again.
		if last, now := before.index(self), after.index(self); last >= 0 && now >= 0 && before[last].fields.set.Equals(after[now].fields.set) {
			after[now].fields = before[last].fields
		}
	}
	if out == nil { // nothing changed
		out = live.DeepCopyObject()
		accessor, err := meta.Accessor(out)
		if err != nil {
			panic(fmt.Sprintf("couldn't get accessor: %v", err))
		}
		accessor.SetManagedFields(nil)
	}
	return out, after, nil
}

// merged returns no object when the configuration changes nothing.
func (m *Manager) merged(live, config runtime.Object, before owners, self identity, force bool) (runtime.Object, owners, error) {
	accessor, err := meta.Accessor(config)
	if err != nil {
		return nil, nil, says("couldn't get accessor: %v", err)
	}
	if accessor.GetManagedFields() != nil {
		return nil, nil, apierrors.NewBadRequest("metadata.managedFields must be nil")
	}
	versioned, err := m.toVersion(live)
	if err != nil {
		return nil, nil, says("failed to convert live object (%v) to proper version: %v", describe(live), err)
	}
	configTyped, err := m.types.ObjectToTyped(config) // duplicates are not allowed in what is applied
	if err != nil {
		return nil, nil, says("failed to create typed patch object (%v): %v", describe(config), err)
	}
	part, result, after, err, ok := m.narrowed(versioned, config, configTyped, before, self, force)
	if !ok {
		liveTyped, err := m.types.ObjectToTyped(versioned, typed.AllowDuplicates)
		if err != nil {
			return nil, nil, says("failed to create typed live object (%v): %v", describe(versioned), err)
		}
		w := &write{Manager: m, live: liveTyped}
		if result, after, err = w.apply(configTyped, before, self, force); err != nil {
			return nil, nil, err
		}
	} else if err != nil {
		return nil, nil, err
	}
	if result == nil {
		return nil, after, nil
	}
	out, err := m.types.TypedToObject(result)
	if err != nil {
		return nil, nil, says("failed to convert new typed object (%v) to object: %v", describe(config), err)
	}
	if m.shares {
		out = out.DeepCopyObject() // it is going to be changed
	}
	if out, err = m.toVersion(out); err != nil {
		return nil, nil, says("failed to convert new object (%v) to proper version: %v", describe(config), err)
	}
	if part != nil {
		part.complete(out)
	}
	m.defaulter.Default(out)
	if out, err = m.objects.ConvertToVersion(out, m.hub); err != nil {
		return nil, nil, says("failed to convert to unversioned (%v): %v", describe(config), err)
	}
	return out, after, nil
}

// apply merges a configuration that self applies. No value is returned when nothing changes.
func (w *write) apply(config *typed.TypedValue, before owners, self identity, force bool) (*typed.TypedValue, owners, error) {
	all, err := w.reconciled(before)
	if err != nil {
		return nil, nil, err
	}
	result, err := w.live.Merge(config)
	if err != nil {
		return nil, nil, says("failed to merge config: %v", err)
	}
	own, err := config.ToFieldSet()
	if err != nil {
		return nil, nil, says("failed to get field set: %v", err)
	}
	whole := true
	if filter := w.reset[w.version]; filter != nil {
		filtered := filter.Filter(own)
		whole = filtered.Equals(own)
		own = filtered
	}
	var last *owner
	if i := all.index(self); i >= 0 {
		copied := all[i]
		last = &copied
	}
	e := all.set(self, w.version, true, newFields(own))
	if i := before.index(self); i >= 0 {
		e.time = before[i].time // also of one whose version is not known any more
	}
	if !(whole && w.keeps(last, own, all)) {
		if result, err = w.prune(result, all, last); err != nil {
			return nil, nil, says("failed to prune fields: %v", err)
		}
	}
	all, _, err = w.compared(result, all, &self, force)
	if err != nil {
		return nil, nil, err
	}
	if value.EqualsUsing(value.NewFreelistAllocator(), w.live.AsValue(), result.AsValue()) {
		return nil, all, nil
	}
	return result, all, nil
}

// keeps tells whether what self applied the last time is applied again, perhaps with more, so that nothing is pruned. own is
// what the configuration has, so it has with each field all items that the field is in, and so no item that the field was in
// can be missed. In another version a field may be elsewhere.
func (w *write) keeps(last *owner, own *fieldpath.Set, all owners) bool {
	if last == nil {
		return true
	}
	if slices.ContainsFunc(all, func(e owner) bool { return e.version != w.version }) || last.version != w.version {
		return false
	}
	atom, ok := w.live.Schema().Resolve(w.live.TypeRef())
	return ok && atom.Map != nil && atom.List == nil && atom.Scalar == nil && atom.Map.ElementRelationship != "atomic" &&
		last.fields.set.Difference(own).Empty()
}

// prune removes what self applied the last time, does not apply any more, and nobody else owns.
func (w *write) prune(merged *typed.TypedValue, all owners, last *owner) (*typed.TypedValue, error) {
	if last == nil || last.fields.set.Empty() {
		return merged, nil
	}
	converted, err := w.convert(merged, last.version)
	if err != nil {
		if w.missing(err) {
			return merged, nil
		}
		return nil, says("failed to convert merged object to last applied version: %v", err)
	}
	named := func(of *typed.TypedValue, s *fieldpath.Set) *fieldpath.Set {
		return s.EnsureNamedFieldsAreMembers(of.Schema(), of.TypeRef())
	}
	pruned := converted.RemoveItems(named(converted, last.fields.set))
	if pruned, err = w.addBackOwned(converted, pruned, all, last.version); err != nil {
		return nil, says("failed add back owned items: %v", err)
	}
	// What self did not own stays, whoever owns it.
	result := converted
	if pruned, err = w.convert(pruned, last.version); err == nil {
		var kept, had *fieldpath.Set
		if kept, err = pruned.ToFieldSet(); err != nil {
			return nil, says("failed add back dangling items: failed to create field set from pruned object in last applied version: %v", err)
		}
		if had, err = converted.ToFieldSet(); err != nil {
			return nil, says("failed add back dangling items: failed to create field set from merged object in last applied version: %v", err)
		}
		gone := named(converted, had).Difference(named(converted, kept))
		result = converted.RemoveItems(gone.Intersection(named(converted, last.fields.set)))
	} else if !w.missing(err) {
		return nil, says("failed add back dangling items: failed to convert pruned object to last applied version: %v", err)
	}
	return w.convert(result, w.version)
}

// addBackOwned adds to the pruned object what somebody owns, in the version that it was pruned in first: what was pruned
// may be needed for conversion.
func (w *write) addBackOwned(merged, pruned *typed.TypedValue, all owners, version fieldpath.APIVersion) (*typed.TypedValue, error) {
	owned := map[fieldpath.APIVersion]*fieldpath.Set{}
	versions := []fieldpath.APIVersion{version}
	for _, e := range all {
		if known := owned[e.version]; known != nil {
			owned[e.version] = known.Union(e.fields.set)
			continue
		}
		owned[e.version] = e.fields.set
		if e.version != version {
			versions = append(versions, e.version)
		}
	}
	for _, v := range versions {
		set := owned[v]
		if set == nil {
			continue
		}
		var err error
		if merged, pruned, err = w.addBack(merged, pruned, v, set); err != nil {
			return nil, err
		}
	}
	return pruned, nil
}

func (w *write) addBack(merged, pruned *typed.TypedValue, version fieldpath.APIVersion, owned *fieldpath.Set) (*typed.TypedValue, *typed.TypedValue, error) {
	inVersion, err := w.convert(merged, version)
	if err != nil {
		if w.missing(err) {
			return inVersion, pruned, nil
		}
		return nil, nil, says("failed to convert merged object at version %v: %v", version, err)
	}
	prunedInVersion, err := w.convert(pruned, version)
	if err != nil {
		if w.missing(err) {
			return inVersion, prunedInVersion, nil
		}
		return nil, nil, says("failed to convert pruned object at version %v: %v", version, err)
	}
	had, err := inVersion.ToFieldSet()
	if err != nil {
		return nil, nil, says("failed to create field set from merged object at version %v: %v", version, err)
	}
	kept, err := prunedInVersion.ToFieldSet()
	if err != nil {
		return nil, nil, says("failed to create field set from pruned object at version %v: %v", version, err)
	}
	named := func(s *fieldpath.Set) *fieldpath.Set {
		return s.EnsureNamedFieldsAreMembers(inVersion.Schema(), inVersion.TypeRef())
	}
	return inVersion, inVersion.RemoveItems(named(had).Difference(named(kept).Union(named(owned)))), nil
}
