#!/usr/bin/env bash
# Runs real clients, of Node, Python and Go, against a Larder that it starts: run.sh PATH-TO-LARDER
set -euo pipefail
larder=$(realpath "$1")
cd "$(dirname "$0")"
scratch=$(mktemp -d)
"$larder" dev --data-dir "$scratch" --http-addr 127.0.0.1:0 --redis-addr 127.0.0.1:0 >"$scratch/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT
for _ in $(seq 300); do [ -f "$scratch/dev.json" ] && break; sleep 0.1; done
fact() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' "$scratch/dev.json"; }
export LARDER_REDIS=$(fact redis) LARDER_REST=$(fact rest) LARDER_CACHE=$(fact cache) LARDER_KEY=$(fact api_key)
(cd golang && go test -count=1 ./...)
(cd node && npm ci --silent --no-audit --no-fund && node --test --test-force-exit)
python=/usr/bin/python3 # that of Debian's packages
"$python" python/clients.py
./memcached.sh "$larder"
