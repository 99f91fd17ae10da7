package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
)

// passedFile is the list of what passes, as seen from this package.
const passedFile = "../passed.txt"

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

// sample draws n names, the same ones for the same seed and list. What upstream calls slow is left to whole runs.
func sample(names []string, n int, seed uint64) []string {
	var quick []string
	for _, name := range names {
		if !strings.Contains(name, "[Slow]") {
			quick = append(quick, name)
		}
	}
	random := rand.New(rand.NewPCG(seed, 0))
	random.Shuffle(len(quick), func(i, j int) { quick[i], quick[j] = quick[j], quick[i] })
	drawn := quick[:min(n, len(quick))]
	slices.Sort(drawn)
	return drawn
}
