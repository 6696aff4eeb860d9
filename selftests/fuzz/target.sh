# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=sh
#
# Runs a fuzz target, in TAP: the stored inputs and pseudo-random ones under the address and undefined-behaviour sanitizers; with
# clang's libFuzzer also guided, for FUZZ_SECONDS (20). Needs a compiler, so it runs on a development machine and skips in an
# emulated host. For scripts that say
#     . fuzz/target.sh
#     fuzz_target NAME COUNT SOURCE... [LIBRARY]...
# where fuzz/NAME_fuzz.c is the target, fuzz/corpus_NAME its inputs, and COUNT how many pseudo-random ones are tried.

here=$(cd "$(dirname "$0")" && pwd)
CC=${CC:-gcc}

fuzz_skip()
{
	echo "1..0 # SKIP $1"
	exit 4
}

# fuzz_build COMPILER SANITIZERS OUTPUT FLAGS SOURCE...
fuzz_build()
{
	compiler=$1 sanitizers=$2 output=$3 flags=$4
	shift 4
	"$compiler" -std=gnu11 -D_GNU_SOURCE -g -O1 -Wall -Wextra -fsanitize="$sanitizers" -fno-sanitize-recover=all $flags \
		-o "$output" "$here/fuzz/${name}_fuzz.c" "$@" -pthread
}

# fuzz_result STATUS NUMBER NAME LOG
fuzz_result()
{
	sed 's/^/# /' "$4" | tail -n 30
	if [ "$1" -eq 0 ]; then
		echo "ok $2 $3"
	else
		echo "not ok $2 $3"
		failed=1
	fi
}

fuzz_target()
{
	name=$1 count=$2 failed=0
	shift 2
	command -v "$CC" >/dev/null || fuzz_skip "no $CC"
	dir=$(mktemp -d) || exit 1
	trap 'rm -rf "$dir"' EXIT
	trap 'exit 1' INT TERM
	if ! echo 'int main(void) { return 0; }' |
		"$CC" -fsanitize=address,undefined -x c -o "$dir/probe" - 2>/dev/null; then fuzz_skip "$CC has no sanitizers"; fi
	echo "TAP version 13"
	echo "1..3"
	fuzz_build "$CC" address,undefined "$dir/replay" -DREPLAY "$@" >"$dir/log" 2>&1 &&
		"$dir/replay" "$here/fuzz/corpus_$name"/* >>"$dir/log" 2>&1
	fuzz_result $? 1 "stored inputs" "$dir/log"
	# whether memory leaks is known by now, and costs seconds each time
	export ASAN_OPTIONS=detect_leaks=0
	"$dir/replay" -n "$count" >"$dir/log" 2>&1
	fuzz_result $? 2 "pseudo-random inputs" "$dir/log"
	if command -v clang >/dev/null && fuzz_build clang fuzzer,address,undefined "$dir/fuzzer" '' "$@" 2>/dev/null; then
		mkdir "$dir/corpus"
		"$dir/fuzzer" -max_len="${FUZZ_MAX_LEN:-4096}" -detect_leaks=0 -max_total_time="${FUZZ_SECONDS:-20}" -artifact_prefix="$dir/" \
			"${FUZZ_CORPUS:-$dir/corpus}" "$here/fuzz/corpus_$name" >"$dir/all" 2>&1
		status=$?
		tail -n 1 "$dir/all" >"$dir/log"
		if [ $status -ne 0 ]; then
			tail -n 30 "$dir/all" >"$dir/log"
			for input in "$dir"/crash-*; do
				[ ! -f "$input" ] || od -An -v -t x1 "$input" >>"$dir/log"
			done
		fi
		fuzz_result $status 3 "guided" "$dir/log"
	else
		echo "ok 3 guided # SKIP no clang with libFuzzer"
	fi
	exit $failed
}
