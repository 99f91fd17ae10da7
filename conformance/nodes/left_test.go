package nodes

import (
	"context"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// join joins a machine, with arguments of its agent's, and waits until it takes pods.
func (c *cluster) join(t *testing.T, name string, args ...string) *node {
	t.Helper()
	n := c.prepare(t, name)
	n.join = append(n.join, args...)
	n.start(t)
	c.nodes = append(c.nodes, n)
	c.joined(t)
	return n
}

// joined waits until the nodes take pods.
func (c *cluster) joined(t *testing.T) {
	t.Helper()
	harness.AwaitNodes(t, c, len(c.nodes))
	c.eventually(t, "the service account", func(ctx context.Context) (bool, error) {
		_, err := c.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{})
		return err == nil, nil
	})
}

// leftovers are what is on a machine of pods: sandboxes, mounts, cgroups, directories.
const leftovers = `
awk '$2 ~ /^\/var\/lib\/rowlock\/agent\/pods\// {print "mount " $2}' /proc/mounts
find /sys/fs/cgroup -type d -path '*kubepods*/pod*' -prune | sed 's/^/cgroup /'
find /var/lib/rowlock/agent/pods -mindepth 1 -maxdepth 1 | sed 's/^/directory /'
find /var/log/pods -mindepth 1 -maxdepth 1 | sed 's/^/logs /'
`

// left are what a machine has of pods.
func (n *node) left(t *testing.T) []string {
	t.Helper()
	service, _ := n.CRI(t)
	sandboxes, err := service.ListPodSandbox(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, s := range sandboxes {
		all = append(all, "sandbox "+s.GetMetadata().GetName()+" "+s.GetMetadata().GetUid())
	}
	if out := strings.TrimSpace(n.Run(t, "sh", "-c", leftovers)); out != "" {
		all = append(all, strings.Split(out, "\n")...)
	}
	return all
}

// spotless waits until a machine has nothing of pods.
func (c *cluster) spotless(t *testing.T, n *node) {
	t.Helper()
	var left []string
	t.Cleanup(func() {
		if t.Failed() && len(left) > 0 {
			t.Logf("left on %s:\n%s", n.Name, strings.Join(left, "\n"))
		}
	})
	c.eventually(t, "nothing is left on "+n.Name, func(context.Context) (bool, error) {
		left = n.left(t)
		return len(left) == 0, nil
	})
}
