// Command limitedrunc is runc for machines whose root has no CAP_SYS_RESOURCE, as that of tests in a virtual machine may not: it
// takes out of what a runtime asks for what cannot be had, and becomes runc. containerd can be told to ask for less, CRI-O cannot.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// runc is beside this program.
const runc = "runc"

func main() {
	self, err := os.Executable()
	if err == nil {
		err = lower(os.Args[1:])
	}
	if err == nil {
		path := filepath.Join(filepath.Dir(self), runc)
		err = syscall.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "limitedrunc:", err)
	os.Exit(1)
}

// lower changes the files that runc's arguments lead to.
func lower(args []string) error {
	switch {
	case slices.Contains(args, "create"), slices.Contains(args, "run"), slices.Contains(args, "restore"):
		bundle := argument(args, "--bundle", "-b")
		return edit(filepath.Join(bundle, "config.json"), func(config map[string]any) map[string]any {
			process, _ := config["process"].(map[string]any)
			return process
		})
	case slices.Contains(args, "exec"):
		if file := argument(args, "--process", "-p"); file != "" {
			return edit(file, func(process map[string]any) map[string]any { return process })
		}
	}
	return nil
}

// argument is the value of an option that has one of these names.
func argument(args []string, names ...string) string {
	for i, a := range args {
		for _, name := range names {
			if value, found := strings.CutPrefix(a, name+"="); found {
				return value
			}
			if a == name && i+1 < len(args) {
				return args[i+1]
			}
		}
	}
	return ""
}

// edit lowers the process that find finds in a file.
func edit(path string, find func(map[string]any) map[string]any) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // runc says so better
	}
	if err != nil {
		return err
	}
	var all map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	process := find(all)
	if process == nil {
		return nil
	}
	if n, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(n.String(), "-") {
		process["oomScoreAdj"] = 0
	}
	capabilities, _ := process["capabilities"].(map[string]any)
	for kind, value := range capabilities {
		if names, ok := value.([]any); ok {
			capabilities[kind] = slices.DeleteFunc(names, func(name any) bool { return name == "CAP_SYS_RESOURCE" })
		}
	}
	if data, err = json.Marshal(all); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o600)
}
