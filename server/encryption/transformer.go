package encryption

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/storage/value"
	"k8s.io/apiserver/pkg/storage/value/encrypt/identity"
)

// prefix stands in front of what a generated key encrypted, in the manner of upstream's providers.
var prefix = []byte("k8s:enc:rowlock:v1:")

// encrypted stands in front of whatever any provider encrypted.
var encrypted = []byte("k8s:enc:")

// secret tells which resources are encrypted where no configuration says so.
func secret(gr schema.GroupResource) bool { return gr == schema.GroupResource{Resource: "secrets"} }

// Transformer encrypts one resource: with what the providers say, where they speak of it, else with the generated keys. It
// decrypts whatever either ever wrote, so that configurations come and go. nil means that nothing is encrypted.
func (k *Keys) Transformer(gr schema.GroupResource, providers *Providers) value.Transformer {
	if !secret(gr) && !providers.mayCover(gr) {
		return nil
	}
	return k.always(gr, providers)
}

// always is Transformer also for what is not to be encrypted: it reads what once was, and writes it plain.
func (k *Keys) always(gr schema.GroupResource, providers *Providers) value.Transformer {
	t := &transformer{
		keys: k, resource: gr, providers: providers,
		info: &request.RequestInfo{IsResourceRequest: true, APIGroup: gr.Group, Resource: gr.Resource},
	}
	sealing := value.PrefixTransformer{Prefix: prefix, Transformer: generated{k}}
	plain := value.PrefixTransformer{Transformer: identity.NewEncryptCheckTransformer()}
	t.generated = value.NewPrefixTransformers(errNoPrefix, sealing, plain)
	t.plain = value.NewPrefixTransformers(errNoPrefix, plain, sealing)
	return t
}

var errNoPrefix = errors.New("no matching prefix found")

// transformer implements value.Transformer for one resource of one cluster.
type transformer struct {
	keys      *Keys
	resource  schema.GroupResource
	info      *request.RequestInfo // names the resource to upstream's metrics
	generated value.Transformer    // writes with generated keys
	plain     value.Transformer    // writes plain, still reads what generated keys wrote
	providers *Providers
}

// own is what writes where no provider is configured.
func (t *transformer) own() value.Transformer {
	if secret(t.resource) {
		return t.generated
	}
	return t.plain
}

func (t *transformer) TransformToStorage(ctx context.Context, plain []byte, row value.Context) ([]byte, error) {
	ctx, at := t.named(ctx), value.DefaultContext(t.keys.place(row.AuthenticatedData()))
	if p := t.providers.transformer(t.resource); p != nil {
		return p.TransformToStorage(ctx, plain, at)
	}
	return t.own().TransformToStorage(ctx, plain, at)
}

func (t *transformer) TransformFromStorage(ctx context.Context, data []byte, row value.Context) (plain []byte, stale bool, err error) {
	ctx, at := t.named(ctx), value.DefaultContext(t.keys.place(row.AuthenticatedData()))
	p := t.providers.transformer(t.resource)
	switch {
	case p == nil:
		plain, stale, err = t.own().TransformFromStorage(ctx, data, at)
	case bytes.HasPrefix(data, prefix):
		plain, _, err = t.generated.TransformFromStorage(ctx, data, at)
		stale = true
	default:
		if plain, stale, err = p.TransformFromStorage(ctx, data, at); err == nil {
			err = sameName(data, plain, row)
		}
	}
	if err != nil {
		return nil, false, err
	}
	return plain, stale, nil
}

// named makes sure that the context tells upstream's metrics which resource is meant.
func (t *transformer) named(ctx context.Context) context.Context {
	if _, ok := request.RequestInfoFrom(ctx); ok {
		return ctx
	}
	return request.WithRequestInfo(ctx, t.info)
}

// generated encrypts with a cluster's own keys.
type generated struct{ keys *Keys }

func (g generated) TransformToStorage(_ context.Context, plain []byte, at value.Context) ([]byte, error) {
	return g.keys.seal(plain, string(at.AuthenticatedData())), nil
}

func (g generated) TransformFromStorage(_ context.Context, data []byte, at value.Context) ([]byte, bool, error) {
	return g.keys.open(data, string(at.AuthenticatedData()))
}

// unbound are providers that cannot authenticate the row that their bytes belong to.
var unbound = [][]byte{[]byte("k8s:enc:secretbox:"), []byte("k8s:enc:aescbc:")}

// sameName refuses an object that was moved from another row, where the provider could not notice.
func sameName(data, plain []byte, row value.Context) error {
	if !bytes.HasPrefix(data, unbound[0]) && !bytes.HasPrefix(data, unbound[1]) {
		return nil
	}
	var obj struct {
		Metadata struct{ Namespace, Name string }
	}
	if err := json.Unmarshal(plain, &obj); err != nil {
		return fmt.Errorf("decrypted bytes are no object: %w", err)
	}
	path := obj.Metadata.Name
	if obj.Metadata.Namespace != "" {
		path = obj.Metadata.Namespace + "/" + path
	}
	if _, at, ok := strings.Cut(string(row.AuthenticatedData()), "/"); !ok || at != path {
		return fmt.Errorf("bytes of another object: they are those of %s", path)
	}
	return nil
}
