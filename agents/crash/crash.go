// Package crash keeps a panic in one part of a process, and a library's wish to end it, from taking the other parts along.
//
// Upstream's loops are written for a process of their own: what goes wrong in one ends the process, and it starts anew.
// Here the part that crashed is told instead, and starts anew alone. Which part it was stands in the context.
package crash

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
)

type key struct{}

// With returns a context in which panics that upstream's crash handlers see are told to f, beside being logged.
func With(ctx context.Context, f func(panicked any)) context.Context {
	return context.WithValue(ctx, key{}, f)
}

// Exit is what becomes of a library's wish to end the process: a panic with this.
type Exit struct{ Code int }

func (e Exit) Error() string { return fmt.Sprintf("exit with code %d", e.Code) }

// Panic takes os.Exit's place.
func Panic(code int) { panic(Exit{code}) }

// Handlers tell parts of the process of crashes.
type Handlers struct {
	mu    sync.Mutex
	exits map[*func(Exit)]struct{}
}

// Handle is one of utilruntime.PanicHandlers.
func (h *Handlers) Handle(ctx context.Context, panicked any) {
	if err, ok := panicked.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		return // how handlers break off an answer
	}
	if f, ok := ctx.Value(key{}).(func(any)); ok {
		f(panicked)
		return
	}
	exit, ok := panicked.(Exit)
	if !ok {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.exits {
		(*f)(exit)
	}
}

// OnExit calls f when a library wants the process to end and nobody knows on whose behalf, until the function that it
// returns is called. f must not wait for anything.
func (h *Handlers) OnExit(f func(Exit)) (stop func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.exits == nil {
		h.exits = map[*func(Exit)]struct{}{}
	}
	h.exits[&f] = struct{}{}
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.exits, &f)
	}
}
