// Package fieldmanager makes the field managers of the built-in kinds: what keeps metadata.managedFields and merges
// server-side apply.
//
// The rules are upstream's, and so is the merging (structured-merge-diff). Ours are the managers that apply them, which
// decode, compare and encode only what they have not seen before; the typed models, which are built on the first write and
// shared by all kinds; and a type converter (see converter) that leaves out work whose outcome is known. What a manager
// answers is what upstream's answers with its own converter; tests hold it to that.
package fieldmanager

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/registry/rest"
	genericapiserver "k8s.io/apiserver/pkg/server"
	openapicommon "k8s.io/kube-openapi/pkg/common"
	generatedopenapi "k8s.io/kubernetes/pkg/generated/openapi"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Config says which kinds there are.
type Config struct {
	// Groups are the built-in groups, core included.
	Groups []*genericapiserver.APIGroupInfo
	// Definitions answers the schemas of all types that Groups speak. Nil means kube-apiserver's.
	Definitions openapicommon.GetOpenAPIDefinitions
	// Log is told when managedFields are dropped, at most once a second for each kind. Nil means that nobody is.
	Log *slog.Logger
}

// Factory makes field managers. All methods may be called at the same time.
type Factory struct {
	common
	schemes []*runtime.Scheme
	models  func() (*models, error) // builds them once
	unknown managedfields.TypeConverter
}

// New returns a factory. It builds no models.
func New(cfg Config) (*Factory, error) {
	if cfg.Definitions == nil {
		cfg.Definitions = generatedopenapi.GetOpenAPIDefinitions
	}
	// A converter without any model answers every kind with upstream's own error, which its managers recognise.
	unknown, err := managedfields.NewTypeConverter(nil, false)
	if err != nil {
		return nil, fmt.Errorf("make empty type converter: %w", err)
	}
	f := &Factory{unknown: unknown, common: newCommon(unknown, cfg.Log)}
	for _, g := range cfg.Groups {
		if !slices.Contains(f.schemes, g.Scheme) {
			f.schemes = append(f.schemes, g.Scheme)
		}
	}
	f.models = sync.OnceValues(func() (*models, error) { return buildModels(cfg, f.schemes) })
	return f, nil
}

// Build builds the models now, so that the first write need not. Writes of any kind fail with the same error if they
// cannot be built.
func (f *Factory) Build() error {
	_, err := f.models()
	return err
}

// Cool lets go of what is kept for speed alone.
func (f *Factory) Cool() { f.sets.cool() }

// Manager returns the field manager of a kind, or of a subresource of it that is written as kind. hub is the version that
// objects have in memory, resetFields the fields that the storage resets by version; nil for none. It is cheap.
func (f *Factory) Manager(kind schema.GroupVersionKind, hub schema.GroupVersion, subresource string,
	resetFields map[fieldpath.APIVersion]fieldpath.Filter,
) (*Manager, error) {
	scheme, converter, err := f.converter(kind)
	if err != nil {
		return nil, err
	}
	m := f.common.manager(kind, subresource)
	m.hub, m.reset, m.types = hub, resetFields, converter
	m.hubOf = func(from schema.GroupVersion) schema.GroupVersion {
		return schema.GroupVersion{Group: from.Group, Version: hub.Version}
	}
	m.objects, m.defaulter, m.creater = runtime.UnsafeObjectConvertor(scheme), scheme, scheme
	return m, nil
}

// For is Manager, but of upstream's type, which is slower: its handlers take no other.
func (f *Factory) For(kind schema.GroupVersionKind, hub schema.GroupVersion, subresource string,
	resetFields map[fieldpath.APIVersion]fieldpath.Filter,
) (*managedfields.FieldManager, error) {
	scheme, converter, err := f.converter(kind)
	if err != nil {
		return nil, err
	}
	m, err := managedfields.NewDefaultFieldManager(converter, runtime.UnsafeObjectConvertor(scheme), scheme, scheme,
		kind, hub, subresource, resetFields)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", kind, err)
	}
	return m, nil
}

func (f *Factory) converter(kind schema.GroupVersionKind) (*runtime.Scheme, *converter, error) {
	i := slices.IndexFunc(f.schemes, func(s *runtime.Scheme) bool { return s.Recognizes(kind) })
	if i < 0 {
		return nil, nil, fmt.Errorf("field manager of %s: no scheme knows the kind", kind)
	}
	return f.schemes[i], &converter{models: f.models, kind: kind.GroupKind(), unknown: f.unknown}, nil
}

// common is what all managers of a cluster use.
type common struct {
	sets       *sets
	missing    func(error) bool
	unchanging *fieldpath.Set
	log        *slog.Logger
}

func newCommon(unknown managedfields.TypeConverter, log *slog.Logger) common {
	unchanging := fieldpath.NewSet(fieldpath.MakePathOrDie("apiVersion"), fieldpath.MakePathOrDie("kind"), fieldpath.MakePathOrDie("metadata"))
	for _, name := range []string{
		"name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion",
	} {
		unchanging.Insert(fieldpath.MakePathOrDie("metadata", name))
	}
	return common{sets: &sets{}, missing: isMissing(unknown), unchanging: unchanging, log: log}
}

func (s common) manager(kind schema.GroupVersionKind, subresource string) *Manager {
	return &Manager{
		kind: kind, version: fieldpath.APIVersion(kind.GroupVersion().String()), subresource: subresource,
		sets: s.sets, missing: s.missing, unchanging: s.unchanging, log: s.log,
	}
}

// ResetFields reads from a storage the fields it resets, for For.
func ResetFields(storage rest.Storage) (map[fieldpath.APIVersion]fieldpath.Filter, error) {
	byFields, hasFields := storage.(rest.ResetFieldsStrategy)
	byFilter, hasFilter := storage.(rest.ResetFieldsFilterStrategy)
	switch {
	case hasFields && hasFilter:
		return nil, fmt.Errorf("storage %T tells the fields it resets in two ways", storage)
	case hasFields:
		return fieldpath.NewExcludeFilterSetMap(byFields.GetResetFields()), nil
	case hasFilter:
		return byFilter.GetResetFieldsFilter(), nil
	}
	return nil, nil
}
