package filters

import (
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/endpoints/handlers/responsewriters"
)

// Selectors are parsed several times a request, first for authorization, and each requirement costs ten microseconds a time:
// a megabyte of them, which fits into a request line, holds a processor for many seconds. What clients send stays far
// below: the values of one requirement may be thousands, the requirements are a few.
const (
	maxSelector     = 256 << 10 // bytes
	maxRequirements = 1000
	maxSymbols      = 1 << 15             // commas, parentheses and operators
	small           = 2 * maxRequirements // a query that is no longer has no such selector
)

// oversize finds a selector in a query that is too large to be parsed.
func oversize(query string) error {
	if len(query) < small {
		return nil
	}
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		key, value, _ := strings.Cut(pair, "=")
		key, err := url.QueryUnescape(key)
		if err != nil || key != "labelSelector" && key != "fieldSelector" {
			continue
		}
		if value, err = url.QueryUnescape(value); err != nil {
			continue
		}
		if len(value) > maxSelector {
			return field.TooLong(field.NewPath(key), "", maxSelector)
		}
		n, symbols := requirements(value)
		if n > maxRequirements {
			return field.TooMany(field.NewPath(key), n, maxRequirements)
		}
		if symbols > maxSymbols {
			return field.TooMany(field.NewPath(key), symbols, maxSymbols)
		}
	}
	return nil
}

// requirements counts what stands between the commas that are not between parentheses, and all symbols.
func requirements(selector string) (n, symbols int) {
	n = 1
	within := false
	for i := range len(selector) {
		switch selector[i] {
		case '(':
			within = true
		case ')':
			within = false
		case ',':
			if !within {
				n++
			}
		case '!', '=', '<', '>':
		default:
			continue
		}
		symbols++
	}
	return n, symbols
}

func refuseOversize(err error, serializer runtime.NegotiatedSerializer, w http.ResponseWriter, req *http.Request) {
	responsewriters.ErrorNegotiated(apierrors.NewBadRequest(err.Error()), serializer, schema.GroupVersion{Version: "v1"}, w, req)
}
