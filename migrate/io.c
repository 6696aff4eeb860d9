// SPDX-License-Identifier: GPL-2.0
/*
 * Carriers.
 *  1. A descriptor (socket, pipe, file) as a carrier.
 *  2. Whole buffers over any carrier: waits for it, for no longer than the
 *     stall time without a byte, and not beyond another thread's failure.
 *  3. Lingering: after a failure was told to the other side, what it still
 *     sends is read, or the kernel would throw our words away with the
 *     connection.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mig.h"

struct fd_io {
	struct migrate_io io;
	int fd;
	bool is_socket;
};

static long fd_read(struct migrate_io *io, void *data, size_t len)
{
	struct fd_io *f = (struct fd_io *)io;
	ssize_t n = read(f->fd, data, len);

	return n < 0 ? -errno : n;
}

static long fd_write(struct migrate_io *io, const void *data, size_t len)
{
	struct fd_io *f = (struct fd_io *)io;
	ssize_t n = f->is_socket ? send(f->fd, data, len, MSG_NOSIGNAL) : write(f->fd, data, len);

	return n < 0 ? -errno : n;
}

static int fd_poll(struct migrate_io *io, bool writing, short *events)
{
	*events = writing ? POLLOUT : POLLIN;
	return ((struct fd_io *)io)->fd;
}

static void fd_finish(struct migrate_io *io)
{
	struct fd_io *f = (struct fd_io *)io;

	if (f->is_socket)
		shutdown(f->fd, SHUT_WR);
}

static void fd_close(struct migrate_io *io)
{
	close(((struct fd_io *)io)->fd);
	free(io);
}

static const struct migrate_io_ops fd_ops = {
	.read = fd_read,
	.write = fd_write,
	.poll = fd_poll,
	.finish = fd_finish,
	.close = fd_close,
};

struct migrate_io *migrate_io_fd(int fd)
{
	struct fd_io *f = calloc(1, sizeof(*f));
	socklen_t len = sizeof(int);
	int type;

	if (!f) {
		close(fd);
		return NULL;
	}
	f->io.ops = &fd_ops;
	f->fd = fd;
	f->is_socket = !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	return &f->io;
}

/* 0 once it is ready */
static int wait_for(struct channel *ch, bool writing, int ms)
{
	struct pollfd pfd[2] = {
		{ .fd = ch->deaf ? -1 : ch->verdict->wake_fd, .events = POLLIN },
	};
	int n;

	pfd[1].fd = ch->io->ops->poll(ch->io, writing, &pfd[1].events);
	n = poll(pfd, 2, ms);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	if (pfd[0].revents)
		return -ECANCELED;
	return n ? 0 : -ETIMEDOUT;
}

int channel_lost(struct channel *ch, int err)
{
	if (err == -ECANCELED)
		return err;
	if (err == -ETIMEDOUT)
		return verdict(ch->verdict, err, "%s: nothing moved in %d ms: the connection stalls",
			       ch->peer, ch->stall_ms);
	return verdict(ch->verdict, err, "%s: %s", ch->peer, strerror(-err));
}

int channel_read(struct channel *ch, void *data, size_t len, bool may_end)
{
	size_t done = 0;
	long n;
	int err;

	while (done < len) {
		if (!ch->deaf && ch->verdict->err)
			return -ECANCELED;
		n = ch->io->ops->read(ch->io, (u8 *)data + done, len - done);
		if (n > 0) {
			done += n;
			ch->bytes_in += n;
		} else if (!n) {
			if (!done && may_end)
				return 1;
			return verdict(ch->verdict, -ECONNRESET,
				       "%s: ends after %llu bytes, in the middle", ch->peer,
				       (unsigned long long)ch->bytes_in);
		} else if (n == -EAGAIN) {
			err = wait_for(ch, false, ch->stall_ms);
			if (err)
				return channel_lost(ch, err);
		} else if (n != -EINTR) {
			return channel_lost(ch, n);
		}
	}
	return 0;
}

int channel_write(struct channel *ch, const void *data, size_t len)
{
	size_t done = 0;
	long n;
	int err;

	while (done < len) {
		if (!ch->deaf && ch->verdict->err)
			return -ECANCELED;
		n = ch->io->ops->write(ch->io, (const u8 *)data + done, len - done);
		if (n > 0) {
			done += n;
			ch->bytes_out += n;
		} else if (n == -EAGAIN) {
			ch->waits++;
			err = wait_for(ch, true, ch->stall_ms);
			if (err)
				return err;
		} else if (n != -EINTR) {
			return n ? n : -EIO;
		}
	}
	return 0;
}

void channel_linger(struct channel *ch, int ms)
{
	u64 end = now_ns() + ms * NSEC_PER_MSEC, now;
	u8 waste[4096];
	long n;

	if (!ch->io)
		return;
	ch->deaf = true;
	if (ch->io->ops->finish)
		ch->io->ops->finish(ch->io);
	while ((now = now_ns()) < end) {
		n = ch->io->ops->read(ch->io, waste, sizeof(waste));
		if (n == -EAGAIN && !wait_for(ch, false, (end - now) / NSEC_PER_MSEC + 1))
			continue;
		if (n <= 0 && n != -EINTR)
			return;
	}
}

void channel_close(struct channel *ch)
{
	if (ch->io)
		ch->io->ops->close(ch->io);
	ch->io = NULL;
}
