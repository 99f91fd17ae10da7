package cache

import (
	"sort"
	"sync"

	"github.com/rowlock-io/rowlock/storage"
)

// Snapshot is one resource as it was at one revision. It is immutable, cheap to copy and safe for concurrent use. The
// zero value is empty.
type Snapshot struct {
	tree         *tree
	rev, changed storage.Revision
	pivots       *sync.Pool
	of           *resource // whose history leads from here to the present; nil: none does
}

// Snapshot returns the present of a resource. It costs the same however many objects there are, and takes no lock.
func (c *Cache) Snapshot(resource string) Snapshot {
	w := c.world.Load()
	if w == nil {
		return Snapshot{}
	}
	r := w.find(resource)
	if r == nil {
		at := w.revision()
		if r = w.find(resource); r == nil {
			return Snapshot{rev: at}
		}
	}
	v, rev := r.read()
	return Snapshot{tree: v.tree, rev: rev, changed: v.changed, pivots: &w.pivots, of: r}
}

// Revision is the revision at which the resource was exactly this.
func (s Snapshot) Revision() storage.Revision { return s.rev }

// Changed is the revision of the resource's last change, where the cache has followed it: a watch that has come as far shows
// exactly this. It is 0 when nothing has changed since the cache was loaded, and in snapshots of the past.
func (s Snapshot) Changed() storage.Revision { return s.changed }

// Len is the number of objects of the whole resource.
func (s Snapshot) Len() int {
	if s.tree == nil {
		return 0
	}
	return s.tree.Len()
}

// Get returns one object, or nil.
func (s Snapshot) Get(namespace, name string) *Entry {
	if s.tree == nil {
		return nil
	}
	p := s.pivot(namespace, name)
	e, _ := s.tree.Get(p)
	s.release(p)
	return e
}

// Scan yields objects in key order until yield returns false: those of a namespace, or all when it is empty, strictly
// behind after. Of after only namespace and name count; the zero key is the start.
func (s Snapshot) Scan(namespace string, after storage.Key, yield func(*Entry) bool) {
	if s.tree == nil || namespace != "" && after.Namespace > namespace {
		return
	}
	if after.Namespace < namespace {
		after.Namespace, after.Name = namespace, ""
	}
	p := s.pivot(after.Namespace, after.Name)
	first := true
	s.tree.Ascend(p, func(e *Entry) bool {
		if first {
			first = false
			if e.Name == p.Name && e.Namespace == p.Namespace {
				return true
			}
		}
		if namespace != "" && e.Namespace != namespace {
			return false
		}
		return yield(e)
	})
	s.release(p)
}

// More tells whether there are objects that Scan would yield.
func (s Snapshot) More(namespace string, after storage.Key) (more bool) {
	s.Scan(namespace, after, func(*Entry) bool {
		more = true
		return false
	})
	return more
}

// Count is how many objects Scan would yield. It does not look at them.
func (s Snapshot) Count(namespace string, after storage.Key) int {
	if s.tree == nil || namespace != "" && after.Namespace > namespace {
		return 0
	}
	if after.Namespace < namespace {
		after.Namespace, after.Name = namespace, ""
	}
	from, to := 0, s.tree.Len()
	if after.Namespace != "" || after.Name != "" {
		from = s.rank(func(e *Entry) bool {
			return e.Namespace > after.Namespace || e.Namespace == after.Namespace && e.Name > after.Name
		})
	}
	if namespace != "" {
		to = s.rank(func(e *Entry) bool { return e.Namespace > namespace })
	}
	return to - from
}

// rank is the number of objects in front of the first one that lies behind.
func (s Snapshot) rank(behind func(*Entry) bool) int {
	return sort.Search(s.tree.Len(), func(i int) bool {
		e, _ := s.tree.GetAt(i)
		return behind(e)
	})
}

// Sample yields up to n objects from all over the resource.
func (s Snapshot) Sample(n int, yield func(*Entry)) {
	if s.tree == nil {
		return
	}
	all := s.tree.Len()
	n = min(n, all)
	for i := range n {
		e, _ := s.tree.GetAt(i * all / n)
		yield(e)
	}
}

func (s Snapshot) pivot(namespace, name string) *Entry {
	p := s.pivots.Get().(*Entry)
	p.Namespace, p.Name = namespace, name
	return p
}

func (s Snapshot) release(p *Entry) {
	p.Namespace, p.Name = "", ""
	s.pivots.Put(p)
}
