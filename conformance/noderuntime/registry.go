package noderuntime

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// Registry serves images to runtimes, for every registry that their names may begin with. It is read-only.
type Registry struct {
	// Intercept, where it is set, sees each request first. A request that it answers, which it says by true, goes no further.
	Intercept atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]

	mu        sync.RWMutex
	manifests map[string]blob // by REPOSITORY:TAG and REPOSITORY@DIGEST
	blobs     map[digest.Digest]blob
	pulls     map[string]int // requests for a manifest's body, by REPOSITORY
}

// NewRegistry has no images yet.
func NewRegistry() *Registry {
	return &Registry{manifests: map[string]blob{}, blobs: map[digest.Digest]blob{}, pulls: map[string]int{}}
}

// repository is the part of an image's name that registries are asked by.
func repository(name string) (path, tag string) {
	_, rest, _ := strings.Cut(name, "/")
	path, tag, _ = strings.Cut(rest, ":")
	return path, tag
}

// Add has the registry serve an image, and returns its manifest's digest.
func (r *Registry) Add(t testing.TB, image *Image) digest.Digest {
	t.Helper()
	manifest, parts, err := image.build()
	if err != nil {
		t.Fatal(err)
	}
	path, tag := repository(image.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[path+":"+tag], r.manifests[path+"@"+manifest.Digest.String()] = manifest, manifest
	for _, part := range parts {
		r.blobs[part.Digest] = part
	}
	return manifest.Digest
}

// Pulls is how often the manifest of an image was fetched.
func (r *Registry) Pulls(name string) int {
	path, _ := repository(name)
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.pulls[path]
}

// Serve serves on a listener until the test ends.
func (r *Registry) Serve(t testing.TB, l net.Listener) {
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

// ServeHTTP is the part of the distribution API that pulls need.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if f := r.Intercept.Load(); f != nil && (*f)(w, req) {
		return
	}
	path, found := strings.CutPrefix(req.URL.Path, "/v2/")
	if !found || req.Method != http.MethodGet && req.Method != http.MethodHead {
		http.NotFound(w, req)
		return
	}
	if path == "" {
		w.WriteHeader(http.StatusOK)
		return
	}
	var b blob
	if i := strings.LastIndex(path, "/manifests/"); i >= 0 {
		b, found = r.manifest(path[:i], path[i+len("/manifests/"):], req.Method == http.MethodGet)
		if !found {
			refuse(w, "MANIFEST_UNKNOWN", path)
			return
		}
	} else {
		_, name, _ := strings.Cut(path, "/blobs/")
		r.mu.RLock()
		b, found = r.blobs[digest.Digest(name)]
		r.mu.RUnlock()
		if !found {
			refuse(w, "BLOB_UNKNOWN", path)
			return
		}
	}
	w.Header().Set("Content-Type", b.MediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(b.Size, 10))
	w.Header().Set("Docker-Content-Digest", b.Digest.String())
	switch {
	case req.Method == http.MethodHead:
	case b.file != "":
		http.ServeFile(w, req, b.file)
	default:
		_, _ = w.Write(b.data) // the client may have gone
	}
}

func (r *Registry) manifest(path, reference string, pull bool) (blob, bool) {
	by := ":"
	if strings.Contains(reference, ":") {
		by = "@"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, found := r.manifests[path+by+reference]
	if found && pull {
		r.pulls[path]++
	}
	return b, found
}

func refuse(w http.ResponseWriter, code, path string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusNotFound)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":"not found","detail":%q}]}`, code, path)
}
