package storagetest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rowlock-io/rowlock/storage"
	"github.com/rowlock-io/rowlock/storage/memory"
)

// Set in the environment: the seed of the run, how many steps it has, or the file of a script to run instead.
const (
	seedEnv   = "ROWLOCK_MODEL_SEED"
	stepsEnv  = "ROWLOCK_MODEL_STEPS"
	scriptEnv = "ROWLOCK_MODEL_SCRIPT"
)

const modelReplicas = 3

// testModel makes random calls through several replicas and compares every answer with package memory's. A run that
// fails is shrunk and written to testdata/model-SEED.jsonl of the driver; what is there is run again every time.
func testModel(t *testing.T, newBackend func(testing.TB) Backend) {
	kept, err := filepath.Glob("testdata/model-*.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if file := os.Getenv(scriptEnv); file != "" {
		kept = []string{file}
	}
	for _, file := range kept {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := parseScript(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if err := runScript(t, newBackend, steps); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	if os.Getenv(scriptEnv) != "" {
		return
	}

	seed, err := strconv.ParseUint(os.Getenv(seedEnv), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	n, err := strconv.Atoi(os.Getenv(stepsEnv))
	if err != nil {
		n = 600
	}
	t.Logf("%s=%d %s=%d replays this run", seedEnv, seed, stepsEnv, n)
	steps := randomSteps(seed, n, modelReplicas)
	failure := runScript(t, newBackend, steps)
	if failure == nil {
		return
	}
	t.Errorf("seed %d: %v", seed, failure)
	small := shrink(steps, 200, func(s []step) bool { return runScript(t, newBackend, s) != nil })
	file := fmt.Sprintf("testdata/model-%d.jsonl", seed)
	if err := os.MkdirAll("testdata", 0o755); err == nil {
		err = os.WriteFile(file, formatScript(small), 0o644)
		t.Logf("shrunk to %d steps: %v (written to %s: error %v)", len(small), runScript(t, newBackend, small), file, err)
	}
}

// runScript runs steps on a fresh database and on the model, and says where they part.
func runScript(t testing.TB, newBackend func(testing.TB) Backend, steps []step) error {
	t.Helper()
	b := newBackend(t)
	db := memory.New()
	if err := db.CreateCluster(t.Context(), "model"); err != nil {
		t.Fatal(err)
	}
	model, err := db.OpenCluster(t.Context(), "model")
	if err != nil {
		t.Fatal(err)
	}
	r := &run{ctx: t.Context(), model: model}
	for range modelReplicas {
		r.replicas = append(r.replicas, b.Open(t))
	}
	for i, s := range steps {
		if err := r.step(s); err != nil {
			return fmt.Errorf("step %d, %s: %w", i, formatScript([]step{s}), err)
		}
	}
	return r.end()
}

// end compares all that is left.
func (r *run) end() error {
	for i := range r.replicas {
		for _, s := range []step{
			{Do: "list", Replica: i},
			{Do: "list", Replica: i, Back: 5, Limit: 2},
			{Do: "changes", Replica: i, Back: int(r.sinceFloor()), Limit: 3},
		} {
			if err := r.step(s); err != nil {
				return fmt.Errorf("at the end, %+v: %w", s, err)
			}
		}
	}
	return nil
}

func (r *run) sinceFloor() storage.Revision {
	head, err := r.model.Head(r.ctx)
	if err != nil {
		panic(err) // the model is open
	}
	floor, err := r.model.Floor(r.ctx)
	if err != nil {
		panic(err)
	}
	return head.Revision - floor
}
