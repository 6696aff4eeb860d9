// SPDX-License-Identifier: GPL-2.0
/*
 * The terminal of the person who started pvhv-run: raw while the guest has
 * it, and as it was before on every way out, a crash of ours included.
 * There is one such terminal per process, hence the static state.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "vmm.h"

static const int crash_signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };

static struct termios saved, raw;
static int tty_fd = -1;
static atomic_bool is_raw;

/* Safe in a signal handler: tcsetattr() is. */
void tty_restore(void)
{
	if (atomic_exchange(&is_raw, false))
		tcsetattr(tty_fd, TCSANOW, &saved);
}

static void crashed(int number)
{
	tty_restore();
	/* SA_RESETHAND: this time the default action ends the process. */
	raise(number);
}

int tty_raw(int fd)
{
	struct sigaction sa = { .sa_handler = crashed, .sa_flags = SA_RESETHAND };
	unsigned int i;

	if (tcgetattr(fd, &saved))
		return -errno;
	raw = saved;
	cfmakeraw(&raw);
	/* Our own lines and those of guests without \r stay readable. */
	raw.c_oflag |= OPOST;
	tty_fd = fd;
	for (i = 0; i < ARRAY_SIZE(crash_signals); i++)
		sigaction(crash_signals[i], &sa, NULL);
	atomic_store(&is_raw, true);
	if (tcsetattr(fd, TCSANOW, &raw)) {
		atomic_store(&is_raw, false);
		return -errno;
	}
	return 0;
}

/* After SIGCONT: a shell has had the terminal and set it to its liking. */
void tty_continue(void)
{
	if (atomic_load(&is_raw))
		tcsetattr(tty_fd, TCSANOW, &raw);
}
