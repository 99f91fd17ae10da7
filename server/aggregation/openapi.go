package aggregation

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"k8s.io/kube-openapi/pkg/aggregator"
	"k8s.io/kube-openapi/pkg/handler3"
	"k8s.io/kube-openapi/pkg/openapiconv"
	"k8s.io/kube-openapi/pkg/spec3"
	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/rowlock-io/rowlock/schema/openapi"
)

const v3Prefix = "/openapi/v3/"

// openAPI is what is remembered of a server's own description.
type openAPI struct {
	etag string            // of its v2 document
	v2   []byte            // this version's part of it
	set  [sha256.Size]byte // of what was published
}

func (a *Aggregator) forget(b *backend) {
	a.cfg.OpenAPI.RemoveSource(b.openAPISource())
}

func (b *backend) openAPISource() string { return sourceName + "/" + b.name }

// documentPath is where the v3 document of the version is, below the index.
func (b *backend) documentPath() string { return "apis/" + b.groupVersion().String() }

// learnOpenAPI publishes the server's own description of its version; of another's it has no say. A server without v3
// documents has its v2 document translated.
func (b *backend) learnOpenAPI(ctx context.Context) error {
	if b.spec.Group == "" {
		return nil
	}
	location, err := b.v3Location(ctx)
	if err != nil {
		return err
	}
	if err := b.fetchV2(ctx); err != nil {
		return err
	}
	sum := sha256.Sum256(append([]byte(location+"\n"), b.openAPI.v2...))
	if sum == b.openAPI.set {
		return nil
	}
	b.openAPI.set = sum
	text := b.openAPI.v2
	src := openapi.Source{Rank: 1}
	if text != nil {
		src.V2 = func() (*spec.Swagger, error) { return decodeV2(text) }
	}
	switch {
	case location != "":
		src.V3 = map[string]openapi.Document{b.documentPath(): {Handler: b, URL: location}}
	case text != nil:
		src.V3 = map[string]openapi.Document{b.documentPath(): {Build: func() (*spec3.OpenAPI, error) {
			v2, err := decodeV2(text)
			if err != nil {
				return nil, err
			}
			return openapiconv.ConvertV2ToV3(v2), nil
		}}}
	}
	return b.a.cfg.OpenAPI.SetSource(b.openAPISource(), src)
}

func decodeV2(text []byte) (*spec.Swagger, error) {
	s := &spec.Swagger{}
	return s, s.UnmarshalJSON(text)
}

// v3Location is where the index of the server says the version's document is; empty when it has none.
func (b *backend) v3Location(ctx context.Context) (string, error) {
	resp, err := b.ask(ctx, "/openapi/v3", "application/json", "")
	if err != nil {
		return "", err
	}
	body, err := whole(resp)
	if err != nil {
		return "", err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		return "", nil
	default:
		return "", fmt.Errorf("v3 index: status %d", resp.StatusCode)
	}
	var index handler3.OpenAPIV3Discovery
	if err := json.Unmarshal(body, &index); err != nil {
		return "", fmt.Errorf("v3 index: %w", err)
	}
	entry, ok := index.Paths[b.documentPath()]
	if !ok {
		return "", nil
	}
	// Clients go to what the index says: only to this document, with its hash.
	u, err := url.Parse(entry.ServerRelativeURL)
	if err != nil || u.Host != "" || u.Scheme != "" || strings.TrimPrefix(u.Path, v3Prefix) != b.documentPath() {
		return v3Prefix + b.documentPath(), nil
	}
	return (&url.URL{Path: u.Path, RawQuery: u.RawQuery}).String(), nil
}

// fetchV2 remembers the version's part of the v2 document, if the server has one.
func (b *backend) fetchV2(ctx context.Context) error {
	resp, err := b.ask(ctx, "/openapi/v2", "application/json", b.openAPI.etag)
	if err != nil {
		return err
	}
	body, err := whole(resp)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusNotModified:
		return nil
	case http.StatusNotFound:
		b.openAPI.v2, b.openAPI.etag = nil, ""
		return b.a.room.replace(&b.written, 0)
	case http.StatusOK:
	default:
		return fmt.Errorf("v2 document: status %d", resp.StatusCode)
	}
	all, err := decodeV2(body)
	if err != nil {
		return fmt.Errorf("v2 document: %w", err)
	}
	part := aggregator.FilterSpecByPathsWithoutSideEffects(all, []string{"/apis/" + b.groupVersion().String() + "/"})
	text, err := part.MarshalJSON()
	if err != nil {
		return fmt.Errorf("v2 document: %w", err)
	}
	if err := b.a.room.replace(&b.written, weigh(text)); err != nil {
		return fmt.Errorf("v2 document: %w", err)
	}
	b.openAPI.v2, b.openAPI.etag = text, resp.Header.Get("Etag")
	return nil
}
