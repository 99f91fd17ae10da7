package openapi

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"sync"
	"weak"

	restful "github.com/emicklei/go-restful/v3"
	"k8s.io/apimachinery/pkg/runtime/schema"
	genericapiserver "k8s.io/apiserver/pkg/server"
	openapibuilder "k8s.io/kube-openapi/pkg/builder"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/common/restfuladapter"
	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

// builtins derives documents from the built-in groups.
type builtins struct {
	cfg      Config
	services []service

	// v3Config is what all v3 documents are built from, the definitions of all types above all: large, so it lives only
	// as long as somebody builds.
	mu       sync.Mutex
	v3Config weak.Pointer[openapicommon.OpenAPIV3Config]
}

// service is one web service: the paths below one root, which is also the name of its v3 document.
type service struct {
	root    string // without leading slash
	install func(*restful.Container) error
}

func newBuiltins(cfg Config) (*builtins, error) {
	b := &builtins{cfg: cfg, services: rootServices()}
	seen := map[string]bool{}
	for _, g := range cfg.Groups {
		if len(g.PrioritizedVersions) == 0 {
			return nil, fmt.Errorf("a group has no versions")
		}
		group := g.PrioritizedVersions[0].Group
		if group != "" {
			b.services = append(b.services, groupService(g))
		}
		for _, gv := range g.PrioritizedVersions {
			if len(g.VersionedResourcesStorageMap[gv.Version]) > 0 {
				b.services = append(b.services, versionService(g, gv))
			}
		}
		// go-restful ends the process on a root that exists twice.
		if seen[group] {
			return nil, fmt.Errorf("group %q comes twice", group)
		}
		seen[group] = true
	}
	return b, nil
}

// prefix is the path a group's versions are served under.
func prefix(group string) string {
	if group == "" {
		return genericapiserver.DefaultLegacyAPIPrefix
	}
	return genericapiserver.APIGroupPrefix
}

func versionService(g *genericapiserver.APIGroupInfo, gv schema.GroupVersion) service {
	return service{
		root: path.Join(prefix(gv.Group), gv.Group, gv.Version)[1:],
		install: func(c *restful.Container) error {
			_, _, err := apiGroupVersion(g, gv).InstallREST(c)
			return err
		},
	}
}

// documents lists the v3 documents of all services, none of them built.
func (b *builtins) documents() map[string]*document {
	docs := make(map[string]*document, len(b.services))
	for _, svc := range b.services {
		docs[svc.root] = &document{proto: protoV3, render: func() ([]byte, error) {
			cfg := b.sharedV3Config()
			defer runtime.KeepAlive(cfg)
			return renderService(svc, cfg)
		}}
	}
	return docs
}

// sharedV3Config answers the configuration that is in use, or a new one.
func (b *builtins) sharedV3Config() *openapicommon.OpenAPIV3Config {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cfg := b.v3Config.Value(); cfg != nil {
		return cfg
	}
	cfg := b.newV3Config()
	b.v3Config = weak.Make(cfg)
	return cfg
}

// keep lets all documents that are built before release share one configuration.
func (b *builtins) keep() (release func()) {
	cfg := b.sharedV3Config()
	return func() { runtime.KeepAlive(cfg) }
}

// v2 builds the v2 document of all services.
func (b *builtins) v2() (*spec.Swagger, error) {
	var all []*restful.WebService
	for _, svc := range b.services {
		c := restful.NewContainer()
		if err := svc.install(c); err != nil {
			return nil, fmt.Errorf("install %s: %w", svc.root, err)
		}
		all = append(all, c.RegisteredWebServices()...)
	}
	doc, err := openapibuilder.BuildOpenAPISpecFromRoutes(restfuladapter.AdaptWebServices(slices.Clip(all)), b.newV2Config())
	if err != nil {
		return nil, err
	}
	doc.Definitions = handler.PruneDefaults(doc.Definitions)
	return doc, nil
}
