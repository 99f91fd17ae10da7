package growth

import (
	"fmt"
	"strings"
	"time"
)

const mega = 1e6

func ms(d time.Duration) string { return fmt.Sprintf("%.3g", d.Seconds()*1000) }

// table shows results in Markdown, a column each.
func table(all []*result) string {
	if len(all) == 0 {
		return ""
	}
	t := new(strings.Builder)
	row := func(name string, cell func(r *result) string) {
		fmt.Fprintf(t, "| %s |", name)
		for _, r := range all {
			fmt.Fprintf(t, " %s |", cell(r))
		}
		t.WriteString("\n")
	}
	row("", func(r *result) string { return fmt.Sprintf("%d %s", r.n, r.kind.name) })
	t.WriteString("|---|" + strings.Repeat("---|", len(all)) + "\n")
	row("an object, encoded", func(r *result) string { return fmt.Sprintf("%.0f B", r.encoded) })
	row("filled at 64; CPU an object", func(r *result) string {
		return fmt.Sprintf("%.0f/s; %.0f µs", float64(r.n)/r.fill.Seconds(), r.fillCPU/float64(r.n)*1e6)
	})
	state := func(name string, of func(r *result) memory) {
		row(name+": RSS; PSS; anonymous; heap", func(r *result) string {
			m := of(r)
			return fmt.Sprintf("%.0f; %.0f; %.0f; %.0f MB", m.RSS/mega, m.PSS/mega, m.Anonymous/mega, m.heap/mega)
		})
		row(name+", an object: heap; anonymous; to encoded", func(r *result) string {
			m, n := of(r), float64(r.n)
			heap, all := (m.heap-r.idle.heap)/n, (m.Anonymous-r.idle.Anonymous)/n
			return fmt.Sprintf("%.0f; %.0f B; %.2f; %.2f", heap, all, heap/r.encoded, all/r.encoded)
		})
	}
	row("empty: RSS; heap", func(r *result) string { return fmt.Sprintf("%.0f; %.0f MB", r.idle.RSS/mega, r.idle.heap/mega) })
	state("filled", func(r *result) memory { return r.filled })
	state("read", func(r *result) memory { return r.read })
	state("started anew", func(r *result) memory { return r.restarted })
	row("highest RSS: filled; read; starting", func(r *result) string {
		return fmt.Sprintf("%.0f; %.0f; %.0f MB", r.filled.peak/mega, r.read.peak/mega, r.started.peak/mega)
	})
	for i, way := range all[0].lists {
		row(way.name+": first byte, all", func(r *result) string {
			return fmt.Sprintf("%s; %s ms", ms(r.lists[i].first), ms(r.lists[i].all))
		})
	}
	row("create at 1: p50 / p99 / worst", func(r *result) string { return r.create.String() })
	row("restart: ready; CPU; then the first 500", func(r *result) string {
		return fmt.Sprintf("%.2f s; %.2f s; %s ms", r.ready.Seconds(), r.readyCPU, ms(r.firstList))
	})
	row("compaction", func(r *result) string { return fmt.Sprintf("%.2f s", r.compaction.Seconds()) })
	row("create at 1 meanwhile", func(r *result) string { return r.during.String() })
	row("database: before; after", func(r *result) string {
		return fmt.Sprintf("%.0f; %.0f MB", r.database/mega, r.afterwards/mega)
	})
	return t.String()
}
