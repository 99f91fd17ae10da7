package fieldmanager

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	genericapi "k8s.io/apiserver/pkg/endpoints"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	utilopenapi "k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/kube-openapi/pkg/builder3"
	openapiutil "k8s.io/kube-openapi/pkg/util"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"

	"github.com/rowlock-io/rowlock/schema/internal/upstream"
)

// endpoint is what writes go to: a resource or subresource and its field managers, ours and upstream's.
type endpoint struct {
	resource    string // "apps/v1 deployments/status"
	subresource string
	kind        schema.GroupVersionKind
	hub         schema.GroupVersion
	scheme      *runtime.Scheme
	storage     rest.Storage
	ours, stock manager
}

// manager is what ours and upstream's have in common.
type manager interface {
	Update(live, obj runtime.Object, manager string) (runtime.Object, error)
	UpdateNoErrors(live, obj runtime.Object, manager string) runtime.Object
	Apply(live, config runtime.Object, manager string, force bool) (runtime.Object, error)
}

// fixture is built once: tests do not change it.
type fixture struct {
	factory   *Factory
	endpoints []endpoint
}

func newFixture() (*fixture, error) {
	groups, err := upstream.Groups()
	if err != nil {
		return nil, err
	}
	f := &fixture{}
	if f.factory, err = New(Config{Groups: groups}); err != nil {
		return nil, err
	}
	// kube-apiserver has one converter for /api and one for each of its three servers under /apis.
	servers := map[string][]*genericapiserver.APIGroupInfo{}
	for _, g := range groups {
		switch name := g.PrioritizedVersions[0].Group; name {
		case "", "apiextensions.k8s.io", "apiregistration.k8s.io":
			servers[name] = append(servers[name], g)
		default:
			servers["others"] = append(servers["others"], g)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(servers)) {
		if err := f.add(servers[name]); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// add builds the converter that upstream builds for groups, and the field managers as upstream's installer does.
func (f *fixture) add(groups []*genericapiserver.APIGroupInfo) error {
	namer := openapinamer.NewDefinitionNamer(f.factory.schemes...)
	config := genericapiserver.DefaultOpenAPIV3Config(
		utilopenapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions), namer)
	var types []string
	var added []endpoint
	for _, g := range groups {
		for _, gv := range g.PrioritizedVersions {
			resources := g.VersionedResourcesStorageMap[gv.Version]
			for _, name := range slices.Sorted(maps.Keys(resources)) {
				kind, err := genericapi.GetResourceKind(gv, resources[name], g.Scheme)
				if err != nil {
					return err
				}
				sample, err := g.Scheme.New(kind)
				if err != nil {
					return err
				}
				types = append(types, openapiutil.GetCanonicalTypeName(sample))
				e := endpoint{
					resource: gv.String() + " " + name, kind: kind, scheme: g.Scheme, storage: resources[name],
					hub: schema.GroupVersion{Group: kind.Group, Version: runtime.APIVersionInternal},
				}
				if _, sub, ok := cut(name); ok {
					e.subresource = sub
				}
				added = append(added, e)
			}
		}
	}
	definitions, err := builder3.BuildOpenAPIDefinitionsForResources(config, types...)
	if err != nil {
		return err
	}
	converter, err := managedfields.NewTypeConverter(definitions, false)
	if err != nil {
		return err
	}
	for _, e := range added {
		reset, err := ResetFields(e.storage)
		if err != nil {
			return err
		}
		if e.ours, err = f.factory.Manager(e.kind, e.hub, e.subresource, reset); err != nil {
			return err
		}
		e.stock, err = managedfields.NewDefaultFieldManager(converter, runtime.UnsafeObjectConvertor(e.scheme), e.scheme, e.scheme,
			e.kind, e.hub, e.subresource, reset)
		if err != nil {
			return err
		}
		f.endpoints = append(f.endpoints, e)
	}
	return nil
}

func cut(name string) (resource, subresource string, ok bool) {
	for i := range name {
		if name[i] == '/' {
			return name[:i], name[i+1:], true
		}
	}
	return name, "", false
}

var shared = sync.OnceValues(newFixture)

func sharedFixture(t testing.TB) *fixture {
	t.Helper()
	f, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) endpoint(t testing.TB, resource string) endpoint {
	t.Helper()
	i := slices.IndexFunc(f.endpoints, func(e endpoint) bool { return e.resource == resource })
	if i < 0 {
		t.Fatalf("no endpoint %q", resource)
	}
	return f.endpoints[i]
}
