// SPDX-License-Identifier: GPL-2.0
/*
 * pic.c - two cascaded 8259A interrupt controllers:
 *  1. request lines, edge or level by ELCR, and priorities,
 *  2. INTA and EOI,
 *  3. the ports 0x20, 0xa0 (command), 0x21, 0xa1 (data), 0x4d0 (ELCR),
 *  4. KVM_GET_IRQCHIP and KVM_SET_IRQCHIP.
 *
 * Lock: pic->lock. The output goes to vm->pic_output; vCPUs are woken and
 * acknowledgement notifiers called without the lock.
 */
#include <linux/slab.h>

#include "pvhv.h"

#define MASTER_PORT	0x20
#define SLAVE_PORT	0xa0
#define ELCR_PORT	0x4d0
#define CASCADE_PIN	2

/* Command bits */
#define ICW1		0x10
#define ICW1_ICW4	0x01
#define OCW3		0x08
#define OCW3_POLL	0x04
#define OCW3_READ	0x02
#define OCW3_READ_ISR	0x01
#define OCW3_SET_MASK	0x40
#define OCW3_MASK_ON	0x20
#define ICW4_AUTO_EOI	0x02
#define ICW4_NESTED	0x10

struct pvhv_pic {
	struct pvhv_io_dev dev;
	struct pvhv_vm *vm;
	raw_spinlock_t lock;		/* the rest */
	struct kvm_pic_state chip[2];
	unsigned long sources[16];
	u16 acked;			/* pins ended, notifiers not yet called */
	bool raised;			/* output rose, vCPUs not yet woken */
};

static const u8 elcr_masks[2] = { 0xf8, 0xde };	/* timer, keyboard, cascade, RTC: edge */

/* ---------------------------------------------------------- priorities -- */

/* Rank of the best of these pins, 0 is the highest priority; 8: none. */
static unsigned int best_rank(const struct kvm_pic_state *c, u8 pins)
{
	/* Rotated so that the pin of highest priority is bit 0. */
	u8 ranks = pins >> c->priority_add | pins << (8 - c->priority_add);

	return ranks ? __ffs(ranks) : 8;
}

static int rank_pin(const struct kvm_pic_state *c, unsigned int rank)
{
	return (rank + c->priority_add) & 7;
}

/* The pin that the chip requests service for, -1: none. */
static int request(const struct kvm_pic_state *c, bool slave)
{
	unsigned int rank = best_rank(c, c->irr & ~c->imr);
	u8 serving = c->isr;

	if (rank == 8)
		return -1;
	if (c->special_mask)
		serving &= ~c->imr;
	/* The slave may interrupt itself through the master. */
	if (c->special_fully_nested_mode && !slave)
		serving &= ~BIT(CASCADE_PIN);
	return rank < best_rank(c, serving) ? rank_pin(c, rank) : -1;
}

/* Lock held: the cascade line and the output follow from the rest. */
static void update(struct pvhv_pic *pic)
{
	struct kvm_pic_state *master = &pic->chip[0];
	bool output;

	if (request(&pic->chip[1], true) >= 0)
		master->irr |= BIT(CASCADE_PIN);
	else
		master->irr &= ~BIT(CASCADE_PIN);
	output = request(master, false) >= 0;
	if (output && !pic->vm->pic_output)
		pic->raised = true;
	WRITE_ONCE(pic->vm->pic_output, output);
}

static void unlock(struct pvhv_pic *pic, unsigned long flags)
	__releases(&pic->lock)
{
	unsigned long acked = pic->acked;
	bool raised = pic->raised;
	struct pvhv_vcpu *vcpu;
	unsigned int i;

	pic->acked = 0;
	pic->raised = false;
	raw_spin_unlock_irqrestore(&pic->lock, flags);

	if (unlikely(raised)) {
		pvhv_for_each_vcpu(i, vcpu, pic->vm) {
			if (vcpu->lapic && pvhv_lapic_accepts_pic(vcpu))
				pvhv_make_request(vcpu, PVHV_REQ_EVENT);
		}
	}
	for_each_set_bit(i, &acked, 16)
		pvhv_irq_acked(pic->vm, i / 8 ? KVM_IRQCHIP_PIC_SLAVE : KVM_IRQCHIP_PIC_MASTER,
			       i % 8);
}

/* --------------------------------------------------------------- lines -- */

/* -1: masked, 0: it was requested already, 1: a new request. */
static int set_line(struct kvm_pic_state *c, unsigned int pin, bool high)
{
	u8 bit = BIT(pin);
	int ret = 1;

	if (high) {
		if ((c->elcr & bit) || !(c->last_irr & bit)) {
			ret = !(c->irr & bit);
			c->irr |= bit;
		}
		c->last_irr |= bit;
	} else {
		if (c->elcr & bit)
			c->irr &= ~bit;
		c->last_irr &= ~bit;
	}
	return c->imr & bit ? -1 : ret;
}

int pvhv_pic_set_irq(struct pvhv_vm *vm, unsigned int pin, int source, int level)
{
	struct pvhv_pic *pic = vm->pic;
	unsigned long flags;
	int ret;

	raw_spin_lock_irqsave(&pic->lock, flags);
	if (level)
		__set_bit(source, &pic->sources[pin]);
	else
		__clear_bit(source, &pic->sources[pin]);
	ret = set_line(&pic->chip[pin / 8], pin % 8, pic->sources[pin]);
	update(pic);
	unlock(pic, flags);
	return ret;
}

/* ------------------------------------------------------- INTA and EOI -- */

static void end(struct pvhv_pic *pic, unsigned int chip, int pin)
{
	pic->chip[chip].isr &= ~BIT(pin);
	pic->acked |= BIT(chip * 8 + pin);
}

static void acknowledge(struct pvhv_pic *pic, unsigned int chip, int pin)
{
	struct kvm_pic_state *c = &pic->chip[chip];

	c->isr |= BIT(pin);
	if (!(c->elcr & BIT(pin)))
		c->irr &= ~BIT(pin);
	if (!c->auto_eoi)
		return;
	if (c->rotate_on_auto_eoi)
		c->priority_add = (pin + 1) & 7;
	end(pic, chip, pin);
}

/* Lock held: the vector of INTA; take: with its effects. -1: no request. */
static int inta(struct pvhv_pic *pic, bool take)
{
	int pin = request(&pic->chip[0], false), slave_pin;

	if (pin < 0)
		return -1;
	if (take)
		acknowledge(pic, 0, pin);
	if (pin != CASCADE_PIN)
		return pic->chip[0].irq_base + pin;
	slave_pin = request(&pic->chip[1], true);
	if (slave_pin < 0)
		return pic->chip[1].irq_base + 7;	/* spurious */
	if (take)
		acknowledge(pic, 1, slave_pin);
	return pic->chip[1].irq_base + slave_pin;
}

int pvhv_pic_peek(struct pvhv_vm *vm)
{
	struct pvhv_pic *pic = vm->pic;
	unsigned long flags;
	int vector;

	raw_spin_lock_irqsave(&pic->lock, flags);
	vector = inta(pic, false);
	raw_spin_unlock_irqrestore(&pic->lock, flags);
	return vector;
}

int pvhv_pic_ack(struct pvhv_vm *vm)
{
	struct pvhv_pic *pic = vm->pic;
	unsigned long flags;
	int vector;

	raw_spin_lock_irqsave(&pic->lock, flags);
	vector = inta(pic, true);
	update(pic);
	unlock(pic, flags);
	return vector;
}

/* --------------------------------------------------------------- ports -- */

static void icw1(struct pvhv_pic *pic, unsigned int chip, u8 value)
{
	struct kvm_pic_state *c = &pic->chip[chip];
	unsigned long lost = c->isr | (c->irr & ~c->elcr);
	unsigned int pin;

	/* Those that wait for these interrupts' end need wait no more. */
	for_each_set_bit(pin, &lost, 8)
		end(pic, chip, pin);
	c->init4 = value & ICW1_ICW4;
	c->last_irr = 0;
	c->irr &= c->elcr;
	c->imr = 0;
	c->isr = 0;
	c->priority_add = 0;
	c->special_mask = 0;
	c->read_reg_select = 0;
	c->poll = 0;
	c->rotate_on_auto_eoi = 0;
	if (!c->init4) {
		c->special_fully_nested_mode = 0;
		c->auto_eoi = 0;
	}
	c->init_state = 1;
}

static void ocw3(struct kvm_pic_state *c, u8 value)
{
	c->poll = !!(value & OCW3_POLL);
	if (value & OCW3_READ)
		c->read_reg_select = value & OCW3_READ_ISR;
	if (value & OCW3_SET_MASK)
		c->special_mask = !!(value & OCW3_MASK_ON);
}

static void ocw2(struct pvhv_pic *pic, unsigned int chip, u8 value)
{
	struct kvm_pic_state *c = &pic->chip[chip];
	bool rotate = value & 0x80, specific = value & 0x40, eoi = value & 0x20;
	int pin = value & 7;

	if (!eoi) {
		if (!specific)
			c->rotate_on_auto_eoi = rotate;
		else if (rotate)
			c->priority_add = (pin + 1) & 7;
		return;
	}
	if (!specific) {
		unsigned int rank = best_rank(c, c->special_mask ? c->isr & ~c->imr : c->isr);

		if (rank == 8)
			return;
		pin = rank_pin(c, rank);
	}
	if (rotate)
		c->priority_add = (pin + 1) & 7;
	end(pic, chip, pin);
}

static void write_command(struct pvhv_pic *pic, unsigned int chip, u8 value)
{
	if (value & ICW1)
		icw1(pic, chip, value);
	else if (value & OCW3)
		ocw3(&pic->chip[chip], value);
	else
		ocw2(pic, chip, value);
}

static void write_data(struct kvm_pic_state *c, u8 value)
{
	switch (c->init_state) {
	case 0:
		c->imr = value;
		break;
	case 1:
		c->irq_base = value & 0xf8;
		c->init_state = 2;
		break;
	case 2:		/* ICW3: the cascade is wired as a PC's */
		c->init_state = c->init4 ? 3 : 0;
		break;
	case 3:
		c->special_fully_nested_mode = !!(value & ICW4_NESTED);
		c->auto_eoi = !!(value & ICW4_AUTO_EOI);
		c->init_state = 0;
		break;
	}
}

/* A poll is an INTA of this chip alone by a read. */
static u8 poll(struct pvhv_pic *pic, unsigned int chip)
{
	int pin = request(&pic->chip[chip], chip);

	pic->chip[chip].poll = 0;
	if (pin < 0)
		return 0;
	acknowledge(pic, chip, pin);
	return 0x80 | pin;
}

static u8 read_port(struct pvhv_pic *pic, unsigned int chip, bool data)
{
	const struct kvm_pic_state *c = &pic->chip[chip];

	if (c->poll)
		return poll(pic, chip);
	if (data)
		return c->imr;
	return c->read_reg_select ? c->isr : c->irr;
}

static unsigned int port_chip(u64 port)
{
	return port >= SLAVE_PORT;
}

static int pic_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
		     unsigned int len, const void *val)
{
	struct pvhv_pic *pic = container_of(dev, struct pvhv_pic, dev);
	unsigned int chip = port_chip(port);
	u8 value = *(const u8 *)val;
	unsigned long flags;

	if (len != 1)
		return 0;
	raw_spin_lock_irqsave(&pic->lock, flags);
	if (port >= ELCR_PORT)
		pic->chip[port & 1].elcr = value & pic->chip[port & 1].elcr_mask;
	else if (port & 1)
		write_data(&pic->chip[chip], value);
	else
		write_command(pic, chip, value);
	update(pic);
	unlock(pic, flags);
	return 0;
}

static int pic_read(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
		    unsigned int len, void *val)
{
	struct pvhv_pic *pic = container_of(dev, struct pvhv_pic, dev);
	unsigned int chip = port_chip(port);
	unsigned long flags;

	memset(val, 0, len);
	if (len != 1)
		return 0;
	raw_spin_lock_irqsave(&pic->lock, flags);
	if (port >= ELCR_PORT)
		*(u8 *)val = pic->chip[port & 1].elcr;
	else
		*(u8 *)val = read_port(pic, chip, port & 1);
	update(pic);
	unlock(pic, flags);
	return 0;
}

/* ---------------------------------------------------------------- life -- */

int pvhv_pic_create(struct pvhv_vm *vm)
{
	static const u16 ports[] = { MASTER_PORT, SLAVE_PORT, ELCR_PORT };
	struct pvhv_pic *pic = kzalloc(sizeof(*pic), GFP_KERNEL_ACCOUNT);
	unsigned int i;
	int ret = 0;

	if (!pic)
		return -ENOMEM;
	pic->vm = vm;
	pic->dev.read = pic_read;
	pic->dev.write = pic_write;
	pic->dev.atomic = true;
	raw_spin_lock_init(&pic->lock);
	for (i = 0; i < ARRAY_SIZE(pic->chip); i++)
		pic->chip[i].elcr_mask = elcr_masks[i];
	vm->pic = pic;
	mutex_lock(&vm->slots_lock);
	for (i = 0; !ret && i < ARRAY_SIZE(ports); i++)
		ret = pvhv_iobus_register(vm, PVHV_BUS_PIO, ports[i], 2, &pic->dev);
	if (ret && i > 1)
		WARN_ON_ONCE(pvhv_iobus_unregister(vm, PVHV_BUS_PIO, &pic->dev));
	mutex_unlock(&vm->slots_lock);
	if (ret) {
		kfree(pic);
		vm->pic = NULL;
	}
	return ret;
}

void pvhv_pic_destroy(struct pvhv_vm *vm)
{
	kfree(vm->pic);
	vm->pic = NULL;
}

/* ------------------------------------------------------ state transfer -- */

void pvhv_pic_get(struct pvhv_vm *vm, bool slave, struct kvm_pic_state *state)
{
	struct pvhv_pic *pic = vm->pic;
	unsigned long flags;

	raw_spin_lock_irqsave(&pic->lock, flags);
	*state = pic->chip[slave];
	raw_spin_unlock_irqrestore(&pic->lock, flags);
}

void pvhv_pic_set(struct pvhv_vm *vm, bool slave, const struct kvm_pic_state *state)
{
	struct pvhv_pic *pic = vm->pic;
	struct kvm_pic_state *c = &pic->chip[slave];
	unsigned long flags;

	raw_spin_lock_irqsave(&pic->lock, flags);
	*c = *state;
	c->elcr_mask = elcr_masks[slave];
	c->elcr &= c->elcr_mask;
	c->priority_add &= 7;
	c->irq_base &= 0xf8;
	c->init_state &= 3;
	c->read_reg_select &= 1;
	c->poll = !!c->poll;
	c->special_mask = !!c->special_mask;
	c->auto_eoi = !!c->auto_eoi;
	c->rotate_on_auto_eoi = !!c->rotate_on_auto_eoi;
	c->special_fully_nested_mode = !!c->special_fully_nested_mode;
	c->init4 = !!c->init4;
	update(pic);
	unlock(pic, flags);
}
