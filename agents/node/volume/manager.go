package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	volumeutil "k8s.io/kubernetes/pkg/volume/util"
)

// Manager has the volumes of the node's pods. It is safe for concurrent use.
type Manager struct {
	config  Config
	pods    string // the directory that theirs are in, without links
	plugins []Plugin
	files   files
	noswap  atomic.Int32 // what is known of the kernel's tmpfs: see mountTmpfs
	wake    chan struct{}

	mu   sync.Mutex
	have map[types.UID]*state
}

// state is that of a pod. It is rebuilt by Setup when an agent starts.
type state struct {
	turn chan struct{}   // of who works in the pod's directory
	life context.Context // ends when the pod's volumes are to go
	end  context.CancelFunc

	// Guarded by Manager's mu.
	pod  *corev1.Pod
	done map[string]Mounted
	due  time.Time // when contents are to be made anew; zero: there are none
	busy bool      // they are being made
}

// Open makes the directory for pods, if it is not there, and finds out what the kernel can do.
func Open(c Config) (*Manager, error) {
	if c.RecursiveReadOnly == nil {
		c.RecursiveReadOnly = func(*corev1.Pod) bool { return false }
	}
	if c.Failed == nil {
		c.Failed = func(*corev1.Pod, *Error) {}
	}
	pods := filepath.Join(c.Root, "pods")
	if err := os.MkdirAll(pods, 0o750); err != nil {
		return nil, fmt.Errorf("make the pods' directory: %w", err)
	}
	real, err := filepath.EvalSymlinks(pods) // mounts are known by it
	if err == nil {
		real, err = filepath.Abs(real)
	}
	if err != nil {
		return nil, fmt.Errorf("find the pods' directory: %w", err)
	}
	m := &Manager{
		config: c, pods: real, files: files{openat2: hasOpenat2()}, wake: make(chan struct{}, 1), have: map[types.UID]*state{},
	}
	m.plugins = append([]Plugin{&emptyDir{m}, &hostPath{}, &image{c.Images}}, m.contents()...)
	m.plugins = append(m.plugins, c.Plugins...)
	return m, nil
}

func (m *Manager) plugin(v *corev1.Volume) (Plugin, error) {
	for _, p := range m.plugins {
		if p.Supports(v) {
			return p, nil
		}
	}
	return nil, unsupported(v)
}

// begin waits for the pod's turn; end gives it to the next one. What runs within ends early when the pod's volumes are to go.
func (s *state) begin(ctx context.Context) (within context.Context, end func(), err error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, context.Cause(ctx)
	}
	within, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(s.life, cancel)
	return within, func() { release(); cancel(); <-s.turn }, nil
}

var errGone = errors.New("the pod's volumes are being taken away")

func newState() *state {
	s := &state{turn: make(chan struct{}, 1), done: map[string]Mounted{}}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Setup makes ready what of a pod's volumes its containers use and is not ready yet. It is called whenever the pod is looked at. The error
// is of type Errors.
func (m *Manager) Setup(ctx context.Context, pod *corev1.Pod) error {
	if _, err := m.podDirectory(pod.UID); err != nil {
		return Errors{{Volume: "", Step: "MountVolume.SetUp", Err: err}}
	}
	m.mu.Lock()
	s := m.have[pod.UID]
	switch {
	case s == nil:
		s = newState()
		m.have[pod.UID] = s
	case s.life.Err() != nil:
		m.mu.Unlock()
		return Errors{{Volume: "", Step: "MountVolume.SetUp", Err: errGone}}
	case !maps.Equal(s.pod.Labels, pod.Labels) || !maps.Equal(s.pod.Annotations, pod.Annotations):
		m.hurry(s) // they may be shown
	}
	s.pod = pod
	todo := m.missing(s)
	m.mu.Unlock()
	if len(todo) == 0 {
		return nil
	}
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return Errors{{Volume: todo[0].Name, Step: "MountVolume.SetUp", Err: err}}
	}
	defer end()
	m.mu.Lock()
	todo = m.missing(s) // somebody else may have been first
	m.mu.Unlock()
	var failed Errors
	for _, v := range todo {
		if s.life.Err() != nil {
			return Errors{{Volume: v.Name, Step: "MountVolume.SetUp", Err: errGone}}
		}
		done, err := m.setUp(ctx, pod, v)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		m.mu.Lock()
		s.done[v.Name] = done
		if done.Changing && s.due.IsZero() {
			s.due = time.Now().Add(period())
			m.nudge()
		}
		m.mu.Unlock()
	}
	if len(failed) > 0 {
		return failed
	}
	return nil
}

// missing are the volumes that are used and not ready; mu is held.
func (m *Manager) missing(s *state) []*corev1.Volume {
	var todo []*corev1.Volume
	mounts, devices, _ := volumeutil.GetPodVolumeNames(s.pod, false)
	for i := range s.pod.Spec.Volumes {
		v := &s.pod.Spec.Volumes[i]
		if _, ready := s.done[v.Name]; !ready && (mounts.Has(v.Name) || devices.Has(v.Name)) {
			todo = append(todo, v)
		}
	}
	return todo
}

func (m *Manager) setUp(ctx context.Context, pod *corev1.Pod, v *corev1.Volume) (Mounted, *Error) {
	plugin, err := m.plugin(v)
	if err != nil {
		return Mounted{}, &Error{Volume: v.Name, Step: "MountVolume.FindPluginBySpec", Err: err}
	}
	directory, err := m.volumeDirectory(pod.UID, plugin.Name(), v.Name)
	if err != nil {
		return Mounted{}, &Error{Volume: v.Name, Step: "MountVolume.NewMounter initialization", Err: err}
	}
	began := time.Now()
	done, err := plugin.SetUp(ctx, &Volume{Pod: pod, Spec: v, Directory: directory})
	m.tell("volume_mount", plugin, began, err)
	if err != nil {
		return Mounted{}, &Error{Volume: v.Name, Step: "MountVolume.SetUp", Err: err}
	}
	return done, nil
}

// Groups are those that volumes ask the processes of a pod to be in, beside those of the pod itself.
func (m *Manager) Groups(pod *corev1.Pod) []int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.have[pod.UID]
	if s == nil {
		return nil
	}
	var groups []int64
	for _, done := range s.done {
		if done.Group == nil || slices.Contains(groups, *done.Group) {
			continue
		}
		if sc := pod.Spec.SecurityContext; sc == nil || !slices.Contains(sc.SupplementalGroups, *done.Group) {
			groups = append(groups, *done.Group)
		}
	}
	slices.Sort(groups)
	return groups
}

// period is the time between two looks at a pod's contents: that of the kubelet, and not for all at once.
func period() time.Duration { return time.Minute + rand.N(30*time.Second) }

// Changed says that what a pod's contents are made of has changed: they are made anew at once.
func (m *Manager) Changed(pod types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.have[pod]; s != nil {
		m.hurry(s)
	}
}

// hurry is called with mu held.
func (m *Manager) hurry(s *state) {
	if !s.due.IsZero() {
		s.due = time.Now()
		m.nudge()
	}
}

func (m *Manager) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// atOnce is for how many pods contents are made at the same time.
const atOnce = 4

// Run keeps contents as what they show changes, until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, atOnce)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		todo, next := m.due(time.Now(), atOnce)
		for _, s := range todo {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return nil
			}
			working.Go(func() {
				m.refresh(ctx, s)
				<-slots
				m.nudge()
			})
		}
		if len(todo) == atOnce {
			continue // there may be more
		}
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-m.wake:
		}
	}
}

// due are at most n of those whose time has come, which are then busy, and when the next one's will.
func (m *Manager) due(now time.Time, n int) (todo []*state, next time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	next = now.Add(time.Hour)
	for _, s := range m.have {
		switch {
		case s.busy || s.due.IsZero():
		case s.due.After(now):
			if s.due.Before(next) {
				next = s.due
			}
		case len(todo) < n:
			s.busy, s.due = true, now.Add(period())
			todo = append(todo, s)
		}
	}
	return todo, next
}

// refresh makes a pod's contents anew.
func (m *Manager) refresh(ctx context.Context, s *state) {
	defer func() {
		m.mu.Lock()
		s.busy = false
		m.mu.Unlock()
	}()
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return
	}
	defer end()
	m.mu.Lock()
	pod := s.pod
	var todo []*corev1.Volume
	for i := range pod.Spec.Volumes {
		if v := &pod.Spec.Volumes[i]; s.done[v.Name].Changing {
			todo = append(todo, v)
		}
	}
	m.mu.Unlock()
	for _, v := range todo {
		if s.life.Err() != nil {
			return
		}
		if _, err := m.setUp(ctx, pod, v); err != nil && ctx.Err() == nil {
			m.config.Log.Warn("Volume was not brought up to date", "pod", pod.Namespace+"/"+pod.Name, "volume", v.Name, "error", err.Err)
			m.config.Failed(pod, err)
		}
	}
}
