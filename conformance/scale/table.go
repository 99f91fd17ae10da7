package scale

import (
	"fmt"
	"strings"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

const mega = 1 << 20

// table shows results in Markdown, a row each, and after those of the same size as upstream's how they compare.
func table(all []result) string {
	if len(all) == 0 {
		return ""
	}
	t := new(strings.Builder)
	t.WriteString("| nodes, pods | | pods/s | CPU for a pod | get p50 / p99 | list p50 / p99 | create p50 / p99 | RSS (anonymous): idle | peak | settled | CPU idle |\n")
	t.WriteString("|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, r := range all {
		pods := float64(r.size.pods)
		fmt.Fprintf(t, "| %d, %d | %s | %.0f | %.1f ms", r.size.nodes, r.size.pods, r.setup, pods/r.ready.Seconds(), r.cpu*1000/pods)
		if r.databaseCPU > 0 {
			fmt.Fprintf(t, " + %.1f", r.databaseCPU*1000/pods)
		}
		for _, verb := range []string{"get", "list", "create"} {
			fmt.Fprintf(t, " | %.1f / %.0f ms", r.p50[verb].Seconds()*1000, r.p99[verb].Seconds()*1000)
		}
		for _, u := range []harness.Usage{r.idle, r.peak, r.settled} {
			fmt.Fprintf(t, " | %.0f (%.0f) MB", u.RSS/mega, u.Anonymous/mega)
		}
		if r.database.PSS > 0 {
			fmt.Fprintf(t, " + %.0f", r.database.PSS/mega)
		}
		fmt.Fprintf(t, " | %.1f %% |\n", r.idleCPU*100)
	}
	for _, r := range all {
		for _, peer := range all {
			if peer.setup != "upstream" || peer.size != r.size || r.setup == peer.setup {
				continue
			}
			fmt.Fprintf(t, "\n%d nodes, %d pods, %s beside upstream: %.2f times the pods/s, %.2f of the CPU; RSS idle %.2f, peak %.2f, settled %.2f; p99 get %.2f, list %.2f, create %.2f\n",
				r.size.nodes, r.size.pods, r.setup, peer.ready.Seconds()/r.ready.Seconds(), (r.cpu+r.databaseCPU)/peer.cpu,
				r.idle.RSS/peer.idle.RSS, r.peak.RSS/peer.peak.RSS, r.settled.RSS/peer.settled.RSS,
				r.p99["get"].Seconds()/peer.p99["get"].Seconds(), r.p99["list"].Seconds()/peer.p99["list"].Seconds(),
				r.p99["create"].Seconds()/peer.p99["create"].Seconds())
		}
	}
	return t.String()
}
