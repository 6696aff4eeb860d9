#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# As host_migrate.sh, with a Debian whose PostgreSQL works for pgbench all the time, and a stream of iperf3's. Environment:
# PVHV_MOVES, how often (4).

exec "$(dirname "$0")/host/two-hosts" --debian --moves "${PVHV_MOVES:-4}"
