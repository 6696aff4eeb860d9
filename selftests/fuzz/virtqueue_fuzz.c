// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's virtqueue.c: rings of any content, in memory that anything may be written to meanwhile.
 *
 *   libFuzzer, replay and sources: see virtqueue-fuzz.sh
 *
 * Input: a byte of features and size, three of where the areas lie, then steps: a byte of what, its bytes. What must hold: a
 * request's pieces are guest memory (an allocation of its size), in order, no more than asked for, and add up; no more requests
 * are out than the ring has entries; a broken ring stays broken and has a reason; a saved ring loads into the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "../../vmm/virtio.h"

#define MEM_SIZE	(32 * KIB)
#define PIECES		24
#define OUT_MAX		1024

static struct mem mem;
static struct virtq q;
static struct virtq_layout at;
static struct virtq_buf out[OUT_MAX];
static struct iovec out_iov[OUT_MAX][PIECES];
static unsigned int nr_out;
static u64 features;

static void check_request(const struct virtq_buf *buf)
{
	u64 sums[2] = { 0, 0 };
	u8 data[64];
	u32 i;

	CHECK(buf->nr_out + buf->nr_in <= buf->max && buf->head < q.num);
	for (i = 0; i < buf->nr_out + buf->nr_in; i++) {
		u8 *p = buf->iov[i].iov_base;
		u64 len = buf->iov[i].iov_len;

		CHECK(len && p >= mem.host && p < mem.host + MEM_SIZE && len <= (u64)(mem.host + MEM_SIZE - p));
		sums[i >= buf->nr_out] += len;
	}
	CHECK(sums[0] == buf->out_len && sums[1] == buf->in_len);
	CHECK(virtq_read(buf, 0, data, sizeof(data)) == (buf->out_len < sizeof(data) ? buf->out_len : sizeof(data)));
	CHECK(virtq_read(buf, buf->out_len, data, 1) == 0);
	if (buf->in_len)
		CHECK(virtq_write(buf, buf->in_len - 1, data, 2) == 1);
	/* What the pieces are is known; what they hold the request may have overwritten by itself. */
}

static void pop(void)
{
	bool was_broken = q.broken;
	struct iovec parts[PIECES], *iov = nr_out < OUT_MAX ? out_iov[nr_out] : parts;
	struct virtq_buf buf = { .iov = iov, .max = take8() % (PIECES + 1) };
	int ret = virtq_pop(&q, &buf);

	if (ret == 1) {
		CHECK(!was_broken && q.num && nr_out < q.num && nr_out < OUT_MAX);
		check_request(&buf);
		CHECK(virtq_slice(iov, buf.nr_out, buf.out_len / 2, buf.out_len, parts) <= buf.nr_out);
		out[nr_out++] = buf;
	} else {
		CHECK(ret ? q.broken && *q.broken && !virtq_ready(&q) : !q.broken);
	}
	CHECK(q.in_flight == nr_out);
}

static void finish(bool push)
{
	unsigned int i;

	if (!nr_out)
		return;
	i = take8() % nr_out;
	if (push)
		virtq_push(&q, &out[i], take16());
	else
		virtq_unpop(&q, &out[i]);
	nr_out--;
	memmove(&out[i], &out[i + 1], (nr_out - i) * sizeof(out[0]));
	memmove(out_iov[i], out_iov[i + 1], (nr_out - i) * sizeof(out_iov[0]));
	for (; i < nr_out; i++)
		out[i].iov = out_iov[i];
	CHECK(q.in_flight == nr_out && q.nr_returned + nr_out <= (q.num ? q.num : OUT_MAX));
}

static void write_memory(void)
{
	u32 pos = take16(), len = take8() % 32;

	for (; len; len--, pos++)
		mem.host[pos % MEM_SIZE] = take8();
}

/* A descriptor with mostly sane values, in the ring's table or in one somewhere. */
static void write_desc(void)
{
	u8 where = take8(), shape = take8();
	struct vring_desc d = {
		.addr = (u64)take16() << (shape & 1 ? 8 : 0), .len = shape & 2 ? take8() * 16 : take16(),
		.flags = shape >> 2 & 7, .next = take8() % 64,
	};
	u64 pos = (shape & 0x20 ? at.desc : 0x4000) + where % 64 * 16;

	mem_write(&mem, pos, &d, sizeof(d));
}

static void offer(void)
{
	u16 idx, head = take8() % 64;

	if (mem_read(&mem, at.avail + 2, &idx, sizeof(idx)))
		return;
	mem_write(&mem, at.avail + 4 + 2 * (at.num ? idx % at.num : 0), &head, sizeof(head));
	idx++;
	mem_write(&mem, at.avail + 2, &idx, sizeof(idx));
}

static void save(struct state *st)
{
	state_init(st);
	state_begin(st, "q", 1);
	virtq_save(&q, st, 0);
	state_end(st);
	CHECK(!st->err);
}

static void move(void)
{
	struct state_section sec;
	struct state st, again;
	bool broken = q.broken;

	while (nr_out)
		finish(false);
	save(&st);
	CHECK(!state_find(st.data, st.len, "q", &sec));
	CHECK(!virtq_load(&q, &sec, 0));
	save(&again);
	CHECK(st.len == again.len && !memcmp(st.data, again.data, st.len));
	state_free(&st);
	state_free(&again);
	if (!broken)
		virtq_start(&q, &mem, &at, 64, features);
}

static void start(void)
{
	static const u16 sizes[] = { 1, 2, 8, 16, 64, 1024, 3, 0 };
	u8 how = take8();

	features = (how & 1 ? VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) : 0) | (how & 2 ? VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0);
	at.num = sizes[how >> 2 & 7];
	at.desc = take8() * (how & 0x80 ? 257 : 64);
	at.avail = take8() * (how & 0x80 ? 257 : 128);
	at.used = take8() * (how & 0x80 ? 257 : 128);
	virtq_fini(&q);
	nr_out = 0;
	if (virtq_start(&q, &mem, &at, 64, features))
		CHECK(q.broken && !virtq_ready(&q));
}

static void step(void)
{
	switch (take8() % 16) {
	case 0:
		write_memory();
		break;
	case 1:
	case 2:
	case 3:
		write_desc();
		break;
	case 4:
	case 5:
		offer();
		break;
	case 6:
		finish(false);
		break;
	case 7:
	case 8:
		finish(true);
		break;
	case 9:
		virtq_publish(&q);
		break;
	case 10:
		virtq_kicks_off(&q);
		break;
	case 11:
		virtq_kicks_on(&q);
		break;
	case 12:
		move();
		break;
	default:
		pop();
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	input_set(input, size);
	if (!mem.host)
		mem.host = malloc(MEM_SIZE);
	CHECK(mem.host);
	memset(mem.host, 0, MEM_SIZE);
	mem.size = mem.low = MEM_SIZE;
	start();
	while (input_left())
		step();
	virtq_fini(&q);
	nr_out = 0;
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
