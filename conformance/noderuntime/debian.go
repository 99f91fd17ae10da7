package noderuntime

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// debianRelease is where images' programs come from, whatever Debian the machine has.
const debianRelease = "trixie"

// archive is Debian's, with lists and downloads of its own. It is where the machine's apt has the machine's packages from.
type archive struct {
	dir     string
	options []string
}

// openArchive fetches the list of a release's binary (deb) or source (deb-src) packages.
func openArchive(t testing.TB, release, kind string) *archive {
	t.Helper()
	for _, program := range []string{"apt-get", "dpkg"} {
		if _, err := exec.LookPath(program); err != nil {
			missing(t, "what machines run is made of Debian's packages: there is no %s", program)
		}
	}
	a := &archive{dir: t.TempDir()}
	list, status := filepath.Join(a.dir, "sources.list"), filepath.Join(a.dir, "status")
	line := fmt.Sprintf("%s [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n", kind, archiveSite(t), release)
	err := errors.Join(
		os.WriteFile(list, []byte(line), 0o644),
		os.WriteFile(status, nil, 0o644), // nothing is installed, so that what packages depend on comes with them
		os.MkdirAll(filepath.Join(a.dir, "lists/partial"), 0o755),
		os.MkdirAll(filepath.Join(a.dir, "cache/archives/partial"), 0o755),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []string{
		"APT::Sandbox::User=root", "APT::Install-Recommends=false", "Acquire::Languages=none", "Dir::Etc::sourcelist=" + list,
		"Dir::Etc::sourceparts=/dev/null", "Dir::State::lists=" + filepath.Join(a.dir, "lists"), "Dir::State::status=" + status,
		"Dir::Cache=" + filepath.Join(a.dir, "cache"),
	} {
		a.options = append(a.options, "-o", o)
	}
	a.get(t, "update")
	return a
}

// archiveSite is the site of the machine's own release.
func archiveSite(t testing.TB) string {
	t.Helper()
	release := strings.TrimSpace(run(t, "sh", "-c", ". /etc/os-release; echo $VERSION_CODENAME"))
	targets := run(t, "apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(SITE)", "Created-By: Packages")
	for line := range strings.Lines(targets) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == release && f[1] == "main" {
			return f[2]
		}
	}
	missing(t, "what machines run is made of Debian's packages: apt knows no site with main of %s", release)
	return ""
}

func (a *archive) get(t testing.TB, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "apt-get", append(append([]string{"-q", "-y"}, a.options...), args...)...)
	cmd.Dir = a.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		missing(t, "what machines run is made of Debian's packages, which cannot be had: apt-get %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// source downloads the upstream part of a source package of a version, and returns where it is.
func (a *archive) source(t testing.TB, name, version string) string {
	t.Helper()
	a.get(t, "source", "--download-only", name)
	found, err := filepath.Glob(filepath.Join(a.dir, name+"_"+version+".orig.tar.*[0-9a-z]"))
	if err != nil || len(found) != 1 {
		all, _ := filepath.Glob(filepath.Join(a.dir, name+"_*"))
		missing(t, "there is no source of %s %s in Debian's %s: %v, %v", name, version, debianRelease, all, err)
	}
	return found[0]
}

// packages downloads packages and all that they depend on.
func (a *archive) packages(t testing.TB, names ...string) []string {
	t.Helper()
	a.get(t, append([]string{"install", "--download-only"}, names...)...)
	found, err := filepath.Glob(filepath.Join(a.dir, "cache/archives/*.deb"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no packages came: %v", err)
	}
	return found
}

// debian is a layer, as a tar, of the files of packages and of those they depend on, all below /usr. Their scripts do not run: what
// those would set up is up to the image.
func debian(t testing.TB, name string, packages ...string) string {
	t.Helper()
	key := fmt.Sprintf("debian-%s-%s-%.6x", debianRelease, runtime.GOARCH, sha256.Sum256([]byte(strings.Join(packages, " "))))
	return harness.Cached(t, name+".tar", key, func(to string) {
		files := []File{{Path: "lib", Symlink: "usr/lib"}, {Path: "lib64", Symlink: "usr/lib64"}}
		seen := map[string]bool{}
		for _, deb := range openArchive(t, debianRelease, "deb").packages(t, packages...) {
			all, err := unpack(t, deb)
			if err != nil {
				t.Fatalf("%s: %v", deb, err)
			}
			for _, f := range all {
				if !seen[f.Path] { // as directories may be
					seen[f.Path] = true
					files = append(files, f)
				}
			}
		}
		writeLayer(t, to, files)
	})
}

// unpack reads the files of a package.
func unpack(t testing.TB, deb string) ([]File, error) {
	cmd := exec.CommandContext(t.Context(), "dpkg", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	var files []File
	for r := tar.NewReader(out); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, errors.Join(err, cmd.Wait())
		}
		name := below(header.Name)
		if name == "" {
			continue
		}
		f := File{Path: name, Mode: header.Mode, UID: header.Uid, GID: header.Gid}
		switch header.Typeflag {
		case tar.TypeDir:
			f.Path += "/"
		case tar.TypeSymlink:
			f.Symlink = header.Linkname
		case tar.TypeLink:
			f.Link = below(header.Linkname)
		case tar.TypeReg:
			data, err := io.ReadAll(r)
			if err != nil {
				return nil, errors.Join(err, cmd.Wait())
			}
			f.Text = string(data)
		default:
			return nil, fmt.Errorf("%s is of kind %q", name, header.Typeflag)
		}
		files = append(files, f)
	}
	return files, cmd.Wait()
}

// below is where a package's file is in images: nowhere for what programs do not need, nor for the links to directories of /usr.
func below(name string) string {
	name = path.Clean(strings.TrimPrefix(name, "./"))
	switch top, rest, deeper := strings.Cut(name, "/"); top {
	case ".", "run":
		return ""
	case "bin", "sbin", "lib", "lib64":
		if !deeper {
			return ""
		}
		name = "usr/" + top + "/" + rest
	}
	for _, dir := range []string{"doc", "man", "info", "locale", "lintian", "bug", "bash-completion", "doc-base", "menu"} {
		if of := "usr/share/" + dir; name == of || strings.HasPrefix(name, of+"/") {
			return ""
		}
	}
	return name
}
