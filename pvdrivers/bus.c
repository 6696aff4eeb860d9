// SPDX-License-Identifier: GPL-2.0
/*
 * The pvhv bus in a guest (linux/pvhv_para.h has its ABI).
 *  1. Is there one? CPUID says so.
 *  2. Its slots: a page shared with the host for each device, which becomes a
 *     virtio device; commands.
 *  3. The module, and the end: a device must not write to pages that belong to
 *     somebody else, be it after rmmod or in the kernel that kexec started.
 */
#include <linux/io.h>
#include <linux/ioport.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <asm/processor.h>

#include "compat.h"
#include "pvhv_bus.h"

#define NAME	"pvhv_bus"

static struct platform_device *platform;
static struct pvhv_slot *slots[PVHV_BUS_SLOTS_MAX];
static u32 first_port, nr_slots;

/* 1. CPUID. */

static int find_bus(void)
{
	u32 base, eax, ebx, ecx, edx;

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return -ENODEV;
	base = hypervisor_cpuid_base(PVHV_CPUID_SIGNATURE, PVHV_CPUID_BUS);
	if (!base)
		return -ENODEV;
	cpuid(base + PVHV_CPUID_ABI, &eax, &ebx, &ecx, &edx);
	if (eax != PVHV_PARA_VERSION || !(ebx & PVHV_PARA_BUS))
		return -ENODEV;
	cpuid(base + PVHV_CPUID_BUS, &first_port, &nr_slots, &ecx, &edx);
	if (!nr_slots || nr_slots > PVHV_BUS_SLOTS_MAX)
		return -ENODEV;
	return 0;
}

/* 2. Slots. */

static int error_of(u32 result)
{
	switch (result) {
	case PVHV_BUS_OK:
		return 0;
	case PVHV_BUS_EINVAL:
		return -EINVAL;
	case PVHV_BUS_EBUSY:
		return -EBUSY;
	default:
		return -EIO;
	}
}

/* Any context: interrupts are moved with the descriptor's lock held. */
int pvhv_slot_command(struct pvhv_slot *slot, u32 command, const void *arg,
		      size_t len)
{
	unsigned long flags;
	u32 result;

	raw_spin_lock_irqsave(&slot->lock, flags);
	memcpy(&slot->page->arg, arg, len);
	barrier();	/* outl() is no barrier, and the page is memory */
	outl(command, slot->port + PVHV_BUS_COMMAND);
	barrier();
	result = READ_ONCE(slot->page->result);
	raw_spin_unlock_irqrestore(&slot->lock, flags);
	return error_of(result);
}

static void name_page(struct pvhv_slot *slot, u32 frame)
{
	outl(frame, slot->port + PVHV_BUS_FRAME);
	barrier();
}

static void release(struct device *dev)
{
	struct pvhv_slot *slot = container_of(dev_to_virtio(dev),
					      struct pvhv_slot, vdev);

	free_page((unsigned long)slot->page);
	kfree(slot);
}

static int add_slot(u32 index)
{
	struct pvhv_slot *slot;
	u64 frame;
	int ret;

	slot = kzalloc(sizeof(*slot), GFP_KERNEL);
	if (!slot)
		return -ENOMEM;
	slot->page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!slot->page) {
		ret = -ENOMEM;
		goto free_slot;
	}
	raw_spin_lock_init(&slot->lock);
	slot->index = index;
	slot->port = first_port + index * PVHV_BUS_PORTS;
	frame = virt_to_phys(slot->page) >> PVHV_BUS_PAGE_SHIFT;
	if (frame > U32_MAX) {
		ret = -ERANGE;
		goto free_page;
	}
	name_page(slot, frame);
	if (inl(slot->port + PVHV_BUS_FRAME) != frame || !slot->page->device) {
		ret = -ENODEV;
		goto free_page;
	}
	slot->vdev.id.device = slot->page->device;
	slot->vdev.id.vendor = slot->page->vendor;
	slot->vdev.config = &pvhv_config_ops;
	slot->vdev.dev.parent = &platform->dev;
	slot->vdev.dev.release = release;
	ret = register_virtio_device(&slot->vdev);
	if (ret) {
		name_page(slot, 0);
		put_device(&slot->vdev.dev);
		return ret;
	}
	slots[index] = slot;
	return 0;

free_page:
	name_page(slot, 0);
	free_page((unsigned long)slot->page);
free_slot:
	kfree(slot);
	return ret;
}

static void remove_slot(struct pvhv_slot *slot)
{
	struct device *dev = get_device(&slot->vdev.dev);

	unregister_virtio_device(&slot->vdev);
	name_page(slot, 0);
	put_device(dev);
}

/* 3. The module. */

static int probe(struct platform_device *pdev)
{
	int ret;
	u32 i;

	for (i = 0; i < nr_slots; i++) {
		ret = add_slot(i);
		if (ret)	/* the others are none the worse for it */
			dev_err(&pdev->dev, "slot %u: %d\n", i, ret);
	}
	return 0;
}

static void remove_slots(struct platform_device *pdev)
{
	u32 i;

	for (i = 0; i < nr_slots; i++) {
		if (slots[i])
			remove_slot(slots[i]);
		slots[i] = NULL;
	}
}

PVHV_PLATFORM_REMOVE(remove, remove_slots)

/* Nobody uses the devices any more: they stop, and forget our pages. */
static void shutdown(struct platform_device *pdev)
{
	u32 i;

	for (i = 0; i < nr_slots; i++) {
		if (!slots[i])
			continue;
		virtio_break_device(&slots[i]->vdev);
		pvhv_vdev_reset(&slots[i]->vdev);
		name_page(slots[i], 0);
	}
}

static struct platform_driver driver = {
	.driver = { .name = NAME },
	.probe = probe,
	.remove = remove,
	.shutdown = shutdown,
};

static int __init bus_init(void)
{
	int ret;

	ret = find_bus();
	if (ret)
		return ret;
	if (!request_region(first_port, nr_slots * PVHV_BUS_PORTS, NAME))
		return -EBUSY;
	ret = pvhv_irq_init();
	if (ret)
		goto ports;
	ret = platform_driver_register(&driver);
	if (ret)
		goto irq;
	platform = platform_device_alloc(NAME, PLATFORM_DEVID_NONE);
	ret = platform ? platform_device_add(platform) : -ENOMEM;
	if (!ret)
		return 0;
	platform_device_put(platform);
	platform_driver_unregister(&driver);
irq:
	pvhv_irq_exit();
ports:
	release_region(first_port, nr_slots * PVHV_BUS_PORTS);
	return ret;
}

static void __exit bus_exit(void)
{
	platform_device_unregister(platform);
	platform_driver_unregister(&driver);
	pvhv_irq_exit();
	release_region(first_port, nr_slots * PVHV_BUS_PORTS);
}

module_init(bus_init);
module_exit(bus_exit);

MODULE_DESCRIPTION("virtio devices on the bus of the pvhv hypervisor");
MODULE_LICENSE("GPL");
