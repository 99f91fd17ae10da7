package noderuntime

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Image is what an image is made of. Equal ones have equal digests.
type Image struct {
	Name   string // REGISTRY/REPOSITORY:TAG
	Files  []File
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
	mediaType string
	data      []byte
}

func (b blob) descriptor() imagespec.Descriptor {
	return imagespec.Descriptor{MediaType: b.mediaType, Digest: digest.FromBytes(b.data), Size: int64(len(b.data))}
}

// build makes the image's manifest, and what that refers to. Layers are not compressed: they travel through memory only.
func (i *Image) build() (manifest blob, parts []blob, err error) {
	layer := blob{mediaType: imagespec.MediaTypeImageLayer}
	if layer.data, err = i.layer(); err != nil {
		return blob{}, nil, fmt.Errorf("image %s: %w", i.Name, err)
	}
	epoch := time.Unix(0, 0).UTC()
	config, err := encoded(imagespec.MediaTypeImageConfig, imagespec.Image{
		Created: &epoch, Platform: imagespec.Platform{Architecture: runtime.GOARCH, OS: "linux"}, Config: i.Config,
		RootFS: imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer.data)}},
	})
	if err != nil {
		return blob{}, nil, err
	}
	manifest, err = encoded(imagespec.MediaTypeImageManifest, imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: config.descriptor(), Layers: []imagespec.Descriptor{layer.descriptor()},
	})
	return manifest, []blob{config, layer}, err
}

func encoded(mediaType string, v any) (blob, error) {
	data, err := json.Marshal(v)
	return blob{mediaType: mediaType, data: data}, err
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
		header.Typeflag, header.Linkname, header.Mode = tar.TypeLink, f.Link, 0o755
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
