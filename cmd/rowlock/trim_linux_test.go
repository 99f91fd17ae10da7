package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const smaps = `00400000-00403000 r--p 00000000 fe:00 99  /usr/bin/rowlock
Rss:                  12 kB
Anonymous:             0 kB
VmFlags: rd mr mw me sd
00403000-032d9000 r-xp 00003000 fe:00 99  /usr/bin/rowlock
Anonymous:             0 kB
0654b000-0654e000 r--p 0614b000 fe:00 99  /usr/bin/rowlock
Anonymous:            12 kB
0654e000-0663f000 rw-p 0614e000 fe:00 99  /usr/bin/rowlock
Anonymous:             0 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 98  /lib/libc.so.6
Anonymous:             0 kB
7f0000002000-7f0000003000 r--p 00000000 00:00 0
Anonymous:             0 kB
`

// Relocated pages, writable ones and those of other files stay.
func TestCleanMappings(t *testing.T) {
	t.Parallel()
	got := cleanMappings(strings.NewReader(smaps), "/usr/bin/rowlock")
	want := []mapping{{0x400000, 0x403000}, {0x403000, 0x32d9000}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(mapping{})); diff != "" {
		t.Error(diff)
	}
}

// The program goes on: its code and constants come back as they were.
func TestTrimBinary(t *testing.T) {
	if err := trimBinary(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Repeat("still here ", 2); got != "still here still here " {
		t.Fatal(got)
	}
}
