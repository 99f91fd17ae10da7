package joining

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/rowlock-io/rowlock/conformance/harness"
	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// compared is a pod of which each node runs one, with what the node's API tells of pods: a container that says things on both streams, one that
// was started again, one that was not started at all, and one with a terminal.
const compared = `
metadata: {name: web, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 1
  initContainers:
  - {name: first, image: %[1]s, command: [sh, -c, echo first]}
  containers:
  - name: says
    image: %[1]s
    command: [sh, -c, 'for i in 1 2 3; do echo out $i; sleep 0.3; echo err $i >&2; sleep 0.3; done; exec sleep 3600']
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
    readinessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
    livenessProbe: {exec: {command: ["true"]}, periodSeconds: 1}
  - name: again
    image: %[1]s
    command: [sh, -c, '[ -e /data/was ] && echo second && exec sleep 3600; touch /data/was; echo once; exit 3']
    volumeMounts: [{name: data, mountPath: /data}]
  - {name: never, image: "registry.k8s.io/nothing:1"}
  - {name: tty, image: %[1]s, tty: true, stdin: true, command: [sleep, "3600"]}
  volumes: [{name: data, emptyDir: {}}]
`

// nodeAPI is a node's, reached where it is.
type nodeAPI struct {
	name, address string
	dial          func(context.Context, string) (net.Conn, error)
	admin         *http.Client
	nobody        *http.Client
	uid           string // of its pod
}

// newNodeAPI reaches a node with the kubeconfig's certificate.
func newNodeAPI(t *testing.T, m *noderuntime.Machine, config *rest.Config) *nodeAPI {
	t.Helper()
	n := &nodeAPI{name: m.Name, address: net.JoinHostPort(m.Address, "10250"), dial: m.Dial}
	client := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{
			Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				DialContext:        func(ctx context.Context, _, address string) (net.Conn, error) { return m.Dial(ctx, address) },
				DisableCompression: true,
				TLSClientConfig:    &tls.Config{InsecureSkipVerify: true, Certificates: certificates}, //nolint:gosec // it is on this machine
			},
		}
	}
	pair, err := tls.X509KeyPair(config.CertData, config.KeyData)
	if err != nil {
		t.Fatal(err)
	}
	n.admin, n.nobody = client(pair), client()
	return n
}

// asked is a request to both nodes. NODE and POD in it are the node's name and its pod's UID.
type asked struct {
	method, path string // GET when there is no method
	header       http.Header
	body         string
	token        string // "-": nobody's; "": the administrator's certificate
	as           shape
}

// shape is what is the same of two answers.
type shape int

const (
	words    shape = iota // all but names and times
	fields                // the fields of JSON
	families              // the names and labels of series that the kubelet has
	status                // nothing but the code and the type
)

type answer struct {
	code int
	kind string
	body string
}

func (n *nodeAPI) ask(t *testing.T, a asked) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	text := strings.NewReplacer("NODE", n.name, "POD", n.uid)
	req, err := http.NewRequestWithContext(ctx, cmp.Or(a.method, http.MethodGet), "https://"+n.address+text.Replace(a.path), strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(req.Header, a.header)
	client := n.admin
	switch a.token {
	case "":
	case "-":
		client = n.nobody
	default:
		client = n.nobody
		req.Header.Set("Authorization", "Bearer "+a.token)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", req.Method, req.URL.Path, n.name, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s of %s: %v", req.Method, req.URL.Path, n.name, err)
	}
	return answer{resp.StatusCode, resp.Header.Get("Content-Type"), n.plain(string(body))}
}

var (
	identifier = regexp.MustCompile(`[0-9a-f]{64}`)
	moment     = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)`)
)

// plain takes out of an answer what is not the same on two nodes.
func (n *nodeAPI) plain(body string) string {
	body = strings.NewReplacer(n.uid, "POD", n.name, "NODE").Replace(body)
	return moment.ReplaceAllString(identifier.ReplaceAllString(body, "ID"), "TIME")
}

// jsonFields are the paths of what is in a document, without places in lists.
func jsonFields(t *testing.T, body string) map[string]bool {
	t.Helper()
	var document any
	if err := json.Unmarshal([]byte(body), &document); err != nil {
		t.Errorf("%v: %.300s", err, body)
	}
	found := map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, inner := range v {
				walk(path+"."+key, inner)
			}
		case []any:
			for _, inner := range v {
				walk(path+"[]", inner)
			}
		default:
			found[path] = true
		}
	}
	walk("", document)
	return found
}

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? `)
	labelName  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="(?:[^"\\]|\\.)*"`)
)

// seriesOf are names of series with those of their labels.
func seriesOf(body string) map[string]bool {
	found := map[string]bool{}
	for line := range strings.Lines(body) {
		m := seriesLine.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		var labels []string
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1])
		}
		slices.Sort(labels)
		found[m[1]+"{"+strings.Join(labels, ",")+"}"] = true
	}
	return found
}

// missing are those of one that the other does not have.
func missing(from, in map[string]bool) []string {
	var out []string
	for name := range from {
		if !in[name] {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestNodeAPI asks the API of a stock kubelet and that of the agent the same of the same pod.
func TestNodeAPI(t *testing.T) {
	noderuntime.Require(t)
	fabric := noderuntime.NewFabric(t)
	for _, image := range []*noderuntime.Image{noderuntime.Pause(t), noderuntime.Busybox(t)} {
		fabric.Registry.Add(t, image)
	}
	server := newServer(t, fabric)
	client, config := server.Client(t), server.Config(t)
	m, _ := newKubelet(t, fabric, server, "stock", "10.244.9.0/24")
	stock, ours := newNodeAPI(t, m, config), newNodeAPI(t, newAgent(t, fabric, server, "agent", "10.244.10.0/24"), config)
	for _, n := range []*nodeAPI{stock, ours} {
		n.run(t, client)
	}
	nobody := token(t, client, "nobody")
	measures := token(t, client, "measures", "metrics", "healthz", "pods")
	for _, a := range requests(nobody, measures) {
		name := cmp.Or(a.method, http.MethodGet) + " " + a.path
		if a.token != "" {
			name += map[string]string{"-": " by nobody", nobody: " without rights", measures: " by who measures"}[a.token]
		}
		t.Run(name, func(t *testing.T) {
			want, got := stock.ask(t, a), ours.ask(t, a)
			// Where the kubelet says nothing of the type it leaves clients to guess.
			if want.code != got.code || want.kind != "" && kindOf(want.kind) != kindOf(got.kind) {
				t.Errorf("%d %s, the kubelet %d %s\n%.300s\n%.300s", got.code, got.kind, want.code, want.kind, got.body, want.body)
				return
			}
			var lacks, has []string
			switch a.as {
			case words:
				if want.body != got.body {
					t.Errorf("%.500q, the kubelet %.500q", got.body, want.body)
				}
			case fields:
				in, of := jsonFields(t, got.body), jsonFields(t, want.body)
				lacks, has = missing(of, in), missing(in, of)
			case families:
				in, of := seriesOf(got.body), seriesOf(want.body)
				lacks, has = missing(of, in), missing(in, of)
			case status:
			}
			path, _, _ := strings.Cut(a.path, "?")
			path = strings.TrimSuffix(path, "/")
			lacks = slices.DeleteFunc(lacks, func(name string) bool { return known(path, name, lacking) })
			has = slices.DeleteFunc(has, func(name string) bool { return known(path, name, having) })
			if len(lacks) > 0 || len(has) > 0 {
				t.Errorf("there is not\n\t%s\nthere is, and not at the kubelet,\n\t%s", strings.Join(lacks, "\n\t"), strings.Join(has, "\n\t"))
			}
		})
	}
}

// kindOf is a media type as clients compare it.
func kindOf(text string) string {
	return strings.ToLower(strings.ReplaceAll(text, " ", ""))
}

// known tells whether a difference is one of those that are meant.
func known(path, name string, all map[string][]string) bool {
	return slices.ContainsFunc(all[path], func(pattern string) bool { return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(name) })
}

// newAgent joins a machine with the agent.
func newAgent(t *testing.T, fabric *noderuntime.Fabric, server *harness.Server, name, pods string) *noderuntime.Machine {
	t.Helper()
	m := fabric.NewMachine(t, name)
	m.Containerd(t)
	m.Bridge(t, pods)
	m.Install(t, harness.Rowlock(t))
	// How full the disk is that tests run on is not the nodes' matter.
	m.Start(t, "/opt/bin/rowlock", append(noderuntime.JoinFlags(t, server), "--eviction-hard=memory.available<100Mi")...)
	return m
}

// run runs the pod on the node, in a namespace of the node's name, and waits until there is something to tell of it.
func (n *nodeAPI) run(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.name}}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(fmt.Appendf(nil, compared, noderuntime.BusyboxImage), pod); err != nil {
		t.Fatal(err)
	}
	pod.Spec.NodeName = n.name
	pod.Spec.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	until := func(what string, f func(context.Context) (bool, error)) {
		t.Helper()
		if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, patience, true, f); err != nil {
			t.Fatalf("%s: %s: %v", n.name, what, err)
		}
	}
	until("the service account", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(n.name).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
	until("the node", func(ctx context.Context) (bool, error) {
		node, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		return err == nil && slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		}), nil
	})
	created, err := client.CoreV1().Pods(n.name).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	n.uid = string(created.UID)
	until("the pod", func(ctx context.Context) (bool, error) {
		pod, err := client.CoreV1().Pods(n.name).Get(ctx, "web", metav1.GetOptions{})
		if err != nil || len(pod.Status.ContainerStatuses) != 4 {
			return false, nil //nolint:nilerr // it may come
		}
		for _, c := range pod.Status.ContainerStatuses {
			switch {
			case c.Name == "never" && (c.State.Waiting == nil || c.State.Waiting.Reason != "ImagePullBackOff"), c.Name != "never" && c.State.Running == nil,
				c.Name == "again" && c.RestartCount == 0, c.Name == "says" && time.Since(c.State.Running.StartedAt.Time) < 4*time.Second, c.Name == "says" && !c.Ready:
				return false, nil
			}
		}
		return true, nil
	})
}
