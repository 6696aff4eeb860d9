/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The event loop's inside, for loop.c, which runs it, and loop_ops.c, which
 * prepares what is submitted.  All is the main thread's but for @asked.
 */
#ifndef PVHV_LOOP_H
#define PVHV_LOOP_H

#include <liburing.h>

#include "vmm.h"

#define LOOP_ENTRIES	128
#define LOOP_FILES	64	/* registered at most */

struct loop {
	struct io_uring ring;
	bool ready;
	bool quit;
	bool closing;
	bool files;		/* the ring has a table of files */
	u64 file_used;		/* which of its slots are taken */
	unsigned int in_flight;
	unsigned int eventfds;	/* of these, watched ones */
	struct loop_task *tasks;
	struct loop_task **tasks_tail;
	unsigned int nr_tasks;
	int wake_fd;		/* of the bells */
	int soon_fd;
	atomic_bool asked;	/* [a] by loop_wake() */
	bool can_read;		/* the ring signals @wake_fd if it is to */
	struct wait_choice choice;
	bool by_read;		/* what was chosen, and is done */
	unsigned int blind;	/* turns since the last look at the bells */
	struct loop_op wake_op;	/* the poll, while it waits in the ring */
	struct loop_op soon_op;
	void (*woken)(void *arg);
	void *arg;
	/* Beside the ring's entries: the kernel copies them at the submission. */
	struct __kernel_timespec times[LOOP_ENTRIES];
};

extern struct loop loop;

#endif /* PVHV_LOOP_H */
