package write

import (
	"net/http"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/handlers"
	"k8s.io/apiserver/pkg/endpoints/handlers/negotiation"
)

// codecs are the ways in and out of one kind. They have no state, so that one of each serves all requests.
type codecs struct {
	serializer runtime.NegotiatedSerializer
	in         []decoders
	encoder    runtime.Encoder        // JSON in the version of the kind
	json       runtime.SerializerInfo // JSON of objects in whatever version they have
	jsonFirst  bool                   // who does not say what it takes gets JSON
}

// decoders decode one media type to the version that registries take.
type decoders struct {
	media       string
	lax, strict runtime.Decoder
}

func (c *codecs) init(scope *handlers.RequestScope) {
	c.serializer = scope.Serializer
	infos := scope.Serializer.SupportedMediaTypes()
	for i, info := range infos {
		c.in = append(c.in, decoders{
			media:  info.MediaType,
			lax:    scope.Serializer.DecoderToVersion(info.Serializer, scope.HubGroupVersion),
			strict: scope.Serializer.DecoderToVersion(info.StrictSerializer, scope.HubGroupVersion),
		})
		if info.MediaType == runtime.ContentTypeJSON {
			c.json = info
			c.encoder = scope.Serializer.EncoderForVersion(info.Serializer, scope.Kind.GroupVersion())
			c.jsonFirst = i == 0
		}
	}
}

func (d *decoders) decoder(strict bool) runtime.Decoder {
	if strict {
		return d.strict
	}
	return d.lax
}

// of returns the decoders of a media type; nil: it is not supported.
func (c *codecs) of(media string) *decoders {
	for i := range c.in {
		if c.in[i].media == media {
			return &c.in[i]
		}
	}
	return nil
}

// input returns the decoders for a request's body.
func (c *codecs) input(req *http.Request) (*decoders, error) {
	if found := c.of(req.Header.Get("Content-Type")); found != nil {
		return found, nil
	}
	info, err := negotiation.NegotiateInputSerializer(req, false, c.serializer)
	if err != nil {
		return nil, err
	}
	return c.of(info.MediaType), nil
}

// decode decodes a body whose objects are of a kind if they do not say another.
func (d *decoders) decode(data []byte, kind schema.GroupVersionKind, into runtime.Object, strict bool) (runtime.Object, *schema.GroupVersionKind, error) {
	return d.decoder(strict).Decode(data, &kind, into)
}

// encodeVersioned encodes an object that has its kind.
func (c *codecs) encodeVersioned(obj runtime.Object) ([]byte, error) {
	return runtime.Encode(c.json.Serializer, obj)
}

// decodeVersioned sets an object to what JSON in its version says. With strict errors it is set as well.
func (c *codecs) decodeVersioned(data []byte, obj runtime.Object, strict bool) error {
	if strict {
		return runtime.DecodeInto(c.json.StrictSerializer, data, obj)
	}
	return runtime.DecodeInto(c.json.Serializer, data, obj)
}
