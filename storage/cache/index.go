package cache

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"github.com/rowlock-io/rowlock/storage"
)

// Term is something that entries are found by: a label and its value, as far as this package is concerned a name without a
// zero byte, and a value.
type Term struct{ Name, Value string }

// Terms appends the terms of an entry. All callers that find entries of one resource must pass functions that give the same.
// An error says that they cannot be told now; an entry of which they never can is found whatever is asked for, which its
// function says with the zero Term.
type Terms func(e *Entry, to []Term) ([]Term, error)

// key is the form in which a term is kept. The name comes first, so that all values of a name lie side by side.
func (t Term) key() string { return t.Name + "\x00" + t.Value }

const (
	// minIndexed is how many objects are looked at one by one without a thought of an index.
	minIndexed = 128
	// indexPart: an index is of use that leaves less than this part of the objects to be looked at.
	indexPart = 3
	// indexIdle is how long nobody may have asked for an index that is kept up.
	indexIdle = 10 * time.Minute
	// indexRetry is how many seconds after an index could not be made nobody tries again.
	indexRetry = 5
	// indexDegree is that of its tree, which is never copied.
	indexDegree = 32
	// postingBytes is what a posting takes, with the room in the nodes of the tree.
	postingBytes = 96
)

// posting says that an object has, or had, a term.
type posting struct{ term, namespace, name string }

func (p posting) compare(o posting) int {
	if c := strings.Compare(p.term, o.term); c != 0 {
		return c
	}
	return p.place().compare(o.place())
}

func (p posting) place() place { return place{p.namespace, p.name} }

func (p place) compare(o place) int {
	if c := strings.Compare(p.namespace, o.namespace); c != 0 {
		return c
	}
	return strings.Compare(p.name, o.name)
}

// index finds the names of a resource's objects by terms. It holds names and not states, so that most changes leave it as it
// is; whoever finds a name looks into a tree for the state, and at the state. So an index may say too much, but never too
// little: of what is in a tree at rev.
//
// It is made when somebody first asks, and follows the history: when somebody asks, and before the history in memory lets
// go of what it has not seen. So publishing does not wait for it, and one that nobody asks for any more is dropped.
type index struct {
	of        *resource
	used      atomic.Int64 // when somebody last asked, in seconds
	bytes     atomic.Int64
	come      atomic.Uint64 // rev, for who does not hold mu
	following atomic.Bool
	building  atomic.Bool
	failed    atomic.Int64 // when it could not be made, in seconds

	mu    sync.RWMutex
	terms Terms
	tree  *btree.BTreeG[posting] // nil: there is none
	rev   storage.Revision       // every change up to it is in the tree
	texts int64                  // bytes of the terms
	stale int                    // changes after which postings may have stayed that nothing has
	olds  []Term                 // scratch
	news  []Term
}

func (r *resource) indexed() *index {
	if x := r.index.Load(); x != nil {
		return x
	}
	r.index.CompareAndSwap(nil, &index{of: r})
	return r.index.Load()
}

// at calls read with an index that has come to a revision at least; false when there is no such index.
func (x *index) at(rev storage.Revision, terms Terms, read func()) bool {
	now := time.Now().Unix()
	x.used.Store(now)
	if now-x.failed.Load() < indexRetry || x.building.Load() && x.of.world.source.cache.budget.max > 0 {
		return false // what is being read from the database may take long
	}
	x.mu.RLock()
	if x.tree != nil && x.rev >= rev {
		defer x.mu.RUnlock()
		read()
		return true
	}
	x.mu.RUnlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.terms = terms
	if !x.reach(rev) {
		x.drop()
		x.failed.Store(now)
		return false
	}
	read()
	return true
}

// reach brings the index to a revision that has been published. The caller holds mu.
func (x *index) reach(rev storage.Revision) bool {
	if x.tree == nil || x.stale > minIndexed+x.tree.Len()/4 || !x.follow() {
		if !x.build() || !x.follow() {
			return false
		}
	}
	if x.rev < rev {
		// What shows it is published before it is in the history. With the lock held no publish is half done.
		c := x.of.world.source.cache
		c.mu.Lock()
		c.mu.Unlock() //nolint:staticcheck // it was waited for
		return x.follow() && x.rev >= rev
	}
	return true
}

// build makes the index anew. The caller holds mu.
func (x *index) build() bool {
	x.drop()
	x.building.Store(true)
	defer x.building.Store(false)
	v, rev := x.of.read()
	known := map[Term]string{} // so that equal terms are one string
	all := make([]posting, 0, v.tree.Len())
	ok := true
	v.tree.Scan(func(e *Entry) bool {
		var err error
		if x.news, err = x.terms(e, x.news[:0]); err != nil {
			ok = false
			return false
		}
		for _, t := range x.news {
			key, is := known[t]
			if !is {
				key = t.key()
				known[t] = key
				x.texts += int64(len(key))
			}
			all = append(all, posting{key, e.Namespace, e.Name})
		}
		return true
	})
	clear(x.news)
	if !ok {
		return false
	}
	slices.SortFunc(all, posting.compare)
	x.tree = btree.NewBTreeGOptions(func(a, b posting) bool { return a.compare(b) < 0 }, btree.Options{Degree: indexDegree, NoLocks: true})
	for _, p := range all {
		x.tree.Load(p)
	}
	x.rev, x.stale = rev, 0
	x.account()
	return true
}

// drop lets go of what the index holds. The caller holds mu.
func (x *index) drop() {
	x.tree, x.rev, x.texts, x.stale = nil, 0, 0, 0
	x.account()
}

func (x *index) account() {
	size := int64(0)
	if x.tree != nil {
		size = int64(x.tree.Len())*postingBytes + x.texts
	}
	x.bytes.Store(size)
	x.come.Store(uint64(x.rev))
}

// follow takes in what the history in memory has; false when that does not reach back to where the index is, or terms cannot
// be told. The caller holds mu.
func (x *index) follow() bool {
	defer x.account()
	for {
		through := x.of.world.revision() // before the history, which then holds everything up to it
		h := x.of.history.Load()
		if x.rev < h.floor {
			return false
		}
		items, all := h.after(x.rev)
		for i := range items {
			if !x.change(&items[i]) {
				return false
			}
		}
		if n := len(items); n > 0 {
			x.rev = max(x.rev, items[n-1].Entry.Revision)
		}
		if all {
			x.rev = max(x.rev, through)
			return true
		}
	}
}

// change takes in one change. The caller holds mu.
func (x *index) change(c *Change) bool {
	var err error
	x.olds, x.news = x.olds[:0], x.news[:0]
	defer func() {
		clear(x.olds)
		clear(x.news)
	}()
	if p := c.Prev; p != nil {
		if !p.Resident() && p.Aux() == nil {
			x.stale++ // better than to ask the database
		} else if x.olds, err = x.terms(p, x.olds); err != nil {
			return false
		}
	}
	if c.Verb != storage.Delete {
		if x.news, err = x.terms(c.Entry, x.news); err != nil {
			return false
		}
	}
	if slices.Equal(x.olds, x.news) {
		return true
	}
	p := posting{namespace: c.Entry.Namespace, name: c.Entry.Name}
	for _, t := range x.olds {
		if !slices.Contains(x.news, t) {
			p.term = t.key()
			if _, was := x.tree.Delete(p); was && x.held(p.term) != p.term {
				x.texts -= int64(len(p.term))
			}
		}
	}
	for _, t := range x.news {
		if slices.Contains(x.olds, t) {
			continue
		}
		p.term = t.key()
		if held := x.held(p.term); held == p.term {
			p.term = held
		} else {
			x.texts += int64(len(p.term))
		}
		x.tree.Set(p)
	}
	return true
}

// held is the first term that is not less than this one: if equal, the string that all of its postings share.
func (x *index) held(term string) (found string) {
	x.tree.Ascend(posting{term: term}, func(p posting) bool {
		found = p.term
		return false
	})
	return found
}

// lag has those indexes follow that are behind. The publisher calls it from time to time, before history goes that they have
// not seen.
func (w *world) lag() {
	for _, r := range *w.resources.Load() {
		if x := r.index.Load(); x != nil && x.bytes.Load() > 0 && x.come.Load() < uint64(r.version.Load().changed) {
			x.lag()
		}
	}
}

// lag has the index follow, or go when nobody has asked for long.
func (x *index) lag() {
	if !x.following.CompareAndSwap(false, true) {
		return
	}
	c := x.of.world.source.cache
	go func() {
		defer x.following.Store(false)
		if !c.begin() {
			return
		}
		defer c.wg.Done()
		x.keepUp()
	}()
}

func (x *index) keepUp() {
	x.mu.Lock()
	defer x.mu.Unlock()
	idle := time.Now().Unix()-x.used.Load() > int64(indexIdle/time.Second)
	if x.tree != nil && (idle || !x.follow()) {
		x.drop()
	}
}

// keepUp has all indexes follow before history goes.
func (w *world) keepUp() {
	for _, r := range *w.resources.Load() {
		if x := r.index.Load(); x != nil {
			x.keepUp()
		}
	}
}

// indexBytes is what the indexes of a world take.
func (w *world) indexBytes() (bytes int64) {
	for _, r := range *w.resources.Load() {
		if x := r.index.Load(); x != nil {
			bytes += x.bytes.Load()
		}
	}
	return bytes
}
