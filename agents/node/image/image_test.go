package image

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/utils/ptr"

	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// registry is a runtime with what it can pull: whose pulls are answered with a digest, which is not the image's id.
type registry struct {
	internalapi.ImageManagerService
	password map[string]string // of images that need one
	takes    time.Duration
	broken   error // of all pulls
	lost     error // of all questions

	mu        sync.Mutex
	there     map[string]*runtimeapi.Image // by name
	pulls     []string
	now, most int
}

func (r *registry) ImageStatus(_ context.Context, spec *runtimeapi.ImageSpec, _ bool) (*runtimeapi.ImageStatusResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost != nil {
		return nil, r.lost
	}
	for name, image := range r.there {
		if name == spec.Image || image.Id == spec.Image {
			return &runtimeapi.ImageStatusResponse{Image: image}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (r *registry) ListImages(context.Context, *runtimeapi.ImageFilter) ([]*runtimeapi.Image, error) {
	var all []*runtimeapi.Image
	for _, i := range r.there {
		all = append(all, i)
	}
	return all, nil
}

func (r *registry) PullImage(ctx context.Context, spec *runtimeapi.ImageSpec, auth *runtimeapi.AuthConfig, _ *runtimeapi.PodSandboxConfig) (string, error) {
	r.mu.Lock()
	r.pulls = append(r.pulls, spec.Image+" "+spec.RuntimeHandler+auth.GetUsername())
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(r.takes):
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case r.broken != nil:
		return "", r.broken
	case r.password[spec.Image] != auth.GetPassword():
		return "", errors.New("pull access denied")
	}
	r.there[spec.Image] = imageOf(spec.Image)
	return "digest of " + spec.Image, nil
}

func imageOf(name string) *runtimeapi.Image {
	return &runtimeapi.Image{Id: "id of " + name, Size: 123, RepoTags: []string{name}, Uid: &runtimeapi.Int64Value{Value: 7}}
}

// Secret is one whose name is its user's and its password.
func (r *registry) Secret(_ context.Context, namespace, name string) (*corev1.Secret, error) {
	if name == "nobody" {
		return nil, errors.New("not found")
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(namespace + name)}, Type: corev1.SecretTypeDockerConfigJson,
		Data: map[string][]byte{corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths":{"example.com":{"username":%q,"password":%q}}}`, name, name)},
	}, nil
}

func podOf(namespace, image string, policy corev1.PullPolicy, secrets ...string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "p", UID: types.UID(namespace)}}
	pod.Spec.Containers = []corev1.Container{{Name: "c", Image: image, ImagePullPolicy: policy}}
	for _, s := range secrets {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
	}
	return pod
}

// open returns a manager whose events go to the recorder.
func open(t *testing.T, r *registry, c Config) (*Manager, *record.FakeRecorder) {
	t.Helper()
	if r.there == nil {
		r.there = map[string]*runtimeapi.Image{}
	}
	recorder := record.NewFakeRecorder(1000)
	c.Images, c.Secrets, c.Recorder, c.Log = r, r, recorder, slog.New(slog.DiscardHandler)
	if c.Directory == "" {
		c.Directory = t.TempDir()
	}
	m, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return m, recorder
}

func ensure(t *testing.T, m *Manager, pod *corev1.Pod) (Image, error) {
	t.Helper()
	return m.Ensure(t.Context(), pod, &pod.Spec.Containers[0], &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}})
}

func recorded(r *record.FakeRecorder) []string {
	var out []string
	for {
		select {
		case e := <-r.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

func waiting(reason, message string) error {
	return &podstatus.Waiting{Reason: reason, Message: message}
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	const name = "example.com/web:1"
	pulled := []string{
		`Normal Pulling Pulling image "example.com/web:1"`,
		`Normal Pulled Successfully pulled image "example.com/web:1" in 1s (1s including waiting). Image size: 123 bytes.`,
	}
	present := []string{`Normal Pulled Container image "example.com/web:1" already present on machine and can be accessed by the pod`}
	seven := Image{Ref: "id of " + name, UID: ptr.To[int64](7)}
	there := func(change func(*runtimeapi.Image)) map[string]*runtimeapi.Image {
		image := imageOf(name)
		if change != nil {
			change(image)
		}
		return map[string]*runtimeapi.Image{name: image}
	}
	for title, tc := range map[string]struct {
		registry *registry
		pod      *corev1.Pod
		config   Config
		want     Image
		err      error
		pulls    []string
		events   []string
	}{
		"missing": {pod: podOf("n", name, corev1.PullIfNotPresent), want: seven, pulls: []string{name + " "}, events: pulled},
		"there":   {registry: &registry{there: there(nil)}, pod: podOf("n", name, corev1.PullIfNotPresent), want: seven, events: present},
		"always":  {registry: &registry{there: there(nil)}, pod: podOf("n", name, corev1.PullAlways), want: seven, pulls: []string{name + " "}, events: pulled},
		"never":   {registry: &registry{there: there(nil)}, pod: podOf("n", name, corev1.PullNever), want: seven, events: present},
		"no tag": {
			pod: podOf("n", "web", corev1.PullIfNotPresent), want: Image{Ref: "id of web:latest", UID: ptr.To[int64](7)}, pulls: []string{"web:latest "},
			events: []string{`Normal Pulling Pulling image "web"`, `Normal Pulled Successfully pulled image "web" in 1s (1s including waiting). Image size: 123 bytes.`},
		},
		"user by name": {
			registry: &registry{there: there(func(i *runtimeapi.Image) { i.Uid, i.Username = nil, "me" })}, pod: podOf("n", name, corev1.PullNever),
			want: Image{Ref: "id of " + name, Username: "me"}, events: present,
		},
		"root": {
			registry: &registry{there: there(func(i *runtimeapi.Image) { i.Uid = nil })}, pod: podOf("n", name, corev1.PullNever),
			want: Image{Ref: "id of " + name, UID: new(int64)}, events: present,
		},
		"runtime handler": {
			pod: podOf("n", name, corev1.PullIfNotPresent), config: Config{Handler: func(*corev1.Pod) (string, error) { return "kata", nil }},
			want: seven, pulls: []string{name + " kata"}, events: pulled,
		},
		"secrets": {
			registry: &registry{password: map[string]string{name: "good"}}, pod: podOf("n", name, corev1.PullIfNotPresent, "", "bad", "nobody", "good"), want: seven,
			pulls:  []string{name + " bad", name + " good"},
			events: append([]string{"Warning FailedToRetrieveImagePullSecret Unable to retrieve some image pull secrets (nobody); attempting to pull the image may not succeed."}, `Normal Pulling Pulling image "example.com/web:1"`, `Normal Pulled Successfully pulled image "example.com/web:1" in 2s (2s including waiting). Image size: 123 bytes.`),
		},
		"never there": {
			pod: podOf("n", name, corev1.PullNever), err: waiting("ErrImageNeverPull", `Container image "example.com/web:1" is not present with pull policy of Never`),
			events: []string{`Warning ErrImageNeverPull Container image "example.com/web:1" is not present with pull policy of Never`},
		},
		"bad name": {
			pod: podOf("n", "web::1", corev1.PullIfNotPresent),
			err: waiting("InvalidImageName", `Failed to apply default image tag "web::1": couldn't parse image name "web::1": invalid reference format`),
			events: []string{
				`Warning InspectFailed Failed to apply default image tag "web::1": couldn't parse image name "web::1": invalid reference format`,
			},
		},
		"denied": {
			registry: &registry{password: map[string]string{name: "good"}}, pod: podOf("n", name, corev1.PullIfNotPresent), pulls: []string{name + " "},
			err: waiting("ErrImagePull", "pull access denied"),
			events: []string{
				`Normal Pulling Pulling image "example.com/web:1"`, `Warning Failed Failed to pull image "example.com/web:1": pull access denied`,
			},
		},
		"registry is away": {
			registry: &registry{broken: errors.New("RegistryUnavailable: 503")}, pod: podOf("n", name, corev1.PullIfNotPresent), pulls: []string{name + " "},
			err: waiting("RegistryUnavailable", "image pull failed for example.com/web:1 because the registry is unavailable: 503"),
			events: []string{
				`Normal Pulling Pulling image "example.com/web:1"`, `Warning Failed Failed to pull image "example.com/web:1": RegistryUnavailable: 503`,
			},
		},
		"runtime is away": {
			registry: &registry{lost: errors.New("no runtime")}, pod: podOf("n", name, corev1.PullIfNotPresent),
			err:    waiting("ImageInspectError", `Failed to inspect image "": no runtime`),
			events: []string{`Warning InspectFailed Failed to inspect image "": no runtime`},
		},
		"runtime is away in the end": {
			registry: &registry{lost: errors.New("no runtime")}, pod: podOf("n", name, corev1.PullAlways), pulls: []string{name + " "},
			err: waiting("CreateContainerConfigError", "no runtime"),
			events: []string{
				`Normal Pulling Pulling image "example.com/web:1"`, `Normal Pulled Successfully pulled image "example.com/web:1" in 1s (1s including waiting). Image size: 0 bytes.`,
			},
		},
		"no runtime class": {
			pod: func() *corev1.Pod {
				pod := podOf("n", name, corev1.PullNever)
				pod.Spec.RuntimeClassName = ptr.To("gone")
				return pod
			}(),
			config: Config{Handler: func(*corev1.Pod) (string, error) { return "", errors.New("not found") }},
			err:    waiting("not found", "Failed to lookup runtimeHandler for runtimeClassName gone"),
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := tc.registry
				if r == nil {
					r = &registry{}
				}
				r.takes = time.Second
				m, recorder := open(t, r, tc.config)
				got, err := ensure(t, m, tc.pod)
				if diff := cmp.Diff(tc.err, err); diff != "" {
					t.Errorf("error: want -, got +:\n%s", diff)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Errorf("want -, got +:\n%s", diff)
				}
				if diff := cmp.Diff(tc.pulls, r.pulls); diff != "" {
					t.Errorf("pulls: want -, got +:\n%s", diff)
				}
				if diff := cmp.Diff(tc.events, recorded(recorder)); diff != "" {
					t.Errorf("events: want -, got +:\n%s", diff)
				}
			})
		})
	}
}

func TestVolume(t *testing.T) {
	t.Parallel()
	m, recorder := open(t, &registry{}, Config{Handler: func(*corev1.Pod) (string, error) { return "kata", nil }})
	pod := podOf("n", "web", corev1.PullNever)
	pod.Annotations = map[string]string{"a": "b"}
	sandbox := &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}}
	got, err := m.Volume(t.Context(), pod, &corev1.ImageVolumeSource{Reference: "data", PullPolicy: corev1.PullIfNotPresent}, sandbox)
	if err != nil {
		t.Fatal(err)
	}
	want := &runtimeapi.ImageSpec{Image: "id of data:latest", UserSpecifiedImage: "data", RuntimeHandler: "kata", Annotations: pod.Annotations}
	if got.String() != want.String() {
		t.Errorf("got %v, want %v", got, want)
	}
	recorded(recorder)
	_, err = m.Volume(t.Context(), pod, &corev1.ImageVolumeSource{Reference: "other", PullPolicy: corev1.PullNever}, sandbox)
	if diff := cmp.Diff(waiting("ErrImageNeverPull", `Container image "other" is not present with pull policy of Never`), err); diff != "" {
		t.Errorf("error: want -, got +:\n%s", diff)
	}
	if got := recorded(recorder); len(got) != 1 {
		t.Errorf("events of a volume, not of a container: %q", got)
	}
}

// TestBackoff asks again and again for an image that is not there: at first after 10 s, at last after 5 minutes, of each pod for itself.
func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &registry{broken: errors.New("manifest unknown")}
		m, recorder := open(t, r, Config{})
		pod := podOf("n", "web", corev1.PullIfNotPresent)
		var at []time.Duration
		began := time.Now()
		for time.Since(began) < 25*time.Minute {
			before := len(r.pulls)
			_, err := ensure(t, m, pod)
			want := waiting("ImagePullBackOff", `Back-off pulling image "web": ErrImagePull: manifest unknown`)
			if len(r.pulls) > before {
				at = append(at, time.Since(began))
				want = waiting("ErrImagePull", "manifest unknown")
			}
			if diff := cmp.Diff(want, err); diff != "" {
				t.Fatalf("error: want -, got +:\n%s", diff)
			}
			got := recorded(recorder)
			if len(r.pulls) == before && !slices.Equal(got, []string{`Normal BackOff Back-off pulling image "web"`}) {
				t.Fatalf("events while it waits: %q", got)
			}
			time.Sleep(time.Second)
		}
		var waits []time.Duration
		for i := range at[1:] {
			waits = append(waits, at[i+1]-at[i])
		}
		if diff := cmp.Diff([]time.Duration{10, 20, 40, 80, 160, 300, 300, 300}, waits[:8], cmp.Transformer("s", func(d time.Duration) time.Duration {
			if d > time.Second {
				return d / time.Second
			}
			return d
		})); diff != "" {
			t.Errorf("seconds between pulls: want -, got +:\n%s", diff)
		}
		before := len(r.pulls)
		if _, err := ensure(t, m, podOf("other", "web", corev1.PullIfNotPresent)); err == nil || len(r.pulls) != before+1 {
			t.Errorf("another pod's image was not asked for: %v", err)
		}
	})
}

func TestParallel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &registry{takes: time.Second}
		m, _ := open(t, r, Config{Parallel: 2})
		var all sync.WaitGroup
		began := time.Now()
		for i := range 6 {
			all.Go(func() {
				if _, err := ensure(t, m, podOf(fmt.Sprint(i), fmt.Sprint("web", i), corev1.PullIfNotPresent)); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(began); r.most != 2 || took != 3*time.Second {
			t.Errorf("%d pulls at a time, and %v for six of 1 s", r.most, took)
		}
	})
}

// TestGivenUp: a pod that ends does not wait for its turn to pull behind one that is never done.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &registry{takes: time.Hour}
		m, recorder := open(t, r, Config{Parallel: 1})
		ensure := func(ctx context.Context, namespace string) error {
			pod := podOf(namespace, "web", corev1.PullIfNotPresent)
			_, err := m.Ensure(ctx, pod, &pod.Spec.Containers[0], &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{}})
			return err
		}
		first, endFirst := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if err := ensure(first, "a"); !errors.Is(err, context.Canceled) {
				t.Errorf("the first ended with %v", err)
			}
		})
		synctest.Wait()
		second, endSecond := context.WithTimeout(t.Context(), time.Minute)
		defer endSecond()
		began := time.Now()
		if err := ensure(second, "b"); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("the second waited %v and ended with %v", time.Since(began), err)
		}
		endFirst()
		all.Wait()
		m.Wait()
		if got := len(recorded(recorder)); got != 4 || r.now != 0 {
			t.Errorf("%d events, %d pulls under way; want that both began and failed", got, r.now)
		}
	})
}

// TestVerify: who may use an image that is there already (KEP-2535).
func TestVerify(t *testing.T) {
	t.Parallel()
	const name = "example.com/web:1"
	locked := map[string]string{name: "good"}
	good, other, bad := podOf("a", name, corev1.PullIfNotPresent, "good"), podOf("b", name, corev1.PullIfNotPresent, "good"), podOf("c", name, corev1.PullIfNotPresent)
	never := podOf("d", name, corev1.PullNever)
	denied := waiting("ErrImagePull", "pull access denied")
	directory := t.TempDir()
	r := &registry{password: locked}
	m, _ := open(t, r, Config{Directory: directory})
	step := func(what string, pod *corev1.Pod, pulls int, want error) {
		t.Helper()
		before := len(r.pulls)
		_, err := ensure(t, m, pod)
		if diff := cmp.Diff(want, err); diff != "" {
			t.Errorf("%s: error: want -, got +:\n%s", what, diff)
		}
		if n := len(r.pulls) - before; n != pulls {
			t.Errorf("%s: %d pulls, want %d", what, n, pulls)
		}
	}
	step("the first pod pulls", good, 1, nil)
	step("again it need not", good, 0, nil)
	step("nor has another with the same credentials to", other, 0, nil)
	step("one without any has to, and cannot", bad, 1, denied)
	step("nor is it told of what is there", never, 0, waiting("ErrImageNeverPull", `Container image "example.com/web:1" is not present with pull policy of Never`))
	m, _ = open(t, r, Config{Directory: directory})
	step("an agent that begins anew remembers", good, 0, nil)
	step("both", bad, 1, denied)
	m.Prune(t.Context(), nil, time.Now().Add(time.Minute))
	step("what it forgets it takes for the node's own", bad, 0, nil)

	before := map[string]*runtimeapi.Image{name: imageOf(name)}
	r = &registry{password: locked, there: before}
	m, _ = open(t, r, Config{})
	step("what was there before is everybody's", bad, 0, nil)
	m, _ = open(t, r, Config{Verify: kubeletconfig.AlwaysVerify})
	step("unless nothing is", bad, 1, denied)
	m, _ = open(t, r, Config{Verify: kubeletconfig.NeverVerifyAllowlistedImages, Allow: []string{"example.com/*"}})
	step("but for what is allowed", bad, 0, nil)
	if _, err := Open(t.Context(), Config{Images: r, Log: slog.New(slog.DiscardHandler), Directory: t.TempDir(), Verify: "Sometimes"}); err == nil {
		t.Error("a policy that there is not was taken")
	}
}
