package read

import (
	"encoding/binary"
	"fmt"

	"k8s.io/apimachinery/pkg/watch"

	"github.com/rowlock-io/rowlock/schema/object"
	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/cache"
)

// An event of one change costs each watcher a copy of the object's bytes and nothing else: the bytes, the place of the
// resourceVersion and the protobuf are found once and kept with the entry, so there is nothing left to share.

// appendEvent appends a framed watch event about a stored object.
func (r *Resource) appendEvent(dst []byte, m media, kind watch.EventType, v *object.View, rev storage.Revision) ([]byte, error) {
	start := len(dst)
	if m == mediaJSON {
		out, err := r.appendObject(appendEventHead(dst, kind), m, v, rev)
		if err != nil {
			return dst, err
		}
		dst = append(out, "}\n"...)
	} else {
		data, err := v.Protobuf(rev)
		if err != nil {
			return dst, err
		}
		dst = appendProtoEvent(dst, kind, data)
	}
	r.observe(len(dst) - start)
	return dst, nil
}

// appendEncoded appends a framed watch event around an encoded object.
func (r *Resource) appendEncoded(dst []byte, m media, kind watch.EventType, data []byte) []byte {
	start := len(dst)
	if m == mediaJSON {
		dst = append(append(appendEventHead(dst, kind), data...), "}\n"...)
	} else {
		dst = appendProtoEvent(dst, kind, data)
	}
	r.observe(len(dst) - start)
	return dst
}

func appendEventHead(dst []byte, kind watch.EventType) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	return append(dst, `","object":`...)
}

// appendProtoEvent appends a metav1.WatchEvent behind its length.
func appendProtoEvent(dst []byte, kind watch.EventType, data []byte) []byte {
	inner := fieldSize(len(data))
	dst = binary.BigEndian.AppendUint32(dst, uint32(fieldSize(len(kind))+fieldSize(inner)))
	dst = appendField(dst, eventType, string(kind))
	dst = appendTag(dst, eventObject, inner)
	return appendField(dst, rawExtension, data)
}

// appendChange appends what a watcher with this predicate sees of a change, which may be nothing: an update that enters
// the selection is an ADDED, one that leaves it a DELETED with the last state that was in it.
func (p *predicate) appendChange(dst []byte, m media, c *cache.Change) ([]byte, error) {
	var is, was bool
	var err error
	if c.Verb != storage.Delete {
		if is, err = p.matches(c.Entry); err != nil {
			return dst, err
		}
	}
	if c.Prev != nil {
		if was, err = p.matches(c.Prev); err != nil {
			return dst, err
		}
	}
	codec, rev := p.res.Codec, c.Entry.Revision
	switch {
	case is && was:
		dst, err = p.res.appendEvent(dst, m, watch.Modified, codec.View(c.Entry), rev)
	case is:
		dst, err = p.res.appendEvent(dst, m, watch.Added, codec.View(c.Entry), rev)
	case was && c.Verb == storage.Delete:
		// The entry of a deletion holds the last state at the deletion's revision, and what is encoded of it is shared.
		dst, err = p.res.appendEvent(dst, m, watch.Deleted, codec.View(c.Entry), rev)
	case was:
		dst, err = p.res.appendEvent(dst, m, watch.Deleted, codec.View(c.Prev), rev)
	}
	if err != nil {
		return dst, fmt.Errorf("render event of %s at %d: %w", c.Entry.Key, rev, err)
	}
	return dst, nil
}
