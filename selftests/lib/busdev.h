/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: 1. a machine around one device on the pvhv bus, without a guest: interrupt chip, doorbells, ports;
 * 2. the device, an echo: it gives every request back as it came, in two queues, and has 16 bytes of configuration whose
 *    second half the driver may write.
 *
 * The includer provides the event loop (fuzz/fakeloop.h) and BUSDEV_CHECK(cond).
 */
#ifndef PVHV_SELFTESTS_BUSDEV_H
#define PVHV_SELFTESTS_BUSDEV_H

#include <string.h>
#include <unistd.h>
#include <linux/pvhv_para.h>

#include "../../vmm/virtio.h"
#include "../../vmm/virtio_bus.h"

#define BUSDEV_MEM	(256 * KIB)
#define BUSDEV_QUEUES	2
#define BUSDEV_SIZE	16
#define BUSDEV_GSIS	64
#define BUSDEV_CONFIG	16

static struct mem mem;
static struct iobus pio;
static struct devices devs;
static struct virtio_bus *bus;
static struct virtio *echo;
static u32 busdev_gsi, busdev_written;
static bool busdev_refuse;
static struct { u64 addr; u32 data; } busdev_routes[BUSDEV_GSIS];
static int busdev_irqfd[BUSDEV_GSIS], busdev_bells[2 * PVHV_BUS_QUEUES_MAX];

static int busdev_gsi_alloc(void *arg, unsigned int nr)
{
	(void)arg;
	busdev_gsi += nr;
	BUSDEV_CHECK(busdev_gsi <= BUSDEV_GSIS);
	return busdev_gsi - nr;
}

static int busdev_route(void *arg, u32 gsi, u64 addr, u32 data)
{
	(void)arg;
	BUSDEV_CHECK(gsi < BUSDEV_GSIS);
	if (busdev_refuse)
		return -EINVAL;
	busdev_routes[gsi].addr = addr;
	busdev_routes[gsi].data = data;
	return 0;
}

static int busdev_bind(void *arg, int fd, u32 gsi, bool on)
{
	(void)arg;
	BUSDEV_CHECK(gsi < BUSDEV_GSIS);
	/* An eventfd is never bound twice, nor taken off where it is not */
	BUSDEV_CHECK(on || busdev_irqfd[gsi]);
	busdev_irqfd[gsi] += on ? 1 : -1;
	(void)fd;
	return 0;
}

static int busdev_doorbell(void *arg, int fd, u32 number)
{
	(void)arg;
	BUSDEV_CHECK(number < ARRAY_SIZE(busdev_bells) && !busdev_bells[number]);
	busdev_bells[number] = fd;
	return 0;
}

/* --- the device --- */

static void echo_start(struct virtio *v)
{
	(void)v;
}

static void echo_stop(struct virtio *v)
{
	virtio_stopped(v);
}

static void echo_kick(struct virtio *v, unsigned int queue)
{
	struct iovec iov[BUSDEV_SIZE];
	struct virtq_buf buf = { .iov = iov, .max = BUSDEV_SIZE };

	do {
		virtio_kicks_off(v, queue);
		while (virtio_pop(v, queue, &buf))
			virtio_push(v, queue, &buf, 0);
		virtio_flush(v, queue);
	} while (virtio_kicks_on(v, queue));
}

static bool echo_writable(const struct virtio *v, u32 off, u32 len)
{
	return off >= BUSDEV_CONFIG / 2 && off + len <= v->config_len;
}

static void echo_changed(struct virtio *v, u32 off, u32 len)
{
	BUSDEV_CHECK(len && off + len <= v->config_len);
	busdev_written += len;
}

static void echo_destroy(struct virtio *v)
{
	virtio_fini(v);
	free(v);
}

static const struct virtio_ops echo_ops = {
	.name = "echo", .id = 63, .start = echo_start, .stop = echo_stop, .kick = echo_kick, .config_writable = echo_writable,
	.config_changed = echo_changed, .destroy = echo_destroy,
};

static void busdev_make(void)
{
	const struct virtio_bus_host host = {
		.irq = { .gsi_alloc = busdev_gsi_alloc, .msi_route = busdev_route, .irqfd = busdev_bind },
		.doorbell = busdev_doorbell,
	};
	static const u8 config[BUSDEV_CONFIG] = { 1, 2, 3, 4, 5, 6, 7, 8 };

	if (!mem.host) {
		mem.host = calloc(1, BUSDEV_MEM);
		BUSDEV_CHECK(mem.host);
		mem.size = mem.low = BUSDEV_MEM;
		mem.fd = -1;
	}
	memset(busdev_irqfd, 0, sizeof(busdev_irqfd));
	memset(busdev_bells, 0, sizeof(busdev_bells));
	busdev_gsi = 24;
	busdev_refuse = false;
	busdev_written = 0;
	iobus_init(&pio);
	devices_init(&devs);
	bus = virtio_bus_create(&host, &pio);
	echo = calloc(1, sizeof(*echo));
	BUSDEV_CHECK(bus && echo && !virtio_init(echo, &echo_ops, &mem, "echo", BUSDEV_QUEUES, BUSDEV_SIZE));
	echo->config_len = BUSDEV_CONFIG;
	virtio_config_set(echo, 0, config, sizeof(config));
	devices_add_named(&devs, &echo->dev, virtio_device_ops(), echo->label);
	BUSDEV_CHECK(!virtio_bus_add(bus, &devs, echo));
	virtio_open(echo);
}

static void busdev_unmake(void)
{
	virtio_close(echo);
	devices_destroy(&devs);
	virtio_bus_destroy(bus);
	iobus_fini(&pio);
}

/* --- the driver --- */

static u32 busdev_in(u32 reg, u32 len)
{
	u32 v = 0;

	iobus_read(&pio, PORT_BUS + reg, (u8 *)&v, len);
	return v;
}

static void busdev_out(u32 reg, u32 v, u32 len)
{
	iobus_write(&pio, PORT_BUS + reg, (u8 *)&v, len);
}

#endif /* PVHV_SELFTESTS_BUSDEV_H */
