package cost

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/noderuntime"
)

var (
	rounds     = flag.Int("rounds", 2, "how often each is measured; who is first changes from round to round")
	setupsFlag = flag.String("setups", "agent,kubelet", "what to measure, separated by commas")
	singles    = flag.Int("singles", 50, "how many pods are started one after the other")
	many       = flag.Int("pods", 100, "how many pods are started at once")
	settling   = flag.Duration("settle", 6*time.Second, "how long nothing happens before a node is taken to be idle")
	idle       = flag.Duration("idle", 20*time.Second, "how long idle nodes are watched")
	profiles   = flag.String("profiles", "", "directory for profiles, and what nodes count")
)

// BenchmarkNodes measures both, one after the other, and prints a table.
func BenchmarkNodes(b *testing.B) {
	noderuntime.Require(b)
	c := newCluster(b)
	all := map[string][]result{}
	names := strings.Split(*setupsFlag, ",")
	for round := range *rounds {
		order := slices.Clone(names)
		if round%2 == 1 {
			slices.Reverse(order)
		}
		for _, name := range order {
			b.Run(fmt.Sprintf("%s/%d", name, round+1), func(b *testing.B) {
				if b.N > 1 {
					b.Skip("it is measured once: -benchtime 1x")
				}
				n := c.newNode(b, name, fmt.Sprintf("%s-%d", name, round+1))
				all[name] = append(all[name], n.measure(b))
			})
		}
	}
	if !b.Failed() {
		fmt.Printf("\n%s\n", table(names, all))
	}
}
