package replicas

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

const namespace = "replicas"

// replica is one server as its clients see it. They speak plain HTTP and look for resourceVersions only: the machine is
// for the servers.
type replica struct {
	url     string
	writers *http.Client
	watcher *http.Client // on a connection of its own
}

// put replaces an object, whatever is there, and returns the resourceVersion that it then has.
func (r *replica) put(ctx context.Context, name, payload string) (uint64, error) {
	body := fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q},"data":{"payload":%q}}`, name, payload)
	return r.send(ctx, http.MethodPut, "/configmaps/"+name, body)
}

// create makes an object.
func (r *replica) create(ctx context.Context, name string) error {
	_, err := r.send(ctx, http.MethodPost, "/configmaps", fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":%q}}`, name))
	return err
}

func (r *replica) send(ctx context.Context, method, path, body string) (uint64, error) {
	answer, err := open(ctx, r.writers, method, r.url+"/api/v1/namespaces/"+namespace+path, body)
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	data, err := io.ReadAll(answer)
	if err != nil {
		return 0, err
	}
	return version(data)
}

func open(ctx context.Context, client *http.Client, method, url, body string) (io.ReadCloser, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		defer response.Body.Close()
		text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
		return nil, fmt.Errorf("%s %s: %s: %s (%w)", method, url, response.Status, text, err)
	}
	return response.Body, nil
}

var versionField = []byte(`"resourceVersion":"`)

// version finds the resourceVersion of an object in JSON.
func version(data []byte) (uint64, error) {
	_, rest, ok := bytes.Cut(data, versionField)
	digits, _, more := bytes.Cut(rest, []byte{'"'})
	if !ok || !more {
		return 0, fmt.Errorf("there is no resourceVersion in %q", data[:min(len(data), 300)])
	}
	return strconv.ParseUint(string(digits), 10, 64)
}

// seen is an event that reached a watcher.
type seen struct {
	version uint64
	at      time.Time
}

// watch is what a watcher of one replica has seen.
type watch struct {
	mu   sync.Mutex
	seen []seen
	err  error // why it ended
}

// follow watches a replica from a resourceVersion until the context ends.
func (r *replica) follow(ctx context.Context, after uint64) (*watch, error) {
	url := fmt.Sprintf("%s/api/v1/namespaces/%s/configmaps?watch=true&timeoutSeconds=3600&resourceVersion=%d", r.url, namespace, after)
	stream, err := open(ctx, r.watcher, http.MethodGet, url, "")
	if err != nil {
		return nil, err
	}
	w := new(watch)
	go func() {
		defer stream.Close()
		lines := bufio.NewScanner(stream)
		lines.Buffer(make([]byte, 64<<10), 1<<20)
		for lines.Scan() {
			at := time.Now()
			v, err := version(lines.Bytes())
			if err == nil && bytes.HasPrefix(lines.Bytes(), []byte(`{"type":"ERROR"`)) {
				err = fmt.Errorf("the watch said %q", lines.Bytes())
			}
			w.mu.Lock()
			if err != nil {
				w.err = err
				w.mu.Unlock()
				return
			}
			w.seen = append(w.seen, seen{v, at})
			w.mu.Unlock()
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = fmt.Errorf("the watch ended: %v", lines.Err())
	}()
	return w, nil
}

// take waits until a watcher has seen a version and returns what it saw since the last time.
func (w *watch) take(ctx context.Context, last uint64) ([]seen, error) {
	for {
		w.mu.Lock()
		got, err := w.seen, w.err
		if n := len(got); err == nil && n > 0 && got[n-1].version >= last {
			w.seen = nil
			w.mu.Unlock()
			return got, nil
		}
		w.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("after %d events the watcher had not seen version %d: %w", len(got), last, ctx.Err())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// save writes a stream to a file.
func save(file string, stream io.Reader) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, stream)
	return errors.Join(err, f.Close())
}
