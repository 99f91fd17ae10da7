package openapi

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rowlock-io/rowlock/schema/splice"
)

// head is the v2 document of all sources but for their parts, cut where parts come in.
type head struct {
	sources []*source // in order
	builtin names     // what the first describes
	all     names

	mu   sync.Mutex
	json []cut // nil: not built
	etag string
	pb   *splice.Piece
}

// cut is a piece of the head, and the map that is open after it.
type cut struct {
	piece splice.Piece
	kind  int  // kinds: the document is over
	empty bool // nothing is in the map yet
}

func newHead(sources []*source) *head {
	return &head{sources: slices.DeleteFunc(slices.Clone(sources), func(s *source) bool { return s.v2 == nil })}
}

func (h *head) same(other *head) bool { return other != nil && slices.Equal(h.sources, other.sources) }

// build makes the JSON of the head. h.mu is held.
func (h *head) build(building *building) error {
	if h.json != nil {
		return nil
	}
	building.Lock()
	defer building.Unlock()
	doc, builtin, err := mergeV2(h.sources)
	if err != nil {
		return err
	}
	data, err := doc.MarshalJSON()
	if err != nil {
		return err
	}
	h.builtin, h.all = builtin, namesOf(doc)
	h.etag = etag(data)
	if h.json, err = cutHead(data); err != nil {
		return err
	}
	building.done.Add(1)
	return nil
}

// cutHead cuts a document before the end of each of the maps that parts add to.
func cutHead(data []byte) ([]cut, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return nil, err
	}
	var ends, inOrder []int
	empty := make([]bool, kinds)
	for kind, key := range [kinds]string{paths: "paths", definitions: "definitions", parameters: "parameters"} {
		member := `"` + key + `":` + string(raw[key])
		if raw[key] == nil {
			member += "{}"
			data = append(append(data[:len(data)-1], ","+member...), '}')
		}
		at := bytes.Index(data, []byte(member))
		if at < 0 {
			return nil, fmt.Errorf("%s cannot be found in the document", key)
		}
		empty[kind] = strings.HasSuffix(member, "{}")
		ends, inOrder = append(ends, at+len(member)-1), append(inOrder, kind)
	}
	slices.SortFunc(inOrder, func(a, b int) int { return cmp.Compare(ends[a], ends[b]) })
	var cuts []cut
	from := 0
	for _, kind := range inOrder {
		cuts = append(cuts, cut{piece: splice.Compress(data[from:ends[kind]]), kind: kind, empty: empty[kind]})
		from = ends[kind]
	}
	return append(cuts, cut{piece: splice.Compress(data[from:]), kind: kinds}), nil
}

// proto is the head as a message that those of parts can follow. h.mu is held.
func (h *head) proto(building *building) (*splice.Piece, error) {
	if h.pb != nil {
		return h.pb, nil
	}
	building.Lock()
	defer building.Unlock()
	var data []byte
	for _, c := range h.json {
		plain, err := c.piece.Bytes()
		if err != nil {
			return nil, err
		}
		data = append(data, plain...)
	}
	data, err := protoV2(data)
	if err != nil {
		return nil, fmt.Errorf("encode as protobuf: %w", err)
	}
	piece := splice.Compress(data)
	h.pb = &piece
	building.done.Add(1)
	return h.pb, nil
}

// spliced is a v2 document that is put together from a head and parts. Whoever has a name first keeps it: a part is the
// last, and describes only what was not described.
type spliced struct {
	head  *head
	parts []*Part
	log   *slog.Logger
}

// shares answers what each part adds, as far as names are free. Once it is late, parts that are not built yet are left out.
func (s *spliced) shares(until time.Time, of func(*Part) (*share, error), built func(*Part) bool) (all [kinds][]splice.Piece, partial bool) {
	var taken names
	for kind := range taken {
		taken[kind] = map[string]bool{}
	}
	for _, p := range s.parts {
		if time.Now().After(until) && !p.has(built) {
			partial = true
			continue
		}
		sh, err := of(p)
		if err != nil {
			s.log.Error("Could not build a part of the OpenAPI v2 document", "error", err)
			continue
		}
		for kind := range sh {
			for _, n := range sh[kind] {
				if !s.head.all[kind][n.name] && !taken[kind][n.name] {
					taken[kind][n.name] = true
					all[kind] = append(all[kind], n.piece)
				}
			}
		}
	}
	return all, partial
}

// json makes the JSON encoding. Parts that others have built are not built again, and one who gives up leaves what he built.
func (s *spliced) json(until time.Time, building *building) (*blob, error) {
	s.head.mu.Lock()
	err := s.head.build(building)
	s.head.mu.Unlock()
	if err != nil {
		return nil, err
	}
	shares, partial := s.shares(until, func(p *Part) (*share, error) { return p.json(building, s.head.builtin) },
		func(p *Part) bool { return p.asJSON != nil })
	sum := sha512.New()
	sum.Write([]byte(s.head.etag))
	comma := splice.Plain(",")
	var pieces []splice.Piece
	for _, c := range s.head.json {
		pieces = append(pieces, c.piece)
		if c.kind == kinds {
			continue
		}
		for i, piece := range shares[c.kind] {
			if i > 0 || !c.empty {
				pieces = append(pieces, comma)
			}
			pieces = append(pieces, piece)
			sum.Write(piece.Sum[:])
		}
	}
	return &blob{member: splice.Join(pieces), etag: fmt.Sprintf("%X", sum.Sum(nil)), modified: time.Now(), partial: partial}, nil
}

// proto makes the protobuf encoding of the document whose JSON is src.
func (s *spliced) proto(until time.Time, building *building, src *blob) (*blob, error) {
	s.head.mu.Lock()
	first, err := s.head.proto(building)
	s.head.mu.Unlock()
	if err != nil {
		return nil, err
	}
	shares, partial := s.shares(until, func(p *Part) (*share, error) { return p.proto(building, s.head.builtin) },
		func(p *Part) bool { return p.asPB != nil })
	pieces := []splice.Piece{*first}
	sum := sha512.New()
	for _, share := range shares {
		for _, piece := range share {
			pieces = append(pieces, piece)
			sum.Write(piece.Sum[:])
		}
	}
	b := &blob{member: splice.Join(pieces), etag: src.etag, modified: src.modified, partial: src.partial || partial}
	if b.partial {
		b.etag = fmt.Sprintf("%X", sum.Sum(nil)) // there may be other parts than in src
	}
	return b, nil
}
