// SPDX-License-Identifier: GPL-2.0
/*
 * pit.c - the 8254 programmable interval timer:
 *  1. three counters, computed from the time since they were loaded,
 *  2. the ports 0x40-0x43, and 0x61 (speaker, counter 2's gate and output),
 *  3. counter 0's interrupt on GSI 0, with re-injection of missed ticks,
 *  4. KVM_CREATE_PIT2, KVM_GET/SET_PIT2, KVM_REINJECT_CONTROL.
 *
 * The hrtimer expires in softirq context: a tick may have to ask every vCPU
 * whether it is meant, which is nothing for a hard interrupt, and a PIT tick is
 * not a precise thing. Lock: pit->lock, never held while a line is set.
 */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pvhv.h"

#define PIT_HZ		1193182
#define PIT_PORT	0x40
#define SPEAKER_PORT	0x61
#define PIT_GSI		0
#define MIN_PERIOD_NS	(200 * NSEC_PER_USEC)	/* see LAPIC_MIN_PERIOD_NS */
#define REFRESH_NS	15085			/* port 0x61's toggling bit */
#define MAX_OWED	100000
#define MODE_NONE	0xff			/* no control word yet */
/* No EOI for so long: that tick got lost on its way (masked, reset). */
#define LOST_NS		NSEC_PER_SEC

/* rw_mode, read_state, write_state */
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_WORD, ACCESS_WORD_HIGH };

struct pvhv_pit {
	struct pvhv_io_dev dev, speaker;
	struct pvhv_vm *vm;
	struct pvhv_ack_notifier ack;
	bool notified;			/* irq_lock: ack is registered */
	raw_spinlock_t lock;		/* the rest, and hrtimer_start() */
	struct kvm_pit_channel_state ch[3];
	u32 flags;			/* KVM_PIT_FLAGS_HPET_LEGACY */
	bool speaker_on;
	struct hrtimer timer;
	bool running;			/* the timer means something */
	u64 period_ns;			/* 0: once */
	bool reinject;
	bool unacked;			/* the last tick's EOI is awaited */
	ktime_t pulsed;			/* when it was sent */
	u32 owed;			/* ticks to be sent after it */
};

/* ------------------------------------------------------------ counters -- */

static u64 elapsed(const struct kvm_pit_channel_state *c)
{
	s64 ns = ktime_get() - c->count_load_time;

	return ns <= 0 ? 0 : mul_u64_u32_div(ns, PIT_HZ, NSEC_PER_SEC);
}

static u16 to_bcd(u32 value)
{
	value %= 10000;
	return value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10;
}

static u32 from_bcd(u16 value)
{
	return (value >> 12) * 1000 + (value >> 8 & 15) * 100 + (value >> 4 & 15) * 10 +
	       (value & 15);
}

static u16 counter(const struct kvm_pit_channel_state *c)
{
	u64 ticks = elapsed(c);
	u32 rest, value;

	div_u64_rem(ticks, c->count, &rest);
	switch (c->mode) {
	case 2:
		value = c->count - rest;
		break;
	case 3:		/* counts by twos, twice a period */
		div_u64_rem(2 * ticks, c->count, &rest);
		value = (c->count - rest) & ~1u;
		break;
	default:	/* counts on below zero */
		value = c->bcd ? 10000 + c->count - ticks % 10000 : c->count - ticks;
		break;
	}
	return c->bcd ? to_bcd(value) : value;
}

static bool output(const struct kvm_pit_channel_state *c)
{
	u64 ticks = elapsed(c);
	u32 rest;

	div_u64_rem(ticks, c->count, &rest);
	switch (c->mode) {
	case 0:
		return ticks >= c->count;
	case 1:
		return ticks < c->count;
	case 2:
		return rest != c->count - 1;
	case 3:
		return rest < (c->count + 1) / 2;
	default:
		return ticks != c->count;
	}
}

/* ---------------------------------------------------------------- ticks -- */

static void pulse(struct pvhv_pit *pit)
{
	struct pvhv_vm *vm = pit->vm;
	unsigned long flags;
	int taken;

	taken = pvhv_set_irq(vm, PVHV_IRQ_SOURCE_PIT, PIT_GSI, 1);
	pvhv_set_irq(vm, PVHV_IRQ_SOURCE_PIT, PIT_GSI, 0);
	pvhv_lapic_nmi_wd(vm);
	if (taken > 0)
		return;
	/* Masked everywhere, or still waiting: no EOI of its own will come. */
	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->unacked = false;
	pit->owed = 0;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

/* Lock held: n more ticks happened; true: send one now. */
static bool tick_due(struct pvhv_pit *pit, u64 n)
{
	ktime_t now = ktime_get();

	if (!pit->reinject)
		return n;
	if (pit->unacked && now - pit->pulsed > LOST_NS) {
		pit->unacked = false;
		pit->owed = 0;
	}
	pit->owed = min_t(u64, pit->owed + n, MAX_OWED);
	if (pit->unacked || !pit->owed)
		return false;
	pit->owed--;
	pit->unacked = true;
	pit->pulsed = now;
	return true;
}

static enum hrtimer_restart timer_fn(struct hrtimer *timer)
{
	struct pvhv_pit *pit = container_of(timer, struct pvhv_pit, timer);
	enum hrtimer_restart restart = HRTIMER_NORESTART;
	unsigned long flags;
	bool send = false;
	int idx;

	raw_spin_lock_irqsave(&pit->lock, flags);
	/* Reprogrammed meanwhile: that one will come. */
	if (pit->running && !hrtimer_is_queued(timer)) {
		u64 n = 1;

		if (pit->period_ns) {
			n = hrtimer_forward_now(timer, ns_to_ktime(pit->period_ns));
			restart = HRTIMER_RESTART;
		} else {
			pit->running = false;
		}
		send = tick_due(pit, n);
	}
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (send) {
		idx = srcu_read_lock(&pit->vm->srcu);
		pulse(pit);
		srcu_read_unlock(&pit->vm->srcu, idx);
	}
	return restart;
}

/* The guest ended a tick; under srcu, irqs may be off. */
static void tick_acked(struct pvhv_vm *vm, struct pvhv_ack_notifier *notifier)
{
	struct pvhv_pit *pit = container_of(notifier, struct pvhv_pit, ack);
	unsigned long flags;
	bool send;

	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->unacked = false;
	send = tick_due(pit, 0);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	if (send)
		pulse(pit);
}

/* Lock held: counter 0 counts anew from its load time. */
static void start_timer(struct pvhv_pit *pit)
{
	const struct kvm_pit_channel_state *c = &pit->ch[0];
	u64 ns = div_u64((u64)c->count * NSEC_PER_SEC, PIT_HZ);
	ktime_t first;

	pit->unacked = false;
	pit->owed = 0;
	pit->running = false;
	/* A callback that runs now finds running false, or the new queueing. */
	hrtimer_try_to_cancel(&pit->timer);
	/* Modes 1 and 5 wait for a gate that counter 0 does not have. */
	if ((pit->flags & KVM_PIT_FLAGS_HPET_LEGACY) || c->mode == 1 || c->mode >= 5)
		return;
	pit->period_ns = c->mode == 2 || c->mode == 3 ? max_t(u64, ns, MIN_PERIOD_NS) : 0;
	first = ktime_add_ns(c->count_load_time, pit->period_ns ?: ns);
	pit->running = true;
	hrtimer_start(&pit->timer, first, HRTIMER_MODE_ABS_SOFT);
}

/* --------------------------------------------------------------- ports -- */

static void load(struct pvhv_pit *pit, unsigned int n, u16 value)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	c->count = c->bcd ? from_bcd(value) ?: 10000 : value ?: 0x10000;
	c->count_load_time = ktime_get();
	if (!n)
		start_timer(pit);
}

static void latch_count(struct kvm_pit_channel_state *c)
{
	if (c->count_latched)
		return;
	c->latched_count = counter(c);
	c->count_latched = c->rw_mode;
}

static void latch_status(struct kvm_pit_channel_state *c)
{
	if (c->status_latched)
		return;
	c->status = output(c) << 7 | c->rw_mode << 4 | c->mode << 1 | c->bcd;
	c->status_latched = 1;
}

static void write_control(struct pvhv_pit *pit, u8 value)
{
	struct kvm_pit_channel_state *c;
	unsigned int n = value >> 6;

	if (n == 3) {		/* read-back */
		for (n = 0; n < 3; n++) {
			if (!(value & 2 << n))
				continue;
			if (!(value & 0x20))
				latch_count(&pit->ch[n]);
			if (!(value & 0x10))
				latch_status(&pit->ch[n]);
		}
		return;
	}
	c = &pit->ch[n];
	if (!(value & 0x30)) {
		latch_count(c);
		return;
	}
	c->rw_mode = value >> 4 & 3;
	c->read_state = c->rw_mode;
	c->write_state = c->rw_mode;
	c->mode = value >> 1 & 7;
	if (c->mode > 5)
		c->mode -= 4;
	c->bcd = value & 1;
	c->count_latched = 0;
}

static void write_counter(struct pvhv_pit *pit, unsigned int n, u8 value)
{
	struct kvm_pit_channel_state *c = &pit->ch[n];

	switch (c->write_state) {
	case ACCESS_LOW:
		load(pit, n, value);
		break;
	case ACCESS_HIGH:
		load(pit, n, value << 8);
		break;
	case ACCESS_WORD:
		c->write_latch = value;
		c->write_state = ACCESS_WORD_HIGH;
		break;
	case ACCESS_WORD_HIGH:
		c->write_state = ACCESS_WORD;
		load(pit, n, c->write_latch | value << 8);
		break;
	}
}

static u8 read_counter(struct kvm_pit_channel_state *c)
{
	if (c->status_latched) {
		c->status_latched = 0;
		return c->status;
	}
	switch (c->count_latched) {
	case ACCESS_LOW:
		c->count_latched = 0;
		return c->latched_count;
	case ACCESS_HIGH:
		c->count_latched = 0;
		return c->latched_count >> 8;
	case ACCESS_WORD:
		c->count_latched = ACCESS_WORD_HIGH;
		return c->latched_count;
	case ACCESS_WORD_HIGH:
		c->count_latched = 0;
		return c->latched_count >> 8;
	}
	switch (c->read_state) {
	case ACCESS_HIGH:
		return counter(c) >> 8;
	case ACCESS_WORD:
		c->read_state = ACCESS_WORD_HIGH;
		return counter(c);
	case ACCESS_WORD_HIGH:
		c->read_state = ACCESS_WORD;
		return counter(c) >> 8;
	default:
		return counter(c);
	}
}

static int pit_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
		     unsigned int len, const void *val)
{
	struct pvhv_pit *pit = container_of(dev, struct pvhv_pit, dev);
	unsigned long flags;
	u8 value = *(const u8 *)val;

	raw_spin_lock_irqsave(&pit->lock, flags);
	if ((port & 3) == 3)
		write_control(pit, value);
	else
		write_counter(pit, port & 3, value);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

static int pit_read(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
		    unsigned int len, void *val)
{
	struct pvhv_pit *pit = container_of(dev, struct pvhv_pit, dev);
	unsigned long flags;

	memset(val, 0, len);
	if ((port & 3) == 3)
		return 0;
	raw_spin_lock_irqsave(&pit->lock, flags);
	*(u8 *)val = read_counter(&pit->ch[port & 3]);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

/* A rising gate starts the modes that count by it. */
static void set_gate(struct kvm_pit_channel_state *c, u8 gate)
{
	if (gate && !c->gate && c->mode != 0 && c->mode != 4)
		c->count_load_time = ktime_get();
	c->gate = gate;
}

static int speaker_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
			 unsigned int len, const void *val)
{
	struct pvhv_pit *pit = container_of(dev, struct pvhv_pit, speaker);
	unsigned long flags;
	u8 value = *(const u8 *)val;

	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->speaker_on = value & 2;
	set_gate(&pit->ch[2], value & 1);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

static int speaker_read(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 port,
			unsigned int len, void *val)
{
	struct pvhv_pit *pit = container_of(dev, struct pvhv_pit, speaker);
	u8 refresh = div_u64(ktime_get(), REFRESH_NS) & 1;
	unsigned long flags;

	memset(val, 0, len);
	raw_spin_lock_irqsave(&pit->lock, flags);
	*(u8 *)val = pit->ch[2].gate | pit->speaker_on << 1 | refresh << 4 |
		     output(&pit->ch[2]) << 5;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

/* ---------------------------------------------------------------- life -- */

/* irq_lock held. Without re-injection nobody needs the EOIs. */
static void set_reinject(struct pvhv_pit *pit, bool reinject)
{
	unsigned long flags;

	if (reinject && !pit->notified)
		pvhv_ack_notifier_add(pit->vm, &pit->ack);
	if (!reinject && pit->notified)
		pvhv_ack_notifier_del(pit->vm, &pit->ack);
	pit->notified = reinject;
	raw_spin_lock_irqsave(&pit->lock, flags);
	pit->reinject = reinject;
	pit->unacked = false;
	pit->owed = 0;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
}

static int register_ports(struct pvhv_pit *pit, bool speaker)
{
	struct pvhv_vm *vm = pit->vm;
	int ret;

	mutex_lock(&vm->slots_lock);
	ret = pvhv_iobus_register(vm, PVHV_BUS_PIO, PIT_PORT, 4, &pit->dev);
	if (!ret && speaker) {
		ret = pvhv_iobus_register(vm, PVHV_BUS_PIO, SPEAKER_PORT, 1, &pit->speaker);
		if (ret)
			WARN_ON_ONCE(pvhv_iobus_unregister(vm, PVHV_BUS_PIO, &pit->dev));
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

/* vm->lock held. data: struct kvm_pit_config; NULL: KVM_CREATE_PIT. */
long pvhv_ioctl_create_pit2(void *obj, void *data, unsigned long arg)
{
	const struct kvm_pit_config *config = data;
	struct pvhv_vm *vm = obj;
	struct pvhv_pit *pit;
	unsigned int i;
	int ret;

	if (vm->pit)
		return -EEXIST;
	if (!vm->irqchip_in_kernel || vm->irqchip_split)
		return -ENOENT;
	pit = kzalloc(sizeof(*pit), GFP_KERNEL_ACCOUNT);
	if (!pit)
		return -ENOMEM;
	pit->vm = vm;
	pit->dev = (struct pvhv_io_dev){ .read = pit_read, .write = pit_write, .atomic = true };
	pit->speaker = (struct pvhv_io_dev){
		.read = speaker_read, .write = speaker_write, .atomic = true
	};
	pit->ack.gsi = PIT_GSI;
	pit->ack.acked = tick_acked;
	raw_spin_lock_init(&pit->lock);
	hrtimer_init(&pit->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_SOFT);
	pit->timer.function = timer_fn;
	for (i = 0; i < ARRAY_SIZE(pit->ch); i++) {
		pit->ch[i].mode = MODE_NONE;
		pit->ch[i].gate = i != 2;
		pit->ch[i].rw_mode = ACCESS_WORD;
		pit->ch[i].read_state = ACCESS_WORD;
		pit->ch[i].write_state = ACCESS_WORD;
		pit->ch[i].count = 0x10000;
		pit->ch[i].count_load_time = ktime_get();
	}
	ret = register_ports(pit, !config || (config->flags & KVM_PIT_SPEAKER_DUMMY));
	if (ret) {
		kfree(pit);
		return ret;
	}
	mutex_lock(&vm->irq_lock);
	set_reinject(pit, true);
	mutex_unlock(&vm->irq_lock);
	smp_store_release(&vm->pit, pit);
	return 0;
}

/* The VM ends: no vCPU runs, the buses forget the ports. */
void pvhv_pit_destroy(struct pvhv_vm *vm)
{
	struct pvhv_pit *pit = vm->pit;

	if (!pit)
		return;
	hrtimer_cancel(&pit->timer);
	if (pit->notified)
		list_del(&pit->ack.link);
	vm->pit = NULL;
	kfree(pit);
}

/* ------------------------------------------------------ state transfer -- */

long pvhv_ioctl_get_pit2(void *obj, void *data, unsigned long arg)
{
	struct pvhv_pit *pit = smp_load_acquire(&((struct pvhv_vm *)obj)->pit);
	struct kvm_pit_state2 *state = data;
	unsigned long flags;

	if (!pit)
		return -ENXIO;
	memset(state, 0, sizeof(*state));
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(state->channels, pit->ch, sizeof(pit->ch));
	state->flags = pit->flags;
	if (pit->speaker_on)
		state->flags |= KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

static void sanitize(struct kvm_pit_channel_state *c)
{
	/* A load time of another host means nothing here: count from now. */
	c->count_load_time = ktime_get();
	if (!c->count || c->count > 0x10000)
		c->count = 0x10000;
	if (c->mode > 5)
		c->mode = MODE_NONE;
	c->bcd &= 1;
	c->gate &= 1;
	c->rw_mode = c->rw_mode & 3 ?: ACCESS_WORD;
	c->status_latched = !!c->status_latched;
	if (c->count_latched > ACCESS_WORD_HIGH)
		c->count_latched = 0;
	if (!c->read_state || c->read_state > ACCESS_WORD_HIGH)
		c->read_state = c->rw_mode;
	if (!c->write_state || c->write_state > ACCESS_WORD_HIGH)
		c->write_state = c->rw_mode;
}

long pvhv_ioctl_set_pit2(void *obj, void *data, unsigned long arg)
{
	struct pvhv_pit *pit = smp_load_acquire(&((struct pvhv_vm *)obj)->pit);
	const struct kvm_pit_state2 *state = data;
	unsigned long flags;
	unsigned int i;

	if (!pit)
		return -ENXIO;
	raw_spin_lock_irqsave(&pit->lock, flags);
	memcpy(pit->ch, state->channels, sizeof(pit->ch));
	for (i = 0; i < ARRAY_SIZE(pit->ch); i++)
		sanitize(&pit->ch[i]);
	pit->flags = state->flags & KVM_PIT_FLAGS_HPET_LEGACY;
	pit->speaker_on = state->flags & KVM_PIT_FLAGS_SPEAKER_DATA_ON;
	start_timer(pit);
	raw_spin_unlock_irqrestore(&pit->lock, flags);
	return 0;
}

long pvhv_ioctl_reinject_control(void *obj, void *data, unsigned long arg)
{
	struct kvm_reinject_control control;
	struct pvhv_vm *vm = obj;
	struct pvhv_pit *pit = smp_load_acquire(&vm->pit);

	if (copy_from_user(&control, (void __user *)arg, sizeof(control)))
		return -EFAULT;
	if (!pit)
		return -ENXIO;
	mutex_lock(&vm->irq_lock);
	set_reinject(pit, control.pit_reinject);
	mutex_unlock(&vm->irq_lock);
	return 0;
}
