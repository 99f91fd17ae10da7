package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/server/options"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// auditReceiver takes events as a webhook.
type auditReceiver struct {
	url  string
	dead atomic.Bool // answers with an error

	mu     sync.Mutex
	events []auditv1.Event
}

func newAuditReceiver(t *testing.T) *auditReceiver {
	r := &auditReceiver{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if r.dead.Load() {
			http.Error(w, "no", http.StatusBadGateway)
			return
		}
		var list auditv1.EventList
		if err := json.NewDecoder(req.Body).Decode(&list); err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.events = append(r.events, list.Items...)
		r.mu.Unlock()
		_, _ = fmt.Fprint(w, "{}")
	}))
	t.Cleanup(s.Close)
	r.url = s.URL
	return r
}

func (r *auditReceiver) of(id string) (found []auditv1.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if string(e.AuditID) == id {
			found = append(found, e)
		}
	}
	return found
}

// to has events sent to the receiver and nowhere else.
func (r *auditReceiver) to(t *testing.T, mode string) func(*options.AuditOptions) {
	file := filepath.Join(t.TempDir(), "webhook.yaml")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"x","context":{"cluster":"c"}}],"current-context":"x"}`, r.url)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(o *options.AuditOptions) {
		o.LogOptions.Path = ""
		o.WebhookOptions.ConfigFile, o.WebhookOptions.InitialBackoff = file, time.Millisecond
		o.WebhookOptions.BatchOptions.Mode = mode
		o.WebhookOptions.BatchOptions.BatchConfig.MaxBatchWait = time.Hour // what stops flushes
	}
}

// TestAuditWebhook sends events to a webhook: at once, or at the latest when the server stops.
func TestAuditWebhook(t *testing.T) {
	t.Parallel()
	for _, mode := range options.AllowedModes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			receiver := newAuditReceiver(t)
			r := newRecording(t, "rules: [{level: Metadata, users: [admin]}]", receiver.to(t, mode), servertest.Config{})
			resp := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version", Token: servertest.AdminToken})
			id := resp.Header.Get("Audit-Id")
			if mode == options.ModeBatch {
				if got := receiver.of(id); len(got) != 0 {
					t.Errorf("%d events before the batch was full", len(got))
				}
				r.stop()
			}
			if got := receiver.of(id); len(got) != 2 || got[1].User.Username != "admin" {
				t.Errorf("got %+v", got)
			}
		})
	}
}

// TestAuditDeadWebhook: a webhook that does not take events fails requests in the one mode that says so.
func TestAuditDeadWebhook(t *testing.T) {
	t.Parallel()
	for mode, want := range map[string]int{options.ModeBatch: 200, options.ModeBlocking: 200, options.ModeBlockingStrict: 500} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			receiver := newAuditReceiver(t)
			receiver.dead.Store(true)
			r := newRecording(t, "rules: [{level: Metadata, users: [admin]}]", receiver.to(t, mode), servertest.Config{})
			resp := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version", Token: servertest.AdminToken})
			if resp.Status != want {
				t.Errorf("%d %s", resp.Status, resp.Body)
			}
			receiver.dead.Store(false)
			resp = wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version", Token: servertest.AdminToken})
			if resp.Status != 200 {
				t.Errorf("after it had come back: %d %s", resp.Status, resp.Body)
			}
		})
	}
}

// TestAuditTruncate cuts events that are too large down to what they are about.
func TestAuditTruncate(t *testing.T) {
	t.Parallel()
	receiver := newAuditReceiver(t)
	change := receiver.to(t, options.ModeBlocking)
	r := newRecording(t, "rules: [{level: RequestResponse, users: [admin]}]", func(o *options.AuditOptions) {
		change(o)
		o.WebhookOptions.TruncateOptions.Enabled, o.WebhookOptions.TruncateOptions.TruncateConfig.MaxEventSize = true, 2000
	}, servertest.Config{})
	for name, want := range map[string]bool{"small": false, "large": true} {
		data := ""
		if want {
			data = fmt.Sprintf("%02000d", 0)
		}
		resp := wire.Send(t, r.URL, servertest.Request{
			Method: "POST", Path: "/api/v1/namespaces/default/configmaps", Token: servertest.AdminToken,
			Header: http.Header{"Content-Type": {"application/json"}}, Body: fmt.Sprintf(`{"metadata":{"name":%q},"data":{"k":%q}}`, name, data),
		})
		got := receiver.of(resp.Header.Get("Audit-Id"))
		if len(got) != 2 {
			t.Fatalf("%s: %d %s, %d events", name, resp.Status, resp.Body, len(got))
		}
		if truncated := got[1].Annotations["audit.k8s.io/truncated"] == "true"; truncated != want || (got[1].RequestObject == nil) != want {
			t.Errorf("%s: truncated %v: %+v", name, truncated, got[1])
		}
	}
}
