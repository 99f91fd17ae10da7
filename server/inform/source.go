package inform

import (
	"context"
	"reflect"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	apistorage "k8s.io/apiserver/pkg/storage"
	"k8s.io/client-go/tools/cache"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/storage"
)

// source lists and watches one resource for informers.
type source struct {
	of    reflect.Type
	store *adapter.Store  // nil until Resources.Complete
	field fields.Selector // nil: all objects
}

var (
	_ cache.ListerWatcherWithContext = &source{}
	_ cache.ListerWatcher            = &source{}
)

// IsWatchListSemanticsUnSupported tells client-go not to ask for a list by a watch: a list costs nothing here.
func (*source) IsWatchListSemanticsUnSupported() bool { return true }

func (s *source) List(options metav1.ListOptions) (runtime.Object, error) {
	return s.ListWithContext(context.Background(), options)
}

func (s *source) Watch(options metav1.ListOptions) (watch.Interface, error) {
	return s.WatchWithContext(context.Background(), options)
}

// ListWithContext implements cache.ListerWatcherWithContext. Of the options it knows the resourceVersion: nothing else
// comes from a reflector.
func (s *source) ListWithContext(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	objs, rev, err := s.store.ListExternal(ctx, options.ResourceVersion, s.predicate())
	if err != nil {
		return nil, err
	}
	list := &internalversion.List{Items: objs}
	list.ResourceVersion = strconv.FormatUint(uint64(rev), 10)
	return list, nil
}

// WatchWithContext implements cache.ListerWatcherWithContext. The watch ends when it is stopped or the cluster is closed:
// that ctx ends is the reflector's to see, for which a watch that ends by itself is an error to tell of.
func (s *source) WatchWithContext(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
	return s.store.WatchExternal(context.WithoutCancel(ctx), options.ResourceVersion, s.predicate())
}

// changed is the revision of the last change that the cache knows of.
func (s *source) changed() storage.Revision {
	return s.store.Cache.Snapshot(s.store.Codec().Resource()).Changed()
}

func (s *source) predicate() apistorage.SelectionPredicate {
	field := s.field
	if field == nil {
		field = fields.Everything()
	}
	return apistorage.SelectionPredicate{Label: labels.Everything(), Field: field, GetAttrs: s.store.Codec().Config().GetAttrs}
}
