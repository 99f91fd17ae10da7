package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/storage/memory"
)

func TestParseDatabase(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]database{
		"postgres://u:p@h:1/d?x=y": {Scheme: "postgres", URL: "postgres://u:p@h:1/d?x=y"},
		"postgresql://h/d":         {Scheme: "postgres", URL: "postgresql://h/d"},
		"sqlite:///var/lib/a%20b":  {Scheme: "sqlite", Path: "/var/lib/a b"},
	} {
		got, err := parseDatabase(text)
		if err != nil || got != want {
			t.Errorf("%s: got %+v, %v", text, got, err)
		}
	}
	for text, words := range map[string]string{
		"":                "postgres://… or sqlite:///FILE",
		"/var/lib/x.db":   "postgres://… or sqlite:///FILE",
		"sqlite://x.db":   "absolute path",
		"mysql://h/d":     `scheme "mysql"`,
		"etcd://h:2379":   `scheme "etcd"`,
		"sqlite:///a%zzb": "absolute path",
	} {
		if _, err := parseDatabase(text); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v, want %q", text, err, words)
		}
	}
}

// Everything that is wrong is said at once.
func TestWrongFlags(t *testing.T) {
	t.Parallel()
	root := newRoot()
	root.SetArgs([]string{
		"server", "--database=mysql://h/d", "--secure-port=70000", "--service-cluster-ip-range=10.0.0.0/31",
		"--event-ttl=0s", "--history-max-bytes=-1", "--shutdown-delay-duration=-1s",
		"--goaway-chance=0.5", "--strict-transport-security-directives=nope", "--cors-allowed-origins=ui.example", "--feature-gates=Nope=true", "--runtime-config=nope.example/v1=true",
		"--enable-admission-plugins=Nope,EventRateLimit", "--disable-admission-plugins=EventRateLimit",
		"--tls-cert-file=a.crt", "--tls-min-version=VersionTLS10", "--tls-cipher-suites=NOPE", "--tls-curve-preferences=1",
	})
	err := root.ExecuteContext(t.Context())
	if err == nil {
		t.Fatal("wrong flags were taken")
	}
	for _, words := range []string{
		"mysql", "--secure-port 70000", "--service-cluster-ip-range", "--event-ttl", "--history-max-bytes", "--shutdown-delay-duration", `enable-admission-plugins plugin "Nope" is unknown`, "[EventRateLimit] in enable-admission-plugins",
		"--goaway-chance can not be less than 0 or greater than 0.02", "--strict-transport-security-directives invalid", "does not pin to start/end of host", "unrecognized feature gate: Nope", "unknown api groups nope.example/v1",
		"--tls-private-key-file must be given together", "--tls-min-version VersionTLS10", "--tls-cipher-suites: Cipher suite NOPE", "--tls-curve-preferences",
	} {
		if !strings.Contains(err.Error(), words) {
			t.Errorf("no word of %s in: %v", words, err)
		}
	}
}

func TestDatabaseIsRequired(t *testing.T) {
	t.Parallel()
	if _, err := databaseFrom("", ""); err == nil {
		t.Error("no database was taken")
	}
	if _, err := databaseFrom("sqlite:///a", "b"); err == nil {
		t.Error("two databases were taken")
	}
	if _, err := databaseFrom("", "/does/not/exist"); err == nil || !strings.Contains(err.Error(), "--database-file") {
		t.Errorf("got %v", err)
	}
}

func TestEnsureCluster(t *testing.T) {
	t.Parallel()
	db := memory.New()
	for range 2 {
		if err := ensureCluster(t.Context(), db, "default"); err != nil {
			t.Fatal(err)
		}
	}
	clusters, err := db.Clusters(t.Context())
	if err != nil || len(clusters) != 1 || clusters[0].Name != "default" {
		t.Fatalf("got %v, %v", clusters, err)
	}
}

// Libraries' info is shown when debug messages are; their warnings always.
func TestDemote(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelDebug: 2} {
		var out bytes.Buffer
		h := slog.NewTextHandler(&out, &slog.HandlerOptions{Level: level})
		log := slog.New(demote{h}).With("a", 1).WithGroup("g")
		log.InfoContext(context.Background(), "talk")
		log.Warn("trouble")
		if got := strings.Count(out.String(), "\n"); got != want {
			t.Errorf("at %s: %d lines, want %d:\n%s", level, got, want, out.String())
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	root := newRoot()
	root.SetOut(&out)
	root.SetArgs([]string{"version"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if diff := cmp.Diff("kubernetes v1.36.3", lines[1]); len(lines) != 3 || diff != "" {
		t.Errorf("got %q: %s", out.String(), diff)
	}
}
