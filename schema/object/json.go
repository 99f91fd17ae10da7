package object

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/rowlock-io/rowlock/storage"
)

// offUnknown marks an offset that was not looked for yet.
const offUnknown = -1

var errNoMetadata = errors.New("stored JSON has no metadata")

// JSON returns the stored JSON and the offset at which AppendJSON puts the resourceVersion. The bytes are shared: do
// not change them.
func (v *View) JSON() ([]byte, int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	data, err := v.plainLocked()
	if err != nil {
		return nil, 0, err
	}
	if v.jsonOff == offUnknown {
		off, err := revisionOffset(data)
		if err != nil {
			key, _ := v.identityLocked()
			return nil, 0, &CorruptError{Key: key, err: fmt.Errorf("read %s: %w", key, err)}
		}
		v.jsonOff = int32(off)
	}
	return data, int(v.jsonOff), nil
}

// AppendJSON appends what upstream's serializer writes for an object at a revision (without the newline at the end).
// data and off are what JSON returned.
func AppendJSON(dst, data []byte, off int, rev storage.Revision) []byte {
	dst = append(dst, data[:off]...)
	last := data[off] == '}'
	if last && !bytes.HasSuffix(bytes.TrimRight(data[:off], " \t\r\n"), []byte{'{'}) {
		dst = append(dst, ',')
	}
	dst = append(dst, `"resourceVersion":"`...)
	dst = strconv.AppendUint(dst, uint64(rev), 10)
	dst = append(dst, '"')
	if !last {
		dst = append(dst, ',')
	}
	return append(dst, data[off:]...)
}

// metadata finds the value of the top-level member "metadata". sorted tells that members are in the order of their
// names (as maps are encoded: custom resources), not in that of Go fields: those begin with "kind", which comes behind
// "apiVersion" in the other order.
func metadata(data []byte) (at int, sorted bool, err error) {
	at = -1
	first := true
	_, err = members(data, 0, func(key []byte, _, valueAt int) bool {
		if first {
			sorted, first = string(key) != "kind", false
		}
		if string(key) == "metadata" {
			at = valueAt
			return false
		}
		return true
	})
	if err == nil && at < 0 {
		err = errNoMetadata
	}
	return at, sorted, err
}

// revisionOffset finds where the resourceVersion belongs: in front of the first member of metadata that the encoder
// would write behind it, or at the closing brace.
func revisionOffset(data []byte) (int, error) {
	if len(data) > math.MaxInt32 {
		return 0, storage.ErrTooLarge
	}
	meta, sorted, err := metadata(data)
	if err != nil {
		return 0, err
	}
	off := -1
	var bad error
	end, err := members(data, meta, func(key []byte, keyAt, _ int) bool {
		name, err := text(key)
		switch {
		case err != nil:
			bad = err
			return false
		case name == "resourceVersion":
			bad = errors.New("stored JSON has a resourceVersion")
			return false
		case sorted && name < "resourceVersion":
			return true
		case !sorted:
			switch name {
			case "name", "generateName", "namespace", "selfLink", "uid":
				return true
			}
		}
		off = keyAt
		return false
	})
	switch {
	case err != nil:
		return 0, err
	case bad != nil:
		return 0, bad
	case off < 0:
		off = end
	}
	return off, nil
}
