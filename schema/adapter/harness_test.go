package adapter_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/apitesting"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/apis/example"
	examplev1 "k8s.io/apiserver/pkg/apis/example/v1"
	apistorage "k8s.io/apiserver/pkg/storage"
	storagetesting "k8s.io/apiserver/pkg/storage/testing"
	"k8s.io/apiserver/pkg/storage/value"

	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
	"github.com/rowlock-io/rowlock/storage/commit"
)

// opener opens one more replica on a database.
type opener func(testing.TB) storage.Store

// harness is one resource served by some replicas. It implements upstream's storage.Interface: writes go to the first
// replica, and so do reads that may be answered from any time; all other reads and watches go round, so that what one
// replica writes is read from another.
type harness struct {
	backends []adapter.Backend
	config   object.Config

	mu     sync.RWMutex
	stores []*adapter.Store

	next   atomic.Uint32
	bumped atomic.Uint32
}

var (
	_ storagetesting.InterfaceWithPrefixTransformer  = (*harness)(nil)
	_ storagetesting.InterfaceWithCorruptTransformer = (*harness)(nil)
)

const testPrefix = "test!"

type option func(*object.Config)

// withTTL makes objects expire.
func withTTL(ttl time.Duration) option { return func(c *object.Config) { c.TTL = ttl } }

func exampleConfig() object.Config {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	utilruntime.Must(example.AddToScheme(scheme))
	utilruntime.Must(examplev1.AddToScheme(scheme))
	return object.Config{
		Resource:    schema.GroupResource{Resource: "pods"},
		Codec:       apitesting.TestCodec(serializer.NewCodecFactory(scheme), examplev1.SchemeGroupVersion),
		New:         func() runtime.Object { return &example.Pod{} },
		NewList:     func() runtime.Object { return &example.PodList{} },
		GetAttrs:    podAttrs,
		Transformer: storagetesting.NewPrefixTransformer([]byte(testPrefix), false),
		Hot:         object.NewHot(1 << 20),
	}
}

func podAttrs(obj runtime.Object) (labels.Set, fields.Set, error) {
	pod, ok := obj.(*example.Pod)
	if !ok {
		return nil, nil, fmt.Errorf("not a pod: %T", obj)
	}
	return pod.Labels, fields.Set{
		"metadata.name": pod.Name, "metadata.namespace": pod.Namespace,
		"spec.nodeName": pod.Spec.NodeName, "spec.restartPolicy": string(pod.Spec.RestartPolicy),
		"status.phase": string(pod.Status.Phase),
	}, nil
}

func newHarness(t testing.TB, open opener, replicas int, opts ...option) *harness {
	t.Helper()
	h := &harness{config: exampleConfig()}
	for _, opt := range opts {
		opt(&h.config)
	}
	for range replicas {
		h.backends = append(h.backends, startBackend(t, open(t)))
	}
	h.use(object.NewCodec(h.config))
	return h
}

// scarce is a store of a replica that has no memory for objects.
type scarce struct{ storage.Store }

// startBackend runs a replica's cache and committer until the test ends.
func startBackend(t testing.TB, store storage.Store) adapter.Backend {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	cfg := cache.Config{Store: store, Log: log}
	if _, ok := store.(scarce); ok {
		cfg.Budget = cache.NewBudget(1)
	}
	c := cache.New(cfg)
	committer := commit.New(store, commit.Config{Applied: c.Apply, Log: log})
	var wg sync.WaitGroup
	wg.Go(func() { _ = c.Run(ctx) })
	wg.Go(func() { _ = committer.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	select {
	case <-c.Ready():
	case <-time.After(30 * time.Second):
		t.Fatal("the cache was not loaded")
	}
	return adapter.Backend{Store: store, Cache: c, Committer: committer}
}

func (h *harness) use(codec *object.Codec) {
	var stores []*adapter.Store
	for _, b := range h.backends {
		stores = append(stores, adapter.New(b, codec, "/pods/"))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stores = stores
}

func (h *harness) first() *adapter.Store {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.stores[0]
}

// reader picks a replica that may answer a read with a resourceVersion.
func (h *harness) reader(resourceVersion string) *adapter.Store {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if resourceVersion == "0" {
		return h.stores[0]
	}
	return h.stores[h.next.Add(1)%uint32(len(h.stores))]
}

// increaseRV makes a change of another resource.
func (h *harness) increaseRV(ctx context.Context, t testing.TB) int64 {
	t.Helper()
	res, err := h.backends[0].Committer.Commit(ctx, storage.Op{
		Key: storage.Key{Resource: "others", Name: fmt.Sprint(h.bumped.Add(1))}, Verb: storage.Create, Data: []byte(`{"metadata":{}}`),
	}, nil)
	if err != nil {
		t.Fatalf("increase the revision: %v", err)
	}
	return int64(res.Revision)
}

func (h *harness) increase(ctx context.Context, t *testing.T) int64 { return h.increaseRV(ctx, t) }

// compact drops history up to a revision, and has every replica notice.
func (h *harness) compact(ctx context.Context, t *testing.T, resourceVersion string) {
	t.Helper()
	rev, err := apistorage.APIObjectVersioner{}.ParseResourceVersion(resourceVersion)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.backends[0].Store.Compact(ctx, storage.Revision(rev)); err != nil {
		t.Fatalf("compact: %v", err)
	}
	for _, s := range h.stores {
		if got := s.CompactRevision(); got != int64(rev) {
			t.Fatalf("CompactRevision() = %d, want %d", got, rev)
		}
	}
}

// validate looks at what is in the database.
func (h *harness) validate(ctx context.Context, t *testing.T, key string) {
	t.Helper()
	k, err := h.first().Key(key)
	if err != nil {
		t.Fatal(err)
	}
	o, err := h.backends[0].Store.Get(ctx, k, 0)
	if err != nil {
		t.Fatalf("read from the database: %v", err)
	}
	plain, ok := bytes.CutPrefix(o.Data, []byte(testPrefix))
	if !ok {
		t.Fatalf("stored bytes were not transformed: %q", o.Data)
	}
	obj, err := runtime.Decode(h.config.Codec, plain)
	if err != nil {
		t.Fatalf("decode %q: %v", plain, err)
	}
	if pod := obj.(*example.Pod); pod.ResourceVersion != "" || pod.SelfLink != "" {
		t.Errorf("stored with resourceVersion %q and selfLink %q", pod.ResourceVersion, pod.SelfLink)
	}
}

// UpdatePrefixTransformer replaces the transformer until the returned function is called.
func (h *harness) UpdatePrefixTransformer(modify storagetesting.PrefixTransformerModifier) func() {
	return h.transform(modify(storagetesting.NewPrefixTransformer([]byte(testPrefix), false)))
}

type corruptTransformer struct{ value.Transformer }

func (corruptTransformer) TransformFromStorage(context.Context, []byte, value.Context) ([]byte, bool, error) {
	return nil, true, fmt.Errorf("bits flipped")
}

// CorruptTransformer makes everything unreadable until the returned function is called.
func (h *harness) CorruptTransformer() func() {
	return h.transform(corruptTransformer{h.config.Transformer})
}

func (h *harness) transform(to value.Transformer) func() {
	was := h.first().Codec()
	config := h.config
	config.Transformer = to
	h.use(object.NewCodec(config))
	return func() { h.use(was) }
}

func (h *harness) Versioner() apistorage.Versioner { return h.first().Versioner() }

func (h *harness) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return h.first().Create(ctx, key, obj, out, ttl)
}

func (h *harness) Delete(ctx context.Context, key string, out runtime.Object, p *apistorage.Preconditions,
	v apistorage.ValidateObjectFunc, cached runtime.Object, opts apistorage.DeleteOptions,
) error {
	return h.first().Delete(ctx, key, out, p, v, cached, opts)
}

func (h *harness) Watch(ctx context.Context, key string, opts apistorage.ListOptions) (watch.Interface, error) {
	s := h.reader(opts.ResourceVersion)
	if opts.ResourceVersion != "" && opts.SendInitialEvents != nil {
		// The suite makes a store notice what was written with a list beforehand, which went to another replica here.
		if _, err := s.GetCurrentResourceVersion(ctx); err != nil {
			return nil, err
		}
	}
	return s.Watch(ctx, key, opts)
}

func (h *harness) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	return h.reader(opts.ResourceVersion).Get(ctx, key, opts, out)
}

func (h *harness) GetList(ctx context.Context, key string, opts apistorage.ListOptions, list runtime.Object) error {
	return h.reader(opts.ResourceVersion).GetList(ctx, key, opts, list)
}

func (h *harness) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	p *apistorage.Preconditions, update apistorage.UpdateFunc, cached runtime.Object,
) error {
	return h.first().GuaranteedUpdate(ctx, key, out, ignoreNotFound, p, update, cached)
}

func (h *harness) Stats(ctx context.Context) (apistorage.Stats, error) { return h.first().Stats(ctx) }

func (h *harness) ReadinessCheck() error { return h.first().ReadinessCheck() }

func (h *harness) CompactRevision() int64 { return h.first().CompactRevision() }

func (h *harness) RequestWatchProgress(ctx context.Context) error {
	return h.first().RequestWatchProgress(ctx)
}

func (h *harness) GetCurrentResourceVersion(ctx context.Context) (uint64, error) {
	return h.reader("").GetCurrentResourceVersion(ctx)
}

func (h *harness) EnableResourceSizeEstimation(keys apistorage.KeysFunc) error {
	return h.first().EnableResourceSizeEstimation(keys)
}

// sweep runs a Sweeper on each replica until the test ends.
func (h *harness) sweep(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for i, b := range h.backends {
		s := adapter.NewSweeper(b, nil, h.stores[i].Codec())
		wg.Go(func() { _ = s.Run(ctx) })
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
}

// storedForm is the codec as RunTestStats needs it to compute sizes: we do not store the newline at the end.
type storedForm struct{ runtime.Codec }

func (c storedForm) Encode(obj runtime.Object, w io.Writer) error {
	data, err := runtime.Encode(c.Codec, obj)
	if err == nil {
		_, err = w.Write(bytes.TrimSuffix(data, []byte{'\n'}))
	}
	return err
}

// named gives a name to the object that has none in RunTestKeySchema: storage refuses keys without one, and so do the
// registries, from which such a key never comes. All other keys pass as they are.
type named struct{ *harness }

func (n named) key(k string) string {
	if strings.Trim(k, "/") == "pods" && strings.HasSuffix(k, "/") && len(k) > 1 {
		return "/pods/unnamed"
	}
	return k
}

func (n named) Create(ctx context.Context, key string, obj, out runtime.Object, ttl uint64) error {
	return n.harness.Create(ctx, n.key(key), obj, out, ttl)
}

func (n named) Get(ctx context.Context, key string, opts apistorage.GetOptions, out runtime.Object) error {
	return n.harness.Get(ctx, n.key(key), opts, out)
}

func (n named) GuaranteedUpdate(ctx context.Context, key string, out runtime.Object, ignoreNotFound bool,
	p *apistorage.Preconditions, update apistorage.UpdateFunc, cached runtime.Object,
) error {
	return n.harness.GuaranteedUpdate(ctx, n.key(key), out, ignoreNotFound, p, update, cached)
}

func (n named) Delete(ctx context.Context, key string, out runtime.Object, p *apistorage.Preconditions,
	v apistorage.ValidateObjectFunc, cached runtime.Object, opts apistorage.DeleteOptions,
) error {
	return n.harness.Delete(ctx, n.key(key), out, p, v, cached, opts)
}
