#!/usr/bin/env bash
# Builds the extension and installs it: no cargo-pgrx, just the library, the control file and the SQL files.
#   install.sh private [PROFILE]   into the private tree; the profile is quick, which the tests take, unless told otherwise
#   install.sh system              the release build, into PG_CONFIG's own directories; DESTDIR is honoured
. "$(dirname "$0")/env.sh"
tree=main${NAIVE:+-naive-$NAIVE}
load_postgres "$tree"
check_rust

profile=release
if [ "$1" = private ]; then profile=${2:-quick}; fi
pg_cargo build --profile "$profile" --lib >&2

as_root=()
case $1 in
private)
	target=$(private_tree "$tree")
	DESTDIR=
	;;
system)
	target=$REAL_PG_CONFIG
	if [ -z "${DESTDIR:-}" ] && [ ! -w "$("$target" --pkglibdir)" ]; then as_root=(sudo); fi
	;;
esac
libdir=${DESTDIR:-}$("$target" --pkglibdir)
extdir=${DESTDIR:-}$("$target" --sharedir)/extension
version=$(extension_version)

# By rename: a server that has the old library mapped keeps it whole. Unchanged files are left alone.
put() { # SOURCE DESTINATION MODE
	cmp -s "$1" "$2" && return
	"${as_root[@]}" install -D -m "$3" "$1" "$2.new.$$"
	"${as_root[@]}" mv -f "$2.new.$$" "$2"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# sql/NN_name.sql, in the order of the numbers, make the install script; sql/snapsync--A--B.sql are upgrade scripts.
find "$REPO/sql" -maxdepth 1 -name '[0-9]*_*.sql' -printf '%f\n' | sort -n | while read -r file; do
	cat "$REPO/sql/$file"
	echo
done >"$work/install.sql"
[ -s "$work/install.sql" ] || die "no sql/NN_name.sql files"
sed "s/@CARGO_VERSION@/$version/g" "$REPO/snapsync.control" >"$work/control"

put "$CARGO_TARGET_DIR/$profile/libsnapsync.so" "$libdir/snapsync.so" 755
put "$work/install.sql" "$extdir/snapsync--$version.sql" 644
for upgrade in "$REPO"/sql/snapsync--*--*.sql; do
	[ ! -e "$upgrade" ] || put "$upgrade" "$extdir/${upgrade##*/}" 644
done
# Last: from here on the new version is the default.
put "$work/control" "$extdir/snapsync.control" 644
[ "$1" = private ] || echo "snapsync $version is installed for $("$target" --version)"
