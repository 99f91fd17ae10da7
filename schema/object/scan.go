package object

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unsafe"
)

var errMalformed = errors.New("malformed JSON")

// memberFunc is called for each member of an object with the raw key, without its quotes, and the offsets of the key
// (of its quote) and of the value. It returns false to stop.
type memberFunc func(key []byte, keyAt, valueAt int) bool

// members walks the object that starts at data[at] and returns the offset of its closing brace, or -1 when it was
// stopped. Values are stepped over as a whole, so nothing inside them can be taken for a member.
func members(data []byte, at int, each memberFunc) (int, error) {
	i := space(data, at)
	if i >= len(data) || data[i] != '{' {
		return 0, errMalformed
	}
	i = space(data, i+1)
	if i < len(data) && data[i] == '}' {
		return i, nil
	}
	for {
		keyAt := i
		keyEnd := skipString(data, i)
		if keyEnd < 0 {
			return 0, errMalformed
		}
		i = space(data, keyEnd)
		if i >= len(data) || data[i] != ':' {
			return 0, errMalformed
		}
		valueAt := space(data, i+1)
		if valueAt >= len(data) {
			return 0, errMalformed
		}
		if !each(data[keyAt+1:keyEnd-1], keyAt, valueAt) {
			return -1, nil
		}
		valueEnd := skipValue(data, valueAt)
		if valueEnd < 0 {
			return 0, errMalformed
		}
		i = space(data, valueEnd)
		if i >= len(data) {
			return 0, errMalformed
		}
		switch data[i] {
		case '}':
			return i, nil
		case ',':
			i = space(data, i+1)
		default:
			return 0, errMalformed
		}
	}
}

func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

// skipString returns the offset behind the string that starts at data[i], or -1.
func skipString(data []byte, i int) int {
	if i >= len(data) || data[i] != '"' {
		return -1
	}
	for i++; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return -1
}

// skipValue returns the offset behind the value that starts at data[i], or -1.
func skipValue(data []byte, i int) int {
	if i >= len(data) {
		return -1
	}
	switch data[i] {
	case '"':
		return skipString(data, i)
	case '{', '[':
		depth := 0
		for i < len(data) {
			switch data[i] {
			case '"':
				if i = skipString(data, i); i < 0 {
					return -1
				}
				continue
			case '{', '[':
				depth++
			case '}', ']':
				if depth--; depth == 0 {
					return i + 1
				}
			}
			i++
		}
		return -1
	default:
		start := i
		for i < len(data) && data[i] != ',' && data[i] != '}' && data[i] != ']' {
			i++
		}
		if i == start {
			return -1
		}
		return i
	}
}

// text returns the string between the quotes. It shares memory with data, which must never change.
func text(raw []byte) (string, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		if len(raw) == 0 {
			return "", nil
		}
		return unsafe.String(&raw[0], len(raw)), nil
	}
	quoted := make([]byte, 0, len(raw)+2)
	quoted = append(append(append(quoted, '"'), raw...), '"')
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		return "", fmt.Errorf("JSON string: %w", err)
	}
	return s, nil
}
