#!/usr/bin/env bash
# test.sh TIER... [+ TIER...]: runs tiers in lanes (what stands between two + is one lane; lanes run at the same time),
# prints each tier's output when it has ended, then a summary, and last the number of tests.
. "$(dirname "$0")/env.sh"
load_postgres main
make_state
private_tree main >/dev/null
check_rust

logs=$SNAPSYNC_STATE/logs${PG:+-pg$PG}
rm -rf "$logs"
mkdir -p "$logs"

# "PASSED FAILED" from the closing lines of the runners: cargo, pg_regress (up to 15, and from 16 on), node, our own.
count_tests() {
	sed 's/\x1b\[[0-9;]*m//g' "$1" | awk '
		/^test result: / { gsub(/[^0-9]+/, " "); split($0, n, " "); passed += n[1]; failed += n[2] }
		/^ *All [0-9]+ tests passed/ { passed += $2 }
		/^# All [0-9]+ tests passed/ { passed += $3 }
		/^#? *[0-9]+ of [0-9]+ tests failed/ { sub(/^#? */, ""); passed += $3 - $1; failed += $1 }
		/^(# |ℹ )pass [0-9]+$/ { passed += $3 }
		/^(# |ℹ )fail [0-9]+$/ { failed += $3 }
		/^([A-Za-z0-9_-]+: )?[0-9]+ passed, [0-9]+ failed/ { sub(/^[A-Za-z0-9_-]+: /, ""); passed += $1; failed += $3 }
		END { print passed + 0, failed + 0 }'
}

run_lane() {
	local tier begin status passed failed
	for tier in "$@"; do
		begin=$SECONDS
		status=0
		"$REPO/pgrx-tests/tier.sh" "$tier" >"$logs/$tier.log" 2>&1 </dev/null || status=$?
		read -r passed failed < <(count_tests "$logs/$tier.log")
		if [ "$status" != 0 ] && [ "$failed" = 0 ]; then failed=1; fi
		# A tier that ran nothing has tested nothing.
		if [ "$status" = 0 ] && [ $((passed + failed)) = 0 ]; then
			echo "snapsync: this tier ran no test" >>"$logs/$tier.log"
			failed=1
		fi
		if [ "$status" = 0 ] && [ "$failed" != 0 ]; then status=1; fi
		printf '%s %s %s %s %s\n' "$tier" "$status" "$((SECONDS - begin))" "$passed" "$failed" >"$logs/$tier.result.new"
		# One writer at a time on the terminal.
		(
			flock 8
			printf '\n===== %s =====\n' "$tier"
			if [ "$status" = 0 ]; then tail -n 25 "$logs/$tier.log"; else tail -n 400 "$logs/$tier.log"; fi
		) 8>"$logs/terminal.lock"
		mv "$logs/$tier.result.new" "$logs/$tier.result"
	done
}

# Once, or bash would signal itself for ever.
trap 'trap - INT TERM HUP; kill 0' INT TERM HUP
tiers=()
lane=()
for tier in "$@" +; do
	if [ "$tier" != + ]; then
		tiers+=("$tier")
		lane+=("$tier")
	elif [ ${#lane[@]} -gt 0 ]; then
		run_lane "${lane[@]}" &
		lane=()
	fi
done
note "running ${tiers[*]}; the logs are in $logs"
wait

printf '\n%-10s %-7s %8s %7s %7s\n' tier result seconds passed failed
all_passed=0
all_failed=0
for tier in "${tiers[@]}"; do
	name=$tier status=1 seconds=0 passed=0 failed=1
	[ ! -e "$logs/$tier.result" ] || read -r name status seconds passed failed <"$logs/$tier.result"
	printf '%-10s %-7s %8s %7s %7s\n' "$name" "$([ "$status" = 0 ] && echo ok || echo FAILED)" "$seconds" "$passed" "$failed"
	all_passed=$((all_passed + passed))
	all_failed=$((all_failed + failed))
done
printf 'all        %15s\n\n%s passed, %s failed\n' "$SECONDS" "$all_passed" "$all_failed"
[ "$all_failed" = 0 ]
