package noderuntime

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestBelow says where files of packages go.
func TestBelow(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"./":                                "",
		"./bin/":                            "",
		"./bin":                             "", // the link to usr/bin
		"./bin/nc.openbsd":                  "usr/bin/nc.openbsd",
		"./lib64/ld-linux-x86-64.so.2":      "usr/lib64/ld-linux-x86-64.so.2",
		"./library/x":                       "library/x",
		"./usr/bin/curl":                    "usr/bin/curl",
		"./usr/share/":                      "usr/share",
		"./usr/share/doc/":                  "",
		"./usr/share/man/man1/curl.1.gz":    "",
		"./usr/share/manager/x":             "usr/share/manager/x",
		"./run/lock/":                       "",
		"./etc/nginx/sites-enabled/../x":    "etc/nginx/x",
		"usr/share/nginx/html/index.html":   "usr/share/nginx/html/index.html",
		"./usr/share/locale/de/LC_MESSAGES": "",
	} {
		if got := below(name); got != want {
			t.Errorf("%s is at %q, not at %q", name, got, want)
		}
	}
}

// TestLayers: an image's layers are its base's, then those on the disk, then its files; and equal images are one image.
func TestLayers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "layer.tar")
	writeLayer(t, file, []File{{Path: "usr/bin/a", Text: "a", Mode: 0o4755}, {Path: "usr/bin/0", Link: "usr/bin/a"}})
	image := func(label string) *Image {
		return &Image{
			Name: "registry.example/image:1", Base: &Image{Files: []File{{Path: "bin/b", Text: "b"}}}, Layers: []string{file},
			Files:  []File{{Path: "c", Symlink: "bin/b"}},
			Config: imagespec.ImageConfig{Labels: map[string]string{"version": label}},
		}
	}
	registry := NewRegistry()
	of := registry.Add(t, image("1"))
	if again := registry.Add(t, image("1")); again != of {
		t.Errorf("the digest is %s at first, then %s", of, again)
	}
	if other := registry.Add(t, image("2")); other == of {
		t.Errorf("another image has the same digest %s", other)
	}
	layers, err := image("1").layers()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, layer := range layers {
		got = append(got, strings.Join(listing(t, fetch(t, registry, "/v2/image/blobs/"+layer.Digest.String(), layer.Digest)), " "))
	}
	want := []string{"bin/ 755 bin/b 644", "usr/ 755 usr/bin/ 755 usr/bin/a 4755 usr/bin/0->usr/bin/a 755", "c->bin/b 777"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := (&Image{Files: []File{{Path: "a"}, {Path: "a"}}}).layers(); err == nil {
		t.Error("a layer has a file twice")
	}
}

// fetch has a registry send what has a digest.
func fetch(t *testing.T, registry *Registry, url string, want digest.Digest) string {
	t.Helper()
	answer := httptest.NewRecorder()
	registry.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, url, http.NoBody))
	body := answer.Body.String()
	if got := digest.FromString(body); answer.Code != http.StatusOK || got != want {
		t.Fatalf("%s is answered by %d with what has the digest %s", url, answer.Code, got)
	}
	return body
}

// listing is what is in a tar.
func listing(t *testing.T, data string) []string {
	t.Helper()
	var all []string
	for r := tar.NewReader(strings.NewReader(data)); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Linkname != "" {
			header.Name += "->" + header.Linkname
		}
		all = append(all, header.Name, strconv.FormatInt(header.Mode, 8))
	}
}
