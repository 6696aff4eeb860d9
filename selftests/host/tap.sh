# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
#
# TAP of many programs on many hosts into one. Between the two halves goes one line per test point, "ok", "not ok" or "skip",
# a tab and a text; diagnostics are "#", a tab and the text.

emit() { printf '%s\t%s\n' "$1" "$2"; }

# tap_collect WHERE DONE: reads runtests' output; a program's lines come out in one piece when it has ended, and its name goes
# to the file DONE. What a program gets wrong as a whole (no plan, a count that differs, a status that contradicts its points,
# a reference to the module that stays) is a point, too.
tap_collect() {
	local where=$1 finished=$2 line rest name='' lines='' plan=-1 points=0 bad=0 skips=0 why='' status leak seconds
	point() { lines+="$1"$'\t'"$name: $2 ($where)"$'\n'; }
	note() { lines+="#"$'\t'"$1"$'\n'; }
	pour() {
		flock "$TAP_LOCK" printf %s "$lines"
		lines=''
	}
	while IFS= read -r line || [ -n "$line" ]; do
		line=${line%$'\r'}
		case $line in
		'%%% begin '*)
			name=${line#%%% begin } plan=-1 points=0 bad=0 skips=0 why='' lines=''
			continue
			;;
		'%%% end '*)
			read -r _ _ _ status leak seconds <<<"$line"
			if [ "$status" = 4 ] && [ "$points" = 0 ]; then
				point skip "all of it${why:+, $why}"
			elif [ "$plan" -lt 0 ]; then
				point "not ok" "ended without a plan, status $status"
			elif [ "$plan" != "$points" ]; then
				point "not ok" "planned $plan points, made $points, status $status"
			elif [ "$status" = 4 ] && [ "$skips" = "$points" ]; then
				: # each of its points says why it was skipped
			elif [ "$status" != 0 ] && [ "$bad" = 0 ]; then
				point "not ok" "status $status without a failed point"
			elif [ "$status" = 0 ] && [ "$bad" != 0 ]; then
				point "not ok" "status 0 in spite of failed points"
			fi
			[ "$leak" = 0 ] || point "not ok" "left references to the module behind"
			note "$name took $seconds s ($where)"
			pour
			echo "$name" >>"$finished"
			name=''
			continue
			;;
		esac
		if [ -z "$name" ]; then
			if [ -n "$line" ]; then
				note "$line"
				pour
			fi
		elif [[ $line =~ ^1\.\.([0-9]+)(.*) ]]; then
			plan=$((10#${BASH_REMATCH[1]}))
			if [[ ${BASH_REMATCH[2]} =~ \#\ *[Ss][Kk][Ii][Pp]\ *(.*) ]]; then why=${BASH_REMATCH[1]}; fi
		elif [[ $line =~ ^(not\ )?ok(\ +[0-9]+)?(\ +-)?(\ +(.*))?$ ]]; then
			points=$((points + 1))
			rest=${BASH_REMATCH[5]}
			if [ -n "${BASH_REMATCH[1]}" ]; then
				bad=$((bad + 1))
				point "not ok" "$rest"
			elif [[ $rest =~ \#\ *[Ss][Kk][Ii][Pp] ]]; then
				skips=$((skips + 1))
				point skip "$rest"
			else
				point ok "$rest"
			fi
		elif [ -n "$line" ] && [[ $line != "TAP version"* ]]; then
			note "  $name: ${line#\# }"
		fi
	done
	if [ -n "$name" ]; then
		point "not ok" "the host went down in it"
		pour
		echo "$name" >>"$finished"
	fi
}

# tap_merge: numbers and counts; false if anything failed or nothing passed.
tap_merge() {
	local kind text number=0 passed=0 failed=0 skipped=0 failures=''
	echo "TAP version 13"
	while IFS=$'\t' read -r kind text; do
		case $kind in
		'#')
			echo "# $text"
			continue
			;;
		ok)
			passed=$((passed + 1))
			;;
		skip)
			skipped=$((skipped + 1))
			kind=ok
			[[ $text =~ \#\ *[Ss][Kk][Ii][Pp] ]] || text+=" # SKIP"
			;;
		*)
			failed=$((failed + 1))
			failures+="#   $text"$'\n'
			;;
		esac
		number=$((number + 1))
		echo "$kind $number - $text"
	done
	echo "1..$number"
	echo "# took $((SECONDS / 60)) min $((SECONDS % 60)) s"
	[ "$failed" = 0 ] || printf '# failed:\n%s' "$failures"
	echo "$passed passed, $failed failed$([ "$skipped" = 0 ] || echo ", $skipped skipped")"
	[ "$failed" = 0 ] && [ "$passed" != 0 ]
}
