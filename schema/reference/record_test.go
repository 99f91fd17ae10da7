package reference

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var record = flag.String("record", "", "directory with the answers of a kube-apiserver (testdata/README.md): rewrite testdata from it")

// TestRecord rewrites testdata when it is told from what.
func TestRecord(t *testing.T) {
	if *record == "" {
		t.Skip("no -record directory given")
	}
	discovery := discoveryFacts{Aggregated: map[string]any{}, Legacy: map[string]any{}}
	openapi := openAPIFacts{V3: map[string]parts{}}
	read := func(path string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(*record, path))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, ".gz") {
			z, err := gzip.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			if data, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		return data
	}
	decode := func(path string) any {
		t.Helper()
		v, err := parse(read(path))
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, root := range []string{"api", "apis"} {
		discovery.Aggregated["/"+root] = decode("discovery/aggregated-" + root + ".json")
	}
	legacy := filepath.Join(*record, "discovery")
	if err := filepath.WalkDir(legacy, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), "aggregated-") {
			return err
		}
		rel, err := filepath.Rel(legacy, path)
		if err != nil {
			return err
		}
		discovery.Legacy["/"+strings.TrimSuffix(filepath.ToSlash(rel), ".json")] = decode(filepath.Join("discovery", rel))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	var err error
	if openapi.V2, err = hashParts(read("openapi/v2.json.gz")); err != nil {
		t.Fatal(err)
	}
	var paths []string
	if err := json.Unmarshal(read("openapi/v3-index.json"), &paths); err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		doc := read("openapi/v3/" + strings.ReplaceAll(path, "/", "_") + ".json.gz")
		if openapi.V3[path], err = hashParts(doc); err != nil {
			t.Fatal(err)
		}
	}
	write(t, discoveryFile, discovery)
	write(t, openAPIFile, openapi)
}

func write(t *testing.T, name string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var buf bytes.Buffer
	z, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join("testdata", name), buf.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
