#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the checker of streams (fuzz/stream_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

FUZZ_MAX_LEN=16384
fuzz_target stream 50000 "$here/../migrate/verify.c" "$here/../migrate/verify_disks.c" "$here/../migrate/verify_pages.c" "$here/../migrate/crc32c.c" -lzstd
