#!/bin/sh
# SPDX-License-Identifier: GPL-2.0
#
# Verifies the same as vmm_boot.sh for the stock 6.12 kernel.
exec "$(dirname "$0")/vmm_boot.sh" 6.12:1:256M 6.12:4:1G
