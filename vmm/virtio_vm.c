// SPDX-License-Identifier: GPL-2.0
/*
 * The virtio devices of a machine as a whole.
 *  1. vm_add_virtio(): a device into the machine, on the bus of --bus, which is
 *     made for the first of them.
 *  2. What that bus asks of the machine's interrupt chip.
 *  3. Opened, served, paused and closed together; what they write is logged.
 */
#include <errno.h>
#include <sys/ioctl.h>
#include <linux/pvhv.h>
#include <linux/pvhv_para.h>

#include "virtio.h"
#include "virtio_bus.h"

static int gsi_alloc(void *arg, unsigned int nr)
{
	return irq_gsi_alloc(arg, nr);
}

static int msi_route(void *arg, u32 gsi, u64 addr, u32 data)
{
	return irq_msi_route(arg, gsi, addr, data);
}

static int irqfd(void *arg, int fd, u32 gsi, bool on)
{
	return irq_irqfd(arg, fd, gsi, on);
}

static int ioeventfd(void *arg, int fd, u64 addr, u32 len, bool pio, bool on)
{
	return irq_ioeventfd(arg, fd, addr, len, pio, on);
}

static void line(void *arg, u32 gsi, bool level)
{
	irq_line(arg, gsi, level);
}

static int doorbell(void *arg, int fd, u32 number)
{
	return irq_doorbell(arg, fd, number);
}

static struct pci_host host_of(struct vm *vm)
{
	return (struct pci_host){
		gsi_alloc, msi_route, irqfd, ioeventfd, line, vm
	};
}

static int add_to_pci(struct vm *vm, struct virtio *v)
{
	const struct pci_host host = host_of(vm);

	if (!vm->pci) {
		vm->pci = pci_create(&host, &vm->pio, &vm->mmio);
		if (!vm->pci)
			return fail(-ENOMEM, "cannot create the PCI bus");
		devices_add(&vm->devices, pci_device(vm->pci),
			    pci_device_ops());
	}
	return virtio_pci_add(vm->pci, &vm->devices, v);
}

static int add_to_bus(struct vm *vm, struct virtio *v)
{
	const struct virtio_bus_host host = { host_of(vm), doorbell };

	if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, PVHV_CAP_DOORBELL) <
	    PVHV_BUS_SLOTS_MAX * PVHV_BUS_QUEUES_MAX)
		return fail(-EOPNOTSUPP, "--bus: %s has no doorbells: use the newest pvhv module, or --bus pci",
			    vm->opt->dev);
	if (!vm->bus) {
		vm->bus = virtio_bus_create(&host, &vm->pio);
		if (!vm->bus)
			return fail(-ENOMEM, "cannot create the bus");
	}
	return virtio_bus_add(vm->bus, &vm->devices, v);
}

/* The machine owns it from here on, also when this fails. */
int vm_add_virtio(struct vm *vm, struct virtio *v)
{
	struct virtio **at = &vm->virtios;

	devices_add_named(&vm->devices, &v->dev, virtio_device_ops(), v->label);
	while (*at)
		at = &(*at)->next;
	*at = v;
	return vm->opt->bus == BUS_PVHV ? add_to_bus(vm, v) :
					  add_to_pci(vm, v);
}

void vm_virtio_open(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_open(v);
}

void vm_virtio_service(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_service(v);
}

void vm_virtio_close(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_close(v);
}

/* Quiet devices touch no guest memory and can be saved. */
void vm_virtio_pause(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_pause(v);
}

void vm_virtio_resume(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_resume(v);
}

/* Before the log of the guest's own writes begins, after it has ended. */
void vm_virtio_log_writes(struct vm *vm, bool log)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		virtio_log_writes(v, log);
}

bool vm_virtio_quiet(const struct vm *vm)
{
	const struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		if (!virtio_quiet(v))
			return false;
	return true;
}
