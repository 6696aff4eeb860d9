// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhv-run's PCI bus, MSI-X and the virtio core over it, with virtio-rng as the device and this program as guest and
 * interrupt chip: configuration space by ports and ECAM, BAR sizing and moving (also under fire from other threads), shared
 * interrupt lines, vectors masked, pending, routed and moved, the capabilities a driver looks for, negotiation, requests by
 * both doorbells, asynchronous reset, broken rings, saved and loaded state, and every width at every register.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "tap.h"
#include "vring.h"
#include "../vmm/pci.h"

#define MEM_SIZE	(4 * MIB)
#define RING		0x10000ULL
#define DATA		0x100000ULL
#define MSI_ADDR	0xfee00000U
#define FDS		64
#define GSIS		256

/* --- the machine around the bus ------------------------------------------------------------------------------ */

static struct mem mem;
static struct iobus pio, mmio;
static struct devices devs;
static struct pci_bus *bus;
static struct virtio *rng[3];
static int lines, line_level[64], refuse_route, routings;

static struct {
	u64 addr;
	u32 data;
} routes[GSIS];

static struct {
	int fd;
	u32 gsi;
} irqfds[FDS];

static struct {
	int fd;
	u64 addr;
	u32 len;
	bool pio;
} bells[FDS];

static int next_gsi;

static int gsi_alloc(void *arg, unsigned int nr)
{
	next_gsi += nr;
	return next_gsi - nr;
}

static int msi_route(void *arg, u32 gsi, u64 addr, u32 data)
{
	ASSERT(gsi < GSIS);
	routings++;
	if (refuse_route)
		return -EINVAL;
	routes[gsi].addr = addr;
	routes[gsi].data = data;
	return 0;
}

static int irqfd(void *arg, int fd, u32 gsi, bool on)
{
	int i, slot = -1;

	for (i = 0; i < FDS; i++) {
		if (irqfds[i].fd == fd) {
			ASSERT(!on && irqfds[i].gsi == gsi);
			irqfds[i].fd = 0;
			return 0;
		}
		if (!irqfds[i].fd)
			slot = i;
	}
	ASSERT(on && slot >= 0);
	irqfds[slot].fd = fd;
	irqfds[slot].gsi = gsi;
	return 0;
}

static pthread_mutex_t bell_lock = PTHREAD_MUTEX_INITIALIZER;

static int ioeventfd(void *arg, int fd, u64 addr, u32 len, bool is_pio, bool on)
{
	int i, slot = -1;

	pthread_mutex_lock(&bell_lock);
	for (i = 0; i < FDS; i++) {
		if (bells[i].fd == fd && bells[i].pio == is_pio) {
			ASSERT(!on && bells[i].addr == addr && bells[i].len == len);
			bells[i].fd = 0;
			goto out;
		}
		if (!bells[i].fd)
			slot = i;
	}
	ASSERT(on && slot >= 0);
	bells[slot].fd = fd;
	bells[slot].addr = addr;
	bells[slot].len = len;
	bells[slot].pio = is_pio;
out:
	pthread_mutex_unlock(&bell_lock);
	return 0;
}

static void line(void *arg, u32 gsi, bool level)
{
	ASSERT_NE(line_level[gsi], level);
	line_level[gsi] = level;
	lines++;
}

static const struct pci_host host = { gsi_alloc, msi_route, irqfd, ioeventfd, line, NULL };

/* Where a doorbell is heard, 0: nowhere */
static u64 bell_at(int fd, bool is_pio)
{
	int i;

	for (i = 0; i < FDS; i++)
		if (bells[i].fd == fd && bells[i].pio == is_pio)
			return bells[i].addr;
	return 0;
}

/* The message that a signal of @fd would be now; -1: none */
static long long message_of(int fd)
{
	int i;

	for (i = 0; i < FDS; i++)
		if (irqfds[i].fd == fd)
			return routes[irqfds[i].gsi].data;
	return -1;
}

/* Has it been signalled since it was last asked? */
static bool signalled(int fd)
{
	u64 count;

	return read(fd, &count, sizeof(count)) == sizeof(count);
}

static void woken(void *arg)
{
	int i;

	for (i = 0; i < 3; i++)
		if (rng[i])
			virtio_service(rng[i]);
}

static void turns_over(struct loop_op *op, int res)
{
	loop_quit();
}

/* Long enough for everything that is under way */
static void pump(void)
{
	struct loop_op op = { .done = turns_over };

	ASSERT_EQ(loop_timer(&op, 3), 0);
	ASSERT_EQ(loop_run(), 0);
}

static void setup(int nr, u64 bps)
{
	static const char * const labels[] = { "rng0", "rng1", "rng2" };
	int i;

	if (!mem.host)
		ASSERT_EQ(mem_init(&mem, MEM_SIZE, MEM_PAGES_SMALL), 0);
	memset(irqfds, 0, sizeof(irqfds));
	memset(bells, 0, sizeof(bells));
	next_gsi = GSI_MSI_BASE;
	iobus_init(&pio);
	iobus_init(&mmio);
	devices_init(&devs);
	bus = pci_create(&host, &pio, &mmio);
	ASSERT(bus);
	devices_add(&devs, pci_device(bus), pci_device_ops());
	ASSERT_EQ(loop_init(woken, NULL), 0);
	for (i = 0; i < nr; i++) {
		rng[i] = virtio_rng_create(&mem, labels[i], bps);
		ASSERT(rng[i]);
		ASSERT_EQ(virtio_own_kicks(rng[i], 1), 0);		/* to see which bell is where */
		devices_add_named(&devs, &rng[i]->dev, virtio_device_ops(), rng[i]->label);
		ASSERT_EQ(virtio_pci_add(bus, &devs, rng[i]), 0);
		virtio_open(rng[i]);
	}
}

static void teardown(void)
{
	int i;

	for (i = 0; i < 3; i++)
		if (rng[i])
			virtio_close(rng[i]);
	loop_fini();
	devices_destroy(&devs);
	memset(rng, 0, sizeof(rng));
	iobus_fini(&pio);
	iobus_fini(&mmio);
}

/* --- what a guest does --------------------------------------------------------------------------------------- */

static u32 in(u16 port, u32 len)
{
	u32 v = 0;

	iobus_read(&pio, port, (u8 *)&v, len);
	return v;
}

static void out(u16 port, u32 v, u32 len)
{
	iobus_write(&pio, port, (u8 *)&v, len);
}

static u32 rd(u64 addr, u32 len)
{
	u32 v = 0;

	iobus_read(&mmio, addr, (u8 *)&v, len);
	return v;
}

static void wr(u64 addr, u32 v, u32 len)
{
	iobus_write(&mmio, addr, (u8 *)&v, len);
}

static u32 cfg(u32 slot, u32 off, u32 len)
{
	out(0xcf8, 0x80000000 | slot << 11 | (off & 0xfc), 4);
	return in(0xcfc + (off & 3), len);
}

static void set_cfg(u32 slot, u32 off, u32 v, u32 len)
{
	out(0xcf8, 0x80000000 | slot << 11 | (off & 0xfc), 4);
	out(0xcfc + (off & 3), v, len);
}

static u64 ecam(u32 slot, u32 off)
{
	return PCI_ECAM_BASE + slot * 0x8000 + off;
}

static void enable(u32 slot)
{
	set_cfg(slot, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 2);
}

/* A capability's place: the @nr-th virtio one of @type, or of @id if @type is -1 */
static u32 find_cap(u32 slot, u8 id, int type, int nr)
{
	u32 at = cfg(slot, PCI_CAPABILITY_LIST, 1), seen = 0;

	ASSERT(cfg(slot, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	for (; at; at = cfg(slot, at + 1, 1)) {
		ASSERT_LT(seen++, 32);
		ASSERT(at >= 0x40 && at % 4 == 0);
		if (cfg(slot, at, 1) == id && (type < 0 || (int)cfg(slot, at + 3, 1) == type) && !nr--)
			return at;
	}
	return 0;
}

struct driver {
	u32 slot, msix;
	u64 common, isr, device, bell, table, pba;
	u16 port;
};

static u64 region(u32 slot, int type, int nr, u32 bar_type)
{
	u32 at = find_cap(slot, PCI_CAP_ID_VNDR, type, nr), bar;

	ASSERT_MSG(at, "no capability of type %d", type);
	bar = cfg(slot, PCI_BASE_ADDRESS_0 + 4 * cfg(slot, at + 4, 1), 4);
	ASSERT_EQ(bar & PCI_BASE_ADDRESS_SPACE, bar_type);
	return (bar & ~15u) + cfg(slot, at + 8, 4);
}

static void probe(struct driver *d, u32 slot)
{
	u32 bar;

	memset(d, 0, sizeof(*d));
	d->slot = slot;
	ASSERT_EQ(cfg(slot, PCI_VENDOR_ID, 4), 0x10441af4);
	enable(slot);
	d->common = region(slot, VIRTIO_PCI_CAP_COMMON_CFG, 0, 0);
	d->isr = region(slot, VIRTIO_PCI_CAP_ISR_CFG, 0, 0);
	d->port = region(slot, VIRTIO_PCI_CAP_NOTIFY_CFG, 0, PCI_BASE_ADDRESS_SPACE_IO);
	d->bell = region(slot, VIRTIO_PCI_CAP_NOTIFY_CFG, 1, 0);
	d->msix = find_cap(slot, PCI_CAP_ID_MSIX, -1, 0);
	ASSERT(d->msix);
	bar = cfg(slot, PCI_BASE_ADDRESS_0 + 4 * (cfg(slot, d->msix + 4, 4) & 7), 4) & ~15u;
	d->table = bar + (cfg(slot, d->msix + 4, 4) & ~7u);
	d->pba = bar + (cfg(slot, d->msix + 8, 4) & ~7u);
}

static u8 status(struct driver *d)
{
	return rd(d->common + VIRTIO_PCI_COMMON_STATUS, 1);
}

static void set_status(struct driver *d, u8 s)
{
	wr(d->common + VIRTIO_PCI_COMMON_STATUS, s, 1);
}

static u64 features(struct driver *d)
{
	u64 f;

	wr(d->common + VIRTIO_PCI_COMMON_DFSELECT, 0, 4);
	f = rd(d->common + VIRTIO_PCI_COMMON_DF, 4);
	wr(d->common + VIRTIO_PCI_COMMON_DFSELECT, 1, 4);
	return f | (u64)rd(d->common + VIRTIO_PCI_COMMON_DF, 4) << 32;
}

static void ack(struct driver *d, u64 f)
{
	wr(d->common + VIRTIO_PCI_COMMON_GFSELECT, 0, 4);
	wr(d->common + VIRTIO_PCI_COMMON_GF, f, 4);
	wr(d->common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	wr(d->common + VIRTIO_PCI_COMMON_GF, f >> 32, 4);
}

#define ACKNOWLEDGED	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define AGREED		(ACKNOWLEDGED | VIRTIO_CONFIG_S_FEATURES_OK)
#define RUNNING		(AGREED | VIRTIO_CONFIG_S_DRIVER_OK)

static void negotiate(struct driver *d)
{
	set_status(d, ACKNOWLEDGED);
	ack(d, features(d));
	set_status(d, AGREED);
	ASSERT_EQ(status(d), AGREED);
}

static void set_queue(struct driver *d, const struct virtq_layout *at)
{
	u64 c = d->common;

	wr(c + VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	wr(c + VIRTIO_PCI_COMMON_Q_SIZE, at->num, 2);
	wr(c + VIRTIO_PCI_COMMON_Q_DESCLO, at->desc, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_DESCHI, at->desc >> 32, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_AVAILLO, at->avail, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_AVAILHI, at->avail >> 32, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_USEDLO, at->used, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_USEDHI, at->used >> 32, 4);
	wr(c + VIRTIO_PCI_COMMON_Q_ENABLE, 1, 2);
}

static void set_entry(struct driver *d, u32 vector, u32 addr, u32 data, bool masked)
{
	wr(d->table + 16 * vector, addr, 4);
	wr(d->table + 16 * vector + 4, 0, 4);
	wr(d->table + 16 * vector + 8, data, 4);
	wr(d->table + 16 * vector + 12, masked, 4);
}

static void msix_on(struct driver *d, u16 flags)
{
	set_cfg(d->slot, d->msix + 2, PCI_MSIX_FLAGS_ENABLE | flags, 2);
}

static struct vring_drv ring;

/* Up to DRIVER_OK, interrupts by MSI-X: configuration 0, queue 1 */
static void start(struct driver *d)
{
	probe(d, 1);
	msix_on(d, 0);
	set_entry(d, 0, MSI_ADDR, 0x40, false);
	set_entry(d, 1, MSI_ADDR, 0x41, false);
	negotiate(d);
	vring_drv_init(&ring, &mem, RING, 8);
	set_queue(d, &ring.at);
	wr(d->common + VIRTIO_PCI_COMMON_MSIX, 0, 2);
	wr(d->common + VIRTIO_PCI_COMMON_Q_MSIX, 1, 2);
	ASSERT_EQ(rd(d->common + VIRTIO_PCI_COMMON_Q_MSIX, 2), 1);
	set_status(d, RUNNING);
	pump();
}

static void want_bytes(u32 len)
{
	const struct vring_piece piece = { DATA, len, true };

	vring_add(&ring, &piece, 1);
	vring_show(&ring, true);
	vring_want_event(&ring);
}

static bool got_bytes(u32 len)
{
	u32 head, got;

	if (!vring_take(&ring, &head, &got))
		return false;
	ASSERT_EQ(got, len);
	return true;
}

/* --- configuration space -------------------------------------------------------------------------------------- */

static void test_config_space(void)
{
	u32 slot;

	setup(2, 0);
	ASSERT_EQ(cfg(0, PCI_VENDOR_ID, 4), 0x00081b36);
	ASSERT_EQ(cfg(0, PCI_CLASS_DEVICE, 2), 0x0600);
	ASSERT_EQ(cfg(0, PCI_INTERRUPT_PIN, 1), 0);
	ASSERT_EQ(cfg(1, PCI_VENDOR_ID, 2), 0x1af4);
	ASSERT_EQ(cfg(1, PCI_DEVICE_ID, 2), 0x1044);
	ASSERT_EQ(cfg(1, PCI_REVISION_ID, 1), 1);
	ASSERT_EQ(cfg(1, PCI_INTERRUPT_PIN, 1), 1);
	ASSERT_EQ(cfg(1, PCI_HEADER_TYPE, 1), 0);
	ASSERT_EQ(cfg(2, PCI_VENDOR_ID, 4), 0x10441af4);
	for (slot = 3; slot < 32; slot++)
		ASSERT_EQ(cfg(slot, PCI_VENDOR_ID, 4), 0xffffffff);
	ASSERT_EQ(pci_slots(bus), 6);

	/* Other functions and buses are not there; without the enable bit nothing is */
	out(0xcf8, 0x80000000 | 1 << 11 | 1 << 8, 4);
	ASSERT_EQ(in(0xcfc, 4), 0xffffffff);
	out(0xcf8, 0x80000000 | 1 << 16 | 1 << 11, 4);
	ASSERT_EQ(in(0xcfc, 4), 0xffffffff);
	out(0xcf8, 1 << 11, 4);
	ASSERT_EQ(in(0xcfc, 4), 0xffffffff);

	/* The address register takes doublewords only, as stock kernels test */
	out(0xcf8, 0x80000000, 4);
	ASSERT_EQ(in(0xcf8, 4), 0x80000000);
	out(0xcfb, 1, 1);
	ASSERT_EQ(in(0xcf8, 4), 0x80000000);
	ASSERT_EQ(in(0xcf8, 2), 0xffff);
	out(0xcf8, 0xffffffff, 4);
	ASSERT_EQ(in(0xcf8, 4), 0x80fffffc);

	/* The same through the window, which has no extended registers */
	ASSERT_EQ(rd(ecam(1, PCI_VENDOR_ID), 4), 0x10441af4);
	ASSERT_EQ(rd(ecam(3, PCI_VENDOR_ID), 4), 0xffffffff);
	ASSERT_EQ(rd(ecam(1, 0x100), 4), 0);
	ASSERT_EQ(rd(ecam(1, 0xffe), 4), 0xffffffff);
	wr(ecam(1, PCI_COMMAND), 0xffff, 2);
	ASSERT_EQ(cfg(1, PCI_COMMAND, 2), 0x0407);
	ASSERT_EQ(cfg(1, PCI_STATUS, 2), PCI_STATUS_CAP_LIST);
	set_cfg(1, PCI_VENDOR_ID, 0x12345678, 4);
	ASSERT_EQ(cfg(1, PCI_VENDOR_ID, 4), 0x10441af4);
	teardown();
}

static int resets;

static void on_reset(void *arg, u64 off, const u8 *data, u32 len)
{
	if (!off && len == 1 && *data == 6)
		resets++;
}

static void no_read(void *arg, u64 off, u8 *data, u32 len)
{
	*data = 0x5a;
}

/* Port 0xcf9 lies within the address register's doubleword and stays what it was */
static void test_reset_port(void)
{
	const struct iobus_region reg = { PORT_RESET, 1, no_read, on_reset, NULL };
	struct iobus ports, memory;
	struct pci_bus *b;

	iobus_init(&ports);
	iobus_init(&memory);
	ASSERT_EQ(iobus_add(&ports, &reg), 0);
	b = pci_create(&host, &ports, &memory);
	ASSERT(b);
	iobus_write(&ports, 0xcf9, (const u8 *)"\x06", 1);
	ASSERT_EQ(resets, 1);
	iobus_write(&ports, 0xcf8, (const u8 *)"\x00\x06\x00\x80", 4);
	iobus_write(&ports, 0xcf8, (const u8 *)"\x06\x06", 2);
	ASSERT_EQ(resets, 1);
	pci_device_ops()->destroy(pci_device(b));
}

static void test_full_bus(void)
{
	static const struct pci_id id = { 0x1234, 0x5678, 0, 0, 0 };
	static const struct pci_dev_ops ops;
	static struct pci_dev dev[33];
	int i;

	setup(0, 0);
	for (i = 0; i < 32; i++) {
		pci_dev_init(&dev[i], &ops, &id);
		ASSERT_EQ(pci_add(bus, &dev[i]), i < 31 ? 0 : -ENOSPC);
	}
	teardown();
	setup(0, 0);
	pci_dev_init(&dev[0], &ops, &id);
	pci_bar_init(&dev[0], 0, false, 0x10000000);
	ASSERT_EQ(pci_add(bus, &dev[0]), 0);
	pci_dev_init(&dev[1], &ops, &id);
	pci_bar_init(&dev[1], 0, false, 0x10000000);
	ASSERT_EQ(pci_add(bus, &dev[1]), -ENOSPC);
	teardown();
}

/* --- BARs ------------------------------------------------------------------------------------------------------ */

static void test_bars(void)
{
	u32 io, memory, io2;
	int fd;

	setup(2, 0);
	fd = rng[0]->queues[0].kick_fd;
	io = cfg(1, PCI_BASE_ADDRESS_0, 4);
	memory = cfg(1, PCI_BASE_ADDRESS_1, 4);
	io2 = cfg(2, PCI_BASE_ADDRESS_0, 4);
	ASSERT_EQ(io, PCI_PORT_BASE | 1);
	ASSERT_EQ(memory, PCI_MEM_BASE);
	ASSERT_EQ(io2, (PCI_PORT_BASE + 256) | 1);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_2, 4), 0);

	/* Nothing decodes until the command register says so */
	ASSERT_EQ(rd(PCI_MEM_BASE, 4), 0xffffffff);
	ASSERT_EQ(bell_at(fd, true), 0);
	ASSERT_EQ(bell_at(fd, false), 0);
	set_cfg(1, PCI_COMMAND, PCI_COMMAND_MEMORY, 2);
	ASSERT_EQ(rd(PCI_MEM_BASE + VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	ASSERT_EQ(bell_at(fd, false), PCI_MEM_BASE + 0x3000);
	ASSERT_EQ(bell_at(fd, true), 0);
	set_cfg(1, PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_IO, 2);
	ASSERT_EQ(bell_at(fd, true), PCI_PORT_BASE);

	/* Sizing, with decoding on, as some guests do it */
	set_cfg(1, PCI_BASE_ADDRESS_1, 0xffffffff, 4);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_1, 4), 0xffff8000);
	set_cfg(1, PCI_BASE_ADDRESS_0, 0xffffffff, 4);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_0, 4), 0xffffff01);
	ASSERT_EQ(bell_at(fd, true), 0);	/* no such port */
	ASSERT_EQ(rd(PCI_MEM_BASE + VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);

	/* Elsewhere; one byte at a time, too */
	set_cfg(1, PCI_BASE_ADDRESS_1, 0xe4000000, 4);
	ASSERT_EQ(rd(0xe4000000 + VIRTIO_PCI_COMMON_NUMQ, 2), 1);
	ASSERT_EQ(bell_at(fd, false), 0xe4003000);
	set_cfg(1, PCI_BASE_ADDRESS_0, 0x00, 1);
	set_cfg(1, PCI_BASE_ADDRESS_0 + 1, 0x21, 1);
	set_cfg(1, PCI_BASE_ADDRESS_0 + 2, 0, 1);
	set_cfg(1, PCI_BASE_ADDRESS_0 + 3, 0, 1);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_0, 4), 0x2101);
	ASSERT_EQ(bell_at(fd, true), 0x2100);

	/* Two at one place: the second is nowhere until the first has gone */
	enable(2);
	ASSERT_EQ(bell_at(rng[1]->queues[0].kick_fd, true), PCI_PORT_BASE + 256);
	set_cfg(2, PCI_BASE_ADDRESS_0, 0x2101, 4);
	ASSERT_EQ(bell_at(rng[1]->queues[0].kick_fd, true), 0);
	ASSERT_EQ(bell_at(fd, true), 0x2100);
	set_cfg(1, PCI_BASE_ADDRESS_0, io, 4);
	ASSERT_EQ(bell_at(rng[1]->queues[0].kick_fd, true), 0x2100);
	ASSERT_EQ(bell_at(fd, true), PCI_PORT_BASE);

	/* Over the ports of the bus itself */
	set_cfg(1, PCI_BASE_ADDRESS_0, 0xc01, 4);
	ASSERT_EQ(bell_at(fd, true), 0);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_0, 4), 0xc01);

	set_cfg(1, PCI_COMMAND, 0, 2);
	ASSERT_EQ(bell_at(fd, false), 0);
	ASSERT_EQ(rd(0xe4000000 + VIRTIO_PCI_COMMON_NUMQ, 2), 0xffff);
	teardown();
}

static atomic_bool stop_fire;

static void *fire_accesses(void *arg)
{
	u32 i;

	for (i = 0; !atomic_load(&stop_fire); i++) {
		u64 at = PCI_MEM_BASE + (i & 7) * 0x8000 + (i * 36 & 0x5ffc);
		u32 v = i;

		iobus_write(&mmio, at, (u8 *)&v, 4);
		iobus_read(&mmio, at, (u8 *)&v, 4);
		iobus_write(&pio, PCI_PORT_BASE + (i & 0x7ff), (u8 *)&v, 2);
	}
	return NULL;
}

/* The guest moves BARs on one CPU while others use the device: nothing breaks, and the end is as it should be */
static void test_bars_under_fire(void)
{
	pthread_t threads[2];
	u32 i;

	setup(2, 0);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(pthread_create(&threads[i], NULL, fire_accesses, NULL), 0);
	for (i = 0; i < 3000; i++) {
		set_cfg(1 + i % 2, PCI_BASE_ADDRESS_1, PCI_MEM_BASE + (i * 7 % 8) * 0x8000, 4);
		set_cfg(1 + i % 2, PCI_BASE_ADDRESS_0, PCI_PORT_BASE + (i * 5 % 8) * 256, 4);
		set_cfg(1 + i % 2, PCI_COMMAND, i % 4, 2);
		if (i % 500 == 0)
			pump();
	}
	atomic_store(&stop_fire, true);
	for (i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	pump();
	set_cfg(1, PCI_COMMAND, 0, 2);
	set_cfg(2, PCI_COMMAND, 0, 2);
	for (i = 1; i <= 2; i++) {
		set_cfg(i, PCI_BASE_ADDRESS_1, PCI_MEM_BASE + i * 0x8000, 4);
		enable(i);
		ASSERT_EQ(rd(PCI_MEM_BASE + i * 0x8000 + VIRTIO_PCI_COMMON_NUMQ, 2), 1);
		ASSERT_EQ(bell_at(rng[i - 1]->queues[0].kick_fd, false), PCI_MEM_BASE + i * 0x8000 + 0x3000);
	}
	teardown();
}

/* --- interrupts ------------------------------------------------------------------------------------------------ */

static void test_lines(void)
{
	static const struct pci_id id = { 0x1234, 0x5678, 0, 0, 0 };
	static const struct pci_dev_ops ops;
	static struct pci_dev dev[9];
	u32 gsi;
	int i;

	setup(0, 0);
	for (i = 0; i < 9; i++) {
		pci_dev_init(&dev[i], &ops, &id);
		ASSERT_EQ(pci_add(bus, &dev[i]), 0);
	}
	/* Slots 1 and 9 share a line */
	gsi = pci_gsi(&dev[0]);
	ASSERT_EQ(gsi, PCI_GSI_BASE + 1);
	ASSERT_EQ(cfg(1, PCI_INTERRUPT_LINE, 1), gsi);
	ASSERT_EQ(pci_gsi(&dev[8]), gsi);
	pci_intx(&dev[0], true);
	ASSERT_EQ(line_level[gsi], 1);
	ASSERT(cfg(1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	ASSERT(!(cfg(9, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT));
	pci_intx(&dev[8], true);
	pci_intx(&dev[0], false);
	ASSERT_EQ(line_level[gsi], 1);
	/* Turned off by the command register: the line falls, the status stays */
	set_cfg(9, PCI_COMMAND, PCI_COMMAND_INTX_DISABLE, 2);
	ASSERT_EQ(line_level[gsi], 0);
	ASSERT(cfg(9, PCI_STATUS, 1) & PCI_STATUS_INTERRUPT);
	set_cfg(9, PCI_COMMAND, 0, 2);
	ASSERT_EQ(line_level[gsi], 1);
	pci_intx(&dev[8], false);
	ASSERT_EQ(line_level[gsi], 0);
	ASSERT_EQ(lines, 4);
	teardown();
}

static void test_intx(void)
{
	struct driver d;
	u32 gsi;

	setup(1, 0);
	probe(&d, 1);
	negotiate(&d);
	vring_drv_init(&ring, &mem, RING, 8);
	set_queue(&d, &ring.at);
	set_status(&d, RUNNING);
	gsi = cfg(1, PCI_INTERRUPT_LINE, 1);
	want_bytes(16);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(16));
	ASSERT_EQ(line_level[gsi], 1);
	ASSERT(!signalled(rng[0]->queues[0].call_fd));
	ASSERT_EQ(rd(d.isr, 1), 1);
	ASSERT_EQ(line_level[gsi], 0);
	ASSERT_EQ(rd(d.isr, 1), 0);
	teardown();
}

static void test_msix(void)
{
	int call, config, n;
	struct driver d;

	setup(1, 0);
	start(&d);
	call = rng[0]->queues[0].call_fd;
	config = rng[0]->config_fd;
	ASSERT_EQ(cfg(1, d.msix + 2, 2) & PCI_MSIX_FLAGS_QSIZE, 1);	/* two vectors */
	ASSERT_EQ(message_of(call), 0x41);
	ASSERT_EQ(message_of(config), 0x40);
	want_bytes(32);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(32));
	ASSERT(signalled(call));
	ASSERT_EQ(lines, 0);

	/* Masked: nobody takes the signal, and it pends until the mask goes */
	wr(d.table + 16 + 12, 1, 4);
	ASSERT_EQ(rd(d.table + 16 + 12, 4), 1);
	ASSERT_EQ(message_of(call), -1);
	ASSERT_EQ(rd(d.pba, 4), 0);
	want_bytes(32);
	out(d.port, 0, 2);
	pump();
	ASSERT_EQ(rd(d.pba, 4), 2);
	ASSERT_EQ(rd(d.pba + 4, 4), 0);
	n = routings;
	wr(d.table + 16 + 12, 0, 4);
	ASSERT_EQ(routings, n);			/* the message is what it was */
	ASSERT_EQ(message_of(call), 0x41);
	ASSERT(signalled(call));
	ASSERT_EQ(rd(d.pba, 4), 0);

	/* Another message while masked, as for a change of CPU; and without a mask */
	wr(d.table + 16 + 12, 1, 4);
	set_entry(&d, 1, MSI_ADDR + 0x1000, 0x55, false);
	ASSERT_EQ(message_of(call), 0x55);
	ASSERT_EQ(routings, n + 1);
	wr(d.table + 16 + 8, 0x56, 4);
	ASSERT_EQ(message_of(call), 0x56);

	/* All at once */
	msix_on(&d, PCI_MSIX_FLAGS_MASKALL);
	ASSERT_EQ(message_of(call), -1);
	ASSERT_EQ(message_of(config), -1);
	msix_on(&d, 0);
	ASSERT_EQ(message_of(call), 0x56);
	set_cfg(1, d.msix + 2, 0, 2);
	ASSERT_EQ(message_of(call), -1);
	msix_on(&d, 0);

	/* A vector that is not there is refused, and one vector may serve both */
	wr(d.common + VIRTIO_PCI_COMMON_Q_MSIX, 2, 2);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	ASSERT_EQ(message_of(call), -1);
	wr(d.common + VIRTIO_PCI_COMMON_Q_MSIX, 0, 2);
	ASSERT_EQ(message_of(call), 0x40);
	ASSERT_EQ(message_of(config), 0x40);

	/* A message that the machine refuses goes nowhere; a good one afterwards does */
	refuse_route = 1;
	set_entry(&d, 0, 0, 0x77, false);
	ASSERT_EQ(message_of(call), -1);
	refuse_route = 0;
	set_entry(&d, 0, MSI_ADDR, 0x78, false);
	ASSERT_EQ(message_of(call), 0x78);
	teardown();
}

/* --- the device over its transport ----------------------------------------------------------------------------- */

static void test_negotiation(void)
{
	struct driver d;

	setup(1, 0);
	probe(&d, 1);
	ASSERT_EQ(status(&d), 0);
	/* Before a driver has begun nothing sticks */
	ack(&d, ~0ULL);
	wr(d.common + VIRTIO_PCI_COMMON_MSIX, 0, 2);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_GF, 4), 0);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_MSIX, 2), VIRTIO_MSI_NO_VECTOR);

	ASSERT_EQ(features(&d), VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX) |
				VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC));
	wr(d.common + VIRTIO_PCI_COMMON_DFSELECT, 2, 4);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_DF, 4), 0);
	set_status(&d, ACKNOWLEDGED);
	ack(&d, VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX));		/* no VERSION_1 */
	set_status(&d, AGREED);
	ASSERT_EQ(status(&d), ACKNOWLEDGED);
	ack(&d, VIRTIO_BIT(VIRTIO_F_VERSION_1) | 1);		/* one that is not offered */
	set_status(&d, RUNNING);
	ASSERT_EQ(status(&d), ACKNOWLEDGED);			/* and no DRIVER_OK without it */
	ack(&d, VIRTIO_BIT(VIRTIO_F_VERSION_1));
	set_status(&d, AGREED);
	ASSERT_EQ(status(&d), AGREED);
	ack(&d, 0);						/* too late */
	wr(d.common + VIRTIO_PCI_COMMON_GFSELECT, 1, 4);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_GF, 4), 1);
	wr(d.common + VIRTIO_PCI_COMMON_Q_SELECT, 1, 2);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_SIZE, 2), 0);
	wr(d.common + VIRTIO_PCI_COMMON_Q_SELECT, 0, 2);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_SIZE, 2), 8);
	set_status(&d, 0);
	pump();
	ASSERT_EQ(status(&d), 0);
	teardown();
}

static void test_requests(void)
{
	struct driver d;
	u32 i, zero = 0;

	setup(1, 0);
	start(&d);
	for (i = 0; i < 100; i++) {
		memset(mem_at(&mem, DATA, 256), 0, 256);
		want_bytes(256);
		switch (i % 4) {
		case 0:
			out(d.port, 0, 2);
			break;
		case 1:
			wr(d.bell, 0, 2);
			break;
		case 2:
			wr(d.bell, 0, 4);	/* no ioeventfd hears this one */
			break;
		case 3:
			out(d.port, 0, 1);
			break;
		}
		pump();
		ASSERT(got_bytes(256));
		ASSERT(signalled(rng[0]->queues[0].call_fd));
		zero += !memcmp(mem_at(&mem, DATA, 8), "\0\0\0\0\0\0\0\0", 8);
	}
	ASSERT_EQ(zero, 0);
	/* A bell of no queue */
	out(d.port + 2, 1, 2);
	wr(d.bell + 4, 1, 2);
	pump();
	ASSERT_EQ(status(&d), RUNNING);
	teardown();
}

/* A limit delays; all that was asked for comes */
static void test_limit(void)
{
	struct driver d;
	int i, got = 0;

	setup(1, 20000);		/* the bucket holds 2000 */
	start(&d);
	for (i = 0; i < 4; i++)
		want_bytes(1000);
	out(d.port, 0, 2);
	pump();
	while (got_bytes(1000))
		got++;
	ASSERT(got >= 1 && got < 4);
	for (i = 0; got < 4 && i < 500; i++) {
		pump();
		while (got_bytes(1000))
			got++;
	}
	ASSERT_EQ(got, 4);
	teardown();
}

static void test_reset(void)
{
	struct driver d;
	int call;

	setup(1, 0);
	start(&d);
	call = rng[0]->queues[0].call_fd;
	want_bytes(16);
	out(d.port, 0, 2);
	pump();
	/* Not complete before the device has stopped, on its own thread; until then nothing can be set */
	set_status(&d, 0);
	ASSERT_EQ(status(&d), RUNNING);
	set_status(&d, ACKNOWLEDGED);
	ASSERT_EQ(status(&d), RUNNING);
	pump();
	ASSERT_EQ(status(&d), 0);
	ASSERT(!signalled(call));		/* what nobody took is gone */
	ASSERT_EQ(message_of(call), -1);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_ENABLE, 2), 0);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_DESCLO, 4), 0);
	ASSERT_EQ(rd(d.common + VIRTIO_PCI_COMMON_Q_MSIX, 2), VIRTIO_MSI_NO_VECTOR);
	want_bytes(16);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(16));			/* of before */
	ASSERT(!got_bytes(16));

	start(&d);
	want_bytes(64);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(64));
	teardown();
}

static char last_line[1100];
static int said;

static void keep_line(const char *text)
{
	snprintf(last_line, sizeof(last_line), "%s", text);
	said++;
}

/* A broken ring: needs-reset, one line, a configuration interrupt; a reset mends it; the lines end some time */
static void test_broken(void)
{
	struct driver d;
	int i;

	fail_sink = keep_line;
	setup(1, 0);
	for (i = 0; i < 20; i++) {
		start(&d);
		vring_offer(&ring, 9);
		vring_show(&ring, true);
		out(d.port, 0, 2);
		pump();
		ASSERT_EQ(status(&d), RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
		ASSERT(signalled(rng[0]->config_fd));
		out(d.port, 0, 2);
		pump();
		ASSERT_EQ(said, i < 8 ? i + 1 : 8);
		set_status(&d, 0);
		pump();
		ASSERT_EQ(status(&d), 0);
	}
	ASSERT(strstr(last_line, "rng0: "));
	ASSERT(strstr(last_line, "beyond its table"));

	/* A queue that cannot be */
	start(&d);
	set_status(&d, 0);
	pump();
	negotiate(&d);
	ring.at.used += 1;
	set_queue(&d, &ring.at);
	set_status(&d, RUNNING);
	pump();
	ASSERT_EQ(status(&d), RUNNING | VIRTIO_CONFIG_S_NEEDS_RESET);
	set_status(&d, 0);
	pump();
	start(&d);
	want_bytes(64);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(64));
	teardown();
}

/* The window in configuration space, for who cannot reach BARs */
static void test_window(void)
{
	struct driver d;
	u32 cap;

	setup(1, 0);
	probe(&d, 1);
	cap = find_cap(1, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG, 0);
	ASSERT(cap);
	set_cfg(1, PCI_COMMAND, 0, 2);
	set_cfg(1, cap + 4, 1, 1);
	set_cfg(1, cap + 8, VIRTIO_PCI_COMMON_STATUS, 4);
	set_cfg(1, cap + 12, 1, 4);
	set_cfg(1, cap + 16, ACKNOWLEDGED, 4);
	ASSERT_EQ(virtio_status(rng[0]), ACKNOWLEDGED);
	ASSERT_EQ(cfg(1, cap + 16, 1), ACKNOWLEDGED);
	set_cfg(1, cap + 8, VIRTIO_PCI_COMMON_NUMQ, 4);
	set_cfg(1, cap + 12, 2, 4);
	ASSERT_EQ(cfg(1, cap + 16, 2), 1);
	/* What is no access does nothing */
	set_cfg(1, cap + 12, 3, 4);
	set_cfg(1, cap + 16, 0, 4);
	set_cfg(1, cap + 12, 4, 4);
	set_cfg(1, cap + 8, 0xfffffffc, 4);
	set_cfg(1, cap + 16, 0, 4);
	set_cfg(1, cap + 4, 5, 1);
	ASSERT_EQ(cfg(1, cap + 16, 4), 0);
	set_cfg(1, cap + 4, 255, 1);
	set_cfg(1, cap + 16, 0, 4);
	ASSERT_EQ(virtio_status(rng[0]), ACKNOWLEDGED);
	teardown();
}

/* Every width at every place of configuration space and BARs, with several values */
static void test_all_registers(void)
{
	static const u32 values[] = { 0, 1, 0xffffffff, 0x80000001 };
	struct driver d;
	u32 off, len, i;

	fail_sink = keep_line;
	setup(1, 0);
	for (i = 0; i < ARRAY_SIZE(values); i++) {
		start(&d);
		for (len = 1; len <= 8; len *= 2) {
			u64 wide = (u64)values[i] << 32 | values[i];
			u8 data[8];

			for (off = 0; off < 0x8000; off += off < 0x100 || (off & 0xfff) < 0x40 ? 1 : 0x3f) {
				iobus_read(&mmio, PCI_MEM_BASE + off, data, len);
				if (off != VIRTIO_PCI_COMMON_STATUS || i)
					iobus_write(&mmio, PCI_MEM_BASE + off, (u8 *)&wide, len);
			}
			for (off = 0; off < 0x200; off++) {
				iobus_read(&pio, PCI_PORT_BASE + off, data, len);
				iobus_write(&pio, PCI_PORT_BASE + off, (u8 *)&wide, len);
			}
			pump();
			for (off = 0; off < 0x102; off++) {
				iobus_read(&mmio, ecam(1, off), data, len);
				iobus_write(&mmio, ecam(1, off), (u8 *)&wide, len);
				if (off < 4)
					ASSERT_EQ(rd(ecam(1, 0), 4), 0x10441af4);
			}
			pump();
			set_cfg(1, PCI_COMMAND, 0, 2);
			set_cfg(1, PCI_BASE_ADDRESS_0, PCI_PORT_BASE, 4);
			set_cfg(1, PCI_BASE_ADDRESS_1, PCI_MEM_BASE, 4);
			enable(1);
		}
		set_status(&d, 0);
		pump();
		ASSERT_EQ(status(&d), 0);
	}
	start(&d);
	want_bytes(64);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(64));
	teardown();
}

/* --- saved and loaded ------------------------------------------------------------------------------------------- */

static void test_state(void)
{
	struct driver d;
	struct state st, again;
	size_t cut;
	int call;

	fail_sink = keep_line;
	setup(1, 0);
	start(&d);
	set_cfg(1, PCI_BASE_ADDRESS_1, 0xe4000000, 4);
	probe(&d, 1);
	want_bytes(16);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(16));
	ASSERT(signalled(rng[0]->queues[0].call_fd));
	/* One interrupt waits behind a mask, and one request is not seen yet */
	wr(d.table + 16 + 12, 1, 4);
	want_bytes(24);
	out(d.port, 0, 2);
	pump();
	out(0xcf8, 0x80000814, 4);
	virtio_pause(rng[0]);
	ASSERT(virtio_quiet(rng[0]));
	want_bytes(40);
	state_init(&st);
	ASSERT_EQ(devices_save(&devs, &st), 0);
	teardown();

	setup(1, 0);
	ASSERT_EQ(devices_load(&devs, st.data, st.len), 0);
	state_init(&again);
	ASSERT_EQ(devices_save(&devs, &again), 0);
	ASSERT_EQ(again.len, st.len);
	ASSERT(!memcmp(again.data, st.data, st.len));
	ASSERT_EQ(in(0xcf8, 4), 0x80000814);
	ASSERT_EQ(cfg(1, PCI_BASE_ADDRESS_1, 4), 0xe4000000);
	call = rng[0]->queues[0].call_fd;
	ASSERT_EQ(bell_at(rng[0]->queues[0].kick_fd, false), 0xe4003000);
	ASSERT_EQ(rd(d.pba, 4), 2);
	virtio_service(rng[0]);
	ASSERT_EQ(status(&d), RUNNING);
	ASSERT_EQ(message_of(call), -1);
	wr(d.table + 16 + 12, 0, 4);
	ASSERT_EQ(message_of(call), 0x41);
	ASSERT(signalled(call));
	ASSERT(got_bytes(24));
	ASSERT(got_bytes(40));
	want_bytes(48);
	out(d.port, 0, 2);
	pump();
	ASSERT(got_bytes(48));
	teardown();

	/* Cut anywhere it is refused with a line; bits turned over anywhere it is refused or harmless */
	for (cut = 0; cut < st.len; cut += 1 + st.len / 50) {
		setup(1, 0);
		ASSERT(devices_load(&devs, st.data, cut) < 0);
		teardown();
	}
	for (cut = 0; cut < st.len; cut += 1 + st.len / 200) {
		setup(1, 0);
		st.data[cut] ^= 1 << cut % 8;
		if (!devices_load(&devs, st.data, st.len)) {
			virtio_service(rng[0]);
			pump();
		}
		st.data[cut] ^= 1 << cut % 8;
		teardown();
	}
	state_free(&st);
	state_free(&again);
}

static const struct tap_test tests[] = {
	TEST(config_space),
	TEST(reset_port),
	TEST(full_bus),
	TEST(bars),
	TEST_TIMEOUT(bars_under_fire, 60),
	TEST(lines),
	TEST(intx),
	TEST(msix),
	TEST(negotiation),
	TEST(requests),
	TEST(limit),
	TEST(reset),
	TEST(broken),
	TEST(window),
	TEST_TIMEOUT(all_registers, 60),
	TEST_TIMEOUT(state, 120),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
