package narrow

import (
	"encoding/json"
	"strings"
)

// Touched are the fields that a patch names: of each field of the object the fields below it, or nil for all of it.
type Touched map[string]map[string]bool

// Read returns the fields that a patch names, and false where it cannot be told or is the whole object.
func Read(patch []byte, strategic bool) (Touched, bool) {
	var top map[string]json.RawMessage
	if json.Unmarshal(patch, &top) != nil || top == nil {
		return nil, false
	}
	fields := make(Touched, len(top))
	for name, value := range top {
		switch {
		case name == "kind" || name == "apiVersion": // may say that the object is another one
			return nil, false
		case strategic && strings.HasPrefix(name, "$"): // a directive about the whole object
			return nil, false
		}
		fields[name] = below(value, strategic)
	}
	return fields, true
}

// below returns the names in the value that a patch gives a field, or nil where the value is about the whole of it.
func below(value json.RawMessage, strategic bool) map[string]bool {
	if len(value) == 0 || value[0] != '{' {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(value, &members) != nil {
		return nil
	}
	names := make(map[string]bool, len(members))
	for name := range members {
		if strategic && strings.HasPrefix(name, "$") {
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
