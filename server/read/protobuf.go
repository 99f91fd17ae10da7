package read

import (
	"encoding/binary"
	"errors"
	"math/bits"
)

// The wire format of the three messages that are put together here from encoded parts: runtime.Unknown, the envelope of
// everything that is sent as protobuf; any XxxList; and metav1.WatchEvent. Each field is a tag, a length and bytes.
const (
	typeMetaAPIVersion = 1<<3 | 2
	typeMetaKind       = 2<<3 | 2

	unknownTypeMeta = 1<<3 | 2
	unknownRaw      = 2<<3 | 2

	listMetadata = 1<<3 | 2
	listItems    = 2<<3 | 2

	eventType    = 1<<3 | 2
	eventObject  = 2<<3 | 2
	rawExtension = 1<<3 | 2
)

// protoMagic begins every protobuf body of a Kubernetes API.
const protoMagic = "k8s\x00"

// unknownTail ends the envelope: both fields are written though empty, as upstream does.
const unknownTail = "\x1a\x00\x22\x00"

var errEnvelope = errors.New("not a protobuf envelope")

func varintSize(n int) int { return (bits.Len64(uint64(n)|1) + 6) / 7 }

// fieldSize is the size of a field whose content has n bytes.
func fieldSize(n int) int { return 1 + varintSize(n) + n }

// appendTag begins a field of size bytes.
func appendTag(dst []byte, tag byte, size int) []byte {
	return binary.AppendUvarint(append(dst, tag), uint64(size))
}

func appendField[B []byte | string](dst []byte, tag byte, content B) []byte {
	return append(appendTag(dst, tag, len(content)), content...)
}

// appendUnknownHead begins an envelope up to where the raw field follows.
func appendUnknownHead(dst []byte, apiVersion, kind string) []byte {
	dst = append(dst, protoMagic...)
	dst = appendTag(dst, unknownTypeMeta, fieldSize(len(apiVersion))+fieldSize(len(kind)))
	dst = appendField(dst, typeMetaAPIVersion, apiVersion)
	return appendField(dst, typeMetaKind, kind)
}

// rawOf returns the message inside an envelope.
func rawOf(data []byte) ([]byte, error) {
	if len(data) < len(protoMagic) || string(data[:len(protoMagic)]) != protoMagic {
		return nil, errEnvelope
	}
	for data = data[len(protoMagic):]; len(data) > 0; {
		tag := data[0]
		size, n := binary.Uvarint(data[1:])
		if n <= 0 || size > uint64(len(data)-1-n) {
			return nil, errEnvelope
		}
		content := data[1+n : 1+n+int(size)]
		if tag == unknownRaw {
			return content, nil
		}
		data = data[1+n+int(size):]
	}
	return nil, errEnvelope
}
