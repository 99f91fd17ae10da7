package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestRemove: what a runtime leaves in a pod's cgroup, as CRI-O does, is removed with it, from every hierarchy; so are processes that are
// left, however they multiply.
func TestRemove(t *testing.T) {
	t.Parallel()
	h, root := tree(t)
	m, err := New(Config{Log: logger(t), Hierarchies: h, Root: root})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Setup(nil); err != nil {
		t.Fatal(err)
	}
	p, other := classes()["burstable"], classes()["guaranteed"]
	for _, one := range []*corev1.Pod{p, other} {
		if err := m.Ensure(one); err != nil {
			t.Fatal(err)
		}
	}
	all := append(h.directories(), h.Others...)
	for _, mount := range all {
		literal, _ := m.Parent(p)
		if err := os.MkdirAll(filepath.Join(mount, literal, "crio-conmon-0123/deeper"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// It starts another one that starts another one …, and none heeds a signal that can be heeded.
	cmd := exec.Command("sh", "-c", `trap "" TERM INT HUP; read begin; while :; do (sleep 0.05; sleep 1000) & sleep 0.02; done`)
	begin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	for _, controller := range []string{"pids", "memory", "cpu"} {
		procs := filepath.Join(m.Directory(p, controller), "crio-conmon-0123")
		if controller == "cpu" {
			procs = m.Directory(p, controller)
		}
		if err := store(filepath.Join(procs, "cgroup.procs"), itoa(cmd.Process.Pid)); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // or it would be in the cgroup for good
	}()
	if _, err := begin.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	for len(processes(m.Directory(p, "cpu"))) < 5 { // it multiplies
		time.Sleep(time.Millisecond)
	}
	if err := m.Remove(t.Context(), p.UID); err != nil {
		t.Fatal(err)
	}
	<-ended
	for _, mount := range all {
		literal, _ := m.Parent(p)
		if _, err := os.Stat(filepath.Join(mount, literal)); !os.IsNotExist(err) {
			t.Errorf("%s is still there (%v)", filepath.Join(mount, literal), err)
		}
	}
	if !m.Exists(other) {
		t.Error("another pod's cgroup is gone too")
	}
	if err := m.Remove(t.Context(), p.UID); err != nil {
		t.Errorf("a second time: %v, want no error", err)
	}
	if found, err := m.Pods(); err != nil || len(found) != 1 || found[0] != other.UID {
		t.Errorf("pods %v have cgroups (%v), want %s", found, err, other.UID)
	}
}

// TestRemoveGivesUp: a cgroup that stays busy is an error when its time is over.
func TestRemoveGivesUp(t *testing.T) {
	t.Parallel()
	m, _ := fake(t)
	p := classes()["burstable"]
	if err := m.Ensure(p); err != nil {
		t.Fatal(err)
	}
	m.rmdir = func(string) error { return busy }
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := m.Remove(ctx, p.UID); err == nil {
		t.Error("it is gone, they say")
	}
}
