#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Two emulated hosts and a third place: a machine moves to and fro between them with its disk, its connections and its address;
# host/two-hosts says what is looked at. Environment: PVHV_MOVES, how often (3).

exec "$(dirname "$0")/host/two-hosts"
