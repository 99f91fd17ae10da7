package image

import (
	"context"

	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubernetes/pkg/credentialprovider"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
)

// service is the runtime's, in the words of upstream's manager. That asks for nothing else.
type service struct {
	kubecontainer.ImageService
	images internalapi.ImageManagerService
}

func specOf(spec kubecontainer.ImageSpec) *runtimeapi.ImageSpec {
	out := &runtimeapi.ImageSpec{Image: spec.Image, RuntimeHandler: spec.RuntimeHandler, Annotations: map[string]string{}}
	for _, a := range spec.Annotations {
		out.Annotations[a.Name] = a.Value
	}
	return out
}

// PullImage pulls with one credential after the other, until one will do. The image is known by its id from then on: some runtimes
// answer a pull with a digest instead, which notes of pulls are not found by.
func (s *service) PullImage(
	ctx context.Context, image kubecontainer.ImageSpec, credentials []credentialprovider.TrackedAuthConfig, sandbox *runtimeapi.PodSandboxConfig,
) (string, *credentialprovider.TrackedAuthConfig, error) {
	spec := specOf(image)
	if len(credentials) == 0 {
		ref, err := s.images.PullImage(ctx, spec, nil, sandbox)
		if err != nil {
			return "", nil, err
		}
		return s.id(ctx, image, ref), nil, nil
	}
	var problems []error
	for i := range credentials {
		c := &credentials[i]
		ref, err := s.images.PullImage(ctx, spec, &runtimeapi.AuthConfig{
			Username: c.Username, Password: c.Password, Auth: c.Auth, ServerAddress: c.ServerAddress,
			IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken,
		}, sandbox)
		if err == nil {
			return s.id(ctx, image, ref), c, nil
		}
		problems = append(problems, err)
	}
	return "", nil, utilerrors.NewAggregate(problems)
}

// id is that of an image that was pulled; what the pull was answered with is better than nothing.
func (s *service) id(ctx context.Context, image kubecontainer.ImageSpec, ref string) string {
	if id, err := s.GetImageRef(ctx, image); err == nil && id != "" {
		return id
	}
	return ref
}

// GetImageRef is the id of an image; "": it is not there.
func (s *service) GetImageRef(ctx context.Context, image kubecontainer.ImageSpec) (string, error) {
	status, err := s.images.ImageStatus(ctx, specOf(image), false)
	return status.GetImage().GetId(), err
}

// GetImageSize is in bytes.
func (s *service) GetImageSize(ctx context.Context, image kubecontainer.ImageSpec) (uint64, error) {
	status, err := s.images.ImageStatus(ctx, specOf(image), false)
	return status.GetImage().GetSize(), err
}

// ListImages lists what pulls that were under way are compared with.
func (s *service) ListImages(ctx context.Context) ([]kubecontainer.Image, error) {
	all, err := s.images.ListImages(ctx, nil)
	if err != nil {
		return nil, err
	}
	out := make([]kubecontainer.Image, 0, len(all))
	for _, i := range all {
		out = append(out, kubecontainer.Image{ID: i.Id, Size: int64(i.Size), RepoTags: i.RepoTags, RepoDigests: i.RepoDigests, Pinned: i.Pinned})
	}
	return out, nil
}
