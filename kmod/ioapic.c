// SPDX-License-Identifier: GPL-2.0
/*
 * ioapic.c - the 82093AA I/O APIC, 24 pins:
 *  1. lines from several sources, or-ed,
 *  2. redirection: edge and level, remote IRR, EOI,
 *  3. its registers at 0xfec00000,
 *  4. KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.
 *
 * Polarity is ignored, as in KVM: a line's level is what the device says.
 * Lock: ioapic->lock, outside the APIC map's; acknowledgement notifiers are
 * called without it, they may set lines.
 */
#include <linux/slab.h>
#include <linux/workqueue.h>
#include <asm/apicdef.h>

#include "pvhv.h"

#define REG_ID		0x00
#define REG_VERSION	0x01
#define REG_ARB		0x02
#define REG_TABLE	0x10
#define IOREGSEL	0x00
#define IOWIN		0x10
#define IOAPIC_SIZE	0x100
#define VERSION		(0x11 | (PVHV_NR_GSI_PINS - 1) << 16)

/* Bits of a redirection entry. */
#define RTE_VECTOR	0xffull
#define RTE_LOGICAL	BIT_ULL(11)
#define RTE_STATUS	BIT_ULL(12)
#define RTE_REMOTE_IRR	BIT_ULL(14)
#define RTE_LEVEL	BIT_ULL(15)
#define RTE_MASKED	BIT_ULL(16)
#define RTE_RO		(RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_BITS	0xff0000000001ffffull

/* A guest that ends a level interrupt without serving its device would spend
 * the host's time in a loop: after so many in a row it gets a pause. */
#define STORM_EOIS	10000
#define STORM_DELAY	(HZ / 100 ?: 1)

struct pvhv_ioapic {
	struct pvhv_io_dev dev;
	struct pvhv_vm *vm;
	raw_spinlock_t lock;		/* the rest */
	u32 ioregsel;
	u32 id;
	u32 lines;			/* level of each pin */
	u32 edge_done;			/* high edge lines that were delivered */
	u64 rte[PVHV_NR_GSI_PINS];
	unsigned long sources[PVHV_NR_GSI_PINS];
	u32 eois[PVHV_NR_GSI_PINS];	/* in a row with the line still high */
	unsigned long vectors[256 / BITS_PER_LONG];
	struct delayed_work storm_work;
};

const unsigned long *pvhv_ioapic_vectors(struct pvhv_vm *vm)
{
	return vm->ioapic->vectors;
}

/* ------------------------------------------------------------ delivery -- */

/* Lock held. As pvhv_apic_deliver(); -1 also when masked or in service. */
static int service(struct pvhv_ioapic *io, unsigned int pin)
{
	u64 rte = io->rte[pin];
	struct pvhv_apic_msg msg = {
		.dest = rte >> 56,
		.vector = rte & RTE_VECTOR,
		.mode = (rte >> 8) & 7,
		.logical = rte & RTE_LOGICAL,
		.level = rte & RTE_LEVEL,
		.lowest = ((rte >> 8) & 7) == 1,
	};
	int taken;

	if ((rte & RTE_MASKED) || (msg.level && (rte & RTE_REMOTE_IRR)))
		return -1;
	taken = pvhv_apic_deliver(io->vm, NULL, &msg);
	if (!msg.level)
		io->edge_done |= BIT(pin);
	else if (taken > 0)
		io->rte[pin] |= RTE_REMOTE_IRR;
	return taken;
}

/* Lock held. */
static int set_line(struct pvhv_ioapic *io, unsigned int pin, bool high)
{
	bool was_high = io->lines & BIT(pin);

	if (!high) {
		io->lines &= ~BIT(pin);
		return 1;
	}
	io->lines |= BIT(pin);
	if (!(io->rte[pin] & RTE_LEVEL)) {
		if (was_high)
			return 0;
		io->edge_done &= ~BIT(pin);
	}
	return service(io, pin);
}

int pvhv_ioapic_set_irq(struct pvhv_vm *vm, unsigned int pin, int source, int level)
{
	struct pvhv_ioapic *io = vm->ioapic;
	unsigned long flags;
	int ret;

	raw_spin_lock_irqsave(&io->lock, flags);
	if (level)
		__set_bit(source, &io->sources[pin]);
	else
		__clear_bit(source, &io->sources[pin]);
	ret = set_line(io, pin, io->sources[pin]);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return ret;
}

/* Lock held: the line is free to interrupt again. */
static void line_again(struct pvhv_ioapic *io, unsigned int pin)
{
	io->rte[pin] &= ~RTE_REMOTE_IRR;
	if ((io->rte[pin] & RTE_MASKED) || !(io->lines & BIT(pin))) {
		io->eois[pin] = 0;
		return;
	}
	if (++io->eois[pin] < STORM_EOIS) {
		service(io, pin);
		return;
	}
	io->eois[pin] = 0;
	schedule_delayed_work(&io->storm_work, STORM_DELAY);
}

static void storm_over(struct work_struct *work)
{
	struct pvhv_ioapic *io = container_of(to_delayed_work(work), struct pvhv_ioapic, storm_work);
	unsigned long flags;
	unsigned int pin;

	raw_spin_lock_irqsave(&io->lock, flags);
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++) {
		if ((io->lines & BIT(pin)) && (io->rte[pin] & RTE_LEVEL))
			service(io, pin);
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
}

/* A LAPIC ended this vector; level: its TMR bit. */
void pvhv_ioapic_eoi(struct pvhv_vm *vm, u8 vector, bool level)
{
	struct pvhv_ioapic *io = vm->ioapic;
	unsigned long flags, pins = 0;
	unsigned int pin;

	raw_spin_lock_irqsave(&io->lock, flags);
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++) {
		if ((io->rte[pin] & RTE_VECTOR) == vector)
			__set_bit(pin, &pins);
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);

	/* First the devices: they may lower the line. */
	for_each_set_bit(pin, &pins, PVHV_NR_GSI_PINS)
		pvhv_irq_acked(vm, KVM_IRQCHIP_IOAPIC, pin);
	if (!level)
		return;

	raw_spin_lock_irqsave(&io->lock, flags);
	for_each_set_bit(pin, &pins, PVHV_NR_GSI_PINS) {
		if ((io->rte[pin] & RTE_LEVEL) && (io->rte[pin] & RTE_VECTOR) == vector)
			line_again(io, pin);
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
}

/* Lock and srcu held. */
static void update_vectors(struct pvhv_ioapic *io)
{
	unsigned long vectors[ARRAY_SIZE(io->vectors)] = { 0 };
	struct pvhv_vcpu *vcpu;
	unsigned int pin, i;

	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++) {
		u8 vector = io->rte[pin] & RTE_VECTOR;

		/* LAPICs take none below; to hardware an EOI of nothing is one of 0. */
		if (vector >= 16 && ((io->rte[pin] & RTE_LEVEL) ||
				     pvhv_irq_has_notifier(io->vm, KVM_IRQCHIP_IOAPIC, pin)))
			__set_bit(vector, vectors);
	}
	if (!memcmp(vectors, io->vectors, sizeof(vectors)))
		return;
	for (i = 0; i < ARRAY_SIZE(vectors); i++)
		WRITE_ONCE(io->vectors[i], vectors[i]);
	/* Hardware that ends interrupts has a copy of it: pvhv_lapic_lend(). */
	pvhv_for_each_vcpu(i, vcpu, io->vm)
		if (READ_ONCE(vcpu->virtual_apic))
			pvhv_make_request(vcpu, PVHV_REQ_EVENT);
}

void pvhv_ioapic_update_vectors(struct pvhv_vm *vm)
{
	struct pvhv_ioapic *io = vm->ioapic;
	unsigned long flags;
	int idx;

	if (!io)
		return;
	idx = srcu_read_lock(&vm->srcu);
	raw_spin_lock_irqsave(&io->lock, flags);
	update_vectors(io);
	raw_spin_unlock_irqrestore(&io->lock, flags);
	srcu_read_unlock(&vm->srcu, idx);
}

/* ----------------------------------------------------------- registers -- */

static u32 read_reg(const struct pvhv_ioapic *io)
{
	u32 index = io->ioregsel - REG_TABLE;

	switch (io->ioregsel) {
	case REG_ID:
	case REG_ARB:
		return (io->id & 0xf) << 24;
	case REG_VERSION:
		return VERSION;
	}
	if (io->ioregsel < REG_TABLE || index / 2 >= PVHV_NR_GSI_PINS)
		return 0xffffffff;
	return io->rte[index / 2] >> (index % 2 * 32);
}

static void write_rte(struct pvhv_ioapic *io, unsigned int pin, bool high, u32 value)
{
	u64 rte = io->rte[pin];

	if (high)
		rte = (u32)rte | ((u64)value << 32);
	else
		rte = (rte & ~0xffffffffull) | (value & ~RTE_RO) | (rte & RTE_REMOTE_IRR);
	/* Switching a pin to edge is how systems clear a stale remote IRR. */
	if (!(rte & RTE_LEVEL))
		rte &= ~RTE_REMOTE_IRR;
	io->rte[pin] = rte & RTE_BITS;
	/* Before the interrupt whose EOI somebody wants to see. */
	update_vectors(io);
	if ((rte & RTE_LEVEL) && (io->lines & BIT(pin)))
		service(io, pin);
}

static void write_reg(struct pvhv_ioapic *io, u32 value)
{
	u32 index = io->ioregsel - REG_TABLE;

	if (io->ioregsel == REG_ID)
		io->id = value >> 24 & 0xf;
	if (io->ioregsel < REG_TABLE || index / 2 >= PVHV_NR_GSI_PINS)
		return;
	write_rte(io, index / 2, index % 2, value);
}

static int ioapic_read(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
		       unsigned int len, void *val)
{
	struct pvhv_ioapic *io = container_of(dev, struct pvhv_ioapic, dev);
	unsigned long flags;
	u64 value = 0;

	raw_spin_lock_irqsave(&io->lock, flags);
	switch (addr & 0xff) {
	case IOREGSEL:
		value = io->ioregsel;
		break;
	case IOWIN:
		value = read_reg(io);
		break;
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
	memset(val, 0, len);
	memcpy(val, &value, min_t(unsigned int, len, sizeof(value)));
	return 0;
}

static int ioapic_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
			unsigned int len, const void *val)
{
	struct pvhv_ioapic *io = container_of(dev, struct pvhv_ioapic, dev);
	unsigned long flags;
	u32 value = 0;

	memcpy(&value, val, min_t(unsigned int, len, sizeof(value)));
	raw_spin_lock_irqsave(&io->lock, flags);
	switch (addr & 0xff) {
	case IOREGSEL:
		io->ioregsel = value & 0xff;
		break;
	case IOWIN:
		write_reg(io, value);
		break;
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
	return 0;
}

/* ---------------------------------------------------------------- life -- */

int pvhv_ioapic_create(struct pvhv_vm *vm)
{
	struct pvhv_ioapic *io = kzalloc(sizeof(*io), GFP_KERNEL_ACCOUNT);
	unsigned int pin;
	int ret;

	if (!io)
		return -ENOMEM;
	io->vm = vm;
	io->dev.read = ioapic_read;
	io->dev.write = ioapic_write;
	io->dev.atomic = true;
	raw_spin_lock_init(&io->lock);
	INIT_DELAYED_WORK(&io->storm_work, storm_over);
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++)
		io->rte[pin] = RTE_MASKED;
	vm->ioapic = io;
	mutex_lock(&vm->slots_lock);
	ret = pvhv_iobus_register(vm, PVHV_BUS_MMIO, IO_APIC_DEFAULT_PHYS_BASE, IOAPIC_SIZE,
				  &io->dev);
	mutex_unlock(&vm->slots_lock);
	if (ret) {
		kfree(io);
		vm->ioapic = NULL;
	}
	return ret;
}

/* The VM ends, or its irqchip's creation failed: the device leaves the bus. */
void pvhv_ioapic_destroy(struct pvhv_vm *vm)
{
	if (!vm->ioapic)
		return;
	cancel_delayed_work_sync(&vm->ioapic->storm_work);
	kfree(vm->ioapic);
	vm->ioapic = NULL;
}

/* ------------------------------------------------------ state transfer -- */

/* Edges that were not delivered yet are in irr: they are tried again. */
void pvhv_ioapic_get(struct pvhv_vm *vm, struct kvm_ioapic_state *state)
{
	struct pvhv_ioapic *io = vm->ioapic;
	unsigned long flags;
	unsigned int pin;

	memset(state, 0, sizeof(*state));
	raw_spin_lock_irqsave(&io->lock, flags);
	state->base_address = IO_APIC_DEFAULT_PHYS_BASE;
	state->ioregsel = io->ioregsel;
	state->id = io->id;
	state->irr = io->lines & ~io->edge_done;
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++)
		state->redirtbl[pin].bits = io->rte[pin];
	raw_spin_unlock_irqrestore(&io->lock, flags);
}

void pvhv_ioapic_set(struct pvhv_vm *vm, const struct kvm_ioapic_state *state)
{
	struct pvhv_ioapic *io = vm->ioapic;
	unsigned long flags;
	unsigned int pin;
	int idx;

	idx = srcu_read_lock(&vm->srcu);
	raw_spin_lock_irqsave(&io->lock, flags);
	io->ioregsel = state->ioregsel & 0xff;
	io->id = state->id & 0xf;
	io->lines = 0;
	io->edge_done = 0;
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++) {
		u64 rte = state->redirtbl[pin].bits & RTE_BITS & ~RTE_STATUS;

		io->rte[pin] = rte & RTE_LEVEL ? rte : rte & ~RTE_REMOTE_IRR;
		io->eois[pin] = 0;
	}
	update_vectors(io);
	for (pin = 0; pin < PVHV_NR_GSI_PINS; pin++) {
		if (state->irr & BIT(pin))
			set_line(io, pin, true);
	}
	raw_spin_unlock_irqrestore(&io->lock, flags);
	srcu_read_unlock(&vm->srcu, idx);
}
