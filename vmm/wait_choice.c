// SPDX-License-Identifier: GPL-2.0
/*
 * How the main thread waits: a pure policy.
 *
 * By reading the bells' eventfd, which the ring signals, too, a signal costs
 * least, and a completion of the ring one system call more than by waiting in
 * the ring, which then polls the eventfd.  So it hangs on what there is more
 * of; changing costs about as much as a few signals, hence the window.
 */
#include "vmm.h"

#define WINDOW		64	/* waits */
#define RING_MOST	40	/* of them, that the ring ended */

void wait_choice_init(struct wait_choice *c, bool by_read)
{
	*c = (struct wait_choice){ .by_read = by_read };
}

/* A wait was over by something in the ring, or by a signal alone. */
void wait_choice_note(struct wait_choice *c, bool ring)
{
	c->waits++;
	c->ring += ring;
	if (c->waits < WINDOW)
		return;
	c->by_read = c->ring <= RING_MOST;
	c->waits = 0;
	c->ring = 0;
}
