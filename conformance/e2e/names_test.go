package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestListed(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names []string
		want  string
	}{
		{names: nil},
		{names: []string{"[sig-a] one", "[sig-a] two", "[sig-b] one"}},
		{names: []string{"[sig-a] one", "[sig-a] one"}, want: "line 2 is there twice: [sig-a] one"},
		{names: []string{"[sig-b] one", "[sig-a] one"}, want: "line 2 is out of order: [sig-a] one"},
	} {
		var got string
		if err := listed(tc.names); err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("listed(%q) = %q, want %q", tc.names, got, tc.want)
		}
	}
}

func TestAddNames(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "passed.txt")
	for _, step := range []struct {
		add  []string
		more int
		want string
	}{
		{add: []string{"c", "a", "c"}, more: 2, want: "a\nc\n"},
		{add: []string{"a"}, more: 0, want: "a\nc\n"},
		{add: nil, more: 0, want: "a\nc\n"},
		{add: []string{"b"}, more: 1, want: "a\nb\nc\n"},
	} {
		more, err := addNames(file, step.add)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if more != step.more || string(got) != step.want {
			t.Errorf("after %q: %d more, %q; want %d, %q", step.add, more, got, step.more, step.want)
		}
	}
}

func TestFocus(t *testing.T) {
	t.Parallel()
	names := []string{"[sig-node] Secrets should patch a secret [Conformance]", "[sig-apps] a.b (c) `d`"}
	re := regexp.MustCompile(focus(names))
	// ginkgo matches the name with the description of the suite before it.
	for _, name := range names {
		if !re.MatchString("Kubernetes e2e suite " + name) {
			t.Errorf("%s does not match %q", re, name)
		}
	}
	for _, name := range []string{names[0] + " and more", "[sig-apps] axb (c) `d`", "s Secrets should patch a secret [Conformance]"} {
		if re.MatchString(name) {
			t.Errorf("%s matches %q", re, name)
		}
	}
}

func TestSample(t *testing.T) {
	t.Parallel()
	all := map[string][]string{"many": strings.Fields("a b c d[Slow] e f g h"), "few": strings.Fields("x y")}
	first := sample(all, 3, 7)
	if diff := cmp.Diff(first, sample(all, 3, 7)); diff != "" {
		t.Errorf("the same seed draws another sample:\n%s", diff)
	}
	seen := map[string]bool{}
	for seed := range uint64(100) {
		drawn := sample(all, 3, seed)
		if n := len(drawn["many"]) + len(drawn["few"]); len(drawn["many"]) == 0 || len(drawn["few"]) == 0 || n < 3 || n > 4 {
			t.Errorf("seed %d draws %q", seed, drawn)
		}
		for _, names := range drawn {
			if err := listed(names); err != nil {
				t.Errorf("seed %d draws %q: %v", seed, drawn, err)
			}
			for _, name := range names {
				seen[name] = true
			}
		}
	}
	if diff := cmp.Diff(strings.Fields("a b c e f g h x y"), slices.Sorted(maps.Keys(seen))); diff != "" {
		t.Errorf("what was drawn (-want +got):\n%s", diff)
	}
	want := map[string][]string{"many": strings.Fields("a b c e f g h"), "few": strings.Fields("x y")}
	if diff := cmp.Diff(want, sample(all, 99, 1)); diff != "" {
		t.Errorf("a sample larger than the lists (-want +got):\n%s", diff)
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "junit.xml")
	if err := os.WriteFile(file, []byte(`<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="5"><testsuite name="Kubernetes e2e suite" tests="5">
<testcase name="[SynchronizedBeforeSuite]" status="passed" time="0.1"></testcase>
<testcase name="[ReportAfterSuite] log check" status="failed" time="0"><failure message="it said so" type="failed">more</failure></testcase>
<testcase name="[It] [sig-b] fails" status="failed" time="1.5"><failure message="" type="failed">because</failure><system-err>STEP: waits</system-err></testcase>
<testcase name="[It] [sig-a] passes" status="passed" time="2"></testcase>
<testcase name="[It] [sig-c] is not asked for" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
<testcase name="[It] [sig-d] cannot" status="skipped" time="0"><skipped message="skipped - no node"></skipped></testcase>
</testsuite></testsuites>`), 0o600); err != nil {
		t.Fatal(err)
	}
	results, err := readReport(file)
	if err != nil {
		t.Fatal(err)
	}
	got := complete(results, []string{"[sig-a] passes", "[sig-e] never ran"})
	want := []result{
		{Name: "[ReportAfterSuite] log check", Status: "failed", Why: "it said so"},
		{Name: "[sig-a] passes", Status: "passed", Took: 2 * time.Second},
		{Name: "[sig-b] fails", Status: "failed", Took: 1500 * time.Millisecond, Why: "because", Log: "STEP: waits"},
		{Name: "[sig-d] cannot", Status: "skipped", Why: "skipped - no node"},
		{Name: "[sig-e] never ran", Status: missing, Why: "no such test, or the run ended before it"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if shown, want := table(got), "5 tests, 2 failed, 1 missing, 1 passed, 1 skipped"; !strings.HasSuffix(shown, want) {
		t.Errorf("the table does not end with %q:\n%s", want, shown)
	}
}

func TestVerdict(t *testing.T) {
	t.Parallel()
	one, two := result{Name: "[sig-a] one", Status: "failed", Why: "too late", Log: "waiting"}, result{Name: "[sig-a] two", Status: "failed", Why: "wrong"}
	v := verdict{
		suite:   &suite{target: "sqlite", group: groups[0], names: []string{one.Name, two.Name}, listed: []string{"[sig-a] listed"}},
		results: []result{one, two, {Name: "[sig-a] neither named nor listed", Status: "failed"}, {Name: "[sig-a] listed", Status: "passed"}},
		log:     "it served",
	}
	if diff := cmp.Diff([]string{one.Name, two.Name}, namesOf(v.failed())); diff != "" {
		t.Errorf("failed at first (-want +got):\n%s", diff)
	}
	passed := result{Name: one.Name, Status: "passed"}
	v.again([]result{passed, {Name: two.Name, Status: "failed", Why: "wrong again"}, {Name: "[AfterSuite]", Status: "failed"}})
	if diff := cmp.Diff([]result{two, {Name: "[AfterSuite]", Status: "failed"}}, v.failed()); diff != "" {
		t.Errorf("failed twice (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]result{one}, v.atFirst); diff != "" {
		t.Errorf("failed at first and passed then (-want +got):\n%s", diff)
	}
	for _, want := range []string{
		"FAILED AT FIRST, passed when run alone, on sqlite, nodes: [sig-a] one\n    too late\n", "    waiting\n",
		"\nFAILED on sqlite, nodes: [sig-a] two\n    wrong\n", "-group=nodes -focus='(\\[sig-a\\] two)$'", "    it served\n",
	} {
		if !strings.Contains(v.String(), want) {
			t.Errorf("no %q in\n%s", want, v)
		}
	}
	well := verdict{suite: v.suite, results: []result{passed}}
	if got := well.String(); got != "" {
		t.Errorf("nothing failed, and this is said:\n%s", got)
	}
}
