package serve_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	statsapi "k8s.io/kubelet/pkg/apis/stats/v1alpha1"

	"github.com/rowlock-io/rowlock/agents/node/fakecri"
)

func TestPods(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	if code, body := n.get("/pods"); code != http.StatusOK || body != `{"kind":"PodList","apiVersion":"v1","metadata":{},"items":[]}` {
		t.Errorf("none: %d %s", code, body)
	}
	n.run(newPod("web"))
	n.run(newPod("db"))
	for _, path := range []string{"/pods", "/runningpods/"} {
		code, body := n.get(path)
		var list corev1.PodList
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatalf("%s: %d %v: %s", path, code, err, body)
		}
		var names []string
		for _, p := range list.Items {
			names = append(names, p.Namespace+"/"+p.Name+"/"+string(p.UID)+"/"+p.Spec.Containers[0].Name+"/"+p.Spec.Containers[0].Image)
		}
		slices.Sort(names)
		if want := []string{"default/db/uid-of-db/c/busybox", "default/web/uid-of-web/c/busybox"}; !slices.Equal(names, want) {
			t.Errorf("%s: %v, want %v", path, names, want)
		}
	}
}

func TestFigures(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.run(newPod("web"))
	for path, full := range map[string]bool{"/stats/summary": true, "/stats/summary?only_cpu_and_memory=true": false} {
		code, body := n.get(path)
		var summary statsapi.Summary
		if err := json.Unmarshal([]byte(body), &summary); err != nil {
			t.Fatalf("%s: %d %v: %s", path, code, err, body)
		}
		if summary.Node.NodeName != "one" || len(summary.Pods) != 1 || *summary.Pods[0].Containers[0].Memory.WorkingSetBytes != fakecri.WorkingSet {
			t.Errorf("%s: %s", path, body)
		}
		if (summary.Node.Fs != nil) != full {
			t.Errorf("%s: filesystem %+v", path, summary.Node.Fs)
		}
	}
	for path, want := range map[string][]string{
		"/metrics": {"kubelet_something_total 0"},
		"/metrics/resource": {
			`container_memory_working_set_bytes{container="c",namespace="default",pod="web"} 8.388608e+06 `, "node_memory_working_set_bytes ",
			"# HELP container_cpu_usage_seconds_total [STABLE] Cumulative cpu time consumed by the container in core-seconds",
			"# TYPE container_cpu_usage_seconds_total counter", `container_start_time_seconds{container="c",namespace="default",pod="web"} 1.`,
			`pod_cpu_usage_seconds_total{namespace="default",pod="web"} `, "resource_scrape_error 0", "node_cpu_usage_seconds_total ",
		},
		"/metrics/cadvisor": {"container_memory_usage_bytes{"},
	} {
		code, body := n.get(path)
		for _, line := range want {
			if code != http.StatusOK || !strings.Contains(body, line) {
				t.Errorf("%s: %d, without %q:\n%s", path, code, line, body)
			}
		}
	}
	if code, body := n.get("/metrics/probes"); code != http.StatusOK || body != "" {
		t.Errorf("no probes: %d %s", code, body)
	}
	n.runtime.Stop()
	if code, body := n.get("/metrics/resource"); code != http.StatusOK || !strings.Contains(body, "resource_scrape_error 1") {
		t.Errorf("without a runtime: %d %s", code, body)
	}
	if code, body := n.get("/stats/summary"); code != http.StatusInternalServerError || !strings.HasPrefix(body, "Internal Error: failed to list pod stats") {
		t.Errorf("without a runtime: %d %s", code, body)
	}
}

func TestWellBeing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for path, want := range map[string]string{
		"/healthz": "ok", "/healthz/ping": "ok", "/healthz/log": "ok", "/healthz?verbose": "[+]ping ok\n[+]log ok\nhealthz check passed",
		"/configz": `{"kubeletconfig":{"kind":"KubeletConfiguration"}}`,
	} {
		if code, body := n.get(path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want %q", path, code, body, want)
		}
	}
	if code, _ := n.get("/nothing"); code != http.StatusNotFound {
		t.Errorf("nothing: %d", code)
	}
}

// The machine's logs are shown, and nothing else to which a link leads.
func TestSystemLogs(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	outside := filepath.Join(t.TempDir(), "secret")
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(outside, "secret")
	write(filepath.Join(n.systemLog, "syslog"), "it started")
	for link, to := range map[string]string{"out": outside, "away": "../" + filepath.Base(filepath.Dir(outside)) + "/secret", "same": "syslog"} {
		if err := os.Symlink(to, filepath.Join(n.systemLog, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{"/logs/syslog": "it started", "/logs/same": "it started"} {
		if code, body := n.get(path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if code, body := n.get("/logs/"); code != http.StatusOK || !strings.Contains(body, `<a href="syslog">syslog</a>`) {
		t.Errorf("the list: %d %q", code, body)
	}
	for _, path := range []string{"/logs/out", "/logs/away", "/logs/..%2f..%2fetc/passwd", "/logs/none"} {
		if code, body := n.get(path); code == http.StatusOK || strings.Contains(body, "secret") {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
}
