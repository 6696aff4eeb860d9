// SPDX-License-Identifier: GPL-2.0
/*
 * Guest memory that disks use over and over, as databases and whoever else has
 * buffers of its own do: areas of it that turn out to be worth that are
 * registered with the ring, which then need not look up their pages.
 *
 * What is registered is pinned: not paged, not merged, and still written to
 * once the guest has other pages there.  So there are few of them, and
 * mem_release() and mem_hold() have them let go before it comes to that.
 */
#include <liburing.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "vmm.h"

#define AREA		(2 * MIB)	/* a huge page, if there is one */
#define PINS		64
#define SHARE		16		/* of memory at most */
/*
 * To pin an area takes some 20 000 instructions, and saves 1 000 for a piece of
 * 4 KiB and 10 000 for one of a MiB.  So it is worth it when it has WORTH of
 * the last COLD pieces, larger ones counting more; where all memory is used
 * alike nothing is.
 */
#define WORTH		64
#define WARMTH(len)	(1 + (len) / (16 * LOOP_PAGE))
#define COLD		2048

#define NOTHING		UINT64_MAX

struct area {
	signed char pin;	/* or -1 */
	u8 warmth;
};

static struct {
	struct mem *mem;
	struct io_uring *ring;	/* once it has room for pins */
	struct area *areas;
	u64 nr_areas;
	u64 area_of[PINS];	/* or NOTHING */
	bool used[PINS];	/* since the hand was there */
	unsigned int nr, hand;
	unsigned int pieces;	/* that were looked up since all was cold */
	bool refused;		/* the kernel pins no more */
} pins;

static void let_go(const void *host, u64 len);

/* What of @mem disks use often may be pinned with the next ring. */
void loop_pins(struct mem *mem)
{
	u64 nr = mem->size / SHARE / AREA, i;

	loop_pins_unregister();
	if (!nr)
		return;
	pins.nr_areas = ALIGN_UP(mem->size, AREA) / AREA;
	pins.areas = calloc(pins.nr_areas, sizeof(*pins.areas));
	if (!pins.areas)
		return;
	for (i = 0; i < pins.nr_areas; i++)
		pins.areas[i].pin = -1;
	for (i = 0; i < PINS; i++)
		pins.area_of[i] = NOTHING;
	pins.mem = mem;
	pins.nr = nr < PINS ? nr : PINS;
}

void loop_pins_register(struct io_uring *ring)
{
	if (!pins.mem || io_uring_register_buffers_sparse(ring, pins.nr))
		return;
	pins.ring = ring;
	pins.mem->let_go = let_go;
}

/* With the ring all pins go. */
void loop_pins_unregister(void)
{
	free(pins.areas);
	if (pins.mem)
		pins.mem->let_go = NULL;
	memset(&pins, 0, sizeof(pins));
}

/* Operations that are not submitted yet go by what is registered now. */
static bool set_buffer(unsigned int pin, void *base, u64 len)
{
	const struct iovec iov = { base, len };

	io_uring_submit(pins.ring);
	return io_uring_register_buffers_update_tag(pins.ring, pin, &iov, NULL,
						    1) == 1;
}

static void drop(unsigned int pin)
{
	pins.areas[pins.area_of[pin]].pin = -1;
	pins.area_of[pin] = NOTHING;
}

/* A free one, or one that was not used since the hand was last there. */
static int find_pin(void)
{
	unsigned int i;

	for (i = 0; i < pins.nr; i++)
		if (pins.area_of[i] == NOTHING)
			return i;
	i = pins.hand;
	pins.hand = (pins.hand + 1) % pins.nr;
	if (pins.used[i]) {
		pins.used[i] = false;
		return -1;
	}
	drop(i);
	return i;
}

static void pin_area(struct area *area)
{
	u64 nr = area - pins.areas, at = nr * AREA, left = pins.mem->size - at;
	int pin = find_pin();

	area->warmth = 0;
	if (pin < 0)
		return;
	/* It has no right to pin so much, for one; what was there is still. */
	if (!set_buffer(pin, pins.mem->host + at, left < AREA ? left : AREA)) {
		set_buffer(pin, NULL, 0);
		pins.refused = true;
		return;
	}
	pins.area_of[pin] = nr;
	area->pin = pin;
}

static bool is_worth_it(struct area *area, u64 len)
{
	u64 warmth, i;

	if (++pins.pieces > COLD) {
		for (i = 0; i < pins.nr_areas; i++)
			pins.areas[i].warmth = 0;
		pins.pieces = 0;
	}
	warmth = area->warmth + WARMTH(len);
	area->warmth = warmth < WORTH ? warmth : WORTH;
	return area->warmth == WORTH;
}

/* Where the whole piece is registered by now, or -1. */
int loop_pin(const struct iovec *iov)
{
	struct area *area;
	u64 at;

	if (!pins.ring)
		return -1;
	at = (u8 *)iov->iov_base - pins.mem->host;
	if (at >= pins.mem->size || iov->iov_len > pins.mem->size - at ||
	    at % AREA + iov->iov_len > AREA)
		return -1;
	area = &pins.areas[at / AREA];
	if (area->pin < 0 && !pins.mem->held && !pins.refused &&
	    is_worth_it(area, iov->iov_len))
		pin_area(area);
	if (area->pin >= 0)
		pins.used[(unsigned int)area->pin] = true;
	return area->pin;
}

/* The kernel keeps pages for what is in flight, and no longer. */
static void let_go(const void *host, u64 len)
{
	u64 first = ((const u8 *)host - pins.mem->host) / AREA;
	u64 last = ((const u8 *)host + len - 1 - pins.mem->host) / AREA;
	unsigned int i;

	for (i = 0; i < pins.nr; i++) {
		if (pins.area_of[i] < first || pins.area_of[i] > last ||
		    pins.area_of[i] == NOTHING)
			continue;
		drop(i);
		set_buffer(i, NULL, 0);
		pins.refused = false;
	}
}
