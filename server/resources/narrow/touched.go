package narrow

import (
	"encoding/json"
	"strings"
)

// Touched are the fields that a patch names: of each field of the object the fields below it, or nil for all of it.
type Touched map[string]map[string]bool

// Read returns the fields that a merge patch names, and false where it cannot be told or is the whole object.
func Read(patch []byte) (Touched, bool) {
	var top map[string]json.RawMessage
	if json.Unmarshal(patch, &top) != nil || top == nil {
		return nil, false
	}
	fields := make(Touched, len(top))
	for name, value := range top {
		if isType(name) {
			return nil, false
		}
		fields[name] = below(value)
	}
	return fields, true
}

// isType tells whether a field says what an object is, so that it may be another one.
func isType(name string) bool { return name == "kind" || name == "apiVersion" }

// below returns the names in the value that a patch gives a field, or nil where the value is about the whole of it.
func below(value json.RawMessage) map[string]bool {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	names := make(map[string]bool, len(members))
	for name := range members {
		names[name] = true
	}
	return names
}

// Strategic is Read for a decoded strategic merge patch.
func Strategic(patch map[string]any) (Touched, bool) {
	if patch == nil {
		return nil, false
	}
	fields := make(Touched, len(patch))
	for name, value := range patch {
		if isType(name) || strings.HasPrefix(name, "$") { // a directive about the whole object
			return nil, false
		}
		fields[name] = strategicBelow(value)
	}
	return fields, true
}

// strategicBelow is below for a strategic merge patch.
func strategicBelow(value any) map[string]bool {
	members, ok := value.(map[string]any)
	if !ok {
		return nil
	}
	names := make(map[string]bool, len(members))
	for name := range members {
		if strings.HasPrefix(name, "$") {
			// What is said about a list stands beside it: its order, and what is deleted from it.
			directive, list, _ := strings.Cut(name, "/")
			if directive != "$setElementOrder" && directive != "$deleteFromPrimitiveList" {
				return nil
			}
			name = list
		}
		names[name] = true
	}
	return names
}
