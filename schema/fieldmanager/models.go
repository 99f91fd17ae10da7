package fieldmanager

import (
	"fmt"
	"reflect"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapi "k8s.io/apiserver/pkg/endpoints"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilopenapi "k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/kube-openapi/pkg/builder3"
	"k8s.io/kube-openapi/pkg/schemaconv"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	smdschema "sigs.k8s.io/structured-merge-diff/v6/schema"
)

// models are the typed models of all kinds. They share one schema: values of two schemas cannot be merged, and
// the types that many kinds contain (metadata, pod templates) exist once. All of them together take about half a MB.
type models struct {
	schema *smdschema.Schema
	kinds  map[schema.GroupVersionKind]smdschema.TypeRef

	trusted  sync.Map // reflect.Type of an object → bool: see trusts
	outlines sync.Map // reflect.Type of an object → *outline: see outlineOf
}

// buildModels takes about 30 ms and leaves several MB of garbage, the definitions of all types.
func buildModels(cfg Config, schemes []*runtime.Scheme) (*models, error) {
	namer := openapinamer.NewDefinitionNamer(schemes...)
	config := genericapiserver.DefaultOpenAPIV3Config(utilopenapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(cfg.Definitions), namer)
	m := &models{kinds: map[schema.GroupVersionKind]smdschema.TypeRef{}}
	var types []string
	for _, g := range cfg.Groups {
		for _, gv := range g.PrioritizedVersions {
			for resource, storage := range g.VersionedResourcesStorageMap[gv.Version] {
				kind, err := genericapi.GetResourceKind(gv, storage, g.Scheme)
				if err != nil {
					return nil, fmt.Errorf("kind of %s in %s: %w", resource, gv, err)
				}
				if _, known := m.kinds[kind]; known {
					continue
				}
				sample, err := g.Scheme.New(kind)
				if err != nil {
					return nil, fmt.Errorf("type of %s: %w", kind, err)
				}
				name := openapiutil.GetCanonicalTypeName(sample)
				defined, _ := config.GetDefinitionName(name)
				m.kinds[kind] = smdschema.TypeRef{NamedType: &defined}
				types = append(types, name)
			}
		}
	}
	definitions, err := builder3.BuildOpenAPIDefinitionsForResources(config, types...)
	if err != nil {
		return nil, fmt.Errorf("collect definitions: %w", err)
	}
	if m.schema, err = schemaconv.ToSchemaFromOpenAPI(definitions, false); err != nil {
		return nil, fmt.Errorf("convert definitions: %w", err)
	}
	return m, nil
}

// trusts tells whether every object of a Go type is valid under the model, apart from duplicates in lists, so that
// checking one tells nothing.
func (m *models) trusts(t reflect.Type, model smdschema.TypeRef) bool {
	if known, ok := m.trusted.Load(t); ok {
		return known.(bool)
	}
	c := conformance{schema: m.schema, seen: map[visit]bool{}}
	ok := c.conforms(t, model)
	m.trusted.Store(t, ok)
	return ok
}
