package read

import (
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// Get answers GET of one object. When it returns false nothing was written and upstream's handler has to answer.
func (h *Handler) Get(w http.ResponseWriter, req *http.Request, info *request.RequestInfo, res *Resource) bool {
	if req.Method != http.MethodGet || info.Subresource != "" || !validName(info.Name) || (res.Namespaced && info.Namespace == "") {
		return false
	}
	m, ok := res.negotiate(req, false)
	if !ok || auditsBody(req) {
		return false
	}
	var asked string
	if req.URL.RawQuery != "" {
		query := req.URL.Query()
		if query.Has("export") {
			return false
		}
		asked = query.Get("resourceVersion")
	}
	rev, ok := parseRevision(asked)
	if !ok {
		return false
	}
	if err := h.settle(req.Context(), res, asked, rev); err != nil {
		h.fail(w, req, res, err)
		return true
	}
	entry, _ := res.Cache.Get(res.key(info.Namespace, info.Name))
	if entry == nil {
		h.fail(w, req, res, apierrors.NewNotFound(qualified(info), info.Name))
		return true
	}
	out := h.newBody(w, req, m.contentType())
	defer out.release()
	var err error
	if out.buf, err = res.appendObject(out.buf, m, res.Codec.View(entry), entry.Revision); err != nil {
		h.fail(w, req, res, err)
		return true
	}
	if m == mediaJSON {
		out.buf = append(out.buf, '\n')
	}
	out.finish()
	return true
}
