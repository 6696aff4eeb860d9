#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Fuzzes the control socket's connections, routes and JSON (fuzz/control_fuzz.c, fuzz/target.sh).

set -u
. "$(dirname "$0")/fuzz/target.sh"

vmm=$here/../vmm
fuzz_target control 20000 "$vmm"/control_conn.c "$vmm"/control_api.c "$vmm"/control_source.c "$vmm"/http.c "$vmm"/metrics.c \
	"$vmm"/error.c -ljansson
