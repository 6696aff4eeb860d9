#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the decoder, the executor and the page-table walk, in TAP: the stored inputs and pseudo-random ones under the
# address and undefined-behaviour sanitizers; with clang's libFuzzer also guided, for FUZZ_SECONDS (20). Needs a
# compiler, so it runs on a development machine and skips in an emulated host.

set -u
here=$(cd "$(dirname "$0")" && pwd)
CC=${CC:-gcc}
seconds=${FUZZ_SECONDS:-20}
kmod=$here/../kmod

skip()
{
	echo "1..0 # SKIP $1"
	exit 4
}

command -v "$CC" >/dev/null || skip "no $CC"
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' INT TERM

# build COMPILER SANITIZERS OUTPUT [FLAGS]
build()
{
	compiler=$1 sanitizers=$2 output=$3
	shift 3
	"$compiler" -g -O1 -Wall -Wextra -fsanitize="$sanitizers" -fno-sanitize-recover=all "$@" -o "$output" \
		"$here/fuzz/decode_fuzz.c" "$kmod/decode.c" "$kmod/decode_exec.c" "$kmod/walk.c"
}

build "$CC" address,undefined "$dir/replay" -DREPLAY 2> "$dir/log" || skip "$CC has no sanitizers"

failed=0

# result STATUS NUMBER NAME LOG
result()
{
	sed 's/^/# /' "$4" | tail -n 30
	if [ "$1" -eq 0 ]; then
		echo "ok $2 $3"
	else
		echo "not ok $2 $3"
		failed=1
	fi
}

echo "TAP version 13"
echo "1..3"
"$dir/replay" "$here"/fuzz/corpus_decode/* > "$dir/log" 2>&1
result $? 1 "stored inputs" "$dir/log"
"$dir/replay" -n 2000000 > "$dir/log" 2>&1
result $? 2 "pseudo-random inputs" "$dir/log"
if command -v clang >/dev/null && build clang fuzzer,address,undefined "$dir/fuzzer" 2>/dev/null; then
	mkdir "$dir/corpus"
	"$dir/fuzzer" -max_len=320 -max_total_time="$seconds" -artifact_prefix="$dir/" "$dir/corpus" \
		"$here/fuzz/corpus_decode" > "$dir/all" 2>&1
	status=$?
	tail -n 1 "$dir/all" > "$dir/log"
	if [ $status -ne 0 ]; then
		tail -n 30 "$dir/all" > "$dir/log"
		for input in "$dir"/crash-*; do
			[ -f "$input" ] && od -An -v -t x1 "$input" >> "$dir/log"
		done
	fi
	result $status 3 "guided" "$dir/log"
else
	echo "ok 3 guided # SKIP no clang with libFuzzer"
fi
exit $failed
