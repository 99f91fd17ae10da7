package e2e

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// mostAgain is how many failures of one run may be chance: more of them are not tried again.
const mostAgain = 5

// verdict is what a run of a suite found.
type verdict struct {
	suite   *suite
	results []result
	atFirst []result // how those ended that failed at first and passed when they were run again
	log     string   // the end of the server's log after the first failures
}

// failed are the results that are errors.
func (v *verdict) failed() []result {
	var failed []result
	for _, r := range v.results {
		if !r.passed() && (slices.Contains(v.suite.names, r.Name) || slices.Contains(v.suite.listed, r.Name) || !isTest(r.Name)) {
			failed = append(failed, r)
		}
	}
	return failed
}

// again puts the results of a second attempt in the place of failures of the first.
func (v *verdict) again(second []result) {
	for _, r := range second {
		i := slices.IndexFunc(v.results, func(first result) bool { return first.Name == r.Name })
		switch {
		case i < 0: // what surrounds the tests
			v.results = append(v.results, r)
		case r.passed():
			v.atFirst = append(v.atFirst, v.results[i])
			v.results[i] = r
		}
	}
}

// String shows what did not pass, and what did not at first; nothing when all is well.
func (v verdict) String() string {
	var b strings.Builder
	show := func(how string, r result) {
		fmt.Fprintf(&b, "\n%s on %s, %s: %s\n%s\n", how, v.suite.target, v.suite.group.name, r.Name, indent(abbreviate(r.Why)))
		if r.Log != "" {
			fmt.Fprintf(&b, "the end of what it printed:\n%s\n", indent(r.Log))
		}
	}
	for _, r := range v.atFirst {
		show("FAILED AT FIRST, passed when run alone,", r)
	}
	for _, r := range v.failed() {
		show(strings.ToUpper(r.Status), r)
		if isTest(r.Name) {
			fmt.Fprintln(&b, command(v.suite.target, v.suite.group, r.Name))
		}
	}
	if b.Len() > 0 && v.log != "" {
		fmt.Fprintf(&b, "the end of the server's log then:\n%s\n", indent(v.log))
	}
	return b.String()
}

// isTest tells a test from what surrounds all.
func isTest(name string) bool { return strings.HasPrefix(name, "[sig-") }

func namesOf(results []result) []string {
	var names []string
	for _, r := range results {
		names = append(names, r.Name)
	}
	return names
}

func indent(text string) string { return "    " + strings.ReplaceAll(text, "\n", "\n    ") }

// command says how to run one test again.
func command(target harness.Target, g group, name string) string {
	return fmt.Sprintf("run it again, in conformance: ROWLOCK_TEST_TARGET=%s go test ./e2e -count=1 -v -timeout=60m -run=TestRun -args -out=/tmp/e2e -group=%s -focus='%s'",
		target, g.name, strings.ReplaceAll(focus([]string{name}), "'", `'\''`))
}
