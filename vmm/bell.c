// SPDX-License-Identifier: GPL-2.0
/*
 * What wakes the main thread: one eventfd, by whose reading it can wait.
 *  1. Who has something for it to do writes that down and then signals the
 *     eventfd.  For a queue this is the guest: the index in its ring is what it
 *     wrote, the host's kernel signals.
 *  2. A bell names such a word, and a task for when it is another than it was.
 *     So one look at all bells that are out finds whose signals there were, and
 *     a bell is out only as long as its owner wants to be told.
 *  3. Each look goes through all of them, so there are BELLS_MAX at most; who
 *     gets no bell has an eventfd of its own.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vmm.h"

#define BELLS_MAX	64

static struct {
	int fd;
	unsigned int users;
	unsigned int owners;	/* of bells */
	struct bell *out;
} bells = { .fd = -1 };

/* Read by one thread only, which waits in there. */
int bells_open(void)
{
	if (!bells.users)
		bells.fd = eventfd(0, EFD_CLOEXEC);
	if (bells.fd < 0)
		return -errno;
	bells.users++;
	return bells.fd;
}

void bells_close(void)
{
	if (--bells.users)
		return;
	close(bells.fd);
	bells.fd = -1;
}

/* The eventfd for an owner of a bell, or -errno. */
int bell_join(void)
{
	int fd;

	if (bells.owners == BELLS_MAX)
		return -ENOSPC;
	fd = bells_open();
	if (fd >= 0)
		bells.owners++;
	return fd;
}

void bell_leave(void)
{
	bells.owners--;
	bells_close();
}

static void link_bell(struct bell *bell)
{
	bell->next = bells.out;
	bell->at = &bells.out;
	if (bell->next)
		bell->next->at = &bell->next;
	bells.out = bell;
}

/* The word was @seen after its owner had said that it wants to be told. */
void bell_out(struct bell *bell, const volatile u16 *word, u16 seen)
{
	bell->word = word;
	bell->seen = seen;
	if (!bell->at)
		link_bell(bell);
}

void bell_in(struct bell *bell)
{
	if (!bell->at)
		return;
	*bell->at = bell->next;
	if (bell->next)
		bell->next->at = bell->at;
	bell->at = NULL;
}

/* After the eventfd was read: all signals of before then are found here. */
void bells_look(void)
{
	struct bell *bell, *next;

	for (bell = bells.out; bell; bell = next) {
		next = bell->next;
		if (__atomic_load_n(bell->word, __ATOMIC_ACQUIRE) == bell->seen)
			continue;
		bell_in(bell);
		loop_defer(bell->task);
	}
}
