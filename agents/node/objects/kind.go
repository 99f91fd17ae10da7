package objects

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/rowlock-io/rowlock/agents/node/pause"
)

type key struct{ namespace, name string }

func (k key) String() string { return k.namespace + "/" + k.name }

// kind are the objects of one kind that pods refer to.
type kind[T metav1.Object] struct {
	resource  schema.GroupResource // as upstream's errors call it
	api       api[T]
	immutable func(T) bool
	changed   func(types.UID)
	spawn     func(func(context.Context))
	log       *slog.Logger

	mu    sync.Mutex
	items map[key]*item[T]
}

// item is an object that pods refer to. Its fields are guarded by the kind's mu.
type item[T metav1.Object] struct {
	key
	turn chan struct{} // of who reads it for the first time
	pods map[types.UID]bool
	used time.Time

	known  bool // object and found say how it is; false: not read yet, or not watched any more
	found  bool
	object T
	// watch counts watches: what an earlier one still says is not heard.
	watch  int
	cancel context.CancelFunc
}

// refer has a pod refer to what is in now instead of what was in before.
func (k *kind[T]) refer(pod *corev1.Pod, before, now map[string]bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range now {
		id := key{pod.Namespace, name}
		it := k.items[id]
		if it == nil {
			it = &item[T]{key: id, turn: make(chan struct{}, 1), pods: map[types.UID]bool{}}
			k.items[id] = it
		}
		it.pods[pod.UID] = true
	}
	for name := range before {
		it := k.items[key{pod.Namespace, name}]
		if it == nil || now[name] {
			continue
		}
		if delete(it.pods, pod.UID); len(it.pods) == 0 {
			k.stop(it)
			delete(k.items, it.key)
		}
	}
}

// get returns an object as it is known, after reading it when it is not.
func (k *kind[T]) get(ctx context.Context, id key) (T, error) {
	var none T
	k.mu.Lock()
	it := k.items[id]
	if it == nil {
		k.mu.Unlock()
		return none, fmt.Errorf("object %q/%q not registered", id.namespace, id.name)
	}
	it.used = time.Now()
	object, found, known := it.object, it.found, it.known
	k.mu.Unlock()
	if !known {
		select {
		case it.turn <- struct{}{}:
			defer func() { <-it.turn }()
		case <-ctx.Done():
			return none, fmt.Errorf("failed to sync %s cache: %w", k.resource, context.Cause(ctx))
		}
		var err error
		if object, found, err = k.first(ctx, it); err != nil {
			return none, fmt.Errorf("failed to sync %s cache: %w", k.resource, err)
		}
	}
	if !found {
		return none, apierrors.NewNotFound(k.resource, id.name)
	}
	return object, nil
}

// first reads an object and begins to watch it, unless somebody else just did.
func (k *kind[T]) first(ctx context.Context, it *item[T]) (object T, found bool, err error) {
	k.mu.Lock()
	if it.known {
		defer k.mu.Unlock()
		return it.object, it.found, nil
	}
	k.mu.Unlock()
	// Who is to be allowed is known by the pods bound to the node, and who says so may hear of them a little later than the node.
	var revision string
	for wait := 50 * time.Millisecond; ; wait *= 2 {
		if object, found, revision, err = k.read(ctx, it.key); !apierrors.IsForbidden(err) || wait > time.Second || !pause.For(ctx, wait) {
			break
		}
	}
	if err != nil {
		return object, false, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.items[it.key] == it { // else no pod refers to it any more
		it.known, it.found, it.object = true, found, object
		if !found || !k.immutable(object) {
			k.start(it, revision)
		}
	}
	return object, found, nil
}

// timeout bounds a read, for who waits for it has more to do.
const timeout = 10 * time.Second

func (k *kind[T]) read(ctx context.Context, id key) (object T, found bool, revision string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	object, found, revision, err = k.api.list(ctx, id.namespace, metav1.ListOptions{FieldSelector: selector(id)})
	if found {
		object.SetManagedFields(nil) // nobody reads them
	}
	return object, found, revision, err
}

func selector(id key) string { return fields.OneTermEqualSelector("metadata.name", id.name).String() }

// start has an object watched; mu is held.
func (k *kind[T]) start(it *item[T], revision string) {
	it.watch++
	mine := it.watch
	k.spawn(func(ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		k.mu.Lock()
		current := it.watch == mine
		if current {
			it.cancel = cancel
		}
		k.mu.Unlock()
		if current {
			k.follow(ctx, it, mine, revision)
		}
	})
}

// stop ends the watch of an object; mu is held.
func (k *kind[T]) stop(it *item[T]) {
	it.watch++
	if it.cancel != nil {
		it.cancel()
		it.cancel = nil
	}
}

// rest ends the watches of what was not asked for since, and forgets the objects. What is immutable stays.
func (k *kind[T]) rest(since time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, it := range k.items {
		if it.known && it.used.Before(since) && (!it.found || !k.immutable(it.object)) {
			var none T
			k.stop(it)
			it.known, it.found, it.object = false, false, none
		}
	}
}

// hear takes what a watch says; false: it is not to say more.
func (k *kind[T]) hear(it *item[T], mine int, object T, found bool) bool {
	k.mu.Lock()
	if it.watch != mine {
		k.mu.Unlock()
		return false
	}
	var tell []types.UID // without the lock: who is told may ask at once
	if it.found != found || found && it.object.GetResourceVersion() != object.GetResourceVersion() {
		tell = slices.Collect(maps.Keys(it.pods))
	}
	it.found, it.object = found, object
	final := found && k.immutable(object)
	if final {
		k.stop(it)
	}
	k.mu.Unlock()
	for _, pod := range tell {
		k.changed(pod)
	}
	return !final
}

// follow watches an object from a revision on, until ctx ends or it is known for good.
func (k *kind[T]) follow(ctx context.Context, it *item[T], mine int, revision string) {
	const least, most = 500 * time.Millisecond, 30 * time.Second
	for wait := least; ; wait = min(2*wait, most) {
		began := time.Now()
		var err error
		if revision == "" {
			var object T
			var found bool
			if object, found, revision, err = k.read(ctx, it.key); err == nil && !k.hear(it, mine, object, found) {
				return
			}
		}
		if err == nil {
			revision, err = k.watch(ctx, it, mine, revision)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && time.Since(began) > most:
			wait = least
			continue // the server ends watches now and then
		case err != nil && apierrors.ReasonForError(err) != metav1.StatusReasonUnknown:
			k.log.Debug("Watch ended", "resource", k.resource.Resource, "object", it.key, "error", err)
			revision = "" // what the server knows is to be asked for again
		}
		if !pause.For(ctx, wait/2+rand.N(wait/2)) {
			return
		}
	}
}

var errClosed = errors.New("watch is over for good")

// watch returns the revision to go on from; "" when that is not known any more.
func (k *kind[T]) watch(ctx context.Context, it *item[T], mine int, revision string) (string, error) {
	seconds := int64(1800 + rand.IntN(1800)) // not all at once
	w, err := k.api.watch(ctx, it.namespace, metav1.ListOptions{
		FieldSelector: selector(it.key), ResourceVersion: revision, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
	})
	if err != nil {
		return revision, err
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return revision, errClosed
		case event, ok := <-w.ResultChan():
			if !ok {
				return revision, nil
			}
			if event.Type == watch.Error {
				return revision, apierrors.FromObject(event.Object)
			}
			object, ok := event.Object.(T)
			if !ok {
				return "", fmt.Errorf("unexpected object type: %T", event.Object)
			}
			revision = object.GetResourceVersion()
			if event.Type == watch.Bookmark || object.GetName() != it.name {
				continue
			}
			object.SetManagedFields(nil)
			if !k.hear(it, mine, object, event.Type != watch.Deleted) {
				return revision, errClosed
			}
		}
	}
}
