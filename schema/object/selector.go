package object

import (
	"slices"
	"sync"
	"sync/atomic"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
)

// Selector returns a selector that selects the same, and takes less time for the labels of this Codec's Views: a list asks it
// once for each object of a resource. It is the selector itself where there is nothing to gain.
func (c *Codec) Selector(sel labels.Selector) labels.Selector {
	if sel == nil || sel.Empty() {
		return sel
	}
	requirements, selectable := sel.Requirements()
	if !selectable {
		return sel
	}
	prepared := prepared{Selector: sel}
	for i := range requirements {
		r := &requirements[i]
		t := term{key: c.names.one(r.Key())}
		switch r.Operator() {
		case selection.In, selection.Equals, selection.DoubleEquals:
			t.present, t.listed = true, true
		case selection.NotIn, selection.NotEquals:
			t.listed = true
		case selection.Exists:
			t.present = true
		case selection.DoesNotExist:
		default:
			return sel
		}
		if t.listed {
			t.values = r.ValuesUnsorted()
		}
		prepared.terms = append(prepared.terms, t)
	}
	return prepared
}

// prepared is a selector whose requirements are laid out.
type prepared struct {
	labels.Selector
	terms []term
}

// term is one requirement: with present the label has to be there and, if values are listed, has to be one of them; without,
// it may not be there, or may not be one of those listed.
type term struct {
	key             string
	values          []string
	present, listed bool
}

// Matches implements labels.Selector.
func (s prepared) Matches(of labels.Labels) bool {
	p, ok := of.(*pairs)
	if !ok {
		return s.Selector.Matches(of)
	}
	for i := range s.terms {
		t := &s.terms[i]
		value, there := p.Lookup(t.key)
		if there && t.listed {
			there = slices.Contains(t.values, value)
		}
		if there != t.present {
			return false
		}
	}
	return true
}

// names are the names of labels, each kept once: objects of one resource have the same ones, and strings at the same place
// are equal without a look at what they say.
type names struct {
	kept  sync.Map // of strings, by themselves
	count atomic.Int32
}

// maxNames bounds what is kept; further names are as they come.
const maxNames = 1024

func (n *names) one(name string) string {
	if kept, ok := n.kept.Load(name); ok {
		return kept.(string)
	}
	if n.count.Load() >= maxNames {
		return name
	}
	kept, was := n.kept.LoadOrStore(name, name)
	if !was {
		n.count.Add(1)
	}
	return kept.(string)
}
