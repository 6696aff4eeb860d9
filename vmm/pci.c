// SPDX-License-Identifier: GPL-2.0
/*
 * One PCI bus with a host bridge in slot 0 and a device in each further slot.
 *  1. Configuration space by the ports 0xcf8 and 0xcfc, and as a memory
 *     window (ECAM) of one MiB; nothing else answers there.
 *  2. A register is its bytes and a mask of what the guest may change; sizing
 *     a BAR is then nothing special.
 *  3. Decoding: a BAR takes its place on the machine's buses while the command
 *     register enables it and nothing else is there; the guest may move it
 *     while the vCPUs run.
 *  4. Interrupt lines that devices share.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <linux/pci_regs.h>

#include "pci.h"

#define ADDRESS_ENABLE		0x80000000U
#define ADDRESS_WRITABLE	0x80fffffcU
#define ECAM_FUNCTION		4096U
#define COMMAND_WRITABLE	(PCI_COMMAND_IO | PCI_COMMAND_MEMORY | \
				 PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE)
#define BAR_AT(n)		(PCI_BASE_ADDRESS_0 + 4 * (n))
#define BARS_END		BAR_AT(PCI_BARS)

/* A generic host bridge, as Linux's drivers and lspci's list know it. */
#define BRIDGE_VENDOR		0x1b36
#define BRIDGE_DEVICE		0x0008
#define BRIDGE_CLASS		0x060000

/* Lines. */

u32 pci_gsi(const struct pci_dev *dev)
{
	return PCI_GSI_BASE + dev->slot % PCI_LINES;
}

/* The line is up as long as one of its devices pulls. */
static void update_line(struct pci_dev *dev)
{
	u8 *pulls = &dev->bus->pulls[dev->slot % PCI_LINES];
	bool pull = dev->intx && !dev->intx_off;

	if (dev->pulls == pull)
		return;
	dev->pulls = pull;
	*pulls += pull ? 1 : -1;
	if (*pulls == pull)	/* the first, or none any more */
		dev->bus->host.line(dev->bus->host.arg, pci_gsi(dev), pull);
}

void pci_intx(struct pci_dev *dev, bool level)
{
	pthread_mutex_lock(&dev->bus->line_lock);
	dev->intx = level;
	update_line(dev);
	pthread_mutex_unlock(&dev->bus->line_lock);
}

/* Decoding, under the bus's lock. */

static u16 command(const struct pci_dev *dev)
{
	return pci_get(dev->config + PCI_COMMAND, 2);
}

static void bar_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct pci_bar *bar = arg;

	bar->dev->ops->bar_read(bar->dev, bar - bar->dev->bars, off, data, len);
}

static void bar_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct pci_bar *bar = arg;

	bar->dev->ops->bar_write(bar->dev, bar - bar->dev->bars, off, data, len);
}

static u64 bar_base(const struct pci_dev *dev, unsigned int n)
{
	return pci_get(dev->config + BAR_AT(n), 4) &
	       ~(u64)(dev->bars[n].size - 1);
}

static bool bar_enabled(const struct pci_dev *dev, unsigned int n)
{
	u16 bit = dev->bars[n].io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;

	return dev->bars[n].size && (command(dev) & bit);
}

static struct iobus *bar_bus(const struct pci_bar *bar)
{
	return bar->io ? bar->dev->bus->pio : bar->dev->bus->mmio;
}

static void bar_unmap(struct pci_dev *dev, unsigned int n)
{
	struct pci_bar *bar = &dev->bars[n];

	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, n, bar->base, false);
	iobus_remove(bar_bus(bar), bar->base, NULL);
	bar->mapped = false;
}

/* Where something else is, or beyond the ports' end, it is nowhere. */
static void bar_map(struct pci_dev *dev, unsigned int n)
{
	struct pci_bar *bar = &dev->bars[n];
	const struct iobus_region reg = {
		bar_base(dev, n), bar->size, bar_read, bar_write, bar
	};

	if ((bar->io && reg.base + reg.len > PCI_PORT_END) ||
	    iobus_add(bar_bus(bar), &reg))
		return;
	bar->mapped = true;
	bar->base = reg.base;
	if (dev->ops->bar_mapped)
		dev->ops->bar_mapped(dev, n, bar->base, true);
}

/* All devices: one that moves away may make room for another. */
static void update_decoding(struct pci_bus *bus, struct pci_dev *changed)
{
	unsigned int slot, n;

	for (n = 0; n < PCI_BARS; n++)
		if (changed->bars[n].mapped &&
		    (!bar_enabled(changed, n) ||
		     bar_base(changed, n) != changed->bars[n].base))
			bar_unmap(changed, n);
	for (slot = 0; slot < PCI_SLOTS; slot++) {
		struct pci_dev *dev = bus->slots[slot];

		for (n = 0; dev && n < PCI_BARS; n++)
			if (!dev->bars[n].mapped && bar_enabled(dev, n))
				bar_map(dev, n);
	}
}

static bool touches(u32 off, u32 len, u32 start, u32 end)
{
	return off < end && off + len > start;
}

/* Configuration space; the range lies within a function's 4 KiB. */

static struct pci_dev *find(const struct pci_bus *bus, u32 busno, u32 devfn)
{
	/* One function a device, and one bus. */
	return busno || devfn & 7 ? NULL : bus->slots[devfn >> 3];
}

/* The one bit there that nobody writes. */
static void add_status(struct pci_dev *dev, u32 off, u8 *data, u32 len)
{
	if (!touches(off, len, PCI_STATUS, PCI_STATUS + 1))
		return;
	pthread_mutex_lock(&dev->bus->line_lock);
	if (dev->intx)
		data[PCI_STATUS - off] |= PCI_STATUS_INTERRUPT;
	pthread_mutex_unlock(&dev->bus->line_lock);
}

static void config_read(struct pci_bus *bus, struct pci_dev *dev, u32 off,
			u8 *data, u32 len)
{
	if (!dev) {
		memset(data, 0xff, len);
		return;
	}
	memset(data, 0, len);
	if (off + len > PCI_CONFIG_SIZE)
		return;		/* no extended capabilities */
	pthread_mutex_lock(&bus->lock);
	if (dev->ops->config_read)
		dev->ops->config_read(dev, off, len);
	memcpy(data, dev->config + off, len);
	add_status(dev, off, data, len);
	pthread_mutex_unlock(&bus->lock);
}

static void command_written(struct pci_dev *dev)
{
	pthread_mutex_lock(&dev->bus->line_lock);
	dev->intx_off = command(dev) & PCI_COMMAND_INTX_DISABLE;
	update_line(dev);
	pthread_mutex_unlock(&dev->bus->line_lock);
	update_decoding(dev->bus, dev);
}

static void config_write(struct pci_bus *bus, struct pci_dev *dev, u32 off,
			 const u8 *data, u32 len)
{
	u32 i;

	if (!dev || off + len > PCI_CONFIG_SIZE)
		return;
	pthread_mutex_lock(&bus->lock);
	for (i = 0; i < len; i++) {
		u8 mask = dev->writable[off + i];

		dev->config[off + i] = (dev->config[off + i] & ~mask) |
				       (data[i] & mask);
	}
	if (touches(off, len, PCI_COMMAND, PCI_COMMAND + 2) ||
	    touches(off, len, BAR_AT(0), BARS_END))
		command_written(dev);
	if (dev->ops->config_written)
		dev->ops->config_written(dev, off, len);
	pthread_mutex_unlock(&bus->lock);
}

static void ecam_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct pci_bus *bus = arg;
	u32 reg = off % ECAM_FUNCTION;

	if (reg + len <= ECAM_FUNCTION)
		config_read(bus, find(bus, 0, off / ECAM_FUNCTION), reg, data,
			    len);
}

static void ecam_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct pci_bus *bus = arg;
	u32 reg = off % ECAM_FUNCTION;

	if (reg + len <= ECAM_FUNCTION)
		config_write(bus, find(bus, 0, off / ECAM_FUNCTION), reg, data,
			     len);
}

static u32 get_address(struct pci_bus *bus)
{
	u32 address;

	pthread_mutex_lock(&bus->lock);
	address = bus->address;
	pthread_mutex_unlock(&bus->lock);
	return address;
}

/*
 * The address register is a doubleword; bytes in the midst of it are other
 * registers, of which the reset control is one.
 */
static bool is_reset(const struct pci_bus *bus, u64 off, u32 len)
{
	return bus->reset.len && PORT_PCI + off == bus->reset.base && len == 1;
}

static void address_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct pci_bus *bus = arg;

	if (!off && len == 4)
		pci_put(data, get_address(bus), 4);
	else if (is_reset(bus, off, len))
		bus->reset.read(bus->reset.arg, 0, data, len);
}

static void address_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct pci_bus *bus = arg;

	if (is_reset(bus, off, len))
		bus->reset.write(bus->reset.arg, 0, data, len);
	if (off || len != 4)
		return;
	pthread_mutex_lock(&bus->lock);
	bus->address = pci_get(data, 4) & ADDRESS_WRITABLE;
	pthread_mutex_unlock(&bus->lock);
}

static void data_read(void *arg, u64 off, u8 *data, u32 len)
{
	u32 address = get_address(arg);

	if (address & ADDRESS_ENABLE)
		config_read(arg, find(arg, address >> 16 & 0xff,
				      address >> 8 & 0xff),
			    (address & 0xfc) + off, data, len);
}

static void data_write(void *arg, u64 off, const u8 *data, u32 len)
{
	u32 address = get_address(arg);

	if (address & ADDRESS_ENABLE)
		config_write(arg, find(arg, address >> 16 & 0xff,
				       address >> 8 & 0xff),
			     (address & 0xfc) + off, data, len);
}

/* Devices. */

void pci_dev_init(struct pci_dev *dev, const struct pci_dev_ops *ops,
		  const struct pci_id *id)
{
	u8 *c = dev->config;

	memset(dev, 0, sizeof(*dev));
	dev->ops = ops;
	pci_put(c + PCI_VENDOR_ID, id->vendor, 2);
	pci_put(c + PCI_DEVICE_ID, id->device, 2);
	c[PCI_REVISION_ID] = id->revision;
	pci_put(c + PCI_CLASS_PROG, id->class, 3);
	pci_put(c + PCI_SUBSYSTEM_VENDOR_ID, id->vendor, 2);
	pci_put(c + PCI_SUBSYSTEM_ID, id->subsystem, 2);
	pci_put(dev->writable + PCI_COMMAND, COMMAND_WRITABLE, 2);
	dev->writable[PCI_INTERRUPT_LINE] = 0xff;
	dev->writable[PCI_CACHE_LINE_SIZE] = 0xff;
	dev->next_cap = PCI_STD_HEADER_SIZEOF;
}

void pci_bar_init(struct pci_dev *dev, unsigned int bar, bool io, u32 size)
{
	dev->bars[bar] = (struct pci_bar){ .dev = dev, .size = size, .io = io };
	pci_put(dev->writable + BAR_AT(bar), ~(size - 1), 4);
}

/* Returns where the capability is; the header's two bytes come before @body. */
u8 pci_cap_add(struct pci_dev *dev, u8 id, const void *body, u8 len)
{
	u8 at = dev->next_cap;

	dev->config[at + PCI_CAP_LIST_ID] = id;
	dev->config[at + PCI_CAP_LIST_NEXT] = 0;
	memcpy(dev->config + at + 2, body, len);
	if (dev->last_cap)
		dev->config[dev->last_cap + PCI_CAP_LIST_NEXT] = at;
	else
		dev->config[PCI_CAPABILITY_LIST] = at;
	dev->config[PCI_STATUS] |= PCI_STATUS_CAP_LIST;
	dev->last_cap = at;
	dev->next_cap = ALIGN_UP(at + 2 + len, 4);
	return at;
}

/* There is no firmware: the BARs start where one would have put them. */
static bool place_bar(struct pci_bus *bus, struct pci_dev *dev, unsigned int n)
{
	struct pci_bar *bar = &dev->bars[n];
	u32 *next = bar->io ? &bus->next_io : &bus->next_mem;
	u32 end = bar->io ? PCI_PORT_END : PCI_MEM_END;
	u64 at = ALIGN_UP(*next, bar->size);

	if (!bar->size)
		return true;
	if (at + bar->size > end)
		return false;
	pci_put(dev->config + BAR_AT(n), at | (bar->io ?
		PCI_BASE_ADDRESS_SPACE_IO : PCI_BASE_ADDRESS_SPACE_MEMORY), 4);
	*next = at + bar->size;
	return true;
}

int pci_add(struct pci_bus *bus, struct pci_dev *dev)
{
	unsigned int slot, n;

	for (slot = 0; slot < PCI_SLOTS && bus->slots[slot]; slot++)
		;
	if (slot == PCI_SLOTS)
		return -ENOSPC;
	for (n = 0; n < PCI_BARS; n++)
		if (!place_bar(bus, dev, n))
			return -ENOSPC;
	dev->bus = bus;
	dev->slot = slot;
	bus->slots[slot] = dev;
	if (slot) {
		dev->config[PCI_INTERRUPT_PIN] = 1;
		dev->config[PCI_INTERRUPT_LINE] = pci_gsi(dev);
	}
	return 0;
}

u32 pci_slots(const struct pci_bus *bus)
{
	u32 slot, map = 0;

	for (slot = 1; slot < PCI_SLOTS; slot++)
		if (bus->slots[slot])
			map |= 1U << slot;
	return map;
}

void pci_dev_save(struct pci_dev *dev, struct state *st)
{
	pthread_mutex_lock(&dev->bus->lock);
	state_put(st, "config", dev->config, sizeof(dev->config));
	pthread_mutex_unlock(&dev->bus->lock);
}

/* What is not the guest's to change must be what this device has. */
int pci_dev_load(struct pci_dev *dev, const struct state_section *sec)
{
	u8 config[PCI_CONFIG_SIZE];
	unsigned int i;
	size_t got;

	if (state_get(sec, "config", config, sizeof(config), &got) ||
	    got != sizeof(config))
		return -EBADMSG;
	for (i = 0; i < PCI_CONFIG_SIZE; i++)
		if ((config[i] ^ dev->config[i]) & ~dev->writable[i])
			return -EBADMSG;
	pthread_mutex_lock(&dev->bus->lock);
	memcpy(dev->config, config, sizeof(config));
	command_written(dev);
	pthread_mutex_unlock(&dev->bus->lock);
	return 0;
}

/* The bus. */

static void pci_save(struct device *dev, struct state *st)
{
	struct pci_bus *bus = container_of(dev, struct pci_bus, dev);

	state_put_u64(st, "address", get_address(bus));
	pci_dev_save(&bus->bridge, st);
}

static int pci_load(struct device *dev, const struct state_section *sec)
{
	struct pci_bus *bus = container_of(dev, struct pci_bus, dev);
	u64 address;

	if (state_get_u64(sec, "address", UINT32_MAX, &address) ||
	    (address & ~(u64)ADDRESS_WRITABLE))
		return -EBADMSG;
	bus->address = address;
	return pci_dev_load(&bus->bridge, sec);
}

static void pci_destroy(struct device *dev)
{
	struct pci_bus *bus = container_of(dev, struct pci_bus, dev);

	pthread_mutex_destroy(&bus->lock);
	pthread_mutex_destroy(&bus->line_lock);
	free(bus);
}

static const struct device_ops pci_ops = {
	.name = "pci",
	.version = 1,
	.save = pci_save,
	.load = pci_load,
	.destroy = pci_destroy,
};

const struct device_ops *pci_device_ops(void)
{
	return &pci_ops;
}

struct device *pci_device(struct pci_bus *bus)
{
	return &bus->dev;
}

/* NULL if memory is short, or if the fixed places are taken. */
struct pci_bus *pci_create(const struct pci_host *host, struct iobus *pio,
			   struct iobus *mmio)
{
	static const struct pci_dev_ops bridge_ops;
	static const struct pci_id bridge_id = {
		BRIDGE_VENDOR, BRIDGE_DEVICE, 0, 0, BRIDGE_CLASS
	};
	struct pci_bus *bus = calloc(1, sizeof(*bus));
	const struct iobus_region fixed[] = {
		{ PORT_PCI, 4, address_read, address_write, bus },
		{ PORT_PCI + 4, 4, data_read, data_write, bus },
	};
	const struct iobus_region ecam = {
		PCI_ECAM_BASE, PCI_ECAM_SIZE, ecam_read, ecam_write, bus
	};

	if (!bus)
		return NULL;
	bus->host = *host;
	bus->pio = pio;
	bus->mmio = mmio;
	bus->next_io = PCI_PORT_BASE;
	bus->next_mem = PCI_MEM_BASE;
	pthread_mutex_init(&bus->lock, NULL);
	pthread_mutex_init(&bus->line_lock, NULL);
	pci_dev_init(&bus->bridge, &bridge_ops, &bridge_id);
	iobus_remove(pio, PORT_RESET, &bus->reset);
	if (!iobus_add(pio, &fixed[0]) && !iobus_add(pio, &fixed[1]) &&
	    !iobus_add(mmio, &ecam) && !pci_add(bus, &bus->bridge))
		return bus;
	pci_destroy(&bus->dev);
	return NULL;
}
