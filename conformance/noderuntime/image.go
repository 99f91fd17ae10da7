package noderuntime

import (
	"archive/tar"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/rowlock-io/rowlock/conformance/harness"
)

// Image is what an image is made of. Equal ones have equal digests.
type Image struct {
	Name   string   // REGISTRY/REPOSITORY:TAG
	Base   *Image   // whose layers are the lowest; its configuration does not count
	Layers []string // above them: tars
	Files  []File   // above them
	Config imagespec.ImageConfig
}

// File is a file of an image: of one kind only.
type File struct {
	Path    string // without a slash at the front, and with one at the end for a directory
	From    string // the file whose content it has
	Text    string // else its content
	Link    string // a hard link to the file at another path of the image
	Symlink string
	Mode    int64 // 0: 0755 for directories and files with From, else 0644
	UID     int
	GID     int
}

// Tool is a program's file.
func Tool(path, from string) File { return File{Path: path, From: from} }

// Dir is a directory.
func Dir(path string, mode int64) File { return File{Path: path + "/", Mode: mode} }

// blob is something a registry serves by its digest.
type blob struct {
	imagespec.Descriptor

	data []byte
	file string // that has the data, where it is not in memory
}

func memory(mediaType string, data []byte) blob {
	return blob{Descriptor: imagespec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}, data: data}
}

func onDisk(mediaType, file string) (blob, error) {
	f, err := os.Open(file)
	if err != nil {
		return blob{}, err
	}
	defer f.Close()
	of, err := digest.FromReader(f)
	if err != nil {
		return blob{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return blob{}, err
	}
	return blob{Descriptor: imagespec.Descriptor{MediaType: mediaType, Digest: of, Size: info.Size()}, file: file}, nil
}

// build makes the image's manifest, and what that refers to.
func (i *Image) build() (manifest blob, parts []blob, err error) {
	layers, err := i.layers()
	if err != nil {
		return blob{}, nil, fmt.Errorf("image %s: %w", i.Name, err)
	}
	of, diffs := make([]imagespec.Descriptor, len(layers)), make([]digest.Digest, len(layers))
	for n, layer := range layers {
		of[n], diffs[n] = layer.Descriptor, layer.Digest
	}
	epoch := time.Unix(0, 0).UTC()
	config, err := encoded(imagespec.MediaTypeImageConfig, imagespec.Image{
		Created: &epoch, Platform: imagespec.Platform{Architecture: runtime.GOARCH, OS: "linux"}, Config: i.Config,
		RootFS: imagespec.RootFS{Type: "layers", DiffIDs: diffs},
	})
	if err != nil {
		return blob{}, nil, err
	}
	manifest, err = encoded(imagespec.MediaTypeImageManifest, imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: config.Descriptor, Layers: of,
	})
	return manifest, append(layers, config), err
}

// layers are the image's, the lowest first. They are not compressed: they do not travel far.
func (i *Image) layers() ([]blob, error) {
	var all []blob
	if i.Base != nil {
		var err error
		if all, err = i.Base.layers(); err != nil {
			return nil, err
		}
	}
	for _, file := range i.Layers {
		layer, err := onDisk(imagespec.MediaTypeImageLayer, file)
		if err != nil {
			return nil, err
		}
		all = append(all, layer)
	}
	if len(i.Files) == 0 {
		return all, nil
	}
	data, err := i.layer()
	return append(all, memory(imagespec.MediaTypeImageLayer, data)), err
}

func encoded(mediaType string, v any) (blob, error) {
	data, err := json.Marshal(v)
	return memory(mediaType, data), err
}

// stored is a layer of files that are large, as a tar.
func stored(t testing.TB, name string, files ...File) string {
	t.Helper()
	return harness.Cached(t, name+".tar", fmt.Sprintf("layers-%.6x", sha256.Sum256(fmt.Appendf(nil, "%+v", files))), func(to string) {
		writeLayer(t, to, files)
	})
}

func writeLayer(t testing.TB, to string, files []File) {
	t.Helper()
	data, err := (&Image{Files: files}).layer()
	if err == nil {
		err = os.WriteFile(to, data, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// layer is a tar of the files with their parent directories: sorted, but that links come after what they link to, and no path
// twice, which some runtimes refuse.
func (i *Image) layer() ([]byte, error) {
	files := map[string]File{}
	for _, f := range i.Files {
		if _, twice := files[f.Path]; twice {
			return nil, fmt.Errorf("%s is there twice", f.Path)
		}
		files[f.Path] = f
	}
	for name := range files {
		for dir := path.Dir(strings.TrimSuffix(name, "/")); dir != "."; dir = path.Dir(dir) {
			if _, there := files[dir+"/"]; !there {
				files[dir+"/"] = Dir(dir, 0)
			}
		}
	}
	sorted := make([]File, 0, len(files))
	for _, f := range files {
		sorted = append(sorted, f)
	}
	slices.SortFunc(sorted, func(a, b File) int { return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.Path, b.Path)) })
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range sorted {
		if err := f.write(w); err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

func (f *File) order() int {
	if f.Link != "" {
		return 1
	}
	return 0
}

func (f *File) write(w *tar.Writer) error {
	data, header := []byte(f.Text), &tar.Header{Name: f.Path, Mode: f.Mode, Uid: f.UID, Gid: f.GID, Typeflag: tar.TypeReg}
	switch {
	case strings.HasSuffix(f.Path, "/"):
		header.Typeflag, header.Mode = tar.TypeDir, cmp.Or(f.Mode, 0o755)
	case f.Link != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeLink, f.Link, cmp.Or(f.Mode, 0o755)
	case f.Symlink != "":
		header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, f.Symlink, 0o777
	case f.From != "":
		var err error
		if data, err = os.ReadFile(f.From); err != nil {
			return err
		}
		header.Mode = cmp.Or(f.Mode, 0o755)
	default:
		header.Mode = cmp.Or(f.Mode, 0o644)
	}
	header.Size = int64(len(data))
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}
