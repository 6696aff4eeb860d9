// SPDX-License-Identifier: GPL-2.0
/*
 * A machine from a file or pipe.
 *  1. A stream: as a destination reads it, but nobody is answered.
 *  2. An image: its memory is mapped, so that pages come as they are touched,
 *     or read where it cannot be.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mig.h"

#define BUFFER		(1U << 20)

/* The blocks lie one after the other, inside of the section. */
static int check_layout(struct migrate *m, struct stream *s, u64 len)
{
	u64 at = s->ch.bytes_in, end = at + len;
	unsigned int i;

	for (i = 0; i < m->blocks.nr; i++) {
		u64 offset = m->blocks.offset[i], size = m->blocks.b[i].size;

		if (offset % PAGE_SIZE || offset < at || offset > end || size > end - offset)
			return verdict(&m->verdict, -EBADMSG,
				       "%s: memory block '%s' lies outside of its section",
				       s->ch.peer, m->blocks.b[i].name);
		at = offset + size;
	}
	if (at != end)
		return verdict(&m->verdict, -EBADMSG, "%s: the memory's length is wrong",
			       s->ch.peer);
	return 0;
}

static bool map_blocks(struct migrate *m, int fd, u64 end)
{
	struct stat st;
	unsigned int i;

	/* What is not in the file must not be touched later. */
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (u64)st.st_size < end)
		return false;
	for (i = 0; i < m->blocks.nr; i++) {
		const struct migrate_block *b = &m->blocks.b[i];

		if (mmap(b->host, b->size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, fd,
			 m->blocks.offset[i]) == MAP_FAILED)
			return false;
	}
	return lseek(fd, end, SEEK_SET) >= 0;
}

static void copy_pages(const struct migrate_block *b, u8 *host, const u8 *data, size_t len)
{
	for (; len; len -= PAGE_SIZE, host += PAGE_SIZE, data += PAGE_SIZE)
		if (!b->fresh || !page_is_zero(data))
			memcpy(host, data, PAGE_SIZE);
}

static int read_block(struct stream *s, const struct migrate_block *b, u8 *buf)
{
	u64 at;
	int err;

	for (at = 0; at < b->size; at += BUFFER) {
		size_t n = MIN(b->size - at, BUFFER);

		err = channel_read(&s->ch, buf, n, false);
		if (err)
			return err;
		copy_pages(b, (u8 *)b->host + at, buf, n);
	}
	return 0;
}

static int read_blocks(struct migrate *m, struct stream *s)
{
	u8 *buf = malloc(BUFFER);
	unsigned int i;
	int err = 0;

	if (!buf)
		return verdict(&m->verdict, -ENOMEM, "no memory for a buffer");
	for (i = 0; !err && i < m->blocks.nr; i++) {
		while (!err && s->ch.bytes_in < m->blocks.offset[i])
			err = channel_read(&s->ch, buf,
					   MIN(m->blocks.offset[i] - s->ch.bytes_in, BUFFER), false);
		if (!err)
			err = read_block(s, &m->blocks.b[i], buf);
	}
	free(buf);
	return err;
}

static int restore_memory(struct migrate *m, struct stream *s, int fd, bool map)
{
	struct section sec;
	u64 end;
	int err;

	err = stream_expect(s, TYPE_MEMORY, &sec);
	if (!err)
		err = check_layout(m, s, sec.len);
	if (err)
		return err;
	end = s->ch.bytes_in + sec.len;
	if (map && map_blocks(m, fd, end)) {
		s->ch.bytes_in = end;
		return 0;
	}
	return read_blocks(m, s);
}

static int restore_tail(struct migrate *m, struct stream *s)
{
	struct state_in state = { .data = NULL };
	struct section sec;
	int err;

	do {
		err = stream_get(s, &sec);
		if (!err && sec.type == TYPE_STATE)
			err = state_get(&state, &sec, &m->verdict);
		else if (!err && sec.type != TYPE_SUMS && sec.type != TYPE_END)
			err = stream_unexpected(s, &sec);
	} while (!err && sec.type != TYPE_END);
	if (!err && (sec.len != END_LEN || get64(sec.data) != m->blocks.bytes / PAGE_SIZE ||
		     get64(sec.data + 8) != state.len || state.len != state.total))
		err = verdict(&m->verdict, -EBADMSG, "%s: the end does not match what came",
			      s->ch.peer);
	if (!err)
		err = receive_load(m, &state);
	free(state.data);
	return err;
}

static int restore(struct migrate *m, struct stream *s, int fd, bool map)
{
	struct header h;
	int err;

	err = stream_get_header(s, &h);
	if (err)
		return err;
	if (!(h.flags & HDR_ONEWAY) || h.flags & HDR_RESOLVE || h.connections != 1)
		return verdict(&m->verdict, -EINVAL, "%s: this is half of a conversation, no file",
			       s->ch.peer);
	if (!(h.flags & HDR_IMAGE))
		return receive_all(m, s, &h);
	err = receive_facts(m, s);
	if (!err)
		err = receive_blocks(m, s, &h);
	if (!err)
		err = restore_memory(m, s, fd, map);
	return err ? err : restore_tail(m, s);
}

int migrate_restore(const struct migrate_ops *ops, void *vm, int fd, bool map,
		    char why[MIGRATE_WHY_MAX])
{
	struct migrate m = { .ops = ops, .vm = vm };
	struct migrate_io *io;
	struct stream s;
	int err, copy;

	why[0] = 0;
	migrate_params_init(&m.params);
	err = verdict_init(&m.verdict);
	if (err)
		return err;
	pthread_mutex_init(&m.lock, NULL);
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	io = copy < 0 ? NULL : migrate_io_fd(copy);
	if (io) {
		stream_init(&s, io, &m.verdict, m.params.stall_ms, "the file");
		err = restore(&m, &s, fd, map);
		stream_close(&s);
	} else {
		err = verdict(&m.verdict, -EBADF, "the file cannot be read");
	}
	if (err)
		snprintf(why, MIGRATE_WHY_MAX, "%s", m.verdict.why);
	pthread_mutex_destroy(&m.lock);
	verdict_fini(&m.verdict);
	return err;
}
