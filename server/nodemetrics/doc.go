// Package nodemetrics serves metrics.k8s.io/v1beta1, what nodes and pods use, where nobody else does: kubectl top and
// HorizontalPodAutoscalers work with nothing installed.
//
// The figures are the nodes' own, of /metrics/resource. They are fetched when somebody asks, from the nodes that the question is
// about, and kept for some seconds; what is used is told between two fetches, so that the very first question waits for a second one.
// A cluster where nobody asks does nothing. The group is there while there are nodes that have figures, and not where an APIService
// of the same name sends it to a server that a user installed.
package nodemetrics

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	kubeletclient "k8s.io/kubernetes/pkg/kubelet/client"
	"k8s.io/metrics/pkg/apis/metrics"
	"k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"github.com/rowlock-io/rowlock/schema/openapi"
	"github.com/rowlock-io/rowlock/server/discovery"
)

// Group is what is served.
const Group = metrics.GroupName

// Config is what the figures of one cluster are made from.
type Config struct {
	Kube kubernetes.Interface // the cluster's own API, in process
	// Connect tells how a node is reached.
	Connect   func(ctx context.Context, node string) (*kubeletclient.ConnectionInfo, error)
	Documents *discovery.Documents
	OpenAPI   *openapi.Service
	// Elsewhere tells whether requests for the group go to another server, which describes it, too.
	Elsewhere func() bool
	Log       *slog.Logger
}

// Handler serves the group.
type Handler struct {
	cfg     Config
	figures *figures
	serve   func() http.Handler // made with the first request

	mu        sync.Mutex
	shown     bool
	described bool // in OpenAPI
	granted   bool // there is a role for who may see the cluster
	checked   time.Time
}

// New makes a handler, which does nothing yet.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg, figures: newFigures(cfg)}
	h.serve = sync.OnceValue(h.routes)
	return h
}

// ServeHTTP answers below /apis/metrics.k8s.io/v1beta1/.
func (h *Handler) ServeHTTP(w http.ResponseWriter, req *http.Request) { h.serve().ServeHTTP(w, req) }

// stale is how long discovery may say what was so before.
const stale = 5 * time.Second

// Look has discovery and OpenAPI show the group if there are nodes with figures, and not otherwise; it tells whether they do. It is asked
// before either is shown.
func (h *Handler) Look(ctx context.Context) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Since(h.checked) < stale {
		return h.shown
	}
	nodes, err := h.cfg.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: real, Limit: looked, ResourceVersion: "0"})
	if err != nil {
		return h.shown
	}
	h.checked = time.Now()
	some := slices.ContainsFunc(nodes.Items, func(n corev1.Node) bool { return n.Status.DaemonEndpoints.KubeletEndpoint.Port > 0 })
	switch {
	case some && !h.shown:
		if err := h.cfg.Documents.Set(Group, discovery.RankBuiltin, versions()); err != nil {
			h.cfg.Log.Warn("Metrics of nodes are not in discovery", "err", err)
			return false
		}
	case !some && h.shown:
		h.cfg.Documents.Remove(Group)
	}
	h.shown = some
	h.describe(some && !h.cfg.Elsewhere())
	if some && !h.granted {
		h.granted = h.grant(ctx)
	}
	return some
}

// describe has OpenAPI describe the group, or not.
func (h *Handler) describe(want bool) {
	switch {
	case want == h.described:
		return
	case !want:
		h.cfg.OpenAPI.RemoveSource(Group)
	default:
		if err := h.cfg.OpenAPI.SetSource(Group, openapi.Served(h.group())); err != nil {
			h.cfg.Log.Warn("Metrics of nodes are not described", "err", err)
		}
	}
	h.described = want
}

// grant has who may see, edit or administer what is in a namespace see figures, too, by the role that metrics-server comes with. One that is
// there is left as it is.
func (h *Handler) grant(ctx context.Context) bool {
	role := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "system:aggregated-metrics-reader", Labels: map[string]string{
			"rbac.authorization.k8s.io/aggregate-to-view": "true", "rbac.authorization.k8s.io/aggregate-to-edit": "true",
			"rbac.authorization.k8s.io/aggregate-to-admin": "true",
		}},
		Rules: []rbacv1.PolicyRule{{APIGroups: []string{Group}, Resources: []string{"pods", "nodes"}, Verbs: []string{"get", "list", "watch"}}},
	}
	_, err := h.cfg.Kube.RbacV1().ClusterRoles().Create(ctx, role, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		h.cfg.Log.Info("Role for metrics of nodes was not made", "err", err)
		return false
	}
	return true
}

// looked is how many nodes are looked at for one that can be asked: nearly always the first can.
const looked = 50

// real selects nodes that are not simulated: those have nothing to tell.
const real = "rowlock.io/simulated!=true"

// versions is what discovery says, with metrics-server's priorities.
func versions() []discovery.Version {
	verbs := metav1.Verbs{"get", "list"}
	return []discovery.Version{{
		GroupVersion: v1beta1.SchemeGroupVersion, GroupPriority: 100, VersionPriority: 100,
		Resources: []metav1.APIResource{
			{Name: "nodes", Kind: "NodeMetrics", Verbs: verbs},
			{Name: "pods", Kind: "PodMetrics", Verbs: verbs, Namespaced: true},
		},
	}}
}
