package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"k8s.io/klog/v2"
)

// newLogger writes to w and takes over what libraries log through klog. Level is Kubernetes' -v: 0 and 1 are info, 2 and
// more debug. The function changes it. When ctx ends, libraries fall silent.
func newLogger(ctx context.Context, w io.Writer, format string, level int) (*slog.Logger, func(int) error, error) {
	var shown slog.LevelVar
	opts := &slog.HandlerOptions{Level: &shown}
	set := func(level int) error {
		if err := setVerbosity(level); err != nil {
			return err
		}
		shown.Set(slog.LevelInfo)
		if level >= 2 {
			shown.Set(min(slog.LevelDebug, slog.Level(-level))) // as deep as libraries say it
		}
		return nil
	}
	if err := set(level); err != nil {
		return nil, nil, err
	}
	var h slog.Handler
	switch format {
	case "text":
		h = slog.NewTextHandler(w, opts)
	case "json":
		h = slog.NewJSONHandler(w, opts)
	default:
		return nil, nil, fmt.Errorf("--logging-format %q must be text or json", format)
	}
	log := slog.New(h)
	// Libraries are talkative at info: what they say there is shown as debug is.
	klog.SetSlogLogger(slog.New(hushed{calm{newLimit(demote{h})}, ctx}))
	slog.SetDefault(log)
	return log, set, nil
}

// setVerbosity says up to which level libraries log. From 2 on they also tell of slow requests.
func setVerbosity(level int) error {
	var fs flag.FlagSet
	klog.InitFlags(&fs)
	if err := fs.Set("v", strconv.Itoa(level)); err != nil {
		return fmt.Errorf("-v %d: %w", level, err)
	}
	return nil
}
