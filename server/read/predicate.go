package read

import (
	"fmt"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// predicate filters by the selectors of one request.
type predicate struct {
	res  *Resource
	all  bool            // there are no selectors
	key  fields.Selector // a field selector that speaks only of what the key says; nil: none
	name string          // the only name that is let through; empty: any
	rest *apistorage.SelectionPredicate

	selection *apistorage.SelectionPredicate // the whole; nil: there are no selectors
}

func newPredicate(res *Resource, opts *metainternal.ListOptions) predicate {
	p := predicate{res: res}
	label, field := opts.LabelSelector, opts.FieldSelector
	if label == nil {
		label = labels.Everything()
	}
	if field == nil {
		field = fields.Everything()
	}
	p.name, _ = field.RequiresExactMatch("metadata.name")
	p.all = label.Empty() && field.Empty()
	if !p.all {
		p.selection = &apistorage.SelectionPredicate{Label: label, Field: field}
	}
	if !field.Empty() && byKey(field) {
		p.key, field = field, fields.Everything()
	}
	if !label.Empty() || !field.Empty() {
		p.rest = &apistorage.SelectionPredicate{Label: res.Codec.Selector(label), Field: field, GetAttrs: res.GetAttrs}
	}
	return p
}

func byKey(sel fields.Selector) bool {
	for _, r := range sel.Requirements() {
		if r.Field != "metadata.name" && r.Field != "metadata.namespace" {
			return false
		}
	}
	return true
}

// matches tells whether an object passes. The error says that its bytes could not be read.
func (p *predicate) matches(e *cache.Entry) (bool, error) {
	if p.key != nil && !p.key.Matches((*keyFields)(&e.Key)) {
		return false, nil
	}
	if p.rest == nil {
		return true, nil
	}
	ok, err := p.res.Codec.View(e).Matches(p.rest)
	if err != nil {
		return false, fmt.Errorf("select %s: %w", e.Key, err)
	}
	return ok, nil
}

// keyFields answers field selectors about metadata.name and metadata.namespace from a key. It is used through a pointer
// to the key, so that asking does not allocate.
type keyFields storage.Key

func (k *keyFields) Has(string) bool { return true }

func (k *keyFields) Get(field string) string {
	if field == "metadata.name" {
		return k.Name
	}
	return k.Namespace
}
