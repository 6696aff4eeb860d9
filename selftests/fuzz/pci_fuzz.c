// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for pvhv-run's PCI bus: configuration space by ports and ECAM, BARs anywhere, MSI-X, virtio-pci and the virtio core
 * under it, with an rng and a balloon and an event loop that runs when the input says so.
 *
 *   libFuzzer, replay and sources: see pci-fuzz.sh
 *
 * Input: steps: a byte of what, its bytes. What must hold: the interrupt chip (this program) is never asked to bind an eventfd
 * twice, to free one that is not bound or bound elsewhere, or to pull a line that is up; the same for doorbells; identities and
 * the shape of the capability list never change; saved state loads into the same; a reset always ends with status 0.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "fakeloop.h"
#include "input.h"
#include "../lib/vring.h"
#include "../../vmm/control.h"
#include "../../vmm/pci.h"
#include "../../vmm/virtio_balloon.h"

#define MEM_SIZE	(64 * KIB)
#define DEVS		2
#define FDS		16
#define GSIS		64

static struct mem mem;
static struct iobus pio, mmio;
static struct devices devs;
static struct pci_bus *bus;
static struct virtio *dev[DEVS];
static struct vring_drv ring[DEVS];
static bool levels[GSIS], refuse, refused;
static int next_gsi;

struct binding {
	int fd;
	u64 at;
	bool pio;
};

static struct binding irqs[FDS], bells[FDS];

static int gsi_alloc(void *arg, unsigned int nr)
{
	(void)arg;
	next_gsi += nr;
	return next_gsi - nr;
}

static int msi_route(void *arg, u32 gsi, u64 addr, u32 data)
{
	(void)arg;
	(void)data;
	CHECK(gsi >= GSI_MSI_BASE && (int)gsi < next_gsi);
	refused |= refuse;
	return refuse || addr & 0xff00000000 ? -EINVAL : 0;
}

static void change(struct binding *table, int fd, u64 at, bool is_pio, bool on)
{
	int i, slot = -1;

	for (i = 0; i < FDS; i++) {
		if (table[i].fd == fd && table[i].pio == is_pio) {
			CHECK(!on && table[i].at == at);
			table[i].fd = 0;
			return;
		}
		if (!table[i].fd)
			slot = i;
		else if (on && table == bells)
			CHECK(table[i].at != at || table[i].pio != is_pio);
	}
	CHECK(on && slot >= 0);
	table[slot] = (struct binding){ fd, at, is_pio };
}

static int irqfd(void *arg, int fd, u32 gsi, bool on)
{
	(void)arg;
	CHECK(gsi >= GSI_MSI_BASE && (int)gsi < next_gsi);
	change(irqs, fd, gsi, false, on);
	return 0;
}

static int ioeventfd(void *arg, int fd, u64 addr, u32 len, bool is_pio, bool on)
{
	(void)arg;
	CHECK(len == 2);
	change(bells, fd, addr, is_pio, on);
	return 0;
}

static void line(void *arg, u32 gsi, bool level)
{
	(void)arg;
	CHECK(gsi >= PCI_GSI_BASE && gsi < GSI_MSI_BASE && levels[gsi] != level);
	levels[gsi] = level;
}

/* The control socket is not part of this. */
void control_event(const char *type, const char *fmt, ...)
{
	CHECK(*type && *fmt);
}

static void no_read(void *arg, u64 off, u8 *data, u32 len)
{
	(void)arg;
	CHECK(!off && len == 1);
	*data = 0;
}

static void no_write(void *arg, u64 off, const u8 *data, u32 len)
{
	(void)arg;
	CHECK(!off && len == 1 && data);
}

static void quiet(const char *text)
{
	CHECK(!strchr(text, '\n'));
}

static void make(void)
{
	static const struct pci_host host = { gsi_alloc, msi_route, irqfd, ioeventfd, line, NULL };
	static const struct balloon_options opt = { .reporting = true };
	const struct iobus_region reset = { PORT_RESET, 1, no_read, no_write, NULL };
	int i;

	memset(irqs, 0, sizeof(irqs));
	memset(bells, 0, sizeof(bells));
	memset(levels, 0, sizeof(levels));
	next_gsi = GSI_MSI_BASE;
	refused = false;
	iobus_init(&pio);
	iobus_init(&mmio);
	devices_init(&devs);
	CHECK(!iobus_add(&pio, &reset));
	bus = pci_create(&host, &pio, &mmio);
	CHECK(bus);
	devices_add(&devs, pci_device(bus), pci_device_ops());
	dev[0] = virtio_rng_create(&mem, "rng", 0);
	dev[1] = virtio_balloon_create(&mem, "balloon", &opt);
	for (i = 0; i < DEVS; i++) {
		CHECK(dev[i]);
		CHECK(!virtio_own_kicks(dev[i], dev[i]->nr_queues));	/* which are told apart */
		devices_add_named(&devs, &dev[i]->dev, virtio_device_ops(), dev[i]->label);
		CHECK(!virtio_pci_add(bus, &devs, dev[i]));
		virtio_open(dev[i]);
	}
}

static void unmake(void)
{
	int i;

	for (i = 0; i < DEVS; i++)
		virtio_close(dev[i]);
	CHECK(!fakeloop_tasks);
	devices_destroy(&devs);
	iobus_fini(&pio);
	iobus_fini(&mmio);
}

static u32 ecam(u32 slot, u32 off, u32 len)
{
	u32 value = 0;

	iobus_read(&mmio, PCI_ECAM_BASE + slot * 0x8000 + off, (u8 *)&value, len);
	return value;
}

static void config_write(u32 slot, u32 off, u32 value, u32 len)
{
	iobus_write(&mmio, PCI_ECAM_BASE + slot * 0x8000 + off, (u8 *)&value, len);
}

static u32 find_cap(u32 slot, u8 id, u8 type)
{
	u32 at = ecam(slot, PCI_CAPABILITY_LIST, 1);

	while (at && (ecam(slot, at, 1) != id || (id == PCI_CAP_ID_VNDR && ecam(slot, at + 3, 1) != type)))
		at = ecam(slot, at + 1, 1);
	CHECK(at);
	return at;
}

/* What no write may change. */
static void check_space(void)
{
	u32 slot, at, seen;

	for (slot = 1; slot <= DEVS; slot++) {
		CHECK(ecam(slot, PCI_VENDOR_ID, 4) == (slot == 1 ? 0x10441af4 : 0x10451af4));
		CHECK(ecam(slot, PCI_BASE_ADDRESS_0, 1) == PCI_BASE_ADDRESS_SPACE_IO);
		CHECK((ecam(slot, PCI_BASE_ADDRESS_1, 4) & 0x7fff) == 0);
		for (seen = 0, at = ecam(slot, PCI_CAPABILITY_LIST, 1); at; at = ecam(slot, at + 1, 1))
			seen++;
		CHECK(seen == (slot == 1 ? 6 : 7));
	}
	CHECK(ecam(0, PCI_VENDOR_ID, 4) == 0x00081b36 && ecam(3, PCI_VENDOR_ID, 4) == 0xffffffff);
}

/* The loop: what the registers set going, and kicks. */
static void turn(void)
{
	int i, j;

	for (i = 0; i < DEVS; i++) {
		virtio_service(dev[i]);
		for (j = 0; j < dev[i]->nr_queues; j++) {
			struct virtio_queue *q = &dev[i]->queues[j];
			struct pollfd p = { q->kick_fd, POLLIN, 0 };
			u64 count;

			if (poll(&p, 1, 0) <= 0)
				continue;
			CHECK(read(q->kick_fd, &count, sizeof(count)) == sizeof(count));
			fakeloop_fire(&q->kick_op);
		}
	}
	fakeloop_run(8);
	for (i = 0; i < DEVS; i++)
		if (dev[i]->broken)
			CHECK(virtio_status(dev[i]) & VIRTIO_CONFIG_S_NEEDS_RESET);
}

static void access_bus(struct iobus *where, u64 addr, bool write)
{
	static const u8 lens[] = { 1, 2, 4, 8 };
	u8 data[8] = { 0 };
	u32 len = lens[take8() & 3], i;

	for (i = 0; write && i < len; i++)
		data[i] = take8();
	if (write)
		iobus_write(where, addr, data, len);
	else
		iobus_read(where, addr, data, len);
}

static void save(struct state *st)
{
	state_init(st);
	CHECK(!devices_save(&devs, st));
}

static void move(void)
{
	struct state st, again;
	bool may_differ;
	int i;

	for (i = 0; i < DEVS; i++) {
		virtio_service(dev[i]);		/* what is pending is no state */
		virtio_pause(dev[i]);
		CHECK(virtio_quiet(dev[i]));
	}
	save(&st);
	may_differ = refused;
	unmake();
	make();
	refuse = false;
	CHECK(!devices_load(&devs, st.data, st.len));
	save(&again);
	/* A signal that waited only because its message was refused, at whatever time, is delivered now. */
	CHECK(may_differ || (st.len == again.len && !memcmp(st.data, again.data, st.len)));
	state_free(&st);
	state_free(&again);
}

/* A driver that does it right, so that the rest is reached. */
static void drive(void)
{
	u32 i = take8() % DEVS, slot = i + 1;
	u64 bar = ecam(slot, PCI_BASE_ADDRESS_1, 4), features;
	u8 status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	u16 command = 7, vector = 1, control = PCI_MSIX_FLAGS_ENABLE;
	u32 none = 0;

	if (take8() & 1)
		config_write(slot, find_cap(slot, PCI_CAP_ID_MSIX, 0) + PCI_MSIX_FLAGS, control, 2);
	config_write(slot, PCI_COMMAND, command, 2);
	virtio_set_status(dev[i], 0);
	turn();
	CHECK(!virtio_status(dev[i]));
	features = dev[i]->offered;
	virtio_set_status(dev[i], status);
	virtio_ack(dev[i], 0, features);
	virtio_ack(dev[i], 1, features >> 32);
	virtio_set_status(dev[i], status | VIRTIO_CONFIG_S_FEATURES_OK);
	vring_drv_init(&ring[i], &mem, 0x4000 * i, 8);
	vring_attach(&ring[i], dev[i], 0);
	iobus_write(&mmio, bar + VIRTIO_PCI_COMMON_Q_MSIX, (u8 *)&vector, 2);
	iobus_write(&mmio, bar + 0x4000 + 16 + 12, (u8 *)&none, 4);
	virtio_set_status(dev[i], virtio_status(dev[i]) | VIRTIO_CONFIG_S_DRIVER_OK);
	turn();
}

static void request(void)
{
	u8 which = take8();
	struct vring_drv *d = &ring[which % DEVS];
	const struct vring_piece piece = { 0x8000 + which * 64, take8(), !(which & 2) };

	if (!d->num)
		return;
	vring_add(d, &piece, 1);
	vring_show(d, true);
	iobus_write(&pio, ecam(1 + which % DEVS, PCI_BASE_ADDRESS_0, 4) & ~3u, &which, 1);
}

/* A register of the common configuration, mostly by its own width. */
static void common(bool write)
{
	static const u8 offs[] = { 0, 4, 8, 12, 16, 18, 20, 21, 22, 24, 26, 28, 30, 32, 36, 40, 44, 48, 52, 56 };
	static const u8 lens[] = { 4, 4, 4, 4, 2, 2, 1, 1, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 2 };
	u8 which = take8(), i = which % sizeof(offs);
	u32 value = take8();

	if (which & 0x80)
		value |= take16() << 8;
	if (write)
		iobus_write(&mmio, (u64)ecam(1 + (which >> 6 & 1), PCI_BASE_ADDRESS_1, 4) + offs[i], (u8 *)&value, lens[i]);
	else
		iobus_read(&mmio, (u64)ecam(1 + (which >> 6 & 1), PCI_BASE_ADDRESS_1, 4) + offs[i], (u8 *)&value, lens[i]);
}

/* An access through the window in configuration space. */
static void window(bool write)
{
	u32 slot = 1 + take8() % DEVS, cap = find_cap(slot, PCI_CAP_ID_VNDR, VIRTIO_PCI_CAP_PCI_CFG), shape = take8();

	config_write(slot, cap + 4, shape & 3, 1);
	config_write(slot, cap + 8, (shape >> 4) * 0x1000 + take8(), 4);
	config_write(slot, cap + 12, shape >> 2 & 3 ? 1 << ((shape >> 2 & 3) - 1) : take8(), 4);
	if (write)
		config_write(slot, cap + 16, take32(), 4);
	else
		ecam(slot, cap + 16, 4);
}

static void config_port(bool write)
{
	u8 where = take8(), reg = take8();
	u32 address = (where & 1 ? 0 : 0x80000000) | (where >> 1 & 3) << 11 | (reg & 0xfc) | (where >> 4 == 15 ? 0x10100 : 0);

	iobus_write(&pio, PORT_PCI, (u8 *)&address, 4);
	access_bus(&pio, PORT_PCI + 4 + (reg & 3), write);
}

static void step(void)
{
	u8 what = take8();
	u64 bar;

	switch (what % 16) {
	case 0:
	case 1:
		access_bus(&mmio, PCI_ECAM_BASE + (take8() % 4) * 0x8000 + take8(), what & 0x40);
		break;
	case 2:
		access_bus(&mmio, PCI_ECAM_BASE + take16() * 16 + take8(), what & 0x40);
		break;
	case 3:
		access_bus(&pio, PORT_PCI + take8() % 8, what & 0x40);
		break;
	case 4:
		config_port(what & 0x40);
		break;
	case 5:
	case 6:
		common(what & 0x40);
		break;
	case 7:
		bar = ecam(1 + (what >> 5 & 1), PCI_BASE_ADDRESS_1, 4);
		access_bus(&mmio, bar + (take8() % 8) * 0x1000 + take8(), what & 0x40);
		break;
	case 8:
		access_bus(&mmio, PCI_MEM_BASE + (take16() << 4) + take8() % 16, what & 0x40);
		break;
	case 9:
		access_bus(&pio, PCI_PORT_BASE + take16() % 0x400, what & 0x40);
		break;
	case 10:
		drive();
		break;
	case 11:
	case 12:
		request();
		break;
	case 13:
		if (what & 0x10)
			window(what & 0x40);
		else
			refuse = what & 0x40;
		break;
	case 14:
		if (what & 0x40)
			move();
		else
			check_space();
		break;
	default:
		turn();
		break;
	}
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	int i;

	input_set(input, size);
	fail_sink = quiet;
	refuse = false;
	memset(ring, 0, sizeof(ring));
	if (!mem.host)
		mem.host = malloc(MEM_SIZE);
	CHECK(mem.host);
	memset(mem.host, 0, MEM_SIZE);
	mem.size = mem.low = MEM_SIZE;
	make();
	while (input_left())
		step();
	turn();
	check_space();
	for (i = 0; i < DEVS; i++) {
		virtio_resume(dev[i]);
		virtio_set_status(dev[i], 0);
		turn();
		CHECK(!virtio_status(dev[i]) && !dev[i]->broken);
	}
	unmake();
	return 0;
}

#ifdef REPLAY
#include "random.h"
#include "replay.h"
#endif
