package adapter

import (
	"context"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// ListExternal returns what GetList of the whole resource finds, as object.View.External shows it, and the revision of
// the list. Pages are not supported: the objects are in memory.
func (s *Store) ListExternal(ctx context.Context, resourceVersion string, pred apistorage.SelectionPredicate) ([]runtime.Object, storage.Revision, error) {
	sc, err := s.scope(s.prefix, true)
	if err != nil {
		return nil, 0, err
	}
	p, err := s.startPage(ctx, sc, apistorage.ListOptions{ResourceVersion: resourceVersion, Predicate: pred, Recursive: true})
	if err != nil {
		return nil, 0, err
	}
	objs, err := s.fill(ctx, p, (*object.View).External)
	return objs, p.rev, err
}

// WatchExternal is Watch of the whole resource behind a resourceVersion that ListExternal returned, with objects as
// object.View.External shows them and no bookmarks.
func (s *Store) WatchExternal(ctx context.Context, resourceVersion string, pred apistorage.SelectionPredicate) (watch.Interface, error) {
	return s.watch(ctx, s.prefix, apistorage.ListOptions{ResourceVersion: resourceVersion, Predicate: pred, Recursive: true}, true)
}
