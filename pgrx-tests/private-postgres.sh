#!/usr/bin/env bash
# private-postgres.sh [TREE]: makes or refreshes a private copy of the PostgreSQL installation in the state directory,
# and prints its pg_config.
# PostgreSQL finds its share and lib directories relative to where its programs lie, as long as the layout below the
# common prefix stays the same. So: real copies of the programs (a symlink would be resolved to the original), real
# lib and share/extension directories that an extension can be installed into, symlinks for all the rest.
. "$(dirname "$0")/env.sh"
load_postgres "${1:-main}"
make_state

# Tiers that run at the same time must not make the same tree.
exec 9>"$SNAPSYNC_STATE/lock"
flock 9

postgres=$("$REAL_PG_CONFIG" --bindir)/postgres
stamp="$REAL_PG_CONFIG $("$REAL_PG_CONFIG" --version) $(stat -Lc '%Y %s' "$postgres") layout 1"
if [ "$(cat "$PRIVATE_ROOT/stamp" 2>/dev/null)" != "$stamp" ]; then
	new=$PRIVATE_ROOT.new.$$
	trap 'rm -rf "$new"' EXIT
	final=$PRIVATE_ROOT
	PRIVATE_ROOT=$new

	links() { # FROM: a real directory with a symlink to each entry of FROM
		mkdir -p "$(private_path "$1")"
		find "$1" -mindepth 1 -maxdepth 1 -exec ln -s -t "$(private_path "$1")" {} +
	}

	bindir=$("$REAL_PG_CONFIG" --bindir)
	mkdir -p "$(private_path "$bindir")"
	cp -L "$bindir"/* "$(private_path "$bindir")/"

	links "$("$REAL_PG_CONFIG" --pkglibdir)"
	links "$("$REAL_PG_CONFIG" --sharedir)"
	extensions=$("$REAL_PG_CONFIG" --sharedir)/extension
	rm -f "$(private_path "$extensions")"
	links "$extensions"

	# Whatever else pg_config names below the prefix, unless one of the above already brought it.
	for option in --includedir --pkgincludedir --includedir-server --libdir; do
		dir=$("$REAL_PG_CONFIG" "$option")
		if [ "${dir#"$PG_PREFIX"/}" != "$dir" ] && [ ! -e "$(private_path "$dir")" ] && [ -d "$dir" ]; then
			mkdir -p "$(dirname "$(private_path "$dir")")"
			ln -s "$dir" "$(private_path "$dir")"
		fi
	done

	# A wheel has the libraries of others beside the package.
	for dir in "$PG_PREFIX"/*.libs; do
		[ ! -d "$dir" ] || ln -s "$dir" "$(private_path "$dir")"
	done

	# An installed snapsync of the machine's own must not be what the tests test.
	rm -f "$(private_path "$extensions")"/snapsync* "$(private_path "$("$REAL_PG_CONFIG" --pkglibdir)")"/snapsync*

	echo "$stamp" >"$new/stamp"
	PRIVATE_ROOT=$final
	rm -rf "$final"
	mv "$new" "$final"

	for option in --bindir --sharedir --pkglibdir --includedir-server --pgxs; do
		case $("$SNAPSYNC_PG_BIN/pg_config" "$option") in
		"$PRIVATE_ROOT"/*) ;;
		*) die "the private copy of PostgreSQL is not relocated: pg_config $option says $("$SNAPSYNC_PG_BIN/pg_config" "$option")" ;;
		esac
	done
fi
echo "$SNAPSYNC_PG_BIN/pg_config"
