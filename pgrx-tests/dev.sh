#!/usr/bin/env bash
# The development cluster: dev.sh up | down. `up` ends with the URI of a superuser on database snapsync_dev.
. "$(dirname "$0")/env.sh"
load_postgres main
here=$REPO/pgrx-tests
dev=$SNAPSYNC_STATE/dev-$PG_FEATURE

case $1 in
up)
	"$here/install.sh" private
	"$here/cluster.sh" start "$dev"
	uri=$("$here/cluster.sh" socket-uri "$dev")
	psql=("$SNAPSYNC_PG_BIN/psql" --no-psqlrc --quiet --set ON_ERROR_STOP=1)
	if [ -z "$("${psql[@]}" --tuples-only "$uri" --command "SELECT 1 FROM pg_database WHERE datname = 'snapsync_dev'")" ]; then
		"${psql[@]}" "$uri" --command 'CREATE DATABASE snapsync_dev'
	fi
	script=$("$SNAPSYNC_PG_BIN/pg_config" --sharedir)/extension/snapsync--$(extension_version).sql
	uri=$("$here/cluster.sh" socket-uri "$dev" snapsync_dev)
	if [ -z "$("${psql[@]}" --tuples-only "$uri" --command "SELECT 1 FROM pg_extension WHERE extname = 'snapsync'")" ]; then
		"${psql[@]}" "$uri" --command 'CREATE EXTENSION snapsync'
		cksum <"$script" >"$dev/installed"
	elif [ "$(cksum <"$script")" != "$(cat "$dev/installed")" ]; then
		note "the install script has changed since this cluster was made; make down && make up brings the new one"
	fi
	"$here/cluster.sh" uri "$dev" snapsync_dev
	;;
down)
	# Of every major version that `up` was run for.
	for dev in "$SNAPSYNC_STATE"/dev-*; do
		if [ -d "$dev" ]; then "$here/cluster.sh" stop "$dev"; fi
	done
	;;
esac
