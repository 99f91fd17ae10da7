package storagetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"

	"github.com/rowlock-io/rowlock/storage"
)

// step is one call of a random run. It says nothing absolute: revisions are counted back from the head and keys are
// numbers, so that a step still means something when others are left out.
type step struct {
	Do      string // commit, get, list, changes, compact, head
	Replica int
	Ops     []stepOp `json:",omitempty"`
	Key     int      `json:",omitempty"`
	Sel     int      `json:",omitempty"`
	Back    int      `json:",omitempty"` // revisions before the head; -1: one behind it, in the future; 0 with get and list: now
	Limit   int      `json:",omitempty"`
}

type stepOp struct {
	Verb    storage.Verb
	Key     int
	Expect  string `json:",omitempty"` // "": what the key has; "stale": one less; "future": one more
	Value   int    `json:",omitempty"`
	Relaxed bool   `json:",omitempty"`
}

const scriptKeys = 12

// scriptKey spreads the keys over resources and namespaces whose names are prefixes of each other.
func scriptKey(i int) storage.Key {
	return storage.Key{
		Resource:  []string{"pods", "pods.x", "leases"}[i%3],
		Namespace: []string{"", "a", "a-b", "b"}[i%4],
		Name:      fmt.Sprintf("n%d", i%5),
	}
}

func scriptSelector(i int) storage.Selector {
	return []storage.Selector{
		{},
		{Resource: "pods"},
		{Resource: "leases", Namespace: "a"},
		{Resource: "pods", Namespace: "a-b"},
		{Namespace: "a"},
		{Resource: "pods.x", Name: "n1"},
	}[i%6]
}

// randomSteps makes a run that depends on the seed alone.
func randomSteps(seed uint64, n, replicas int) []step {
	r := rand.New(rand.NewPCG(seed, 0))
	out := make([]step, n)
	for i := range out {
		s := step{Replica: r.IntN(replicas)}
		switch p := r.IntN(100); {
		case p < 45:
			s.Do = "commit"
			// Either all relaxed or all durable, mostly.
			relaxed := r.IntN(2) == 0
			for _, key := range r.Perm(scriptKeys)[:1+r.IntN(4)] {
				op := stepOp{Verb: storage.Verb(1 + r.IntN(3)), Key: key, Value: r.IntN(1000), Relaxed: relaxed != (r.IntN(20) == 0)}
				switch r.IntN(8) {
				case 0:
					op.Expect = "stale"
				case 1:
					op.Expect = "future"
				}
				s.Ops = append(s.Ops, op)
			}
		case p < 60:
			s.Do, s.Key, s.Back = "get", r.IntN(scriptKeys), r.IntN(32)-1
		case p < 75:
			s.Do, s.Sel, s.Back, s.Limit = "list", r.IntN(6), r.IntN(32)-1, r.IntN(4)
		case p < 92:
			s.Do, s.Back, s.Limit = "changes", r.IntN(32)-1, r.IntN(6)
		case p < 95:
			s.Do, s.Back = "compact", r.IntN(40)-1
		default:
			s.Do = "head"
		}
		out[i] = s
	}
	return out
}

func formatScript(steps []step) []byte {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	for _, s := range steps {
		if err := enc.Encode(s); err != nil {
			panic(err) // numbers and strings always encode
		}
	}
	return out.Bytes()
}

func parseScript(text []byte) ([]step, error) {
	var out []step
	dec := json.NewDecoder(bytes.NewReader(text))
	for dec.More() {
		var s step
		if err := dec.Decode(&s); err != nil {
			return nil, fmt.Errorf("step %d: %w", len(out), err)
		}
		out = append(out, s)
	}
	return out, nil
}

// shrink leaves out what a failure does not need, in ever smaller pieces, for at most so many tries.
func shrink(steps []step, tries int, fails func([]step) bool) []step {
	for size := len(steps) / 2; size > 0; size /= 2 {
		for at := 0; at+size <= len(steps); {
			if tries--; tries < 0 {
				return steps
			}
			shorter := append(append([]step{}, steps[:at]...), steps[at+size:]...)
			if fails(shorter) {
				steps = shorter
			} else {
				at += size
			}
		}
	}
	return steps
}
