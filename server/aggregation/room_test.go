package aggregation

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/rowlock-io/rowlock/server/outbound"
)

// TestDocumentOfManySmallObjectsDoesNotFillTheMemory: ten million empty resources are 30 MB on the wire and gigabytes here.
func TestDocumentOfManySmallObjectsDoesNotFillTheMemory(t *testing.T) {
	t.Parallel()
	const one = `{"resource":"foos","responseKind":{"group":"g","version":"v1","kind":"Foo"},"scope":"Namespaced"},`
	for name, tc := range map[string]struct {
		body string
		ok   bool
	}{
		"what servers say":  {body: strings.Repeat(one, 10_000), ok: true},
		"a large text":      {body: strings.Repeat(one, 10_000) + strings.Repeat("x", 8<<20), ok: true},
		"many empty":        {body: strings.Repeat("{},", 200_000)},
		"a text that is it": {body: strings.Repeat("x", maxWeight+1)},
	} {
		body, err := whole(&http.Response{Body: io.NopCloser(strings.NewReader(tc.body))})
		if tc.ok && (err != nil || !bytes.Equal(body, []byte(tc.body))) {
			t.Errorf("%s: %v", name, err)
		}
		if !tc.ok && !errors.Is(err, outbound.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManyServersDoNotFillTheMemory: each says no more than it may, and all of them too much.
func TestManyServersDoNotFillTheMemory(t *testing.T) {
	t.Parallel()
	r := newRoom()
	var servers [10]int64
	refused := 0
	for i := range servers {
		if err := r.replace(&servers[i], maxWeight/2); err != nil {
			refused++
			if !errors.Is(err, outbound.ErrTooLarge) {
				t.Error(err)
			}
		}
	}
	if refused != 6 || r.kept != maxKept {
		t.Errorf("%d of 10 refused, %d bytes kept", refused, r.kept)
	}
	if err := r.replace(&servers[0], maxWeight/2+1); err == nil {
		t.Error("one says more where there is no room")
	}
	if err := r.replace(&servers[0], 1); err != nil {
		t.Errorf("one says less: %v", err)
	}
	for i := range servers {
		if err := r.replace(&servers[i], 0); err != nil {
			t.Error(err)
		}
	}
	if r.kept != 0 {
		t.Errorf("%d bytes are kept of nobody", r.kept)
	}
}

// TestFewServersAreListenedToAtATime: a hundred that answer slowly do not hold a hundred documents in memory.
func TestFewServersAreListenedToAtATime(t *testing.T) {
	t.Parallel()
	r := newRoom()
	var leave func()
	for range maxLearning {
		var err error
		if leave, err = r.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.enter(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("one more: %v", err)
	}
	leave()
	if _, err := r.enter(t.Context()); err != nil {
		t.Error(err)
	}
}
