// Package reference knows what a kube-apiserver 1.36.3 with default flags answers on its discovery and OpenAPI paths,
// and compares documents with that. It is for tests: its files are facts recorded from a server (testdata/README.md),
// and the product does not import it.
package reference

import (
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"fmt"
	"io"
)

//go:embed testdata/*.gz
var files embed.FS

// load reads a recorded file into v.
func load(name string, v any) error {
	f, err := files.Open("testdata/" + name)
	if err != nil {
		return fmt.Errorf("open %s: %w", name, err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("decompress %s: %w", name, err)
	}
	if err := json.NewDecoder(z).Decode(v); err != nil {
		return fmt.Errorf("decode %s: %w", name, err)
	}
	return nil
}

// parse decodes a JSON document, numbers unchanged.
func parse(doc []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode document: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("decode document: something follows it")
	}
	return v, nil
}
