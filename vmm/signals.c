// SPDX-License-Identifier: GPL-2.0
/*
 * Signals.
 *  1. Those that concern the machine are blocked in every thread and read by
 *     the event loop; one that was ignored when we were started (nohup) stays
 *     ignored.
 *  2. The kick signal takes a vCPU thread out of KVM_RUN; it does nothing
 *     else and only vCPU threads receive it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "vmm.h"

static const int watched[] = {
	SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPWR, SIGCONT
};

static sigset_t watch_set;
static struct loop_op poll_op;
static int fd = -1;
static void (*on_event)(void *arg, int number);
static void *event_arg;

int signals_kick_number(void)
{
	return SIGRTMIN;
}

static void kicked(int number)
{
	(void)number;
}

int signals_init(void)
{
	struct sigaction kick = { .sa_handler = kicked }, old;
	sigset_t block;
	unsigned int i;

	sigemptyset(&watch_set);
	for (i = 0; i < ARRAY_SIZE(watched); i++)
		if (!sigaction(watched[i], NULL, &old) &&
		    old.sa_handler != SIG_IGN)
			sigaddset(&watch_set, watched[i]);
	block = watch_set;
	sigaddset(&block, signals_kick_number());
	signal(SIGPIPE, SIG_IGN);
	if (sigaction(signals_kick_number(), &kick, NULL) ||
	    pthread_sigmask(SIG_BLOCK, &block, NULL))
		return fail(-errno, "cannot set up signals: %s",
			    strerror(errno));
	return 0;
}

/* Not held, they end the process, as long as there is nothing to put back. */
void signals_hold(bool hold)
{
	pthread_sigmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &watch_set, NULL);
}

/* In a vCPU's thread. */
void signals_allow_kick(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signals_kick_number());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void polled(struct loop_op *op, int res)
{
	struct signalfd_siginfo info;

	if (res < 0)
		return;
	if (read(fd, &info, sizeof(info)) == sizeof(info))
		on_event(event_arg, info.ssi_signo);
	loop_poll(op, fd, POLLIN);
}

int signals_start(void (*event)(void *arg, int number), void *arg)
{
	on_event = event;
	event_arg = arg;
	fd = signalfd(-1, &watch_set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return fail(-errno, "cannot watch signals: %s",
			    strerror(errno));
	poll_op.done = polled;
	return loop_poll(&poll_op, fd, POLLIN);
}

void signals_fini(void)
{
	/* A poll that completes after this finds no descriptor: -EBADF ends it. */
	loop_cancel(&poll_op);
	if (fd >= 0)
		close(fd);
	fd = -1;
}
