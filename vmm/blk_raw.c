// SPDX-License-Identifier: GPL-2.0
/*
 * A disk that is a file or a block device of the host, through the loop.
 *  1. Opening: what it is, how long, whether it takes direct I/O and on which
 *     blocks; locked, so that no two machines write to it.
 *  2. Reads and writes: of the guest's memory as it lies, or through bounce
 *     buffers where direct I/O cannot take it; what the kernel did not do in
 *     one go is continued.
 *  3. Discards punch holes.  Zeros punch them too where they may, else tell
 *     the file system, else are written; what a file refused once is not
 *     tried again.
 *  4. Resizing, and copies that share the blocks.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/fs.h>

#include "blk.h"

#define IOV_AT_ONCE	1024		/* the kernel's limit */
#define ZEROS_LEN	(64 * KIB)
#define ZEROS_PIECES	16
#define BUSY_TRIES	100
#define BUSY_WAIT_US	20000
#define BIO_PAGES	256
#define DISCARD_STEP	(32 * MIB)	/* of a call that holds up the loop */
#define PUNCH		(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define RANGE		(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

struct raw {
	struct loop_file file;
	u32 align;		/* of memory, for direct I/O; 1: any */
	u32 at_once;		/* pages, for direct I/O; 0: not known */
	bool device;
	bool no_punch;		/* not supported, as it turned out */
	bool no_range;
};

/* Never written to, so the kernel's one page of zeros is behind all of it. */
static u8 zeros[ZEROS_LEN] __attribute__((aligned(4096)));
static const struct iovec zero_iov[ZEROS_PIECES] = {
	[0 ... ZEROS_PIECES - 1] = { zeros, ZEROS_LEN },
};

static void transfer(struct blk_req *req);
static void write_zeros(struct blk_req *req);

/* Not, where the ring has no room for one more operation now. */
static void submitted(struct blk_req *req, int ret)
{
	if (ret)
		blk_hold(req, BLK_GATE_TURN);
}

/* Reads and writes. */

static bool try_again(struct blk_req *req, int res)
{
	if (res != -EAGAIN && res != -EINTR)
		return false;
	blk_hold(req, BLK_GATE_TURN);
	return true;
}

static void moved(struct loop_op *op, int res)
{
	struct blk_req *req = container_of(op, struct blk_req, io);
	u64 len = req->len;

	if (res < 0) {
		if (!try_again(req, res))
			blk_done(req, res);
		return;
	}
	if ((u64)res == len && !req->bounce) {
		blk_done(req, 0);
		return;
	}
	if (req->bounce && req->op == BLK_READ)
		blk_scatter(req, req->bounce->data, res);
	/* Only the end of a file that has shrunk lies within a block. */
	res -= res % req->blk->block;
	if (!res) {
		blk_done(req, -EIO);
		return;
	}
	blk_advance(req, res);
	if (req->len)
		transfer(req);
	else
		blk_done(req, 0);
}

static void parts_moved(struct blk_req *req)
{
	if (req->in_one)
		transfer(req);
	else
		blk_done(req, 0);
}

static void transfer(struct blk_req *req)
{
	int rw_flags = req->flags & BLK_DURABLE ? RWF_DSYNC : 0, ret;
	struct raw *raw = req->blk->data;
	const struct iovec *iov = req->iov;
	struct iovec bounce;
	u32 nr = req->nr_iov;

	if (raw->align > 1 && !req->bounce && !blk_aligned(req, raw->align)) {
		ret = blk_bounce_get(req);
		if (ret == -EAGAIN)
			blk_hold(req, BLK_GATE_BUFFER);
		else if (ret)
			blk_done(req, ret);
		if (ret)
			return;
	}
	if (req->bounce) {
		bounce.iov_base = req->bounce->data;
		bounce.iov_len = req->len < BLK_BOUNCE_LEN ? req->len :
							     BLK_BOUNCE_LEN;
		if (req->op == BLK_WRITE)
			blk_gather(req, bounce.iov_base, bounce.iov_len);
		iov = &bounce;
		nr = 1;
	} else if (raw->file.registered_pages &&
		   blk_parts_start(req, &raw->file, rw_flags, parts_moved)) {
		return;
	}
	if (nr > IOV_AT_ONCE)
		nr = IOV_AT_ONCE;
	req->io.done = moved;
	if (req->op == BLK_READ)
		ret = loop_preadv(&req->io, &raw->file, iov, nr, req->pos);
	else
		ret = loop_pwritev(&req->io, &raw->file, iov, nr, req->pos,
				   rw_flags);
	submitted(req, ret);
}

/* Flushes. */

static void flushed(struct loop_op *op, int res)
{
	struct blk_req *req = container_of(op, struct blk_req, io);

	if (!try_again(req, res))
		blk_done(req, res);
}

static void flush(struct blk_req *req)
{
	struct raw *raw = req->blk->data;

	req->io.done = flushed;
	submitted(req, loop_fdatasync(&req->io, &raw->file));
}

/* Discards and zeros. */

static bool unsupported(int res)
{
	return res == -EOPNOTSUPP || res == -ENODEV || res == -EINVAL;
}

/* Devices that can discard, but do not promise zeros after it. */
static void discard_device(struct blk_req *req)
{
	struct raw *raw = req->blk->data;
	u64 range[2] = {
		req->pos, req->len < DISCARD_STEP ? req->len : DISCARD_STEP
	};

	if (ioctl(raw->file.fd, BLKDISCARD, range)) {
		blk_done(req, -errno);
		return;
	}
	req->pos += range[1];
	req->len -= range[1];
	if (req->len)
		blk_hold(req, BLK_GATE_TURN);
	else
		blk_done(req, 0);
}

static void discarded(struct loop_op *op, int res)
{
	struct blk_req *req = container_of(op, struct blk_req, io);
	struct raw *raw = req->blk->data;

	if (unsupported(res)) {
		raw->no_punch = true;
		if (raw->device) {
			discard_device(req);
			return;
		}
		res = -EOPNOTSUPP;
	}
	if (!try_again(req, res))
		blk_done(req, res);
}

static void discard(struct blk_req *req)
{
	struct raw *raw = req->blk->data;

	if (raw->no_punch && raw->device) {
		discard_device(req);
		return;
	}
	if (raw->no_punch) {
		blk_done(req, -EOPNOTSUPP);
		return;
	}
	req->io.done = discarded;
	submitted(req, loop_fallocate(&req->io, &raw->file, PUNCH, req->pos,
				      req->len));
}

static void zero(struct blk_req *req);

static void zeros_written(struct loop_op *op, int res)
{
	struct blk_req *req = container_of(op, struct blk_req, io);

	if (res < 0) {
		if (!try_again(req, res))
			blk_done(req, res);
		return;
	}
	res -= res % req->blk->block;
	if (!res) {
		blk_done(req, -EIO);
		return;
	}
	req->pos += res;
	req->len -= res;
	if (req->len)
		write_zeros(req);
	else
		blk_done(req, 0);
}

static void write_zeros(struct blk_req *req)
{
	struct raw *raw = req->blk->data;
	struct iovec rest = { zeros, req->len };
	const struct iovec *iov = zero_iov;
	u64 nr = req->len / ZEROS_LEN;

	if (nr > ZEROS_PIECES)
		nr = ZEROS_PIECES;
	if (!nr) {
		iov = &rest;
		nr = 1;
	}
	blk_charge(req->blk, nr * iov->iov_len);
	req->io.done = zeros_written;
	submitted(req, loop_pwritev(&req->io, &raw->file, iov, nr, req->pos,
				    0));
}

static void zeroed(struct loop_op *op, int res)
{
	struct blk_req *req = container_of(op, struct blk_req, io);
	struct raw *raw = req->blk->data;

	if (try_again(req, res))
		return;
	if (!unsupported(res)) {
		blk_done(req, res);
		return;
	}
	if (req->unmapped)
		raw->no_punch = true;
	else
		raw->no_range = true;
	zero(req);
}

static void zero(struct blk_req *req)
{
	struct raw *raw = req->blk->data;

	req->unmapped = req->flags & BLK_UNMAP && !raw->no_punch;
	if (!req->unmapped && raw->no_range) {
		write_zeros(req);
		return;
	}
	req->io.done = zeroed;
	submitted(req, loop_fallocate(&req->io, &raw->file,
				      req->unmapped ? PUNCH : RANGE, req->pos,
				      req->len));
}

static void raw_start(struct blk *blk, struct blk_req *req)
{
	(void)blk;
	switch (blk_req_op(req)) {
	case BLK_READ:
	case BLK_WRITE:
		transfer(req);
		break;
	case BLK_FLUSH:
		flush(req);
		break;
	case BLK_DISCARD:
		discard(req);
		break;
	default:
		zero(req);
		break;
	}
}

/* Opening. */

static int bad(const struct blk *blk, int err, const char *what)
{
	return fail(err, "--disk: '%s': %s", blk->path, what);
}

static int open_file(const struct blk *blk, int more)
{
	int fd, flags = O_CLOEXEC | O_NOCTTY | more;
	struct stat st;

	if (stat(blk->path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTBLK;
	/* A writer has a device to itself: the host must not have it mounted. */
	if (S_ISBLK(st.st_mode) && !blk->readonly && !blk->later)
		flags |= O_EXCL;
	fd = open(blk->path, flags | (blk->readonly ? O_RDONLY : O_RDWR));
	if (fd < 0)
		return -errno;
	/* Who last read an image is nobody's concern; refused to other users. */
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NOATIME);
	return fd;
}

static int explain_open(const struct blk *blk, int err)
{
	switch (err) {
	case -EACCES:
	case -EPERM:
		return fail(err, "--disk: '%s': permission denied: let this user %s it, or use readonly=on",
			    blk->path, blk->readonly ? "read" : "write");
	case -EROFS:
		return bad(blk, err, "its file system is read-only: use readonly=on");
	case -EBUSY:
		return bad(blk, err, "the host uses this device: unmount it, or use readonly=on");
	case -EISDIR:
	case -ENOTBLK:
		return bad(blk, err, "neither a file nor a block device: name one of these");
	case -EINVAL:
		return bad(blk, err, "its file system has no direct I/O: use direct=off");
	default:
		return fail(err, "--disk: '%s': %s: name an image file or a block device",
			    blk->path, strerror(-err));
	}
}

static int explain_lock(const struct blk *blk)
{
	return fail(-EBUSY, "--disk: '%s': another program %s it: stop that first%s",
		    blk->path, blk->readonly ? "writes to" : "uses",
		    blk->readonly ? "" : ", or use readonly=on in both");
}

/* One number of the device's queue in sysfs; partitions have their disk's. */
static u64 queue_number(dev_t dev, const char *name)
{
	static const char * const where[] = { "", "../" };
	unsigned long long value = 0;
	unsigned int i;
	char path[128];
	FILE *f;

	for (i = 0; i < ARRAY_SIZE(where); i++) {
		snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%squeue/%s",
			 major(dev), minor(dev), where[i], name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &value) != 1)
			value = 0;
		fclose(f);
		break;
	}
	return value;
}

/*
 * How many pages the device takes in one go; a request of the host's kernel
 * has BIO_PAGES at most.
 */
static u32 pages_at_once(dev_t dev)
{
	u64 pages = queue_number(dev, "max_segments");
	u64 kib = queue_number(dev, "max_sectors_kb");

	if (pages > kib / 4)
		pages = kib / 4;
	return pages < BIO_PAGES ? pages : BIO_PAGES;
}

static int measure_device(struct blk *blk, int fd, dev_t dev)
{
	unsigned int physical = 0, optimal = 0;
	int logical = 0;
	u64 size;

	if (ioctl(fd, BLKGETSIZE64, &size) || ioctl(fd, BLKSSZGET, &logical) ||
	    ioctl(fd, BLKPBSZGET, &physical) || ioctl(fd, BLKIOOPT, &optimal))
		return fail(-errno, "--disk: '%s': %s", blk->path,
			    strerror(errno));
	blk->size = size;
	blk->block = logical;
	blk->physical = physical;
	blk->optimal = optimal;
	blk->discard_block = queue_number(dev, "discard_granularity");
	blk->can_discard = queue_number(dev, "discard_max_bytes");
	return 0;
}

static void measure_file(struct blk *blk, int fd, const struct stat *st)
{
	blk->size = st->st_size;
	blk->block = BLK_SECTOR;
	blk->physical = st->st_blksize;
	blk->discard_block = st->st_blksize;
	/* Beyond the end there is nothing to lose. */
	blk->can_discard = !blk->readonly &&
			   !fallocate(fd, PUNCH, st->st_size, BLK_SECTOR);
}

static int measure(struct blk *blk, int fd)
{
	struct raw *raw = blk->data;
	struct stat st;
	int ret = 0;

	if (fstat(fd, &st))
		return fail(-errno, "--disk: '%s': %s", blk->path,
			    strerror(errno));
	raw->device = S_ISBLK(st.st_mode);
	raw->at_once = pages_at_once(raw->device ? st.st_rdev : st.st_dev);
	if (raw->device)
		ret = measure_device(blk, fd, st.st_rdev);
	else
		measure_file(blk, fd, &st);
	if (ret)
		return ret;
	if (!blk->size)
		return bad(blk, -EINVAL, "it is empty: make an image first, as with 'truncate -s 10G'");
	if (blk->size % BLK_SECTOR)
		return fail(-EINVAL, "--disk: '%s': %llu bytes are no whole number of sectors: it was cut short, or is no raw image: copy it again or convert it with 'qemu-img convert -O raw'",
			    blk->path, (unsigned long long)blk->size);
	return 0;
}

/* What a file system tells (6.1 and newer), or what it turns out to take. */
static bool direct_alignment(int fd, u32 *mem, u32 *block)
{
	struct statx stx;
	void *buf;

	if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) &&
	    stx.stx_mask & STATX_DIOALIGN) {
		*mem = stx.stx_dio_mem_align;
		*block = stx.stx_dio_offset_align;
		return *mem && *block;
	}
	if (posix_memalign(&buf, 8192, 8192))
		return false;
	for (*block = BLK_SECTOR; *block <= 4096; *block *= 8)
		if (pread(fd, (u8 *)buf + *block, *block, 0) >= 0)
			break;
	free(buf);
	*mem = *block;
	return *block <= 4096;
}

/* Direct I/O if that is asked for or can be, else cached; silent if it's busy. */
static int open_best(struct blk *blk)
{
	struct raw *raw = blk->data;
	u32 mem, block;
	int fd, ret;

	raw->align = 1;
	if (blk->direct != DISK_DIRECT_OFF) {
		fd = open_file(blk, O_DIRECT);
		if (fd < 0 && (fd != -EINVAL || blk->direct == DISK_DIRECT_ON))
			return fd == -EBUSY ? fd : explain_open(blk, fd);
		ret = fd < 0 ? fd : measure(blk, fd);
		if (!ret && direct_alignment(fd, &mem, &block) &&
		    (block <= blk->block || blk->direct == DISK_DIRECT_ON)) {
			if (blk->block < block)
				blk->block = block;
			raw->align = mem;
			blk->direct = DISK_DIRECT_ON;
			return fd;
		}
		if (fd >= 0)
			close(fd);
		if (fd >= 0 && ret)
			return ret;
		if (blk->direct == DISK_DIRECT_ON)
			return explain_open(blk, -EINVAL);
	}
	blk->direct = DISK_DIRECT_OFF;
	fd = open_file(blk, 0);
	if (fd < 0)
		return fd == -EBUSY ? fd : explain_open(blk, fd);
	ret = measure(blk, fd);
	if (ret) {
		close(fd);
		return ret;
	}
	return fd;
}

/*
 * The kernel lets go of a file a second after the process that had it in an
 * io_uring was killed: who is busy may just be the machine that ran before.
 */
static int open_and_lock(struct blk *blk)
{
	unsigned int tries = 0;
	int fd, ret;

	for (;;) {
		fd = open_best(blk);
		ret = fd < 0 ? fd : blk->later ? 0 : blk_lock(fd, !blk->readonly);
		if (!ret && !blk->later && !blk->readonly)
			ret = blk_unread(fd);
		if (ret != -EBUSY)
			break;
		if (fd >= 0)
			close(fd);
		if (++tries == BUSY_TRIES)
			return fd < 0 ? explain_open(blk, fd) :
					explain_lock(blk);
		usleep(BUSY_WAIT_US);
	}
	if (fd >= 0 && ret)
		note("--disk: '%s': cannot be locked (%s): nothing keeps a second writer away",
		     blk->path, strerror(-ret));
	return fd;
}

static int raw_open(struct blk *blk)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	int fd, ret;

	if (!raw)
		return fail(-ENOMEM, "out of memory");
	blk->data = raw;
	blk->durable = true;
	fd = open_and_lock(blk);
	if (fd < 0) {
		ret = fd;
		goto free;
	}
	if (blk->size % blk->block) {
		ret = fail(-EINVAL, "--disk: '%s': direct I/O needs a multiple of %u bytes: extend it, or use direct=off",
			   blk->path, blk->block);
		goto close;
	}
	raw->file.fd = fd;
	raw->file.slot = -1;
	return 0;
close:
	close(fd);
free:
	free(raw);
	blk->data = NULL;
	return ret;
}

static void raw_close(struct blk *blk)
{
	struct raw *raw = blk->data;

	/* The ring may hold the file for longer than we do. */
	if (!blk->later)
		blk_unlock(raw->file.fd);
	close(raw->file.fd);
	free(raw);
	blk->data = NULL;
}

static void raw_attach(struct blk *blk)
{
	struct raw *raw = blk->data;

	loop_file_add(&raw->file, raw->file.fd);
	/* Through the host's cache registered memory saves nothing. */
	raw->file.pins = blk->direct == DISK_DIRECT_ON;
	if (raw->file.pins && loop_memory_by_page())
		raw->file.registered_pages = raw->at_once;
}

static void raw_detach(struct blk *blk)
{
	struct raw *raw = blk->data;

	loop_file_drop(&raw->file);
}

/* What the machine asks for. */

static int raw_resize(struct blk *blk, u64 size)
{
	struct raw *raw = blk->data;
	struct stat st;

	if (size % blk->block)
		return -EINVAL;
	if (size && (raw->device || blk->readonly))
		return -EOPNOTSUPP;
	if (size && size < blk->size)
		return -ERANGE;
	if (size && ftruncate(raw->file.fd, size))
		return -errno;
	if (raw->device) {
		if (ioctl(raw->file.fd, BLKGETSIZE64, &size))
			return -errno;
	} else {
		if (fstat(raw->file.fd, &st))
			return -errno;
		size = st.st_size;
	}
	/* The rest of a block cannot be reached. */
	blk_resized(blk, size - size % blk->block);
	return 0;
}

static int raw_reflink(struct blk *blk, int fd)
{
	struct raw *raw = blk->data;

	if (raw->device)
		return -EOPNOTSUPP;
	return ioctl(fd, FICLONE, raw->file.fd) ? -errno : 0;
}

static int raw_share(struct blk *blk, bool share)
{
	struct raw *raw = blk->data;

	return blk_lock(raw->file.fd, !share && !blk->readonly);
}

static int raw_sync(struct blk *blk)
{
	struct raw *raw = blk->data;

	return blk->readonly || !fdatasync(raw->file.fd) ? 0 : -errno;
}

static int raw_peek(struct blk *blk, u64 pos, void *data, size_t len)
{
	struct raw *raw = blk->data;
	ssize_t n;

	for (; len; pos += n, data = (u8 *)data + n, len -= n) {
		n = pread(raw->file.fd, data, len, pos);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int take(struct blk *blk)
{
	struct raw *raw = blk->data;
	unsigned int tries;
	struct stat st;
	int ret = -EBUSY;

	for (tries = 0; ret == -EBUSY && tries < BUSY_TRIES; tries++) {
		if (tries)
			usleep(BUSY_WAIT_US);
		ret = blk_lock(raw->file.fd, !blk->readonly);
	}
	if (ret == -EBUSY)
		return ret;
	if (ret)
		note("--disk: '%s': cannot be locked (%s): nothing keeps a second writer away",
		     blk->path, strerror(-ret));
	/* What this host knew of it before is old. */
	posix_fadvise(raw->file.fd, 0, 0, POSIX_FADV_DONTNEED);
	blk->later = false;
	return fstat(raw->file.fd, &st) ? -errno : 0;
}

static int raw_own(struct blk *blk, bool own)
{
	struct raw *raw = blk->data;
	int ret;

	if (own)
		return take(blk);
	ret = raw_sync(blk);
	if (ret)
		return ret;
	blk_unlock(raw->file.fd);
	blk->later = true;
	return 0;
}

const struct blk_kind blk_raw = {
	.name = "raw",
	.open = raw_open,
	.close = raw_close,
	.attach = raw_attach,
	.detach = raw_detach,
	.start = raw_start,
	.resize = raw_resize,
	.reflink = raw_reflink,
	.share = raw_share,
	.own = raw_own,
	.sync = raw_sync,
	.peek = raw_peek,
};
