package cache

import (
	"slices"
	"strings"

	"github.com/rowlock-io/rowlock/storage"
)

// Choice is a requirement: one of some values of a term, or, if there are none, any.
type Choice struct {
	Name   string
	Values []string
}

// Find yields, in the order of Scan, those of the objects that it would yield which can meet all of the choices, and perhaps
// others: the caller has to look at each. It returns false, having yielded nothing, where Scan is better: because there are
// few objects, or most meet each of the choices, or nothing is known about the past that this is a snapshot of.
func (s Snapshot) Find(namespace string, after storage.Key, terms Terms, choices []Choice, yield func(*Entry) bool) bool {
	if s.of == nil || len(choices) == 0 {
		return false
	}
	all := s.Count(namespace, after)
	if all < minIndexed {
		return false
	}
	q := query{within: place{after.Namespace, after.Name}, namespace: namespace, most: all / indexPart}
	if after.Namespace < namespace {
		q.within = place{namespace, ""}
	}
	found := false
	need := s.rev
	if s.changed != 0 {
		need = s.changed // nothing has happened since
	}
	known := s.of.indexed().at(need, terms, func() {
		found = q.run(s.of.index.Load(), choices) && q.since(s.of, s.rev)
	})
	if !known || !found {
		return false
	}
	if q.mixed {
		slices.SortFunc(q.best, place.compare)
		q.best = slices.Compact(q.best)
	}
	p := s.pivot("", "")
	defer s.release(p)
	for _, at := range q.best {
		p.Namespace, p.Name = at.namespace, at.name
		if e, ok := s.tree.Get(p); ok && !yield(e) {
			break
		}
	}
	return true
}

// query is one search in an index.
type query struct {
	within    place  // what is found lies behind it
	namespace string // and in this namespace, if one is named
	most      int    // more than so many are of no use

	best, next []place
	mixed      bool // best is not in order, or has something twice
}

// run takes the choice that fewest objects meet. The caller holds the index's lock.
func (q *query) run(x *index, choices []Choice) bool {
	found := false
	for i := range choices {
		c := &choices[i]
		q.next = q.next[:0]
		if !q.gather(x, c) {
			continue
		}
		found = true
		q.best, q.next = q.next, q.best
		q.mixed = len(c.Values) != 1
		q.most = len(q.best)
	}
	if !found {
		return false
	}
	// Of these nobody knows what they meet.
	q.next = q.next[:0]
	q.most += minIndexed
	if !q.walk(x, Term{}.key(), false) {
		return false
	}
	if len(q.next) > 0 {
		q.best, q.mixed = append(q.best, q.next...), true
	}
	return true
}

// gather finds what meets a choice, if that is less than what was found before.
func (q *query) gather(x *index, c *Choice) bool {
	if len(c.Values) == 0 {
		return q.walk(x, Term{Name: c.Name}.key(), true)
	}
	for _, value := range c.Values {
		if !q.walk(x, Term{Name: c.Name, Value: value}.key(), false) {
			return false
		}
	}
	return true
}

// walk goes through the postings of a term, or of all that begin with it.
func (q *query) walk(x *index, term string, prefix bool) (ok bool) {
	ok = true
	from := posting{term: term}
	if !prefix {
		from.namespace, from.name = q.within.namespace, q.within.name
	}
	looked := 0
	x.tree.Ascend(from, func(p posting) bool {
		if prefix && !strings.HasPrefix(p.term, term) || !prefix && (p.term != term || q.namespace != "" && p.namespace != q.namespace) {
			return false
		}
		if looked++; looked > 4*q.most+minIndexed {
			ok = false
			return false
		}
		at := p.place()
		if q.namespace != "" && at.namespace != q.namespace || at.compare(q.within) <= 0 {
			return true
		}
		q.next = append(q.next, at)
		ok = len(q.next) <= q.most
		return ok
	})
	return ok
}

// since adds what has changed after a revision, which is that of the snapshot, as far as the index has come: there objects
// may have been otherwise. False: nobody knows. The caller holds the index's lock.
func (q *query) since(r *resource, rev storage.Revision) bool {
	x := r.index.Load()
	h := r.history.Load()
	if rev < h.floor && rev < x.rev {
		return false
	}
	for rev < x.rev {
		items, all := h.after(rev)
		for i := range items {
			at := place{items[i].Entry.Namespace, items[i].Entry.Name}
			rev = items[i].Entry.Revision
			if q.namespace != "" && at.namespace != q.namespace || at.compare(q.within) <= 0 {
				continue
			}
			if q.best, q.mixed = append(q.best, at), true; len(q.best) > 2*q.most+minIndexed {
				return false
			}
		}
		if all {
			break
		}
	}
	return true
}

// Named yields what Scan would yield of one name. It looks at each namespace once.
func (s Snapshot) Named(namespace string, after storage.Key, name string, yield func(*Entry) bool) {
	if namespace != "" {
		if after.Namespace > namespace || after.Namespace == namespace && after.Name >= name {
			return
		}
		if e := s.Get(namespace, name); e != nil {
			yield(e)
		}
		return
	}
	for {
		var next *Entry
		s.Scan("", after, func(e *Entry) bool {
			next = e
			return false
		})
		if next == nil {
			return
		}
		if next.Name <= name {
			if e := s.Get(next.Namespace, name); e != nil && !yield(e) {
				return
			}
		}
		after.Namespace, after.Name = next.Namespace+"\x00", ""
	}
}
