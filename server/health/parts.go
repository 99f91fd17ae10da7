package health

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
)

// Parts are what works beside serving, such as controllers. A server without one of them still serves, so that one is down
// takes nobody out of a balancer; the verbose form of /readyz shows it.
type Parts struct {
	mu   sync.Mutex
	down map[string]bool
}

// Set tells whether a part is down.
func (p *Parts) Set(name string, down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !down {
		delete(p.down, name)
		return
	}
	if p.down == nil {
		p.down = map[string]bool{}
	}
	p.down[name] = true
}

// Down are the names of the parts that are.
func (p *Parts) Down() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for name := range p.down {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// partsMux puts the parts that are down above the checks at one path.
type partsMux struct {
	Mux
	path  string
	parts *Parts
}

func (m partsMux) Handle(path string, next http.Handler) {
	if path != m.path {
		m.Mux.Handle(path, next)
		return
	}
	m.Mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, verbose := req.URL.Query()["verbose"]; verbose {
			if down := m.parts.Down(); len(down) > 0 {
				w = &above{ResponseWriter: w, lines: down}
			}
		}
		next.ServeHTTP(w, req)
	}))
}

// above writes lines before what is written first.
type above struct {
	http.ResponseWriter
	lines []string
}

func (a *above) Write(p []byte) (int, error) {
	for _, line := range a.lines {
		if _, err := fmt.Fprintf(a.ResponseWriter, "[!]%s is down: reason withheld\n", line); err != nil {
			return 0, err
		}
	}
	a.lines = nil
	return a.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController and those who look for the writer below.
func (a *above) Unwrap() http.ResponseWriter { return a.ResponseWriter }
