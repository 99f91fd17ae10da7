package growth

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// read is one way to read, and how long it took: until the first byte, and until the last.
type read struct {
	name       string
	first, all time.Duration
	size       int64
}

// lists reads in all ways, each as often as makes sense, and keeps the median.
func (c *client) lists(ctx context.Context, k kind, n int) ([]read, error) {
	everywhere := "/api/v1/" + k.name
	ways := []struct {
		name  string
		times int
		read  func() (read, error)
	}{
		{"whole", 3, func() (read, error) { return c.list(ctx, everywhere) }},
		{"pages of 500", 1, func() (read, error) { return c.pages(ctx, everywhere, 500) }},
		{"limit 1", 20, func() (read, error) { return c.list(ctx, everywhere+"?limit=1") }},
		{"selector, 1 %, first", 1, func() (read, error) { return c.list(ctx, everywhere+"?labelSelector=part%3Dp7") }},
		{"selector, 1 %", 5, func() (read, error) { return c.list(ctx, everywhere+"?labelSelector=part%3Dp7") }},
		{"a namespace", 5, func() (read, error) { return c.list(ctx, k.collection(namespaceOf(n-1))) }},
		{"get", 20, func() (read, error) {
			return c.list(ctx, fmt.Sprintf("%s/object-%d", k.collection(namespaceOf(n-1)), n-1))
		}},
		{"watch list of one", 5, func() (read, error) {
			return c.watch(ctx, fmt.Sprintf("%s?watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&labelSelector=own%%3Do%d", everywhere, n/2), true)
		}},
		{"watch from now", 5, func() (read, error) {
			page, err := c.do(ctx, 0, http.MethodGet, everywhere+"?limit=1", nil)
			if err != nil {
				return read{}, err
			}
			return c.watch(ctx, everywhere+"?watch=1&resourceVersion="+value(page, "resourceVersion"), false)
		}},
	}
	var all []read
	for _, way := range ways {
		var took []read
		for range way.times {
			r, err := way.read()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
			took = append(took, r)
		}
		slices.SortFunc(took, func(a, b read) int { return int(a.all - b.all) })
		median := took[len(took)/2]
		median.name = way.name
		all = append(all, median)
	}
	return all, nil
}

func (c *client) list(ctx context.Context, path string) (r read, err error) {
	r.size, r.first, r.all, err = c.read(ctx, path)
	return r, err
}

func (c *client) pages(ctx context.Context, path string, limit int) (r read, err error) {
	began := time.Now()
	token := ""
	for {
		page, err := c.do(ctx, 0, http.MethodGet, fmt.Sprintf("%s?limit=%d&continue=%s", path, limit, token), nil)
		if err != nil {
			return r, err
		}
		if r.size == 0 {
			r.first = time.Since(began)
		}
		r.size += int64(len(page))
		// The list's own metadata comes first.
		if token = value(page[:min(len(page), 1000)], "continue"); token == "" {
			r.all = time.Since(began)
			return r, nil
		}
	}
}

// watch starts a watch and waits for its head, or for the bookmark behind the initial events.
func (c *client) watch(ctx context.Context, path string, initial bool) (r read, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	body, err := c.open(ctx, 0, http.MethodGet, path, nil)
	if err != nil {
		return r, err
	}
	defer body.Close()
	r.first, r.all = time.Since(began), time.Since(began)
	if !initial {
		return r, nil
	}
	for d := json.NewDecoder(body); ; {
		var event json.RawMessage
		if err := d.Decode(&event); err != nil {
			return r, err
		}
		r.size += int64(len(event))
		if bytes.Contains(event, []byte("k8s.io/initial-events-end")) {
			r.all = time.Since(began)
			return r, nil
		}
	}
}

// latency is that of single writes, one after the other.
type latency struct {
	count          int
	p50, p99, most time.Duration
}

func latencyOf(took []time.Duration) latency {
	if len(took) == 0 {
		return latency{}
	}
	slices.Sort(took)
	at := func(part float64) time.Duration { return took[int(float64(len(took)-1)*part)] }
	return latency{len(took), at(0.5), at(0.99), at(1)}
}

func (l latency) String() string {
	return fmt.Sprintf("%s / %s / %s ms (%d)", ms(l.p50), ms(l.p99), ms(l.most), l.count)
}

const probes = "probes"

// creates makes one ConfigMap after the other until it is told to stop, and then a number of times at least.
func (c *client) creates(ctx context.Context, run string, least int, done <-chan struct{}) (latency, error) {
	var took []time.Duration
	for i := 0; ; i++ {
		select {
		case <-done:
			if i >= least {
				return latencyOf(took), nil
			}
		default:
		}
		body := strings.Replace(string(configMap(i)), `"name":"object-`, `"name":"`+run+`-`, 1)
		began := time.Now()
		if _, err := c.do(ctx, 1, http.MethodPost, kinds["configmaps"].collection(probes), []byte(body)); err != nil {
			return latency{}, err
		}
		took = append(took, time.Since(began))
	}
}

// during runs something while ConfigMaps are created.
func (c *client) during(ctx context.Context, run string, f func() error) (latency, error) {
	var l latency
	var writing error
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() { l, writing = c.creates(ctx, run, 1, done) })
	err := f()
	close(done)
	wg.Wait()
	if err == nil {
		err = writing
	}
	return l, err
}

// sample is the size of an object as it is stored: as it is shown, without its resourceVersion.
func (c *client) sample(ctx context.Context, k kind, n int) (float64, error) {
	sum, count := 0, min(n, 50)
	for i := range count {
		at := i * n / count
		data, err := c.do(ctx, 0, http.MethodGet, fmt.Sprintf("%s/object-%d", k.collection(namespaceOf(at)), at), nil)
		if err != nil {
			return 0, err
		}
		sum += len(data) - len(`"resourceVersion":"",`) - len(value(data, "resourceVersion")) - len("\n")
	}
	return float64(sum) / float64(count), nil
}

// compactions is how often the server has let go of history.
func (c *client) compactions(ctx context.Context) (int, error) {
	r, err := c.open(ctx, 0, http.MethodGet, "/metrics", nil)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	const series = `storage_compactions_total{result="done"} `
	_, rest, ok := strings.Cut(string(text), series)
	if !ok {
		return 0, fmt.Errorf("/metrics has no %s", series)
	}
	var count int
	_, err = fmt.Sscan(rest, &count)
	return count, err
}
