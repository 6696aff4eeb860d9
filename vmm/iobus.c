// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns a port or an address.
 *  1. Regions come and go while vCPUs run (PCI): an access copies the region
 *     it finds under a reader's lock and uses the copy without it, so that a
 *     device may change the bus from within an access.  What a region's
 *     functions use lives as long as the machine: a region may still be in
 *     use for a moment after it was removed.
 *  2. An access belongs to a region only if it lies wholly inside it; any
 *     other finds no device: reads give ones, writes vanish.  An access over
 *     a region's edge must not reach half of it: a dword to PCI's 0xcf8 is
 *     not a byte to the reset port 0xcf9.
 */
#include <errno.h>
#include <string.h>

#include "vmm.h"

void iobus_init(struct iobus *bus)
{
	bus->nr = 0;
	pthread_rwlock_init(&bus->lock, NULL);
}

void iobus_fini(struct iobus *bus)
{
	pthread_rwlock_destroy(&bus->lock);
}

static int insert(struct iobus *bus, const struct iobus_region *reg)
{
	unsigned int i;

	if (bus->nr == IOBUS_MAX)
		return -ENOSPC;
	for (i = 0; i < bus->nr && bus->reg[i].base < reg->base; i++)
		;
	if (i && bus->reg[i - 1].base + bus->reg[i - 1].len > reg->base)
		return -EEXIST;
	if (i < bus->nr && reg->base + reg->len > bus->reg[i].base)
		return -EEXIST;
	memmove(&bus->reg[i + 1], &bus->reg[i],
		(bus->nr - i) * sizeof(bus->reg[0]));
	bus->reg[i] = *reg;
	bus->nr++;
	return 0;
}

int iobus_add(struct iobus *bus, const struct iobus_region *reg)
{
	int ret;

	if (!reg->len || reg->base + reg->len < reg->base)
		return -EINVAL;
	pthread_rwlock_wrlock(&bus->lock);
	ret = insert(bus, reg);
	pthread_rwlock_unlock(&bus->lock);
	return ret;
}

/* False if no region begins there; @old, if given, is what it was. */
bool iobus_remove(struct iobus *bus, u64 base, struct iobus_region *old)
{
	unsigned int i;
	bool found;

	pthread_rwlock_wrlock(&bus->lock);
	for (i = 0; i < bus->nr && bus->reg[i].base != base; i++)
		;
	found = i < bus->nr;
	if (found) {
		if (old)
			*old = bus->reg[i];
		bus->nr--;
		memmove(&bus->reg[i], &bus->reg[i + 1],
			(bus->nr - i) * sizeof(bus->reg[0]));
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

static bool find(struct iobus *bus, u64 addr, u32 len, struct iobus_region *out)
{
	unsigned int lo = 0, hi;
	bool found = false;

	pthread_rwlock_rdlock(&bus->lock);
	hi = bus->nr;
	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		const struct iobus_region *reg = &bus->reg[mid];

		if (addr < reg->base) {
			hi = mid;
		} else if (addr - reg->base >= reg->len) {
			lo = mid + 1;
		} else {
			found = len <= reg->len - (addr - reg->base);
			*out = *reg;
			break;
		}
	}
	pthread_rwlock_unlock(&bus->lock);
	return found;
}

void iobus_read(struct iobus *bus, u64 addr, u8 *data, u32 len)
{
	struct iobus_region reg;

	memset(data, 0xff, len);
	if (find(bus, addr, len, &reg))
		reg.read(reg.arg, addr - reg.base, data, len);
}

void iobus_write(struct iobus *bus, u64 addr, const u8 *data, u32 len)
{
	struct iobus_region reg;

	if (find(bus, addr, len, &reg))
		reg.write(reg.arg, addr - reg.base, data, len);
}
