package e2e

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// notPassed lists what is marked [Conformance] and does not pass, each block under a line with the reason.
const notPassed = "../not-passed.txt"

// TestAccounted checks that each test that upstream marks [Conformance] is on the list of those that pass, or on that of those
// that do not, under a reason.
func TestAccounted(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(filepath.Join(harness.KubernetesSource(t), "test/conformance/testdata/conformance.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var marked []struct {
		Codename string `json:"codename"`
	}
	if err := yaml.Unmarshal(data, &marked); err != nil {
		t.Fatal(err)
	}
	passes, err := readNames(groups[0].file)
	if err != nil {
		t.Fatal(err)
	}
	reasons := readReasons(t)
	for _, test := range marked {
		passed, reason := slices.Contains(passes, test.Codename), reasons[test.Codename]
		delete(reasons, test.Codename)
		switch {
		case passed && reason != "":
			t.Errorf("it passes, and does not because %q: %s", reason, test.Codename)
		case !passed && reason == "":
			t.Errorf("it neither passes nor has a reason why not: %s", test.Codename)
		}
	}
	for name := range reasons {
		t.Errorf("%s names what is not marked: %s", notPassed, name)
	}
}

// readReasons returns why tests do not pass, by their names.
func readReasons(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open(notPassed)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	reasons, reason := map[string]string{}, ""
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		text, comment := strings.CutPrefix(line, "# ")
		switch {
		case comment:
			reason = text
		case line != "" && reason == "":
			t.Errorf("%s gives no reason for %s", notPassed, line)
		case line != "":
			reasons[line] = reason
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return reasons
}
