package observe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// TestMessages: what a container left where its last message is to be is read as far as it may be, and never waited for.
func TestMessages(t *testing.T) {
	t.Parallel()
	directory, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	in := func(name string) string { return filepath.Join(directory, name) }
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(in(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("short", "bye")
	write("secret", "root:x")
	write("empty", "")
	huge, err := os.Create(in("huge"))
	if err == nil {
		_, err = huge.WriteAt([]byte("the end"), 1<<30)
	}
	if err == nil {
		err = huge.Close()
	}
	if err == nil {
		err = os.Symlink(in("secret"), in("link"))
	}
	if err == nil {
		err = os.Symlink(directory, in("up"))
	}
	if err == nil {
		err = unix.Mkfifo(in("pipe"), 0o600)
	}
	if err == nil {
		err = os.Mkdir(in("directory"), 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"short": "bye", "empty": "", "missing": "", "huge": strings.Repeat("\x00", 4096-7) + "the end",
		"link": "not a regular file", "up/secret": "too many levels of symbolic links",
		"pipe": "not a regular file", "directory": "not a regular file",
	} {
		got := message(t.Context(), &runtimeapi.ContainerStatus{
			State: runtimeapi.ContainerState_CONTAINER_EXITED, Annotations: map[string]string{"io.kubernetes.container.terminationMessagePath": "/dev/termination-log"},
			Mounts: []*runtimeapi.Mount{{ContainerPath: "/dev/termination-log", HostPath: in(path)}},
		})
		switch {
		case strings.HasPrefix(got, "Error on reading termination log "+in(path)+": "):
			if !strings.Contains(got, want) {
				t.Errorf("%s: %q", path, got)
			}
		case got != want:
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
}
