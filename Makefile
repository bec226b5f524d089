# Larder. `make run` and `make test` need Go and nothing else.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD   := go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

STATICCHECK  := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME     ?= 1m

.PHONY: run test compat check race generate fresh bench bench-http bench-snapshot bench-rest bench-redis bench-memcached bench-layouts bench-engine bench-engine-micro bench-hitratio bench-replication bench-durable test-durability bench-cluster test-cluster clients fuzz build clean

run: build ## start everything on this machine
	bin/larder dev

build: ## the binary, in bin/
	$(BUILD) -o bin/larder ./cmd/larder

test: ## all tests
	go test ./...
	cd sdk && go test ./...

compat: ## the same random commands to us and to a real redis-server and memcached, which must be installed; LARDER_REDIS_TIMES=4 for a million, LARDER_REDIS_SEED=n for others
	LARDER_REDIS=redis-server LARDER_MEMCACHED=memcached go test -count=1 -run 'Redis|AnswersAsMemcached|Migration' ./engine ./redisapi ./cmd/larder ./memcacheapi ./transfer

clients: build ## real client libraries and frameworks of Go, Node and Python; needs node, and Debian's python3-redis, celery, python3-rq, python3-pymemcache, python3-pylibmc and libmemcached-tools
	internal/clients/run.sh bin/larder

check: ## everything that must hold before a change lands
	@bad=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$bad" || { echo "not gofmt-ed: $$bad"; exit 1; }
	go vet ./...
	cd sdk && go vet ./...
	cd internal/bench/engine && go vet ./... && go test ./...
	cd internal/bench/hitratio && go vet ./...
	$(STATICCHECK) ./...
	cd sdk && $(STATICCHECK) ./...
	$(MAKE) fresh
	$(MAKE) race

race: ## all tests under the race detector; the engine has one goroutine, as package arrows sees to, and is there for its use of pointers
	go test -race $$(go list ./... | grep -v /larder/engine)
	go test -race -short -run 'Model|Agree' ./engine/...

generate: ## OpenAPI, SDK and reference pages from the code
	go generate ./docs
	gofmt -w sdk

fresh: ## fail if generated files are stale
	@before=$$(git ls-files -s -o --exclude-standard docs sdk | sha256sum; cat $$(git ls-files docs sdk) | sha256sum); \
	$(MAKE) --no-print-directory generate >/dev/null; \
	after=$$(git ls-files -s -o --exclude-standard docs sdk | sha256sum; cat $$(git ls-files docs sdk) | sha256sum); \
	test "$$before" = "$$after" || { echo "generated files were stale: run make generate and commit"; git status --short docs sdk; exit 1; }

bench: bench-http bench-redis bench-engine ## all benchmarks

test-cluster: build ## a real cluster under faults; CHAOS="-faults 200 -nodes 4 -seed 7 -durability durable", or CHAOS="-scenario rolling", etcd, join, grow, storm, "upgrade -before PROGRAM"
	go build -o bin/chaos ./internal/e2e/chaos
	bin/chaos -larder bin/larder -out bin/chaos-out $(CHAOS)

bench-cluster: build ## three processes beside redis-server with two replicas and WAIT 2; BENCH=-quick for a short look, BEFORE=a commit to compare a single node with
	$(if $(BEFORE),rm -rf bin/before && mkdir -p bin/before && git archive $(BEFORE) | tar -x -C bin/before && go build -C bin/before -o ../larder-before ./cmd/larder && rm -r bin/before)
	go run ./internal/bench/cluster $(if $(BEFORE),-before bin/larder-before) $(BENCH)

bench-replication: ## SETs through the log of three replicas, reads under the lease, and a failover
	go test ./replication -run TestRealFailover -v
	go test ./replication -run xxx -bench 'Replicated|Lease' -benchtime 100000x

bench-snapshot: build ## snapshot, restoration and branch of 5 million keys beside redis-server's BGSAVE and load, and SETs meanwhile; BENCH="-items 1000000" for a short look
	go run ./internal/bench/snapshot $(BENCH)

bench-http: build ## server CPU of a GET beside a bare echo handler, as a ratio
	go run ./internal/bench/http

bench-rest: build ## a GET over the REST dialect beside Webdis before redis-server, as ratios
	go run ./internal/bench/rest

bench-redis: build ## the Redis endpoint beside redis-server: CPU per request, latency, idle connections; BENCH=-quick for a short look
	go run ./internal/bench/redis -page docs/reference/redis-benchmarks.md $(BENCH)

bench-durable: build ## durable, async and memory caches beside redis-server with appendfsync always, as ratios
	go run ./internal/bench/durable

test-durability: ## 200 rounds of load on a durable cache, each ended by kill -9, 100 of one whose slots move, 100 of a cluster, durable and async, and 40,000 crashes of simulated disks
	LARDER_DURABILITY_ROUNDS=200 go test ./internal/e2e -run 'Test(Durability|DurabilityOfACluster|AsyncOfACluster|WhatIsWrittenDownMoves)$$' -count=1 -v -timeout 60m
	LARDER_SIM_SEEDS=1000 go test ./replication -run 'TestSimulated(Async)?Disasters' -count=1 -timeout 60m
	SEEDS=5000 go test ./internal/wal -run TestNothingThatWasSyncedIsLost -count=1 -timeout 60m

bench-engine: ## the engine beside libraries, redis-server and memcached; BENCH=-quick for a short look
	go build -C internal/bench/engine -o ../../../bin/bench-engine .
	bin/bench-engine $(BENCH)

bench-memcached: build ## server CPU per GET and SET beside memcached
	go run ./internal/bench/memcached

bench-engine-micro: ## the engine's operations, one by one
	go test -run '^$$' -bench . -benchmem ./engine ./engine/ranked ./engine/dense

bench-hitratio: ## eviction policies beside textbook ones and otter; TRACES=a folder of oltp.gz, loop.gz and gli.gz
	go build -C internal/bench/hitratio -o ../../../bin/bench-hitratio .
	bin/bench-hitratio $(if $(TRACES),-traces $(TRACES))

bench-layouts: ## where records lie: the engine's store beside size classes and a log
	go run ./internal/bench/layouts

fuzz: ## each fuzz target for FUZZTIME
	@for pkg in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; \
	done

clean:
	rm -rf bin
