# Every target is a command or two that also work by hand. CONTRIBUTING.md says how long they take.

# The linter is built by its own module's versions, so it adds nothing to go.mod.
LINT = go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

# What links nothing of Kubernetes is cheap to compile once more for the race detector. Everything else is tested
# without it by "make test", and with it by "make race".
LEAN = ./storage/... ./server/seal

FUZZTIME = 30s

# What CI fuzzes, for FUZZTIME_CI each.
FUZZ_CI = server:FuzzPaths server:FuzzPatches server:FuzzProtobuf server:FuzzYAML server/read:FuzzSelectors server/read:FuzzContinue
FUZZTIME_CI = 20s

.PHONY: build run deps test lint vet unit test-postgres race race-lean conformance images nodes-long nodes-kill fuzz fuzz-ci e2e e2e-nodes e2e-sample bench bench-parts bench-crds bench-scale bench-growth election

build:
	go build -ldflags "-s -w" -o bin/rowlock ./cmd/rowlock

run: build
	bin/rowlock up

# A C compiler, Postgres and what nodes are tested with from Debian's packages, where they are missing.
deps:
	.ci/deps

# All that CI runs. What go test would vet, with every package of Kubernetes for it, the linter has vetted.
test: deps build lint race-lean unit conformance e2e-sample fuzz-ci

lint:
	$(LINT) ./...
	cd conformance && $(LINT) ./...

vet:
	go vet ./...
	cd conformance && go vet ./...

race-lean:
	go test -vet=off -race -p 2 -timeout 15m $(LEAN)

unit:
	go test -vet=off -p 2 -timeout 15m $$(go list ./... | grep -vE '/rowlock/(storage|server/seal)')

test-postgres:
	ROWLOCK_TEST_POSTGRES=require go test -p 2 -timeout 15m ./storage/postgres/... ./schema/adapter

race:
	go test -race -p 2 -timeout 30m ./...

# Not from the test cache: it does not see that the binary changed.
conformance: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test -vet=off -count=1 -p 2 -timeout 15m ./...

# All images that Kubernetes' tests of containers use: what takes long to build stays in the user's cache directory.
images:
	cd conformance && ROWLOCK_TEST_NODES=require go test ./noderuntime -vet=off -count=1 -v -timeout 90m -run '^TestImages$$' -args -all-images

# Nodes on bad days, for many minutes, and what kubectl does with them less often: hostile pods, reboots, full disks, runtimes that hang, servers that are away.
nodes-long: build
	cd conformance && ROWLOCK_TEST_NODES=require ROWLOCK_NODES_LONG=1 ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test -vet=off -count=1 -v -timeout 60m ./nodes

# An agent that is killed at random moments, KILLS times or a few more. ROWLOCK_NODES_SEED repeats a run.
KILLS = 20
nodes-kill: build
	cd conformance && ROWLOCK_TEST_NODES=require ROWLOCK_NODES_KILLS=$(KILLS) ROWLOCK_BINARY=$(CURDIR)/bin/rowlock \
		go test -vet=off -count=1 -v -timeout 120m ./nodes -run 'TestKills$$'

fuzz:
	grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sed -E 's|^(.*)/[^/]*:func (.*)$$|\1 \2|' | \
	while read -r dir name; do go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) "$$dir" || exit 1; done

fuzz-ci:
	FUZZTIME=$(FUZZTIME_CI) .ci/fuzz $(FUZZ_CI)

# Upstream's end-to-end tests: all that ever passed, or a sample of them. The sample is the one of the seed, the same each
# time; E2E_SEED=0 draws another one.
E2E = cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./e2e -vet=off -count=1 -v -timeout 150m -run '^TestRun$$' -args
E2E_SAMPLE = 12
E2E_SEED = 1

e2e: build
	$(E2E) -passed

# Those that need containers, on machines of namespaces with a real runtime; as root. FOCUS and SKIP are expressions for full names.
PROCS = 10

e2e-nodes: build
	$(E2E) -group=containers $(if $(FOCUS),-focus='$(FOCUS)',-passed) $(if $(SKIP),-skip='$(SKIP)') -procs=$(PROCS) -limit=90m

e2e-sample: build
	$(E2E) -sample=$(E2E_SAMPLE) -seed=$(E2E_SEED) -limit=8m

# Servers that act are killed, stopped and halted, and their database is restarted, at random moments.
ROUNDS = 30
SEED = 0

election: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./election -count=1 -v -timeout 60m -run '^TestOneActs$$' -args -rounds=$(ROUNDS) -seed=$(SEED)

# What hundreds of large CustomResourceDefinitions cost: memory, CPU, and the latency of another client meanwhile.
CRDS = 500

bench-crds: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./crds -run '^$$' -bench . -benchtime $(CRDS)x -timeout 60m

# A whole cluster at work beside etcd, kube-apiserver, kube-controller-manager and kube-scheduler: pods a second, memory,
# CPU, and the latency of another client meanwhile. About 13 minutes for both sizes; it wants the machine for itself.
SIZES = 100:1000,1000:10000
SETUPS =

bench-scale: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./scale -run '^$$' -bench . -benchtime 1x -timeout 60m -args -sizes=$(SIZES) -setups=$(SETUPS)

# How cost grows with what a server holds: memory, lists, watches, writes, a restart, compaction, the database. A million
# ConfigMaps take about a quarter of an hour and 6 GB of disk below TMPDIR.
GROWTH = 10000,100000,1000000,pods:30000
TARGET = sqlite
SERVER_FLAGS =
PROFILES =

bench-growth: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./growth -run '^$$' -bench . -benchtime 1x -timeout 3h -args \
		-sizes=$(GROWTH) -target=$(TARGET) -flags='$(SERVER_FLAGS)' -profiles=$(PROFILES)

# What a node costs: the agent beside the stock kubelet, in turn, on the same containerd: memory, CPU, how long pods take to start. It
# takes root and what nodes are tested with, and ten minutes.
NODE_ROUNDS = 2
NODE_FLAGS =

.PHONY: bench-nodes
bench-nodes: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock ROWLOCK_TEST_NODES=require go test ./cost -vet=off -run '^$$' -bench . -benchtime 1x -timeout 30m -args \
		-rounds=$(NODE_ROUNDS) $(NODE_FLAGS)

# Rowlock beside kube-apiserver on etcd and on kine under one load, in turn. BENCH is where the load generator's source is.
BENCH = $(CURDIR)/../shared/bench/loadgen
BENCH_ROUNDS = 3
BENCH_SETUPS =

bench: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./bench -run '^$$' -bench . -benchtime 1x -timeout 5h -args \
		-load=$(BENCH) -rounds=$(BENCH_ROUNDS) -setups=$(BENCH_SETUPS)

# Several servers on one Postgres: what they write together, and how long after a write on one the watchers of the others
# see it. REPLICAS says how many, RATES how many writes a second (0: as many as there can be). Two minutes.
REPLICAS = 1,3,10
RATES = 100,1000,0

bench-replicas: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock go test ./replicas -run '^$$' -bench . -benchtime 1x -timeout 30m -args \
		-replicas=$(REPLICAS) -rates=$(RATES)

# The benchmarks of the parts, with what they allocate.
bench-parts:
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 60m ./...

# Nodes with another container runtime than CI's: crio (CRI-O, 4 minutes to build at first; it runs with Debian's conmon) or
# containerd-1.6 (Debian 12's, with its runc). Needs root.
.PHONY: nodes
RUNTIME = containerd

nodes: build
	cd conformance && ROWLOCK_BINARY=$(CURDIR)/bin/rowlock ROWLOCK_TEST_NODES=require ROWLOCK_TEST_RUNTIME=$(RUNTIME) \
		go test -vet=off -count=1 -p 1 -timeout 30m ./noderuntime ./nodes
