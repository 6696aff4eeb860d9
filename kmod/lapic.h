/* SPDX-License-Identifier: GPL-2.0 */
/*
 * lapic.h - what the lapic*.c files share; nobody else includes it.
 *
 * Who may touch what: "owner" is the thread that holds vcpu->mutex (the vCPU's
 * own, or an ioctl on it); "any" is every context up to a hard interrupt, by
 * atomic operations only. No lock guards delivery: a sender sets the IRR bit,
 * then irr_maybe, then the request; the owner clears irr_maybe before it clears
 * the bit, and sets it again when another bit is left. What a virtual APIC
 * changes in this: lapic_virtual.c.
 */
#ifndef PVHV_LAPIC_H
#define PVHV_LAPIC_H

#include <linux/bitops.h>
#include <asm/apicdef.h>
#include <asm/msr-index.h>

#include "pvhv.h"

#define LAPIC_VERSION		0x50014	/* integrated APIC, 6 LVT entries */
/* A guest may not make the host take more than this many timer interrupts:
 * shorter periods are stretched. */
#define LAPIC_MIN_PERIOD_NS	(200 * NSEC_PER_USEC)
#define LAPIC_WORDS		(256 / BITS_PER_LONG)
#define LAPIC_NO_ID		0xffffffffu

enum lapic_mode { LAPIC_OFF, LAPIC_XAPIC, LAPIC_X2APIC };

/* lapic->events */
enum { LAPIC_EVENT_INIT, LAPIC_EVENT_SIPI };

struct lapic_timer {
	struct hrtimer hrtimer;
	raw_spinlock_t lock;	/* the rest, and every hrtimer_start() */
	u64 tsc_deadline;	/* 0: none */
	ktime_t target;		/* next expiry of TMICT's count, 0: stopped */
	u64 period_ns;		/* what TMICT and TDCR say */
	u32 divide;
	u32 mode;		/* LVTT's; that register hardware may write before we see it */
	/*
	 * The hrtimer is queued for this moment at the latest (the maximum:
	 * not queued). A later deadline does not move it: its callback looks
	 * again. A guest that pushes its deadline forward thus costs nothing.
	 */
	u64 armed_tsc;
	ktime_t armed_at;
	int cpu;		/* where it was queued */
};

struct pvhv_lapic {
	struct pvhv_vcpu *vcpu;
	const unsigned long *eoi_vectors;	/* the IOAPIC wants their EOI; split: tmr */
	unsigned long isr[LAPIC_WORDS];		/* owner */
	int isr_top;				/* owner: highest in ISR, -1 */
	unsigned int isr_count;			/* owner */
	u8 mode;			/* enum lapic_mode; owner writes */
	bool can_virtual;		/* hardware can work on it: constant */
	bool page_shown;		/* owner: hardware takes the access page for its registers */
	bool lent;			/* owner: and has ISR, and what it knows of IRR */
	bool pv_eoi_enabled;		/* owner */
	bool pv_eoi_set;		/* owner: the guest's bit may be set */
	u64 pv_eoi_gpa;			/* owner */
	u32 timer_mode_mask;		/* owner: LVTT modes CPUID allows */
	unsigned long user_eois[LAPIC_WORDS];	/* owner: split irqchip, to be told */

	unsigned long irr[LAPIC_WORDS] ____cacheline_aligned;	/* any */
	unsigned long tmr[LAPIC_WORDS];		/* any */
	bool irr_maybe;				/* any: IRR may be non-empty */
	unsigned long events;			/* any */
	u8 sipi_vector;				/* any, before LAPIC_EVENT_SIPI */
	unsigned long esr_pending;		/* any: errors since ESR's write */

	struct lapic_timer timer;
	/* The other registers, laid out as in the xAPIC page; owner writes, any reads. */
	u32 *regs;
};

static inline u32 lapic_reg(const struct pvhv_lapic *l, u32 offset)
{
	return READ_ONCE(l->regs[offset >> 2]);
}

static inline void lapic_set_reg(struct pvhv_lapic *l, u32 offset, u32 value)
{
	WRITE_ONCE(l->regs[offset >> 2], value);
}

static inline bool lapic_sw_enabled(const struct pvhv_lapic *l)
{
	return lapic_reg(l, APIC_SPIV) & APIC_SPIV_APIC_ENABLED;
}

static inline int lapic_mode(const struct pvhv_lapic *l)
{
	return READ_ONCE(l->mode);
}

static inline u32 lapic_x2apic_ldr(u32 id)
{
	return (id >> 4) << 16 | BIT(id & 15);
}

static inline int lapic_highest(const unsigned long *map)
{
	int i;

	for (i = LAPIC_WORDS - 1; i >= 0; i--) {
		unsigned long word = READ_ONCE(map[i]);

		if (word)
			return i * BITS_PER_LONG + __fls(word);
	}
	return -1;
}

/* The owner's view; other threads get an approximation (lowest priority). */
static inline u32 lapic_ppr(const struct pvhv_lapic *l)
{
	u32 tpr = lapic_reg(l, APIC_TASKPRI);
	int top = READ_ONCE(l->isr_top);
	u32 isr = top < 0 ? 0 : top;

	return (tpr & 0xf0) >= (isr & 0xf0) ? tpr : isr & 0xf0;
}

/* lapic.c: */
void lapic_post(struct pvhv_lapic *l, u8 vector, bool level, const struct pvhv_vcpu *src);
int lapic_local_deliver(struct pvhv_lapic *l, u32 lvt, const struct pvhv_vcpu *src); /* 1: taken */
void lapic_error(struct pvhv_lapic *l, u32 bit);
void lapic_eoi(struct pvhv_lapic *l);
void lapic_tell_eoi(struct pvhv_lapic *l, u8 vector);	/* whom it concerns */
void lapic_written(struct pvhv_lapic *l, u32 offset);	/* by hardware, for the guest */
void lapic_recount(struct pvhv_lapic *l);	/* after bulk changes of ISR, IRR */

/* lapic_virtual.c: the owner, before it looks at ISR or IRR, or sets them */
void lapic_take_back_lent(struct pvhv_lapic *l);
static inline void lapic_take_back(struct pvhv_lapic *l)
{
	if (unlikely(pvhv_posted_waits(l->vcpu)))
		pvhv_lapic_collect_posted(l->vcpu);
	if (unlikely(l->lent))
		lapic_take_back_lent(l);
}
bool lapic_post_running(struct pvhv_lapic *l, u8 vector);	/* any; true: it is on its way */
int lapic_virtual_peek(struct pvhv_lapic *l);

/* split.c: */
void lapic_split_eoi(struct pvhv_lapic *l, u8 vector);

/* lapic_ipi.c: */
int lapic_accept(struct pvhv_lapic *l, const struct pvhv_vcpu *src,
		 const struct pvhv_apic_msg *msg);
void lapic_write_icr(struct pvhv_lapic *l, u32 low, u32 dest);
void lapic_map_update(struct pvhv_vm *vm);
int lapic_map_make_room(struct pvhv_vm *vm, u32 id);

/* lapic_timer.c: */
void lapic_timer_init(struct pvhv_lapic *l);
void lapic_timer_free(struct pvhv_lapic *l);
void lapic_timer_stop(struct pvhv_lapic *l);
void lapic_timer_set_initial(struct pvhv_lapic *l, u32 tmict);
void lapic_timer_set_divide(struct pvhv_lapic *l, u32 tdcr);
void lapic_timer_set_lvtt(struct pvhv_lapic *l, u32 lvtt);
u32 lapic_timer_current(struct pvhv_lapic *l);
void lapic_timer_restore(struct pvhv_lapic *l, u32 tmcct);

/* lapic_pv.c: */
void lapic_pv_eoi_collect(struct pvhv_lapic *l);	/* atomic */

#endif /* PVHV_LAPIC_H */
