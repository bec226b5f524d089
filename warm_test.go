package larder_test
import (
 _ "github.com/labstack/echo/v4"
 _ "github.com/golang-jwt/jwt/v5"
 _ "github.com/hashicorp/golang-lru/v2"
 _ "go.etcd.io/etcd/client/v3"
 _ "go.etcd.io/etcd/server/v3/embed"
 _ "github.com/swaggo/files/v2"
 _ "github.com/prometheus/client_golang/prometheus/promhttp"
 _ "github.com/spf13/cobra"
 _ "github.com/cockroachdb/datadriven"
 _ "pgregory.net/rapid"
 _ "go.uber.org/goleak"
 _ "github.com/go-json-experiment/json"
 _ "go.yaml.in/yaml/v3"
)
