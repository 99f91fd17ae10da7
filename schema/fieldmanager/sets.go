package fieldmanager

import (
	"bytes"
	"sync"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
	"sigs.k8s.io/structured-merge-diff/v6/typed"
)

// fields is a set of fields as managedFields have it: decoded, and the bytes that upstream would write for it. Neither
// is ever changed: sets are shared between objects and requests.
type fields struct {
	set  *fieldpath.Set
	json []byte // nil for a set that was made by a write and is not encoded yet

	mu      sync.Mutex
	current []modelKey // the models that have the lists and maps of the set as they were when it was written
}

// modelKey names a type of a schema.
type modelKey struct {
	schema *smdschema.Schema
	name   string
}

// newFields is a set that a write made.
func newFields(set *fieldpath.Set) *fields { return &fields{set: set} }

// encoded returns the set as JSON.
func (f *fields) encoded() ([]byte, error) {
	if f.json != nil {
		return f.json, nil
	}
	return f.set.ToJSON()
}

// reconciled is the set under the model that its objects have now: what was granular when the set was written and is
// atomic now is owned as a whole. It depends on nothing but the set and the model, so it is remembered that nothing is to do.
func (f *fields) reconciled(object *typed.TypedValue) (*fields, error) {
	key := modelKey{schema: object.Schema()}
	if name := object.TypeRef().NamedType; name != nil {
		key.name = *name
	}
	f.mu.Lock()
	for _, known := range f.current {
		if known == key && key.name != "" {
			f.mu.Unlock()
			return f, nil
		}
	}
	f.mu.Unlock()
	changed, err := typed.ReconcileFieldSetWithSchema(f.set, object)
	if err != nil {
		return nil, err
	}
	if changed != nil {
		return newFields(changed), nil
	}
	if key.name != "" {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.current) == maxModels {
			f.current = f.current[1:]
		}
		f.current = append(f.current, key)
	}
	return f, nil
}

const (
	maxModels = 4         // that one set is remembered to fit
	maxSets   = 256 << 10 // bytes of JSON in a generation of kept sets; decoded they are about ten times as large
)

// sets keeps decoded sets by their JSON. Most objects of a kind were written by the same programs, which own the same
// fields of each. There are two generations: what was not asked for while the younger one filled is forgotten.
type sets struct {
	mu         sync.RWMutex
	young, old map[string]*fields
	size       int // of young, in bytes of JSON
}

// decode returns the set of an entry of managedFields.
func (s *sets) decode(entry *metav1.ManagedFieldsEntry) (*fields, error) {
	raw := noFields
	if entry.FieldsV1 != nil {
		raw = entry.FieldsV1.GetRawBytes()
	}
	s.mu.RLock()
	known, isYoung := s.young[string(raw)]
	if !isYoung {
		known = s.old[string(raw)]
	}
	s.mu.RUnlock()
	if isYoung {
		return known, nil
	}
	if known == nil {
		set := &fieldpath.Set{}
		if err := set.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, err
		}
		normal, err := set.ToJSON()
		if err != nil {
			return nil, err
		}
		known = &fields{set: set, json: normal}
	}
	s.keep(string(raw), known)
	return known, nil
}

var noFields = []byte("{}")

func (s *sets) keep(raw string, f *fields) {
	if len(raw) > maxSets/8 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.young == nil || s.size+len(raw) > maxSets {
		s.old, s.young, s.size = s.young, map[string]*fields{}, 0
	}
	if _, ok := s.young[raw]; !ok {
		s.young[raw] = f
		s.size += len(raw)
	}
}

// cool forgets the sets that are kept. They are decoded again when they are asked for.
func (s *sets) cool() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young, s.old, s.size = nil, nil, 0
}
