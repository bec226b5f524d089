module github.com/larder-cache/larder/internal/bench/layouts

go 1.26.0

require (
	github.com/dchest/siphash v1.2.3
	github.com/larder-cache/larder v0.0.0
)

replace (
	github.com/larder-cache/larder => ../../..
	github.com/larder-cache/larder/sdk => ../../../sdk
)
