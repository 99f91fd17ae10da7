package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// trimBinary lets go of the pages of the program itself that this process has mapped. Initialising a thousand packages
// touches nearly all of the binary once, and the kernel counts it as ours from then on; what is needed comes back from
// the page cache at the next touch, a small part of it. Nothing is written or read from disk.
func trimBinary() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	maps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer maps.Close()
	for _, m := range cleanMappings(maps, exe) {
		if err := letGo(m.start, m.end); err != nil {
			return err
		}
	}
	return nil
}

// dropBinary lets go of the program in the page cache, as far as nobody uses it and it is on the disk. A file that was just written
// lies there in pieces of megabytes, and Linux from 6.18 on maps a whole piece for each byte that is touched, so that a process seems to
// take as much memory as its program has bytes. What is read from the disk lies there in small pieces.
func dropBinary() error {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	return errors.Join(unix.Fadvise(int(exe.Fd()), 0, 0, unix.FADV_DONTNEED), exe.Close())
}

// binarySize is that of the program's file.
func binarySize() uint64 {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return 0
	}
	return uint64(info.Size()) //nolint:gosec // it is positive
}

type mapping struct{ start, end uintptr }

// cleanMappings reads a process's smaps and returns the read-only mappings of a file of which no page was ever changed.
// Pages that the dynamic linker relocated before it made them read-only look the same but for being counted anonymous;
// letting go of those would lose the relocations.
func cleanMappings(smaps io.Reader, file string) []mapping {
	var found []mapping
	var current mapping
	ours := false
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 2 && strings.HasSuffix(f[0], ":"):
			if ours && f[0] == "Anonymous:" && f[1] == "0" {
				found = append(found, current)
			}
		case len(f) >= 5: // start-end perms offset dev inode path
			_, err := fmt.Sscanf(f[0], "%x-%x", &current.start, &current.end)
			ours = err == nil && len(f) == 6 && f[5] == file && len(f[1]) == 4 && f[1][1] == '-'
		}
	}
	return found
}

// letGo drops the pages of a clean mapping of a file from this process. unix.Madvise wants a slice, which the read-only
// segments of the binary are not.
func letGo(start, end uintptr) error {
	// Mapping whole huge pages would bring back two megabytes for each byte that is touched.
	for _, advice := range []uintptr{unix.MADV_NOHUGEPAGE, unix.MADV_DONTNEED} {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, start, end-start, advice)
		if errno != 0 && errno != unix.EINVAL { // no huge pages in this kernel
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// residentFiles is how much of mapped files is in memory for this process: next to nothing but the binary.
func residentFiles() uint64 {
	var size, resident, shared uint64
	data, err := os.ReadFile("/proc/self/statm")
	if err == nil {
		_, err = fmt.Sscan(string(data), &size, &resident, &shared)
	}
	if err != nil {
		return 0
	}
	return shared * uint64(os.Getpagesize()) //nolint:gosec // it is positive
}
