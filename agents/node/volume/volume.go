// Package volume makes the volumes of the node's pods: directories, memory and huge pages of their own, directories of the node's,
// ConfigMaps, Secrets, fields of the pod and tokens as files, and images. It says what is to be mounted into a container, keeps files as
// what they show changes, and takes all away when a pod has ended. Directories are named as the kubelet names them, so that an agent takes
// over from a kubelet, or from an agent before it, while pods run. A pod can do what it likes in its volumes: nothing outside them is made,
// changed or removed for that, whatever links lie there and whenever they are put there.
package volume

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Config is what a Manager needs.
type Config struct {
	// Root is the directory of the node's data; those of the pods lie in its directory pods. The runtime must see the same mounts.
	Root    string
	Objects Objects
	// Images brings images of volumes; nil: there are none.
	Images Images
	// Allocatable is what of the node pods may use.
	Allocatable func() corev1.ResourceList
	// RecursiveReadOnly says whether the runtime, with the handler that the pod asks for, can make mounts below a read-only one
	// read-only too (KEP-3857). nil: it cannot.
	RecursiveReadOnly func(*corev1.Pod) bool
	// SELinux: the node has it; what belongs to one pod is labelled for it.
	SELinux bool
	// Failed is told of contents that could not be made anew while a pod runs, which keeps the old ones. nil: nobody is.
	Failed func(*corev1.Pod, *Error)
	// Done is told what was done to volumes: volume_mount or volume_unmount, of a kind, how long it took and what came of it. nil: nobody is.
	Done func(operation, plugin string, took time.Duration, err error)
	// Plugins are kinds of volumes beside those of this package.
	Plugins []Plugin
	Log     *slog.Logger
}

// Objects has what contents are made of.
type Objects interface {
	ConfigMap(ctx context.Context, namespace, name string) (*corev1.ConfigMap, error)
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
	Token(ctx context.Context, pod *corev1.Pod, p *corev1.ServiceAccountTokenProjection) (string, error)
	TrustAnchors(ctx context.Context, p *corev1.ClusterTrustBundleProjection) ([]byte, error)
}

// Images brings images of volumes to the node (KEP-4639).
type Images interface {
	// ImageVolume returns a pod's volume's image as the runtime is to be asked for it, after pulling it where the volume's policy
	// says so. Errors are as those of a container's image.
	ImageVolume(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (*runtimeapi.ImageSpec, error)
}

// Plugin is a kind of volume. For one pod its methods are called one after the other.
type Plugin interface {
	// Name is the kind's, as upstream calls it, such as kubernetes.io/empty-dir: directories are named after it.
	Name() string
	// Supports says whether a volume is of this kind.
	Supports(v *corev1.Volume) bool
	// SetUp makes a volume ready, or what it is to be by now. It is called again by agents that did not make the volume, and while
	// containers use it.
	SetUp(ctx context.Context, v *Volume) (Mounted, error)
	// TearDown undoes what SetUp has done outside the volume's directory, of which it may have heard nothing. What is mounted in the
	// directory is unmounted, and the directory removed, after it.
	TearDown(ctx context.Context, pod types.UID, name, directory string) error
}

// Volume is one of a pod's.
type Volume struct {
	Pod  *corev1.Pod
	Spec *corev1.Volume
	// Directory is the volume's. It need not exist.
	Directory string
}

// Mounted is a volume that is ready.
type Mounted struct {
	// Path is what containers get; "": an image, which the runtime mounts.
	Path     string
	ReadOnly bool // for all
	// Managed: the volume is this pod's alone, and is labelled for it.
	Managed bool
	// Changing: SetUp is to be called every minute or so, for what is in it changes.
	Changing bool
	// Group is one that containers' processes must be in; nil: none.
	Group *int64
}

// Error is what keeps a volume from being ready, in the kubelet's words: those of an event with the reason FailedMount.
type Error struct {
	Volume string
	Step   string // of upstream's, such as MountVolume.SetUp
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s failed for volume %q : %v", e.Step, e.Volume, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Errors are those of a pod's volumes; each is to be an event.
type Errors []*Error

func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns all.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}
