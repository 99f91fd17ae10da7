package custom

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"reflect"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kjson "k8s.io/apimachinery/pkg/util/json"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// state is a CustomResourceDefinition at one revision.
type state struct {
	revision storage.Revision
	entry    *cache.Entry
	// crd has everything but the schemas of its versions, which are nearly all of it and seldom needed.
	crd  *apiextensions.CustomResourceDefinition
	spec [sha256.Size]byte // of the whole spec as it is stored
}

// outline is a definition without its schemas. The members mirror those of CustomResourceDefinitionSpec.
type outline struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              json.RawMessage                              `json:"spec"`
	Status            apiextensions.CustomResourceDefinitionStatus `json:"status"`
}

type outlineSpec struct {
	Group                 string                                      `json:"group"`
	Names                 apiextensions.CustomResourceDefinitionNames `json:"names"`
	Scope                 apiextensions.ResourceScope                 `json:"scope"`
	Versions              []outlineVersion                            `json:"versions"`
	Conversion            *apiextensions.CustomResourceConversion     `json:"conversion"`
	PreserveUnknownFields bool                                        `json:"preserveUnknownFields"`
}

type outlineVersion struct {
	Name                     string                                         `json:"name"`
	Served                   bool                                           `json:"served"`
	Storage                  bool                                           `json:"storage"`
	Deprecated               bool                                           `json:"deprecated"`
	DeprecationWarning       *string                                        `json:"deprecationWarning"`
	Subresources             *apiextensions.CustomResourceSubresources      `json:"subresources"`
	AdditionalPrinterColumns []apiextensions.CustomResourceColumnDefinition `json:"additionalPrinterColumns"`
	SelectableFields         []apiextensions.SelectableField                `json:"selectableFields"`
}

func (h *Handler) readState(e *cache.Entry) (*state, error) {
	data, err := h.cfg.Definitions.View(e).Plain()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", e.Key, err)
	}
	var o outline
	if err := json.Unmarshal(data, &o); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.Key, err)
	}
	var spec outlineSpec
	if err := json.Unmarshal(o.Spec, &spec); err != nil {
		return nil, fmt.Errorf("decode spec of %s: %w", e.Key, err)
	}
	crd := &apiextensions.CustomResourceDefinition{TypeMeta: o.TypeMeta, ObjectMeta: o.ObjectMeta, Status: o.Status}
	crd.ResourceVersion = fmt.Sprint(uint64(e.Revision))
	crd.Spec = apiextensions.CustomResourceDefinitionSpec{
		Group: spec.Group, Names: spec.Names, Scope: spec.Scope, Conversion: spec.Conversion, PreserveUnknownFields: spec.PreserveUnknownFields,
	}
	for _, v := range spec.Versions {
		crd.Spec.Versions = append(crd.Spec.Versions, apiextensions.CustomResourceDefinitionVersion{
			Name: v.Name, Served: v.Served, Storage: v.Storage, Deprecated: v.Deprecated, DeprecationWarning: v.DeprecationWarning,
			Subresources: v.Subresources, AdditionalPrinterColumns: v.AdditionalPrinterColumns, SelectableFields: v.SelectableFields,
		})
	}
	return &state{revision: e.Revision, entry: e, crd: crd, spec: sha256.Sum256(o.Spec)}, nil
}

// full decodes the definition with its schemas.
func (h *Handler) full(s *state) (*apiextensions.CustomResourceDefinition, error) {
	data, err := h.cfg.Definitions.View(s.entry).Plain()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", s.entry.Key, err)
	}
	crd := &apiextensions.CustomResourceDefinition{}
	if err := kjson.Unmarshal(data, crd); err != nil {
		return nil, fmt.Errorf("decode %s: %w", s.entry.Key, err)
	}
	crd.ResourceVersion = s.crd.ResourceVersion
	return crd, nil
}

// sameAs tells whether two states are served alike: only conditions and other metadata may differ.
func (d *definition) sameAs(s *state) bool {
	have := d.state.Load()
	return have.crd.UID == s.crd.UID && have.spec == s.spec && reflect.DeepEqual(have.crd.Status.AcceptedNames, s.crd.Status.AcceptedNames)
}
