package fieldmanager

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// identity tells the owners of an object's fields apart.
type identity struct {
	manager     string
	operation   metav1.ManagedFieldsOperationType
	apiVersion  string // "" for who applies: there it may change
	subresource string
}

// owner is an entry of managedFields.
type owner struct {
	identity
	version fieldpath.APIVersion
	applied bool
	time    *metav1.Time
	fields  *fields
}

// owners are the managedFields of an object, each identity once, in no order.
type owners []owner

func (o owners) index(id identity) int {
	return slices.IndexFunc(o, func(e owner) bool { return e.identity == id })
}

// set gives an owner its fields. One that was not there has no time.
func (o *owners) set(id identity, version fieldpath.APIVersion, applied bool, f *fields) *owner {
	i := o.index(id)
	if i < 0 {
		*o = append(*o, owner{identity: id})
		i = len(*o) - 1
	}
	e := &(*o)[i]
	e.version, e.applied, e.fields = version, applied, f
	return e
}

func (o *owners) remove(id identity) {
	if i := o.index(id); i >= 0 {
		*o = slices.Delete(*o, i, i+1)
	}
}

// owners reads managedFields. When it answers false, managedfields.ValidateManagedFields has the words for it.
func (s *sets) owners(entries []metav1.ManagedFieldsEntry) (owners, bool) {
	out := make(owners, 0, len(entries)+1)
	for i := range entries {
		entry := &entries[i]
		f, ok := s.check(entry)
		if !ok {
			return nil, false
		}
		e := out.set(identify(entry), fieldpath.APIVersion(entry.APIVersion), entry.Operation == metav1.ManagedFieldsOperationApply, f)
		e.time = entry.Time
	}
	return out, true
}

// check tells whether an entry is valid, and returns its fields.
func (s *sets) check(entry *metav1.ManagedFieldsEntry) (*fields, bool) {
	if entry.Operation != metav1.ManagedFieldsOperationApply && entry.Operation != metav1.ManagedFieldsOperationUpdate ||
		entry.APIVersion == "" || entry.FieldsType != fieldsType {
		return nil, false
	}
	f, err := s.decode(entry)
	return f, err == nil
}

const fieldsType = "FieldsV1"

func identify(entry *metav1.ManagedFieldsEntry) identity {
	id := identity{manager: entry.Manager, operation: entry.Operation, apiVersion: entry.APIVersion, subresource: entry.Subresource}
	if entry.Operation == metav1.ManagedFieldsOperationApply {
		id.apiVersion = ""
	}
	for _, s := range []*string{&id.manager, &id.apiVersion, &id.subresource} {
		if !utf8.ValidString(*s) {
			*s = throughJSON(*s)
		}
	}
	return id
}

// throughJSON makes a string what JSON makes of it: upstream's identities are JSON.
func throughJSON(s string) string {
	data, err := json.Marshal(s)
	if err != nil || json.Unmarshal(data, &s) != nil {
		return ""
	}
	return s
}

// key is upstream's identity, which is what orders owners in its words.
func (id identity) key() string {
	data, _ := json.Marshal(&metav1.ManagedFieldsEntry{
		Manager: id.manager, Operation: id.operation, APIVersion: id.apiVersion, Subresource: id.subresource,
	})
	return string(data)
}

// entries is what is written into the object.
func (o owners) entries() ([]metav1.ManagedFieldsEntry, error) {
	if len(o) == 0 {
		return nil, nil
	}
	out, raw := make([]metav1.ManagedFieldsEntry, len(o)), make([]metav1.FieldsV1, len(o))
	for i := range o {
		e := &o[i]
		data, err := e.fields.encoded()
		if err != nil {
			return nil, says("failed to convert back managed fields to API: error encoding versioned set for %v: error encoding set: %v", e.key(), err)
		}
		raw[i].SetRawBytes(data)
		out[i] = metav1.ManagedFieldsEntry{
			Manager: e.manager, Operation: e.operation, APIVersion: string(e.version), Time: e.time, FieldsType: fieldsType,
			FieldsV1: &raw[i], Subresource: e.subresource,
		}
		if e.applied {
			out[i].Operation = metav1.ManagedFieldsOperationApply
		}
	}
	slices.SortFunc(out, func(p, q metav1.ManagedFieldsEntry) int {
		return cmp.Or(cmp.Compare(p.Operation, q.Operation), cmp.Compare(seconds(p.Time), seconds(q.Time)), cmp.Compare(p.Manager, q.Manager),
			cmp.Compare(p.APIVersion, q.APIVersion), cmp.Compare(p.Subresource, q.Subresource))
	})
	return out, nil
}

func seconds(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.Unix()
}

const (
	maxUpdaters = 10 // owners by update that an object has; the oldest are merged
	ancient     = "ancient-changes"
)

// capped merges the oldest owners by update, those of one version into one.
func (o owners) capped() owners {
	var updaters []owner
	for _, e := range o {
		if !e.applied {
			updaters = append(updaters, e)
		}
	}
	many := len(updaters)
	if many <= maxUpdaters {
		return o
	}
	slices.SortFunc(updaters, func(a, b owner) int {
		if c := cmp.Compare(seconds(a.time), seconds(b.time)); c != 0 {
			return c
		}
		return cmp.Compare(a.key(), b.key())
	})
	first := map[fieldpath.APIVersion]identity{}
	for _, e := range updaters {
		if many <= maxUpdaters {
			break
		}
		before, ok := first[e.version]
		if !ok {
			first[e.version] = e.identity
			continue
		}
		bucket := identify(&metav1.ManagedFieldsEntry{
			Manager: ancient, Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: string(e.version),
		})
		i := o.index(bucket)
		if i < 0 {
			at := o.index(before)
			if at < 0 { // it was the bucket, and was merged into itself
				first[e.version] = e.identity
				continue
			}
			set := o[at]
			o.remove(before)
			o.set(bucket, set.version, set.applied, set.fields)
			i = o.index(bucket)
		}
		into := &o[i]
		into.fields, into.version, into.applied = newFields(e.fields.set.Union(into.fields.set)), e.version, e.applied
		into.time = e.time
		o.remove(e.identity)
		many--
	}
	return o
}

func now() *metav1.Time { return &metav1.Time{Time: time.Now().UTC()} }
