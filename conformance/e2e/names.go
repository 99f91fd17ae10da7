package e2e

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
)

// readNames returns the lines of a file.
func readNames(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var names []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if name := strings.TrimSpace(lines.Text()); name != "" {
			names = append(names, name)
		}
	}
	return names, lines.Err()
}

// addNames puts names into a list in a file and keeps it sorted. It says how many are new.
func addNames(file string, names []string) (int, error) {
	old, err := readNames(file)
	if err != nil && !os.IsNotExist(err) {
		return 0, err
	}
	all := slices.Concat(old, names)
	slices.Sort(all)
	all = slices.Compact(all)
	if len(all) == len(old) {
		return 0, nil
	}
	fresh := file + ".new"
	if err := os.WriteFile(fresh, []byte(strings.Join(all, "\n")+"\n"), 0o644); err != nil {
		return 0, err
	}
	return len(all) - len(old), os.Rename(fresh, file)
}

// listed says what is wrong with a list: a name out of order or there twice.
func listed(names []string) error {
	for i := 1; i < len(names); i++ {
		switch {
		case names[i] == names[i-1]:
			return fmt.Errorf("line %d is there twice: %s", i+1, names[i])
		case names[i] < names[i-1]:
			return fmt.Errorf("line %d is out of order: %s", i+1, names[i])
		}
	}
	return nil
}

// focus is the expression that picks exactly the tests of these names.
func focus(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = regexp.QuoteMeta(name)
	}
	return "(" + strings.Join(quoted, "|") + ")$"
}

// slow are tests that take a minute or more each, most of it by waiting. Upstream calls only some of them so.
var slow = regexp.MustCompile(strings.Join([]string{
	`\[Slow\]`,
	`API chunking should support continue listing from the last key`, // until the past is forgotten
	`CronJob`, `Garbage collector should delete jobs and pods created by cronjob`, // until the next minute begins
	`CustomResourceDefinition Watch`,
	`Daemon set .* surge pods`,
	`Garbage collector should support orphan deletion of custom resources`, // until the next look at discovery
	`DisruptionController .* not updated for unmanaged pods`,
	`NoExecuteTaintManager`,
	`Pod Generation issue 500 podspec updates`,
	`Probing (restartable init )?container should (\*not\* be|be|have)`, `readiness probe that fails should never be ready`,
	`init containers fail on a RestartAlways pod`, `succeed in writing subpaths in container`,
	`Pod InPlace Resize`, `Restartable Init Container Lifecycle Hook`, `Clean up pods on node`, `Lifecycle Sleep Hook`,
	`SchedulerPredicates .* conflict between pods with same hostPort`,
	`SchedulerPreemption`, `SchedulerPriorities`,
	`StatefulSet .* canary updates`,
	`StatefulSet AvailableReplicas`,
}, "|"))

// timed are tests that expect something to last, and that it lasts long enough is chance. They are run with all the others
// only.
var timed = regexp.MustCompile(strings.Join([]string{
	`Pod Generation custom-set generation on new pods and graceful delete`, // reads a pod after its deletion, which simulated nodes end at once
}, "|"))

// otherImages are tests that need images beside noderuntime's common ones, of which some take minutes to make. They are run with all
// the others only.
var otherImages = regexp.MustCompile(strings.Join([]string{
	`AllowPrivilegeEscalation`,                                                                          // nonewprivs
	`ImageVolume`,                                                                                       // kitten
	`lifecycle of Pods and PodStatus`, `Update Demo`, `ReplicaSet Replace and Patch`, `rolling updates`, // agnhost's version before
	`nginx`, `Aggregator`, `DNS`, `Guestbook`,
}, "|"))

// sample draws n names from lists, and one more from each list that would have none. They are the same ones for the same
// seed and lists. Those that are slow, a matter of time, or in need of more images, are left to whole runs.
func sample(lists map[string][]string, n int, seed uint64) map[string][]string {
	type entry struct{ list, name string }
	var quick []entry
	for _, list := range slices.Sorted(maps.Keys(lists)) {
		for _, name := range lists[list] {
			if !slow.MatchString(name) && !timed.MatchString(name) && !otherImages.MatchString(name) {
				quick = append(quick, entry{list, name})
			}
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(quick), func(i, j int) { quick[i], quick[j] = quick[j], quick[i] })
	drawn := map[string][]string{}
	for i, e := range quick {
		if i < n || len(drawn[e.list]) == 0 {
			drawn[e.list] = append(drawn[e.list], e.name)
		}
	}
	for _, names := range drawn {
		slices.Sort(names)
	}
	return drawn
}
