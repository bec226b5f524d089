#!/bin/sh
# A real cluster on this machine: three processes of `larder serve` in three zones, and one etcd, on loopback, to try what
# happens when one of them dies. Everything is below DIR (default ./larder-cluster); LARDER names the program.
#
#   local-cluster.sh start         certificates, etcd and the three nodes, as far as they do not run
#   local-cluster.sh start N       node N again
#   local-cluster.sh stop          all of it, orderly; what is in the caches is in memory, and gone with all three
#   local-cluster.sh stop N        node N, orderly
#   local-cluster.sh kill N        node N, as kill -9 does
#   local-cluster.sh restart       the nodes one after another, each when the one before has its data; nothing is lost
#   local-cluster.sh restart N     node N
#   local-cluster.sh status        what runs, and how the cluster is
#
# Node N serves HTTP on 127.0.0.1:808N, Redis on 127.0.0.1:638N, and other nodes on 127.0.0.1:794N. For an etcd of your own
# set ETCD=http://127.0.0.1:2379.
set -eu

DIR=${DIR:-larder-cluster}
LARDER=${LARDER:-$(command -v larder || echo bin/larder)}
ETCD=${ETCD:-}
ETCD_PORT=${ETCD_PORT:-2379}

die() { echo "local-cluster.sh: $*" >&2; exit 1; }

node() { # the number of a node, checked
	case ${1:-} in 1|2|3) ;; *) die "which node? 1, 2 or 3" ;; esac
}

pid() { cat "$DIR/$1.pid" 2>/dev/null || true; }

runs() { p=$(pid "$1"); [ -n "$p" ] && kill -0 "$p" 2>/dev/null; }

spawn() { # name, command...
	name=$1; shift
	nohup "$@" >"$DIR/$name.out" 2>>"$DIR/$name.log" </dev/null &
	echo $! >"$DIR/$name.pid"
}

await() { # name, a command that succeeds once it serves
	name=$1; shift
	tries=0
	until "$@" >/dev/null 2>&1; do
		runs "$name" || die "$name has ended: see $DIR/$name.log"
		tries=$((tries + 1))
		[ $tries -lt 300 ] || die "$name does not serve after 60 seconds: see $DIR/$name.log"
		sleep 0.2
	done
}

start_etcd() {
	[ -z "$ETCD" ] || return 0
	runs etcd && return 0
	spawn etcd "$LARDER" cluster etcd --data-dir "$DIR/etcd" --listen "127.0.0.1:$ETCD_PORT"
	await etcd test -s "$DIR/etcd.out"
}

start_node() {
	runs "n$1" && return 0
	spawn "n$1" "$LARDER" serve --name "n$1" --zone "zone-$1" --data-dir "$DIR/n$1" \
		--etcd "${ETCD:-http://127.0.0.1:$ETCD_PORT}" \
		--http-addr "127.0.0.1:808$1" --redis-addr "127.0.0.1:638$1" --peer-addr "127.0.0.1:794$1" \
		--peer-ca "$DIR/certs/ca.crt" --peer-cert "$DIR/certs/n$1.crt" --peer-key "$DIR/certs/n$1.key" \
		--operator-token-file "$DIR/operator-token" --drain-delay 1s
	await "n$1" curl -sf "http://127.0.0.1:808$1/readyz"
}

stop_one() { # name, signal
	runs "$1" || return 0
	p=$(pid "$1")
	kill "-$2" "$p"
	while kill -0 "$p" 2>/dev/null; do sleep 0.1; done
	rm -f "$DIR/$1.pid"
}

start() {
	"$LARDER" --version >/dev/null 2>&1 || die "there is no $LARDER: make build, or set LARDER"
	mkdir -p "$DIR"
	[ -f "$DIR/certs/n3.crt" ] || "$LARDER" cluster certs --dir "$DIR/certs" n1 n2 n3 >/dev/null
	start_etcd
	if [ $# -gt 0 ]; then
		node "$1"
		start_node "$1"
		return
	fi
	for n in 1 2 3; do start_node $n; done
	echo "Three nodes serve: HTTP on 127.0.0.1:8081 to 8083, Redis on 127.0.0.1:6381 to 6383."
	echo "The first operator's key is in $DIR/operator-token."
}

whole() { # every partition has all its replicas, and a leader
	for up in 1 2 3; do
		runs "n$up" || continue
		LARDER_URL="http://127.0.0.1:808$up" LARDER_API_KEY="$(cat "$DIR/operator-token")" "$LARDER" cluster status 2>/dev/null |
			grep -q ' 0 that lack a replica, 0 without a leader' && return 0
	done
	return 1
}

await_whole() {
	tries=0
	until whole; do
		tries=$((tries + 1))
		[ $tries -lt 300 ] || die "some partitions lack a replica after 60 seconds: see $0 status"
		sleep 0.2
	done
}

restart() {
	for which in "$@"; do
		await_whole
		stop_one "n$which" TERM
		start_node "$which"
		echo "n$which has restarted."
	done
	await_whole
}

status() {
	up=
	for name in etcd n1 n2 n3; do
		if runs $name; then
			echo "$name runs, process $(pid $name)"
			case $name in n?) up=${up:-${name#n}} ;; esac
		else
			echo "$name does not run"
		fi
	done
	[ -n "$up" ] || return 0
	export LARDER_URL="http://127.0.0.1:808$up" LARDER_API_KEY="$(cat "$DIR/operator-token")"
	"$LARDER" cluster status
	"$LARDER" cluster nodes
}

what=${1:-}
[ $# -eq 0 ] || shift
case $what in
start) start "$@" ;;
stop)
	if [ $# -gt 0 ]; then
		node "$1"
		stop_one "n$1" TERM
	else
		for name in n1 n2 n3 etcd; do stop_one $name TERM; done
	fi ;;
kill)
	node "${1:-}"
	runs "n$1" || die "n$1 does not run"
	stop_one "n$1" KILL ;;
restart)
	if [ $# -gt 0 ]; then
		node "$1"
		restart "$1"
	else
		restart 1 2 3
	fi ;;
status) status ;;
*) die "start, stop, kill, restart or status: see the top of this file" ;;
esac
