package loopback

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

func client(h http.HandlerFunc) *http.Client { return &http.Client{Transport: Transport{Handler: h}} }

func TestAnswer(t *testing.T) {
	t.Parallel()
	c := client(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		w.Header().Set("X-Path", req.URL.Path)
		w.WriteHeader(http.StatusTeapot)
		_, _ = fmt.Fprintf(w, "got %s", body)
	})
	resp, err := c.Post("http://api/a/b", "text/plain", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || string(body) != "got hello" || resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Path") != "/a/b" {
		t.Fatalf("got %d %q %v %v", resp.StatusCode, body, resp.Header, err)
	}
}

func TestEmptyAnswerIsOK(t *testing.T) {
	t.Parallel()
	resp, err := client(func(http.ResponseWriter, *http.Request) {}).Get("http://api/")
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// A watch streams: the client sees the first line while the handler runs on, and ending the request ends the handler.
func TestStreamEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	c := client(func(w http.ResponseWriter, req *http.Request) {
		defer close(ended)
		_, _ = fmt.Fprintln(w, "first")
		w.(http.Flusher).Flush()
		<-req.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/watch", nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || line != "first\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	cancel()
	<-ended
}

func TestCancelBeforeTheAnswer(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	ctx, cancel := context.WithCancel(t.Context())
	c := client(func(http.ResponseWriter, *http.Request) { cancel(); <-release })
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://api/", nil)
	resp, err := c.Do(req)
	if err == nil {
		_ = resp.Body.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want context canceled", err)
	}
}

func TestPanicIsAnError(t *testing.T) {
	t.Parallel()
	resp, err := client(func(http.ResponseWriter, *http.Request) { panic("broken") }).Get("http://api/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusInternalServerError || err == nil {
		t.Fatalf("got %d, %v", resp.StatusCode, err)
	}
}
