// SPDX-License-Identifier: GPL-2.0
/*
 * coalesced.c - coalesced MMIO and PIO: writes to some addresses go into a ring
 * that the VMM empties when it pleases:
 *  1. zones, as devices on the I/O buses,
 *  2. the ring: one page, mapped by userspace behind kvm_run.
 *
 * The page is userspace's too: what is read from it is checked before use.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "pvhv.h"

struct coalesced_zone {
	struct pvhv_io_dev dev;
	struct list_head link;		/* slots_lock */
	struct pvhv_vm *vm;
	struct kvm_coalesced_mmio_zone zone;
};

int pvhv_coalesced_init(struct pvhv_vm *vm)
{
	raw_spin_lock_init(&vm->coalesced_lock);
	INIT_LIST_HEAD(&vm->coalesced_zones);
	vm->coalesced_page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
	return vm->coalesced_page ? 0 : -ENOMEM;
}

/* The zones went with the buses. */
void pvhv_coalesced_destroy(struct pvhv_vm *vm)
{
	if (vm->coalesced_page)
		__free_page(vm->coalesced_page);
	vm->coalesced_page = NULL;
}

/* -EOPNOTSUPP: no room, the VMM gets an ordinary exit and empties the ring. */
static int zone_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
		      unsigned int len, const void *val)
{
	struct coalesced_zone *z = container_of(dev, struct coalesced_zone, dev);
	struct kvm_coalesced_mmio_ring *ring = page_address(z->vm->coalesced_page);
	struct kvm_coalesced_mmio *entry;
	unsigned long flags;
	int ret = -EOPNOTSUPP;
	u32 last, next;

	if (len > sizeof(entry->data))
		return -EOPNOTSUPP;
	raw_spin_lock_irqsave(&z->vm->coalesced_lock, flags);
	last = READ_ONCE(ring->last);
	if (last < KVM_COALESCED_MMIO_MAX) {
		next = (last + 1) % KVM_COALESCED_MMIO_MAX;
		if (next != READ_ONCE(ring->first) % KVM_COALESCED_MMIO_MAX) {
			entry = &ring->coalesced_mmio[last];
			entry->phys_addr = addr;
			entry->len = len;
			entry->pio = z->zone.pio;
			memcpy(entry->data, val, len);
			/* Userspace sees the entry before the new end. */
			smp_store_release(&ring->last, next);
			ret = 0;
		}
	}
	raw_spin_unlock_irqrestore(&z->vm->coalesced_lock, flags);
	return ret;
}

static void zone_destroy(struct pvhv_io_dev *dev)
{
	struct coalesced_zone *z = container_of(dev, struct coalesced_zone, dev);

	list_del(&z->link);
	kfree(z);
}

static enum pvhv_bus zone_bus(const struct kvm_coalesced_mmio_zone *zone)
{
	return zone->pio ? PVHV_BUS_PIO : PVHV_BUS_MMIO;
}

long pvhv_ioctl_register_coalesced(void *obj, void *data, unsigned long arg)
{
	const struct kvm_coalesced_mmio_zone *zone = data;
	struct pvhv_vm *vm = obj;
	struct coalesced_zone *z;
	int ret;

	if (zone->pio > 1)
		return -EINVAL;
	if (!zone->size)
		return 0;	/* no write can lie in it */
	z = kzalloc(sizeof(*z), GFP_KERNEL_ACCOUNT);
	if (!z)
		return -ENOMEM;
	z->vm = vm;
	z->zone = *zone;
	z->dev.write = zone_write;
	z->dev.destroy = zone_destroy;
	z->dev.atomic = true;
	mutex_lock(&vm->slots_lock);
	list_add_tail(&z->link, &vm->coalesced_zones);
	ret = pvhv_iobus_register(vm, zone_bus(zone), zone->addr, zone->size, &z->dev);
	if (ret)
		zone_destroy(&z->dev);
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/* Every zone that the given range lies in; none is no error. */
long pvhv_ioctl_unregister_coalesced(void *obj, void *data, unsigned long arg)
{
	const struct kvm_coalesced_mmio_zone *zone = data;
	struct pvhv_vm *vm = obj;
	struct coalesced_zone *z, *next;
	long ret = 0;

	if (zone->pio > 1)
		return -EINVAL;
	mutex_lock(&vm->slots_lock);
	list_for_each_entry_safe(z, next, &vm->coalesced_zones, link) {
		if (z->zone.pio != zone->pio || zone->addr < z->zone.addr ||
		    zone->addr + zone->size < zone->addr ||
		    zone->addr + zone->size > z->zone.addr + z->zone.size)
			continue;
		ret = pvhv_iobus_unregister(vm, zone_bus(zone), &z->dev);
		if (ret)
			break;
		zone_destroy(&z->dev);
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}
