// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's side of the pvhv bus: a driver that does anything to registers, page and rings.
 *
 *   libFuzzer, replay and sources: see virtio-bus-fuzz.sh
 *
 * Input: steps, each a byte of what and its bytes. Some steps write any bytes into guest memory or to a register, some are what a
 * driver would do, so that the depth is reached too. What must hold: no access outside guest memory (which is an allocation of
 * its size) or of our own; a page shows the device's status and an even generation; eventfds are bound at most once; a reset
 * ends with status 0; saved state loads into the same state; all memory is freed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "fakeloop.h"
#define BUSDEV_CHECK(cond)	CHECK(cond)
#include "../lib/busdev.h"
#include "../lib/vring.h"

#define PAGES		4		/* the pages that the driver names, from the second on */
#define RING		0x10000ULL
#define MSI_ADDR	0xfee00000ULL

static struct vring_drv ring[BUSDEV_QUEUES];

static void quiet(const char *line)
{
	CHECK(!strchr(line, '\n'));
}

static struct pvhv_bus_page *page(void)
{
	u32 frame = busdev_in(PVHV_BUS_FRAME, 4);

	return frame ? mem_at(&mem, (u64)frame << PVHV_BUS_PAGE_SHIFT, sizeof(struct pvhv_bus_page)) : NULL;
}

static void idle(void)
{
	struct pvhv_bus_page *p = page();
	u32 i;

	virtio_service(echo);
	fakeloop_run(40);
	for (i = 0; i < BUSDEV_GSIS; i++)
		CHECK(busdev_irqfd[i] >= 0 && busdev_irqfd[i] <= BUSDEV_QUEUES + 1);
	virtio_refresh(echo);
	if (!p)
		return;
	CHECK(p == page());
	CHECK((u8)p->status == virtio_status(echo));
	if (echo->broken)
		CHECK(virtio_status(echo) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void command(u32 nr)
{
	busdev_out(PVHV_BUS_COMMAND, nr, 4);
	if (page())
		CHECK(page()->result <= PVHV_BUS_EFAIL);
}

static void set_status(u32 status)
{
	if (page())
		page()->arg.status = status;
	command(PVHV_BUS_CMD_STATUS);
}

static void random_arg(void)
{
	u32 len = take8() % (sizeof(page()->arg) + 1), i;

	for (i = 0; page() && i < len; i++)
		page()->arg.bytes[i] = take8();
}

/* What a driver does, up to DRIVER_OK, with @shape's bits left out */
static void drive(u8 shape)
{
	struct pvhv_bus_page *p;
	u32 i;

	busdev_out(PVHV_BUS_FRAME, 1 + shape % PAGES, 4);
	p = page();
	CHECK(p && p->device == 63 && p->nr_queues == BUSDEV_QUEUES && !(p->generation % 2));
	set_status(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER);
	p->arg.features = p->features;
	command(PVHV_BUS_CMD_FEATURES);
	set_status(VIRTIO_CONFIG_S_FEATURES_OK);
	for (i = 0; i < BUSDEV_QUEUES; i++) {
		vring_drv_init(&ring[i], &mem, RING + i * 0x4000, shape & 4 ? 8 : 16);
		p->arg.vector = (struct pvhv_bus_vector){ .index = i, .on = !(shape & 8), .address = MSI_ADDR, .data = i };
		command(PVHV_BUS_CMD_VECTOR);
		p->arg.queue = (struct pvhv_bus_queue){ i, ring[i].num, ring[i].at.desc, ring[i].at.avail, ring[i].at.used,
							shape & 16 ? PVHV_BUS_NO_VECTOR : i, 0 };
		if (!(shape & 32) || i)
			command(PVHV_BUS_CMD_QUEUE);
	}
	set_status(VIRTIO_CONFIG_S_DRIVER_OK);
	idle();
}

static void request(void)
{
	u32 q = take8() % BUSDEV_QUEUES;

	if (!ring[q].desc)
		return;
	vring_add(&ring[q], &(struct vring_piece){ take32() % (2 * BUSDEV_MEM), take16(), take8() & 1 }, 1);
	vring_show(&ring[q], true);
	fakeloop_kick(&echo->queues[q].task);
	idle();
}

static void write_memory(void)
{
	u32 at = take16() << 2, len = take8();

	for (; len && at < BUSDEV_MEM; len--, at++)
		mem.host[at] = take8();
}

static void move(void)
{
	struct state st, again;

	virtio_pause(echo);
	idle();
	CHECK(virtio_quiet(echo));
	state_init(&st);
	CHECK(!devices_save(&devs, &st));
	busdev_unmake();
	busdev_make();
	CHECK(!devices_load(&devs, st.data, st.len));
	state_init(&again);
	CHECK(!devices_save(&devs, &again));
	CHECK(st.len == again.len);
	state_free(&st);
	state_free(&again);
	idle();
}

static void step(void)
{
	u8 what = take8();

	switch (what % 10) {
	case 0:
		write_memory();
		break;
	case 1:
		busdev_out(take16() % 1024, take32(), 1 << take8() % 3);
		break;
	case 2:
		busdev_in(take16() % 1024, 1 << take8() % 3);
		break;
	case 3:
		busdev_out(PVHV_BUS_FRAME, what & 0x80 ? take32() : take8() % 80, 4);
		break;
	case 4:
		random_arg();
		command(what & 0x80 ? take8() : 1 + take8() % 6);
		break;
	case 5:
		drive(take8());
		break;
	case 6:
		request();
		break;
	case 7:
		set_status(0);
		idle();
		CHECK(!page() || !virtio_status(echo));
		break;
	case 8:
		busdev_refuse = what & 0x80;
		virtio_config_set(echo, take8() % BUSDEV_CONFIG, &what, 1);
		break;
	default:
		if (what & 0x80)
			move();
		else
			idle();
	}
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	fail_sink = quiet;
	input_set(input, size);
	busdev_make();
	memset(mem.host, 0, BUSDEV_MEM);
	memset(ring, 0, sizeof(ring));
	while (input_left())
		step();
	idle();
	busdev_unmake();
	return 0;
}

#ifdef REPLAY
static void replay_random(unsigned long count)
{
	static const u8 usual[] = { 5, 5, 6, 6, 6, 4, 4, 7, 8, 9, 0x89 };
	u8 buf[256];
	unsigned long i;
	u32 j;

	srand(1);
	for (i = 0; i < count; i++) {
		u32 len = rand() % sizeof(buf);

		for (j = 0; j < len; j++)
			buf[j] = rand() % 3 ? (u32)rand() : usual[rand() % sizeof(usual)];
		if (i % 2)
			buf[0] = 5;
		LLVMFuzzerTestOneInput(buf, len);
	}
}

#include "replay.h"
#endif
