#!/usr/bin/env bash
# Installs what is missing on a Debian or Ubuntu machine, as root or through sudo. Quiet and quick when nothing is.
#   setup.sh build          what building the extension takes, for `make install`: a C compiler, clang, Rust, the server's headers
#   setup.sh [PROGRAM...]   what tests and demos take besides: Node, the test programs of PostgreSQL, a server; and these programs, where
#                           the package has the program's name (chromium only if it can be had)
. "$(dirname "$0")/env.sh"
build_only=
[ "${1:-}" != build ] || { build_only=yes && shift; }

missing=()
need() { # PACKAGE... unless the command before them succeeds: `have cc || need build-essential`
	missing+=("$@")
}
have() { command -v "$1" >/dev/null; }

if ! have cc || ! have c++ || ! have make; then need build-essential; fi
have pkg-config || need pkg-config
if [ -z "$build_only" ]; then
	have python3 || need python3 # node-gyp, where an npm package has no prebuilt binary
	have setpriv || need util-linux
fi
# bindgen wants libclang and clang's own headers.
if [ -z "${LIBCLANG_PATH:-}" ]; then
	if ! have clang || ! compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null; then need clang libclang-dev; fi
fi

from_wheel=
if [ -n "${PG:-}" ] && [ -z "${PG_CONFIG:-}" ] && [ ! -x "/usr/lib/postgresql/$PG/bin/postgres" ] && wheel "$PG" server >/dev/null; then
	# pgrx-tests/wheel.sh brings it, at the end.
	from_wheel=$PG
	python3 -m pip --version >/dev/null 2>&1 || need python3-pip
	# 17's uses the system's.
	[ -d /usr/share/zoneinfo ] || need tzdata
elif ! pg_config=$(find_pg_config); then
	[ -z "${PG_CONFIG:-}" ] || exit 1
	# The one that was asked for, the distribution's default, or the headers for what is there already.
	major=${PG:-}
	[ -n "$major" ] || major=$(compgen -G '/usr/lib/postgresql/*/bin/postgres' | cut -d/ -f5 | sort -n | tail -n 1) || true
	need "postgresql-${major:-DEFAULT}" "postgresql-server-dev-${major:-DEFAULT}"
	[ -n "$build_only" ] || need postgresql-common "postgresql-client-${major:-DEFAULT}"
elif [ -n "$build_only" ]; then
	:
elif [ ! -x "$(dirname "$("$pg_config" --pgxs)")/../test/isolation/pg_isolation_regress" ]; then
	case $pg_config in
	/usr/lib/postgresql/*) need "postgresql-client-$(basename "${pg_config%/bin/pg_config}")" ;;
	*) note "$pg_config has no pg_isolation_regress beside its pgxs: make test's isolation tier will not run" ;;
	esac
fi

if [ -n "$build_only" ]; then
	:
elif have node; then
	have npm || need npm
	[ "$(node -p 'process.versions.node.split(".")[0]')" -ge 18 ] || die "node $(node --version) is too old: 18 or newer is needed"
else
	need nodejs npm
fi

rust=
if ! have cargo && ! have rustup; then
	rust=missing
	need rustup
fi

browser=
for program in "$@"; do
	if [ "$program" != chromium ]; then
		have "$program" || need "$program"
	elif [ -z "${CHROMIUM:-}" ] && ! have chromium && ! have chromium-browser && ! have google-chrome; then
		browser=missing
	fi
done

# Only `make lint` wants it, and says so where it is not there.
have shellcheck || [ -n "$build_only" ] || [ ${#missing[@]} = 0 ] || need shellcheck

sudo=()
[ "$(id -u)" = 0 ] || sudo=(sudo)
apt() { "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@" </dev/null >"$log" 2>&1; }
# (grep reads to the end: with -q the pipe could break, and that counts as a failure.)
candidate() { apt-cache policy "$1" 2>/dev/null | grep 'Candidate: [^(]' >/dev/null; }

if [ ${#missing[@]} -gt 0 ]; then
	have apt-get || die "missing: ${missing[*]} (Debian's names), and there is no apt-get here to install them"
	if [ ${#sudo[@]} -gt 0 ] && ! have sudo; then
		die "missing: ${missing[*]}. As root: apt-get install ${missing[*]//DEFAULT/15}"
	fi
	log=$(mktemp)

	compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt update
	if [[ " ${missing[*]} " = *DEFAULT* ]]; then
		major=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1)
		[ -n "$major" ] || die "this distribution has no package postgresql"
		missing=("${missing[@]//DEFAULT/$major}")
	fi
	if [ -n "$rust" ] && ! candidate rustup; then
		die "Rust is missing, and this distribution has no package rustup: install Rust with rustup (its own installer), then try again"
	fi
	note "installing ${missing[*]}"

	# A private cluster is all we use: do not leave a running "main" one behind. The setting goes again afterwards.
	skip=/etc/postgresql-common/createcluster.d/snapsync-setup.conf
	if [[ " ${missing[*]} " = *" postgresql-common "* ]] && [ ! -d /usr/lib/postgresql ]; then
		"${sudo[@]}" mkdir -p "${skip%/*}"
		echo 'create_main_cluster = false' | "${sudo[@]}" tee "$skip" >/dev/null
		trap '"${sudo[@]}" rm -f "$skip" "$log"' EXIT
	fi
	apt install --no-install-recommends "${missing[@]}" || { apt update && apt install --no-install-recommends "${missing[@]}"; } ||
		{ tail -n 30 "$log" >&2 && die "apt-get could not install: ${missing[*]}"; }
	rm -f "$log"
	hash -r
fi

# Without a browser its test is skipped, and says so.
if [ -n "$browser" ] && have apt-get && { [ ${#sudo[@]} = 0 ] || sudo -n true 2>/dev/null; }; then
	log=$(mktemp)
	compgen -G '/var/lib/apt/lists/*_Packages*' >/dev/null || apt update || true
	if candidate chromium; then
		note "installing chromium"
		apt install --no-install-recommends chromium || { apt update && apt install --no-install-recommends chromium; } ||
			note "chromium could not be installed: the browser test will be skipped"
	fi
	rm -f "$log"
fi

check_rust
[ -z "$from_wheel" ] || "$REPO/pgrx-tests/wheel.sh" "$from_wheel" >/dev/null
find_pg_config >/dev/null || die "no PostgreSQL with server headers, even after installing one"
