package health

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

type store struct{}

func (store) Ready(context.Context) error { return nil }

// A controller that is down is seen, and takes no server away from its clients.
func TestDownPartsAreShown(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	close(closed)
	yes := func() bool { return true }
	c := &Checks{Store: store{}, Loaded: closed, Routed: closed, Synced: yes, Defined: yes}
	c.Bootstrapped(nil)
	mux := http.NewServeMux()
	c.Install(mux)
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code, w.Body.String()
	}
	const line = "[!]controllers/job-controller is down: reason withheld\n"
	c.Parts.Set("controllers/job-controller", true)
	if code, body := get("/readyz"); code != http.StatusOK || body != "ok" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	if code, body := get("/readyz?verbose"); code != http.StatusOK || !strings.HasPrefix(body, line+"[+]ping ok\n") {
		t.Errorf("/readyz?verbose: %d %q", code, body)
	}
	c.Stop()
	if code, body := get("/readyz?verbose"); code != http.StatusInternalServerError || !strings.HasPrefix(body, line) {
		t.Errorf("/readyz?verbose when stopping: %d %q", code, body)
	}
	c.Parts.Set("controllers/job-controller", false)
	if _, body := get("/readyz?verbose"); strings.Contains(body, "job-controller") {
		t.Errorf("/readyz?verbose: %q", body)
	}
}
