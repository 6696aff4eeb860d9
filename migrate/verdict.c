// SPDX-License-Identifier: GPL-2.0
/*
 * How a migration fails:
 *  1. the first failure counts, with its line;
 *  2. from then on every wait of every thread ends with -ECANCELED;
 *  3. what became of the machine because of it may be told in its place.
 */
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "mig.h"

int verdict_init(struct verdict *v)
{
	v->err = 0;
	v->why[0] = 0;
	v->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->wake_fd < 0)
		return -errno;
	pthread_mutex_init(&v->lock, NULL);
	return 0;
}

void verdict_fini(struct verdict *v)
{
	close(v->wake_fd);
	pthread_mutex_destroy(&v->lock);
}

/* With the lock: the line, and whoever waits is woken */
static void settle(struct verdict *v, int err, const char *fmt, va_list ap)
{
	u64 one = 1;
	char *c;

	vsnprintf(v->why, sizeof(v->why), fmt, ap);
	/* Some of it comes from the other side: it stays one line. */
	for (c = v->why; *c; c++)
		if ((u8)*c < ' ' || *c == 0x7f)
			*c = '?';
	v->err = err;
	if (write(v->wake_fd, &one, sizeof(one)) < 0)
		v->why[sizeof(v->why) - 1] = 0;	/* it is readable already */
}

int verdict(struct verdict *v, int err, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&v->lock);
	if (!v->err) {
		va_start(ap, fmt);
		settle(v, err, fmt, ap);
		va_end(ap);
	}
	pthread_mutex_unlock(&v->lock);
	return err;
}

int verdict_instead(struct verdict *v, int err, const char *fmt, ...)
{
	va_list ap;

	pthread_mutex_lock(&v->lock);
	va_start(ap, fmt);
	settle(v, err, fmt, ap);
	va_end(ap);
	pthread_mutex_unlock(&v->lock);
	return err;
}

int verdict_sleep(struct verdict *v, u64 ns)
{
	struct pollfd pfd = { .fd = v->wake_fd, .events = POLLIN };
	struct timespec ts = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC };

	if (v->err)
		return -ECANCELED;
	return ppoll(&pfd, 1, &ts, NULL) > 0 ? -ECANCELED : 0;
}
