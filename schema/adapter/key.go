package adapter

import (
	"fmt"
	"strings"

	apistorage "k8s.io/apiserver/pkg/storage"

	"github.com/rowlock-io/rowlock/storage"
)

// Key parses a registry's key, "/pods/namespace/name" or "/nodes/name". Keys that leave the resource's prefix, or have
// no name, or more than these parts, are refused.
func (s *Store) Key(key string) (storage.Key, error) {
	sc, err := s.scope(key, false)
	if err != nil {
		return storage.Key{}, err
	}
	if sc.nothing || sc.key.Name == "" {
		return storage.Key{}, fmt.Errorf("invalid key: %q names no object", key)
	}
	return sc.key, nil
}

// scope is what a key of a list or a watch covers.
type scope struct {
	prefix    string      // of the keys in continue tokens
	one       bool        // only key
	key       storage.Key // when one
	namespace string      // otherwise; empty: all
	nothing   bool        // well-formed, but no object can have such a key
}

// scope parses the key of a list or watch. Not recursive, it is one object's; recursive, it is what all keys begin with.
func (s *Store) scope(key string, recursive bool) (scope, error) {
	key, err := apistorage.PrepareKey(s.prefix, key, recursive)
	if err != nil {
		return scope{}, err
	}
	sc := scope{prefix: key, one: !recursive}
	rest := key[len(s.prefix):]
	if recursive {
		// Whatever is left ends in a slash: a namespace, or something deeper than any key.
		sc.namespace = strings.TrimSuffix(rest, "/")
		sc.nothing = strings.Contains(sc.namespace, "/")
		return sc, nil
	}
	sc.key, sc.nothing = s.parse(rest)
	return sc, nil
}

// parse splits what comes behind the prefix.
func (s *Store) parse(rest string) (key storage.Key, odd bool) {
	key.Resource = s.codec.Resource()
	namespace, name, deep := strings.Cut(rest, "/")
	if !deep {
		key.Name = rest
		return key, false
	}
	key.Namespace, key.Name = namespace, name
	return key, strings.Contains(name, "/")
}

// path is the way back from parse, with the prefix: what continue tokens are made of.
func (s *Store) path(key storage.Key) string {
	if key.Namespace == "" {
		return s.prefix + key.Name
	}
	return s.prefix + key.Namespace + "/" + key.Name
}

// selector is the part of the log that a watch has to look at.
func (sc scope) selector(resource string, name string) storage.Selector {
	if sc.one {
		return storage.Selector{Resource: resource, Namespace: sc.key.Namespace, Name: sc.key.Name}
	}
	return storage.Selector{Resource: resource, Namespace: sc.namespace, Name: name}
}

// has tells whether a key that the selector let through belongs to the scope.
func (sc scope) has(key storage.Key) bool {
	return !sc.nothing && (!sc.one || key == sc.key)
}
