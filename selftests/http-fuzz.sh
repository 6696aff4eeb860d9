#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the HTTP parser of the control socket (fuzz/http_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

fuzz_target http 50000 "$here"/../vmm/http.c
