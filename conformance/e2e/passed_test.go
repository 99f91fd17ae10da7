package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestPassed checks that the lists are sorted and fit together, and that no name that was ever on one, in the history that
// this clone has, is gone.
func TestPassed(t *testing.T) {
	t.Parallel()
	lists, err := load()
	if err != nil {
		t.Fatal(err)
	}
	passes := map[string]bool{}
	args := []string{"log", "--format=", "--patch", "--unified=0", "--no-color", "--no-ext-diff", "--"}
	for _, g := range groups {
		args = append(args, g.file)
		if len(lists[g.name]) == 0 {
			t.Errorf("%s: no test is in the group", g.name)
		}
		for _, name := range lists[g.name] {
			passes[name] = true
		}
	}
	cmd := exec.CommandContext(t.Context(), "git", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	history, err := cmd.Output()
	if err != nil {
		harness.Missing(t, "git does not tell what was on the lists: %v\n%s", err, stderr.String())
	}
	for line := range strings.SplitSeq(string(history), "\n") {
		if name, added := strings.CutPrefix(line, "+["); added {
			if name = "[" + name; !passes[name] {
				t.Errorf("what has passed has to go on passing; this test is on no list any more: %s", name)
			}
		}
	}
}
