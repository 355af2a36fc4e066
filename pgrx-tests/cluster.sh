#!/usr/bin/env bash
# Private throwaway clusters, from the private copy of PostgreSQL.
#
#   cluster.sh start DIR [SETTING=VALUE...]   make (unless it is there) and start the cluster in DIR
#   cluster.sh stop DIR                       stop it and remove DIR
#   cluster.sh restart DIR [SETTING=VALUE...] restart it with the data it has
#   cluster.sh uri DIR [DATABASE]             a superuser's URI over TCP
#   cluster.sh socket-uri DIR [DATABASE]      the same over the Unix socket
#   cluster.sh with NAME COMMAND...           run COMMAND with a new cluster, and remove the cluster whatever happens
#
# `with` sets what SNAPSYNC_SETTING says (SETTING = VALUE), and gives COMMAND: PGHOST (socket directory), PGPORT, PGUSER, DATABASE_URL (TCP), SNAPSYNC_CLUSTER, SNAPSYNC_PG_BIN.
#
# Authentication: whoever may enter the socket's directory (mode 0700: the server's user, and root) is trusted. TCP on
# 127.0.0.1 is open to every local user, and a superuser may run programs as the server's user, so it wants the password,
# which the cluster draws at random.
. "$(dirname "$0")/env.sh"
load_postgres main
private_tree main >/dev/null

start() { # DIR [SETTING=VALUE...]
	local dir=$1 port try
	shift
	if [ ! -d "$dir/data" ]; then
		mkdir -p "$dir"
		(umask 077 && od -An -N16 -tx1 /dev/urandom | tr -d ' \n' >"$dir/password")
		[ -z "$SNAPSYNC_RUN_AS" ] || chown -R "$SNAPSYNC_RUN_AS:" "$dir"
		as_server mkdir -m 700 "$dir/socket"
		as_server "$SNAPSYNC_PG_BIN/initdb" --pgdata="$dir/data" --no-sync --encoding=UTF8 --locale=C.UTF-8 --username=postgres \
			--auth-local=trust --auth-host=scram-sha-256 --pwfile="$dir/password" >"$dir.initdb" 2>&1 ||
			{ cat "$dir.initdb" >&2 && die "initdb failed"; }
		mv "$dir.initdb" "$dir/initdb.log"
		as_server tee -a "$dir/data/postgresql.conf" >/dev/null <<-CONF
			listen_addresses = '127.0.0.1'
			unix_socket_directories = '$dir/socket'
			max_connections = 200
			max_prepared_transactions = 64
			wal_level = logical
			# Nothing in these clusters has to outlive a crash of the machine.
			fsync = off
			full_page_writes = off
			# What a test expects does not depend on where it runs.
			timezone = 'UTC'
			log_timezone = 'UTC'
			lc_messages = 'C'
			log_line_prefix = '%m [%p] %q%u@%d '
		CONF
	fi
	if [ $# -gt 0 ]; then printf "%s\n" "$@" | as_server tee -a "$dir/data/postgresql.conf" >/dev/null; fi
	if running "$dir"; then return; fi
	for try in 1 2 3 4 5 6 7 8 9 10; do
		port=$(free_port "$dir" "$try")
		as_server env -i PATH="$PATH" HOME="$SNAPSYNC_STATE" "$SNAPSYNC_PG_BIN/pg_ctl" start --pgdata="$dir/data" --log="$dir/log" \
			--wait --timeout=60 --silent -o "-p $port" >"$dir/pg_ctl.out" 2>&1 && break
		# Somebody may have taken the port in between.
		if [ "$try" = 10 ] || ! tail -n 5 "$dir/log" | grep -q 'could not create any TCP/IP sockets'; then
			cat "$dir/pg_ctl.out" >&2
			tail -n 20 "$dir/log" >&2
			die "PostgreSQL does not start in $dir"
		fi
	done
	echo "$port" >"$dir/port"
}

# The port that the cluster had before, else a free one below the range that the kernel gives to clients.
free_port() { # DIR TRY
	local port
	if [ "$2" = 1 ] && [ -s "$1/port" ]; then
		cat "$1/port"
		return
	fi
	while true; do
		port=$((15000 + RANDOM % 15000))
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}

running() { as_server "$SNAPSYNC_PG_BIN/pg_ctl" status --pgdata="$1/data" >/dev/null 2>&1; }

stop() { # DIR
	[ -d "$1" ] || return 0
	if running "$1"; then as_server "$SNAPSYNC_PG_BIN/pg_ctl" stop --pgdata="$1/data" --mode=immediate --silent; fi
	rm -rf "$1"
}

uri() { echo "postgresql://postgres:$(cat "$1/password")@127.0.0.1:$(cat "$1/port")/${2:-postgres}"; }

# Clusters whose script was killed before it could clean up.
sweep() {
	local dir
	for dir in "$SNAPSYNC_STATE"/run/*; do
		if [ -d "$dir" ] && ! kill -0 "${dir##*.}" 2>/dev/null; then stop "$dir"; fi
	done
}

with() { # NAME COMMAND...
	mkdir -p "$SNAPSYNC_STATE/run"
	sweep
	dir=$SNAPSYNC_STATE/run/$1.$$
	shift
	trap 'stop "$dir"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# Its visits would change where rows stand, and in which order they are updated.
	start "$dir" "autovacuum = off" ${SNAPSYNC_SETTING:+"$SNAPSYNC_SETTING"}
	PGHOST=$dir/socket PGPORT=$(cat "$dir/port") PGUSER=postgres DATABASE_URL=$(uri "$dir") SNAPSYNC_CLUSTER=$dir "$@"
}

command=${1:-help}
[ $# -lt 2 ] || shift
case $command in
start) start "$@" ;;
stop) stop "$1" ;;
restart)
	as_server "$SNAPSYNC_PG_BIN/pg_ctl" stop --pgdata="$1/data" --mode=fast --silent
	start "$@"
	;;
uri) uri "$@" ;;
socket-uri) echo "postgresql:///${2:-postgres}?host=$1/socket&port=$(cat "$1/port")&user=postgres" ;;
with) with "$@" ;;
*) sed -n '2,/^$/s/^# \{0,1\}//p' "$0" ;;
esac
