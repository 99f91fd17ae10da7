package server_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/server/controlplane"
	"github.com/rowlock-io/rowlock/server/servertest"
)

var record = flag.String("record", "", "URL of a fresh kube-apiserver whose answers to the scripts replace the recorded ones")

// fact is what kube-apiserver answered to a request.
type fact struct {
	Request string            `json:"request"` // method and path, to tell when script and facts do not belong together
	Status  int               `json:"status"`
	Header  map[string]string `json:"header,omitempty"`
	Body    string            `json:"body"`
}

// TestTranscript sends the scripts of testdata/transcript and compares each answer with what kube-apiserver 1.36.3
// answered: status, headers, and every word of the body but for what a server makes up (testdata/README.md).
func TestTranscript(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/transcript/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts, %v", len(scripts), err)
	}
	if *record != "" {
		for _, script := range scripts {
			recordFacts(t, script)
		}
		return
	}
	// The recorded server had no controller manager, so its roles admin, edit and view grant nothing.
	server := servertest.Start(t, servertest.Config{Plane: func(c *controlplane.Config) { c.Access.Unaggregated = true }})
	for _, script := range scripts {
		t.Run(strings.TrimSuffix(filepath.Base(script), ".txt"), func(t *testing.T) {
			facts := loadFacts(t, script)
			for i, r := range loadScript(t, script) {
				if i >= len(facts) || facts[i].Request != r.Method+" "+r.Path {
					t.Fatalf("request %d is not the recorded one: record the facts again", i)
				}
				want, have := facts[i], answer(t, server.URL, r)
				want.Body, have.Body = inOrder(canonical(want.Body)), inOrder(have.Body)
				if d := cmp.Diff(want, have); d != "" {
					t.Errorf("request %d, %s %s\n%s\n%s", i, r.Method, r.Path, brief(r.Body), d)
				}
			}
		})
	}
}

// scripted is a request of a script. It is repeated until the answer contains a text: for what a server takes notice of
// some time after it has answered.
type scripted struct {
	servertest.Request
	until string
}

// answer sends a request and keeps what can be compared.
func answer(t *testing.T, root string, r scripted) fact {
	t.Helper()
	resp := wire.Send(t, root, r.Request)
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(resp.Body, r.until) && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
		resp = wire.Send(t, root, r.Request)
	}
	f := fact{Request: r.Method + " " + r.Path, Status: resp.Status, Header: map[string]string{}, Body: canonical(resp.Body)}
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After", "Warning", "Location", "X-Content-Type-Options"} {
		if v := resp.Header.Values(name); len(v) > 0 {
			f.Header[name] = canonical(strings.Join(v, "\n"))
		}
	}
	return f
}

// loadScript reads requests: a line with method and path, header lines, an empty line, body lines, and a line "---".
func loadScript(t *testing.T, file string) []scripted {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var requests []scripted
	for part := range strings.SplitSeq(string(data), "\n---\n") {
		head, body, _ := strings.Cut(strings.TrimLeft(part, "\n"), "\n\n")
		lines := strings.Split(strings.TrimSpace(head), "\n")
		for len(lines) > 0 && strings.HasPrefix(lines[0], "#") {
			lines = lines[1:]
		}
		if len(lines) == 0 || lines[0] == "" {
			continue
		}
		method, path, ok := strings.Cut(lines[0], " ")
		if !ok {
			t.Fatalf("%s: %q is not a method and a path", file, lines[0])
		}
		r := scripted{Request: servertest.Request{
			Method: method, Path: path, Header: http.Header{}, Body: body, Token: servertest.AdminToken,
		}}
		if body != "" {
			r.Header["Content-Type"] = []string{"application/json"}
		}
		for _, line := range lines[1:] {
			key, value, _ := strings.Cut(line, ":")
			switch value = strings.TrimSpace(value); key {
			case "Token":
				r.Token = value
				continue
			case "Until":
				r.until = value
				continue
			}
			if r.Header[key] = []string{value}; value == "" {
				delete(r.Header, key)
			}
		}
		requests = append(requests, r)
	}
	return requests
}

func factsFile(script string) string { return strings.TrimSuffix(script, ".txt") + ".facts.gz" }

func loadFacts(t *testing.T, script string) []fact {
	t.Helper()
	f, err := os.Open(factsFile(script))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var facts []fact
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var f fact
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		if f.Header == nil {
			f.Header = map[string]string{}
		}
		facts = append(facts, f)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return facts
}

func recordFacts(t *testing.T, script string) {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	enc := json.NewEncoder(z)
	for _, r := range loadScript(t, script) {
		if err := enc.Encode(answer(t, *record, r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(factsFile(script), out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func brief(body string) string {
	if len(body) > 300 {
		return body[:300] + "…"
	}
	return body
}
