package openapi

import (
	"bytes"
	"fmt"
	"net/http"

	restful "github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/version"
	genericapi "k8s.io/apiserver/pkg/endpoints"
	"k8s.io/apiserver/pkg/endpoints/discovery"
	"k8s.io/apiserver/pkg/endpoints/discovery/aggregated"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/mux"
	"k8s.io/apiserver/pkg/server/routes"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	kuberoutes "k8s.io/kubernetes/pkg/routes"
)

// The handlers of the routes made here are never called: the routes exist to be described.

// apiGroupVersion is what upstream's installer needs to make the routes of one version.
func apiGroupVersion(g *genericapiserver.APIGroupInfo, gv schema.GroupVersion) *genericapi.APIGroupVersion {
	return &genericapi.APIGroupVersion{
		Root:                       prefix(gv.Group),
		GroupVersion:               gv,
		Storage:                    g.VersionedResourcesStorageMap[gv.Version],
		OptionsExternalVersion:     g.OptionsExternalVersion,
		MetaGroupVersion:           g.MetaGroupVersion,
		Serializer:                 g.NegotiatedSerializer,
		ParameterCodec:             g.ParameterCodec,
		Typer:                      g.Scheme,
		Creater:                    g.Scheme,
		Convertor:                  g.Scheme,
		ConvertabilityChecker:      g.Scheme,
		Defaulter:                  g.Scheme,
		UnsafeConvertor:            runtime.UnsafeObjectConvertor(g.Scheme),
		Namer:                      runtime.Namer(meta.NewAccessor()),
		TypeConverter:              managedfields.NewDeducedTypeConverter(),
		EquivalentResourceRegistry: runtime.NewEquivalentResourceRegistry(),
	}
}

// groupService is /apis/<group>.
func groupService(g *genericapiserver.APIGroupInfo) service {
	name := g.PrioritizedVersions[0].Group
	return service{root: "apis/" + name, install: func(c *restful.Container) error {
		c.Add(discovery.NewAPIGroupHandler(g.NegotiatedSerializer, metav1.APIGroup{Name: name}).WebService())
		return nil
	}}
}

// rootServices are the paths that belong to no group.
func rootServices() []service {
	unused := http.NotFoundHandler()
	root := func(path string, list any) func(*restful.Container) error {
		return func(c *restful.Container) error {
			c.Add(aggregated.WrapAggregatedDiscoveryToHandler(unused, unused, unused).GenerateWebService(path, list))
			return nil
		}
	}
	openID := func(keep int) func(*restful.Container) error {
		return func(c *restful.Container) error {
			both := restful.NewContainer()
			kuberoutes.NewOpenIDMetadataServer(nil).Install(both)
			all := both.RegisteredWebServices()
			if len(all) != 2 {
				return fmt.Errorf("openid routes: %d web services instead of 2", len(all))
			}
			c.Add(all[keep])
			return nil
		}
	}
	return []service{
		{"api", root("/api", metav1.APIVersions{})},
		{"apis", root("/apis", metav1.APIGroupList{})},
		{".well-known/openid-configuration", openID(0)},
		{"openid/v1/jwks", openID(1)},
		{"version", func(c *restful.Container) error {
			routes.Version{Version: &version.Info{}}.Install(c)
			return nil
		}},
	}
}

// renderService builds the v3 document of one service with upstream's installer, which narrows the kinds that every
// group registers before it encodes, and answers the JSON that upstream serves.
func renderService(svc service, cfg *openapicommon.OpenAPIV3Config) ([]byte, error) {
	c := restful.NewContainer()
	if err := svc.install(c); err != nil {
		return nil, fmt.Errorf("install %s: %w", svc.root, err)
	}
	m := mux.NewPathRecorderMux("openapi")
	routes.OpenAPI{V3Config: cfg}.InstallV3(c, m)
	req, err := http.NewRequest(http.MethodGet, "/openapi/v3/"+svc.root, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	w := &recorder{header: http.Header{}}
	m.ServeHTTP(w, req)
	if w.header.Get("Etag") == "" || w.body.Len() == 0 {
		return nil, fmt.Errorf("build %s: upstream's builder made no document", svc.root)
	}
	return w.body.Bytes(), nil
}

// recorder keeps what a handler answers.
type recorder struct {
	header http.Header
	body   bytes.Buffer
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) Write(p []byte) (int, error) { return r.body.Write(p) }
func (r *recorder) WriteHeader(int)             {}
