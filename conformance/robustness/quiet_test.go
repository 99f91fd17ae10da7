package robustness_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestQuiet starts a server, uses it and stops it: its log has nothing that an operator would have to look into.
func TestQuiet(t *testing.T) {
	t.Parallel()
	harness.Only(t, func(t *testing.T, target harness.Target) {
		cluster := target.NewCluster(t)
		for _, name := range []string{"first", "second"} { // on an empty database, and on one with a past
			server := cluster.StartServer(t)
			harness.NewNamespace(t, server.Client(t), name)
			server.Stop(t)
			log, err := os.ReadFile(server.Log)
			if err != nil {
				t.Fatal(err)
			}
			for line := range strings.SplitSeq(string(log), "\n") {
				if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
					t.Error(line)
				}
			}
		}
	}, harness.SQLite, harness.OnPostgres)
}
