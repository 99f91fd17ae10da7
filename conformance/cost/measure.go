package cost

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

const terminate = syscall.SIGTERM

// stretch is what a stretch of time cost.
type stretch struct {
	took                 time.Duration
	cpu, runtime, others float64 // seconds: the node's, the runtime's, and all else's on the machine
	requests             map[string]int
}

// result is what was measured of one node.
type result struct {
	join           time.Duration // from the start of its process until pods may be bound to it
	empty, full    rest
	singles, burst []time.Duration // for each pod, one after the other and many at once
	one, removal   stretch         // singles, and their end at once
	all, end       stretch         // many at once, and their end at once
	most           float64         // bytes, resident, ever
	after          harness.Usage
}

// rest is an idle node.
type rest struct {
	stretch
	memory     harness.Usage
	goroutines int
}

// measure measures a node that was just started.
func (n *node) measure(b *testing.B) (r result) {
	b.Helper()
	ctx := b.Context()
	began := time.Now()
	harness.AwaitNodes(b, n, 1)
	r.join = time.Since(began)
	p := watchPods(b, n, n.Name)
	n.during(b, func() error { // so that the image is there
		_, err := p.start(ctx, "first")
		return errors.Join(err, p.remove(ctx, []string{"first"}))
	})
	r.empty = n.rest(b)
	n.profile(b, "heap-0.pprof", "debug/pprof/heap?gc=1")

	one := names("one", *singles)
	r.one = n.during(b, func() error {
		for i, name := range one {
			// Whoever looks once a second does so at any moment of a pod's start.
			_, phase := math.Modf(float64(i) * math.Phi)
			time.Sleep(time.Duration(phase * float64(time.Second)))
			took, err := p.start(ctx, name)
			if err != nil {
				return err
			}
			r.singles = append(r.singles, took...)
		}
		return nil
	})
	n.profile(b, "metrics.txt", "metrics")
	r.full = n.rest(b)
	n.profile(b, "goroutines-pods.txt", "debug/pprof/goroutine?debug=1")
	n.profile(b, "heap-pods.pprof", "debug/pprof/heap?gc=1")
	r.removal = n.during(b, func() error { return p.remove(ctx, one) })

	burst := names("many", *many)
	var wg sync.WaitGroup
	wg.Go(func() { n.profile(b, "cpu.pprof", "debug/pprof/profile?seconds=10") })
	r.all = n.during(b, func() (err error) {
		r.burst, err = p.start(ctx, burst...)
		return err
	})
	wg.Wait()
	r.end = n.during(b, func() error { return p.remove(ctx, burst) })
	time.Sleep(*settling)
	var err error
	if r.after, err = harness.Measure([]int{n.process.PID()}); err != nil {
		b.Fatal(err)
	}
	if r.most, err = highest(n.process.PID()); err != nil {
		b.Fatal(err)
	}
	return r
}

// rest waits until the node is idle, and watches it.
func (n *node) rest(b *testing.B) (r rest) {
	b.Helper()
	time.Sleep(*settling)
	r.stretch = n.during(b, func() error { time.Sleep(*idle); return nil })
	var err error
	if r.memory, err = harness.Measure([]int{n.process.PID()}); err != nil {
		b.Fatal(err)
	}
	metrics, err := n.ask(b.Context(), "metrics")
	if err != nil {
		b.Fatal(err)
	}
	_, rest, found := bytes.Cut(metrics, []byte("\ngo_goroutines "))
	if _, err := fmt.Fscan(bytes.NewReader(rest), &r.goroutines); err != nil || !found {
		b.Fatalf("the metrics do not tell how many goroutines there are: %v", err)
	}
	return r
}

// ask asks the node itself.
func (n *node) ask(ctx context.Context, path string) ([]byte, error) {
	return n.CoreV1().RESTClient().Get().RequestURI("/api/v1/nodes/" + n.Name + "/proxy/" + path).DoRaw(ctx)
}

// profile writes what the node answers to a file.
func (n *node) profile(b *testing.B, name, path string) {
	b.Helper()
	if *profiles == "" {
		return
	}
	data, err := n.ask(b.Context(), path)
	if err == nil {
		err = os.WriteFile(filepath.Join(*profiles, n.Name+"-"+name), data, 0o600)
	}
	if err != nil {
		b.Errorf("profile: %v", err)
	}
}

// during measures what is spent while f runs.
func (n *node) during(b *testing.B, f func() error) (s stretch) {
	b.Helper()
	began, before := time.Now(), n.spent(b)
	recorded, err := os.Stat(n.audit)
	if err == nil {
		err = f()
	}
	if err != nil {
		b.Fatalf("%v\n%s", err, n.process.Tail(40))
	}
	after := n.spent(b)
	s = stretch{took: time.Since(began), cpu: after.cpu - before.cpu, runtime: after.runtime - before.runtime}
	s.others = after.others - before.others - s.cpu - s.runtime
	if s.requests, err = n.asked(recorded.Size()); err != nil {
		b.Fatal(err)
	}
	return s
}

// spent is the CPU that was spent by now; others is that of all.
func (n *node) spent(b *testing.B) stretch {
	b.Helper()
	own, err := harness.Measure([]int{n.process.PID()})
	if err != nil {
		b.Fatal(err)
	}
	runtime, err := harness.Measure([]int{n.RuntimeProcess().PID()})
	if err != nil {
		b.Fatal(err)
	}
	return stretch{cpu: own.CPU, runtime: runtime.CPU, others: harness.HostCPU(b)}
}

// asked are the node's requests that were recorded from a place on: VERB RESOURCE, and how many.
func (n *node) asked(from int64) (map[string]int, error) {
	f, err := os.Open(n.audit)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return nil, err
	}
	all := map[string]int{}
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF {
			return all, nil // what is written just now counts the next time
		}
		if err != nil {
			return nil, err
		}
		var event auditv1.Event
		if err := json.Unmarshal(line, &event); err != nil {
			return nil, err
		}
		begun := event.Stage == "ResponseStarted"
		if event.User.Username != "system:node:"+n.Name || event.Verb == "watch" != begun {
			continue
		}
		what := event.RequestURI
		if o := event.ObjectRef; o != nil {
			what = strings.TrimSuffix(o.Resource+"/"+o.Subresource, "/")
		}
		all[event.Verb+" "+what]++
	}
}

// highest is the most memory that a process ever had, in bytes.
func highest(pid int) (most float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	_, err = fmt.Fscan(bytes.NewReader(rest), &most)
	return most * 1024, err
}
