package nodes

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// TestBehindRouter has a node to which the server can make no connection, and neither to its pods: all goes over the one that the agent made.
func TestBehindRouter(t *testing.T) {
	c := newCluster(t, "one")
	n := c.nodes[0]
	for _, rule := range []string{
		"table inet router",
		"chain inet router in { type filter hook prerouting priority raw; }",
		"rule inet router in ip saddr " + noderuntime.Gateway + " tcp flags & (fin|syn|rst|ack) == syn drop",
	} {
		n.Run(t, "nft", "add", rule)
	}
	c.kubectl(t, fmt.Sprintf(web, 1), "apply", "-f", "-")
	pod := c.ready(t, "web", 1)[0]
	name := pod.Name
	for _, address := range []string{pod.Status.HostIP + ":10250", pod.Status.PodIP + ":8080"} {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		if conn, err := c.fabric.Dial(ctx, address); err == nil {
			_ = conn.Close()
			t.Fatalf("the server can dial %s, so that this proves nothing", address)
		}
		cancel()
	}
	c.kubectl(t, "", "expose", "deployment", "web", "--port=80", "--target-port=8080")
	for path, want := range map[string]string{
		"/api/v1/nodes/one/proxy/healthz":                               "ok",
		"/api/v1/namespaces/default/pods/" + name + ":8080/proxy/":      name + "\n",
		"/api/v1/namespaces/default/pods/http:" + name + ":8080/proxy/": name + "\n",
		"/api/v1/namespaces/default/services/web:80/proxy/index.html":   name + "\n",
	} {
		c.eventually(t, path, func(ctx context.Context) (bool, error) {
			got, err := c.CoreV1().RESTClient().Get().AbsPath(path).DoRaw(ctx)
			return err == nil && string(got) == want, nil
		})
	}
	if got := c.kubectl(t, "", "logs", name); got != "serving "+name+"\n" {
		t.Errorf("the log is %q", got)
	}
	if got := c.kubectl(t, "to the pod", "exec", "-i", name, "--", "cat"); got != "to the pod" {
		t.Errorf("exec printed %q", got)
	}
	c.portForward(t, name)
	// What is large gets there and back.
	large := make([]byte, 64<<20)
	_, _ = rand.Read(large)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	c.kubectl(t, "", "cp", filepath.Join(dir, "a"), name+":/www/a")
	c.kubectl(t, "", "cp", name+":/www/a", filepath.Join(dir, "b"))
	if got, err := os.ReadFile(filepath.Join(dir, "b")); err != nil || !bytes.Equal(got, large) {
		t.Errorf("%d bytes of %d came back, %v", len(got), len(large), err)
	}
	// And again, when the server was killed and is there again.
	c.server.Kill(t)
	c.server.Start(t)
	c.eventually(t, "logs by a server that was started again", func(context.Context) (bool, error) {
		return strings.HasPrefix(c.kubectlMay(t, "logs", "--request-timeout=5s", name), "serving "), nil
	})
}
