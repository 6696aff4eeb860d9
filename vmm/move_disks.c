// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are copied along with a machine that moves.
 *  1. Where it leaves: those that are files or devices are offered, read by the
 *     library's threads, and what the guest writes meanwhile is logged.
 *  2. Where it comes to, before it is made: each has a file of its own, new or
 *     empty, which is locked; one that somebody else has locked is the same
 *     file, on storage of both hosts, and is left alone.
 *  3. What comes is written.  Until all of it is there, the file is one byte
 *     too long, so that nobody takes it for a disk.
 *  4. It is complete, and the machine's; or of no use, and emptied or removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk.h"
#include "move.h"

#define FACT		"copy_disks"
/* Written and not yet on the storage: what a flush has to wait for. */
#define UNFLUSHED_MAX	(32 * MIB)
#define ZEROES_LEN	(64 * KIB)

static void name_of(u32 disk, char *name, size_t len)
{
	snprintf(name, len, "disk%u", disk);
}

/* 1. */

static struct {
	u32 nr;
	u32 disk[DISKS_MAX];
} offered;

int move_disks_offer(struct vm *vm, struct migrate_disk *list, unsigned int max)
{
	struct blk *blk;
	u32 i;

	offered.nr = 0;
	for (i = 0; (blk = disks_at(vm, i)); i++) {
		if (!blk->kind->peek || offered.nr == max)
			continue;
		memset(&list[offered.nr], 0, sizeof(*list));
		name_of(i, list[offered.nr].name, MIGRATE_NAME_MAX);
		list[offered.nr].size = blk->size;
		offered.disk[offered.nr++] = i;
	}
	return offered.nr;
}

int move_disks_describe(struct vm *vm, struct migrate_facts *facts)
{
	struct migrate_disk list[DISKS_MAX];
	char text[DISKS_MAX * 8] = "";
	int nr = move_disks_offer(vm, list, DISKS_MAX), i;
	size_t len = 0;

	for (i = 0; i < nr; i++)
		len += snprintf(text + len, sizeof(text) - len, "%s%s",
				i ? " " : "", list[i].name);
	return nr ? migrate_fact(facts, FACT, "%s", text) : 0;
}

/* Main thread */
int move_disks_log(struct vm *vm)
{
	int ret = 0;
	u32 i;

	for (i = 0; i < offered.nr && !ret; i++)
		ret = blk_log_start(disks_at(vm, offered.disk[i]));
	if (ret)
		move_disks_unlog(vm);
	return ret;
}

void move_disks_unlog(struct vm *vm)
{
	u32 i;

	for (i = 0; i < offered.nr; i++)
		blk_log_stop(disks_at(vm, offered.disk[i]));
}

int move_disks_fetch(struct vm *vm, unsigned int nr, u64 *bitmap)
{
	blk_log_fetch(disks_at(vm, offered.disk[nr]), bitmap);
	return 0;
}

int move_disks_read(struct vm *vm, unsigned int nr, u64 pos, void *data,
		    size_t len)
{
	struct blk *blk = disks_at(vm, offered.disk[nr]);

	return blk->kind->peek(blk, pos, data, len);
}

/* 2. */

struct target {
	u32 disk;
	const char *path;
	int fd;
	u64 size;
	bool created;
	atomic_ullong unflushed;
};

static struct {
	u32 nr;
	struct target t[DISKS_MAX];
} targets;

static int refuse(const struct target *t, int err, const char *what)
{
	return fail(err, "disk%u cannot be copied to '%s': %s", t->disk, t->path,
		    what);
}

static int make_file(struct target *t)
{
	t->fd = open(t->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		     0600);
	t->created = t->fd >= 0;
	if (t->fd < 0 && errno == EEXIST)
		t->fd = open(t->path, O_RDWR | O_CLOEXEC);
	return t->fd < 0 ? refuse(t, -errno, strerror(errno)) : 0;
}

/* 0; 1: it is the same file as the source's, or another program's. */
static int take_file(struct target *t)
{
	struct stat st;
	int ret;

	if (fstat(t->fd, &st))
		return refuse(t, -errno, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return refuse(t, -EINVAL, "it is no file: name one that is not there yet with --disk");
	ret = blk_lock(t->fd, true);
	if (ret == -EBUSY)
		return 1;
	if (ret)
		return refuse(t, ret, "nothing can be locked there, so it might be the source's");
	if (st.st_blocks || (st.st_size && (u64)st.st_size != t->size))
		return refuse(t, -EEXIST, "it is there already and holds something: remove it, or leave out --copy-disks where both hosts have the disk");
	return ftruncate(t->fd, t->size) ? refuse(t, -errno, strerror(errno)) : 0;
}

static int prepare(struct target *t)
{
	int ret;

	if (blk_is_uri(t->path))
		return refuse(t, -EINVAL, "a server's disk is not copied to: leave out --copy-disks, or name a file with --disk");
	ret = make_file(t);
	if (!ret)
		ret = take_file(t);
	if (!ret)
		return 0;
	if (t->created)
		unlink(t->path);
	if (t->fd >= 0)
		close(t->fd);
	t->fd = -1;
	return ret;
}

static u64 size_of(const struct migrate_facts *facts, u32 disk)
{
	const char *text;
	char name[32];

	snprintf(name, sizeof(name), "disk%u.size", disk);
	text = migrate_fact_get(facts, name);
	return text ? strtoull(text, NULL, 10) : 0;
}

/* @disk is one of the words of @list. */
static bool listed(const char *list, u32 disk)
{
	char name[16], word[16];
	int used;

	name_of(disk, name, sizeof(name));
	for (; sscanf(list, "%15s%n", word, &used) == 1; list += used)
		if (!strcmp(word, name))
			return true;
	return false;
}

/* Before the disks are opened, and before there is a sandbox. */
int move_disks_prepare(const struct options *opt,
		       const struct migrate_facts *facts)
{
	const char *list = migrate_fact_get(facts, FACT);
	struct target *t;
	int ret = 0;
	u32 i;

	for (i = 0; list && i < opt->nr_disks && ret >= 0; i++) {
		if (!listed(list, i))
			continue;
		t = &targets.t[targets.nr];
		t->disk = i;
		t->path = opt->disks[i].path;
		t->size = size_of(facts, i);
		ret = t->size % BLK_SECTOR || !t->size || t->size > INT64_MAX / 2 ?
		      refuse(t, -EBADMSG, "its size makes no sense") : prepare(t);
		if (!ret)
			targets.nr++;
	}
	return ret < 0 ? ret : 0;
}

/* They are open as what they will be. */
int move_disks_begin(void)
{
	u32 i;

	for (i = 0; i < targets.nr; i++)
		if (ftruncate(targets.t[i].fd, targets.t[i].size + 1))
			return refuse(&targets.t[i], -errno, strerror(errno));
	return 0;
}

int move_disks_list(struct migrate_disk *list, unsigned int max)
{
	u32 i;

	for (i = 0; i < targets.nr && i < max; i++) {
		memset(&list[i], 0, sizeof(list[i]));
		name_of(targets.t[i].disk, list[i].name, MIGRATE_NAME_MAX);
		list[i].size = targets.t[i].size;
	}
	return i;
}

/* 3. */

static int write_all(int fd, const u8 *data, u64 len, u64 pos)
{
	ssize_t n;

	for (; len; pos += n, data += n, len -= n) {
		n = pwrite(fd, data, len, pos);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n <= 0)
			return n ? -errno : -EIO;
	}
	return 0;
}

static int write_zeroes(int fd, u64 pos, u64 len)
{
	static const u8 zeroes[ZEROES_LEN];
	int ret = 0;
	u64 n;

	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, len))
		return 0;
	for (; len && !ret; pos += n, len -= n) {
		n = len < ZEROES_LEN ? len : ZEROES_LEN;
		ret = write_all(fd, zeroes, n, pos);
	}
	return ret;
}

int move_disks_write(unsigned int nr, u64 pos, const void *data, u64 len)
{
	struct target *t = &targets.t[nr];
	int ret;

	ret = data ? write_all(t->fd, data, len, pos) :
		     write_zeroes(t->fd, pos, len);
	if (ret || atomic_fetch_add(&t->unflushed, len) + len < UNFLUSHED_MAX)
		return ret;
	atomic_store(&t->unflushed, 0);
	return fdatasync(t->fd) ? -errno : 0;
}

int move_disks_flush(void)
{
	u32 i;

	for (i = 0; i < targets.nr; i++)
		if (atomic_exchange(&targets.t[i].unflushed, 0) &&
		    fdatasync(targets.t[i].fd))
			return -errno;
	return 0;
}

/* 4. */

/* The machine's own descriptors take the locks from here on. */
int move_disks_end(void)
{
	struct target *t;
	u32 i;

	for (i = 0; i < targets.nr; i++) {
		t = &targets.t[i];
		if (ftruncate(t->fd, t->size) || fsync(t->fd))
			return refuse(t, -errno, strerror(errno));
	}
	for (i = 0; i < targets.nr; i++)
		blk_unlock(targets.t[i].fd);
	return 0;
}

/* By its name, if it has that still, and we may. */
static void remove_file(const struct target *t)
{
	struct stat a, b;

	if (t->created && !fstat(t->fd, &a) &&
	    !fstatat(AT_FDCWD, t->path, &b, AT_SYMLINK_NOFOLLOW) &&
	    a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		unlinkat(AT_FDCWD, t->path, 0);
}

void move_disks_close(bool keep)
{
	struct target *t;

	while (targets.nr) {
		t = &targets.t[--targets.nr];
		/* One that stays after all must not be taken for a disk. */
		if (!keep && ftruncate(t->fd, 0))
			note("disk%u: '%s' holds a copy that is of no use: remove it",
			     t->disk, t->path);
		if (!keep)
			remove_file(t);
		close(t->fd);
	}
}
