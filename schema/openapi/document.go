package openapi

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"
)

// document is one OpenAPI document: how to make it and, once made, its compressed encodings.
type document struct {
	render  func() ([]byte, error)            // the document as JSON
	proto   func(json []byte) ([]byte, error) // JSON to protobuf
	handler http.Handler                      // set when another server answers for the document
	hash    string                            // known before the document is built; empty: that of its content
	url     string                            // where the index says it is, when another server answers

	mu     sync.Mutex // held while an encoding is made
	asJSON atomic.Pointer[blob]
	asPB   atomic.Pointer[blob]
}

// blob is an encoded document, gzipped.
type blob struct {
	gz       []byte
	etag     string // without quotes, the same for every encoding of a document
	modified time.Time
}

// jsonBlob makes the JSON encoding when it does not exist yet. building keeps others from making one meanwhile.
func (d *document) jsonBlob(building *building) (*blob, error) {
	if b := d.asJSON.Load(); b != nil {
		return b, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.asJSON.Load(); b != nil {
		return b, nil
	}
	building.Lock()
	defer building.Unlock()
	data, err := d.render()
	if err != nil {
		return nil, err
	}
	gz, err := compress(data)
	if err != nil {
		return nil, err
	}
	b := &blob{gz: gz, etag: d.hash, modified: time.Now()}
	if b.etag == "" {
		b.etag = etag(data)
	}
	d.asJSON.Store(b)
	building.done.Add(1)
	return b, nil
}

// protoBlob makes the protobuf encoding when it does not exist yet.
func (d *document) protoBlob(building *building) (*blob, error) {
	src, err := d.jsonBlob(building)
	if err != nil {
		return nil, err
	}
	if b := d.asPB.Load(); b != nil {
		return b, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.asPB.Load(); b != nil {
		return b, nil
	}
	building.Lock()
	defer building.Unlock()
	data, err := src.plain()
	if err != nil {
		return nil, err
	}
	if data, err = d.proto(data); err != nil {
		return nil, fmt.Errorf("encode as protobuf: %w", err)
	}
	gz, err := compress(data)
	if err != nil {
		return nil, err
	}
	b := &blob{gz: gz, etag: src.etag, modified: src.modified}
	d.asPB.Store(b)
	building.done.Add(1)
	return b, nil
}

// plain answers the document uncompressed.
func (b *blob) plain() ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(b.gz))
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("decompress document: %w", err)
	}
	return data, nil
}

func compress(data []byte) ([]byte, error) {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	if _, err := w.Write(data); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress document: %w", err)
	}
	return bytes.Clone(buf.Bytes()), nil
}

// etag is upstream's: clients that move between servers keep what they have cached.
func etag(data []byte) string { return fmt.Sprintf("%X", sha512.Sum512(data)) }

func protoV2(data []byte) ([]byte, error) { return handler.ToProtoBinary(data) }

func protoV3(data []byte) ([]byte, error) { return handler3.ToV3ProtoBinary(data) }
