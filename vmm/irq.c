// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupts of the in-kernel interrupt chip.
 *  1. irq_init(): the chip (LAPICs, IOAPIC, PICs) and the PIT, which stock
 *     kernels do not touch with hardware-reduced ACPI but need with acpi=off.
 *  2. irq_line(): a device raises or lowers its line; devices call it on
 *     changes only, each call is one ioctl.
 *  3. Messages: a GSI beyond the chip's pins is routed to one MSI each.  The
 *     kernel takes its routing as a whole, so a copy of it is kept here.
 *  4. Eventfds: as a GSI (irqfd), and as what a port or an address signals
 *     (ioeventfd) or a hypercall of the pvhv bus (doorbell).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/pvhv.h>

#include "vmm.h"

#define PIC_PINS	8
#define PIC_GSIS	16

/* What the guest asks for and the kernel refuses is said this often at most. */
#define REFUSALS_MAX	8

struct irq_routes {
	pthread_mutex_t lock;
	struct kvm_irq_routing *table;	/* [l] lock */
	u32 cap;			/* [l] lock */
	u32 next_gsi;			/* [c] */
	u32 max_gsi;			/* [c] */
	atomic_uint refusals;		/* [a] */
};

int irq_init(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		return fail(-errno, "%s: cannot create the interrupt chip: %s",
			    vm->opt->dev, strerror(errno));
	if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_PIT2) > 0 &&
	    ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		return fail(-errno, "%s: cannot create the timer chip: %s",
			    vm->opt->dev, strerror(errno));
	return 0;
}

void irq_line(struct vm *vm, u32 gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	if (ioctl(vm->fd, KVM_IRQ_LINE, &line)) {
		fail(-errno, "%s: cannot set interrupt line %u: %s",
		     vm->opt->dev, gsi, strerror(errno));
		vm_stop(vm, STATUS_INTERNAL);
	}
}

static void add_pin(struct kvm_irq_routing *table, u32 gsi, u32 chip, u32 pin)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

/* As the kernel has it before anybody changes it. */
static void add_chips(struct kvm_irq_routing *table)
{
	u32 gsi;

	for (gsi = 0; gsi < GSI_MSI_BASE; gsi++) {
		if (gsi < PIC_GSIS)
			add_pin(table, gsi, gsi < PIC_PINS ?
				KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
				gsi % PIC_PINS);
		add_pin(table, gsi, KVM_IRQCHIP_IOAPIC, gsi);
	}
}

static int routes_room(struct irq_routes *r, u32 nr)
{
	struct kvm_irq_routing *table;

	if (r->table && nr <= r->cap)
		return 0;
	table = realloc(r->table, sizeof(*table) +
				  nr * sizeof(table->entries[0]));
	if (!table)
		return -ENOMEM;
	if (!r->table)
		memset(table, 0, sizeof(*table));
	r->table = table;
	r->cap = nr;
	return 0;
}

static int routes_create(struct vm *vm)
{
	struct irq_routes *r = calloc(1, sizeof(*r));
	int max = ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_IRQ_ROUTING);

	if (!r || routes_room(r, GSI_MSI_BASE + PIC_GSIS)) {
		free(r);
		return fail(-ENOMEM, "out of memory");
	}
	add_chips(r->table);
	pthread_mutex_init(&r->lock, NULL);
	r->next_gsi = GSI_MSI_BASE;
	r->max_gsi = max > 0 ? max : 0;
	vm->routes = r;
	return 0;
}

void irq_fini(struct vm *vm)
{
	if (!vm->routes)
		return;
	pthread_mutex_destroy(&vm->routes->lock);
	free(vm->routes->table);
	free(vm->routes);
	vm->routes = NULL;
}

/* GSIs for messages, before the guest runs; returns the first of them. */
int irq_gsi_alloc(struct vm *vm, unsigned int nr)
{
	struct irq_routes *r;
	int ret;
	u32 gsi;

	if (!vm->routes) {
		ret = routes_create(vm);
		if (ret)
			return ret;
	}
	r = vm->routes;
	if (nr > r->max_gsi || r->next_gsi > r->max_gsi - nr)
		return fail(-ENOSPC, "%s: has too few interrupts for so many devices: give fewer",
			    vm->opt->dev);
	gsi = r->next_gsi;
	r->next_gsi += nr;
	return gsi;
}

/* -errno of what was asked for on the guest's behalf. */
static int refused(struct vm *vm, const char *what)
{
	int err = -errno;

	if (atomic_fetch_add(&vm->routes->refusals, 1) < REFUSALS_MAX)
		fail(err, "%s: refuses %s that the guest set up: %s",
		     vm->opt->dev, what, strerror(-err));
	return err;
}

static struct kvm_irq_routing_entry *find_route(struct irq_routes *r, u32 gsi)
{
	u32 i;

	for (i = 0; i < r->table->nr; i++)
		if (r->table->entries[i].gsi == gsi)
			return &r->table->entries[i];
	if (routes_room(r, r->table->nr + 1))
		return NULL;
	return &r->table->entries[r->table->nr++];
}

/* On failure the GSI keeps the message it had. */
int irq_msi_route(struct vm *vm, u32 gsi, u64 addr, u32 data)
{
	struct irq_routes *r = vm->routes;
	struct kvm_irq_routing_entry *e, old;
	u32 nr;
	int ret = 0;

	pthread_mutex_lock(&r->lock);
	nr = r->table->nr;
	e = find_route(r, gsi);
	if (!e) {
		ret = -ENOMEM;
		goto out;
	}
	old = *e;
	*e = (struct kvm_irq_routing_entry){
		.gsi = gsi, .type = KVM_IRQ_ROUTING_MSI,
		.u.msi = { .address_lo = addr, .address_hi = addr >> 32,
			   .data = data },
	};
	if (ioctl(vm->fd, KVM_SET_GSI_ROUTING, r->table)) {
		ret = refused(vm, "an interrupt message");
		*e = old;
		r->table->nr = nr;
	}
out:
	pthread_mutex_unlock(&r->lock);
	return ret;
}

int irq_irqfd(struct vm *vm, int fd, u32 gsi, bool on)
{
	struct kvm_irqfd irqfd = {
		.fd = fd, .gsi = gsi, .flags = on ? 0 : KVM_IRQFD_FLAG_DEASSIGN,
	};

	return ioctl(vm->fd, KVM_IRQFD, &irqfd) ?
	       refused(vm, "an interrupt") : 0;
}

int irq_ioeventfd(struct vm *vm, int fd, u64 addr, u32 len, bool pio, bool on)
{
	struct kvm_ioeventfd io = {
		.fd = fd, .addr = addr, .len = len,
		.flags = (pio ? KVM_IOEVENTFD_FLAG_PIO : 0) |
			 (on ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN),
	};

	return ioctl(vm->fd, KVM_IOEVENTFD, &io) ?
	       refused(vm, "a doorbell") : 0;
}

int irq_doorbell(struct vm *vm, int fd, u32 number)
{
	struct pvhv_doorbell bell = { .id = number, .fd = fd };

	return ioctl(vm->fd, PVHV_SET_DOORBELL, &bell) ? -errno : 0;
}
