package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
)

func TestHushed(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	ctx, stop := context.WithCancel(t.Context())
	log := slog.New(hushed{slog.NewTextHandler(&out, nil), ctx}).With("a", "b")
	broken := fmt.Errorf("watch: %w", context.Canceled)
	said := func(err error) bool {
		out.Reset()
		log.Error("It failed", "err", err)
		return out.Len() > 0
	}
	if !said(errors.New("disk full")) {
		t.Error("an error is not shown")
	}
	if said(broken) || said(errors.New(broken.Error())) {
		t.Errorf("what was broken off is shown: %s", out.String())
	}
	stop()
	if said(errors.New("disk full")) {
		t.Errorf("after the end: %s", out.String())
	}
}
