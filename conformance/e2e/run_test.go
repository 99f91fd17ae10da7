package e2e

import (
	"cmp"
	"flag"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

var (
	sampleSize = flag.Int("sample", 0, "run this many of the tests that pass, of all groups that are quick")
	seed       = flag.Uint64("seed", 0, "draws the sample; 0 takes a new one")
	wholeList  = flag.Bool("passed", false, "run all tests that pass, of all groups or of that of -group")
	namesFile  = flag.String("names", "", "run the tests whose full names are the lines of this file")
	focusFlag  = flag.String("focus", "", "run the tests whose full names match this expression")
	skipFlag   = flag.String("skip", "", "leave out the tests whose full names match this expression")
	groupFlag  = flag.String("group", "", "the cluster of -names and -focus, nodes when it is empty; or the only one of -passed and -sample")
	procs      = flag.Int("procs", 4, "processes that run tests")
	update     = flag.Bool("update", false, "add what passed on all targets to the group's list")
	limit      = flag.Duration("limit", 40*time.Minute, "how long the tests of one group may take on one target")
	again      = flag.Bool("again", true, "run tests that failed once more, alone, when they are few; they count as passed when they pass then")
	out        = flag.String("out", "", "directory that keeps logs and reports")
)

// TestRun runs the tests that the flags name. It fails when one of those that are listed, or one that was named, does not
// pass.
func TestRun(t *testing.T) {
	lists, err := load()
	if err != nil {
		t.Fatal(err)
	}
	runs := chosen(t, lists)
	if *skipFlag != "" {
		skip, err := regexp.Compile(*skipFlag)
		if err != nil {
			t.Fatalf("-skip: %v", err)
		}
		for i := range runs {
			runs[i].names = slices.DeleteFunc(runs[i].names, skip.MatchString)
		}
	}
	if *out != "" {
		if *out, err = filepath.Abs(*out); err != nil {
			t.Fatal(err)
		}
	}
	targets := harness.Targets(t)
	if *update && len(runs) > 1 {
		t.Fatal("-update takes a run of one group")
	}
	if *update && slices.ContainsFunc([]harness.Target{harness.SQLite, harness.OnPostgres}, func(target harness.Target) bool {
		return runs[0].group.on(target) && !slices.Contains(targets, target)
	}) {
		t.Fatal("-update takes a run on both databases")
	}
	var mu sync.Mutex
	passes := map[string]int{} // on how many targets
	var verdicts []verdict
	for _, target := range targets {
		t.Run(string(target), func(t *testing.T) {
			for _, s := range runs {
				if !s.group.on(target) {
					continue
				}
				s.target, s.skip, s.procs, s.limit, s.again, s.listed = target, *skipFlag, *procs, *limit, *again, lists[s.group.name]
				if *out != "" {
					s.out = filepath.Join(*out, string(target), s.group.name)
				}
				t.Run(s.group.name, func(t *testing.T) {
					if s.group.real == 0 {
						t.Parallel() // most of the time tests wait
					}
					v := s.judge(t)
					mu.Lock()
					defer mu.Unlock()
					verdicts = append(verdicts, v)
					for _, r := range v.results {
						if r.passed() {
							passes[r.Name]++
						}
					}
				})
			}
		})
	}
	// Last, where the end of a long log shows it.
	for _, v := range verdicts {
		if shown := v.String(); shown != "" {
			t.Log(shown)
		}
	}
	if *update {
		g := runs[0].group
		targets = slices.DeleteFunc(targets, func(target harness.Target) bool { return !g.on(target) })
		record(t, g, lists, passes, len(targets))
	}
}

// judge runs the tests. It is an error when one that was named, or that is listed, did not pass.
func (s *suite) judge(t *testing.T) verdict {
	t.Helper()
	v := s.run(t)
	t.Logf("%s, %s\n%s", s.target, s.group.name, table(v.results))
	for _, r := range v.failed() {
		t.Errorf("%s: %s", r.Status, r.Name)
	}
	return v
}

// chosen returns what the flags ask for: the tests of each group.
func chosen(t *testing.T, lists map[string][]string) []suite {
	t.Helper()
	only, err := groupNamed(cmp.Or(*groupFlag, groups[0].name))
	if err != nil {
		t.Fatalf("-group: %v", err)
	}
	switch {
	case *namesFile != "":
		names, err := readNames(*namesFile)
		if err != nil {
			t.Fatalf("-names: %v", err)
		}
		return []suite{{group: only, names: names, focus: focus(names)}}
	case *focusFlag != "":
		return []suite{{group: only, focus: *focusFlag}}
	case *sampleSize > 0:
		if *seed == 0 {
			*seed = rand.Uint64N(1_000_000) + 1
		}
		t.Logf("the sample is that of -sample=%d -seed=%d", *sampleSize, *seed)
		quick := map[string][]string{}
		for _, g := range groups {
			if !g.slow {
				quick[g.name] = lists[g.name]
			}
		}
		lists = sample(quick, *sampleSize, *seed)
	case !*wholeList:
		t.Skip("none of -sample, -passed, -names, -focus says what to run")
	}
	var runs []suite
	for _, g := range groups {
		if names := lists[g.name]; len(names) > 0 && (*groupFlag == "" || g.name == only.name) {
			runs = append(runs, suite{group: g, names: names, focus: focus(names), drawn: *sampleSize > 0})
		}
	}
	return runs
}

// record adds what passed on all targets and is on no list yet to that of all, and to the group's.
func record(t *testing.T, g group, lists map[string][]string, passes map[string]int, targets int) {
	t.Helper()
	var names []string
	for name, n := range passes {
		known := false
		for _, list := range lists {
			known = known || slices.Contains(list, name)
		}
		if n == targets && !known {
			names = append(names, name)
		}
	}
	for _, file := range slices.Compact([]string{groups[0].file, g.file}) {
		n, err := addNames(file, names)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d names are new in %s", n, filepath.Base(file))
	}
}

// lastLines returns the end of a file.
func lastLines(t *testing.T, file string, n int) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return end(string(data), n)
}

// keepLogs copies the logs of a cluster's processes.
func keepLogs(t *testing.T, from stage, to string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(from.server.Log), "*.log"))
	if err != nil {
		t.Fatal(err)
	}
	logs := maps.Clone(from.logs)
	if logs == nil {
		logs = map[string]string{}
	}
	for _, file := range files {
		logs[filepath.Base(file)] = file
	}
	for name, file := range logs {
		data, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(to, name), data, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
}
