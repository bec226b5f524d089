module github.com/larder-cache/larder/sdk

go 1.25.0
