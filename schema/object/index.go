package object

import (
	"strings"

	"k8s.io/apimachinery/pkg/selection"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// Scan yields what a list of a snapshot has to look at, in key order until yield returns false: all objects of a namespace, or of all when it is empty, behind
// after, or, where names and labels that are asked for lead to fewer, at least those of them that the predicate selects.
func (c *Codec) Scan(snap cache.Snapshot, namespace string, after storage.Key, p *apistorage.SelectionPredicate, yield func(*cache.Entry) bool) {
	if p != nil && p.Field != nil {
		if name, ok := p.Field.RequiresExactMatch("metadata.name"); ok && c.cfg.GetAttrs != nil {
			snap.Named(namespace, after, name, yield)
			return
		}
	}
	if p == nil || c.cfg.GetAttrs == nil || !snap.Find(namespace, after, c.terms, c.choices(p), yield) {
		snap.Scan(namespace, after, yield)
	}
}

// choices are the requirements of a predicate that say what an object must have.
func (c *Codec) choices(p *apistorage.SelectionPredicate) (choices []cache.Choice) {
	if p.Label != nil && !p.Label.Empty() {
		requirements, selectable := p.Label.Requirements()
		if !selectable {
			return nil
		}
		for i := range requirements {
			r := &requirements[i]
			switch r.Operator() {
			case selection.In, selection.Equals, selection.DoubleEquals:
				if values := r.ValuesUnsorted(); len(values) > 0 {
					choices = append(choices, cache.Choice{Name: r.Key(), Values: values})
				}
			case selection.Exists, selection.GreaterThan, selection.LessThan:
				choices = append(choices, cache.Choice{Name: r.Key()})
			case selection.NotIn, selection.NotEquals, selection.DoesNotExist:
			}
		}
	}
	if p.Field != nil {
		for _, field := range c.cfg.Indexed {
			if value, ok := p.Field.RequiresExactMatch(field); ok {
				choices = append(choices, cache.Choice{Name: fieldTerm + field, Values: []string{value}})
			}
		}
	}
	return choices
}

// fieldTerm is in front of fields' names among terms. Names of labels do not begin so.
const fieldTerm = "."

// terms implements cache.Terms. Labels are read from the bytes each time and not kept: most objects are never looked at.
func (c *Codec) terms(e *cache.Entry, to []cache.Term) ([]cache.Term, error) {
	var plain []byte
	var err error
	if c.cfg.Transformer == nil {
		plain, err = e.Bytes()
	} else {
		plain, err = c.View(e).Plain()
	}
	if err == nil {
		from := len(to)
		if to, err = c.appendTerms(to, plain); err != nil {
			return append(to[:from], cache.Term{}), nil //nolint:nilerr // whoever selects it may say what is wrong
		}
		return to, nil
	}
	if IsCorrupt(err) {
		return append(to, cache.Term{}), nil
	}
	return to, err
}

func (c *Codec) appendTerms(to []cache.Term, plain []byte) ([]cache.Term, error) {
	l, err := labelsOf(plain)
	if err != nil {
		return to, err
	}
	for i := 0; i+1 < len(l); i += 2 {
		to = append(to, cache.Term{Name: l[i], Value: l[i+1]})
	}
	for _, field := range c.cfg.Indexed {
		value, err := stringAt(plain, field)
		if err != nil {
			return to, err
		}
		to = append(to, cache.Term{Name: fieldTerm + field, Value: value})
	}
	return to, nil
}

// stringAt reads a string from stored JSON by its path; where there is none it is empty, as selectable fields are.
func stringAt(data []byte, path string) (string, error) {
	at, last := 0, false
	for !last {
		var name string
		var rest bool
		name, path, rest = strings.Cut(path, ".")
		last = !rest
		next := -1
		if _, err := members(data, at, func(key []byte, _, valueAt int) bool {
			if string(key) == name {
				next = valueAt
			}
			return next < 0
		}); err != nil {
			return "", err
		}
		if next < 0 {
			return "", nil
		}
		at = next
	}
	end := skipString(data, at)
	if end < 0 {
		return "", errMalformed
	}
	return text(data[at+1 : end-1])
}
