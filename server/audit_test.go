package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/server/options"

	"github.com/rowlock-io/rowlock/server/audit"
	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

// recording is a server whose requests are recorded to a file.
type recording struct {
	*servertest.Server
	file string
	stop func()
}

// newRecording starts a server with an audit policy. The events are in a file as soon as a request is answered.
func newRecording(t *testing.T, policy string, change func(*options.AuditOptions), cfg servertest.Config) *recording {
	t.Helper()
	dir := t.TempDir()
	r := &recording{file: filepath.Join(dir, "audit.log")}
	o := options.NewAuditOptions()
	o.LogOptions.Path = r.file
	o.PolicyFile = filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(o.PolicyFile, []byte("apiVersion: audit.k8s.io/v1\nkind: Policy\n"+policy), 0o600); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(o)
	}
	recorder, err := audit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- recorder.Run(ctx, time.Minute) }()
	t.Cleanup(func() { // after the server has stopped
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	plane := cfg.Plane
	cfg.Plane = func(c *controlplane.Config) {
		if plane != nil {
			plane(c)
		}
		c.Record.Audit = recorder
	}
	r.Server = servertest.Start(t, cfg)
	r.stop = func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
		cancel()
		err := <-done
		done <- err
	}
	return r
}

// of picks the events of a request.
func (r *recording) of(t *testing.T, id string) []auditv1.Event {
	t.Helper()
	text, err := os.ReadFile(r.file)
	if err != nil {
		t.Fatal(err)
	}
	var picked []auditv1.Event
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(`"auditID":"`+id+`"`)) {
			continue
		}
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		picked = append(picked, e)
	}
	return picked
}

// TestAuditPolicy has each kind of rule decide about a request.
func TestAuditPolicy(t *testing.T) {
	t.Parallel()
	r := newRecording(t, `
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:anonymous"]
  nonResourceURLs: ["/healthz*", "/version"]
- level: None
  namespaces: ["quiet"]
- level: Metadata
  omitStages: [ResponseComplete]
  verbs: ["watch"]
- level: RequestResponse
  resources: [{group: "", resources: ["configmaps"], resourceNames: ["whole"]}]
  omitManagedFields: true
- level: Request
  resources: [{group: "", resources: ["serviceaccounts/token", "pods/*"]}, {group: "*", resources: ["*/scale"]}]
- level: Metadata
  userGroups: ["devs"]
- level: None
`, nil, servertest.Config{})
	json := http.Header{"Content-Type": {"application/json"}}
	for _, tt := range []struct {
		name, method, path, body, token string
		want                            []string // stages and levels
	}{
		{"anonymous", "GET", "/version", "", "", nil},
		{"anonymous elsewhere", "GET", "/api", "", "", nil},
		{"URL of another", "GET", "/version", "", servertest.AliceToken, []string{"ResponseComplete Metadata"}},
		{"namespace", "GET", "/api/v1/namespaces/quiet/configmaps/whole", "", servertest.AdminToken, nil},
		{"named", "POST", "/api/v1/namespaces/default/configmaps", `{"metadata":{"name":"whole"}}`, servertest.AdminToken, nil},
		{"named", "GET", "/api/v1/namespaces/default/configmaps/whole", "", servertest.AdminToken, []string{"ResponseComplete RequestResponse"}},
		{"other name", "GET", "/api/v1/namespaces/default/configmaps/part", "", servertest.AdminToken, nil},
		{"subresource", "POST", "/api/v1/namespaces/default/serviceaccounts/default/token", `{"kind":"TokenRequest","apiVersion":"authentication.k8s.io/v1","spec":{}}`, servertest.AdminToken, []string{"ResponseComplete Request"}},
		{"not the subresource", "GET", "/api/v1/namespaces/default/serviceaccounts/default", "", servertest.AdminToken, nil},
		{"any subresource", "GET", "/api/v1/namespaces/default/pods/none/log", "", servertest.AdminToken, []string{"ResponseStarted Request", "ResponseComplete Request"}},
		{"and the resource", "GET", "/api/v1/namespaces/default/pods", "", servertest.AdminToken, []string{"ResponseComplete Request"}},
		{"of any resource", "GET", "/apis/apps/v1/namespaces/default/deployments/none/scale", "", servertest.AdminToken, []string{"ResponseComplete Request"}},
		{"verb", "GET", "/api/v1/configmaps?watch=true&timeoutSeconds=1", "", servertest.AdminToken, []string{"ResponseStarted Metadata"}},
		{"group", "GET", "/api/v1/nodes", "", servertest.AliceToken, []string{"ResponseComplete Metadata"}},
	} {
		resp := wire.Send(t, r.URL, servertest.Request{Method: tt.method, Path: tt.path, Body: tt.body, Token: tt.token, Header: json})
		var got []string
		for _, e := range r.of(t, resp.Header.Get("Audit-Id")) {
			got = append(got, string(e.Stage)+" "+string(e.Level))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s %s: %d\n%s", tt.name, tt.method, tt.path, resp.Status, diff)
		}
	}
}

// TestAuditID: clients may choose the id of a request, and are told it.
func TestAuditID(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "rules: [{level: Metadata}]\nomitStages: [RequestReceived]", nil, servertest.Config{})
	resp := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version", Header: http.Header{"Audit-Id": {"mine"}}})
	if got := resp.Header.Get("Audit-Id"); got != "mine" || len(r.of(t, "mine")) != 1 {
		t.Errorf("answered %q, recorded %v", got, r.of(t, "mine"))
	}
	first := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version"}).Header.Get("Audit-Id")
	second := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version"}).Header.Get("Audit-Id")
	if first == "" || first == second || len(r.of(t, first)) != 1 || len(r.of(t, second)) != 1 {
		t.Errorf("ids %q and %q", first, second)
	}
}

// TestAuditCluster: events name the cluster, and their URIs are the cluster's own.
func TestAuditCluster(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "rules: [{level: Metadata}]\nomitStages: [RequestReceived]", nil, servertest.Config{Clusters: []string{"other"}})
	for _, cluster := range []string{servertest.Default, "other"} {
		resp := wire.Send(t, r.Address(cluster), servertest.Request{Method: "GET", Path: "/api/v1/namespaces", Token: servertest.AdminToken})
		events := r.of(t, resp.Header.Get("Audit-Id"))
		if len(events) != 1 || events[0].RequestURI != "/api/v1/namespaces" || events[0].Annotations[audit.ClusterAnnotation] != cluster {
			t.Errorf("%s: %+v", cluster, events)
		}
	}
}

// TestAuditFlush: events that are buffered when the server stops are written.
func TestAuditFlush(t *testing.T) {
	t.Parallel()
	r := newRecording(t, "rules: [{level: Metadata}]\nomitStages: [RequestReceived]", func(o *options.AuditOptions) {
		o.LogOptions.BatchOptions.Mode = options.ModeBatch
		o.LogOptions.BatchOptions.BatchConfig.MaxBatchSize = 1000
		o.LogOptions.BatchOptions.BatchConfig.MaxBatchWait = time.Hour
	}, servertest.Config{})
	resp := wire.Send(t, r.URL, servertest.Request{Method: "GET", Path: "/version"})
	r.stop()
	if events := r.of(t, resp.Header.Get("Audit-Id")); len(events) != 1 {
		t.Errorf("%d events", len(events))
	}
}

// TestAuditFullDisk writes to a file that takes nothing: requests go on, unless the operator says that what cannot be
// recorded must not happen.
func TestAuditFullDisk(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip(err)
	}
	for mode, want := range map[string]int{options.ModeBlocking: 201, options.ModeBatch: 201, options.ModeBlockingStrict: 500} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			r := newRecording(t, "rules: [{level: Metadata, users: [admin], verbs: [create]}]", func(o *options.AuditOptions) {
				o.LogOptions.Path, o.LogOptions.MaxSize, o.LogOptions.BatchOptions.Mode = "/dev/full", 0, mode
			}, servertest.Config{Log: slog.New(slog.DiscardHandler)})
			resp := wire.Send(t, r.URL, servertest.Request{
				Method: "POST", Path: "/api/v1/namespaces", Token: servertest.AdminToken, Body: `{"metadata":{"name":"unseen"}}`,
				Header: http.Header{"Content-Type": {"application/json"}},
			})
			if resp.Status != want {
				t.Fatalf("%d %s", resp.Status, resp.Body)
			}
			_, err := r.Client(t, servertest.Default).CoreV1().Namespaces().Get(t.Context(), "unseen", metav1.GetOptions{})
			if want == 201 && err != nil {
				t.Error(err)
			}
			if want == 500 && (!apierrors.IsNotFound(err) || !strings.Contains(resp.Body, "failed to store audit event")) {
				t.Errorf("%v; %s", err, resp.Body)
			}
		})
	}
}
