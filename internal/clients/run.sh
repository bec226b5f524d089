#!/usr/bin/env bash
# Runs real clients, of Node, Python and Go, against a Larder that it starts: run.sh PATH-TO-LARDER
set -euo pipefail
larder=$(realpath "$1")
cd "$(dirname "$0")"
python=/usr/bin/python3 # that of Debian's packages
lacks() { echo "make clients: $1" >&2; exit 1; }
command -v go >/dev/null || lacks "go is not installed"
command -v npm >/dev/null || lacks "npm is not installed (Debian: nodejs npm)"
node -e '[a, b] = process.versions.node.split("."); process.exit(a > 20 || a == 20 && b >= 14 ? 0 : 1)' || lacks "node 20.14 or later is not installed"
for module in redis celery rq; do
  "$python" -c "import $module" 2>/dev/null || lacks "$python has no module $module (Debian: python3-redis celery python3-rq)"
done
scratch=$(mktemp -d)
"$larder" dev --data-dir "$scratch" --http-addr 127.0.0.1:0 --redis-addr 127.0.0.1:0 >"$scratch/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT
for _ in $(seq 300); do [ -f "$scratch/dev.json" ] && break; sleep 0.1; done
[ -f "$scratch/dev.json" ] || { cat "$scratch/log" >&2; lacks "the server did not start within 30 s"; }
fact() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' "$scratch/dev.json"; }
export LARDER_REDIS=$(fact redis) LARDER_REST=$(fact rest) LARDER_CACHE=$(fact cache) LARDER_KEY=$(fact api_key)
(cd golang && go mod download) || lacks "the Go modules of internal/clients/golang cannot be had"
(cd golang && go test -count=1 ./...)
(cd node && npm ci --loglevel=error --no-audit --no-fund) || lacks "the packages of internal/clients/node cannot be had"
(cd node && node --test --test-force-exit)
"$python" python/clients.py
./memcached.sh "$larder"
