package fakecri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Offer is an image that a registry has.
type Offer struct {
	Image *runtimeapi.Image
	// Auth says whether who pulls may; nil: anybody may.
	Auth func(*runtimeapi.AuthConfig) error
}

// Image is one as runtimes report it, by a name that is made whole as they do it: busybox is docker.io/library/busybox:latest.
func Image(name string) *runtimeapi.Image {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		panic(err) // the test's mistake
	}
	i := &runtimeapi.Image{
		Id: "sha256:" + digest("image "+named.String()), RepoDigests: []string{named.Name() + "@sha256:" + digest("manifest "+named.String())},
		Size: 1 << 20, Spec: &runtimeapi.ImageSpec{},
	}
	if tagged, ok := named.(reference.Tagged); ok {
		i.RepoTags = []string{named.Name() + ":" + tagged.Tag()}
	}
	if d, ok := named.(reference.Digested); ok {
		i.RepoDigests = []string{named.Name() + "@" + d.Digest().String()}
	}
	return i
}

func digest(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:])
}

// AddImage has images be there.
func (r *Runtime) AddImage(images ...*runtimeapi.Image) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, i := range images {
		i = r.named(i)
		r.images[i.Id] = i
	}
}

// named is an image with its id as this runtime writes it.
func (r *Runtime) named(i *runtimeapi.Image) *runtimeapi.Image {
	if r.Profile.PlainIDs {
		i = clone(i)
		i.Id = strings.TrimPrefix(i.Id, "sha256:")
	}
	return i
}

// AddImages has images of these names be there.
func (r *Runtime) AddImages(names ...string) {
	for _, name := range names {
		r.AddImage(Image(name))
	}
}

// Offer has registries have images. All others do not exist.
func (r *Runtime) Offer(offers ...Offer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, o := range offers {
		for _, name := range slices.Concat(o.Image.RepoTags, o.Image.RepoDigests) {
			r.offers[name] = o
		}
	}
}

// OfferImages has registries have images of these names.
func (r *Runtime) OfferImages(names ...string) {
	for _, name := range names {
		r.Offer(Offer{Image: Image(name)})
	}
}

// Images are those that are there, by their ids.
func (r *Runtime) Images() []*runtimeapi.Image {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*runtimeapi.Image
	for _, i := range slices.SortedFunc(maps.Values(r.images), func(a, b *runtimeapi.Image) int { return cmp.Compare(a.Id, b.Id) }) {
		all = append(all, clone(i))
	}
	return all
}

// find is the image of a name or an id, of which the beginning will do; nil: it is not there.
func (r *Runtime) find(name string) *runtimeapi.Image {
	if i := r.images[name]; i != nil {
		return i
	}
	if len(name) >= 12 {
		for id, i := range r.images {
			if strings.HasPrefix(strings.TrimPrefix(id, "sha256:"), strings.TrimPrefix(name, "sha256:")) {
				return i
			}
		}
	}
	whole := whole(name)
	for _, i := range r.images {
		if slices.Contains(i.RepoTags, whole) || slices.Contains(i.RepoDigests, whole) {
			return i
		}
	}
	return nil
}

// whole is a name with its registry and tag; "": it is none.
func whole(name string) string {
	named, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return named.String()
}

// name is what containers of the image say that they run.
func name(i *runtimeapi.Image) string {
	if len(i.RepoTags) > 0 {
		return i.RepoTags[0]
	}
	return i.Id
}

func ref(i *runtimeapi.Image) string {
	if len(i.RepoDigests) > 0 {
		return i.RepoDigests[0]
	}
	return i.Id
}

func (r *imageServer) ListImages(_ context.Context, req *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	if name := req.GetFilter().GetImage().GetImage(); name != "" {
		r.mu.Lock()
		defer r.mu.Unlock()
		out := &runtimeapi.ListImagesResponse{}
		if i := r.find(name); i != nil {
			out.Images = append(out.Images, clone(i))
		}
		return out, nil
	}
	return &runtimeapi.ListImagesResponse{Images: r.Images()}, nil
}

func (r *imageServer) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.find(req.GetImage().GetImage())
	if i == nil {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	return &runtimeapi.ImageStatusResponse{Image: clone(i)}, nil
}

func (r *imageServer) PullImage(_ context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := whole(req.GetImage().GetImage())
	if name == "" {
		return nil, status.Errorf(codes.Unknown, "failed to parse image reference %q: invalid reference format", req.GetImage().GetImage())
	}
	o, ok := r.offers[name]
	if !ok {
		return nil, status.Errorf(codes.NotFound, "failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", name, name, name)
	}
	if o.Auth != nil {
		if err := o.Auth(req.GetAuth()); err != nil {
			return nil, status.Errorf(codes.Unknown, "failed to pull and unpack image %q: failed to resolve reference %q: %v", name, name, err)
		}
	}
	i := clone(r.named(o.Image))
	if i.Spec == nil {
		i.Spec = &runtimeapi.ImageSpec{}
	}
	i.Spec.RuntimeHandler = req.GetImage().GetRuntimeHandler()
	r.images[i.Id] = i
	if r.Profile.PullsDigests {
		return &runtimeapi.PullImageResponse{ImageRef: ref(i)}, nil
	}
	return &runtimeapi.PullImageResponse{ImageRef: i.Id}, nil
}

func (r *imageServer) RemoveImage(_ context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.find(req.GetImage().GetImage()); i != nil {
		delete(r.images, i.Id)
	}
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (r *imageServer) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	used := uint64(0)
	for _, i := range r.images {
		used += i.Size
	}
	fs := &runtimeapi.FilesystemUsage{
		Timestamp: now(), FsId: &runtimeapi.FilesystemIdentifier{Mountpoint: r.imageFs},
		UsedBytes: &runtimeapi.UInt64Value{Value: used}, InodesUsed: &runtimeapi.UInt64Value{Value: uint64(len(r.images)) * 100},
	}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{fs}, ContainerFilesystems: []*runtimeapi.FilesystemUsage{clone(fs)}}, nil
}
