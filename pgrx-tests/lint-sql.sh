#!/usr/bin/env bash
# Checks of the install script: the text, and what it makes in a database.
. "$(dirname "$0")/env.sh"
load_postgres main
cd "$REPO"
findings=$(mktemp)
trap 'rm -f "$findings"' EXIT

# Whoever owned an object of that name before would keep it, and with it what the extension runs.
grep -nHiE 'create[[:space:]]+or[[:space:]]+replace|if[[:space:]]+not[[:space:]]+exists' sql/[0-9]*_*.sql |
	sed 's/$/   <- plain CREATE only/' >>"$findings" || true

# Where its rows do not fit into memory each is compared with all: NOT EXISTS is a join.
grep -nHriE 'not[[:space:]]+in[[:space:]]*\([[:space:]]*select' --include='*.sql' --include='*.rs' sql src |
	sed 's/$/   <- NOT EXISTS/' >>"$findings" || true

# cargo-pgrx installs what lib.rs lists, make install what is in sql/: the same files, in the same order.
listed=$(sed -n 's/.*extension_sql_file!( *"[./]*sql\/\([^"]*\)".*/\1/p' src/lib.rs)
present=$(find sql -maxdepth 1 -name '[0-9]*_*.sql' -printf '%f\n' | sort -n)
if [ "$listed" != "$present" ]; then
	printf 'src/lib.rs lists other SQL files than there are in sql/:\n%s\n' "$(diff <(echo "$listed") <(echo "$present"))" >>"$findings"
fi

pgrx-tests/install.sh private
pgrx-tests/cluster.sh with lint "$SNAPSYNC_PG_BIN/psql" --no-psqlrc --quiet --tuples-only --no-align --set ON_ERROR_STOP=1 \
	--file=pgrx-tests/lint.sql >>"$findings"

cat "$findings" >&2
[ ! -s "$findings" ]
