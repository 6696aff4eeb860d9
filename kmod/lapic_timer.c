// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_timer.c - the LAPIC's timer:
 *  1. TSC-deadline mode, whose every write is a hot path of the guest; a
 *     backend may end a guest's stay at the deadline without an hrtimer,
 *  2. one-shot and periodic counting of TMICT at 1 GHz / divide,
 *  3. one host hrtimer for all of them, queued on the vCPU's CPU, whose
 *     callback posts the interrupt from hard-interrupt context.
 *
 * Lock: timer.lock, inside nothing, around hrtimer_start(); never held while
 * the hrtimer is cancelled or an interrupt is posted.
 */
#include <linux/math64.h>
#include <asm/msr.h>

#include "lapic.h"

#define TIMER_MODE_MASK	(APIC_LVT_TIMER_PERIODIC | APIC_LVT_TIMER_TSCDEADLINE)
#define NOT_ARMED_TSC	U64_MAX
#define SPIN_NS		1000	/* a wait shorter than a timer interrupt costs */
#define FAR_SECONDS	(86400ULL * 365)

static u32 timer_mode(const struct pvhv_lapic *l)
{
	return READ_ONCE(l->timer.mode);
}

/* Lock held. */
static void set_deadline(struct pvhv_lapic *l, u64 deadline)
{
	l->timer.tsc_deadline = deadline;
	if (l->vcpu->ends_at_deadline)
		WRITE_ONCE(l->vcpu->enter_until, deadline);
}

static void arm(struct lapic_timer *t, ktime_t at, u64 tsc)
{
	t->armed_at = at;
	t->armed_tsc = tsc;
	t->cpu = smp_processor_id();
	hrtimer_start(&t->hrtimer, at, HRTIMER_MODE_ABS_PINNED_HARD);
}

static ktime_t tsc_to_ktime(struct pvhv_vcpu *vcpu, u64 delta)
{
	u64 khz = READ_ONCE(vcpu->tsc_khz) ?: 1;
	u64 far = khz * 1000 * FAR_SECONDS;

	/* Far deadlines are looked at again once a year: no overflow. */
	return ktime_add_ns(ktime_get(), mul_u64_u64_div_u64(min(delta, far), NSEC_PER_MSEC, khz) + 1);
}

/*
 * Brings the hrtimer in line with tsc_deadline; true: that has passed. A vCPU
 * whose stay in the guest ends there by itself needs one only while it sleeps.
 */
static bool start_deadline(struct pvhv_lapic *l, bool sleeps)
{
	bool ends = l->vcpu->ends_at_deadline;
	struct lapic_timer *t = &l->timer;
	u64 deadline = t->tsc_deadline, now;

	if (!deadline || (deadline >= t->armed_tsc && !ends))
		return false;
	now = pvhv_read_tsc(l->vcpu);
	if (now >= deadline) {
		set_deadline(l, 0);
		return true;
	}
	if (deadline < t->armed_tsc && (sleeps || !ends))
		arm(t, tsc_to_ktime(l->vcpu, deadline - now), deadline);
	return false;
}

static void start_target(struct pvhv_lapic *l)
{
	struct lapic_timer *t = &l->timer;

	if (t->target && t->target < t->armed_at)
		arm(t, t->target, NOT_ARMED_TSC);
}

static u64 step_ns(const struct lapic_timer *t)
{
	return max_t(u64, t->period_ns, LAPIC_MIN_PERIOD_NS);
}

/* ----------------------------------------------------------- expiry -- */

/* In the callback: true: deliver; *again: look again then (0: never). */
static bool deadline_expired(struct pvhv_lapic *l, ktime_t *again)
{
	struct lapic_timer *t = &l->timer;
	u64 now, left, khz;

	*again = 0;
	if (!t->tsc_deadline)
		return false;
	now = pvhv_read_tsc(l->vcpu);
	if (now < t->tsc_deadline) {
		left = t->tsc_deadline - now;
		khz = READ_ONCE(l->vcpu->tsc_khz);
		if (left > khz * SPIN_NS / NSEC_PER_MSEC) {
			*again = tsc_to_ktime(l->vcpu, left);
			t->armed_tsc = t->tsc_deadline;
			return false;
		}
		/* The clocks disagree by a little: not before its time. */
		left = pvhv_tsc_host_ticks(l->vcpu, left) + 1;
		for (now = rdtsc(); rdtsc() - now < left; )
			cpu_relax();
	}
	set_deadline(l, 0);
	return true;
}

static bool target_expired(struct pvhv_lapic *l, ktime_t *again)
{
	struct lapic_timer *t = &l->timer;
	ktime_t now;
	bool fire;

	*again = 0;
	if (!t->target)
		return false;
	now = ktime_get();
	fire = now >= t->target;
	if (fire && timer_mode(l) == APIC_LVT_TIMER_PERIODIC && t->period_ns) {
		/* Missed periods are one interrupt, and the phase is kept. */
		u64 step = step_ns(t);

		t->target += step * (div64_u64(now - t->target, step) + 1);
	} else if (fire) {
		t->target = 0;
	}
	*again = t->target;
	return fire;
}

static enum hrtimer_restart timer_fn(struct hrtimer *hrtimer)
{
	struct lapic_timer *t = container_of(hrtimer, struct lapic_timer, hrtimer);
	struct pvhv_lapic *l = container_of(t, struct pvhv_lapic, timer);
	ktime_t again = 0;
	bool fire = false;

	raw_spin_lock(&t->lock);
	/* Queued anew while this waited for the lock: that one will do. */
	if (!hrtimer_is_queued(hrtimer)) {
		t->armed_at = KTIME_MAX;
		t->armed_tsc = NOT_ARMED_TSC;
		if (timer_mode(l) == APIC_LVT_TIMER_TSCDEADLINE)
			fire = deadline_expired(l, &again);
		else
			fire = target_expired(l, &again);
		if (again) {
			t->armed_at = again;
			hrtimer_set_expires(hrtimer, again);
		}
	}
	raw_spin_unlock(&t->lock);
	if (fire)
		lapic_local_deliver(l, APIC_LVTT, NULL);
	return again ? HRTIMER_RESTART : HRTIMER_NORESTART;
}

/* ------------------------------------------------------ TSC deadline -- */

void pvhv_lapic_set_tsc_deadline(struct pvhv_vcpu *vcpu, u64 value)
{
	struct pvhv_lapic *l = vcpu->lapic;
	unsigned long flags;
	bool fire;

	if (!l || timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE)
		return;
	raw_spin_lock_irqsave(&l->timer.lock, flags);
	set_deadline(l, value);
	fire = start_deadline(l, false);
	raw_spin_unlock_irqrestore(&l->timer.lock, flags);
	if (fire)
		lapic_local_deliver(l, APIC_LVTT, vcpu);
}

u64 pvhv_lapic_get_tsc_deadline(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;

	if (!l || timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE)
		return 0;
	return READ_ONCE(l->timer.tsc_deadline);
}

/* True: its interrupt is there. */
static bool look_at_deadline(struct pvhv_vcpu *vcpu, bool sleeps)
{
	struct pvhv_lapic *l = vcpu->lapic;
	unsigned long flags;
	bool fire;

	raw_spin_lock_irqsave(&l->timer.lock, flags);
	fire = start_deadline(l, sleeps);
	raw_spin_unlock_irqrestore(&l->timer.lock, flags);
	if (fire)
		lapic_local_deliver(l, APIC_LVTT, vcpu);
	return fire;
}

bool pvhv_lapic_deadline_passed(struct pvhv_vcpu *vcpu)
{
	return look_at_deadline(vcpu, false);
}

void pvhv_lapic_timer_sleep(struct pvhv_vcpu *vcpu)
{
	look_at_deadline(vcpu, true);
}

void pvhv_lapic_tsc_changed(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	unsigned long flags;

	if (!l || timer_mode(l) != APIC_LVT_TIMER_TSCDEADLINE)
		return;
	raw_spin_lock_irqsave(&l->timer.lock, flags);
	l->timer.armed_tsc = NOT_ARMED_TSC;	/* the relation is a new one */
	raw_spin_unlock_irqrestore(&l->timer.lock, flags);
	look_at_deadline(vcpu, false);
}

/* ------------------------------------------------- one-shot, periodic -- */

static u32 divide_of(u32 tdcr)
{
	u32 code = (tdcr & 3) | (tdcr & 8) >> 1;

	return 1u << ((code + 1) & 7);
}

/* Timer ticks left; lock held. */
static u32 ticks_left(struct pvhv_lapic *l)
{
	struct lapic_timer *t = &l->timer;
	u64 late;
	s64 left;

	if (!t->target || timer_mode(l) == APIC_LVT_TIMER_TSCDEADLINE)
		return 0;
	left = ktime_sub(t->target, ktime_get());
	if (left <= 0) {
		/* Expired, the callback is on its way. */
		if (timer_mode(l) != APIC_LVT_TIMER_PERIODIC)
			return 0;
		div64_u64_rem(-left, step_ns(t), &late);
		left = step_ns(t) - late;
	}
	/* A stretched period looks like the one asked for. */
	return min_t(u64, div64_u64(left, (u64)l->vcpu->vm->apic_bus_cycle_ns * t->divide),
		     lapic_reg(l, APIC_TMICT));
}

u32 lapic_timer_current(struct pvhv_lapic *l)
{
	unsigned long flags;
	u32 left;

	raw_spin_lock_irqsave(&l->timer.lock, flags);
	left = ticks_left(l);
	raw_spin_unlock_irqrestore(&l->timer.lock, flags);
	return left;
}

/* Long enough for any guest, and now plus it is a time still. */
#define LONGEST_NS	(KTIME_MAX / 2)

static u64 ticks_ns(const struct pvhv_lapic *l, u32 ticks)
{
	return min_t(u64, (u64)ticks * l->timer.divide * l->vcpu->vm->apic_bus_cycle_ns,
		     LONGEST_NS);
}

void lapic_timer_set_initial(struct pvhv_lapic *l, u32 tmict)
{
	struct lapic_timer *t = &l->timer;
	unsigned long flags;

	raw_spin_lock_irqsave(&t->lock, flags);
	if (timer_mode(l) == APIC_LVT_TIMER_TSCDEADLINE)
		tmict = 0;	/* there is none, though hardware may have written it */
	lapic_set_reg(l, APIC_TMICT, tmict);
	t->period_ns = ticks_ns(l, tmict);
	t->target = 0;
	if (tmict) {
		bool periodic = timer_mode(l) == APIC_LVT_TIMER_PERIODIC;

		t->target = ktime_add_ns(ktime_get(), periodic ? step_ns(t) : t->period_ns);
		start_target(l);
	}
	raw_spin_unlock_irqrestore(&t->lock, flags);
}

/* The count goes on from where it is, at the new rate. */
void lapic_timer_set_divide(struct pvhv_lapic *l, u32 tdcr)
{
	struct lapic_timer *t = &l->timer;
	unsigned long flags;
	u32 left;

	raw_spin_lock_irqsave(&t->lock, flags);
	left = ticks_left(l);
	lapic_set_reg(l, APIC_TDCR, tdcr);
	t->divide = divide_of(tdcr);
	t->period_ns = ticks_ns(l, lapic_reg(l, APIC_TMICT));
	if (left) {
		t->target = ktime_add_ns(ktime_get(), ticks_ns(l, left));
		start_target(l);
	}
	raw_spin_unlock_irqrestore(&t->lock, flags);
}

/* Between TSC-deadline and the others the timer is disarmed. */
void lapic_timer_set_lvtt(struct pvhv_lapic *l, u32 lvtt)
{
	struct lapic_timer *t = &l->timer;
	u32 changed = t->mode ^ lvtt;
	unsigned long flags;

	raw_spin_lock_irqsave(&t->lock, flags);
	lapic_set_reg(l, APIC_LVTT, lvtt);
	WRITE_ONCE(t->mode, lvtt & TIMER_MODE_MASK);
	if (changed & APIC_LVT_TIMER_TSCDEADLINE) {
		set_deadline(l, 0);
		t->target = 0;
		t->period_ns = 0;
		lapic_set_reg(l, APIC_TMICT, 0);
	}
	raw_spin_unlock_irqrestore(&t->lock, flags);
}

/* -------------------------------------------------------------- life -- */

void lapic_timer_init(struct pvhv_lapic *l)
{
	struct lapic_timer *t = &l->timer;

	raw_spin_lock_init(&t->lock);
	hrtimer_init(&t->hrtimer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_PINNED_HARD);
	t->hrtimer.function = timer_fn;
	t->armed_at = KTIME_MAX;
	t->armed_tsc = NOT_ARMED_TSC;
	t->divide = divide_of(0);
}

void lapic_timer_free(struct pvhv_lapic *l)
{
	hrtimer_cancel(&l->timer.hrtimer);
}

/* Registers were or will be replaced: nothing counts. A queued hrtimer finds
 * nothing to do. */
void lapic_timer_stop(struct pvhv_lapic *l)
{
	struct lapic_timer *t = &l->timer;
	unsigned long flags;

	raw_spin_lock_irqsave(&t->lock, flags);
	set_deadline(l, 0);
	t->target = 0;
	t->period_ns = 0;
	WRITE_ONCE(t->mode, lapic_reg(l, APIC_LVTT) & TIMER_MODE_MASK);
	t->divide = divide_of(lapic_reg(l, APIC_TDCR));
	raw_spin_unlock_irqrestore(&t->lock, flags);
}

/* After KVM_SET_LAPIC: count on from TMCCT as it was saved. */
void lapic_timer_restore(struct pvhv_lapic *l, u32 tmcct)
{
	struct lapic_timer *t = &l->timer;
	u32 mode = lapic_reg(l, APIC_LVTT) & TIMER_MODE_MASK;
	unsigned long flags;
	u64 left;

	raw_spin_lock_irqsave(&t->lock, flags);
	WRITE_ONCE(t->mode, mode);
	t->divide = divide_of(lapic_reg(l, APIC_TDCR));
	t->period_ns = ticks_ns(l, lapic_reg(l, APIC_TMICT));
	set_deadline(l, 0);
	t->target = 0;
	left = ticks_ns(l, tmcct);
	if (mode == APIC_LVT_TIMER_PERIODIC && t->period_ns)
		left = left && left <= step_ns(t) ? left : step_ns(t);
	else
		left = min(left, t->period_ns);
	if (mode != APIC_LVT_TIMER_TSCDEADLINE && left) {
		t->target = ktime_add_ns(ktime_get(), left);
		start_target(l);
	}
	raw_spin_unlock_irqrestore(&t->lock, flags);
}

/* The vCPU was loaded here: its timer should interrupt this CPU. */
void pvhv_lapic_timer_migrate(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	struct lapic_timer *t;
	unsigned long flags;

	if (!l)
		return;
	t = &l->timer;
	if (t->cpu == smp_processor_id() || !hrtimer_is_queued(&t->hrtimer))
		return;
	/* Only the owner queues it, and that is this thread. */
	if (!hrtimer_cancel(&t->hrtimer))
		return;
	raw_spin_lock_irqsave(&t->lock, flags);
	t->cpu = smp_processor_id();
	hrtimer_start(&t->hrtimer, t->armed_at, HRTIMER_MODE_ABS_PINNED_HARD);
	raw_spin_unlock_irqrestore(&t->lock, flags);
}
