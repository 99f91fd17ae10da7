package storage

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckOps refuses a commit that no driver may judge, because its caller is at fault: two ops on one key, an unknown
// verb, a Create that expects a revision, or a key that is incomplete or not plain UTF-8 text. Drivers call it before they touch
// anything, so that all of them answer alike.
func CheckOps(ops []Op) error {
	var seen map[Key]struct{}
	if len(ops) > 1 {
		seen = make(map[Key]struct{}, len(ops))
	}
	for i := range ops {
		op := &ops[i]
		if err := checkOp(op); err != nil {
			return fmt.Errorf("op %d on %q: %w", i, op.Key, err)
		}
		if seen == nil {
			continue
		}
		if _, dup := seen[op.Key]; dup {
			return fmt.Errorf("op %d on %q: another op of this commit has the same key", i, op.Key)
		}
		seen[op.Key] = struct{}{}
	}
	return nil
}

func checkOp(op *Op) error {
	switch op.Verb {
	case Create:
		if op.Expect != 0 {
			return errors.New("a create must not expect a revision")
		}
	case Update:
	case Delete:
		if len(op.Data) != 0 {
			return errors.New("a delete must not carry data")
		}
	default:
		return fmt.Errorf("unknown verb %d", op.Verb)
	}
	return CheckKey(op.Key)
}

// CheckKey refuses keys that some database could not keep byte for byte.
func CheckKey(k Key) error {
	if k.Resource == "" || k.Name == "" {
		return errors.New("a key must have a resource and a name")
	}
	for _, s := range [...]string{k.Resource, k.Namespace, k.Name} {
		if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
			return fmt.Errorf("a key must be UTF-8 text without NUL, got %q", s)
		}
	}
	return nil
}

// Judge says what becomes of a well-formed op on a key whose present revision is found (0: there is none): nil, or
// the reason why nothing happens. It is the whole meaning of Op.Expect, in one place for every driver written in Go.
func Judge(op *Op, found Revision) error {
	switch {
	case len(op.Data) > MaxObjectBytes:
		return fmt.Errorf("%w: %s has %d bytes, at most %d are kept", ErrTooLarge, op.Key, len(op.Data), MaxObjectBytes)
	case op.Verb == Create && found != 0:
		return fmt.Errorf("%w: %s at revision %d", ErrExists, op.Key, found)
	case op.Verb != Create && found == 0:
		return fmt.Errorf("%w: %s", ErrNotFound, op.Key)
	case op.Verb != Create && found != op.Expect:
		return fmt.Errorf("%w: %s is at revision %d, expected %d", ErrConflict, op.Key, found, op.Expect)
	}
	return nil
}
