package controlplane

import (
	"net/http"
	"sync/atomic"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	aggregator "k8s.io/kube-aggregator/pkg/client/clientset_generated/clientset"

	"github.com/rowlock-io/rowlock/schema"
	"github.com/rowlock-io/rowlock/schema/adapter"
	"github.com/rowlock-io/rowlock/server/loopback"
)

// clients use the cluster's own API from within: no sockets, no limits, as a member of system:masters.
type clients struct {
	kube       kubernetes.Interface
	dynamic    dynamic.Interface
	aggregator aggregator.Interface
	extensions apiextensions.Interface
	late       *lateHandler
}

// userAgent names the field manager of what the server writes, whatever its binary is called.
const userAgent = "rowlock/" + schema.Version

// lateHandler is a handler that becomes known after the clients that call it: the registries need clients, and the
// handler needs the registries.
type lateHandler struct {
	h     atomic.Pointer[http.Handler]
	first *adapter.First
}

func (l *lateHandler) set(h http.Handler) { l.h.Store(&h) }

func (l *lateHandler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := l.h.Load()
	if h == nil {
		http.Error(w, "the server is starting", http.StatusServiceUnavailable)
		return
	}
	if ctx := l.first.Own(req.Context()); ctx != req.Context() {
		req = req.WithContext(ctx)
	}
	(*h).ServeHTTP(w, req)
}

func newClients(record Record, first *adapter.First) (*clients, error) {
	c := &clients{late: &lateHandler{first: first}}
	config := &rest.Config{Host: "http://apiserver", Transport: loopback.Transport{Handler: c.late}, QPS: -1, UserAgent: userAgent}
	record.client(config)
	var err error
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.aggregator, err = aggregator.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.extensions, err = apiextensions.NewForConfig(config); err != nil {
		return nil, err
	}
	config = rest.CopyConfig(config)
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	c.kube, err = kubernetes.NewForConfig(config)
	return c, err
}
