// Package shutdown has pods end in good order before the machine does, as the kubelet does: it asks systemd's logind to hold up shutdowns,
// and when one comes the node is not ready any more and takes no pods, and its pods end, those that matter least first, each with
// the time that the operator gives to its priority.
package shutdown

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/godbus/dbus/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	"k8s.io/kubernetes/pkg/kubelet/nodeshutdown/systemd"

	"github.com/rowlock-io/rowlock/agents/node/pause"
	"github.com/rowlock-io/rowlock/agents/node/podstatus"
)

// Logind is what holds up shutdowns; upstream's systemd.DBusCon is one.
type Logind interface {
	CurrentInhibitDelay() (time.Duration, error)
	OverrideInhibitDelay(time.Duration) error
	ReloadLogindConf() error
	InhibitShutdown() (systemd.InhibitLock, error)
	ReleaseInhibitLock(systemd.InhibitLock) error
	// MonitorShutdown tells of each shutdown that begins, or is called off, until the connection is closed.
	MonitorShutdown(logr.Logger) (<-chan bool, error)
}

// Config is what a Manager needs.
type Config struct {
	// Periods are how long pods have, by their priorities; none: shutdowns are not held up.
	Periods []Period
	// Pods are those that take up room.
	Pods func() []*corev1.Pod
	// Kill ends a pod and waits for that, but no longer than ctx.
	Kill func(ctx context.Context, pod *corev1.Pod, why *podstatus.Evicted, grace *int64) error
	// Finished: nothing of what the pod used is in use any more.
	Finished func(types.UID) bool
	// Changed is called when a shutdown begins or is called off.
	Changed func()
	// Dial reaches logind; close ends what MonitorShutdown tells. nil: by the system's bus.
	Dial func(context.Context) (on Logind, closing func() error, err error)
	// Node is what events are about.
	Node   runtime.Object
	Events record.EventRecorder
	Log    *slog.Logger
}

// Manager is a node's.
type Manager struct {
	Config

	mu   sync.RWMutex
	down bool
}

// New makes one that does nothing before Run.
func New(cfg Config) *Manager {
	cfg.Periods = sorted(cfg.Periods)
	if cfg.Dial == nil {
		cfg.Dial = dial
	}
	return &Manager{Config: cfg}
}

// dial has a connection of its own, which ends what listens on it.
func dial(ctx context.Context) (on Logind, closing func() error, err error) {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil, nil, err
	}
	return &systemd.DBusCon{SystemBus: conn}, conn.Close, nil
}

// Bounds of the wait before logind is asked again that was not there, or went away.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// Run holds up shutdowns until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	if len(m.Periods) == 0 {
		<-ctx.Done()
		return nil
	}
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		watched, err := m.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if watched {
			wait = firstRetry
		}
		m.Log.Warn("Shutdowns of the machine are not held up for pods to end", "error", err, "again", wait)
		if !pause.For(ctx, wait) {
			return nil
		}
	}
}

// watch holds up shutdowns until logind goes away or ctx ends. It tells whether it did.
func (m *Manager) watch(ctx context.Context) (watched bool, err error) {
	logind, closing, err := m.Dial(ctx)
	if err != nil {
		return false, fmt.Errorf("reach logind: %w", err)
	}
	var news <-chan bool
	defer func() {
		_ = closing()
		for news != nil { // whoever sends ends first
			if _, more := <-news; !more {
				return
			}
		}
	}()
	if err := m.delay(ctx, logind); err != nil {
		return false, err
	}
	hold := &hold{logind: logind}
	if err := hold.take(); err != nil {
		return false, err
	}
	defer hold.release(m.Log)
	if news, err = logind.MonitorShutdown(logr.FromSlogHandler(m.Log.Handler())); err != nil {
		return false, fmt.Errorf("listen to logind: %w", err)
	}
	m.Log.Info("Shutdowns of the machine are held up for pods to end", "longest", m.longest())
	for {
		select {
		case <-ctx.Done():
			return true, nil
		case down, more := <-news:
			if !more {
				return true, errors.New("logind went away")
			}
			m.turn(ctx, down, hold)
		}
	}
}

// turn does what is to be done when a shutdown begins, or is called off.
func (m *Manager) turn(ctx context.Context, down bool, hold *hold) {
	m.mu.Lock()
	m.down = down
	m.mu.Unlock()
	m.Changed()
	if !down {
		m.Log.Info("The machine is not shut down after all")
		m.Events.Event(m.Node, corev1.EventTypeNormal, events.NodeShutdown, "Shutdown manager detected shutdown cancellation")
		if err := hold.take(); err != nil {
			m.Log.Warn("The next shutdown is not held up", "error", err)
		}
		return
	}
	m.Log.Warn("The machine is shut down, and pods are ended first")
	m.Events.Event(m.Node, corev1.EventTypeNormal, events.NodeShutdown, "Shutdown manager detected shutdown event")
	m.endPods(ctx)
	m.Log.Info("The machine may be shut down now")
	hold.release(m.Log)
}

// Err says that the machine is shut down; nil: it is not.
func (m *Manager) Err() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.down {
		return errDown
	}
	return nil
}

var errDown = errors.New("node is shutting down")

// Admit refuses pods while the machine is shut down.
func (m *Manager) Admit(*lifecycle.PodAdmitAttributes) lifecycle.PodAdmitResult {
	if m.Err() != nil {
		return lifecycle.PodAdmitResult{Reason: "NodeShutdown", Message: "Pod was rejected as the node is shutting down."}
	}
	return lifecycle.PodAdmitResult{Admit: true}
}

// hold is what holds up a shutdown.
type hold struct {
	logind Logind
	lock   systemd.InhibitLock
	held   bool
}

func (h *hold) take() error {
	lock, err := h.logind.InhibitShutdown()
	if err != nil {
		return err
	}
	if h.held {
		err = h.logind.ReleaseInhibitLock(h.lock)
	}
	h.lock, h.held = lock, true
	return err
}

func (h *hold) release(log *slog.Logger) {
	if !h.held {
		return
	}
	h.held = false
	if err := h.logind.ReleaseInhibitLock(h.lock); err != nil {
		log.Warn("The shutdown is still held up", "error", err)
	}
}

// How often, and how soon at first, logind is asked whether it has read its configuration.
const (
	reloads     = 5
	firstReload = 100 * time.Millisecond
)

// delay has logind wait long enough.
func (m *Manager) delay(ctx context.Context, logind Logind) error {
	want := m.longest()
	have, err := logind.CurrentInhibitDelay()
	if err != nil || have >= want {
		return err
	}
	if err := logind.OverrideInhibitDelay(want); err != nil {
		return fmt.Errorf("unable to override inhibit delay by shutdown manager: %w", err)
	}
	if err := logind.ReloadLogindConf(); err != nil {
		return err
	}
	for i, wait := 0, firstReload; i < reloads; i, wait = i+1, 2*wait {
		if i > 0 && !pause.For(ctx, wait/2) {
			return ctx.Err()
		}
		if have, err = logind.CurrentInhibitDelay(); err != nil || have >= want {
			return err
		}
	}
	return fmt.Errorf("node shutdown manager was timed out after %d attempts waiting for logind InhibitDelayMaxSec to update to %v (ShutdownGracePeriod), current value is %v",
		reloads, want, have)
}
