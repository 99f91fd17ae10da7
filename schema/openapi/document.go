package openapi

import (
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/kube-openapi/pkg/handler"
	"k8s.io/kube-openapi/pkg/handler3"

	"github.com/rowlock-io/rowlock/schema/splice"
)

// document is one OpenAPI document: how to make it and, once made, its compressed encodings.
type document struct {
	render  func() ([]byte, error)            // the document as JSON
	proto   func(json []byte) ([]byte, error) // JSON to protobuf
	spliced *spliced                          // makes the document, in place of render and proto
	handler http.Handler                      // set when another server answers for the document
	hash    string                            // known before the document is built; empty: that of its content
	url     string                            // where the index says it is, when another server answers

	mu     sync.Mutex // held while an encoding is made
	asJSON atomic.Pointer[blob]
	asPB   atomic.Pointer[blob]
}

// blob is an encoded document, gzipped.
type blob struct {
	member   *splice.Member
	etag     string // without quotes, the same for every encoding of a document
	modified time.Time
	partial  bool // there was no time for all parts
}

// jsonBlob makes the JSON encoding when it does not exist yet. building keeps others from making one meanwhile. What of a
// document of parts cannot be built in time is left to the next who asks.
func (d *document) jsonBlob(until time.Time, building *building) (*blob, error) {
	if b := d.asJSON.Load(); b != nil {
		return b, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.asJSON.Load(); b != nil {
		return b, nil
	}
	if d.spliced != nil {
		b, err := d.spliced.json(until, building)
		if err == nil && !b.partial {
			d.asJSON.Store(b)
		}
		return b, err
	}
	building.Lock()
	defer building.Unlock()
	data, err := d.render()
	if err != nil {
		return nil, err
	}
	b := &blob{member: compress(data), etag: d.hash, modified: time.Now()}
	if b.etag == "" {
		b.etag = etag(data)
	}
	d.asJSON.Store(b)
	building.done.Add(1)
	return b, nil
}

// protoBlob makes the protobuf encoding when it does not exist yet.
func (d *document) protoBlob(until time.Time, building *building) (*blob, error) {
	src, err := d.jsonBlob(until, building)
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
	if d.spliced != nil {
		b, err := d.spliced.proto(until, building, src)
		if err == nil && !b.partial {
			d.asPB.Store(b)
		}
		return b, err
	}
	building.Lock()
	defer building.Unlock()
	data, err := io.ReadAll(src.member.Plain())
	if err != nil {
		return nil, err
	}
	if data, err = d.proto(data); err != nil {
		return nil, fmt.Errorf("encode as protobuf: %w", err)
	}
	b := &blob{member: compress(data), etag: src.etag, modified: src.modified}
	d.asPB.Store(b)
	building.done.Add(1)
	return b, nil
}

func compress(data []byte) *splice.Member { return splice.Join([]splice.Piece{splice.Compress(data)}) }

// etag is upstream's: clients that move between servers keep what they have cached.
func etag(data []byte) string { return fmt.Sprintf("%X", sha512.Sum512(data)) }

func protoV2(data []byte) ([]byte, error) { return handler.ToProtoBinary(data) }

func protoV3(data []byte) ([]byte, error) { return handler3.ToV3ProtoBinary(data) }
