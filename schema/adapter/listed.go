package adapter

import (
	"context"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rowlock-io/rowlock/schema/object"
)

// Listed tells a request's handler which stored states a list shows, so that the reply can be made of the stored bytes. It
// is used by one request, which may do several things at a time.
type Listed struct {
	mu    sync.Mutex
	list  runtime.Object
	views []*object.View
}

type listedKey struct{}

// WithListed returns a context whose lists note in the Listed what they showed last.
func WithListed(ctx context.Context) (context.Context, *Listed) {
	l := &Listed{}
	return context.WithValue(ctx, listedKey{}, l), l
}

// Shows returns the states that the items of a list show, when it is the list that was filled last.
func (l *Listed) Shows(list runtime.Object) ([]*object.View, bool) {
	if l == nil {
		return nil, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.list == nil || l.list != list {
		return nil, false
	}
	return l.views, true
}

// noting is Assignable that also notes what it is asked for, and what is to be called when all of a list were.
func noting(ctx context.Context, list runtime.Object) (show func(*object.View) (runtime.Object, error), done func()) {
	l, _ := ctx.Value(listedKey{}).(*Listed)
	if l == nil {
		return (*object.View).Assignable, func() {}
	}
	var views []*object.View
	show = func(v *object.View) (runtime.Object, error) {
		views = append(views, v)
		return v.Assignable()
	}
	return show, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.list, l.views = list, views
	}
}
