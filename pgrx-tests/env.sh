# shellcheck shell=bash
# Sourced by every script here. Says where things are and as whom servers run; creates nothing but the state directory.

set -euo pipefail

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)

die() { printf 'snapsync: %s\n' "$*" >&2; exit 1; }
note() { printf '\033[2m# %s\033[0m\n' "$*" >&2; }

# A server that sees RUST_BACKTRACE puts a backtrace into the DETAIL of every error. The caller's PG* variables would
# send psql and pg_regress to another server.
unset RUST_BACKTRACE PGHOST PGPORT PGUSER PGDATABASE PGPASSWORD PGSERVICE PGOPTIONS PGDATA MAKEFLAGS

command -v cargo >/dev/null || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

# Everything generated lives here, outside the repository: the repository may be in a place that the server's user
# cannot read. Short, because Unix socket paths end at 107 bytes.
SNAPSYNC_STATE=${SNAPSYNC_STATE:-${TMPDIR:-/tmp}/snapsync-$(id -u)-$(cksum <<<"$REPO" | cut -d' ' -f1)}
[ ${#SNAPSYNC_STATE} -le 60 ] || die "SNAPSYNC_STATE is too long for Unix sockets (60 bytes at most): $SNAPSYNC_STATE"

# PostgreSQL refuses to run as root.
SNAPSYNC_RUN_AS=${SNAPSYNC_RUN_AS:-}
if [ "$(id -u)" = 0 ] && [ -z "$SNAPSYNC_RUN_AS" ]; then
	if id postgres >/dev/null 2>&1; then SNAPSYNC_RUN_AS=postgres; else SNAPSYNC_RUN_AS=nobody; fi
fi

# Runs a command as the servers' user, from a directory that this user can enter.
as_server() {
	if [ -z "$SNAPSYNC_RUN_AS" ]; then
		(cd "$SNAPSYNC_STATE" && exec "$@")
	else
		(cd "$SNAPSYNC_STATE" && exec setpriv --reuid "$SNAPSYNC_RUN_AS" --regid "$(id -g "$SNAPSYNC_RUN_AS")" --init-groups "$@")
	fi
}

make_state() {
	mkdir -p "$(dirname "$SNAPSYNC_STATE")"
	[ -d "$SNAPSYNC_STATE" ] || (umask 022 && mkdir "$SNAPSYNC_STATE")
	# In a shared /tmp somebody else may have been quicker with that name.
	if [ ! -O "$SNAPSYNC_STATE" ] || [ -L "$SNAPSYNC_STATE" ]; then
		die "$SNAPSYNC_STATE belongs to somebody else; set SNAPSYNC_STATE"
	fi
	as_server test -x "$SNAPSYNC_STATE" || die "user $SNAPSYNC_RUN_AS cannot enter $SNAPSYNC_STATE; set SNAPSYNC_STATE"
}

# A PostgreSQL out of Python wheels: "PACKAGE VERSION PYTHON SHA256 DIRECTORY" of a part, if pgrx-tests/wheels has one for this machine.
wheel() { # MAJOR PART
	awk -v major="$1" -v part="$2" -v machine="$(uname -m)" \
		'$1 == major && $2 == machine && $3 == part { print $4, $5, $6, $7, $8; found = 1 } END { exit !found }' "$REPO/pgrx-tests/wheels"
}

wheel_pg_config() { # MAJOR
	local package version prefix
	read -r package version _ _ prefix < <(wheel "$1" server) && echo "$SNAPSYNC_STATE/$package-$version/$prefix/bin/pg_config"
}

# The PostgreSQL to build for: PG_CONFIG, else the newest major under /usr/lib/postgresql that has server headers; with PG, that
# major, from there or from a wheel.
find_pg_config() {
	local found major
	if [ -n "${PG_CONFIG:-}" ]; then
		command -v "$PG_CONFIG" >/dev/null || die "PG_CONFIG=$PG_CONFIG is not a program"
		# Debian's /usr/bin/pg_config is a wrapper: ask it for the real one.
		found=$("$PG_CONFIG" --bindir)/pg_config
		[ -x "$found" ] || found=$(command -v "$PG_CONFIG")
		[ -e "$("$found" --includedir-server)/postgres.h" ] || die "$found has no server headers (postgresql-server-dev)"
		echo "$found"
		return
	fi
	for major in ${PG:-18 17 16 15}; do
		found=/usr/lib/postgresql/$major/bin/pg_config
		if [ -x "$found" ] && [ -x "${found%/*}/postgres" ] && [ -e "$("$found" --includedir-server)/postgres.h" ]; then
			echo "$found"
			return
		fi
	done
	[ -n "${PG:-}" ] && found=$(wheel_pg_config "$PG") && [ -x "$found" ] && echo "$found"
}

# Sets REAL_PG_CONFIG, PG_MAJOR and the private tree's variables (pgrx-tests/private-postgres.sh fills the tree).
# With NAIVE there is a tree for each of these builds (see Cargo.toml). Otherwise there are two: "main" gets the release build, "pgtest" what cargo-pgrx installs (a debug build that is full of
# test functions, overwritten in place).
load_postgres() { # TREE
	REAL_PG_CONFIG=$(find_pg_config) || die "no PostgreSQL with server headers found; run pgrx-tests/setup.sh or set PG_CONFIG"
	PG_MAJOR=$("$REAL_PG_CONFIG" --version)
	PG_MAJOR=${PG_MAJOR#PostgreSQL }
	PG_MAJOR=${PG_MAJOR%%[!0-9]*}
	PG_FEATURE=pg$PG_MAJOR
	PRIVATE_ROOT=$SNAPSYNC_STATE/$PG_FEATURE-$1
	# Where the original directories have this prefix, the private tree has PRIVATE_ROOT.
	PG_PREFIX=$(common_prefix "$("$REAL_PG_CONFIG" --bindir)" "$("$REAL_PG_CONFIG" --sharedir)" "$("$REAL_PG_CONFIG" --pkglibdir)")
	# A wheel's programs find its libraries above that, relative to where they lie.
	case $PG_PREFIX in "$SNAPSYNC_STATE"/*/*/pginstall) PG_PREFIX=${PG_PREFIX%/*/*} ;; esac
	SNAPSYNC_PG_BIN=$(private_path "$("$REAL_PG_CONFIG" --bindir)")
	export SNAPSYNC_STATE SNAPSYNC_RUN_AS SNAPSYNC_PG_BIN
}

private_path() { echo "$PRIVATE_ROOT${1#"$PG_PREFIX"}"; }

common_prefix() {
	local prefix=$1 path
	for path in "$@"; do
		while [[ $path/ != "$prefix"/* ]]; do prefix=${prefix%/*}; done
	done
	[ -n "$prefix" ] || die "this PostgreSQL's directories have nothing in common; cannot relocate it"
	echo "$prefix"
}

extension_version() { sed -n '/^\[package\]/,/^\[/s/^version *= *"\(.*\)"/\1/p' "$REPO/Cargo.toml"; }

# Rust's pinned toolchain, or a default one that is new enough where the pin is not installed.
check_rust() {
	local pin wanted have
	command -v cargo >/dev/null || die "Rust is missing (cargo): install it with rustup, then try again"
	command -v rustup >/dev/null && [ -z "${RUSTUP_TOOLCHAIN:-}" ] || return 0
	pin=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$REPO/rust-toolchain.toml")
	compgen -G "${RUSTUP_HOME:-$HOME/.rustup}/toolchains/$pin*" >/dev/null && return 0
	rustup toolchain install "$pin" --profile minimal --component rustfmt,clippy >&2 && return 0
	wanted=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$REPO/Cargo.toml")
	have=$(cd / && rustc --version | cut -d' ' -f2) || have=0
	[ "$(printf '%s\n%s\n' "$wanted" "$have" | sort -V | head -n 1)" = "$wanted" ] ||
		die "Rust $pin cannot be installed, and the default toolchain ($have) is older than $wanted"
	note "Rust $pin cannot be installed; using the default toolchain ($have)"
	RUSTUP_TOOLCHAIN=$(cd / && rustup show active-toolchain | cut -d' ' -f1)
	export RUSTUP_TOOLCHAIN
}

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$REPO/target}

# cargo with the features for this PostgreSQL: `pg_cargo test --lib`. pgrx's build script runs again whenever
# PGRX_PG_CONFIG_PATH changes, so each profile always gets the same one: quick and release build the original (the headers
# are the same), development builds the pgtest tree, which `cargo pgrx test` cannot do without.
pg_cargo() {
	local command=$1 tree=$REAL_PG_CONFIG features=$PG_FEATURE
	shift
	if [[ " $* " != *" --profile "* ]]; then
		tree=$(private_tree pgtest)
		features="$PG_FEATURE pg_test"
	fi
	if [ -n "${NAIVE:-}" ]; then features+=" naive-${NAIVE//,/ naive-}"; fi
	(cd "$REPO" && PGRX_PG_CONFIG_PATH=$tree exec cargo "$command" --no-default-features --features "$features" "$@")
}

private_tree() { "$REPO/pgrx-tests/private-postgres.sh" "$1"; }
