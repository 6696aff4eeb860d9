// SPDX-License-Identifier: GPL-2.0
/*
 * The sandbox of a machine: what this one needs, from its command line, and
 * when it is entered.  What it is made of is in jail.c.
 */
#include <string.h>

#include "blk.h"
#include "jail.h"

static bool on;

static struct jail_who who_of(const struct options *opt)
{
	return (struct jail_who){ .user = opt->user, .chroot = opt->chroot };
}

static u32 disks_need(const struct options *opt)
{
	u32 need = 0, i;

	if (!opt->nr_disks)
		return 0;
	need = JAIL_DISK;
	/* Copies of disks by command, and disks that move to a server. */
	if (opt->control)
		need |= JAIL_FILES | JAIL_CONNECT | JAIL_LOAD;
	for (i = 0; i < opt->nr_disks; i++)
		if (blk_is_uri(opt->disks[i].path))
			need |= JAIL_CONNECT;
	return need;
}

static bool has_sockets(const struct options *opt)
{
	bool any = opt->console == CONSOLE_SOCKET;
	u32 i;

	for (i = 0; i < opt->nr_ports; i++)
		any |= opt->ports[i].kind == CONSOLE_SOCKET;
	return any;
}

/* Before anything is made: could it be entered? */
int sandbox_check(const struct options *opt)
{
	struct jail_who who = who_of(opt);

	on = !opt->no_sandbox;
	if (on)
		loop_guard = jail_ring;
	return jail_check(&who);
}

/* All is open, and there is only the main thread. */
int sandbox_enter(const struct options *opt)
{
	struct jail_who who = who_of(opt);
	int ret;

	ret = jail_identity(&who);
	if (ret || !on)
		return ret;
	jail_need(disks_need(opt));
	if (opt->nr_nets)
		jail_need(JAIL_NET);
	if (opt->control || opt->incoming || has_sockets(opt))
		jail_need(JAIL_SOCKET);
	if (opt->control || opt->incoming)
		jail_need(JAIL_MOVE);
	if (opt->incoming)
		jail_need(JAIL_COME);
	ret = jail_drop();
	return ret ? ret : jail_prepare();
}

/* The process at the door has all open; of files and libraries it needs no more. */
int sandbox_door(const struct options *opt)
{
	struct jail_who who = who_of(opt);
	int ret = jail_identity(&who);

	if (ret || opt->no_sandbox)
		return ret;
	ret = jail_drop();
	return ret ? ret : jail_lock_door();
}

/* A thread that was there before sandbox_enter(). */
int sandbox_join(void)
{
	int ret = on ? jail_drop() : 0;

	return ret ? ret : sandbox_lock_main();
}

int sandbox_lock_main(void)
{
	return on ? jail_lock(JAIL_MAIN) : 0;
}

int sandbox_lock_vcpu(void)
{
	return on ? jail_lock(JAIL_VCPU) : 0;
}

void sandbox_end(void)
{
	jail_fini();
	jail_names_fini();
}
