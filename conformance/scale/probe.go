package scale

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// probeInterval is the pause between two requests of one verb.
const probeInterval = 50 * time.Millisecond

// probeObjects is how many objects are in the list that is asked for.
const probeObjects = 100

const probeNamespace = "probe"

// probe is a client that has nothing to do with what goes on, and notices how long it takes to be answered.
type probe struct {
	client kubernetes.Interface
	cancel context.CancelFunc
	wg     sync.WaitGroup
	errs   []error
	took   map[string][]time.Duration
	mu     sync.Mutex
}

// startProbe starts to ask. Its namespace is there.
func startProbe(ctx context.Context, client kubernetes.Interface) *probe {
	ctx, cancel := context.WithCancel(ctx)
	p := &probe{client: client, cancel: cancel, took: map[string][]time.Duration{}}
	maps := client.CoreV1().ConfigMaps(probeNamespace)
	verbs := map[string]func() error{
		"get": func() error {
			_, err := maps.Get(ctx, "probe-0", metav1.GetOptions{})
			return err
		},
		"list": func() error {
			_, err := maps.List(ctx, metav1.ListOptions{LabelSelector: "listed"})
			return err
		},
		"create": func() error {
			_, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "made-"}}, metav1.CreateOptions{})
			return err
		},
	}
	for verb, ask := range verbs {
		p.wg.Go(func() { p.repeat(ctx, verb, ask) })
	}
	return p
}

// prepareProbe makes what the probe asks for.
func prepareProbe(ctx context.Context, client kubernetes.Interface) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: probeNamespace}}
	if _, err := client.CoreV1().Namespaces().Create(ctx, ns, metav1.CreateOptions{}); err != nil {
		return err
	}
	for i := range probeObjects {
		cm := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("probe-%d", i), Labels: map[string]string{"listed": ""}},
			Data:       map[string]string{"key": "value"},
		}
		if _, err := client.CoreV1().ConfigMaps(probeNamespace).Create(ctx, cm, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) repeat(ctx context.Context, verb string, ask func() error) {
	for {
		began := time.Now()
		err := ask()
		if ctx.Err() != nil {
			return
		}
		p.mu.Lock()
		p.took[verb] = append(p.took[verb], time.Since(began))
		if err != nil {
			p.errs = append(p.errs, fmt.Errorf("%s: %w", verb, err))
		}
		p.mu.Unlock()
		select {
		case <-time.After(probeInterval):
		case <-ctx.Done():
			return
		}
	}
}

// stop ends it and returns what went wrong.
func (p *probe) stop() []error {
	p.cancel()
	p.wg.Wait()
	return p.errs
}

// at is the time that a part of the requests of a verb, or of all, took at most.
func (p *probe) at(part float64, verb string) time.Duration {
	took := slices.Clone(p.took[verb])
	if verb == "" {
		for _, t := range p.took {
			took = append(took, t...)
		}
	}
	if len(took) == 0 {
		return 0
	}
	slices.Sort(took)
	return took[int(float64(len(took)-1)*part)]
}
