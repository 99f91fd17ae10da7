package e2e

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestPassed checks that passed.txt is a sorted list, and that no name that was ever on it, in the history that this
// clone has, is gone.
func TestPassed(t *testing.T) {
	t.Parallel()
	names, err := readNames(passedFile)
	if err != nil {
		t.Fatal(err)
	}
	if len(names) == 0 {
		t.Error("the list is empty")
	}
	if err := listed(names); err != nil {
		t.Errorf("passed.txt: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "git", "log", "--format=", "--patch", "--unified=0", "--no-color", "--no-ext-diff", "--", passedFile)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	history, err := cmd.Output()
	if err != nil {
		harness.Missing(t, "git does not tell what was on the list: %v\n%s", err, stderr.String())
	}
	for line := range strings.SplitSeq(string(history), "\n") {
		if name, added := strings.CutPrefix(line, "+["); added {
			if name = "[" + name; !slices.Contains(names, name) {
				t.Errorf("passed.txt may only grow; this test is no longer on it: %s", name)
			}
		}
	}
}
