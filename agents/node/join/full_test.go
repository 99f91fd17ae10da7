package join

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFullDisk: what is written already is not written again, which a full disk would not let through.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("a small disk is mounted by root only")
	}
	dir := t.TempDir()
	if err := unix.Mount("small", dir, "tmpfs", 0, "size=16k"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	path := filepath.Join(dir, "file")
	if err := write(path, []byte("there"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "fill"), make([]byte, 1<<16), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := write(path, []byte("there"), 0o600); err != nil {
		t.Errorf("the same once more: %v", err)
	}
	if err := write(path, []byte("anew!"), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("something else: %v", err)
	}
	if got, err := os.ReadFile(path); string(got) != "there" {
		t.Errorf("there is %q, %v", got, err)
	}
}
