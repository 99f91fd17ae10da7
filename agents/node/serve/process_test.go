package serve_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/rowlock-io/rowlock/agents/node/serve"
)

type flags map[string]string

func (f flags) GetFlagz() map[string]string { return f }

// The process tells of itself and lets its log be changed, as a kubelet does.
func TestProcess(t *testing.T) {
	t.Parallel()
	var set []int
	n := newNode(t, func(c *serve.Config) {
		c.Flags = flags{"max-pods": "110"}
		c.SetVerbosity = func(level int) error {
			if level > 10 {
				return errors.New("too much")
			}
			set = append(set, level)
			return nil
		}
	})
	for text, want := range map[string]struct {
		code int
		body string
	}{
		"4":                       {200, "successfully set klog.logging.verbosity to 4"},
		"x":                       {400, "strconv.ParseUint: parsing \"x\": invalid syntax"},
		"-1":                      {400, "strconv.ParseUint: parsing \"-1\": invalid syntax"},
		"11":                      {400, "failed set klog.logging.verbosity 11: too much"},
		strings.Repeat("1", 5000): {400, "error reading request body: http: request body too large"},
	} {
		if code, body := n.do(n.as("admin"), http.MethodPut, "/debug/flags/v", text); code != want.code || body != want.body {
			t.Errorf("%.20s: %d %s", text, code, body)
		}
	}
	if len(set) != 1 || set[0] != 4 {
		t.Errorf("it was set to %v", set)
	}
	for path, want := range map[string]string{
		"/flagz": "\nmax-pods", "/statusz": "kubelet statusz", "/metrics/slis": "", "/debug/flags/v": "",
	} {
		code, body := n.get(path)
		if path == "/debug/flags/v" {
			if code != http.StatusNotAcceptable {
				t.Errorf("%s: %d %s", path, code, body)
			}
			continue
		}
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	silent := newNode(t)
	if code, body := silent.get("/flagz"); code != http.StatusNotFound {
		t.Errorf("no flags: %d %s", code, body)
	}
	if code, body := silent.get("/debug/flags/v"); code != http.StatusMethodNotAllowed || body != "flags endpoint is disabled." {
		t.Errorf("no verbosity: %d %s", code, body)
	}
}

// What the runtime does not measure, or not well, is told from the node's own figures, with the labels that dashboards select by.
func TestContainerSeries(t *testing.T) {
	t.Parallel()
	n := newNode(t, func(c *serve.Config) {
		c.Object = func() *corev1.Node {
			node := &corev1.Node{}
			node.Status.Capacity = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2"), corev1.ResourceMemory: resource.MustParse("1Gi")}
			node.Status.NodeInfo = corev1.NodeSystemInfo{BootID: "b", MachineID: "m", SystemUUID: "u"}
			return node
		}
		c.PodCgroup = func(uid string) string { return "/kubepods/pod" + uid }
	})
	n.run(newPod("web"))
	id := n.runtime.Container("c").Id
	code, body := n.get("/metrics/cadvisor")
	ofContainer := `{container="c",cpu="total",id="` + id + `",image="busybox",name="` + id + `",namespace="default",pod="web"} `
	for _, want := range []string{
		"container_cpu_usage_seconds_total" + ofContainer,
		`container_cpu_usage_seconds_total{container="",cpu="total",id="/",image="",name="",namespace="",pod=""} `,
		`container_memory_working_set_bytes{container="",id="/kubepods/poduid-of-web",image="",name="",namespace="default",pod="web"} `,
		`container_memory_working_set_bytes{container="c",id="` + id + `",image="busybox",name="` + id + `",namespace="default",pod="web"} `,
		`container_network_receive_bytes_total{container="",id="",image="",interface="eth0",name="",namespace="default",pod="web"} `,
		`container_memory_usage_bytes{id="` + id + `",name="c"} `, // the runtime's own
		`machine_cpu_cores{boot_id="b",machine_id="m",system_uuid="u"} 2`, `machine_memory_bytes{boot_id="b",machine_id="m",system_uuid="u"} 1.073741824e+09`,
		"container_scrape_error 0", "machine_scrape_error 0",
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%d, without %q:\n%s", code, want, body)
		}
	}
	if strings.Contains(body, `container_memory_usage_bytes{container="c"`) {
		t.Errorf("what the runtime measures is told twice:\n%s", body)
	}
	n.runtime.Stop()
	if code, body := n.get("/metrics/cadvisor"); code != http.StatusOK || !strings.Contains(body, "container_scrape_error 1") {
		t.Errorf("without a runtime: %d %s", code, body)
	}
}
