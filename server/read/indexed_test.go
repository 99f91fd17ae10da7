package read_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// crowd makes so many pods that selections of them are found by an index, and changes some of them now and then.
type crowd struct {
	c      *cluster
	random *rand.Rand
	pods   []*corev1.Pod // in order
}

func newCrowd(t *testing.T, c *cluster, random *rand.Rand) *crowd {
	t.Helper()
	w := &crowd{c: c, random: random}
	for _, ns := range []string{"a", "a-b", "b"} {
		for i := range 200 {
			w.pods = append(w.pods, pod(ns, fmt.Sprintf("p-%03d", i), "", nil))
		}
	}
	for i := range w.pods {
		w.change(t, i)
	}
	return w
}

func (w *crowd) change(t *testing.T, i int) {
	t.Helper()
	set := map[string]string{"all": "yes", "app": fmt.Sprint("app-", w.random.IntN(30))}
	if w.random.IntN(20) == 0 {
		set["canary"] = ""
	}
	node := ""
	if w.random.IntN(3) > 0 {
		node = fmt.Sprint("node-", w.random.IntN(20))
	}
	w.pods[i] = pod(w.pods[i].Namespace, w.pods[i].Name, node, set)
	w.c.put(t, "pods", stored(w.pods[i]))
}

// selection is a random one.
func (w *crowd) selection() (label labels.Selector, field fields.Selector) {
	n := w.random.IntN(32)
	label, err := labels.Parse([]string{
		"", "", fmt.Sprint("app=app-", n), fmt.Sprintf("app in (app-%d,app-%d)", n, n/2), "canary", "canary=", "all=yes", "!canary",
		fmt.Sprintf("all,app!=app-%d,canary", n), fmt.Sprintf("all=yes,app==app-%d", n), "none", "all=no",
	}[w.random.IntN(12)])
	if err != nil {
		panic(err)
	}
	return label, fields.ParseSelectorOrDie([]string{
		"", "", fmt.Sprint("spec.nodeName=node-", n), "spec.nodeName=", fmt.Sprint("spec.nodeName!=node-", n),
		fmt.Sprintf("metadata.name=p-%03d", n), fmt.Sprintf("metadata.name=p-%03d,spec.nodeName=node-%d", n, n%5),
		fmt.Sprintf("spec.nodeName=node-%d,status.phase=Running", n),
	}[w.random.IntN(8)])
}

// want is a page: at most limit of what is selected, and whether anything is behind it.
func (w *crowd) want(ns string, label labels.Selector, field fields.Selector, limit int, after string) (names []string, more bool) {
	behind := after == ""
	for _, p := range w.pods {
		name := p.Namespace + "/" + p.Name
		if ns != "" && ns != p.Namespace || !behind {
			behind = behind || name == after
			continue
		}
		if limit > 0 && len(names) == limit {
			return names, true
		}
		set := fields.Set{
			"metadata.name": p.Name, "metadata.namespace": p.Namespace, "spec.nodeName": p.Spec.NodeName, "status.phase": string(p.Status.Phase),
		}
		if label.Matches(labels.Set(p.Labels)) && field.Matches(set) {
			names = append(names, name)
		}
	}
	return names, false
}

// TestSelectionsOfMany compares lists, their pages, and the initial events of watches with what is in the objects.
func TestSelectionsOfMany(t *testing.T) {
	t.Parallel()
	for _, budget := range []int64{0, 20_000} {
		t.Run(fmt.Sprintf("budget=%d", budget), func(t *testing.T) {
			t.Parallel()
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			c, h := newClusterWith(t, read.Config{}, cache.Config{Budget: cache.NewBudget(budget)})
			w := newCrowd(t, c, rand.New(rand.NewPCG(seed, 0))) //nolint:gosec // for a test
			bytes, upstream := c.servers(t, h)
			for range 50 {
				for range w.random.IntN(20) {
					w.change(t, w.random.IntN(len(w.pods)))
				}
				ns := []string{"", "", "a", "b"}[w.random.IntN(4)]
				label, field := w.selection()
				q := url.Values{"labelSelector": {label.String()}, "fieldSelector": {field.String()}}
				server := []*httptest.Server{bytes, upstream}[w.random.IntN(2)]
				w.checkList(t, server, ns, label, field, q)
				if w.random.IntN(4) == 0 {
					w.checkWatch(t, server, ns, label, field, q)
				}
				if t.Failed() {
					return
				}
			}
		})
	}
}

func podsPath(ns string) string {
	if ns == "" {
		return "/api/v1/pods"
	}
	return "/api/v1/namespaces/" + ns + "/pods"
}

func (w *crowd) checkList(t *testing.T, server *httptest.Server, ns string, label labels.Selector, field fields.Selector, q url.Values) {
	t.Helper()
	limit := []int{0, 0, 1, 3, 10, 50}[w.random.IntN(6)]
	q = url.Values{"labelSelector": q["labelSelector"], "fieldSelector": q["fieldSelector"]}
	if limit > 0 {
		q.Set("limit", fmt.Sprint(limit))
	}
	if _, one := field.RequiresExactMatch("metadata.name"); one && ns != "" {
		limit = 0 // it is read by its name
	}
	before := slices.Clone(w.pods) // pages show what was there at the first one
	after := ""
	for {
		a, _ := fetch(t, server, podsPath(ns)+"?"+q.Encode(), map[string]string{"Accept": asJSON})
		var list corev1.PodList
		if err := json.Unmarshal([]byte(a.Body), &list); err != nil || a.Status != http.StatusOK {
			t.Fatal(a.Status, err)
		}
		var got []string
		for i := range list.Items {
			got = append(got, list.Items[i].Namespace+"/"+list.Items[i].Name)
		}
		now := w.pods
		w.pods = before
		want, more := w.want(ns, label, field, limit, after)
		w.pods = now
		if diff := cmp.Diff(want, got); diff != "" || more != (list.Continue != "") {
			t.Fatalf("%s of %q after %q: continue %q, want one: %v; -want +got:\n%s", q.Encode(), ns, after, list.Continue, more, diff)
		}
		if !more {
			return
		}
		after = got[len(got)-1]
		q.Set("continue", list.Continue)
		w.pods = slices.Clone(w.pods)
		w.change(t, w.random.IntN(len(w.pods)))
	}
}

func (w *crowd) checkWatch(t *testing.T, server *httptest.Server, ns string, label labels.Selector, field fields.Selector, q url.Values) {
	t.Helper()
	q.Set("watch", "true")
	q.Set("sendInitialEvents", "true")
	q.Set("resourceVersionMatch", "NotOlderThan")
	q.Set("allowWatchBookmarks", "true")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+podsPath(ns)+"?"+q.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got []string
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		var e struct {
			Type   string
			Object corev1.Pod
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if e.Type == "BOOKMARK" {
			break
		}
		got = append(got, e.Object.Namespace+"/"+e.Object.Name)
	}
	want, _ := w.want(ns, label, field, 0, "")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("watch %s of %q: -want +got:\n%s", strings.TrimSpace(q.Encode()), ns, diff)
	}
}
