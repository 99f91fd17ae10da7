package fieldmanager

import (
	"log/slog"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apiserver/pkg/admission"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// Customs makes field managers of custom resources. All methods may be called at the same time.
type Customs struct{ common }

// NewCustoms returns a maker of field managers. Log is told when managedFields are dropped; nil: nobody is.
func NewCustoms(log *slog.Logger) (*Customs, error) {
	unknown, err := managedfields.NewTypeConverter(nil, false)
	if err != nil {
		return nil, says("make empty type converter: %v", err)
	}
	return &Customs{newCommon(unknown, log)}, nil
}

// CustomConfig describes one version of a custom resource, or a subresource of it.
type CustomConfig struct {
	Kind        schema.GroupVersionKind
	Subresource string
	Types       managedfields.TypeConverter
	// Objects converts between versions without changing what it is given.
	Objects   runtime.ObjectConvertor
	Defaulter runtime.ObjectDefaulter
	Creater   runtime.ObjectCreater
	Reset     map[fieldpath.APIVersion]fieldpath.Filter
}

// Manager returns the field manager of objects that are maps, in memory in the version that they are written in.
func (c *Customs) Manager(cfg CustomConfig) *Manager {
	m := c.common.manager(cfg.Kind, cfg.Subresource)
	m.hub, m.reset, m.types = cfg.Kind.GroupVersion(), cfg.Reset, cfg.Types
	m.hubOf = func(schema.GroupVersion) schema.GroupVersion { return m.hub }
	m.objects, m.defaulter, m.creater = uncopied{cfg.Objects, m.hub}, cfg.Defaulter, cfg.Creater
	m.shares = true
	return m
}

// Admission is Factory.Admission.
func (c *Customs) Admission(wrap admission.Interface) admission.Interface {
	if wrap == nil {
		return nil
	}
	return &validating{wrap, c.sets}
}

// Cool lets go of what is kept for speed alone.
func (c *Customs) Cool() { c.sets.cool() }

// uncopied leaves objects alone that have the version they are converted to. What it converts from would have to copy them.
type uncopied struct {
	runtime.ObjectConvertor
	version schema.GroupVersion // that is known
}

// ConvertToVersion implements runtime.ObjectConvertor.
func (u uncopied) ConvertToVersion(in runtime.Object, to runtime.GroupVersioner) (runtime.Object, error) {
	if _, ok := in.(*unstructured.Unstructured); ok && to == runtime.GroupVersioner(u.version) && in.GetObjectKind().GroupVersionKind().GroupVersion() == u.version {
		return in, nil
	}
	return u.ObjectConvertor.ConvertToVersion(in, to)
}
