#!/usr/bin/env bash
# Everything that can be wrong without running a test. All checks run; the exit code tells whether one failed.
. "$(dirname "$0")/env.sh"
load_postgres main
check_rust
cd "$REPO"

failed=0
check() { # WHAT COMMAND...
	local what=$1
	shift
	note "$what"
	"$@" || { failed=1 && echo "lint: $what failed" >&2; }
}

check rustfmt cargo fmt --all -- --check
check clippy pg_cargo clippy --workspace --all-targets -- -D warnings
if command -v shellcheck >/dev/null; then
	check shellcheck shellcheck --external-sources --source-path=SCRIPTDIR pgrx-tests/*.sh .ci/run
else
	note "shellcheck is not installed: skipped"
fi

# A module must stay readable in one sitting: 600 lines, and lib.rs below 100.
while read -r lines file; do
	limit=600
	[ "$file" != src/lib.rs ] || limit=99
	if [ "$lines" -gt "$limit" ]; then
		echo "lint: $file has $lines lines, $limit at most" >&2
		failed=1
	fi
done < <(find src -name '*.rs' -exec wc -l {} \;)
check SQL pgrx-tests/lint-sql.sh

[ "$failed" = 0 ] && echo "lint: clean"
exit "$failed"
