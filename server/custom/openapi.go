package custom

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/controller/openapi/builder"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/rowlock-io/rowlock/schema/openapi"
)

// openapiRank puts custom resources behind the built-in groups and aggregated servers.
const openapiRank = 100

// published is what OpenAPI was last told.
type published struct {
	v2 []*definition // in order
	v3 map[schema.GroupVersion][sha256.Size]byte
}

// publishOpenAPI replaces the documents that have changed. Documents are built when somebody asks for them.
func (h *Handler) publishOpenAPI(crds []*apiextensions.CustomResourceDefinition, established map[string]*definition) {
	members := map[schema.GroupVersion][]*definition{}
	var served []*definition
	for _, crd := range crds {
		d := established[crd.Name]
		any := false
		for _, v := range crd.Spec.Versions {
			if v.Served {
				gv := schema.GroupVersion{Group: crd.Spec.Group, Version: v.Name}
				members[gv] = append(members[gv], d)
				any = true
			}
		}
		if any {
			served = append(served, d)
		}
	}
	for gv, list := range members {
		hash := hashOf(list)
		if h.published.v3[gv] == hash {
			continue
		}
		err := h.cfg.OpenAPI.SetSource(sourceOf(gv), openapi.Source{Rank: openapiRank, V3: map[string]openapi.Document{
			"apis/" + gv.String(): {Build: func() (*spec3.OpenAPI, error) { return h.buildV3(list, gv.Version) }, Hash: fmt.Sprintf("%X", hash)},
		}})
		if err != nil {
			h.cfg.Log.Error("OpenAPI of custom resources could not be set", "groupVersion", gv, "err", err)
			continue
		}
		h.published.v3[gv] = hash
	}
	for gv := range h.published.v3 {
		if members[gv] == nil {
			h.cfg.OpenAPI.RemoveSource(sourceOf(gv))
			delete(h.published.v3, gv)
		}
	}
	switch {
	case slices.Equal(served, h.published.v2):
	case len(served) == 0:
		h.cfg.OpenAPI.RemoveSource(source)
		h.published.v2 = nil
	default:
		parts := make([]*openapi.Part, len(served))
		for i, d := range served {
			parts[i] = d.v2
		}
		if err := h.cfg.OpenAPI.SetSource(source, openapi.Source{Rank: openapiRank, V2Parts: parts}); err != nil {
			h.cfg.Log.Error("OpenAPI of custom resources could not be set", "err", err)
			return
		}
		h.published.v2 = served
	}
}

func sourceOf(gv schema.GroupVersion) string { return source + " " + gv.String() }

// hashOf tells sets of definitions, which are in order, apart.
func hashOf(definitions []*definition) [sha256.Size]byte {
	all := make([]byte, 0, len(definitions)*sha256.Size)
	for _, d := range definitions {
		all = append(all, d.identity[:]...)
	}
	return sha256.Sum256(all)
}

func (h *Handler) buildV3(definitions []*definition, version string) (*spec3.OpenAPI, error) {
	var parts []*spec3.OpenAPI
	for _, d := range definitions {
		crd, err := h.full(d.state.Load())
		if err != nil {
			return nil, err
		}
		part, err := builder.BuildOpenAPIV3(crd, version, builder.Options{IncludeSelectableFields: true})
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return builder.MergeSpecsV3(parts...)
}

// buildV2 describes all versions of a definition.
func (d *definition) buildV2() (*spec.Swagger, error) {
	crd, err := d.h.full(d.state.Load())
	if err != nil {
		return nil, err
	}
	all := &spec.Swagger{SwaggerProps: spec.SwaggerProps{
		Paths: &spec.Paths{Paths: map[string]spec.PathItem{}}, Definitions: spec.Definitions{}, Parameters: map[string]spec.Parameter{},
	}}
	for _, v := range crd.Spec.Versions {
		if !v.Served {
			continue
		}
		part, err := builder.BuildOpenAPIV2(crd, v.Name, builder.Options{V2: true, IncludeSelectableFields: true})
		if err != nil {
			d.h.cfg.Log.Error("OpenAPI of a custom resource could not be built", "name", crd.Name, "version", v.Name, "err", err)
			continue
		}
		if part.Paths != nil {
			maps.Copy(all.Paths.Paths, part.Paths.Paths)
		}
		maps.Copy(all.Definitions, handler.PruneDefaults(part.Definitions))
		maps.Copy(all.Parameters, part.Parameters)
	}
	return all, nil
}
