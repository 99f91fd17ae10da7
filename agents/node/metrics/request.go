package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

var ofRequest = []string{"method", "path", "server_type", "long_running"}

// What paths and methods are counted by; others are counted together, or clients would make series.
var (
	paths = map[string]bool{
		"pods": true, "stats": true, "metrics": true, "metrics/cadvisor": true, "metrics/probes": true, "metrics/resource": true, "checkpoint": true,
		"run": true, "containerLogs": true, "configz": true, "runningpods": true, "logs": true, "healthz": true,
		// These last as long as somebody wants.
		"exec": true, "attach": true, "portForward": true, "debug": true,
	}
	longRunning = map[string]bool{"exec": true, "attach": true, "portForward": true, "debug": true} // upstream misspells portForward here
	methods     = map[string]bool{
		http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true, http.MethodDelete: true,
		http.MethodConnect: true, http.MethodOptions: true, http.MethodTrace: true,
	}
)

const other = "other"

// bucket is what a path is counted by.
func bucket(path string) string {
	path = strings.Trim(path, "/")
	first, rest, _ := strings.Cut(path, "/")
	if first == "metrics" && rest != "" {
		first = path
	}
	if paths[first] {
		return first
	}
	return other
}

// Requests counts those that next answers.
func (m *Metrics) Requests(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		path, method := bucket(req.URL.Path), req.Method
		if !methods[method] {
			method = other
		}
		labels := []string{method, path, "readwrite", strconv.FormatBool(longRunning[path])}
		began := time.Now()
		m.requests.WithLabelValues(labels...).Inc()
		now := m.inFlight.WithLabelValues(labels...)
		now.Inc()
		defer func() {
			now.Dec()
			m.requestTime.WithLabelValues(labels...).Observe(time.Since(began).Seconds())
		}()
		next.ServeHTTP(w, req)
	})
}
