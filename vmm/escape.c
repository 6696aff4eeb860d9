// SPDX-License-Identifier: GPL-2.0
/*
 * The escape key of a terminal console, Ctrl-A as in kvmtool and QEMU:
 * x quits, b sends a break, h helps, a or Ctrl-A sends Ctrl-A itself, any
 * other key goes to the guest together with the Ctrl-A before it.
 */
#include "vmm.h"

#define CTRL_A	0x01

/* Gives at most two bytes for the guest in @out. */
enum escape_action escape_feed(struct escape *esc, u8 byte, u8 *out,
			       size_t *out_len)
{
	*out_len = 0;
	if (!esc->armed) {
		if (byte == CTRL_A)
			esc->armed = true;
		else
			out[(*out_len)++] = byte;
		return ESCAPE_NONE;
	}
	esc->armed = false;
	switch (byte) {
	case 'x':
		return ESCAPE_QUIT;
	case 'b':
		return ESCAPE_BREAK;
	case 'h':
	case '?':
		return ESCAPE_HELP;
	case 'a':
	case CTRL_A:
		out[(*out_len)++] = CTRL_A;
		return ESCAPE_NONE;
	default:
		out[(*out_len)++] = CTRL_A;
		out[(*out_len)++] = byte;
		return ESCAPE_NONE;
	}
}
