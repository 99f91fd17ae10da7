package admission

import (
	"context"
	"errors"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
	upstream "k8s.io/apiserver/pkg/admission"
	api "k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/plugin/pkg/admission/alwayspullimages"
)

// alwaysPull extends AlwaysPullImages to ephemeral containers. Upstream's looks at pods only as a whole, so that whoever may
// debug a pod could run an image of another tenant that its node happens to have.
type alwaysPull struct {
	*alwayspullimages.AlwaysPullImages
}

var (
	_ upstream.MutationInterface   = alwaysPull{}
	_ upstream.ValidationInterface = alwaysPull{}
)

// withOurs puts our extensions of upstream's plug-ins around them.
func withOurs(plugin upstream.Interface, _ string) upstream.Interface {
	if p, ok := plugin.(*alwayspullimages.AlwaysPullImages); ok {
		return alwaysPull{p}
	}
	return plugin
}

// Admit implements upstream.MutationInterface.
func (p alwaysPull) Admit(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	for _, c := range newEphemeral(a) {
		c.ImagePullPolicy = api.PullAlways
	}
	return p.AlwaysPullImages.Admit(ctx, a, o)
}

// Validate implements upstream.ValidationInterface.
func (p alwaysPull) Validate(ctx context.Context, a upstream.Attributes, o upstream.ObjectInterfaces) error {
	var errs []error
	for i, c := range newEphemeral(a) {
		if c.ImagePullPolicy != api.PullAlways {
			path := field.NewPath("spec", "ephemeralContainers").Index(i).Child("imagePullPolicy")
			errs = append(errs, upstream.NewForbidden(a, field.NotSupported(path, c.ImagePullPolicy, []string{string(api.PullAlways)})))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return p.AlwaysPullImages.Validate(ctx, a, o)
}

// newEphemeral returns the ephemeral containers, by their index, that a request adds to a pod. Those that are there already
// cannot be changed.
func newEphemeral(a upstream.Attributes) map[int]*api.EphemeralContainer {
	if a.GetSubresource() != "ephemeralcontainers" || a.GetResource().GroupResource() != api.Resource("pods") {
		return nil
	}
	pod, ok := a.GetObject().(*api.Pod)
	if !ok {
		return nil
	}
	there := sets.New[string]()
	if old, ok := a.GetOldObject().(*api.Pod); ok {
		for _, c := range old.Spec.EphemeralContainers {
			there.Insert(c.Name)
		}
	}
	added := map[int]*api.EphemeralContainer{}
	for i := range pod.Spec.EphemeralContainers {
		if c := &pod.Spec.EphemeralContainers[i]; !there.Has(c.Name) {
			added[i] = c
		}
	}
	return added
}
