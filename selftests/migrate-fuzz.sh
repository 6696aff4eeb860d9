#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes what reads streams of machines, a destination and a restore (fuzz/migrate_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

# an image has a page of head and one for each block
FUZZ_MAX_LEN=16384
fuzz_target migrate 3000 $(find "$here/../migrate" -name '*.c' ! -name 'verify*' ! -name 'pvhv_stream.c') -lzstd
