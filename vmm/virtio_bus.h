/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The pvhv bus: virtio devices without PCI, for guests with pvdrivers/.
 */
#ifndef PVHV_VIRTIO_BUS_H
#define PVHV_VIRTIO_BUS_H

#include "pci.h"

/* What the machine does for it; 0 or -errno. */
struct virtio_bus_host {
	struct pci_host irq;		/* gsi_alloc, msi_route, irqfd */
	int (*doorbell)(void *arg, int fd, u32 number);	/* its arg */
};

/* virtio_bus.c */
struct virtio_bus;
struct virtio;

struct virtio_bus *virtio_bus_create(const struct virtio_bus_host *host,
				     struct iobus *pio);
void virtio_bus_destroy(struct virtio_bus *bus);
int virtio_bus_add(struct virtio_bus *bus, struct devices *devs,
		   struct virtio *v);
u32 virtio_bus_slots(const struct virtio_bus *bus);

/* para.c: the CPUID leaves of linux/pvhv_para.h. */
int para_cpuid(struct kvm_cpuid2 **cpuid, const struct virtio_bus *bus);

#endif /* PVHV_VIRTIO_BUS_H */
