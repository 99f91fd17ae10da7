package openapi

import (
	"runtime"

	genericapiserver "k8s.io/apiserver/pkg/server"
	baseversion "k8s.io/component-base/version"
	"k8s.io/kube-openapi/pkg/spec3"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
)

// Served is the source of a group that comes and goes and is served here, described as if a server behind the aggregator had it: by its
// versions alone. Of who says the same of other servers' groups it has the rank.
func Served(g *genericapiserver.APIGroupInfo) Source {
	b := &builtins{cfg: Config{
		Groups: []*genericapiserver.APIGroupInfo{g}, Definitions: generatedopenapi.GetOpenAPIDefinitions, Version: baseversion.DefaultKubeBinaryVersion,
	}}
	source := Source{Rank: 1, V2: b.v2, V3: map[string]Document{}}
	for _, gv := range g.PrioritizedVersions {
		svc := versionService(g, gv)
		b.services = append(b.services, svc)
		source.V3[svc.root] = Document{Build: func() (*spec3.OpenAPI, error) {
			cfg := b.sharedV3Config()
			defer runtime.KeepAlive(cfg)
			data, err := renderService(svc, cfg)
			if err != nil {
				return nil, err
			}
			doc := &spec3.OpenAPI{}
			return doc, doc.UnmarshalJSON(data)
		}}
	}
	return source
}
