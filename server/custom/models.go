package custom

import (
	"sync"

	upstream "k8s.io/apiextensions-apiserver/pkg/apiserver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/kube-openapi/pkg/builder3"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	"k8s.io/kube-openapi/pkg/validation/spec"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// staticModels describe the metadata of custom resources, for server-side apply.
type staticModels struct {
	once   sync.Once
	models map[string]*spec.Schema
	err    error
}

func (m *staticModels) get() (map[string]*spec.Schema, error) {
	m.once.Do(func() {
		config := genericapiserver.DefaultOpenAPIV3Config(generatedopenapi.GetOpenAPIDefinitions, openapinamer.NewDefinitionNamer(upstream.Scheme))
		m.models, m.err = builder3.BuildOpenAPIDefinitionsForResources(config, openapiutil.GetCanonicalTypeName(&metav1.ObjectMeta{}))
	})
	return m.models, m.err
}
