#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies what of vmm_migrate.sh is quick.
exec "$(dirname "$0")/vmm_migrate.sh" quick
