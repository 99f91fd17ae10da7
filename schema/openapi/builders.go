package openapi

import (
	"net/http"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilopenapi "k8s.io/apiserver/pkg/util/openapi"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

const (
	title        = "Kubernetes"
	bearerToken  = "BearerToken"
	unauthorized = "Unauthorized"
)

// namer gives types the names they have in documents. It reads every kind of every scheme, so it is made when needed.
func (b *builtins) namer() *openapinamer.DefinitionNamer {
	var schemes []*runtime.Scheme
	for _, g := range b.cfg.Groups {
		if !slices.Contains(schemes, g.Scheme) {
			schemes = append(schemes, g.Scheme)
		}
	}
	return openapinamer.NewDefinitionNamer(schemes...)
}

func (b *builtins) newV2Config() *openapicommon.Config {
	cfg := genericapiserver.DefaultOpenAPIConfig(utilopenapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(b.cfg.Definitions), b.namer())
	cfg.Info.Title, cfg.Info.Version = title, b.cfg.Version
	cfg.SecurityDefinitions = &spec.SecurityDefinitions{bearerToken: {SecuritySchemeProps: spec.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}}
	cfg.DefaultSecurity = []map[string][]string{{bearerToken: {}}}
	cfg.CommonResponses = map[int]spec.Response{
		http.StatusUnauthorized: {ResponseProps: spec.ResponseProps{Description: unauthorized}},
	}
	return cfg
}

func (b *builtins) newV3Config() *openapicommon.OpenAPIV3Config {
	cfg := genericapiserver.DefaultOpenAPIV3Config(utilopenapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(b.cfg.Definitions), b.namer())
	cfg.Info.Title, cfg.Info.Version = title, b.cfg.Version
	cfg.SecuritySchemes = spec3.SecuritySchemes{bearerToken: {SecuritySchemeProps: spec3.SecuritySchemeProps{
		Type: "apiKey", Name: "authorization", In: "header", Description: "Bearer Token authentication",
	}}}
	cfg.DefaultSecurity = []map[string][]string{{bearerToken: {}}}
	cfg.CommonResponses = map[int]*spec3.Response{
		http.StatusUnauthorized: {ResponseProps: spec3.ResponseProps{Description: unauthorized}},
	}
	return cfg
}
