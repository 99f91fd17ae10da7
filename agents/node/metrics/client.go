package metrics

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// client counts what is asked of the API server, as client-go does for a whole process.
type client struct {
	requests *prometheus.CounterVec
	time     *prometheus.HistogramVec
}

func newClient() client {
	return client{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rest_client_requests_total", Help: "[ALPHA] Number of HTTP requests, partitioned by status code, method, and host.",
		}, []string{"code", "method", "host"}),
		time: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rest_client_request_duration_seconds", Help: "[ALPHA] Request latency in seconds. Broken down by verb, and host.",
			Buckets: []float64{0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0},
		}, []string{"verb", "host"}),
	}
}

// Client counts the requests that go through next.
func (m *Metrics) Client(next http.RoundTripper) http.RoundTripper { return counted{next, m.client} }

type counted struct {
	next   http.RoundTripper
	client client
}

// RoundTrip implements http.RoundTripper.
func (c counted) RoundTrip(req *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := c.next.RoundTrip(req)
	code := "<error>" // client-go's word
	if err == nil {
		code = strconv.Itoa(resp.StatusCode)
	}
	c.client.requests.WithLabelValues(code, req.Method, req.URL.Host).Inc()
	c.client.time.WithLabelValues(req.Method, req.URL.Host).Observe(time.Since(began).Seconds())
	return resp, err
}

// WrappedRoundTripper implements net.RoundTripperWrapper.
func (c counted) WrappedRoundTripper() http.RoundTripper { return c.next }
