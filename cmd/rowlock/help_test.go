package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write docs/configuration.md anew")

const configurationDoc = "../../docs/configuration.md"

// TestConfigurationDoc compares the list of all flags with the flags. With -update it writes the list.
func TestConfigurationDoc(t *testing.T) {
	t.Parallel()
	want := configuration(newRoot())
	if *update {
		if err := os.WriteFile(configurationDoc, []byte(want), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(configurationDoc)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("docs/configuration.md (-) does not tell of the flags as they are (+); go test ./cmd/rowlock -run TestConfigurationDoc -update\n%s", diff)
	}
}

// hostDefaults are defaults that depend on who starts the server.
var hostDefaults = map[string]string{
	"data-dir": "`/var/lib/rowlock` for root, else below `$XDG_DATA_HOME` or `~/.local/share`",
}

// outsideFlags tells whose flags a command has that are made only when it is run.
var outsideFlags = map[string]string{"controllers": "kube-controller-manager", "scheduler": "kube-scheduler"}

// configuration is the text of docs/configuration.md.
func configuration(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(`# Flags

Generated from the flags by ` + "`go test ./cmd/rowlock -run TestConfigurationDoc -update`" + `. Names and meanings are kube-apiserver's
where it has the same. Environment variables: ` + "`ROWLOCK_ENCRYPTION_KEY`" + ` holds the operator's key where no file is named.

## rowlock up, rowlock server

`)
	commands := map[string]*pflag.FlagSet{}
	both := pflag.NewFlagSet("", pflag.ContinueOnError)
	for _, cmd := range root.Commands() {
		if cmd.Name() == "up" || cmd.Name() == "server" {
			commands[cmd.Name()] = cmd.Flags()
			both.AddFlagSet(cmd.Flags())
		}
	}
	groups := sections(both)
	for _, name := range groups.Order {
		rows(&b, "### "+name, groups.FlagSets[name], func(f *pflag.Flag) string {
			up, server := commands["up"].Lookup(f.Name), commands["server"].Lookup(f.Name)
			switch {
			case up == nil:
				return ". Only for `rowlock server`"
			case server == nil:
				return ". Only for `rowlock up`"
			case up.DefValue != server.DefValue:
				return ". Default of `rowlock up`: " + value(up.DefValue) + ", of `rowlock server`: " + value(server.DefValue)
			}
			return ""
		})
	}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if commands[cmd.Name()] == nil {
			rows(&b, "## "+cmd.CommandPath(), cmd.Flags(), func(*pflag.Flag) string { return "" })
		}
		if of := outsideFlags[cmd.Name()]; of != "" {
			fmt.Fprintf(&b, "## %s\n\nAll flags of %s 1.36; `%[1]s --help` lists them.\n\n", cmd.CommandPath(), of)
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	walk(root)
	return b.String()
}

// value shows a default.
func value(text string) string {
	if slices.Contains([]string{"", "[]", "<nil>"}, text) {
		return "none"
	}
	return "`" + text + "`"
}

// rows writes a table of flags, unless there are none.
func rows(b *strings.Builder, title string, fs *pflag.FlagSet, more func(*pflag.Flag) string) {
	any := false
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Deprecated != "" || f.Name == "help" {
			return
		}
		if !any {
			fmt.Fprintf(b, "%s\n\n| flag | default | |\n| --- | --- | --- |\n", title)
		}
		any = true
		byDefault := hostDefaults[f.Name]
		if shown := value(f.DefValue); byDefault == "" && shown != "none" {
			byDefault = shown
		}
		name := "--" + f.Name
		if f.Name == "v" {
			name = "-v"
		}
		extra := more(f)
		if strings.Contains(extra, "Default of") {
			byDefault = ""
		}
		usage := strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(strings.TrimSpace(f.Usage))
		fmt.Fprintf(b, "| `%s` %s | %s | %s%s |\n", name, f.Value.Type(), byDefault, strings.TrimSuffix(usage, "."), extra)
	})
	if any {
		b.WriteString("\n")
	}
}

// TestHelp: the help of a server shows each flag once, in sections.
func TestHelp(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"up", "server"} {
		root := newRoot()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetArgs([]string{name, "--help"})
		if err := root.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		cmd, _, err := root.Find([]string{name})
		if err != nil {
			t.Fatal(err)
		}
		section := ""
		found := map[string]string{}
		for line := range strings.Lines(out.String()) {
			if title, ok := strings.CutSuffix(strings.TrimSpace(line), " flags:"); ok {
				section = title
			}
			fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "-v, "))
			if len(fields) > 0 && strings.HasPrefix(fields[0], "--") {
				flag := fields[0][2:]
				if in, twice := found[flag]; twice {
					t.Errorf("%s: --%s is shown in %s and in %s", name, flag, in, section)
				}
				found[flag] = section
			}
		}
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "help" {
				return
			}
			if in, ok := found[f.Name]; ok == f.Hidden && f.Deprecated == "" || ok && in != flagGroup(f) {
				t.Errorf("%s: --%s is in section %q, want %q", name, f.Name, in, flagGroup(f))
			}
		})
		if found["audit-policy-file"] != "Audit and tracing" || found["bind-address"] != "Serving" {
			t.Errorf("%s: %v", name, found)
		}
		if !strings.Contains(out.String(), strings.SplitN(cmd.Long, "\n", 2)[0]) {
			t.Errorf("%s: the help does not say what the command does", name)
		}
	}
}
