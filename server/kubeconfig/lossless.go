package kubeconfig

import (
	"fmt"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/yaml"
)

// checkLossless makes sure that writing a config keeps what was read. clientcmd drops what it does not know without a
// word: fields of newer versions, the second of two entries with one name, or everything when the file is some other
// YAML.
func checkLossless(data []byte, config *api.Config) error {
	again, err := clientcmd.Write(*config)
	if err != nil {
		return err
	}
	var before, after any
	if err := yaml.Unmarshal(data, &before); err != nil {
		return err
	}
	if err := yaml.Unmarshal(again, &after); err != nil {
		return err
	}
	if path, is := lost(before, after); is {
		return fmt.Errorf("writing it would lose %q", strings.TrimPrefix(path, "."))
	}
	return nil
}

// lost finds something in before that is not in after, and says where.
func lost(before, after any) (path string, is bool) {
	switch before := before.(type) {
	case map[string]any:
		after, _ := after.(map[string]any)
		for key, value := range before {
			if path, is := lost(value, after[key]); is {
				return "." + key + path, true
			}
		}
		return "", false
	case []any:
		after, _ := after.([]any)
		used := make([]bool, len(after))
		for i, value := range before {
			at := match(value, after, used)
			if at < 0 {
				return fmt.Sprintf("[%d]", i), true
			}
			used[at] = true
			if path, is := lost(value, after[at]); is {
				return fmt.Sprintf("[%d]%s", i, path), true
			}
		}
		return "", false
	default:
		return "", !empty(before) && plain(before) != plain(after)
	}
}

// match finds a list's element after writing: named ones are sorted then, others keep their place.
func match(value any, list []any, used []bool) int {
	name := nameOf(value)
	for i, other := range list {
		if !used[i] && (name == nil || nameOf(other) == name) {
			return i
		}
	}
	return -1
}

func nameOf(v any) any {
	if m, ok := v.(map[string]any); ok {
		if name, ok := m["name"].(string); ok {
			return name
		}
	}
	return nil
}

// empty tells whether a scalar says nothing, so that leaving it out is the same.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case bool:
		return !v
	case string:
		return v == ""
	}
	return false
}

// plain is a scalar without the line breaks that base64 may have.
func plain(v any) string { return strings.Join(strings.Fields(fmt.Sprint(v)), "") }
