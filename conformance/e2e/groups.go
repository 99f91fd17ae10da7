package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// group is those tests that pass on one kind of cluster.
type group struct {
	name    string
	file    string           // lists them, as seen from this package; of the first, all that pass on any
	nodes   int              // that are simulated
	real    int              // machines with a runtime and an agent, in their place
	jobTime time.Duration    // how long pods of Jobs run on them before they succeed
	slow    bool             // each test takes minutes, and none is drawn into a sample
	targets []harness.Target // on which it is run; all when there are none
}

// groups are all of them. A test that is on no list but that of all that pass is in the first.
var groups = []group{
	{name: "nodes", file: "../passed.txt", nodes: 3},
	{name: "no-nodes", file: "../passed-no-nodes.txt"},
	{name: "long-jobs", file: "../passed-long-jobs.txt", nodes: 3, jobTime: 75 * time.Second, slow: true},
	{name: "containers", file: "../passed-containers.txt", real: 2, targets: []harness.Target{harness.SQLite}},
}

// on tells whether the group is run on a target. What its server keeps its data in makes no difference to a container.
func (g *group) on(target harness.Target) bool {
	return g.targets == nil || slices.Contains(g.targets, target)
}

// groupNamed returns the group of a name.
func groupNamed(name string) (group, error) {
	i := slices.IndexFunc(groups, func(g group) bool { return g.name == name })
	if i < 0 {
		var known []string
		for _, g := range groups {
			known = append(known, g.name)
		}
		return group{}, fmt.Errorf("there is no group %q, but %s", name, strings.Join(known, ", "))
	}
	return groups[i], nil
}

// load reads the lists and returns the tests of each group, by the groups' names.
func load() (map[string][]string, error) {
	all, err := readNames(groups[0].file)
	if err != nil {
		return nil, err
	}
	if err := listed(all); err != nil {
		return nil, fmt.Errorf("%s: %w", groups[0].file, err)
	}
	lists := map[string][]string{groups[0].name: all}
	for _, g := range groups[1:] {
		names, err := readNames(g.file)
		if err != nil {
			return nil, err
		}
		if err := listed(names); err != nil {
			return nil, fmt.Errorf("%s: %w", g.file, err)
		}
		rest := slices.DeleteFunc(slices.Clone(lists[groups[0].name]), func(name string) bool { return slices.Contains(names, name) })
		if len(rest) != len(lists[groups[0].name])-len(names) {
			return nil, fmt.Errorf("%s names tests that are not in %s, or are in another group", g.file, groups[0].file)
		}
		lists[groups[0].name], lists[g.name] = rest, names
	}
	return lists, nil
}
