package write

import (
	"encoding/json"
	"math/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestPlainJSON: what is taken is what upstream's parser makes of it, strictly too; what programs send is taken.
func TestPlainJSON(t *testing.T) {
	t.Parallel()
	for text, taken := range map[string]bool{
		`{}`:                          true,
		`{"a":{"b":[1,-2,{"c":[]}]}}`: true,
		"{\n  \"a\": [ 1, 2 ],\n  \"b\": null, \"c\":true}\n": true,
		`{"a":"x: y # z","b":"\"\\\n\t\u003c"}`:               true,
		`{"123":"456","true":false}`:                          true,
		`{"a":9223372036854775807}`:                           false,
		`{"a":922337203685477580}`:                            true,
		`{"a":1,"a":2}`:                                       false,
		`{"<<":{"a":1}}`:                                      false,
		`{"a":1.0}`:                                           false,
		`{"a":1e3}`:                                           false,
		`{"a":-0}`:                                            false,
		`{"a":012}`:                                           false,
		`{"a":"é"}`:                                           false,
		`{"a":"\ud83d\ude00"}`:                                false,
		`{"a":"\/"}`:                                          false,
		"{\"a\":\"x\ny\"}":                                    false,
		"{\t\"a\":1}":                                         false,
		`{"a":1} x`:                                           false,
		`{"a":1}: 2`:                                          false,
		`[1]`:                                                 false,
		`a: 1`:                                                false,
		``:                                                    false,
		`{"a":1,}`:                                            false,
		`{"` + strings.Repeat("k", 2000) + `":1}`:                           false,
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`: false,
	} {
		if got := samePlain(t, []byte(text)); got != taken {
			t.Errorf("%s: taken %v, want %v", text, got, taken)
		}
	}
}

// samePlain fails when what is read differs from upstream's; it tells whether something was read.
func samePlain(t *testing.T, data []byte) bool {
	t.Helper()
	got, ok := plainJSON(data)
	if !ok {
		return false
	}
	want, strict := map[string]any{}, map[string]any{}
	if err := yaml.Unmarshal(data, &want); err != nil {
		t.Fatalf("%q: upstream refuses it: %v", data, err)
	}
	if err := yaml.UnmarshalStrict(data, &strict); err != nil {
		t.Fatalf("%q: upstream warns of it: %v", data, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("%q (-upstream +ours):\n%s", data, diff)
	}
	return true
}

// FuzzPlainJSON reads JSON, and what is near to it, as upstream does.
func FuzzPlainJSON(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,-2,"x: y",{"c":null}]},"d":true}`))
	f.Add([]byte("{\"a\": [1 , 2],\n \"b\" : \"\\u0041\\n\"}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		samePlain(t, data)
		var tree any
		if json.Unmarshal(data, &tree) == nil {
			again, err := json.Marshal(tree)
			if err != nil {
				t.Fatal(err)
			}
			samePlain(t, again)
		}
	})
}

// TestPlainJSONRandom breaks JSON at random places.
func TestPlainJSONRandom(t *testing.T) {
	t.Parallel()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewSource(seed))
	const good = `{"a":{"b":[1,-2,"x: y # z",{"c":null}]},"d":true,"e":"\"q\\\n\u0041","f":[],"g":{}, "h":false,"k":[[0,10],[" "]]}`
	const bits = "{}[]:,\"\\ \n\t'#-!&*?|>%@`0123456789aeuntrf<.~"
	taken := 0
	for range 3000 {
		data := []byte(good)
		for range rng.Intn(3) {
			at := rng.Intn(len(data))
			switch c := bits[rng.Intn(len(bits))]; rng.Intn(3) {
			case 0:
				data[at] = c
			case 1:
				data = slices.Insert(data, at, c)
			default:
				data = slices.Delete(data, at, at+1)
			}
		}
		if samePlain(t, data) {
			taken++
		}
	}
	if taken < 500 {
		t.Errorf("%d were taken: the test shows little", taken)
	}
}
