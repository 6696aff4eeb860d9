// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns a port or an address.
 *  1. Regions are added before the guest runs and then only read, so no lock
 *     is needed.
 *  2. An access belongs to a region only if it lies wholly inside it; any
 *     other finds no device: reads give ones, writes vanish.  An access over
 *     a region's edge must not reach half of it: a dword to PCI's 0xcf8 is
 *     not a byte to the reset port 0xcf9.
 */
#include <errno.h>
#include <string.h>

#include "vmm.h"

int iobus_add(struct iobus *bus, const struct iobus_region *reg)
{
	unsigned int i;

	if (!reg->len || reg->base + reg->len < reg->base)
		return -EINVAL;
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

static const struct iobus_region *find(const struct iobus *bus, u64 addr,
				       u32 len)
{
	unsigned int lo = 0, hi = bus->nr;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		const struct iobus_region *reg = &bus->reg[mid];

		if (addr < reg->base)
			hi = mid;
		else if (addr - reg->base >= reg->len)
			lo = mid + 1;
		else
			return len <= reg->len - (addr - reg->base) ? reg : NULL;
	}
	return NULL;
}

void iobus_read(const struct iobus *bus, u64 addr, u8 *data, u32 len)
{
	const struct iobus_region *reg = find(bus, addr, len);

	memset(data, 0xff, len);
	if (reg)
		reg->read(reg->arg, addr - reg->base, data, len);
}

void iobus_write(const struct iobus *bus, u64 addr, const u8 *data, u32 len)
{
	const struct iobus_region *reg = find(bus, addr, len);

	if (reg)
		reg->write(reg->arg, addr - reg->base, data, len);
}
