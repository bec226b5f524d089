# Larder. `make run` and `make test` need Go and nothing else.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD   := go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)"

STATICCHECK  := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME     ?= 1m

.PHONY: run test compat check race generate fresh bench bench-http bench-rest bench-redis bench-memcached bench-layouts bench-engine bench-engine-micro bench-hitratio bench-replication clients fuzz build clean

run: build ## start everything on this machine
	bin/larder dev

build: ## the binary, in bin/
	$(BUILD) -o bin/larder ./cmd/larder

test: ## all tests
	go test ./...
	cd sdk && go test ./...

compat: ## the same random commands to us and to a real redis-server and memcached, which must be installed
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

bench-replication: ## SETs through the log of three replicas, reads under the lease, and a failover
	go test ./replication -run TestRealFailover -v
	go test ./replication -run xxx -bench 'Replicated|Lease' -benchtime 100000x

bench-http: build ## server CPU of a GET beside a bare echo handler, as a ratio
	go run ./internal/bench/http

bench-rest: build ## a GET over the REST dialect beside Webdis before redis-server, as ratios
	go run ./internal/bench/rest

bench-redis: build ## the Redis endpoint beside redis-server: CPU per request, latency, idle connections; BENCH=-quick for a short look
	go run ./internal/bench/redis -page docs/reference/redis-benchmarks.md $(BENCH)

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
