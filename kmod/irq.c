// SPDX-License-Identifier: GPL-2.0
/*
 * irq.c - from a GSI to interrupt controllers:
 *  1. the routing table: GSI to PIC pin, IOAPIC pin or MSI,
 *  2. setting a GSI's level, delivering an MSI,
 *  3. acknowledgement notifiers, from a pin back to its GSI,
 *  4. the ioctls of the interrupt controllers as a whole.
 *
 * Lock: the table is replaced under vm->irq_lock and read under vm->srcu.
 */
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "pvhv.h"
#include "trace.h"

#define NR_CHIPS	3	/* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
#define PIC_PINS	8
#define NO_GSI		-1

struct irq_route {
	u32 gsi;
	bool is_msi;
	u8 chip;
	u8 pin;			/* of the chip; a PIC's 0-7 */
	u32 addr_lo, addr_hi, data;
};

struct pvhv_irq_table {
	u16 first[PVHV_MAX_IRQ_ROUTES + 1];	/* the routes of a GSI: [gsi, gsi + 1) */
	s16 chip_gsi[NR_CHIPS][PVHV_NR_GSI_PINS];
	struct irq_route route[];		/* by GSI */
};

/* ------------------------------------------------------------- routing -- */

static int convert_route(struct pvhv_vm *vm, const struct kvm_irq_routing_entry *user,
			 struct irq_route *route)
{
	if (user->gsi >= PVHV_MAX_IRQ_ROUTES)
		return -EINVAL;
	route->gsi = user->gsi;
	switch (user->type) {
	case KVM_IRQ_ROUTING_IRQCHIP:
		if (vm->irqchip_split || user->flags || user->u.irqchip.irqchip >= NR_CHIPS)
			return -EINVAL;
		route->chip = user->u.irqchip.irqchip;
		if (user->u.irqchip.pin >=
		    (route->chip == KVM_IRQCHIP_IOAPIC ? PVHV_NR_GSI_PINS : PIC_PINS))
			return -EINVAL;
		route->pin = user->u.irqchip.pin;
		return 0;
	case KVM_IRQ_ROUTING_MSI:
		/* A device ID means nothing on x86. */
		if (user->flags & ~KVM_MSI_VALID_DEVID)
			return -EINVAL;
		if ((vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS) &&
		    (user->u.msi.address_hi & 0xff))
			return -EINVAL;
		route->is_msi = true;
		route->addr_lo = user->u.msi.address_lo;
		route->addr_hi = user->u.msi.address_hi;
		route->data = user->u.msi.data;
		return 0;
	}
	return -EINVAL;
}

/* One GSI may feed several chips, one pin each, or be one MSI. */
static int check_gsi(const struct irq_route *route, unsigned int n)
{
	unsigned int i, j;

	for (i = 0; i < n; i++) {
		for (j = 0; j < i; j++) {
			if (route[i].is_msi || route[j].is_msi || route[i].chip == route[j].chip)
				return -EINVAL;
		}
		/* So a valid GSI has at most one route per chip. */
		if (i >= NR_CHIPS)
			return -EINVAL;
	}
	return 0;
}

static struct pvhv_irq_table *build_table(struct pvhv_vm *vm,
					  const struct kvm_irq_routing_entry *user,
					  unsigned int nr)
{
	struct pvhv_irq_table *table;
	struct irq_route route;
	unsigned int i, gsi;
	int ret = 0;
	u16 *next;

	table = kvzalloc(struct_size(table, route, nr), GFP_KERNEL_ACCOUNT);
	next = kvcalloc(PVHV_MAX_IRQ_ROUTES, sizeof(*next), GFP_KERNEL_ACCOUNT);
	if (!table || !next) {
		ret = -ENOMEM;
		goto out;
	}
	memset(table->chip_gsi, 0xff, sizeof(table->chip_gsi));	/* NO_GSI */

	/* Counting sort: how many each, where each begins, then place them. */
	for (i = 0; i < nr; i++) {
		if (user[i].gsi >= PVHV_MAX_IRQ_ROUTES) {
			ret = -EINVAL;
			goto out;
		}
		table->first[user[i].gsi + 1]++;
	}
	for (gsi = 0; gsi < PVHV_MAX_IRQ_ROUTES; gsi++) {
		next[gsi] = table->first[gsi];
		table->first[gsi + 1] += table->first[gsi];
	}
	for (i = 0; i < nr; i++) {
		memset(&route, 0, sizeof(route));
		ret = convert_route(vm, &user[i], &route);
		if (ret)
			goto out;
		table->route[next[route.gsi]++] = route;
		if (!route.is_msi)
			table->chip_gsi[route.chip][route.pin] = route.gsi;
	}
	for (gsi = 0; !ret && gsi < PVHV_MAX_IRQ_ROUTES; gsi++)
		ret = check_gsi(&table->route[table->first[gsi]],
				table->first[gsi + 1] - table->first[gsi]);
out:
	kvfree(next);
	if (!ret)
		return table;
	kvfree(table);
	return ERR_PTR(ret);
}

/* What a PC has: GSIs 0 to 15 go to the PICs and the IOAPIC, the rest to the
 * IOAPIC; pin by number. A VMM whose tables say otherwise sets its own. */
int pvhv_irq_routing_default(struct pvhv_vm *vm)
{
	struct kvm_irq_routing_entry *user;
	struct pvhv_irq_table *table;
	unsigned int nr = 0, gsi;

	user = kcalloc(16 + PVHV_NR_GSI_PINS, sizeof(*user), GFP_KERNEL);
	if (!user)
		return -ENOMEM;
	for (gsi = 0; gsi < PVHV_NR_GSI_PINS; gsi++) {
		if (gsi < 16) {
			user[nr].gsi = gsi;
			user[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
			user[nr].u.irqchip.irqchip = gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER :
								      KVM_IRQCHIP_PIC_SLAVE;
			user[nr].u.irqchip.pin = gsi % PIC_PINS;
			nr++;
		}
		user[nr].gsi = gsi;
		user[nr].type = KVM_IRQ_ROUTING_IRQCHIP;
		user[nr].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
		user[nr].u.irqchip.pin = gsi;
		nr++;
	}
	table = build_table(vm, user, nr);
	kfree(user);
	if (IS_ERR(table))
		return PTR_ERR(table);
	rcu_assign_pointer(vm->irq_table, table);
	return 0;
}

void pvhv_irq_routing_destroy(struct pvhv_vm *vm)
{
	kvfree(rcu_dereference_protected(vm->irq_table, 1));
	RCU_INIT_POINTER(vm->irq_table, NULL);
}

long pvhv_ioctl_set_gsi_routing(void *obj, void *data, unsigned long arg)
{
	struct kvm_irq_routing __user *argp = (void __user *)arg;
	struct kvm_irq_routing_entry *user = NULL;
	struct pvhv_irq_table *table, *old;
	struct kvm_irq_routing routing;
	struct pvhv_vm *vm = obj;

	if (copy_from_user(&routing, argp, sizeof(routing)))
		return -EFAULT;
	if (!smp_load_acquire(&vm->irqchip_in_kernel) ||
	    routing.nr > PVHV_MAX_IRQ_ROUTES || routing.flags)
		return -EINVAL;
	if (routing.nr) {
		user = vmemdup_user(argp->entries, array_size(routing.nr, sizeof(*user)));
		if (IS_ERR(user))
			return PTR_ERR(user);
	}
	table = build_table(vm, user, routing.nr);
	kvfree(user);
	if (IS_ERR(table))
		return PTR_ERR(table);

	mutex_lock(&vm->irq_lock);
	old = rcu_dereference_protected(vm->irq_table, lockdep_is_held(&vm->irq_lock));
	rcu_assign_pointer(vm->irq_table, table);
	pvhv_ioapic_update_vectors(vm);
	mutex_unlock(&vm->irq_lock);
	pvhv_srcu_sync(vm);
	kvfree(old);
	return 0;
}

/* ------------------------------------------------------------ delivery -- */

static int deliver_msi(struct pvhv_vm *vm, u32 addr_lo, u32 addr_hi, u32 data)
{
	struct pvhv_apic_msg msg = {
		.dest = addr_lo >> 12 & 0xff,
		.vector = data & 0xff,
		.mode = data >> 8 & 7,
		.logical = addr_lo & BIT(2),
		.level = data & BIT(15),
	};
	bool hint = addr_lo & BIT(3);

	if (vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS)
		msg.dest |= addr_hi & 0xffffff00;
	msg.lowest = msg.mode == 1 || (hint && msg.mode == 0);
	return pvhv_apic_deliver(vm, NULL, &msg);
}

int pvhv_set_irq(struct pvhv_vm *vm, int source, u32 gsi, int level)
{
	const struct pvhv_irq_table *table = srcu_dereference(vm->irq_table, &vm->srcu);
	int ret = -1, taken;
	unsigned int i;

	trace_pvhv_set_irq(source, gsi, level);
	if (unlikely(!table || gsi >= PVHV_MAX_IRQ_ROUTES))
		return -1;
	for (i = table->first[gsi]; i < table->first[gsi + 1]; i++) {
		const struct irq_route *route = &table->route[i];

		if (route->is_msi)
			taken = level ? deliver_msi(vm, route->addr_lo, route->addr_hi,
						    route->data) : -1;
		else if (route->chip == KVM_IRQCHIP_IOAPIC)
			taken = pvhv_ioapic_set_irq(vm, route->pin, source, level);
		else
			taken = pvhv_pic_set_irq(vm, route->chip * PIC_PINS + route->pin,
						 source, level);
		if (taken >= 0)
			ret = max(ret, 0) + taken;
	}
	return ret;
}

/* Up and down again; a message is sent once and has no down. */
void pvhv_pulse_irq(struct pvhv_vm *vm, int source, u32 gsi)
{
	const struct pvhv_irq_table *table = srcu_dereference(vm->irq_table, &vm->srcu);
	const struct irq_route *route;

	if (likely(table && gsi < PVHV_MAX_IRQ_ROUTES) &&
	    table->first[gsi + 1] - table->first[gsi] == 1) {
		route = &table->route[table->first[gsi]];
		if (route->is_msi) {
			trace_pvhv_set_irq(source, gsi, 1);
			deliver_msi(vm, route->addr_lo, route->addr_hi, route->data);
			return;
		}
	}
	pvhv_set_irq(vm, source, gsi, 1);
	pvhv_set_irq(vm, source, gsi, 0);
}

/* ----------------------------------------------------- acknowledgement -- */

static int gsi_of_pin(struct pvhv_vm *vm, unsigned int chip, unsigned int pin)
{
	const struct pvhv_irq_table *table = srcu_dereference(vm->irq_table, &vm->srcu);

	return table ? table->chip_gsi[chip][pin] : NO_GSI;
}

void pvhv_irq_acked(struct pvhv_vm *vm, unsigned int chip, unsigned int pin)
{
	struct pvhv_ack_notifier *notifier;
	int gsi;

	if (list_empty(&vm->irq_ack_notifiers))
		return;
	gsi = gsi_of_pin(vm, chip, pin);
	if (gsi == NO_GSI)
		return;
	list_for_each_entry_srcu(notifier, &vm->irq_ack_notifiers, link,
				 srcu_read_lock_held(&vm->srcu)) {
		if (notifier->gsi == (u32)gsi)
			notifier->acked(vm, notifier);
	}
}

bool pvhv_irq_has_notifier(struct pvhv_vm *vm, unsigned int chip, unsigned int pin)
{
	struct pvhv_ack_notifier *notifier;
	int gsi;

	if (list_empty(&vm->irq_ack_notifiers))
		return false;
	gsi = gsi_of_pin(vm, chip, pin);
	if (gsi == NO_GSI)
		return false;
	list_for_each_entry_srcu(notifier, &vm->irq_ack_notifiers, link,
				 srcu_read_lock_held(&vm->srcu)) {
		if (notifier->gsi == (u32)gsi)
			return true;
	}
	return false;
}

void pvhv_ack_notifier_add(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier)
{
	lockdep_assert_held(&vm->irq_lock);
	list_add_rcu(&notifier->link, &vm->irq_ack_notifiers);
	pvhv_ioapic_update_vectors(vm);
}

void pvhv_ack_notifier_del(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier)
{
	lockdep_assert_held(&vm->irq_lock);
	list_del_rcu(&notifier->link);
	pvhv_ioapic_update_vectors(vm);
	pvhv_srcu_sync(vm);
}

/* ---------------------------------------------------------------- life -- */

long pvhv_ioctl_create_irqchip(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;
	int ret;

	if (vm->irqchip_in_kernel)
		return -EEXIST;
	if (vm->nr_vcpus)
		return -EINVAL;
	ret = pvhv_apic_map_create(vm);
	if (ret)
		return ret;
	ret = pvhv_irq_routing_default(vm);
	if (ret)
		goto free_map;
	ret = pvhv_pic_create(vm);
	if (ret)
		goto free_routing;
	ret = pvhv_ioapic_create(vm);
	if (ret)
		goto free_pic;
	/* Seen: everything above is seen too. */
	smp_store_release(&vm->irqchip_in_kernel, true);
	return 0;

free_pic:
	pvhv_pic_destroy(vm);
free_routing:
	pvhv_irq_routing_destroy(vm);
free_map:
	pvhv_apic_map_destroy(vm);
	return ret;
}

/* The VM ends; before its vCPUs go, so that nothing can deliver to them. */
void pvhv_irqchip_destroy(struct pvhv_vm *vm)
{
	pvhv_pit_destroy(vm);
	pvhv_ioapic_destroy(vm);
	pvhv_pic_destroy(vm);
	pvhv_irq_routing_destroy(vm);
	pvhv_apic_map_destroy(vm);
}

/* -------------------------------------------------------------- ioctls -- */

long pvhv_ioctl_get_irqchip(void *obj, void *data, unsigned long arg)
{
	struct kvm_irqchip *chip = data;
	struct pvhv_vm *vm = obj;

	if (vm->irqchip_split)
		return -ENXIO;
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		pvhv_pic_get(vm, chip->chip_id == KVM_IRQCHIP_PIC_SLAVE, &chip->chip.pic);
		return 0;
	case KVM_IRQCHIP_IOAPIC:
		pvhv_ioapic_get(vm, &chip->chip.ioapic);
		return 0;
	}
	return -EINVAL;
}

long pvhv_ioctl_set_irqchip(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;
	struct kvm_irqchip *chip;
	long ret = 0;
	int idx;

	if (vm->irqchip_split)
		return -ENXIO;
	chip = memdup_user((void __user *)arg, sizeof(*chip));
	if (IS_ERR(chip))
		return PTR_ERR(chip);
	idx = srcu_read_lock(&vm->srcu);
	switch (chip->chip_id) {
	case KVM_IRQCHIP_PIC_MASTER:
	case KVM_IRQCHIP_PIC_SLAVE:
		pvhv_pic_set(vm, chip->chip_id == KVM_IRQCHIP_PIC_SLAVE, &chip->chip.pic);
		break;
	case KVM_IRQCHIP_IOAPIC:
		pvhv_ioapic_set(vm, &chip->chip.ioapic);
		break;
	default:
		ret = -EINVAL;
		break;
	}
	srcu_read_unlock(&vm->srcu, idx);
	kfree(chip);
	return ret;
}

/* KVM_IRQ_LINE and, with the status copied out, KVM_IRQ_LINE_STATUS. */
long pvhv_ioctl_irq_line(void *obj, void *data, unsigned long arg)
{
	struct kvm_irq_level *line = data;
	struct pvhv_vm *vm = obj;
	int idx;

	if (!smp_load_acquire(&vm->irqchip_in_kernel))
		return -ENXIO;
	idx = srcu_read_lock(&vm->srcu);
	line->status = pvhv_set_irq(vm, PVHV_IRQ_SOURCE_USER, line->irq, !!line->level);
	srcu_read_unlock(&vm->srcu, idx);
	return 0;
}

/* > 0: delivered, 0: the guest refuses it now, -1 (EPERM): nobody there. */
long pvhv_ioctl_signal_msi(void *obj, void *data, unsigned long arg)
{
	const struct kvm_msi *msi = data;
	struct pvhv_vm *vm = obj;
	long ret;
	int idx;

	if (!smp_load_acquire(&vm->irqchip_in_kernel) || msi->flags)
		return -EINVAL;
	if ((vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS) && (msi->address_hi & 0xff))
		return -EINVAL;
	idx = srcu_read_lock(&vm->srcu);
	ret = deliver_msi(vm, msi->address_lo, msi->address_hi, msi->data);
	srcu_read_unlock(&vm->srcu, idx);
	return ret;
}
