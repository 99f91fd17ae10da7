package scale

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

type size struct{ nodes, pods int }

// cluster is a running cluster.
type cluster struct {
	name     string
	pids     []int // all servers
	database []int // those that are told apart
	client   kubernetes.Interface
	profiles string // directory; empty: none
}

// result is what was measured of one setup.
type result struct {
	setup               string
	size                size
	ready               time.Duration // from the first Deployment to the last pod's readiness
	cpu, databaseCPU    float64       // seconds, meanwhile
	idleCPU             float64       // seconds of CPU a second, with nodes and without pods
	idle, peak, settled harness.Usage
	database            harness.Usage // settled
	p50, p99            map[string]time.Duration
}

// run waits for the nodes, creates the pods, and waits until they are ready.
func (c cluster) run(ctx context.Context, s size, rest time.Duration) (result, error) {
	r := result{size: s, p50: map[string]time.Duration{}, p99: map[string]time.Duration{}}
	if err := poll(ctx, func() (bool, error) { return c.nodesReady(ctx, s.nodes) }); err != nil {
		return r, fmt.Errorf("nodes: %w", err)
	}
	if err := errors.Join(prepare(ctx, c.client, s.pods), prepareProbe(ctx, c.client)); err != nil {
		return r, err
	}
	began, err := harness.Measure(c.pids)
	if err != nil {
		return r, err
	}
	if err := sleep(ctx, rest); err != nil {
		return r, err
	}
	if r.idle, err = harness.Measure(c.pids); err != nil {
		return r, err
	}
	r.idleCPU = (r.idle.CPU - began.CPU) / rest.Seconds()
	if err := errors.Join(c.work(ctx, s, &r), c.podsRunning(ctx, s)); err != nil {
		return r, err
	}
	if err := sleep(ctx, rest); err != nil {
		return r, err
	}
	if r.settled, err = harness.Measure(c.pids); err != nil {
		return r, err
	}
	if r.database, err = harness.Measure(c.database); err != nil {
		return r, err
	}
	return r, c.profile(ctx, fmt.Sprintf("heap-%d", s.pods), "/debug/pprof/heap")
}

// work has the pods made, and measures what it takes.
func (c cluster) work(ctx context.Context, s size, r *result) error {
	before, err := harness.Measure(c.pids)
	if err != nil {
		return err
	}
	databaseBefore, err := harness.Measure(c.database)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	working, done := context.WithCancel(ctx)
	defer done()
	wg.Go(func() { r.peak = c.watchPeak(working) })
	var profileErr error
	wg.Go(func() {
		profileErr = c.profile(ctx, fmt.Sprintf("cpu-%d", s.pods), fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(2, s.pods/300)))
	})
	p := startProbe(ctx, c.client)
	defer p.stop()
	began := time.Now()
	if err := deploy(ctx, c.client, s.pods); err != nil {
		return err
	}
	if err := poll(ctx, func() (bool, error) { return c.deploymentsReady(ctx, s.pods) }); err != nil {
		return fmt.Errorf("pods: %w", err)
	}
	r.ready = time.Since(began)
	if errs := p.stop(); len(errs) > 0 {
		return fmt.Errorf("%d requests of the other client failed; the first: %w", len(errs), errs[0])
	}
	for _, verb := range []string{"", "get", "list", "create"} {
		r.p50[verb], r.p99[verb] = p.at(0.5, verb), p.at(0.99, verb)
	}
	after, err := harness.Measure(c.pids)
	if err != nil {
		return err
	}
	databaseAfter, err := harness.Measure(c.database)
	if err != nil {
		return err
	}
	r.cpu, r.databaseCPU = after.CPU-before.CPU, databaseAfter.CPU-databaseBefore.CPU
	done()
	wg.Wait()
	return profileErr
}

// watchPeak looks each second how much memory there is in use.
func (c cluster) watchPeak(ctx context.Context) (peak harness.Usage) {
	for {
		if u, err := harness.Measure(c.pids); err == nil {
			peak = peak.Max(u)
		}
		if sleep(ctx, time.Second) != nil {
			return peak
		}
	}
}

// nodesReady tells whether pods can be scheduled to all nodes.
func (c cluster) nodesReady(ctx context.Context, want int) (bool, error) {
	nodes, err := c.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	ready := 0
	for i := range nodes.Items {
		if len(nodes.Items[i].Spec.Taints) > 0 {
			continue
		}
		for _, condition := range nodes.Items[i].Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				ready++
			}
		}
	}
	return ready == want, nil
}

func (c cluster) deploymentsReady(ctx context.Context, want int) (bool, error) {
	list, err := c.client.AppsV1().Deployments("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return false, err
	}
	ready := 0
	for i := range list.Items {
		ready += int(list.Items[i].Status.ReadyReplicas)
	}
	return ready == want, nil
}

// podsRunning checks what the Deployments have said.
func (c cluster) podsRunning(ctx context.Context, s size) error {
	pods, err := c.client.CoreV1().Pods("").List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	running, nodes := 0, map[string]bool{}
	for i := range pods.Items {
		if pods.Items[i].Status.Phase == corev1.PodRunning && pods.Items[i].Spec.NodeName != "" {
			running++
			nodes[pods.Items[i].Spec.NodeName] = true
		}
	}
	if running != s.pods || len(pods.Items) != s.pods {
		return fmt.Errorf("of %d pods %d are running; there should be %d", len(pods.Items), running, s.pods)
	}
	if len(nodes) < s.nodes/2 {
		return fmt.Errorf("the pods are on %d of %d nodes", len(nodes), s.nodes)
	}
	return nil
}

// profile writes one of the server's profiles to a file.
func (c cluster) profile(ctx context.Context, name, path string) error {
	if c.profiles == "" {
		return nil
	}
	data, err := c.client.CoreV1().RESTClient().Get().RequestURI(path).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(filepath.Join(c.profiles, c.name+"-"+name+".pprof"), data, 0o600)
}

// poll asks until it is so.
func poll(ctx context.Context, is func() (bool, error)) error {
	for {
		if done, err := is(); done || err != nil {
			return err
		}
		if err := sleep(ctx, 250*time.Millisecond); err != nil {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
