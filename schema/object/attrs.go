package object

import (
	"slices"

	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	apistorage "k8s.io/apiserver/pkg/storage"
)

// pairs is a small set of names and values, one after the other: a map would take several times the memory, and there
// is one for each object that was ever matched with a selector. It implements labels.Labels and fields.Fields.
type pairs []string

// Lookup returns a value and whether there is one.
func (p pairs) Lookup(name string) (string, bool) {
	for i := 0; i+1 < len(p); i += 2 {
		if p[i] == name {
			return p[i+1], true
		}
	}
	return "", false
}

// Has tells whether there is a value.
func (p pairs) Has(name string) bool {
	_, ok := p.Lookup(name)
	return ok
}

// Get returns a value, or the empty string.
func (p pairs) Get(name string) string {
	s, _ := p.Lookup(name)
	return s
}

func (p pairs) set() map[string]string {
	if p == nil {
		return nil
	}
	m := make(map[string]string, len(p)/2)
	for i := 0; i+1 < len(p); i += 2 {
		m[p[i]] = p[i+1]
	}
	return m
}

// attrs are the labels of an object and, once somebody needed them, its selectable fields.
type attrs struct {
	labels    pairs
	fields    pairs
	hasFields bool
	own       bool // the strings share no memory with the object's bytes
}

// Attrs returns the object's labels and selectable fields, as Config.GetAttrs gives them. The maps are the caller's.
func (v *View) Attrs() (labels.Set, fields.Set, error) {
	a, err := v.fullAttrs()
	if err != nil {
		return nil, nil, err
	}
	return a.labels.set(), a.fields.set(), nil
}

// Matches tells whether the object is selected. It decodes the object only when a field other than its name and
// namespace decides for the first time, or the selection brings its own rules.
func (v *View) Matches(p *apistorage.SelectionPredicate) (bool, error) {
	if p.ShardSelector != nil && !p.ShardSelector.Empty() {
		obj, err := v.Object()
		if err != nil {
			return false, err
		}
		if ok, err := p.MatchesSharding(obj); err != nil || !ok {
			return false, err
		}
	}
	byLabel := p.Label != nil && !p.Label.Empty()
	byField := p.Field != nil && !p.Field.Empty()
	if !byLabel && !byField {
		return true, nil
	}
	if v.codec.cfg.GetAttrs == nil {
		obj, err := v.Object()
		if err != nil {
			return false, err
		}
		return p.Matches(obj)
	}
	if byField && byName(p.Field) {
		byField = false
		key := v.Key()
		if !p.Field.Matches(pairs{"metadata.name", key.Name, "metadata.namespace", key.Namespace}) {
			return false, nil
		}
	}
	if byLabel {
		a, err := v.labelAttrs()
		if err != nil {
			return false, err
		}
		if !p.Label.Matches(&a.labels) { // a pointer: a slice would be copied to the heap for each object
			return false, nil
		}
	}
	if byField {
		a, err := v.fullAttrs()
		if err != nil {
			return false, err
		}
		return p.Field.Matches(&a.fields), nil
	}
	return true, nil
}

func byName(s fields.Selector) bool {
	for _, r := range s.Requirements() {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" {
			return false
		}
	}
	return true
}

// labelAttrs reads the labels from the bytes.
func (v *View) labelAttrs() (*attrs, error) {
	if a := v.pairs.Load(); a != nil {
		return a, nil
	}
	plain, err := v.Plain()
	if err != nil {
		return nil, err
	}
	l, err := labelsOf(plain)
	if err != nil {
		return nil, &CorruptError{Key: v.Key(), err: err}
	}
	for i := 0; i+1 < len(l); i += 2 {
		l[i] = v.codec.names.one(l[i])
	}
	a := &attrs{labels: l}
	if v.pairs.CompareAndSwap(nil, a) {
		return a, nil
	}
	return v.pairs.Load(), nil
}

func (v *View) fullAttrs() (*attrs, error) {
	a, err := v.labelAttrs()
	if err != nil || a.hasFields || v.codec.cfg.GetAttrs == nil {
		return a, err
	}
	obj, err := v.Object()
	if err != nil {
		return nil, err
	}
	_, set, err := v.codec.cfg.GetAttrs(obj)
	if err != nil {
		return nil, err
	}
	full := &attrs{labels: a.labels, hasFields: true, fields: make(pairs, 0, 2*len(set))}
	for name, value := range set {
		full.fields = append(full.fields, name, value)
	}
	v.pairs.Store(full)
	return full, nil
}

// labelsOf reads metadata.labels from stored JSON.
func labelsOf(data []byte) (pairs, error) {
	meta, _, err := metadata(data)
	if err != nil {
		return nil, err
	}
	at := -1
	if _, err := members(data, meta, func(key []byte, _, valueAt int) bool {
		if string(key) == "labels" {
			at = valueAt
		}
		return at < 0
	}); err != nil || at < 0 {
		return nil, err
	}
	var out pairs
	var bad error
	_, err = members(data, at, func(key []byte, _, valueAt int) bool {
		valueEnd := skipString(data, valueAt)
		if valueEnd < 0 {
			bad = errMalformed
			return false
		}
		name, err := text(key)
		if err != nil {
			bad = err
			return false
		}
		value, err := text(data[valueAt+1 : valueEnd-1])
		if err != nil {
			bad = err
			return false
		}
		out = append(out, name, value)
		return true
	})
	if err == nil {
		err = bad
	}
	return slices.Clip(out), err
}
