package read

import (
	"net/http"

	metainternal "k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metainternalscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metainternalvalidation "k8s.io/apimachinery/pkg/apis/meta/internalversion/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apiserver/pkg/endpoints/request"
	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// listOptions reads the parameters of a list or a watch in upstream's order of steps. It is not ok when upstream answers
// with an error about them: it shall say so itself.
func (h *Handler) listOptions(req *http.Request, info *request.RequestInfo, res *Resource) (metainternal.ListOptions, bool) {
	var opts metainternal.ListOptions
	if req.URL.RawQuery != "" {
		if err := metainternalscheme.ParameterCodec.DecodeParameters(req.URL.Query(), metav1.SchemeGroupVersion, &opts); err != nil {
			return opts, false
		}
		metainternal.SetListOptionsDefaults(&opts, h.watchList)
		if errs := metainternalvalidation.ValidateListOptions(&opts, h.watchList); len(errs) > 0 {
			return opts, false
		}
		if opts.ShardSelector != "" {
			return opts, false
		}
		if opts.FieldSelector != nil {
			sel, err := opts.FieldSelector.Transform(res.FieldLabel)
			if err != nil {
				return opts, false
			}
			opts.FieldSelector = sel
		}
	}
	if info.Name != "" {
		// A name comes from the path of a watch, or was lifted out of the field selector by the request info.
		if opts.FieldSelector == nil || opts.FieldSelector.Empty() {
			opts.FieldSelector = fields.OneTermEqualSelector("metadata.name", info.Name)
		} else if name, ok := opts.FieldSelector.RequiresExactMatch("metadata.name"); !ok || name != info.Name {
			return opts, false
		}
	}
	return opts, true
}

// parseRevision reads a resourceVersion; "" and "0" are 0.
func parseRevision(rv string) (storage.Revision, bool) {
	rev, err := apistorage.APIObjectVersioner{}.ParseResourceVersion(rv)
	return storage.Revision(rev), err == nil
}
