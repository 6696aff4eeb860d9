// SPDX-License-Identifier: GPL-2.0
/*
 * iobus.c - in-kernel devices by port or guest-physical address:
 *  1. registration: a sorted array, replaced as a whole by its writers,
 *  2. dispatch: binary search under vm->srcu, no lock, which begins where the
 *     last one ended.
 *
 * Ranges may overlap: each carries the highest end of all before it, so that a
 * search knows when nothing further down can reach its address. Only vCPUs
 * read the arrays: a VM without any needs no grace period.
 */
#include <linux/slab.h>

#include "pvhv.h"

#define MAX_DEVICES	1000	/* as KVM's bus; without ioeventfds */
#define MAX_RANGES	32768	/* with them */

struct io_range {
	u64 start, last;	/* inclusive */
	u64 reach;		/* highest last up to here */
	struct pvhv_io_dev *dev;
	/* Kept here: an embedded device may be gone when the bus goes. */
	void (*destroy)(struct pvhv_io_dev *dev);
	bool any_len;		/* registered with length 0: the address counts */
	bool atomic;
	bool counted;
};

struct pvhv_io_bus {
	unsigned int nr;
	unsigned int hint;		/* anybody's last search ended here */
	unsigned int nr_counted;
	struct io_range range[];
};

static struct pvhv_io_bus *alloc_bus(unsigned int nr)
{
	return kvzalloc(struct_size((struct pvhv_io_bus *)NULL, range, nr), GFP_KERNEL_ACCOUNT);
}

int pvhv_iobus_init(struct pvhv_vm *vm)
{
	struct pvhv_io_bus *pio = alloc_bus(0), *mmio = alloc_bus(0);

	if (!pio || !mmio) {
		kvfree(pio);
		kvfree(mmio);
		return -ENOMEM;
	}
	RCU_INIT_POINTER(vm->buses[PVHV_BUS_PIO], pio);
	RCU_INIT_POINTER(vm->buses[PVHV_BUS_MMIO], mmio);
	return 0;
}

void pvhv_iobus_destroy(struct pvhv_vm *vm)
{
	struct pvhv_io_bus *bus;
	unsigned int b, i;

	for (b = 0; b < ARRAY_SIZE(vm->buses); b++) {
		bus = rcu_dereference_protected(vm->buses[b], 1);
		if (!bus)
			continue;
		for (i = 0; i < bus->nr; i++) {
			if (bus->range[i].destroy)
				bus->range[i].destroy(bus->range[i].dev);
		}
		RCU_INIT_POINTER(vm->buses[b], NULL);
		kvfree(bus);
	}
}

static void publish(struct pvhv_vm *vm, enum pvhv_bus which, struct pvhv_io_bus *new,
		    struct pvhv_io_bus *old)
{
	u64 reach = 0;
	unsigned int i;

	for (i = 0; i < new->nr; i++) {
		reach = max(reach, new->range[i].last);
		new->range[i].reach = reach;
	}
	rcu_assign_pointer(vm->buses[which], new);
	/* A vCPU that is not counted yet will see the new array. */
	smp_mb();
	if (smp_load_acquire(&vm->nr_vcpus))
		pvhv_srcu_sync(vm);
	kvfree(old);
}

static struct pvhv_io_bus *writer_bus(struct pvhv_vm *vm, enum pvhv_bus which)
{
	return rcu_dereference_protected(vm->buses[which], lockdep_is_held(&vm->slots_lock));
}

int pvhv_iobus_register(struct pvhv_vm *vm, enum pvhv_bus which, u64 addr,
			unsigned int len, struct pvhv_io_dev *dev)
{
	struct pvhv_io_bus *old = writer_bus(vm, which), *new;
	unsigned int at;

	if (len && addr + len - 1 < addr)
		return -EINVAL;
	if (old->nr >= MAX_RANGES || (!dev->uncounted && old->nr_counted >= MAX_DEVICES))
		return -ENOSPC;
	new = alloc_bus(old->nr + 1);
	if (!new)
		return -ENOMEM;
	for (at = 0; at < old->nr && old->range[at].start <= addr; at++)
		new->range[at] = old->range[at];
	new->range[at] = (struct io_range) {
		.start = addr,
		.last = len ? addr + len - 1 : addr,
		.dev = dev,
		.destroy = dev->destroy,
		.any_len = !len,
		.atomic = dev->atomic,
		.counted = !dev->uncounted,
	};
	memcpy(&new->range[at + 1], &old->range[at], (old->nr - at) * sizeof(old->range[0]));
	new->nr = old->nr + 1;
	new->nr_counted = old->nr_counted + !dev->uncounted;
	publish(vm, which, new, old);
	return 0;
}

/* All ranges of the device; the caller frees it afterwards. */
int pvhv_iobus_unregister(struct pvhv_vm *vm, enum pvhv_bus which, struct pvhv_io_dev *dev)
{
	struct pvhv_io_bus *old = writer_bus(vm, which), *new;
	unsigned int i;

	new = alloc_bus(old->nr);
	if (!new)
		return -ENOMEM;
	for (i = 0; i < old->nr; i++) {
		if (old->range[i].dev == dev)
			continue;
		new->nr_counted += old->range[i].counted;
		new->range[new->nr++] = old->range[i];
	}
	if (new->nr == old->nr) {
		kvfree(new);
		return -ENOENT;
	}
	publish(vm, which, new, old);
	return 0;
}

/* The last range that starts at or below addr, or -1. */
static int search(struct pvhv_io_bus *bus, u64 addr)
{
	unsigned int low = 0, high = bus->nr, hint = READ_ONCE(bus->hint);

	if (hint < high && bus->range[hint].start <= addr &&
	    (hint + 1 == high || bus->range[hint + 1].start > addr))
		return hint;
	while (low < high) {
		unsigned int mid = (low + high) / 2;

		if (bus->range[mid].start <= addr)
			low = mid + 1;
		else
			high = mid;
	}
	if (low)
		WRITE_ONCE(bus->hint, low - 1);
	return (int)low - 1;
}

/* It starts at or below addr; an access of unknown length (0) fits only where
 * the length does not matter. */
static bool fits(const struct io_range *range, u64 addr, unsigned int len)
{
	if (range->any_len)
		return range->start == addr;
	return len && addr + len - 1 <= range->last && addr + len - 1 >= addr;
}

/* Is an access with interrupts off worth a try? */
bool pvhv_iobus_atomic(struct pvhv_vcpu *vcpu, enum pvhv_bus which, u64 addr)
{
	struct pvhv_vm *vm = vcpu->vm;
	struct pvhv_io_bus *bus = srcu_dereference(vm->buses[which], &vm->srcu);
	int i = search(bus, addr);

	return i >= 0 && bus->range[i].reach >= addr && bus->range[i].atomic;
}

int pvhv_iobus_write(struct pvhv_vcpu *vcpu, enum pvhv_bus which, u64 addr,
		     unsigned int len, const void *val, bool atomic)
{
	struct pvhv_vm *vm = vcpu->vm;
	struct pvhv_io_bus *bus = srcu_dereference(vm->buses[which], &vm->srcu);
	int i, ret;

	for (i = search(bus, addr); i >= 0 && bus->range[i].reach >= addr; i--) {
		const struct io_range *range = &bus->range[i];

		if (!fits(range, addr, len))
			continue;
		if (atomic && !range->atomic)
			return -EAGAIN;
		ret = range->dev->write(vcpu, range->dev, addr, len, val);
		if (ret != -EOPNOTSUPP)
			return ret;
	}
	return -EOPNOTSUPP;
}

int pvhv_iobus_read(struct pvhv_vcpu *vcpu, enum pvhv_bus which, u64 addr,
		    unsigned int len, void *val, bool atomic)
{
	struct pvhv_vm *vm = vcpu->vm;
	struct pvhv_io_bus *bus = srcu_dereference(vm->buses[which], &vm->srcu);
	int i, ret;

	for (i = search(bus, addr); i >= 0 && bus->range[i].reach >= addr; i--) {
		const struct io_range *range = &bus->range[i];

		if (!fits(range, addr, len) || !range->dev->read)
			continue;
		if (atomic && !range->atomic)
			return -EAGAIN;
		ret = range->dev->read(vcpu, range->dev, addr, len, val);
		if (ret != -EOPNOTSUPP)
			return ret;
	}
	return -EOPNOTSUPP;
}
