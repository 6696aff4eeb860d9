// SPDX-License-Identifier: GPL-2.0
/*
 * Locks on an image: one writer, or any number of readers.
 *
 * They are locks of the open file on single bytes, at the offsets that QEMU
 * and its tools use, so that these are kept away as well: a byte says "I
 * read", "I write" or "nobody else may write".  Everybody first takes shared
 * locks on what it does and what it forbids, then looks whether anybody else
 * does what it forbids or forbids what it does.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "blk.h"

enum {
	BYTE_READS = 100,
	BYTE_WRITES = 101,
	BYTE_NO_READERS = 200,
	BYTE_NO_WRITERS = 201,
};

static int set(int fd, off_t byte, short type)
{
	struct flock lock = {
		.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1,
	};

	return fcntl(fd, F_OFD_SETLK, &lock) ? -errno : 0;
}

/* Does anybody else hold this byte? */
static int taken(int fd, off_t byte)
{
	struct flock lock = {
		.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte,
		.l_len = 1,
	};

	if (fcntl(fd, F_OFD_GETLK, &lock))
		return -errno;
	return lock.l_type == F_UNLCK ? 0 : -EBUSY;
}

/* Also from the one kind to the other; -EBUSY leaves a reader's. */
int blk_lock(int fd, bool writer)
{
	int ret;

	ret = set(fd, BYTE_READS, F_RDLCK);
	if (!ret)
		ret = set(fd, BYTE_NO_WRITERS, F_RDLCK);
	if (!ret)
		ret = set(fd, BYTE_WRITES, writer ? F_RDLCK : F_UNLCK);
	if (ret == -EACCES || ret == -EAGAIN)
		ret = -EBUSY;	/* one that locks whole files */
	if (!ret)
		ret = taken(fd, BYTE_NO_READERS);
	if (!ret)
		ret = taken(fd, BYTE_WRITES);
	if (!ret && writer)
		ret = taken(fd, BYTE_NO_WRITERS);
	if (ret)
		set(fd, BYTE_WRITES, F_UNLCK);
	return ret;
}

/*
 * For a writer that begins: QEMU has the file below an overlay open without
 * forbidding others to write, and yet its data must not change.
 */
int blk_unread(int fd)
{
	return taken(fd, BYTE_READS);
}

void blk_unlock(int fd)
{
	set(fd, BYTE_READS, F_UNLCK);
	set(fd, BYTE_WRITES, F_UNLCK);
	set(fd, BYTE_NO_WRITERS, F_UNLCK);
}
