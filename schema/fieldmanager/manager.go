package fieldmanager

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Manager keeps the managedFields of the objects of one kind, as they are written to one resource or subresource. What it
// answers is what upstream's managedfields.FieldManager answers; it decodes, compares and encodes only what it has not
// seen before. Its methods may be called at the same time.
type Manager struct {
	kind        schema.GroupVersionKind
	version     fieldpath.APIVersion // that of kind
	hub         schema.GroupVersion
	hubOf       func(schema.GroupVersion) schema.GroupVersion // through which objects of a version are converted
	subresource string

	types      managedfields.TypeConverter
	objects    runtime.ObjectConvertor
	defaulter  runtime.ObjectDefaulter
	creater    runtime.ObjectCreater
	reset      map[fieldpath.APIVersion]fieldpath.Filter
	unchanging *fieldpath.Set   // nobody owns these
	missing    func(error) bool // of a conversion: nobody knows the version
	shares     bool             // what is made of a typed value shares maps with what that was made of

	sets   *sets
	log    *slog.Logger
	logged atomic.Int64 // when it was logged that fields could not be managed, in seconds
}

// Update is for an object that is written as a whole: the manager owns what differs from the live object. The live object
// is not changed, managedFields of the new one are.
func (m *Manager) Update(live, obj runtime.Object, manager string) (runtime.Object, error) {
	before, ok := m.sent(live, obj)
	if !ok {
		return obj, nil
	}
	accessor, err := meta.Accessor(obj)
	if err != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", err)) // as upstream; only of a subresource
	}
	accessor.SetManagedFields(nil)
	after, err := m.tracked(live, obj, before, manager)
	if err != nil {
		return nil, err
	}
	entries, err := after.entries()
	if err != nil {
		return nil, says("failed to encode managed fields: %v", err)
	}
	accessor.SetManagedFields(entries)
	return obj, nil
}

// UpdateNoErrors is Update for callers that have no use for its errors: then the object has no managedFields.
func (m *Manager) UpdateNoErrors(live, obj runtime.Object, manager string) runtime.Object {
	out, err := m.Update(live, obj, manager)
	if err == nil {
		return out
	}
	accessor, accessErr := meta.Accessor(obj)
	if accessErr != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", accessErr))
	}
	if second := time.Now().Unix(); m.log != nil && m.logged.Swap(second) != second {
		m.log.Error("Managed fields were dropped", "object", accessor.GetNamespace()+"/"+accessor.GetName(), "kind", m.kind.String(), "error", err)
	}
	accessor.SetManagedFields(nil)
	return obj
}

// Apply merges what a client applied into the live object, which is not changed.
func (m *Manager) Apply(live, config runtime.Object, manager string, force bool) (runtime.Object, error) {
	accessor, err := meta.Accessor(live)
	if err != nil {
		return nil, says("couldn't get accessor: %v", err)
	}
	entries := accessor.GetManagedFields()
	before, ok := m.sets.owners(entries)
	if !ok {
		return nil, says("failed to decode managed fields: %v", managedfields.ValidateManagedFields(entries))
	}
	if gvk := config.GetObjectKind().GroupVersionKind(); gvk != m.kind {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("invalid object type: %v", gvk))
	}
	out, after, err := m.applyAsKubectl(live, config, before, manager, force)
	if err != nil {
		if conflicts, ok := err.(conflicts); ok { //nolint:errorlint // nothing wraps them
			return nil, conflicts.status()
		}
		return nil, err
	}
	if entries, err = after.entries(); err != nil {
		return nil, says("failed to encode managed fields: %v", err)
	}
	if accessor, err = meta.Accessor(out); err != nil {
		panic(fmt.Sprintf("couldn't get accessor: %v", err))
	}
	accessor.SetManagedFields(entries)
	return out, nil
}

// sent returns the owners that a write begins with: those that the client sent, else those of the live object. It answers
// false for objects that have none.
func (m *Manager) sent(live, obj runtime.Object) (owners, bool) {
	liveAccessor, err := meta.Accessor(live)
	if err != nil {
		return nil, false
	}
	entries := liveAccessor.GetManagedFields()
	if m.subresource == "" { // nobody may set managedFields by a subresource
		accessor, err := meta.Accessor(obj)
		if err != nil {
			return nil, false
		}
		sent := accessor.GetManagedFields()
		if resets(sent) {
			return nil, true
		}
		if out, ok := m.sets.owners(sent); ok && len(out) > 0 {
			return out, true
		}
	}
	out, _ := m.sets.owners(entries)
	return out, true
}

// resets tells whether a client asks to forget all owners, by an empty list or one of an empty entry.
func resets(entries []metav1.ManagedFieldsEntry) bool {
	switch len(entries) {
	case 0:
		return entries != nil
	case 1:
		return entries[0] == metav1.ManagedFieldsEntry{}
	}
	return false
}

// tracked is update, unless nobody has kept track of the object's owners.
func (m *Manager) tracked(live, obj runtime.Object, before owners, manager string) (owners, error) {
	accessor, err := meta.Accessor(live)
	if err != nil || len(before) == 0 && accessor.GetUID() != "" {
		return before, nil
	}
	return m.update(live, obj, before, manager)
}

func (m *Manager) identity(manager string, operation metav1.ManagedFieldsOperationType) identity {
	if manager == "" {
		manager = "unknown"
	}
	return identify(&metav1.ManagedFieldsEntry{
		Manager: manager, Operation: operation, APIVersion: string(m.version), Subresource: m.subresource,
	})
}

// says makes an error of upstream's words. It wraps nothing, because upstream's do not: what a client is answered depends on it.
func says(format string, args ...any) error { return fmt.Errorf(format, args...) }
