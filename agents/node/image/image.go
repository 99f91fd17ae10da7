// Package image has images ready before containers are made of them: it pulls what is missing, or what must be asked for, and waits
// before it tries again. Policies, reasons, events and the verification of who may use an image that others have pulled (KEP-2535)
// are the kubelet's, whose manager of images this is; what a runtime calls an image is told apart from what it answers to a pull.
package image

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	grpcstatus "google.golang.org/grpc/status"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // references to pods and their containers
	"k8s.io/kubernetes/pkg/credentialprovider"
	"k8s.io/kubernetes/pkg/credentialprovider/plugin"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/images"
	"k8s.io/kubernetes/pkg/kubelet/images/pullmanager"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Bounds of the wait before an image is asked for again that could not be pulled.
const (
	firstBackoff = 10 * time.Second
	lastBackoff  = 5 * time.Minute
)

// Bounds of what is remembered of pulls; what does not fit is read from the disk.
const (
	intents = 256
	records = 600
	stripes = 31 // upstream's hashes are wrong above it
)

// DefaultParallel is how many images are pulled at a time when nothing else is said.
const DefaultParallel = 5

// Config says what a Manager works with.
type Config struct {
	Images   internalapi.ImageManagerService
	Secrets  Secrets
	Recorder record.EventRecorder
	Log      *slog.Logger
	// Directory is where it is noted with whose credentials images were pulled: below image_manager, as a kubelet notes it.
	Directory string
	// Parallel bounds how many images are pulled at a time; 0: DefaultParallel.
	Parallel int32
	// QPS bounds how many pulls begin in a second, Burst how many at once; 0: no bound.
	QPS   float32
	Burst int
	// Handler is the runtime handler that a pod's images are for, where runtimes keep images of several (KEP-4216); nil: "" for all,
	// as a kubelet says by default.
	Handler func(*corev1.Pod) (string, error)
	// Verify says which images that are there already may be used only with credentials that could pull them, Allow which never need
	// any; "": those that were on the node before are for all its pods.
	Verify kubeletconfig.ImagePullCredentialsVerificationPolicy
	Allow  []string
}

// Secrets are those of the node's pods.
type Secrets interface {
	Secret(ctx context.Context, namespace, name string) (*corev1.Secret, error)
}

// Image is one that is there.
type Image struct {
	Ref string // its id at the runtime
	// UID is whose its processes are when the pod does not say; nil: Username's.
	UID      *int64
	Username string
}

// Manager has images ready.
type Manager struct {
	Config
	images images.ImageManager
	pulls  *pullmanager.PullManager
	late   sync.WaitGroup
}

// Open reads what was noted of earlier pulls. Pulls that an agent did not live to see the end of are looked up at the runtime.
func Open(ctx context.Context, c Config) (*Manager, error) {
	m := &Manager{Config: c}
	ctx = m.logged(ctx)
	logger := logr.FromSlogHandler(c.Log.Handler())
	if c.Verify == "" {
		c.Verify = kubeletconfig.NeverVerifyPreloadedImages
	}
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	policy, err := pullmanager.NewImagePullCredentialVerificationPolicy(c.Verify, c.Allow)
	if err != nil {
		return nil, err
	}
	disk, err := pullmanager.NewFSPullRecordsAccessor(logger, c.Directory)
	if err != nil {
		return nil, fmt.Errorf("notes of image pulls: %w", err)
	}
	runtime := &service{images: c.Images}
	notes := pullmanager.NewCachedPullRecordsAccessor(logger, disk, intents, records, stripes)
	if m.pulls, err = pullmanager.NewImagePullManager(ctx, notes, policy, runtime, stripes); err != nil {
		return nil, fmt.Errorf("notes of image pulls: %w", err)
	}
	m.images = images.NewImageManager(
		c.Recorder, credentialprovider.NewDefaultDockerKeyring(), runtime, m.pulls, flowcontrol.NewBackOff(firstBackoff, lastBackoff),
		false, &c.Parallel, c.QPS, c.Burst, untimed{},
	)
	return m, nil
}

// Ensure has the image of a container ready. The error is a *podstatus.Waiting, or that of the context. Events of the image are
// recorded; that its container was not made for it is the caller's to say. The sandbox's metadata tell credential providers whom they
// are asked for.
func (m *Manager) Ensure(ctx context.Context, pod *corev1.Pod, c *corev1.Container, sandbox *runtimeapi.PodSandboxConfig) (Image, error) {
	about, err := kubecontainer.GenerateContainerRef(pod, c)
	if err != nil {
		return Image{}, err
	}
	spec, err := m.ensure(ctx, about, pod, c.Image, c.ImagePullPolicy, sandbox)
	if err != nil {
		return Image{}, err
	}
	return m.user(ctx, spec)
}

// Volume has the image of a volume ready (KEP-4639). The error is a *podstatus.Waiting, of every container that mounts the volume.
func (m *Manager) Volume(ctx context.Context, pod *corev1.Pod, v *corev1.ImageVolumeSource, sandbox *runtimeapi.PodSandboxConfig) (*runtimeapi.ImageSpec, error) {
	about := &corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}
	return m.ensure(ctx, about, pod, v.Reference, v.PullPolicy, sandbox)
}

func (m *Manager) ensure(
	ctx context.Context, about *corev1.ObjectReference, pod *corev1.Pod, image string, policy corev1.PullPolicy, sandbox *runtimeapi.PodSandboxConfig,
) (*runtimeapi.ImageSpec, error) {
	handler := ""
	if m.Handler != nil {
		var err error
		if handler, err = m.Handler(pod); err != nil {
			return nil, &podstatus.Waiting{Reason: err.Error(), Message: fmt.Sprintf("Failed to lookup runtimeHandler for runtimeClassName %v", *pod.Spec.RuntimeClassName)}
		}
	}
	secrets := m.secrets(ctx, pod)
	type answer struct {
		ref, message string
		err          error
	}
	done := make(chan answer, 1)
	m.late.Go(func() {
		var a answer
		a.ref, a.message, a.err = m.images.EnsureImageExists(m.logged(ctx), about, pod, image, secrets, sandbox, handler, policy)
		done <- a
	})
	select {
	case <-ctx.Done(): // upstream waits for its turn to pull, even so
		return nil, ctx.Err()
	case a := <-done:
		if a.err != nil {
			return nil, &podstatus.Waiting{Reason: a.err.Error(), Message: a.message}
		}
		return &runtimeapi.ImageSpec{Image: a.ref, UserSpecifiedImage: image, RuntimeHandler: handler, Annotations: pod.Annotations}, nil
	}
}

// Wait waits for what Ensure and Volume did not, because their contexts ended.
func (m *Manager) Wait() { m.late.Wait() }

// user asks whose processes those of an image are.
func (m *Manager) user(ctx context.Context, spec *runtimeapi.ImageSpec) (Image, error) {
	status, err := m.Images.ImageStatus(ctx, spec, false)
	if err != nil {
		st, _ := grpcstatus.FromError(err)
		return Image{}, &podstatus.Waiting{Reason: "CreateContainerConfigError", Message: st.Message()}
	}
	image := Image{Ref: spec.Image}
	switch i := status.GetImage(); {
	case i.GetUid() != nil:
		image.UID = new(i.GetUid().GetValue())
	case i.GetUsername() != "":
		image.Username = i.GetUsername()
	default:
		image.UID = new(int64) // root
	}
	return image, nil
}

// secrets are those that the pod has to pull its images with, as far as they are there.
func (m *Manager) secrets(ctx context.Context, pod *corev1.Pod) []corev1.Secret {
	var found []corev1.Secret
	var missing []string
	for _, ref := range pod.Spec.ImagePullSecrets {
		if ref.Name == "" { // some objects have it
			continue
		}
		secret, err := m.Secrets.Secret(ctx, pod.Namespace, ref.Name)
		if err != nil {
			m.Log.Info("Image pull secret was not there", "pod", pod.Namespace+"/"+pod.Name, "secret", ref.Name, "err", err)
			missing = append(missing, ref.Name)
			continue
		}
		found = append(found, *secret)
	}
	if len(missing) > 0 {
		m.Recorder.Eventf(pod, corev1.EventTypeWarning, "FailedToRetrieveImagePullSecret",
			"Unable to retrieve some image pull secrets (%s); attempting to pull the image may not succeed.", strings.Join(missing, ", "))
	}
	return found
}

// Prune forgets the pulls of images that are on the node no longer: of all but these, which were listed after the time.
func (m *Manager) Prune(ctx context.Context, ids []string, before time.Time) {
	m.pulls.PruneUnknownRecords(m.logged(ctx), ids, before)
}

// logged has upstream's code log as we do.
func (m *Manager) logged(ctx context.Context) context.Context {
	return logr.NewContextWithSlogLogger(ctx, m.Log)
}

// untimed: how long pods wait for images is not counted.
type untimed struct{}

func (untimed) RecordImageStartedPulling(types.UID)  {}
func (untimed) RecordImageFinishedPulling(types.UID) {}

// Providers are programs that know credentials for images (KEP-2133).
type Providers struct {
	Config, Directory string // of files
	Token             func(namespace, name string, ask *authenticationv1.TokenRequest) (*authenticationv1.TokenRequest, error)
	ServiceAccount    func(namespace, name string) (*corev1.ServiceAccount, error)
}

// Register has all managers of this process ask the providers, which upstream keeps for a whole process. It is called once.
func (p Providers) Register() error {
	return plugin.RegisterCredentialProviderPlugins(p.Config, p.Directory, p.Token, p.ServiceAccount)
}
