package e2e

import (
	"encoding/xml"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

// result is how one test ended.
type result struct {
	Name   string
	Status string // passed, failed, timedout, panicked, skipped …; missing when nothing was reported
	Took   time.Duration
	Why    string
	Log    string // the end of what it printed
}

func (r result) passed() bool { return r.Status == "passed" }

// missing is the status of a test that was asked for and not found, or not reached.
const missing = "missing"

// readReport returns the results in a JUnit file as ginkgo writes it.
func readReport(file string) ([]result, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string  `xml:"name,attr"`
				Status  string  `xml:"status,attr"`
				Time    float64 `xml:"time,attr"`
				Failure *cause  `xml:"failure"`
				Error   *cause  `xml:"error"`
				Skipped *cause  `xml:"skipped"`
				Log     string  `xml:"system-err"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(data, &report); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	var results []result
	for _, s := range report.Suites {
		for _, c := range s.Cases {
			name, isTest := strings.CutPrefix(c.Name, "[It] ")
			// What runs around the tests matters only when it fails.
			if !isTest && c.Status == "passed" {
				continue
			}
			r := result{Name: name, Status: c.Status, Took: time.Duration(c.Time * float64(time.Second)), Log: end(c.Log, 40)}
			for _, why := range []*cause{c.Failure, c.Error, c.Skipped} {
				if why != nil {
					r.Why = why.String()
				}
			}
			if isTest && c.Status == "skipped" && r.Why == "skipped" {
				continue // not in the focus
			}
			results = append(results, r)
		}
	}
	slices.SortFunc(results, func(a, b result) int { return strings.Compare(a.Name, b.Name) })
	return results, nil
}

type cause struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

func (c *cause) String() string {
	if why := strings.TrimSpace(c.Message); why != "" {
		return why
	}
	return strings.TrimSpace(c.Text)
}

// complete adds a result for each name that has none.
func complete(results []result, names []string) []result {
	have := map[string]bool{}
	for _, r := range results {
		have[r.Name] = true
	}
	for _, name := range names {
		if !have[name] {
			results = append(results, result{Name: name, Status: missing, Why: "no such test, or the run ended before it"})
		}
	}
	return results
}

// table shows the results, those that did not pass last and with the reason.
func table(results []result) string {
	var b strings.Builder
	counts := map[string]int{}
	line := func(r result) {
		counts[r.Status]++
		fmt.Fprintf(&b, "%-8s %6.1fs  %s\n", r.Status, r.Took.Seconds(), r.Name)
	}
	for _, r := range results {
		if r.passed() {
			line(r)
		}
	}
	for _, r := range results {
		if !r.passed() {
			line(r)
			for why := range strings.SplitSeq(abbreviate(r.Why), "\n") {
				fmt.Fprintf(&b, "                  %s\n", why)
			}
		}
	}
	fmt.Fprintf(&b, "%d tests", len(results))
	for _, status := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&b, ", %d %s", counts[status], status)
	}
	return b.String()
}

// abbreviate keeps the beginning of a long explanation.
func abbreviate(why string) string {
	const most = 1200
	if len(why) <= most {
		return why
	}
	return strings.ToValidUTF8(why[:most], "") + " …"
}

// end returns the last lines of a text.
func end(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
