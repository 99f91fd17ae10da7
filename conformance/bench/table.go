package bench

import (
	"fmt"
	"slices"
	"strings"
)

const mega = 1 << 20

// table shows results in Markdown: start and memory, then the phases, with how many times the reference needs what each
// other setup does. Figures are medians over the rounds; ratios are those of one round, as the median and [from–to].
func table(all []result) string {
	by := map[string][]result{}
	var names []string
	for _, r := range all {
		if by[r.setup] == nil {
			names = append(names, r.setup)
		}
		by[r.setup] = append(by[r.setup], r)
	}
	t := new(strings.Builder)
	start(t, names, by)
	for _, v := range views {
		v.write(t, names, by)
	}
	return t.String()
}

func start(t *strings.Builder, names []string, by map[string][]result) {
	head(t, "", names)
	row := func(name, format string, of func(result) float64) {
		fmt.Fprintf(t, "| %s", name)
		for _, n := range names {
			fmt.Fprintf(t, " | "+format, median(values(by[n], of)))
		}
		t.WriteString(" |\n")
	}
	row("start to `/readyz` 200", "%.2f s", func(r result) float64 { return r.ready.Seconds() })
	row("CPU by then", "%.2f s", func(r result) float64 { return r.atReady.CPU })
	row("memory idle (PSS)", "%.0f MB", func(r result) float64 { return r.idle.PSS / mega })
	row("CPU idle, of a core", "%.2f %%", func(r result) float64 { return 100 * r.idleCPU })
	row("memory 5 s after the load (PSS)", "%.0f MB", func(r result) float64 { return r.after / mega })
	row("of which Postgres", "%.0f MB", func(r result) float64 { return r.afterDB / mega })
	row("highest after any phase (PSS)", "%.0f MB", func(r result) float64 { return r.highest / mega })
	row("of which Postgres", "%.0f MB", func(r result) float64 { return r.highestDB / mega })
	t.WriteString("\n")
}

// view is one figure of the phases.
type view struct {
	title string
	of    func(phase) float64
	unit  func(float64) string
	less  bool // less is better
	alone bool // without ratios
}

var views = []view{
	{"CPU of all server processes for an operation", phase.cpu, seconds, true, false},
	{"Operations a second", func(p phase) float64 { return p.OpsPerSec }, func(v float64) string { return fmt.Sprintf("%.4g", v) }, false, false},
	{"Latency, p50", func(p phase) float64 { return p.P50 / 1000 }, seconds, true, false},
	{"Latency, p99", func(p phase) float64 { return p.P99 / 1000 }, seconds, true, false},
	{"Cores busy with neither servers nor load", phase.others, cores, true, true},
}

// quiet is how many cores may be busy with something else before a figure is in doubt.
const quiet = 0.1

func cores(v float64) string {
	if v > quiet {
		return fmt.Sprintf("**%.2f**", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func seconds(v float64) string {
	switch {
	case v >= 1:
		return fmt.Sprintf("%.2f s", v)
	case v >= 0.01:
		return fmt.Sprintf("%.1f ms", v*1e3)
	case v >= 0.001:
		return fmt.Sprintf("%.2f ms", v*1e3)
	}
	return fmt.Sprintf("%.0f µs", v*1e6)
}

func (v view) write(t *strings.Builder, names []string, by map[string][]result) {
	head(t, v.title, names)
	for _, phase := range phasesOf(by) {
		fmt.Fprintf(t, "| %s", phase)
		for _, n := range names {
			figures := map[int]float64{}
			for _, r := range by[n] {
				if x, ok := v.figure(r, phase); ok {
					figures[r.round] = x
				}
			}
			if len(figures) == 0 {
				fmt.Fprintf(t, " | %s", failures(by[n], phase))
				continue
			}
			fmt.Fprintf(t, " | %s", v.unit(median(mapValues(figures))))
			if ratios := v.ratios(by[reference], figures, phase); n != reference && !v.alone && len(ratios) > 0 {
				fmt.Fprintf(t, ", **%.1f**", median(ratios))
				if len(ratios) > 1 {
					fmt.Fprintf(t, " [%.1f–%.1f]", slices.Min(ratios), slices.Max(ratios))
				}
			}
		}
		t.WriteString(" |\n")
	}
	t.WriteString("\n")
}

// ratios are how many times better a setup's figures are than the reference's of the same rounds.
func (v view) ratios(against []result, figures map[int]float64, phase string) []float64 {
	var ratios []float64
	for _, r := range against {
		theirs, ok := v.figure(r, phase)
		ours, has := figures[r.round]
		if !v.less {
			theirs, ours = ours, theirs
		}
		if ok && has && ours > 0 {
			ratios = append(ratios, theirs/ours)
		}
	}
	return ratios
}

func (v view) figure(r result, name string) (float64, bool) {
	i := slices.IndexFunc(r.phases, func(p phase) bool { return p.Name == name && p.Errors == 0 })
	if i < 0 {
		return 0, false
	}
	return v.of(r.phases[i]), true
}

// failures says why a setup has no figure of a phase.
func failures(rs []result, name string) string {
	var errors int
	for _, r := range rs {
		for _, p := range r.phases {
			if p.Name == name {
				errors += p.Errors
			}
		}
	}
	if errors == 0 {
		return "–"
	}
	return fmt.Sprintf("%d errors", errors)
}

// phasesOf are the names of the phases in the order in which they ran.
func phasesOf(by map[string][]result) []string {
	var longest []phase
	for _, rs := range by {
		for _, r := range rs {
			if len(r.phases) > len(longest) {
				longest = r.phases
			}
		}
	}
	var names []string
	for _, p := range longest {
		names = append(names, p.Name)
	}
	return names
}

func head(t *strings.Builder, title string, names []string) {
	fmt.Fprintf(t, "| %s | %s |\n|%s\n", title, strings.Join(names, " | "), strings.Repeat(" --- |", len(names)+1))
}

func values(rs []result, of func(result) float64) []float64 {
	var vs []float64
	for _, r := range rs {
		vs = append(vs, of(r))
	}
	return vs
}

func mapValues(m map[int]float64) []float64 {
	var vs []float64
	for _, v := range m {
		vs = append(vs, v)
	}
	return vs
}

// median is the middle one, or the mean of the two; 0 of none.
func median(vs []float64) float64 {
	vs = slices.Sorted(slices.Values(vs))
	n := len(vs)
	if n == 0 {
		return 0
	}
	return (vs[(n-1)/2] + vs[n/2]) / 2
}
