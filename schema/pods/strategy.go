// Package pods has the strategy of updates of pods: upstream's, without what it does for nothing when an update leaves the spec as
// it is, which nearly all do. Then upstream compares the specs twice by reflection and validates one that it has validated before.
package pods

import (
	"context"
	"crypto/sha256"
	"maps"
	"reflect"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/registry/rest"
	podutil "k8s.io/kubernetes/pkg/api/pod"
	api "k8s.io/kubernetes/pkg/apis/core"
	corevalidation "k8s.io/kubernetes/pkg/apis/core/validation"
	registrypod "k8s.io/kubernetes/pkg/registry/core/pod"
)

// strategy is upstream's but for two methods.
type strategy struct {
	rest.RESTUpdateStrategy

	valid sums // of what upstream found no fault with
}

// UpdateStrategy returns the strategy for updates of pods.
func UpdateStrategy() rest.RESTUpdateStrategy {
	return &strategy{RESTUpdateStrategy: registrypod.Strategy}
}

// PrepareForUpdate does what upstream's does. Specs that are the same are one afterwards, as upstream does with the parts that an
// endpoint may not change.
func (s *strategy) PrepareForUpdate(_ context.Context, obj, old runtime.Object) {
	pod, was := obj.(*api.Pod), old.(*api.Pod)
	pod.Status = was.Status
	podutil.DropDisabledPodFields(pod, was)
	switch {
	case sameSpec(&pod.Spec, &was.Spec):
		pod.Spec = was.Spec
	case !apiequality.Semantic.DeepEqual(pod.Spec, was.Spec):
		pod.Generation++
	}
}

// ValidateUpdate says what upstream's says. What is wrong with a pod is wrong with its metadata, or with its spec and annotations,
// which are looked at again only when they differ from what was there, or were not looked at before.
func (s *strategy) ValidateUpdate(ctx context.Context, obj, old runtime.Object) field.ErrorList {
	pod, was := obj.(*api.Pod), old.(*api.Pod)
	if !maps.Equal(pod.Annotations, was.Annotations) || !sameSpec(&pod.Spec, &was.Spec) {
		return s.RESTUpdateStrategy.ValidateUpdate(ctx, obj, old)
	}
	key, ok := keyOf(was)
	if ok && s.valid.has(key) {
		path := field.NewPath("metadata")
		return append(corevalidation.ValidateObjectMetaUpdate(&pod.ObjectMeta, &was.ObjectMeta, path),
			corevalidation.ValidateObjectMeta(&pod.ObjectMeta, true, corevalidation.ValidatePodName, path)...)
	}
	errs := s.RESTUpdateStrategy.ValidateUpdate(ctx, obj, old)
	if ok && len(errs) == 0 {
		s.valid.add(key)
	}
	return errs
}

// keyOf is a sum of all that validation of an unchanged spec looks at: the spec, the annotations, and the name where claims are named
// after the pod. It is false for a pod with something that is not known here.
func keyOf(pod *api.Pod) (sum, bool) {
	w := writers.Get().(*writer)
	defer w.free()
	w.add(reflect.ValueOf(&pod.Spec).Elem())
	w.add(reflect.ValueOf(&pod.Annotations).Elem())
	for i := range pod.Spec.Volumes {
		if pod.Spec.Volumes[i].Ephemeral != nil {
			w.add(reflect.ValueOf(&pod.Name).Elem())
			break
		}
	}
	return sha256.Sum256(w.data), !w.strange
}

func sameSpec(a, b *api.PodSpec) bool {
	return same(reflect.ValueOf(a).Elem(), reflect.ValueOf(b).Elem())
}
