package read_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/read"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// TestStream: a list of more than is in memory is the list that upstream shows, in pieces or not, compressed or not, and while
// it is read next to nothing of it is held.
func TestStream(t *testing.T) {
	t.Parallel()
	const n, maxBytes = 1500, 400_000
	budget := cache.NewBudget(maxBytes)
	c, h := newClusterWith(t, read.Config{StreamBytes: 50_000}, cache.Config{Budget: budget})
	for i := range n {
		c.put(t, "configmaps", stored(configMap("default", fmt.Sprintf("cm-%05d", i), map[string]string{"n": fmt.Sprint(i % 100)}, strings.Repeat("x", 800))))
	}
	server, oracle := c.servers(t, h)
	for _, accept := range []string{asJSON, asProtobuf} {
		for _, path := range []string{
			"/api/v1/configmaps", "/api/v1/configmaps?limit=700", "/api/v1/configmaps?labelSelector=n%3D7",
			"/api/v1/configmaps?labelSelector=n+notin+(7,8)",
		} {
			t.Run(path+" "+accept, func(t *testing.T) { compare(t, server, oracle, path, map[string]string{"Accept": accept}, true) })
		}
	}
	before := budget.Loads()
	compare(t, server, oracle, "/api/v1/configmaps?labelSelector=n%3Dnone", nil, true)
	if loads := budget.Loads() - before; loads != 0 {
		t.Errorf("%d objects were read from the store for their labels, which are known", loads)
	}
	if kept := budget.Kept(); kept > 3*maxBytes/2 {
		t.Errorf("%d bytes are kept, the budget is %d", kept, maxBytes)
	}
}

// TestStreamCutOff: a list that cannot be read to its end is no shorter list.
func TestStreamCutOff(t *testing.T) {
	t.Parallel()
	c, h := newClusterWith(t, read.Config{StreamBytes: 1}, cache.Config{Budget: cache.NewBudget(1)})
	for i := range 1500 {
		c.put(t, "configmaps", stored(configMap("default", fmt.Sprintf("cm-%05d", i), nil, strings.Repeat("x", 8000))))
	}
	server := httptest.NewServer(c.handler(h))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/configmaps?resourceVersion=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := c.store.Close(); err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("%d bytes of a list came to a good end", len(body))
	}
	again, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Body.Close()
	if again.StatusCode < 500 {
		t.Errorf("status %d", again.StatusCode)
	}
}
