package noderuntime

import (
	"compress/bzip2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// busyboxVersion is that of the official image, which is upstream's source as it is. Debian's own build of it is no replacement:
// its shell keeps variables with names like data-1 from the programs that it starts.
const busyboxVersion = "1.37.0"

// busyboxConfig is what the official image's build changes of upstream's defaults, but that ours is static and has no tc, which
// does not compile with every kernel's headers.
var busyboxConfig = map[string]string{
	"STATIC": "y", "AR": "y", "FEATURE_AR_CREATE": "y", "FEATURE_AR_LONG_FILENAMES": "y", "LAST_SUPPORTED_WCHAR": "0",
	"FEATURE_SYNC_FANCY": "", "TC": "", "FEATURE_TC_INGRESS": "",
}

const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Busybox is the image with a shell and the usual tools.
func Busybox(t testing.TB) *Image {
	t.Helper()
	program := busybox(t)
	files := []File{
		Tool("bin/busybox", program), Dir("tmp", 0o1777), Dir("root", 0o700), Dir("home", 0), Dir("var/run", 0), Dir("var/tmp", 0o1777),
		Dir("dev", 0), Dir("proc", 0), Dir("sys", 0), Dir("usr/sbin", 0), Dir("usr/local/bin", 0),
		{Path: "etc/passwd", Text: passwd},
		{Path: "etc/group", Text: group},
		{Path: "etc/nsswitch.conf", Text: nsswitch},
	}
	// Applets are hard links: a mask over a symbolic link, which a runtime may be asked for, would be one over the program itself.
	for name := range strings.FieldsSeq(run(t, program, "--list")) {
		if name != "busybox" {
			files = append(files, File{Path: "bin/" + name, Link: "bin/busybox"})
		}
	}
	return &Image{
		Name: BusyboxImage, Files: append(files, File{Path: "usr/bin/env", Link: "bin/busybox"}),
		Config: imagespec.ImageConfig{Cmd: []string{"sh"}, Env: []string{defaultPath}},
	}
}

// The users and groups of images, and where programs look for names.
const (
	passwd = `root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
`
	group = `root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
mail:x:8:
wheel:x:10:root
www-data:x:33:
users:x:100:
nogroup:x:65534:
`
	nsswitch = "passwd: files\ngroup: files\nhosts: files dns\n"
)

// busybox is the program, compiled.
func busybox(t testing.TB) string {
	t.Helper()
	return harness.Cached(t, "busybox", busyboxVersion+"-"+runtime.GOARCH, func(path string) {
		for _, program := range []string{"gcc", "make"} {
			if _, err := exec.LookPath(program); err != nil {
				missing(t, "busybox is compiled with %s, which is not there", program)
			}
		}
		dir := t.TempDir()
		source, err := os.Open(openArchive(t, debianRelease, "deb-src").source(t, "busybox", busyboxVersion))
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close()
		cmd := exec.CommandContext(t.Context(), "tar", "-x", "--strip-components=1", "-C", dir)
		cmd.Stdin = bzip2.NewReader(source)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", cmd, err, out)
		}
		build := func(args ...string) {
			t.Helper()
			run(t, "env", append([]string{"KCONFIG_NOTIMESTAMP=1", "make", "-C", dir}, args...)...)
		}
		build("defconfig")
		configure(t, filepath.Join(dir, ".config"), busyboxConfig)
		build("-j2", "busybox")
		run(t, "cp", filepath.Join(dir, "busybox"), path)
	})
}

// configure changes options in a file that make defconfig wrote: to a value, or off where there is none.
func configure(t testing.TB, file string, options map[string]string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	changed := 0
	for i, line := range lines {
		name, _, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "# "), "CONFIG_"), "=")
		name = strings.TrimSuffix(name, " is not set")
		value, ours := options[name]
		if !ours {
			continue
		}
		changed++
		if lines[i] = "CONFIG_" + name + "=" + value; value == "" {
			lines[i] = "# CONFIG_" + name + " is not set"
		}
	}
	if changed != len(options) {
		t.Fatalf("%d of %d options are in busybox's configuration", changed, len(options))
	}
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
}
