package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
	utiltrace "k8s.io/utils/trace"
)

// TestLimit: what one place says again and again is bounded, what others say is not lost, and nothing is dropped in secret.
func TestLimit(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := newLimit(slog.NewTextHandler(&out, nil))
	now := time.Now()
	say := func(pc uintptr, level slog.Level, after time.Duration) string {
		out.Reset()
		if err := l.WithAttrs(nil).Handle(t.Context(), slog.NewRecord(now.Add(after), level, "said", pc)); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	for i := range limitBurst {
		if say(1, slog.LevelError, 0) == "" {
			t.Fatalf("%d was dropped", i)
		}
	}
	for range 7 {
		if got := say(1, slog.LevelWarn, limitEvery-1); got != "" {
			t.Errorf("let through: %s", got)
		}
	}
	if say(2, slog.LevelError, 0) == "" {
		t.Error("another place was silenced")
	}
	if say(1, slog.LevelInfo, 0) == "" {
		t.Error("a note was dropped")
	}
	if got := say(1, slog.LevelError, limitEvery); !strings.Contains(got, "suppressed=7") {
		t.Errorf("got %q", got)
	}
	if got := say(1, slog.LevelError, limitEvery); got != "" {
		t.Errorf("let through: %s", got)
	}
	for i := range limitBurst {
		if say(1, slog.LevelError, time.Hour) == "" {
			t.Fatalf("%d was dropped after an hour", i)
		}
	}
	if got := say(1, slog.LevelError, time.Hour); got != "" {
		t.Errorf("an hour gave more than the burst: %s", got)
	}
}

// TestLibraries logs as libraries do: floods come from one place each, slow requests are told of when debug messages are,
// and what a client sends does not make a message of any size.
//
//nolint:paralleltest // klog is the process's
func TestLibraries(t *testing.T) {
	defer klog.ClearLogger()
	for verbosity, wantTrace := range map[int]bool{0: false, 2: true} {
		var out bytes.Buffer
		if _, _, err := newLogger(t.Context(), &out, "text", verbosity); err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			klog.Errorf("wrong token %d", i)
			klog.ErrorS(errors.New("refused"), "Request failed", "number", i)
			runtime.HandleError(fmt.Errorf("watch %d broke off", i))
		}
		klog.Error(strings.Repeat("long ", 1<<20))
		klog.V(5).Info("detail")
		trace := utiltrace.New("List")
		trace.LogIfLong(0)
		text := out.String()
		for _, words := range []string{"wrong token", "Request failed", "broke off"} {
			if n := strings.Count(text, words); n != limitBurst {
				t.Errorf("-v %d: %q %d times, want %d", verbosity, words, n, limitBurst)
			}
		}
		if strings.Contains(text, `Trace[`) != wantTrace {
			t.Errorf("-v %d: the trace of a slow request is shown: %v", verbosity, !wantTrace)
		}
		if strings.Contains(text, "detail") {
			t.Errorf("-v %d: shows messages of level 5", verbosity)
		}
		if !strings.Contains(text, "long long") || len(text) > 60*400+limitMessage {
			t.Errorf("-v %d: %d bytes", verbosity, len(text))
		}
	}
	var out bytes.Buffer
	if _, _, err := newLogger(t.Context(), &out, "text", 5); err != nil {
		t.Fatal(err)
	}
	klog.V(5).Info("detail")
	if !strings.Contains(out.String(), "detail") {
		t.Error("-v 5 does not show messages of level 5")
	}
	if _, _, err := newLogger(t.Context(), &out, "text", 0); err != nil {
		t.Fatal(err)
	}
}
