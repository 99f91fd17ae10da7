package node

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/rowlock-io/rowlock/agents/node/runtime"
)

// TestUsers: a pod that does not want the node's users has its own, in its sandbox, its containers and their mounts.
func TestUsers(t *testing.T) {
	own, shared := pod("own"), pod("shared")
	own.Spec.HostUsers = new(bool)
	own.Spec.Containers[0].Name, shared.Spec.Containers[0].Name = "mine", "ours"
	a := start(t, own, shared)
	running := func(name string) bool { p := a.pod(name); return p != nil && p.Status.Phase == corev1.PodRunning }
	a.until("pods that run", func() bool { return running("own") && running("shared") })
	sandboxes := map[string]*runtimeapi.UserNamespace{}
	for _, call := range a.runtime.Calls("RunPodSandbox") {
		config := call.Request.(*runtimeapi.RunPodSandboxRequest).Config
		sandboxes[config.Metadata.Name] = config.Linux.SecurityContext.NamespaceOptions.UsernsOptions
	}
	got := sandboxes["own"]
	if got.GetMode() != runtimeapi.NamespaceMode_POD || len(got.GetUids()) != 1 || got.Uids[0].HostId < 65536 || got.Uids[0].HostId%65536 != 0 ||
		got.Uids[0].ContainerId != 0 || got.Uids[0].Length != 65536 || got.Gids[0].HostId != got.Uids[0].HostId {
		t.Fatalf("users of the pod: %v", got)
	}
	if mode := sandboxes["shared"].GetMode(); mode != runtimeapi.NamespaceMode_NODE {
		t.Errorf("the pod with the node's users has %v", mode)
	}
	config := a.runtime.ContainerConfig(a.runtime.Container("mine").Id)
	if inside := config.Linux.SecurityContext.NamespaceOptions.UsernsOptions; inside.GetMode() != runtimeapi.NamespaceMode_POD || inside.Uids[0].HostId != got.Uids[0].HostId {
		t.Errorf("users of the container: %v", inside)
	}
	for _, m := range config.Mounts {
		if len(m.UidMappings) != 1 || m.UidMappings[0].HostId != got.Uids[0].HostId {
			t.Errorf("users of %s: %v", m.ContainerPath, m.UidMappings)
		}
	}
	if _, err := os.Stat(filepath.Join(a.cfg.DataDir, "pods", "uid-own", "userns")); err != nil {
		t.Error(err)
	}
}

// TestUsersAreGivenBack: a part is a pod's until it is gone, whatever agent looks.
func TestUsersAreGivenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	able := func(name string) (runtime.Handler, bool) {
		return runtime.Handler{Name: name, UserNamespaces: name != "unable"}, name != "nobody"
	}
	open := func() *users {
		u, err := newUsers(dir, 2, able, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	u := open()
	part := func(name string) uint32 {
		t.Helper()
		p := pod(name)
		p.Spec.HostUsers = new(bool)
		got, err := u.of(p, "")
		if err != nil {
			t.Fatal(err)
		}
		return got.Uids[0].HostId
	}
	first, second := part("a"), part("b")
	if first == second || part("a") != first {
		t.Errorf("parts %d and %d, and then %d", first, second, part("a"))
	}
	u = open()
	if part("b") != second || part("a") != first {
		t.Error("the next agent gives other parts")
	}
	if err := u.takeBack(t.Context(), func(uid types.UID) bool { return uid == "uid-a" }); err != nil {
		t.Fatal(err)
	}
	if part("a") != first {
		t.Error("a pod that is kept lost its part")
	}
	if _, err := os.Stat(filepath.Join(dir, "uid-b", "userns")); !os.IsNotExist(err) {
		t.Errorf("a pod that is gone has a part: %v", err)
	}
	p := pod("c")
	p.Spec.HostUsers = new(bool)
	for handler, want := range map[string]string{
		"unable": `RuntimeClass handler "unable" does not support user namespaces`, "nobody": `the handler "nobody" is not known`,
	} {
		if _, err := u.of(p, handler); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", handler, err, want)
		}
	}
}

// TestSubordinate: IDs are those that shadow's getsubids says.
func TestSubordinate(t *testing.T) { // alone: a program that was just written cannot run while somebody forks
	for script, want := range map[string]string{
		"echo 0: kubelet 65536 7208960": "",
		"exit 1":                        "error retrieving additional uids",
		`test "$1" != -g && echo 0: kubelet 65536 7208960 || echo 0: kubelet 1 2`: "mismatched",
		"echo":                "there must be one range",
		"echo 0: kubelet a 5": "error parsing line",
	} {
		program := filepath.Join(t.TempDir(), "getsubids")
		if err := os.WriteFile(program, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
		first, length, err := subordinate(program, "kubelet")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) || err == nil && (first != 65536 || length != 7208960) {
			t.Errorf("%s: %d, %d, %v; want %q", script, first, length, err, want)
		}
	}
}
