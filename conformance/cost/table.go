package cost

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const mega = 1 << 20

// row is one figure of the table, of as many rounds as there are.
type row struct {
	name string
	unit string // how it is printed
	of   func([]result) float64
}

// each is the middle of the rounds' figures.
func each(of func(result) float64) func([]result) float64 {
	return func(all []result) float64 {
		figures := make([]float64, len(all))
		for i, r := range all {
			figures[i] = of(r)
		}
		return quantile(figures, 0.5)
	}
}

// pooled is a quantile of all rounds' pods, in milliseconds.
func pooled(of func(result) []time.Duration, q float64) func([]result) float64 {
	return func(all []result) float64 {
		var figures []float64
		for _, r := range all {
			for _, d := range of(r) {
				figures = append(figures, d.Seconds()*1000)
			}
		}
		return quantile(figures, q)
	}
}

// quantile is between the two figures that it lies between.
func quantile(figures []float64, q float64) float64 {
	if len(figures) == 0 {
		return 0
	}
	slices.Sort(figures)
	at := q * float64(len(figures)-1)
	below := int(at)
	above := min(below+1, len(figures)-1)
	return figures[below] + (at-float64(below))*(figures[above]-figures[below])
}

func rows() []row {
	single, burst := func(r result) []time.Duration { return r.singles }, func(r result) []time.Duration { return r.burst }
	idle := func(s stretch) float64 { return 100 * s.cpu / s.took.Seconds() }
	perPod := func(cpu float64, pods int) float64 { return 1000 * cpu / float64(pods) }
	return []row{
		{"memory (RSS), no pods", "%.1f MB", each(func(r result) float64 { return r.empty.memory.RSS / mega })},
		{"of which anonymous", "%.1f MB", each(func(r result) float64 { return r.empty.memory.Anonymous / mega })},
		{fmt.Sprintf("memory (RSS), %d pods", *singles), "%.1f MB", each(func(r result) float64 { return r.full.memory.RSS / mega })},
		{"of which anonymous", "%.1f MB", each(func(r result) float64 { return r.full.memory.Anonymous / mega })},
		{"memory (RSS), highest ever", "%.1f MB", each(func(r result) float64 { return r.most / mega })},
		{"memory (RSS), after all pods went", "%.1f MB", each(func(r result) float64 { return r.after.RSS / mega })},
		{"goroutines, no pods", "%.0f", each(func(r result) float64 { return float64(r.empty.goroutines) })},
		{fmt.Sprintf("goroutines, %d pods", *singles), "%.0f", each(func(r result) float64 { return float64(r.full.goroutines) })},
		{"CPU idle, no pods, of a core", "%.2f %%", each(func(r result) float64 { return idle(r.empty.stretch) })},
		{fmt.Sprintf("CPU idle, %d pods, of a core", *singles), "%.2f %%", each(func(r result) float64 { return idle(r.full.stretch) })},
		{"the runtime's meanwhile", "%.2f %%", each(func(r result) float64 { return 100 * r.full.runtime / r.full.took.Seconds() })},
		{"requests a minute, no pods", "%.0f", each(func(r result) float64 { return r.empty.minute() })},
		{fmt.Sprintf("requests a minute, %d pods", *singles), "%.0f", each(func(r result) float64 { return r.full.minute() })},
		{"one pod's start, p50", "%.0f ms", pooled(single, 0.5)},
		{"one pod's start, p99", "%.0f ms", pooled(single, 0.99)},
		{"CPU for it", "%.0f ms", each(func(r result) float64 { return perPod(r.one.cpu, *singles) })},
		{"requests for it", "%.1f", each(func(r result) float64 { return r.one.count() / float64(*singles) })},
		{fmt.Sprintf("%d pods at once, all ready", *many), "%.1f s", each(func(r result) float64 { return r.all.took.Seconds() })},
		{"half of them ready", "%.1f s", func(all []result) float64 { return pooled(burst, 0.5)(all) / 1000 }},
		{"CPU for a pod", "%.0f ms", each(func(r result) float64 { return perPod(r.all.cpu, *many) })},
		{"the runtime's", "%.0f ms", each(func(r result) float64 { return perPod(r.all.runtime, *many) })},
		{"requests for a pod", "%.1f", each(func(r result) float64 { return r.all.count() / float64(*many) })},
		{fmt.Sprintf("%d pods' end", *many), "%.1f s", each(func(r result) float64 { return r.end.took.Seconds() })},
		{"CPU for a pod", "%.0f ms", each(func(r result) float64 { return perPod(r.end.cpu, *many) })},
		{"start until the node is ready", "%.1f s", each(func(r result) float64 { return r.join.Seconds() })},
		{"others' CPU while it is idle, of a core", "%.0f %%", each(func(r result) float64 { return 100 * r.full.others / r.full.took.Seconds() })},
	}
}

// table shows both in Markdown: the middle of all rounds, and how the first is to the second: the middle of rounds, and in brackets the
// lowest and the highest. Requests by what they are for come after it.
func table(names []string, all map[string][]result) string {
	t := new(strings.Builder)
	fmt.Fprintf(t, "| | %s | |\n|---|%s---|\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)))
	for _, r := range rows() {
		fmt.Fprintf(t, "| %s |", r.name)
		for _, name := range names {
			fmt.Fprintf(t, " "+r.unit, r.of(all[name]))
			var rounds []string
			for i := range all[name] {
				rounds = append(rounds, strings.Fields(fmt.Sprintf(r.unit, r.of(all[name][i:i+1])))[0])
			}
			fmt.Fprintf(t, " (%s) |", strings.Join(rounds, ", "))
		}
		fmt.Fprintf(t, " %s |\n", ratio(r, names, all))
	}
	for _, name := range names {
		for what, s := range map[string]func(result) stretch{
			"idle with pods": func(r result) stretch { return r.full.stretch }, "one by one": func(r result) stretch { return r.one },
			"at once": func(r result) stretch { return r.all }, "end": func(r result) stretch { return r.end },
		} {
			last := s(all[name][len(all[name])-1])
			fmt.Fprintf(t, "\n%s, requests, %s, in the last round:", name, what)
			for _, request := range slices.Sorted(maps.Keys(last.requests)) {
				fmt.Fprintf(t, " %s %d;", request, last.requests[request])
			}
		}
	}
	return t.String()
}

func ratio(r row, names []string, all map[string][]result) string {
	if len(names) != 2 {
		return ""
	}
	var ratios []float64
	for i := range min(len(all[names[0]]), len(all[names[1]])) {
		if peer := r.of(all[names[1]][i : i+1]); peer > 0 {
			ratios = append(ratios, r.of(all[names[0]][i:i+1])/peer)
		}
	}
	if len(ratios) == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f [%.2f–%.2f]", quantile(ratios, 0.5), slices.Min(ratios), slices.Max(ratios))
}

func (s stretch) count() (requests float64) {
	for _, n := range s.requests {
		requests += float64(n)
	}
	return requests
}

func (s stretch) minute() float64 { return s.count() * 60 / s.took.Seconds() }
