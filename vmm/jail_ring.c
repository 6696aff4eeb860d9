// SPDX-License-Identifier: GPL-2.0
/*
 * What the ring may do.  Its operations pass by a thread's system call filter,
 * so a ring that could open files or connect would be the way around it.
 *
 * loop.c's operations stand here; one that is missing fails with -EACCES.
 */
#include <errno.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jail.h"

/* On files that are open: nothing here takes a path or an address. */
static const u8 operations[] = {
	IORING_OP_READ, IORING_OP_WRITE, IORING_OP_READV, IORING_OP_WRITEV,
	IORING_OP_READ_FIXED, IORING_OP_WRITE_FIXED,
	IORING_OP_FSYNC, IORING_OP_FALLOCATE, IORING_OP_ACCEPT,
	IORING_OP_POLL_ADD, IORING_OP_POLL_REMOVE, IORING_OP_TIMEOUT,
	IORING_OP_TIMEOUT_REMOVE, IORING_OP_ASYNC_CANCEL, IORING_OP_NOP,
};

/* Of files that are open and of own memory, and giving back what the ring holds. */
static const u8 registrations[] = {
	IORING_REGISTER_FILES_UPDATE, IORING_UNREGISTER_FILES,
	IORING_REGISTER_BUFFERS_UPDATE,
	IORING_UNREGISTER_RING_FDS,
};

#define NR_RULES	(ARRAY_SIZE(operations) + ARRAY_SIZE(registrations) + 1)

/* liburing 2.3 has functions for it, and does not export them. */
static int ring_register(struct io_uring *ring, unsigned int opcode, void *arg,
			 unsigned int nr)
{
	return syscall(SYS_io_uring_register, ring->ring_fd, opcode, arg, nr) ?
	       -errno : 0;
}

/* Of a ring that was made disabled; it is enabled then. */
int jail_ring(struct io_uring *ring)
{
	struct io_uring_restriction rules[NR_RULES] = { 0 };
	unsigned int i, j;
	int ret;

	for (i = 0; i < ARRAY_SIZE(operations); i++) {
		rules[i].opcode = IORING_RESTRICTION_SQE_OP;
		rules[i].sqe_op = operations[i];
	}
	for (j = 0; j < ARRAY_SIZE(registrations); j++, i++) {
		rules[i].opcode = IORING_RESTRICTION_REGISTER_OP;
		rules[i].register_op = registrations[j];
	}
	rules[i].opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
	rules[i].sqe_flags = IOSQE_FIXED_FILE;
	ret = ring_register(ring, IORING_REGISTER_RESTRICTIONS, rules, NR_RULES);
	return ret ? ret : ring_register(ring, IORING_REGISTER_ENABLE_RINGS,
					 NULL, 0);
}
