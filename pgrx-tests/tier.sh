#!/usr/bin/env bash
# One tier of tests: tier.sh unit|pgtest|regress|isolation|e2e|e2e-short|clients|demo|demo-live|bench|faults|instructions [ARGUMENT...]
# T names a part of it: T=pull for a file of regress or isolation (several, separated by spaces), T="model-check --seed 7" for a
# program of e2e, T=cursor for unit tests with this in their name. ACCEPT=1 takes what regress and isolation print as expected.
. "$(dirname "$0")/env.sh"
case $1 in
bench) load_postgres main ;;
*) load_postgres "main${NAIVE:+-naive-$NAIVE}" ;;
esac
check_rust
here=$REPO/pgrx-tests
make_state

# The node modules, from the lock file, unless they are those already.
npm_modules() {
	local clients=$here/clients wanted headers lock
	# Two `npm ci` at once (a demo beside a test run) would delete each other's half-built modules.
	exec {lock}>"$clients/.npm.lock"
	flock "$lock"
	wanted="$(cksum <"$clients/package-lock.json") $(node --version)"
	if [ "$(cat "$clients/node_modules/.snapsync" 2>/dev/null)" = "$wanted" ]; then
		exec {lock}>&-
		return 0
	fi
	note "npm ci"
	# Where a package has no prebuilt binary, build it with the headers that came with this node, if they did.
	headers=$(node -p 'process.execPath.replace(/\/bin\/[^\/]*$/, "")')
	if [ -e "$headers/include/node/node.h" ]; then export npm_config_nodedir=$headers; fi
	(cd "$clients" && npm ci --no-audit --no-fund --loglevel=error >&2)
	echo "$wanted" >"$clients/node_modules/.snapsync"
	exec {lock}>&-
}

# cargo-pgrx of exactly pgrx's version, only for `#[pg_test]`. A debug build: it compiles in half the time.
cargo_pgrx() {
	local version root
	version=$(sed -n 's/^pgrx *= *.*"=\([0-9.]*\)".*/\1/p' "$REPO/Cargo.toml")
	root=$SNAPSYNC_STATE/cargo-pgrx-$version
	if [ ! -x "$root/bin/cargo-pgrx" ]; then
		note "installing cargo-pgrx $version"
		(cd "$REPO" && CARGO_PROFILE_DEV_DEBUG=none CARGO_TARGET_DIR=$root/target \
			cargo install --quiet --locked --debug cargo-pgrx --version "=$version" --root "$root" >&2)
		rm -rf "$root/target"
	fi
	echo "$root/bin"
}

# Runs pg_regress or pg_isolation_regress over all files, or those that T names, and prints the differences.
pg_regress() { # PROGRAM DIRECTORY EXTENSION
	local program out test tests result expected status=0
	program=$(dirname "$("$SNAPSYNC_PG_BIN/pg_config" --pgxs)")/../test/$1
	[ -x "$program" ] || die "$program is missing (Debian's package postgresql-client-$PG_MAJOR has it)"
	mapfile -t tests < <(find "$here/$2" -name "*.$3" -printf '%f\n' | sed "s/\.$3\$//" | LC_ALL=C sort)
	[ ${#tests[@]} -gt 0 ] || die "no *.$3 below pgrx-tests/$2"
	if [ -n "${T:-}" ]; then read -ra tests <<<"$T"; fi
	for test in "${tests[@]}"; do
		compgen -G "$here/$2/s*/$test.$3" >/dev/null || die "no test $test in pgrx-tests/$2"
	done
	# A test that is new has nothing expected yet; pg_regress would stop there.
	if [ "${ACCEPT:-}" = 1 ]; then (cd "$here/$2/expected" && touch -a "${tests[@]/%/.out}"); fi
	out=$SNAPSYNC_STATE/$2-results
	rm -rf "$out"
	mkdir -p "$out"
	# shellcheck disable=SC2016 # bash -c expands them
	"$here/cluster.sh" with "$2" bash -c '
		out=$1 && shift
		"$@" --host="$PGHOST" --port="$PGPORT" --user="$PGUSER" || { status=$?; cat "$out/regression.diffs"; exit "$status"; }
	' bash "$out" "$program" --inputdir="$here/$2" --outputdir="$out" --bindir="$SNAPSYNC_PG_BIN" \
		--dbname="snapsync_$2" --encoding=UTF8 "${tests[@]}" || status=$?
	if [ "${ACCEPT:-}" = 1 ]; then
		# Some tests have alternatives, NAME_1.out: what fits one of them is as expected.
		for result in "$out"/results/*.out; do
			expected=$here/$2/expected/$(basename "$result" .out)
			cmp -s "$result" "${expected}_1.out" || cp "$result" "$expected.out"
		done
		status=0
	fi
	return "$status"
}

case $1 in
unit)
	# #[pg_test] functions are tests::pg_NAME for cargo; they need a server, and are the next tier. Same build.
	# shellcheck disable=SC2086 # T may be several words
	pg_cargo test --lib -- --skip tests::pg_ ${T:-}
	;;
pgtest)
	PATH=$(cargo_pgrx):$PATH
	# The linker keeps pgrx's section of SQL metadata without the flags that would rebuild every dependency.
	export CARGO_PGRX_DISABLE_GC_SECTIONS_WORKAROUND=1
	export CARGO_PGRX_TEST_PGDATA=$SNAPSYNC_STATE/pgtest USER=${USER:-$(id -un)}
	rm -rf "$CARGO_PGRX_TEST_PGDATA"
	mkdir -p "$CARGO_PGRX_TEST_PGDATA"
	if [ -n "$SNAPSYNC_RUN_AS" ]; then
		# pgrx-tests calls sudo to become another user; root can do without it.
		shim=$SNAPSYNC_STATE/shim
		mkdir -p "$shim"
		cat >"$shim/sudo" <<-'SHIM'
			#!/bin/sh
			[ "$1" = -u ] || exec "$@"
			user=$2; shift 2
			exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups env "$@"
		SHIM
		chmod +x "$shim/sudo"
		PATH=$shim:$PATH
		export CARGO_PGRX_TEST_RUNAS=$SNAPSYNC_RUN_AS
		chown "$SNAPSYNC_RUN_AS" "$CARGO_PGRX_TEST_PGDATA"
	fi
	pg_cargo test --lib -- tests::pg_
	;;
regress)
	"$here/install.sh" private
	pg_regress regress/pg_regress regress sql
	;;
isolation)
	"$here/install.sh" private
	# Nobody need preload the library; here it is.
	SNAPSYNC_SETTING="shared_preload_libraries = 'snapsync'" pg_regress isolation/pg_isolation_regress isolation spec
	;;
e2e)
	"$here/install.sh" private
	cd "$REPO" || exit
	if [ -n "${T:-}" ]; then
		# shellcheck disable=SC2086 # a program and its arguments
		set -- $T
		exec cargo run --profile quick -p snapsync-e2e --bin "$1" -- "${@:2}"
	fi
	cargo test --profile quick -p snapsync-e2e -p snapsync-bench
	status=0
	mapfile -t programs < <(sed -n '/^\[\[bin\]\]/,/^$/s/^name = "\(.*\)"/\1/p' "$here/e2e/Cargo.toml")
	for program in "${programs[@]}"; do
		echo "--- $program"
		arguments=()
		# Here the same worlds every time; other seeds are for looking for more (docs/testing.md).
		if [ "$program" = rls-fuzz ]; then arguments=(--seed "${SNAPSYNC_SEED:-1}"); fi
		cargo run --quiet --profile quick -p snapsync-e2e --bin "$program" -- "${arguments[@]}" || status=1
	done
	# Faults that are planted into what tells of moved access, and into what it reads of access tables: it must notice them.
	for plant in keep-gained keep-lost forge-access "wrong-access-scope --own-members 1" "drop-access-scope --own-members 1"; do
		echo "--- rls-fuzz --plant $plant"
		read -ra arguments <<<"$plant"
		cargo run --quiet --profile quick -p snapsync-e2e --bin rls-fuzz -- --seed 1 --steps 20000 --plant "${arguments[@]}" || status=1
	done
	exit "$status"
	;;
faults)
	"$here/install.sh" private
	cd "$REPO" || exit
	exec cargo run --quiet --profile quick -p snapsync-e2e --bin faults -- "${@:2}"
	;;
e2e-short)
	# For another major: what reads policies, and what concurrency does.
	"$here/install.sh" private
	cd "$REPO" || exit
	cargo run --quiet --profile quick -p snapsync-e2e --bin rls-fuzz -- --seed "${SNAPSYNC_SEED:-1}" --steps 5000
	cargo run --quiet --profile quick -p snapsync-e2e --bin model-check -- --transactions 1000
	;;
clients)
	"$here/install.sh" private
	npm_modules
	cd "$here/clients" || exit
	# As by hand (clients/README.md); without a name, node finds all that are in test/.
	files=()
	# shellcheck disable=SC2086 # several names
	if [ -n "${T:-}" ]; then mapfile -t files < <(printf 'test/%s.test.mjs\n' $T); fi
	"$here/cluster.sh" with clients npm test --silent -- "${files[@]}"
	;;
demo)
	"$here/install.sh" private
	npm_modules
	cd "$here/clients" || exit
	"$here/cluster.sh" with demo npm run demo --silent
	;;
demo-live)
	"$here/install.sh" private
	npm_modules
	cd "$here/clients" || exit
	"$here/cluster.sh" with demo-live node live.mjs
	;;
bench | instructions)
	if [ "$1" = bench ] && [ -n "${NAIVE:-}" ]; then
		"$here/install.sh" private release
		SNAPSYNC_NAIVE_BIN=$(load_postgres "main-naive-$NAIVE" && echo "$SNAPSYNC_PG_BIN")
		export SNAPSYNC_NAIVE_BIN
	fi
	NAIVE='' "$here/install.sh" private release
	# Not before: the extension is measured as it is released.
	export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
	cd "$REPO" || exit
	cargo build --release -p snapsync-bench --bin "$1"
	arguments=()
	if [ "$1" = bench ]; then
		arguments=(--json "$CARGO_TARGET_DIR/bench.json" --markdown "$CARGO_TARGET_DIR/bench.md" --plots "$CARGO_TARGET_DIR/bench-plots")
	fi
	"$CARGO_TARGET_DIR/release/$1" "${arguments[@]}" "${@:2}"
	;;
*) die "no tier $1" ;;
esac
