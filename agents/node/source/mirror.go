package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
)

// mirrorPeriod is how often mirrors are looked after that could not be made or removed.
const mirrorPeriod = 5 * time.Second

func (s *Source) mirrorsChanged() {
	select {
	case s.mirror <- struct{}{}:
	default:
	}
}

// keepMirrors sees to it that the API has a mirror of every static pod, and no other.
func (s *Source) keepMirrors(ctx context.Context) {
	tick := time.NewTicker(mirrorPeriod)
	defer tick.Stop()
	again := false // something is left to be done
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if !again {
				continue
			}
		case <-s.mirror:
		}
		again = s.mirrors(ctx) > 0
	}
}

// mirrors makes and removes them, and tells how many it has to look at again.
func (s *Source) mirrors(ctx context.Context) (left int) {
	s.mu.Lock()
	ready := s.api && s.files
	s.mu.Unlock()
	if !ready {
		return 0
	}
	s.known.RLock()
	mirrors, static := maps.Clone(s.known.mirrors), slices.Collect(maps.Values(s.known.static))
	s.known.RUnlock()
	for _, pod := range static {
		mirror := mirrors[fullName(pod)]
		delete(mirrors, fullName(pod))
		if err := s.keepMirror(ctx, pod, mirror); err != nil {
			s.Log.Warn("Mirror of a static pod is not as it should be", "pod", fullName(pod), "error", err)
			left++
		}
	}
	ending := map[string]bool{}
	for _, pod := range s.workers.Active() {
		ending[fullName(pod)] = kubetypes.IsStaticPod(pod)
	}
	for name, mirror := range mirrors {
		if ending[name] { // whoever looks sees it until it has ended
			left++
			continue
		}
		if err := s.removeMirror(ctx, mirror); err != nil {
			s.Log.Warn("Mirror of a pod that is not there was not removed", "pod", name, "error", err)
			left++
		}
	}
	return left
}

func (s *Source) keepMirror(ctx context.Context, pod, mirror *corev1.Pod) error {
	hash := pod.Annotations[kubetypes.ConfigHashAnnotationKey]
	if mirror != nil {
		if mirror.DeletionTimestamp == nil && mirror.Annotations[kubetypes.ConfigMirrorAnnotationKey] == hash {
			return nil
		}
		if err := s.removeMirror(ctx, mirror); err != nil {
			return err
		}
	}
	uid, err := s.NodeUID(ctx)
	if err != nil {
		return fmt.Errorf("look up the node: %w", err)
	}
	made := pod.DeepCopy()
	made.UID = ""
	made.Annotations[kubetypes.ConfigMirrorAnnotationKey] = hash
	controller := true
	made.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: s.Node, UID: uid, Controller: &controller}}
	_, err = s.Client.CoreV1().Pods(made.Namespace).Create(ctx, made, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) && mirror == nil { // it will be heard of
		return nil
	}
	return err
}

// removeMirror removes this one, and no other of its name.
func (s *Source) removeMirror(ctx context.Context, mirror *corev1.Pod) error {
	err := s.Client.CoreV1().Pods(mirror.Namespace).Delete(ctx, mirror.Name, metav1.DeleteOptions{
		GracePeriodSeconds: new(int64), Preconditions: metav1.NewUIDPreconditions(string(mirror.UID)),
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}
