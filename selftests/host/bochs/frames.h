/* SPDX-License-Identifier: GPL-2.0 */
/*
 * How an emulated Intel host talks: Bochs has one port whose bytes appear on its standard output, between lines of its own.
 * A frame is FRAME_BEGIN, a channel, the length (two bytes, low one first) and that many bytes.
 */
#ifndef PVHV_BOCHS_FRAMES_H
#define PVHV_BOCHS_FRAMES_H

#define FRAME_PORT	0xe9
#define FRAME_BEGIN	0x01	/* nothing that Bochs writes */
#define FRAME_MAX	0xffff

#define FRAME_BOOT	'b'	/* the loader runs */
#define FRAME_FAIL	'f'	/* it can't go on: why */
#define FRAME_OUT	'o'	/* the command's standard output */
#define FRAME_ERR	'e'	/* and standard error */
#define FRAME_CTL	'c'	/* the agent's report */

/* A port that ends Bochs when it is told so. */
#define SHUTDOWN_PORT	0x8900
#define SHUTDOWN_WORD	"Shutdown"

#endif
