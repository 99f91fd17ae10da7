// Package load writes to a server from many goroutines and knows what must be there afterwards, whatever happened to the
// server in between.
//
// Each worker has ConfigMaps of its own, which it creates, updates and deletes one after another, each write conditional
// on what it last saw. An acknowledged write must be there from then on. A write whose outcome is unknown (the
// connection broke, the server answered 5xx) may be there or not, until the worker has seen either. A worker that sees
// anything else reports it: a lost write, a write that came back, a resourceVersion that was given out twice.
package load

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
)

// Options say how much is written.
type Options struct {
	Namespace string
	Prefix    string // of the objects' names, which tells the loads of a namespace apart; "load" when empty
	Workers   int    // 8 when 0
	Keys      int    // objects of each worker, 5 when 0
}

// Load is a running load.
type Load struct {
	maps   corev1client.ConfigMapInterface
	prefix string
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	progress chan struct{}     // closed and replaced at each acknowledged write and each fault
	acked    int               // acknowledged writes
	versions map[string]string // resourceVersion of each acknowledged create and update → what it did
	known    map[string]states // what each key may be now
	faults   []error
}

// states is what a key may be: the number of the write that made it, 0 when it is not there. Ambiguous keys have two.
type states []int

func (s states) has(n int) bool {
	for _, have := range s {
		if have == n {
			return true
		}
	}
	return false
}

// Start starts a load that goes on until Stop, or the end of the test.
func Start(t testing.TB, client kubernetes.Interface, opts Options) *Load {
	t.Helper()
	if opts.Prefix == "" {
		opts.Prefix = "load"
	}
	if opts.Workers == 0 {
		opts.Workers = 8
	}
	if opts.Keys == 0 {
		opts.Keys = 5
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{
		maps:     client.CoreV1().ConfigMaps(opts.Namespace),
		prefix:   opts.Prefix,
		cancel:   cancel,
		progress: make(chan struct{}),
		versions: map[string]string{},
		known:    map[string]states{},
	}
	seed := rand.Uint64()
	t.Logf("the seed of the load is %d", seed)
	for i := range opts.Workers {
		w := &worker{load: l, name: fmt.Sprintf("%s-w%02d", opts.Prefix, i), rng: rand.New(rand.NewPCG(seed, uint64(i)))}
		for k := range opts.Keys {
			w.keys = append(w.keys, &object{name: fmt.Sprintf("%s-k%02d", w.name, k)})
		}
		l.wg.Go(func() { w.run(ctx) })
	}
	t.Cleanup(l.Stop)
	return l
}

// Stop ends the load and waits for its last write.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
}

// patience bounds how long the load may make no progress. A server that restarts on a busy machine needs some.
const patience = 2 * time.Minute

// AwaitMore waits until n more writes were acknowledged.
func (l *Load) AwaitMore(t testing.TB, n int) {
	t.Helper()
	l.mu.Lock()
	goal := l.acked + n
	l.mu.Unlock()
	l.await(t, func() bool { return l.acked >= goal || len(l.faults) > 0 })
	if err := l.failed(); err != nil {
		t.Fatal(err)
	}
}

// await waits until done, which is called with mu held, is true.
func (l *Load) await(t testing.TB, done func() bool) {
	t.Helper()
	for {
		l.mu.Lock()
		finished, progress := done(), l.progress
		l.mu.Unlock()
		if finished {
			return
		}
		select {
		case <-progress:
		case <-time.After(patience):
			t.Fatalf("no write was acknowledged in %v", patience)
		}
	}
}

// failed returns the faults so far.
func (l *Load) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.faults...)
}

// Versions returns the resourceVersions of all acknowledged creates and updates, and what each was.
func (l *Load) Versions() map[string]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	versions := make(map[string]string, len(l.versions))
	for v, what := range l.versions {
		versions[v] = what
	}
	return versions
}

// Verify compares what is in the namespace with what was acknowledged. Call it after Stop.
func (l *Load) Verify(t testing.TB) {
	t.Helper()
	list, err := l.maps.List(t.Context(), metav1.ListOptions{LabelSelector: label + "=" + l.prefix})
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for _, cm := range list.Items {
		n, err := number(&cm)
		if err != nil {
			t.Error(err)
		}
		there[cm.Name] = n
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.acked == 0 {
		t.Error("the load wrote nothing")
	}
	for name, may := range l.known {
		if !may.has(there[name]) {
			t.Errorf("%s is as write %d left it, expected one of %v (0: not there)", name, there[name], may)
		}
		delete(there, name)
	}
	for name := range there {
		t.Errorf("%s is there and was never written", name)
	}
	for _, fault := range l.faults {
		t.Error(fault)
	}
}

// acknowledge notes a write that the server has confirmed. version is empty for a delete.
func (l *Load) acknowledge(version, what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked++
	l.progressed()
	if version == "" {
		return
	}
	if before, ok := l.versions[version]; ok {
		l.faults = append(l.faults, fmt.Errorf("resourceVersion %s was given to %q and to %q", version, before, what))
	}
	l.versions[version] = what
}

func (l *Load) setKnown(name string, may states) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[name] = may
}

func (l *Load) fault(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = append(l.faults, fmt.Errorf(format, args...))
	l.progressed()
}

// progressed wakes those who wait. mu is held.
func (l *Load) progressed() {
	close(l.progress)
	l.progress = make(chan struct{})
}

// refused tells whether the server answered a write by saying that it did not do it.
func refused(err error) bool {
	return apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || apierrors.IsNotFound(err)
}

// unknown tells whether an error leaves open what happened: no answer, or one that says the server was in trouble.
func unknown(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return true
	}
	code := status.Status().Code
	return code >= 500 || code == 429
}
