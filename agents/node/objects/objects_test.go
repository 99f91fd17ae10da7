package objects

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/ptr"
)

// server is an API with ConfigMaps and Secrets that are asked for by name.
type server struct {
	*fake.Clientset

	mu       sync.Mutex
	objects  map[string]metav1.Object // by resource/namespace/name
	revision string
	fail     error
	lists    int
	watchers map[*watch.FakeWatcher]string
	began    int // watches
}

func newServer() *server {
	s := &server{Clientset: fake.NewClientset(), objects: map[string]metav1.Object{}, revision: "1", watchers: map[*watch.FakeWatcher]string{}}
	id := func(a clienttesting.Action, fields string) string {
		name, ok := strings.CutPrefix(fields, "metadata.name=")
		if !ok {
			panic("not asked for by name: " + fields)
		}
		return a.GetResource().Resource + "/" + a.GetNamespace() + "/" + name
	}
	s.PrependReactor("list", "*", func(a clienttesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.lists++
		if s.fail != nil {
			return true, nil, s.fail
		}
		found := s.objects[id(a, a.(clienttesting.ListAction).GetListRestrictions().Fields.String())]
		meta := metav1.ListMeta{ResourceVersion: s.revision}
		if a.GetResource().Resource == "secrets" {
			list := &corev1.SecretList{ListMeta: meta}
			if found != nil {
				list.Items = append(list.Items, *found.(*corev1.Secret).DeepCopy())
			}
			return true, list, nil
		}
		list := &corev1.ConfigMapList{ListMeta: meta}
		if found != nil {
			list.Items = append(list.Items, *found.(*corev1.ConfigMap).DeepCopy())
		}
		return true, list, nil
	})
	s.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.began++
		if s.fail != nil {
			return true, nil, s.fail
		}
		w := watch.NewFakeWithOptions(watch.FakeOptions{ChannelSize: 10})
		s.watchers[w] = id(a, a.(clienttesting.WatchAction).GetWatchRestrictions().Fields.String())
		return true, w, nil
	})
	return s
}

// put stores an object, or takes it away, and tells the watchers.
func (s *server) put(resource string, object metav1.Object, revision string, event watch.EventType) {
	s.mu.Lock()
	defer s.mu.Unlock()
	object.SetResourceVersion(revision)
	s.revision = revision
	id := resource + "/" + object.GetNamespace() + "/" + object.GetName()
	if s.objects[id] = object; event == watch.Deleted {
		delete(s.objects, id)
	}
	for w, of := range s.watchers {
		if of == id && !w.IsStopped() {
			w.Action(event, object.(runtime.Object).DeepCopyObject())
		}
	}
}

// open is how many watches go on.
func (s *server) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for w := range s.watchers {
		if !w.IsStopped() {
			n++
		}
	}
	return n
}

// end closes all watches as a server does, or with an error.
func (s *server) end(status *metav1.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for w := range s.watchers {
		if !w.IsStopped() {
			if status != nil {
				w.Error(status)
			}
			w.Stop()
		}
		delete(s.watchers, w)
	}
}

func (s *server) failing(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}},
		Data:       map[string]string{"key": value},
	}
}

func pod(uid string, configMaps ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "pod-" + uid, UID: types.UID(uid)}}
	p.Spec.ServiceAccountName = "robot"
	for _, name := range configMaps {
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: name}},
		}})
	}
	return p
}

// house is Objects that run in a bubble.
type house struct {
	*Objects
	*server
	t *testing.T

	mu   sync.Mutex
	told map[types.UID]int
}

func bubble(t *testing.T, test func(t *testing.T, h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := &house{server: newServer(), t: t, told: map[types.UID]int{}}
		h.Objects = New(Config{Client: h.server, Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Changed: func(uid types.UID) {
			_, _ = h.ConfigMap(context.Background(), "default", "a") // who is told may ask
			h.mu.Lock()
			defer h.mu.Unlock()
			h.told[uid]++
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Run(ctx) }()
		test(t, h)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (h *house) value(name string) string {
	h.t.Helper()
	m, err := h.ConfigMap(h.t.Context(), "default", name)
	if err != nil {
		return err.Error()
	}
	if m.ManagedFields != nil {
		h.t.Error("what nobody reads is kept")
	}
	return m.Data["key"]
}

func (h *house) expect(what, got, want string) {
	h.t.Helper()
	if got != want {
		h.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (h *house) times(uid types.UID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told[uid]
}

// TestWatched: an object is read once and watched while pods refer to it.
func TestWatched(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		h.expect("before any pod", h.value("a"), `object "default"/"a" not registered`)
		h.Use(pod("1", "a", "missing"))
		h.Use(pod("2", "a"))
		if h.lists != 0 {
			t.Error("asked before anybody wanted it")
		}
		h.put("configmaps", configMap("a", "one"), "5", watch.Added)
		h.expect("first", h.value("a"), "one")
		h.expect("second", h.value("a"), "one")
		h.expect("missing", h.value("missing"), `configmap "missing" not found`)
		if _, err := h.ConfigMap(t.Context(), "default", "missing"); !apierrors.IsNotFound(err) {
			t.Errorf("not the API's error: %v", err)
		}
		synctest.Wait()
		if h.lists != 2 || h.open() != 2 {
			t.Errorf("%d lists, %d watches", h.lists, h.open())
		}

		h.put("configmaps", configMap("a", "two"), "6", watch.Modified)
		h.put("configmaps", configMap("missing", "there"), "7", watch.Added)
		synctest.Wait()
		h.expect("changed", h.value("a"), "two")
		h.expect("appeared", h.value("missing"), "there")
		if h.times("1") != 2 || h.times("2") != 1 {
			t.Errorf("told %v", h.told)
		}
		h.put("configmaps", configMap("a", "two"), "8", watch.Deleted)
		synctest.Wait()
		h.expect("deleted", h.value("a"), `configmap "a" not found`)

		h.Use(pod("1", "a")) // another one by now
		synctest.Wait()
		h.expect("dropped", h.value("missing"), `object "default"/"missing" not registered`)
		h.Release(pod("1"))
		synctest.Wait()
		if h.open() != 1 {
			t.Errorf("%d watches while one pod is there", h.open())
		}
		h.Release(pod("2"))
		synctest.Wait()
		if h.open() != 0 || len(h.configMaps.items) != 0 || len(h.pods) != 0 {
			t.Errorf("left: %d watches, %d objects", h.open(), len(h.configMaps.items))
		}
	})
}

// TestAway: while the server is away what was known can be had, and afterwards what has changed.
func TestAway(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]struct {
		status *metav1.Status
		fail   error
	}{
		"closed":  {},
		"refused": {fail: errors.New("connection refused")},
		"expired": {status: &metav1.Status{Status: metav1.StatusFailure, Reason: metav1.StatusReasonExpired, Code: 410}, fail: apierrors.NewResourceExpired("too old")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, h *house) {
				h.Use(pod("1", "a"))
				h.put("configmaps", configMap("a", "one"), "5", watch.Added)
				h.value("a")
				synctest.Wait()
				h.failing(how.fail)
				h.end(how.status)
				for range 60 {
					time.Sleep(time.Minute)
					h.expect("away", h.value("a"), "one")
				}
				synctest.Wait()
				if h.began > 200 || h.lists > 200 {
					t.Errorf("in an hour %d watches and %d lists", h.began, h.lists)
				}
				h.failing(nil)
				time.Sleep(time.Minute)
				h.put("configmaps", configMap("a", "two"), "9", watch.Modified)
				time.Sleep(time.Minute)
				h.expect("back", h.value("a"), "two")
			})
		})
	}
}

// TestFirst: what was never known is an error that says why, and is asked for again.
func TestFirst(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		h.Use(pod("1", "a"))
		h.put("configmaps", configMap("a", "one"), "5", watch.Added)
		h.failing(errors.New("connection refused"))
		h.expect("away", h.value("a"), "failed to sync configmap cache: connection refused")
		// Who is allowed to read is known a little later than the pod.
		h.failing(apierrors.NewForbidden(corev1.Resource("configmaps"), "a", errors.New("no relationship found")))
		go func() {
			time.Sleep(300 * time.Millisecond)
			h.failing(nil)
		}()
		h.expect("allowed at last", h.value("a"), "one")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := h.Secret(ctx, "default", "a"); err == nil {
			t.Error("a secret that nobody refers to")
		}
	})
}

// TestImmutable: what cannot change is not watched, and stays known.
func TestImmutable(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		h.Use(pod("1", "a", "later"))
		fixed := configMap("a", "one")
		fixed.Immutable = ptr.To(true)
		h.put("configmaps", fixed, "5", watch.Added)
		h.put("configmaps", configMap("later", "one"), "6", watch.Added)
		h.value("a")
		h.value("later")
		synctest.Wait()
		if h.open() != 1 {
			t.Errorf("%d watches", h.open())
		}
		fixed = configMap("later", "two")
		fixed.Immutable = ptr.To(true)
		h.put("configmaps", fixed, "7", watch.Modified)
		synctest.Wait()
		if h.open() != 0 {
			t.Errorf("%d watches", h.open())
		}
		h.failing(errors.New("connection refused"))
		time.Sleep(time.Hour)
		h.expect("immutable", h.value("a")+h.value("later"), "onetwo")
	})
}

// TestIdle: what nobody asks for is not watched, and is read anew when somebody does.
func TestIdle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		h.Use(pod("1", "a"))
		h.put("configmaps", configMap("a", "one"), "5", watch.Added)
		h.value("a")
		time.Sleep(10 * time.Minute)
		if h.open() != 0 {
			t.Errorf("%d watches", h.open())
		}
		h.put("configmaps", configMap("a", "two"), "6", watch.Modified)
		h.expect("anew", h.value("a"), "two")
		synctest.Wait()
		if h.open() != 1 {
			t.Errorf("%d watches", h.open())
		}
	})
}

// TestTogether: many who ask at once have it read once.
func TestTogether(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		h.Use(pod("1", "a"))
		h.put("configmaps", configMap("a", "one"), "5", watch.Added)
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() { h.expect("together", h.value("a"), "one") })
		}
		all.Wait()
		synctest.Wait()
		if h.lists != 1 || h.open() != 1 {
			t.Errorf("%d lists, %d watches", h.lists, h.open())
		}
	})
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T, h *house) {
		p := pod("1")
		p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}}
		p.Spec.Containers = []corev1.Container{{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "env"}}}}}}
		h.Use(p)
		for _, name := range []string{"pull", "env"} {
			h.put("secrets", &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Data: map[string][]byte{"k": []byte(name)}}, "3", watch.Added)
			s, err := h.Secret(t.Context(), "default", name)
			if err != nil || string(s.Data["k"]) != name {
				t.Errorf("%v, %v", s, err)
			}
		}
	})
}
