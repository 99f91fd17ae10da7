package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// group is those tests that pass on one kind of cluster.
type group struct {
	name    string
	file    string        // lists them, as seen from this package
	nodes   int           // that are simulated
	jobTime time.Duration // how long pods of Jobs run on them before they succeed
	slow    bool          // each test takes minutes, and none is drawn into a sample
}

// groups are all of them. A test is in the first one on whose cluster it passes.
var groups = []group{
	{name: "nodes", file: "../passed.txt", nodes: 3},
	{name: "no-nodes", file: "../passed-no-nodes.txt"},
	{name: "long-jobs", file: "../passed-long-jobs.txt", nodes: 3, jobTime: 75 * time.Second, slow: true},
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

// load reads the lists of all groups, by the groups' names.
func load() (map[string][]string, error) {
	lists := map[string][]string{}
	for _, g := range groups {
		names, err := readNames(g.file)
		if err != nil {
			return nil, err
		}
		lists[g.name] = names
	}
	return lists, nil
}
