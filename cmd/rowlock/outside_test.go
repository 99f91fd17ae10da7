package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// asRowlock makes the test's binary the program.
const asRowlock = "ROWLOCK_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asRowlock) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// program runs rowlock in a process of its own and returns what it printed on both outputs.
func program(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), asRowlock+"=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestOutsideErrors: what is wrong ends the program at once, with status 1 and the name of the flag and the file.
func TestOutsideErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kubeconfig := file("kubeconfig", `{"apiVersion":"v1","kind":"Config","current-context":"a",
		"clusters":[{"name":"a","cluster":{"server":"https://127.0.0.1:1"}}],"contexts":[{"name":"a","context":{"cluster":"a"}}]}`)
	wrong := file("wrong", "apiVersion: [")
	unknown := file("unknown", `{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration","extinders":[]}`)
	invalid := file("invalid", `{"apiVersion":"kubescheduler.config.k8s.io/v1","kind":"KubeSchedulerConfiguration","parallelism":-1}`)
	for name, tc := range map[string]struct {
		args []string
		want []string
	}{
		"no such flag":              {[]string{"controllers", "--nonsense"}, []string{"unknown flag: --nonsense"}},
		"no such flag, scheduler":   {[]string{"scheduler", "--controllers=*"}, []string{"unknown flag: --controllers"}},
		"an argument":               {[]string{"scheduler", "x"}, []string{`"rowlock scheduler" does not take any arguments`}},
		"no such controller":        {[]string{"controllers", "--controllers=*,-foo"}, []string{`--controllers: "foo" is not in the list of known controllers`}},
		"no such gate":              {[]string{"controllers", "--feature-gates=Foo=true"}, []string{"unrecognized feature gate: Foo"}},
		"no such kubeconfig":        {[]string{"controllers", "--kubeconfig=/none/a"}, []string{"--kubeconfig: ", "/none/a"}},
		"kubeconfig that is none":   {[]string{"scheduler", "--kubeconfig=" + wrong}, []string{"--kubeconfig: ", wrong}},
		"no such key":               {[]string{"controllers", "--service-account-private-key-file=/none/a"}, []string{"--service-account-private-key-file: ", "/none/a"}},
		"no such authority":         {[]string{"scheduler", "--client-ca-file=/none/a"}, []string{"--client-ca-file: ", "/none/a"}},
		"no such configuration":     {[]string{"scheduler", "--config=/none/a"}, []string{"--config: ", "/none/a"}},
		"configuration not decoded": {[]string{"scheduler", "--config=" + unknown}, []string{"--config: ", unknown, `unknown field "extinders"`}},
		"configuration not valid":   {[]string{"scheduler", "--config=" + invalid}, []string{"--config: ", invalid, "parallelism: Invalid value: -1"}},
		"nobody answers": {
			[]string{"controllers", "--kubeconfig=" + kubeconfig, "--leader-elect=false", "--secure-port=0"},
			[]string{"https://127.0.0.1:1", "connection refused"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := program(t, tc.args...)
			if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 { //nolint:errorlint // as os/exec returns it
				t.Errorf("ended with %v, want status 1", err)
			}
			last := out[strings.LastIndex(out, "rowlock: ")+1:]
			for _, want := range tc.want {
				if !strings.Contains(last, want) {
					t.Errorf("%q is not in %q", want, last)
				}
			}
		})
	}
}

// TestOutsideHelp: upstream's flags, in its sections, under our name.
func TestOutsideHelp(t *testing.T) {
	t.Parallel()
	for args, want := range map[string][]string{
		"controllers --help":    {"Usage:\n  rowlock controllers [flags]", "Secure serving flags:", "Leader-migration flags:", "--leader-elect", "--cluster-signing-cert-file", "help for rowlock controllers"},
		"help controllers":      {"Usage:\n  rowlock controllers [flags]", "Job-controller flags:"},
		"scheduler -h":          {"Usage:\n  rowlock scheduler [flags]", "Authentication flags:", "--write-config-to", `(default "kube-scheduler")`},
		"controllers --version": {"rowlock ", "(Kubernetes v1.36."},
		"scheduler --version":   {"rowlock ", "(Kubernetes v1.36."},
		"--help":                {"rowlock controllers", "rowlock scheduler"},
		"--version":             {"rowlock ", "kubernetes v1.36."},
		"up --version":          {"rowlock ", "kubernetes v1.36."},
	} {
		t.Run(args, func(t *testing.T) {
			t.Parallel()
			out, err := program(t, strings.Fields(args)...)
			if err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			for _, want := range want {
				if !strings.Contains(out, want) {
					t.Errorf("%q is not in\n%.2000s", want, out)
				}
			}
		})
	}
}
