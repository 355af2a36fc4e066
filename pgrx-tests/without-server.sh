#!/usr/bin/env bash
# without-server.sh PROGRAM ARGS...: runs a program that was linked without PostgreSQL's symbols (see .cargo/config.toml).
# Each of them becomes a label on zeros: reading one gives zeros, calling one ends the program (SIGSEGV).
set -euo pipefail
# Symbols of libc and the like carry a version (@GLIBC...); PostgreSQL's do not.
mapfile -t symbols < <(nm --dynamic --undefined-only "$1" | awk '$1 == "U" && $2 !~ /@/ { print $2 }')
[ ${#symbols[@]} -gt 0 ] || exec "$@"
work=$(mktemp -d)
{
	echo '.data'
	echo '.balign 64'
	for symbol in "${symbols[@]}"; do printf '.globl %s\n.type %s, %%object\n%s:\n' "$symbol" "$symbol" "$symbol"; done
	echo '.zero 65536'
} >"$work/server.s"
cc -shared -nostdlib -o "$work/server.so" "$work/server.s"
# Through the loader, as children must not inherit an LD_PRELOAD.
status=0
"$(readelf --string-dump=.interp "$1" | sed -n 's/^ *\[ *0\] *//p')" --preload "$work/server.so" "$@" || status=$?
rm -rf "$work"
exit "$status"
