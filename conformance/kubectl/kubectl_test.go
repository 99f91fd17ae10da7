package kubectl_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// TestScripts runs every script against one server of each target.
func TestScripts(t *testing.T) {
	t.Parallel()
	kubectl := harness.Kubectl(t)
	app, err := filepath.Abs(filepath.Join("testdata", "app"))
	if err != nil {
		t.Fatal(err)
	}
	harness.Each(t, func(t *testing.T, target harness.Target) {
		server := target.NewCluster(t).StartServer(t)
		client := server.Client(t)
		testscript.Run(t, testscript.Params{
			Dir:                filepath.Join("testdata", "script"),
			RequireUniqueNames: true,
			Setup: func(env *testscript.Env) error {
				// The working directory is called script-NAME.
				ns := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
				if err := harness.CreateNamespace(t.Context(), client, ns); err != nil {
					return err
				}
				kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
				if err := pointAt(server.Kubeconfig, kubeconfig, ns); err != nil {
					return err
				}
				env.Setenv("NS", ns)
				env.Setenv("SERVER", server.URL)
				env.Setenv("KUBECONFIG", kubeconfig)
				env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
				env.Setenv("PATH", filepath.Dir(kubectl)+string(os.PathListSeparator)+env.Getenv("PATH"))
				if err := os.CopyFS(filepath.Join(env.WorkDir, "app"), os.DirFS(app)); err != nil {
					return err
				}
				return expandManifests(env.WorkDir, ns)
			},
			Cmds: map[string]func(*testscript.TestScript, bool, []string){
				"kubectl":    runKubectl,
				"exits":      exits,
				"fetch":      fetch,
				"eventually": eventually,
				"capture":    capture,
			},
		})
	})
}

// pointAt copies a kubeconfig and sets its namespace.
func pointAt(from, to, namespace string) error {
	config, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return err
	}
	config.Contexts[config.CurrentContext].Namespace = namespace
	return clientcmd.WriteToFile(*config, to)
}

// expandManifests replaces $NS in all YAML files below dir.
func expandManifests(dir, namespace string) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(path, []byte(strings.ReplaceAll(string(data), "$NS", namespace)), 0o644)
	})
}

func runKubectl(ts *testscript.TestScript, neg bool, args []string) {
	err := ts.Exec("kubectl", args...)
	switch {
	case err != nil && !neg:
		ts.Fatalf("kubectl: %v", err)
	case err == nil && neg:
		ts.Fatalf("kubectl succeeded, and should not have")
	}
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits STATUS COMMAND ARGS…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s ended with status %d, expected %d", args[1], got, want)
	}
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: fetch URL [TOKEN]")
	}
	client := http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
	}
	req, err := http.NewRequest(http.MethodGet, args[0], nil)
	ts.Check(err)
	if len(args) == 2 {
		req.Header.Set("Authorization", "Bearer "+args[1])
	}
	resp, err := client.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	_, err = fmt.Fprintln(ts.Stdout(), resp.Status)
	ts.Check(err)
	_, err = io.Copy(ts.Stdout(), resp.Body)
	ts.Check(err)
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: eventually PATTERN FILE")
	}
	pattern, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	const limit = 30 * time.Second
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		data, err := os.ReadFile(ts.MkAbs(args[1]))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			ts.Fatalf("%v", err)
		}
		if pattern.Match(data) {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s does not match %q after %v:\n%s", args[1], args[0], limit, data)
		}
	}
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: capture VAR PATTERN FILE")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	match := pattern.FindStringSubmatch(ts.ReadFile(args[2]))
	if len(match) < 2 {
		ts.Fatalf("%s does not match %q, or the pattern has no group", args[2], args[1])
	}
	ts.Setenv(args[0], match[1])
}
