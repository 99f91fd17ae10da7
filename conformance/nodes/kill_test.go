package nodes

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

// keep runs on whatever happens to others, with a volume of each kind.
const keep = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: keep}
spec:
  replicas: 2
  selector: {matchLabels: {app: keep}}
  template:
    metadata: {labels: {app: keep}}
    spec:
      initContainers:
      - {name: first, image: IMAGE, command: [sh, -c, "echo kept >/d/kept; mkdir /d/sub"], volumeMounts: [{name: d, mountPath: /d}]}
      - {name: beside, image: IMAGE, restartPolicy: Always, command: [sleep, "3600"]}
      containers:
      - name: c
        image: IMAGE
        command: [sleep, "3600"]
        readinessProbe: {exec: {command: [cat, /d/kept]}, periodSeconds: 1}
        volumeMounts: [{name: d, mountPath: /d}, {name: d, mountPath: /s, subPath: sub}, {name: m, mountPath: /m}, {name: p, mountPath: /p}]
      volumes:
      - {name: d, emptyDir: {}}
      - {name: m, emptyDir: {medium: Memory}}
      - {name: p, downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}]}}
`

// TestKills kills the agent at random moments while a Deployment is rolled, ROWLOCK_NODES_KILLS times. After each time what ran is as it
// was, the Deployment comes to its end, and nothing is left of pods that are gone.
func TestKills(t *testing.T) {
	rounds, err := strconv.Atoi(os.Getenv("ROWLOCK_NODES_KILLS"))
	if err != nil {
		rounds = 1
	}
	seed, err := strconv.ParseUint(os.Getenv("ROWLOCK_NODES_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("ROWLOCK_NODES_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	c := newServer(t)
	n := c.join(t, "one")
	n.join = []string{"agent"}
	c.kubectl(t, strings.ReplaceAll(keep, "IMAGE", noderuntime.BusyboxImage)+"---\n"+fmt.Sprintf(web, 3), "apply", "-f", "-")
	kept := c.ready(t, "keep", 2)
	c.ready(t, "web", 3)
	for round := range rounds {
		c.kubectl(t, "", "rollout", "restart", "deployment", "web")
		for range 1 + r.IntN(3) {
			time.Sleep(time.Duration(r.IntN(3000)) * time.Millisecond)
			n.kill(t)
			time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
			n.start(t)
		}
		c.kubectl(t, "", "rollout", "status", "deployment", "web", "--timeout=120s")
		c.ready(t, "web", 3)
		if diff := cmp.Diff(lives(kept), lives(c.ready(t, "keep", 2))); diff != "" {
			t.Fatalf("round %d: what ran before -, after +:\n%s", round, diff)
		}
		c.tidy(t, n)
	}
	c.kubectl(t, "", "delete", "deployments", "--all", "--timeout=60s")
	c.kubectl(t, "", "delete", "pods", "--all", "--timeout=60s")
	c.spotless(t, n)
}

// tidy waits until a machine has nothing of pods that are not there, and of those that are one sandbox each.
func (c *cluster) tidy(t *testing.T, n *node) {
	t.Helper()
	var left []string
	c.eventually(t, "nothing is left of pods that are gone", func(ctx context.Context) (bool, error) {
		list, err := c.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		if err != nil {
			return false, err
		}
		sandboxes := map[string]int{}
		left = slices.DeleteFunc(n.left(t), func(line string) bool {
			for _, p := range list.Items {
				if strings.Contains(line, string(p.UID)) {
					if strings.HasPrefix(line, "sandbox ") {
						sandboxes[p.Name]++
					}
					return true
				}
			}
			return false
		})
		for name, count := range sandboxes {
			if count > 1 {
				left = append(left, fmt.Sprintf("%d sandboxes of %s", count, name))
			}
		}
		return len(left) == 0, nil
	})
}
