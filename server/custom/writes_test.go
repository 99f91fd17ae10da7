package custom_test

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rowlock-io/rowlock/server/servertest"
)

// gears have all that a schema can say about what is written.
const gears = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: gears.example.com}
spec:
  group: example.com
  names: {plural: gears, singular: gear, kind: Gear, listKind: GearList}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    deprecated: false
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
    schema: &schema
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            x-kubernetes-validations:
            - {rule: "self.replicas <= 10", message: "too many"}
            - {rule: "!has(oldSelf.color) || has(self.color)", message: "color stays"}
            properties:
              color: {type: string, default: red, maxLength: 8}
              replicas: {type: integer, default: 1, minimum: 0}
              ratio: {type: number}
              either: {x-kubernetes-int-or-string: true}
              nothing: {type: string, nullable: true}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
              names: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              whole: {type: object, x-kubernetes-map-type: atomic, additionalProperties: {type: string}}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, size: {type: integer, default: 2}, note: {type: string}}
          status:
            type: object
            properties: {replicas: {type: integer}, phase: {type: string, enum: [up, down]}}
  - name: v2
    served: true
    storage: false
    deprecated: false
    subresources: {status: {}}
    schema: *schema
`

// side is one of two clusters that are sent the same.
type side struct {
	t    *testing.T
	wire *servertest.Wire
	root string
}

func (s *side) send(r servertest.Request) *servertest.Response { return s.wire.Send(s.t, s.root, r) }

// Writes are answered as upstream's handlers answer them, which serve deprecated versions: the same requests, good and bad, are
// sent for both, and what is stored afterwards is compared as well.
func TestWritesEqualUpstreams(t *testing.T) {
	t.Parallel()
	const old = "old"
	s := servertest.Start(t, servertest.Config{Clusters: []string{old}})
	wire := servertest.NewWire()
	t.Cleanup(wire.Close)
	ours, theirs := &side{t, wire, s.Address(servertest.Default)}, &side{t, wire, s.Address(old)}
	for from, of := range map[*side]string{ours: gears, theirs: strings.ReplaceAll(gears, "deprecated: false", `deprecated: true`)} {
		made := from.send(servertest.Request{
			Method: http.MethodPost, Path: "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", Token: servertest.AdminToken,
			Header: http.Header{"Content-Type": {"application/yaml"}}, Body: of,
		})
		if made.Status != http.StatusCreated {
			t.Fatal(made.Body)
		}
		for range 500 {
			if from.send(servertest.Request{Method: http.MethodGet, Path: "/apis/example.com/v1/namespaces/default/gears", Token: servertest.AdminToken}).Status == http.StatusOK {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	p := &gearPlayer{t: t, rng: rand.New(rand.NewSource(seed)), ours: ours, theirs: theirs} //nolint:gosec // random as in "any"
	codes := map[string]int{}
	for range 700 {
		p.step(codes)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		if good := codes[method+" 200"] + codes[method+" 201"]; good < 4 {
			t.Errorf("%d good answers to %s: the test shows little: %v", good, method, codes)
		}
	}
	t.Log(codes)
}

type gearPlayer struct {
	t            *testing.T
	rng          *rand.Rand
	ours, theirs *side
}

func (p *gearPlayer) pick(of ...string) string { return of[p.rng.Intn(len(of))] }

func (p *gearPlayer) step(codes map[string]int) {
	p.t.Helper()
	version, name := p.pick("v1", "v1", "v2"), p.pick("a", "b", "c")
	base := "/apis/example.com/" + version + "/namespaces/default/gears"
	one := base + "/" + name
	if p.rng.Intn(4) == 0 {
		one += "/status"
	}
	r := servertest.Request{Token: servertest.AdminToken, Header: http.Header{
		"Accept":     {p.pick("application/json", "application/json", "application/json", "application/yaml", "*/*", "text/nothing")},
		"User-Agent": {p.pick("test/1", "me", "curl/8")},
	}}
	query := p.pick("", "", "?fieldValidation=Strict", "?fieldValidation=Ignore", "?fieldManager=me", "?fieldManager=you", "?dryRun=All", "?fieldValidation=x")
	r.Header.Set("Content-Type", p.pick("application/json", "application/json", "application/json", "application/yaml", "text/plain", "application/json; charset=utf-8"))
	doc := func(version string) string {
		return fmt.Sprintf(`{"apiVersion":"example.com/%s","kind":"Gear","metadata":{"name":%q%s},%s}`, p.pick(version, version, version, version, version, "v7"),
			p.pick(name, name, name, name, "other"), p.pick("", `,"labels":{"x":"y"}`, `,"annotations":{"a":"b"}`, `,"labels":7`, `,"finalizers":["example.com/stay"]`, `,"nothing":1`,
				`,"ownerReferences":[{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1"},{"apiVersion":"v1","kind":"Pod","name":"p","uid":"1"}]`), p.fields())
	}
	revised := false
	switch p.rng.Intn(10) {
	case 0, 1:
		r.Method, r.Path, r.Body = http.MethodPost, base+query, doc(version)
	case 2, 3:
		r.Method, r.Path, r.Body = http.MethodPut, one+query, doc(version)
		revised = p.rng.Intn(6) > 0
	case 4, 5:
		r.Method, r.Path, r.Body = http.MethodPatch, one+query, p.pick("{"+p.fields()+"}", "{"+p.fields()+"}", `{"metadata":{"labels":{"m":"n"},"finalizers":null}}`, "{", "[]", `{"spec":null}`)
		r.Header.Set("Content-Type", p.pick("application/merge-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json"))
	case 6:
		r.Method, r.Path = http.MethodPatch, one+query
		r.Header.Set("Content-Type", "application/json-patch+json")
		r.Body = p.pick(`[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]`, `[{"op":"replace","path":"/spec/color","value":"blue"}]`,
			`[{"op":"remove","path":"/spec"}]`, `[{"op":"add","path":"/nothing","value":1}]`, `[{"op":"add","path":"/status","value":{"phase":"up"}}]`, `{}`, `[{"op":"test","path":"/kind","value":"x"}]`)
	case 7, 8:
		r.Method, r.Body = http.MethodPatch, doc(version)
		r.Path = one + p.pick("?fieldManager=me", "?fieldManager=you", "?fieldManager=you&force=true", "?fieldManager=kubectl&force=true", "", "?fieldManager=me&fieldValidation=Strict")
		r.Header.Set("Content-Type", "application/apply-patch+yaml")
	case 9:
		r.Method, r.Path = http.MethodDelete, one
		r.Body = p.pick("", "", `{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Foreground"}`, `{"preconditions":{"uid":"x"}}`, `{"dryRun":["All"]}`)
		if p.rng.Intn(6) == 0 {
			r.Path, r.Body = base+p.pick("", "?labelSelector=x%3Dy"), ""
		}
	}
	got := p.answer(p.ours, r, one, revised)
	if diff := differ(p.answer(p.theirs, r, one, revised), got); diff != "" {
		p.t.Fatalf("%s %s %v\n%s\n(-theirs +ours)\n%s", r.Method, r.Path, r.Header, r.Body, diff)
	}
	codes[fmt.Sprint(r.Method, " ", got.Status)]++
	// What is stored as v1 is decoded at once for v1, and converted for v2.
	read := func(from *side, version string) answered {
		of := "/apis/example.com/" + version + "/namespaces/default/gears"
		a := p.answer(from, servertest.Request{Method: http.MethodGet, Path: of, Token: servertest.AdminToken}, "", false)
		a.Body = strings.ReplaceAll(a.Body, "example.com/v2", "example.com/v1")
		return a
	}
	there := read(p.theirs, "v2")
	for _, others := range []answered{read(p.theirs, "v1"), read(p.ours, "v1"), read(p.ours, "v2")} {
		if diff := differ(there, others); diff != "" {
			p.t.Fatalf("after %s %s %v\n%s\nthere is (-theirs +ours)\n%s", r.Method, r.Path, r.Header, r.Body, diff)
		}
	}
}

// fields are some of an object.
func (p *gearPlayer) fields() string {
	all := []string{
		`"color":"blue"`, `"color":"much too long"`, `"color":null`, `"replicas":3`, `"replicas":11`, `"replicas":-1`, `"replicas":"x"`, `"replicas":2.0`, `"ratio":1.0`, `"ratio":0.25`,
		`"either":"10%"`, `"either":5`, `"nothing":null`, `"free":{"a":[1,{"b":null}],"c":1e3}`, `"names":["x","y"]`, `"names":["x","x"]`, `"whole":{"a":"b"}`, `"whole":{"c":"d"}`,
		`"parts":[{"name":"p","size":3},{"name":"q"}]`, `"parts":[{"name":"p","note":"n"}]`, `"parts":[{"name":"p"},{"name":"p"}]`, `"parts":[{"size":1}]`, `"unknown":"x"`, `"color":"a","color":"b"`,
	}
	p.rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	out := `"spec":{` + strings.Join(all[:p.rng.Intn(4)], ",") + "}"
	return p.pick(out, out, out, out+`,"status":{"phase":"up"}`, out+`,"status":{"phase":"odd"}`, `"status":{"phase":"down","replicas":2}`, out+`,"unknown":{"a":1}`)
}

// answered is what is compared of an answer.
type answered struct {
	Status   int
	Type     string
	Body     string
	Warnings []string
}

// differ compares two answers. Entries of managedFields are in the order of their seconds, so that they may come in another
// order when a second ends between two requests.
func differ(want, got answered) string {
	diff := cmp.Diff(want, got)
	if diff == "" {
		return ""
	}
	for _, a := range []*answered{&want, &got} {
		lines := strings.FieldsFunc(a.Body, func(r rune) bool { return strings.ContainsRune("\n,[]{} ", r) })
		if strings.Contains(a.Body, "managedFields") {
			slices.Sort(lines)
		}
		a.Body = strings.Join(lines, "\n")
	}
	if cmp.Equal(want, got) {
		return ""
	}
	return diff
}

// own is what differs between the clusters, and between moments.
var own = regexp.MustCompile(`\\*"?(uid|resourceVersion|creationTimestamp|deletionTimestamp|time)\\*"?: ?\\*"[^"]*"|(uid|resourceVersion|creationTimestamp|deletionTimestamp|time): \S+|[0-9a-f]{8}-[0-9a-f-]{27}`)

// answer sends a request to a side. A revised one has the version of what is there.
func (p *gearPlayer) answer(to *side, r servertest.Request, one string, revised bool) answered {
	p.t.Helper()
	if revised {
		var there struct {
			Metadata struct{ ResourceVersion string }
		}
		if err := json.Unmarshal([]byte(to.send(servertest.Request{Method: http.MethodGet, Path: one, Token: servertest.AdminToken}).Body), &there); err != nil {
			p.t.Fatal(err)
		}
		r.Body = strings.Replace(r.Body, `"metadata":{`, fmt.Sprintf(`"metadata":{"resourceVersion":%q,`, there.Metadata.ResourceVersion), 1)
	}
	got := to.send(r)
	warned := slices.DeleteFunc(got.Header.Values("Warning"), func(w string) bool { return strings.Contains(w, "is deprecated") })
	body := own.ReplaceAllString(got.Body, "$1$2")
	if got.Status >= http.StatusBadRequest { // upstream tells of several errors in any order
		words := strings.FieldsFunc(strings.ReplaceAll(body, `\n`, " "), func(r rune) bool { return strings.ContainsRune(" \n,[]{}\"", r) })
		slices.Sort(words)
		body = strings.Join(words, " ")
		if strings.Contains(got.Body, "failed to create typed patch object") { // and of some of them, when a field is not declared
			body = "failed to create typed patch object"
		}
	}
	return answered{Status: got.Status, Type: got.Header.Get("Content-Type"), Body: body, Warnings: slices.Clip(append([]string{}, warned...))}
}
