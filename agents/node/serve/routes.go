package serve

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/apiserver/pkg/server/healthz"
)

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	for pattern, handler := range map[string]http.HandlerFunc{
		"GET /pods":            s.pods,
		"GET /pods/{$}":        s.pods,
		"GET /runningpods/{$}": s.runningPods,
		"GET /stats/summary":   s.summary,
		"POST /stats/summary":  s.summary,

		"GET /containerLogs/{namespace}/{pod}/{container}": s.containerLogs,
		"POST /run/{namespace}/{pod}/{container}":          s.run,
		"POST /run/{namespace}/{pod}/{uid}/{container}":    s.run,
		"POST /checkpoint/{namespace}/{pod}/{container}":   s.checkpoint,
	} {
		mux.HandleFunc(pattern, handler)
	}
	for _, method := range []string{"GET", "POST"} {
		for kind, handler := range map[string]http.HandlerFunc{"exec": s.exec, "attach": s.attach} {
			mux.HandleFunc(method+" /"+kind+"/{namespace}/{pod}/{container}", handler)
			mux.HandleFunc(method+" /"+kind+"/{namespace}/{pod}/{uid}/{container}", handler)
		}
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}", s.portForward)
		mux.HandleFunc(method+" /portForward/{namespace}/{pod}/{uid}", s.portForward)
	}
	mux.Handle("/metrics", gathered(s.cfg.Metrics))
	mux.Handle("/metrics/probes", gathered(s.cfg.Probes))
	mux.HandleFunc("/metrics/resource", s.resourceMetrics)
	mux.HandleFunc("/metrics/cadvisor", s.containerMetrics)
	mux.HandleFunc("/configz", s.configz)
	mux.Handle("GET /logs/", s.systemLogs())
	mux.HandleFunc("GET /debug/pprof/{profile...}", profile)
	s.process(mux)
	return mux
}

func (s *Server) health(mux *http.ServeMux) {
	healthz.InstallHandler(mux, append([]healthz.HealthChecker{healthz.PingHealthz, healthz.LogHealthz}, s.cfg.Healthz...)...)
}

// Health serves only whether the node's agent is well, to anybody: for an address that nobody but the machine itself reaches.
func (s *Server) Health() http.Handler {
	mux := http.NewServeMux()
	s.health(mux)
	return mux
}

func gathered(from prometheus.Gatherer) http.Handler {
	if from == nil {
		from = prometheus.NewRegistry()
	}
	return promhttp.HandlerFor(from, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError})
}

func (s *Server) configz(w http.ResponseWriter, _ *http.Request) {
	shown := map[string]any{}
	if s.cfg.Configz != nil {
		shown["kubeletconfig"] = s.cfg.Configz()
	}
	s.json(w, shown)
}

// systemLogs serves the files of a directory, and no symbolic link out of it: pods may be able to write there.
func (s *Server) systemLogs() http.Handler {
	if s.cfg.SystemLogs == "" {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "logs endpoint is disabled.", http.StatusMethodNotAllowed)
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		root, err := os.OpenRoot(s.cfg.SystemLogs)
		if err != nil {
			http.NotFound(w, req)
			return
		}
		defer func() { _ = root.Close() }() // nothing was written
		unhurried(w)
		http.StripPrefix("/logs/", http.FileServerFS(root.FS())).ServeHTTP(pace(w), req)
	})
}

func profile(w http.ResponseWriter, req *http.Request) {
	switch req.PathValue("profile") {
	case "profile":
		pprof.Profile(w, req)
	case "symbol":
		pprof.Symbol(w, req)
	case "cmdline":
		pprof.Cmdline(w, req)
	case "trace":
		pprof.Trace(w, req)
	default:
		pprof.Index(w, req)
	}
}

func (s *Server) json(w http.ResponseWriter, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		s.failed(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (s *Server) failed(w http.ResponseWriter, err error) {
	plain(w, http.StatusInternalServerError, err.Error())
}

// unhurried lifts the bounds of time from one request.
func unhurried(w http.ResponseWriter) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // what cannot bound has no bounds
	_ = rc.SetWriteDeadline(time.Time{})
}

// paced bounds the time that a reader takes for each write.
type paced struct {
	http.ResponseWriter
	control *http.ResponseController
}

func pace(w http.ResponseWriter) *paced { return &paced{w, http.NewResponseController(w)} }

func (p *paced) Write(data []byte) (int, error) {
	_ = p.control.SetWriteDeadline(time.Now().Add(stalledTime))
	return p.ResponseWriter.Write(data)
}

// Flush implements http.Flusher.
func (p *paced) Flush() { _ = p.control.Flush() }
