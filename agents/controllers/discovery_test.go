package controllers

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
)

// described is an API server's discovery documents.
type described struct {
	mu     sync.Mutex
	kinds  []string // of group example.com/v1
	stale  bool     // its server is away
	tagged bool
	down   bool
	asked  []string // what was answered, since it was last looked at
}

func (d *described) RoundTrip(req *http.Request) (*http.Response, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return nil, errors.New("away")
	}
	var groups []string
	if req.URL.Path == "/apis" {
		var resources []string
		for _, kind := range d.kinds {
			resources = append(resources, fmt.Sprintf(`{"resource":%q,"scope":"Namespaced","responseKind":{"kind":%q},"verbs":["list","delete","watch"]}`, strings.ToLower(kind)+"s", kind))
		}
		freshness := "Current"
		if d.stale {
			freshness = "Stale"
		}
		groups = []string{fmt.Sprintf(`{"metadata":{"name":"example.com"},"versions":[{"version":"v1","freshness":%q,"resources":[%s]}]}`, freshness, strings.Join(resources, ","))}
	}
	body := `{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","items":[` + strings.Join(groups, ",") + `]}`
	answer := &http.Response{StatusCode: http.StatusOK, Request: req, Header: http.Header{"Content-Type": {discovery.AcceptV2}}}
	if d.tagged {
		tag := fmt.Sprintf("%q", fmt.Sprint(groups))
		answer.Header.Set("ETag", tag)
		if req.Header.Get("If-None-Match") == tag {
			answer.StatusCode, body = http.StatusNotModified, ""
		}
	}
	answer.Body = io.NopCloser(strings.NewReader(body))
	d.asked = append(d.asked, fmt.Sprint(req.URL.Path, " ", answer.StatusCode))
	return answer, nil
}

func (d *described) change(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func TestDiscoveryIsDownloadedWhenItChanged(t *testing.T) {
	t.Parallel()
	server := &described{tagged: true, kinds: []string{"Ship"}}
	k, err := newKnown(&rest.Config{Host: "http://api", Transport: server, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	download := []string{"/api 200", "/apis 200"}
	unchanged := []string{"/api 304", "/apis 304"}
	for _, step := range []struct {
		name    string
		do      func()
		want    []string // resources
		asked   []string
		wantErr func(error) bool
	}{
		{"at first", func() {}, []string{"ships"}, download, nil},
		{"again", func() {}, []string{"ships"}, unchanged, nil},
		{"a kind more", func() { server.kinds = append(server.kinds, "Boat") }, []string{"boats", "ships"}, slices.Concat([]string{"/api 304", "/apis 200"}, download), nil},
		{"again, with both", func() {}, []string{"boats", "ships"}, unchanged, nil},
		{"its server away", func() { server.stale = true }, []string{}, slices.Concat([]string{"/api 304", "/apis 200"}, download), discovery.IsGroupDiscoveryFailedError},
		{"its server still away", func() {}, []string{}, unchanged, discovery.IsGroupDiscoveryFailedError},
		{"its server back", func() { server.stale = false }, []string{"boats", "ships"}, slices.Concat([]string{"/api 304", "/apis 200"}, download), nil},
		{"all away", func() { server.down = true }, nil, nil, func(err error) bool { return strings.Contains(fmt.Sprint(err), "away") }},
		{"all back", func() { server.down = false }, []string{"boats", "ships"}, download, nil},
		{"no tags", func() { server.tagged = false }, []string{"boats", "ships"}, slices.Concat([]string{"/api 200"}, download), nil},
		{"still no tags", func() {}, []string{"boats", "ships"}, download, nil},
	} {
		server.change(step.do)
		lists, err := k.ServerPreferredResources()
		if (step.wantErr != nil) != (err != nil) || err != nil && !step.wantErr(err) {
			t.Errorf("%s: error %v", step.name, err)
		}
		var got []string
		if lists != nil {
			got = []string{}
		}
		for _, list := range lists {
			for _, r := range list.APIResources {
				got = append(got, r.Name)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s: resources (-want +got):\n%s", step.name, diff)
		}
		if diff := cmp.Diff(step.asked, server.asked); diff != "" {
			t.Errorf("%s: answers (-want +got):\n%s", step.name, diff)
		}
		server.change(func() { server.asked = nil })
	}
}

// What one caller does to what it was given is not seen by the next.
func TestKnownDiscoveryIsNotShared(t *testing.T) {
	t.Parallel()
	server := &described{tagged: true, kinds: []string{"Ship"}}
	k, err := newKnown(&rest.Config{Host: "http://api", Transport: server, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	groups, resources, _, err := k.GroupsAndMaybeResources()
	if err != nil {
		t.Fatal(err)
	}
	groups.Groups[0].Name = "changed"
	delete(resources, schema.GroupVersion{Group: "example.com", Version: "v1"})
	groups, resources, _, err = k.GroupsAndMaybeResources()
	if err != nil {
		t.Fatal(err)
	}
	if groups.Groups[0].Name != "example.com" || len(resources) != 1 {
		t.Errorf("got %v, %v", groups, resources)
	}
}
