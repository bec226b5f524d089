#!/usr/bin/env bash
# Runs memcached's own tests and real clients against a Larder that it starts: memcached.sh PATH-TO-LARDER [MEMCACHED-SOURCES]
# It needs Debian's libmemcached-tools, python3-pymemcache and python3-pylibmc, and Go for gomemcache's own tests; for memcached's
# own tests its sources of 1.6.18 (apt-get source memcached), memcached and perl.
set -euo pipefail
larder=$(realpath "$1")
sources=${2:+$(realpath "$2")}
cd "$(dirname "$0")"
scratch=$(mktemp -d)
"$larder" dev --data-dir "$scratch" --http-addr 127.0.0.1:0 --redis-addr "" --memcache-addr 127.0.0.1:0 >"$scratch/log" 2>&1 &
server=$!
trap 'kill $server 2>/dev/null; wait $server 2>/dev/null || true; rm -rf "$scratch"' EXIT
for _ in $(seq 300); do [ -f "$scratch/dev.json" ] && break; sleep 0.1; done
fact() { sed -n 's/.*"'"$1"'":"\([^"]*\)".*/\1/p' "$scratch/dev.json"; }
open=$(fact memcache_open)
host=${open%:*} port=${open##*:}

for protocol in a b; do
	memccapable -h "$host" -p "$port" -"$protocol" >"$scratch/capable" || { cat "$scratch/capable"; exit 1; }
	! grep -q FAIL "$scratch/capable" || { cat "$scratch/capable"; exit 1; }
	echo "memccapable -$protocol: $(grep -c pass "$scratch/capable") passed"
done

# libmemcached's tools, one after the other, over both protocols
for protocol in "" --binary; do
	echo "a value" >"$scratch/item"
	memccp --servers="$open" $protocol "$scratch/item"
	[ "$(memccat --servers="$open" $protocol item)" = "a value" ]
	memctouch --servers="$open" $protocol --expire=100 item
	memcexist --servers="$open" $protocol item
	memcrm --servers="$open" $protocol item
	! memcexist --servers="$open" $protocol item 2>/dev/null
	memcping --servers="$open"
	memcstat --servers="$open" $protocol | grep -q curr_items
	memcflush --servers="$open" $protocol
	memcaslap --servers="$open" $protocol --execute_number=20000 --concurrency=8 --threads=2 >"$scratch/slap"
	grep -q "^Run time" "$scratch/slap"
	echo "libmemcached's tools ${protocol:---text}: passed"
done

export LARDER_MEMCACHE=$open LARDER_MEMCACHE_LOGIN=$(fact memcache) LARDER_CACHE=$(fact cache) LARDER_KEY=$(fact api_key)
/usr/bin/python3 python/memcached_clients.py

# gomemcache's own test of a server that runs already, at a port that is set here; its others start memcached by themselves
gomemcache=$(cd golang && go mod download -json github.com/bradfitz/gomemcache@v0.0.0-20260422231931-4d751bb6e37c | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')
cp -r "$gomemcache" "$scratch/gomemcache" && chmod -R u+w "$scratch/gomemcache"
sed -i "s/localhost:11211/$open/" "$scratch/gomemcache/memcache/memcache_test.go"
(cd "$scratch/gomemcache" && go test -count=1 -v -run 'TestLocalhost' ./memcache) >"$scratch/gomemcache.log" 2>&1 || { cat "$scratch/gomemcache.log"; exit 1; }
grep -q '^--- PASS: TestLocalhost' "$scratch/gomemcache.log" || { cat "$scratch/gomemcache.log"; exit 1; }
echo "gomemcache's own TestLocalhost: passed"

[ -n "$sources" ] || exit 0
# Those of the tests that make sense for a server that runs already. The others, and why not:
#   a server with options of its own, or a process to look at or end: 00-startup ascii-auth* binary-sasl (logins: this repository's
#     TestLogin and TestSecretsInClear do what they do) conn-limits daemonize dash-M dyn-maxbytes idle-timeout issue_67 issue_192 maxconns
#     misbehave quit restart shutdown ssl_* stats-conns udp
#   a client that speaks nothing but binary is told apart by its first byte, so garbage is text: issue_50
#   slabs, extents, the LRU, proxies, counters of memcached's insides: chunked-* *extstore* slab* proxy* lru* evictions item_size_max
#     refhang issue_14 issue_22 issue_42 issue_104 issue_108 issue_140 issue_163 issue_183 issue_260 issue_3 issue_41 issue_61
#     issue_68 issue_70 stats stats-detail 64bit multiversioning
tests="binary binary-get bogus-commands cas expirations flags flush-all getandtouch getset incrdecr issue_29 issue_152 line-lengths
	malicious-commands metaget noreply strtol-testing touch"
cp -r "$sources/t" "$sources/doc" "$scratch"
ln -s "$(command -v memcached)" "$scratch/memcached-debug" # is asked what it can do
cd "$scratch"
# Time passes by itself, not by a command of memcached's debugging build; values are as large as memcached's; and of two tests the
# end is about servers with options of their own: without flush_all, without CAS, with extents.
sed -i '/^sub mem_move_time/,/^}/{s/print $sock "debugtime.*/select(undef, undef, undef, $move + 0.1);/;/<$sock>;/d}' t/lib/MemcachedTest.pm
sed -i '/^# Test -F option/,$d; s/tests => 27/tests => 22/' t/flush-all.t
sed -i "s/^if (supports_extstore())/if (0)/" t/metaget.t
sed -i "s/is(1024, \$stats{'maxconns'})/ok(\$stats{'maxconns'})/" t/binary.t # as many as there may be files
LARDER_URL=$(fact http) LARDER_API_KEY=$(fact api_key) "$larder" cache update "$(fact cache)" --max-value 1MiB >/dev/null
for t in $tests; do
	printf 'flush_all\r\nquit\r\n' | perl -MIO::Socket::INET -e '$s=IO::Socket::INET->new(shift); print $s <STDIN>; print while <$s>' "$open" >/dev/null
	T_MEMD_USE_DAEMON=$open timeout 120 prove -I t/lib "t/$t.t" >"out" 2>&1 && echo "t/$t.t: passed" || { cat out; echo "t/$t.t: FAILED"; failed=1; }
done
exit "${failed:-0}"
