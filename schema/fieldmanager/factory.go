// Package fieldmanager makes the field managers of the built-in kinds: what keeps metadata.managedFields and merges
// server-side apply.
//
// The managers are upstream's. Ours is what they work on: typed models that are built on the first write and shared by
// all kinds, and a type converter (see converter) that leaves out work whose outcome is known. What a manager answers
// is what upstream's answers with its own converter; tests hold it to that.
package fieldmanager

import (
	"fmt"
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
}

// Factory makes field managers. All methods may be called at the same time.
type Factory struct {
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
	f := &Factory{unknown: unknown}
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

// For returns the field manager of a kind, or of a subresource of it that is written as kind. hub is the version that
// objects have in memory, resetFields the fields that the storage resets by version; nil for none. It is cheap.
func (f *Factory) For(kind schema.GroupVersionKind, hub schema.GroupVersion, subresource string,
	resetFields map[fieldpath.APIVersion]fieldpath.Filter,
) (*managedfields.FieldManager, error) {
	i := slices.IndexFunc(f.schemes, func(s *runtime.Scheme) bool { return s.Recognizes(kind) })
	if i < 0 {
		return nil, fmt.Errorf("field manager of %s: no scheme knows the kind", kind)
	}
	scheme := f.schemes[i]
	converter := &converter{models: f.models, kind: kind.GroupKind(), unknown: f.unknown}
	m, err := managedfields.NewDefaultFieldManager(converter, runtime.UnsafeObjectConvertor(scheme), scheme, scheme,
		kind, hub, subresource, resetFields)
	if err != nil {
		return nil, fmt.Errorf("field manager of %s: %w", kind, err)
	}
	return m, nil
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
