package server_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"k8s.io/kubernetes/pkg/api/legacyscheme"
)

// madeUp are the values that a server makes up or that tell where and when it runs, and what stands for them.
var madeUp = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`("(?:uid|resourceVersion|creationTimestamp|time|lastTransitionTime|continue|deletionTimestamp|token|expirationTimestamp|startTime)": ?)"[^"]*"`), `$1"*"`},
	{regexp.MustCompile(`((?:uid|resourceVersion|creationTimestamp|time): )"?[0-9a-fTZ:-]+"?`), `$1*`},
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), `UID`},
	{regexp.MustCompile(`20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), `TIME`},
	{regexp.MustCompile(`(resourceVersion\\+":\\+")\d+`), `${1}*`},
	{regexp.MustCompile(`\b[0-9]{1,3}(m[0-9]{1,2})?s\b`), `AGE`},
	{regexp.MustCompile(`"(?:[0-9]{1,3}y)?[0-9]{1,4}d"`), `"AGE"`}, // of a date in a script, in a table
	{regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`), `kube-api-access-*`},
	{regexp.MustCompile(`\bA_[a-z0-9]{5}\b`), `A_*`}, // generated after a prefix of the scripts
	{regexp.MustCompile(`Too large resource version: (\d+), current: \d+`), `Too large resource version: $1, current: *`},
	{regexp.MustCompile(`(ResourceVersion in record) \(\d+\)`), `$1 (*)`},
	{regexp.MustCompile(`Current time: [^"]*`), `Current time: *`},
	{regexp.MustCompile(`\b10\.(9[6-9]|1[01]\d)\.\d+\.\d+\b`), `SERVICE-IP`},
	{regexp.MustCompile(`"(nodePort|healthCheckNodePort)":3[0-9]{4}`), `"$1":30000`},
	{regexp.MustCompile(`https://kubernetes\.default\.svc(\.cluster\.local)?`), `ISSUER`},
	{regexp.MustCompile(`"manager":"rowlock[^"]*"|"manager":"kube-apiserver"`), `"manager":"SERVER"`},
	{regexp.MustCompile(`Key: (/registry)?/`), `Key: /`}, // where an object is kept is not for clients to know
	{regexp.MustCompile(`(127\.0\.0\.1|192\.0\.2\.\d+):\d+`), `ADDRESS`},
}

// canonical makes bodies of two servers comparable.
func canonical(body string) string {
	body = readable(body)
	for _, m := range madeUp {
		body = m.pattern.ReplaceAllString(body, m.with)
	}
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(body), "", " ") == nil {
		return indented.String()
	}
	return strings.TrimRight(body, "\n")
}

// owners finds the lists of field owners.
var owners = regexp.MustCompile(`"managedFields": ?\[`)

// inOrder sorts the lists of field owners in a canonical body. A server sorts them by the second of their last write
// first, so their order tells whether a second began between two requests.
func inOrder(body string) string {
	var out strings.Builder
	for {
		at := owners.FindStringIndex(body)
		if at == nil {
			out.WriteString(body)
			return out.String()
		}
		start := at[1] - 1 // of the list
		list := json.NewDecoder(strings.NewReader(body[start:]))
		var entries []json.RawMessage
		if list.Decode(&entries) != nil { // the text of something else
			out.WriteString(body[:at[1]])
			body = body[at[1]:]
			continue
		}
		slices.SortFunc(entries, func(a, b json.RawMessage) int { return bytes.Compare(a, b) })
		out.WriteString(body[:at[1]])
		for i, entry := range entries {
			if i > 0 {
				out.WriteString(",\n")
			}
			out.Write(entry)
		}
		out.WriteString("]")
		body = body[start+int(list.InputOffset()):]
	}
}

// readable turns protobuf into JSON.
func readable(body string) string {
	if !strings.HasPrefix(body, "k8s\x00") {
		if !utf8.ValidString(body) {
			return "(binary)"
		}
		return body
	}
	obj, _, err := legacyscheme.Codecs.UniversalDeserializer().Decode([]byte(body), nil, nil)
	if err != nil {
		return err.Error()
	}
	text, err := json.Marshal(obj)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestInOrder(t *testing.T) {
	t.Parallel()
	one := `{"metadata": {"managedFields": [{"manager": "b", "x": [1]}, {"manager": "a"}], "name": "n"}} {"managedFields":[{"c":1}]}`
	two := `{"metadata": {"managedFields": [{"manager": "a"}, {"manager": "b", "x": [1]}], "name": "n"}} {"managedFields":[{"c":1}]}`
	if inOrder(one) != inOrder(two) {
		t.Errorf("%s\n%s", inOrder(one), inOrder(two))
	}
	other := strings.Replace(two, `[1]`, `[2]`, 1)
	if inOrder(one) == inOrder(other) {
		t.Error("a difference within an entry was lost")
	}
	if got := inOrder(`"managedFields": [broken`); got != `"managedFields": [broken` {
		t.Error(got)
	}
}
