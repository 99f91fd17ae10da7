package fakecri

import (
	"context"
	"io"
	"os"
	"slices"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// AtOnce is for Life.Runs of a container that ends as soon as it has begun.
const AtOnce = time.Nanosecond

// Life is what becomes of one attempt of a container. The zero value runs until it is stopped.
type Life struct {
	// Runs is how long it runs by itself; 0: until it is stopped.
	Runs     time.Duration
	ExitCode int32
	// Reason is that of its end; "": Completed, Error or OOMKilled.
	Reason, Message string
	// OOM: it ends for want of memory.
	OOM bool
	// IgnoresTerm: it is killed when its grace is over.
	IgnoresTerm bool
	// StopsAfter is how long it takes to end when it is asked to.
	StopsAfter time.Duration
	// StopCode is its exit code when it was asked to end; 0: 143.
	StopCode int32
	// Output and Errors are the lines that it writes when it begins.
	Output, Errors []string
	// Termination is what it writes into the file for its termination message.
	Termination string
	// Create and Start are errors of these calls.
	Create, Start error
	// Exec is what processes do that are started in it: their exit code, or an error of the runtime. nil: nothing, and exit 0.
	Exec func(ctx context.Context, p *Process) (int32, error)
	// Attach is what who attaches to it sees; nil: nothing until it ends.
	Attach func(ctx context.Context, p *Process) error
}

// Process is one that was started in a container, or who is attached to it. Streams that were not asked for are empty, or swallow.
type Process struct {
	Container      string // id
	Cmd            []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	TTY            bool
	Resize         <-chan Size
}

// Size is that of a terminal.
type Size struct{ Width, Height uint16 }

// Script sets what becomes of containers of this name that are made from now on: of the first the first, of all beyond the last one
// the last. name "" is for those that have no script.
func (r *Runtime) Script(name string, lives ...Life) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lives[name] = slices.Clone(lives)
}

func (r *Runtime) life(name string) Life {
	lives, ok := r.lives[name]
	if !ok {
		name = ""
		lives = r.lives[name]
	}
	if len(lives) == 0 {
		return Life{}
	}
	if len(lives) > 1 {
		r.lives[name] = lives[1:]
	}
	return lives[0]
}

// Exit ends a container that runs.
func (r *Runtime) Exit(id string, code int32, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.containers[id]; c != nil {
		r.end(c, code, reason, "")
	}
}

// OOM ends a container that runs, for want of memory.
func (r *Runtime) OOM(id string) {
	r.Exit(id, 137, "OOMKilled")
}

// live begins a container's life.
func (r *Runtime) live(c *container) {
	c.status.State, c.status.StartedAt = runtimeapi.ContainerState_CONTAINER_RUNNING, now()
	c.ended = make(chan struct{})
	for _, line := range c.life.Output {
		c.write("stdout", line, r.Profile.Zone)
	}
	for _, line := range c.life.Errors {
		c.write("stderr", line, r.Profile.Zone)
	}
	r.event(c.status.Id, r.sandboxes[c.sandbox], runtimeapi.ContainerEventType_CONTAINER_STARTED_EVENT)
	if c.life.Runs == 0 {
		return
	}
	c.timer = time.AfterFunc(c.life.Runs, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		code, reason := c.life.ExitCode, c.life.Reason
		if c.life.OOM {
			code, reason = 137, "OOMKilled"
		}
		r.end(c, code, reason, c.life.Message)
	})
}

// end is that of a container, unless it has ended.
func (r *Runtime) end(c *container, code int32, reason, message string) {
	if c.status.State != runtimeapi.ContainerState_CONTAINER_RUNNING {
		return
	}
	c.cancel()
	switch {
	case reason != "":
	case code == 0:
		reason = "Completed"
	default:
		reason = "Error"
	}
	if c.life.Termination != "" {
		for _, m := range c.config.Mounts {
			if m.ContainerPath == c.messagePath() {
				_ = os.WriteFile(m.HostPath, []byte(c.life.Termination), 0o666) // as a container's process would: nobody hears
			}
		}
	}
	s := c.status
	s.State, s.FinishedAt, s.ExitCode, s.Reason, s.Message = runtimeapi.ContainerState_CONTAINER_EXITED, now(), code, reason, message
	close(c.ended)
	r.event(s.Id, r.sandboxes[c.sandbox], runtimeapi.ContainerEventType_CONTAINER_STOPPED_EVENT)
}
