package server_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rowlock-io/rowlock/server/servertest"
)

var recordCeilings = flag.Bool("record-ceilings", false, "rewrite testdata/ceilings.txt with what requests allocate now")

// ceilingsFile has a line for each kind of request: its name and how often it allocates.
const ceilingsFile = "testdata/ceilings.txt"

// costly is a kind of request whose allocations are counted, from the filters to the answer, all of the process.
type costly struct {
	name string
	// each makes the request number n; they count from 1.
	each func(c *counted, n int)
	// ready is called before, uncounted; nil: nothing has to be prepared.
	ready func(c *counted)
	runs  int // 0: some dozens
}

// costlies are counted in this order, on one server in memory whose namespace "default" has its service account.
var costlies = []costly{
	{name: "get", each: func(c *counted, _ int) { c.send(http.MethodGet, "/api/v1/namespaces/default", "", "") }},
	{name: "get as a limited user", each: func(c *counted, _ int) {
		c.as(servertest.AliceToken, http.MethodGet, "/api/v1/namespaces/default", "", "")
	}},
	{name: "get rv=0", each: func(c *counted, _ int) {
		c.send(http.MethodGet, "/api/v1/namespaces/default?resourceVersion=0", "", "")
	}},
	{name: "configmap create", each: func(c *counted, n int) { c.send(http.MethodPost, countedMaps, inJSON, countedMap(n)) }},
	{name: "configmap update", each: func(c *counted, n int) {
		c.send(http.MethodPut, countedMaps+"/cm-1", inJSON, strings.Replace(countedMap(1), `"data":{`, fmt.Sprintf(`"data":{"seq":"%d",`, n), 1))
	}},
	{name: "configmap merge patch", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedMaps+"/cm-1", inMerge, fmt.Sprintf(`{"data":{"seq":"merged-%d"}}`, n))
	}},
	{name: "configmap apply", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedMaps+"/applied?fieldManager=counted", inApply, fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"applied"},"data":{"seq":"%d"}}`, n))
	}},
	{
		name: "list of 500", runs: 20,
		ready: func(c *counted) { c.fill("listed", 500) },
		each:  func(c *counted, _ int) { c.send(http.MethodGet, "/api/v1/namespaces/listed/configmaps", "", "") },
	},
	{
		name: "list of 500, 1 % selected", runs: 20,
		each: func(c *counted, _ int) {
			c.send(http.MethodGet, "/api/v1/namespaces/listed/configmaps?labelSelector=tail%3Dv07", "", "")
		},
	},
	{
		name: "event to 100 watchers", runs: 20,
		ready: func(c *counted) { c.watch(100, "/api/v1/namespaces/watched/configmaps?watch=true") },
		each: func(c *counted, n int) {
			c.send(http.MethodPatch, "/api/v1/namespaces/watched/configmaps/one?fieldManager=counted", inApply,
				fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"one"},"data":{"seq":"%d"}}`, n))
			c.seen()
		},
	},
	{name: "pod create", each: func(c *counted, n int) {
		c.send(http.MethodPost, countedPods, inJSON, webPod(fmt.Sprintf("pod-%d", n)))
	}},
	{name: "pod status, strategic", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedPods+"/pod-1/status", inStrategic, podStatus(n))
	}},
	{name: "pod labels, strategic", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedPods+"/pod-1", inStrategic, fmt.Sprintf(`{"metadata":{"labels":{"strategic":"v%d"}}}`, n))
	}},
	{name: "pod labels, merge", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedPods+"/pod-1", inMerge, fmt.Sprintf(`{"metadata":{"labels":{"merge":"v%d"}}}`, n))
	}},
	{name: "pod labels, apply", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedPods+"/pod-1?fieldManager=counted&force=true", inApply,
			fmt.Sprintf(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod-1","labels":{"apply":"v%d"}}}`, n))
	}},
	{name: "configmap delete", each: func(c *counted, n int) { c.send(http.MethodDelete, fmt.Sprintf("%s/cm-%d", countedMaps, n), "", "") }},
	{
		name: "delete-collection of 500 configmaps", runs: 1,
		ready: func(c *counted) { c.fill("emptied", 500) },
		each: func(c *counted, n int) {
			if n == 1 { // the first time is for warming up
				c.send(http.MethodDelete, "/api/v1/namespaces/listed/configmaps", "", "")
			} else {
				c.send(http.MethodDelete, "/api/v1/namespaces/emptied/configmaps", "", "")
			}
		},
	},
	{
		name: "custom create",
		ready: func(c *counted) {
			defineGadgets(c.t, func(method, path, kind, body string) *httptest.ResponseRecorder {
				req := httptest.NewRequest(method, path, strings.NewReader(body))
				req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
				req.Header.Set("Content-Type", kind)
				w := httptest.NewRecorder()
				c.handler.ServeHTTP(w, req)
				return w
			})
		},
		each: func(c *counted, n int) {
			c.send(http.MethodPost, countedGadgets, inJSON, gadget(fmt.Sprintf("g-%d", n), n))
		},
	},
	{name: "custom get", each: func(c *counted, _ int) { c.send(http.MethodGet, countedGadgets+"/g-1", "", "") }},
	{name: "custom merge patch", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedGadgets+"/g-1", inMerge, fmt.Sprintf(`{"spec":{"seq":"merged-%d"}}`, n))
	}},
	{name: "custom apply", each: func(c *counted, n int) {
		c.send(http.MethodPatch, countedGadgets+"/applied?fieldManager=counted", inApply,
			fmt.Sprintf(`{"apiVersion":"example.com/v1","kind":"Gadget","metadata":{"name":"applied"},"spec":{"seq":"%d"}}`, n))
	}},
	{name: "custom delete", each: func(c *counted, n int) { c.send(http.MethodDelete, fmt.Sprintf("%s/g-%d", countedGadgets, n), "", "") }},
}

const (
	countedMaps = "/api/v1/namespaces/default/configmaps"
	countedPods = "/api/v1/namespaces/default/pods"

	inJSON      = "application/json"
	inStrategic = "application/strategic-merge-patch+json"
	inMerge     = "application/merge-patch+json"
	inApply     = "application/apply-patch+yaml"
)

func countedMap(n int) string {
	return fmt.Sprintf(`{"metadata":{"name":"cm-%d","labels":{"app":"bench","tail":"v%02d"}},"data":{"payload":%q}}`, n, n%100, strings.Repeat("x", 1024))
}

// counted is the server that requests are sent to, without a socket.
type counted struct {
	t       *testing.T
	handler http.Handler
	arrived sync.WaitGroup // of an event, at all watchers
}

func (c *counted) send(method, path, kind, body string) {
	c.as(servertest.AdminToken, method, path, kind, body)
}

func (c *counted) as(token, method, path, kind, body string) {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+token)
	if kind != "" {
		req.Header.Set("Content-Type", kind)
	}
	w := &discard{header: http.Header{}}
	c.handler.ServeHTTP(w, req)
	if w.code >= http.StatusBadRequest {
		c.t.Fatal(method, path, w.code)
	}
}

// fill makes ConfigMaps in a new namespace.
func (c *counted) fill(namespace string, count int) {
	c.send(http.MethodPost, "/api/v1/namespaces", inJSON, fmt.Sprintf(`{"metadata":{"name":%q}}`, namespace))
	for n := range count {
		c.send(http.MethodPost, "/api/v1/namespaces/"+namespace+"/configmaps", inJSON, countedMap(n))
	}
}

// watch opens watches of an object that is not there yet, in a new namespace.
func (c *counted) watch(count int, path string) {
	c.send(http.MethodPost, "/api/v1/namespaces", inJSON, `{"metadata":{"name":"watched"}}`)
	ctx, cancel := context.WithCancel(c.t.Context())
	var running, begun sync.WaitGroup
	c.arrived.Add(count)
	begun.Add(count)
	for range count {
		running.Go(func() {
			req := httptest.NewRequest(http.MethodGet, path, http.NoBody).WithContext(ctx)
			req.Header.Set("Authorization", "Bearer "+servertest.AdminToken)
			c.handler.ServeHTTP(&discard{header: http.Header{}, event: c.arrived.Done, begun: sync.OnceFunc(begun.Done)}, req)
		})
	}
	c.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	begun.Wait()
}

// seen waits until all watchers have got an event, and expects another one.
func (c *counted) seen() {
	c.arrived.Wait()
	c.arrived.Add(100)
}

// discard is an answer that nobody reads; of a watch it tells its beginning and each event.
type discard struct {
	header http.Header
	code   int
	event  func()
	begun  func()
}

func (d *discard) Header() http.Header { return d.header }

func (d *discard) WriteHeader(code int) { d.code = code }

func (d *discard) Write(p []byte) (int, error) {
	if d.event != nil {
		for range bytes.Count(p, []byte("\n")) {
			d.event()
		}
	}
	return len(p), nil
}

// CloseNotify makes it an answer over HTTP/2 in the eyes of those who wrap it.
func (d *discard) CloseNotify() <-chan bool { return nil }

func (d *discard) Flush() {
	if d.begun != nil {
		d.begun()
	}
}

// TestCeilings holds what each kind of request allocates to what is recorded, with a little slack. A number is the least
// of a few counts: others on the machine make it larger and never smaller.
//
// When requests allocate less than before, or have to allocate more, record it:
//
//	go test ./server -run TestCeilings -record-ceilings
//
//nolint:paralleltest // what other tests allocate would count
func TestCeilings(t *testing.T) {
	if testing.Short() {
		t.Skip("counts what some thousand requests allocate")
	}
	recorded := readCeilings(t)
	got := countAll(t)
	if *recordCeilings {
		writeCeilings(t, got)
		return
	}
	for _, kind := range costlies {
		now, was := got[kind.name], recorded[kind.name]
		slack := was/25 + 2
		if kind.runs == 1 { // is counted once, and how its writes are gathered is chance
			slack = was / 3
		}
		switch {
		case was == 0:
			t.Errorf("%s: nothing is recorded in %s; run go test ./server -run TestCeilings -record-ceilings", kind.name, ceilingsFile)
		case now > was+slack:
			t.Errorf("%s: allocates %d times, recorded are %d. Should that be: go test ./server -run TestCeilings -record-ceilings", kind.name, now, was)
		case now < was-slack:
			t.Logf("%s: allocates %d times, recorded are %d: less is to be recorded with go test ./server -run TestCeilings -record-ceilings", kind.name, now, was)
		}
	}
	if len(recorded) > len(costlies) {
		t.Errorf("%s has lines that nothing is counted for", ceilingsFile)
	}
}

func countAll(t *testing.T) map[string]int {
	t.Helper()
	s := servertest.Start(t, servertest.Config{})
	letAlice(t, s.Client(t, servertest.Default))
	plane, release, err := s.Clusters.Acquire(t.Context(), servertest.Default)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	c := &counted{t: t, handler: plane.Handler()}
	c.send(http.MethodPost, "/api/v1/namespaces/default/serviceaccounts", inJSON, `{"metadata":{"name":"default"}}`)
	// Collections empty pools, which would be filled anew at another request each time.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	got := map[string]int{}
	for _, kind := range costlies {
		got[kind.name] = c.count(kind)
	}
	return got
}

func (c *counted) count(kind costly) int {
	c.t.Helper()
	if kind.ready != nil {
		kind.ready(c)
	}
	times, runs := 3, kind.runs
	switch runs {
	case 0:
		runs = 30
	case 1:
		times = 1
	}
	n := 0
	least := 0
	for i := range times {
		now := int(testing.AllocsPerRun(runs, func() {
			n++
			kind.each(c, n)
		}))
		if i == 0 || now < least {
			least = now
		}
	}
	return least
}

func readCeilings(t *testing.T) map[string]int {
	t.Helper()
	data, err := os.ReadFile(ceilingsFile)
	if err != nil && !*recordCeilings {
		t.Fatal(err)
	}
	all := map[string]int{}
	for line := range strings.Lines(string(data)) {
		name, number, _ := strings.Cut(strings.TrimSpace(line), ": ")
		var n int
		if _, err := fmt.Sscan(number, &n); err != nil {
			t.Fatalf("%s: %q: %v", ceilingsFile, line, err)
		}
		all[name] = n
	}
	return all
}

func writeCeilings(t *testing.T, got map[string]int) {
	t.Helper()
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(got)) {
		fmt.Fprintf(&out, "%s: %d\n", name, got[name])
	}
	if err := os.WriteFile(ceilingsFile, []byte(out.String()), 0o600); err != nil {
		t.Fatal(err)
	}
}
