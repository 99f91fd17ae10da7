package read

import (
	"bytes"
	"errors"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
)

// appendObject appends one whole object, as a GET or a watch event shows it, without a newline.
func (r *Resource) appendObject(dst []byte, m media, v *object.View, rev storage.Revision) ([]byte, error) {
	if m == mediaProtobuf {
		data, err := v.Protobuf(rev)
		return append(dst, data...), err
	}
	data, off, err := v.JSON()
	if err != nil {
		return dst, err
	}
	if r.Unstructured || bytes.HasPrefix(data, r.jsonHead) {
		return object.AppendJSON(dst, data, off, rev), nil
	}
	data, err = r.reencode(v, rev)
	return append(dst, data...), err
}

// piece finds the bytes of one item of a list. Items do not say their kind and version: the list does.
func (r *Resource) piece(m media, v *object.View, rev storage.Revision) (piece, error) {
	if m == mediaProtobuf {
		data, err := v.Protobuf(rev)
		if err != nil {
			return piece{}, err
		}
		raw, err := rawOf(data)
		return piece{data: raw, revision: rev}, err
	}
	data, off, err := v.JSON()
	if err != nil {
		return piece{}, err
	}
	if r.Unstructured {
		return piece{data: data[1:], off: off - 1, revision: rev}, nil
	}
	if n := len(r.jsonHead); off > n && bytes.HasPrefix(data, r.jsonHead) {
		return piece{data: data[n:], off: off - n, revision: rev}, nil
	}
	if data, err = r.reencode(v, rev); err != nil {
		return piece{}, err
	}
	rest, ok := bytes.CutPrefix(data, r.jsonHead)
	if !ok {
		return piece{}, errors.New("encoded object does not begin with its kind and version")
	}
	return piece{data: rest}, nil
}

// reencode is the way of objects that were stored in another version, before an upgrade moved the stored one.
func (r *Resource) reencode(v *object.View, rev storage.Revision) ([]byte, error) {
	obj, err := v.ObjectAt(rev)
	if err != nil {
		return nil, err
	}
	return r.encode(mediaJSON, obj)
}

// appendJSON appends the item. data begins behind the kind and version that were cut off, and off counts from there.
func (p *piece) appendJSON(dst []byte) []byte {
	dst = append(dst, '{')
	if p.revision == 0 {
		return append(dst, p.data...)
	}
	return object.AppendJSON(dst, p.data, p.off, p.revision)
}
