// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_virtual.c - a LAPIC that hardware works on while the guest runs
 * (virtual APIC): it delivers interrupts, ends them, and answers reads of
 * registers without an exit.
 *  1. when it does,
 *  2. lending it the state, and taking it back,
 *  3. what it leaves to be done: EOIs that somebody waits for, and writes,
 *  4. posted interrupts: they come to a guest that runs, without an exit.
 *
 * The registers lie in the page that hardware reads, always. ISR and IRR do not:
 * while lent, ISR and the interrupts that hardware knows of (the virtual IRR) are
 * in the page, l->isr is empty, and l->irr has what arrived since. Before an
 * entry the owner moves that over. It takes all back when it needs to look, and
 * lends it again before the next entry. What arrives while the guest runs comes
 * with a request, as always, which ends its stay, unless it can be posted.
 */
#include <linux/string.h>

#include "lapic.h"
#include "trace.h"

/* Guest interrupt status: SDM 25.4.2. */
#define STATUS_SERVICING	8	/* shift */

/* --- 1. when --- */

/* In xAPIC mode, where the access page is if it is anywhere. */
static bool is_at_page(const struct pvhv_vcpu *vcpu)
{
	return vcpu->be->apic->access_page() && vcpu->lapic->mode == LAPIC_XAPIC &&
	       vcpu->apic_base >> PAGE_SHIFT == PVHV_APIC_GFN;
}

static enum pvhv_virtual_apic choose(const struct pvhv_vcpu *vcpu)
{
	/*
	 * Hardware does not know that an APIC is disabled by software, and refuses
	 * what is sent to it; nor of a debugger that keeps interrupts away.
	 */
	if (!lapic_sw_enabled(vcpu->lapic) || (vcpu->guest_debug & KVM_GUESTDBG_BLOCKIRQ))
		return PVHV_NOT_VIRTUAL;
	if (vcpu->lapic->mode == LAPIC_X2APIC)
		return PVHV_VIRTUAL_X2APIC;
	return is_at_page(vcpu) ? PVHV_VIRTUAL_XAPIC : PVHV_NOT_VIRTUAL;
}

/* In the order that apic_page.c's invariant needs. */
static void show_page(struct pvhv_vcpu *vcpu, bool show)
{
	struct pvhv_lapic *l = vcpu->lapic;

	if (show == l->page_shown)
		return;
	if (!show)
		pvhv_apic_page_inhibit(vcpu->vm);
	vcpu->be->apic->show_page(vcpu, show);
	if (show)
		pvhv_apic_page_allow(vcpu->vm);
	l->page_shown = show;
}

void pvhv_lapic_choose_virtual(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	enum pvhv_virtual_apic how;

	if (!l || !l->can_virtual)
		return;
	show_page(vcpu, is_at_page(vcpu));
	how = choose(vcpu);
	if (how == vcpu->virtual_apic)
		return;
	pvhv_lapic_sync_pv_eoi_from_guest(vcpu);
	lapic_take_back(l);
	vcpu->virtual_apic = how;
	vcpu->be->apic->switch_to(vcpu, how);
	vcpu->event_check = true;
}

/* --- 2. the state --- */

static u32 *vector_reg(const struct pvhv_lapic *l, u32 offset, unsigned int i)
{
	return &l->regs[(offset >> 2) + 4 * i];
}

static unsigned long word_of(const struct pvhv_lapic *l, u32 offset, unsigned int i)
{
	return *vector_reg(l, offset, 2 * i) | (u64)*vector_reg(l, offset, 2 * i + 1) << 32;
}

static void set_word(struct pvhv_lapic *l, u32 offset, unsigned int i, unsigned long word)
{
	*vector_reg(l, offset, 2 * i) = word;
	*vector_reg(l, offset, 2 * i + 1) = word >> 32;
}

static int highest(const struct pvhv_lapic *l, u32 offset)
{
	int i;

	for (i = LAPIC_WORDS - 1; i >= 0; i--) {
		unsigned long word = word_of(l, offset, i);

		if (word)
			return i * BITS_PER_LONG + __fls(word);
	}
	return -1;
}

/* Handed over: when the guest takes them nobody sees. */
static void trace_moved(u32 id, unsigned long word, unsigned int first)
{
	unsigned int bit;

	for_each_set_bit(bit, &word, BITS_PER_LONG)
		trace_pvhv_inj_irq(id, first + bit, false);
}

/* All that is in l->irr to the page; the highest of it, or highest so far. */
static int move_irr(struct pvhv_lapic *l, int top)
{
	unsigned long word;
	unsigned int i;

	/* See lapic.h for the order. */
	WRITE_ONCE(l->irr_maybe, false);
	smp_mb();
	for (i = 0; i < LAPIC_WORDS; i++) {
		if (!READ_ONCE(l->irr[i]))
			continue;
		word = xchg(&l->irr[i], 0);
		l->vcpu->stat.irq_injections += hweight_long(word);
		if (trace_pvhv_inj_irq_enabled())
			trace_moved(l->vcpu->id, word, i * BITS_PER_LONG);
		set_word(l, APIC_IRR, i, word_of(l, APIC_IRR, i) | word);
		set_word(l, APIC_TMR, i, READ_ONCE(l->tmr[i]));
		top = max_t(int, top, i * BITS_PER_LONG + __fls(word));
	}
	return top;
}

void pvhv_lapic_lend(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u16 status;
	u8 waiting;
	int i;

	if (!l->lent) {
		for (i = 0; i < LAPIC_WORDS; i++) {
			set_word(l, APIC_ISR, i, l->isr[i]);
			set_word(l, APIC_TMR, i, READ_ONCE(l->tmr[i]));
		}
		status = max(l->isr_top, 0) << STATUS_SERVICING;
		memset(l->isr, 0, sizeof(l->isr));
		WRITE_ONCE(l->isr_top, -1);
		l->isr_count = 0;
		l->lent = true;
	} else {
		status = vcpu->be->apic->get_status(vcpu);
	}
	if (READ_ONCE(l->irr_maybe)) {
		waiting = move_irr(l, (u8)status);
		status = (status & 0xff00) | waiting;
	}
	vcpu->be->apic->set_status(vcpu, status);
	/* After the moved: who set a vector's bit there did so before it came. */
	vcpu->be->apic->set_eoi_exits(vcpu, l->eoi_vectors);
}

void lapic_take_back_lent(struct pvhv_lapic *l)
{
	unsigned long word;
	unsigned int i;

	l->lent = false;
	for (i = 0; i < LAPIC_WORDS; i++) {
		l->isr[i] = word_of(l, APIC_ISR, i);
		word = word_of(l, APIC_IRR, i);
		if (!word)
			continue;
		set_word(l, APIC_IRR, i, 0);
		l->vcpu->stat.irq_injections -= hweight_long(word);
		atomic_long_or(word, (atomic_long_t *)&l->irr[i]);
		WRITE_ONCE(l->irr_maybe, true);
	}
	WRITE_ONCE(l->isr_top, lapic_highest(l->isr));
	l->isr_count = bitmap_weight(l->isr, 256);
	l->vcpu->event_check = true;
}

/* The highest that waits for nothing but the guest's will to take interrupts, -1: none. */
int lapic_virtual_peek(struct pvhv_lapic *l)
{
	int irr = max(lapic_highest(l->irr), highest(l, APIC_IRR));
	int isr = max(l->lent ? highest(l, APIC_ISR) : l->isr_top, 0);

	if (irr < 0 || (irr & 0xf0) <= max_t(int, isr & 0xf0, lapic_reg(l, APIC_TASKPRI) & 0xf0))
		return -1;
	return irr;
}

/* --- 3. what is left --- */

int pvhv_lapic_eoi_made(struct pvhv_vcpu *vcpu, u8 vector)
{
	trace_pvhv_eoi(vcpu->id, vector);
	lapic_tell_eoi(vcpu->lapic, vector);
	return PVHV_RESUME;
}

/*
 * In xAPIC mode all registers but TPR and EOI are software's, once hardware has
 * put the guest's word into the page; in x2APIC mode only what hardware will
 * not have: an IPI to itself with an illegal vector.
 */
int pvhv_lapic_write_made(struct pvhv_vcpu *vcpu, u32 offset)
{
	struct pvhv_lapic *l = vcpu->lapic;

	if (l->mode == LAPIC_XAPIC) {
		lapic_written(l, offset & ~0xfu);
		return PVHV_RESUME;
	}
	if (offset != APIC_SELF_IPI)
		return PVHV_SLOW;
	lapic_write_icr(l, APIC_DEST_SELF | (lapic_reg(l, offset) & APIC_VECTOR_MASK), 0);
	return PVHV_RESUME;
}

/* --- 4. posted --- */

/*
 * Only what hardware need not know more of: edge-triggered, its end is nobody's
 * concern. For a vCPU that leaves its guest meanwhile this is as good as a bit
 * in IRR with a request: it looks before it enters again and before it sleeps,
 * or has left before the second look here.
 */
bool lapic_post_running(struct pvhv_lapic *l, u8 vector)
{
	struct pvhv_vcpu *vcpu = l->vcpu;

	if (!vcpu->posted || !READ_ONCE(vcpu->virtual_apic) ||
	    READ_ONCE(vcpu->mode) != PVHV_IN_GUEST || test_bit(vector, l->eoi_vectors))
		return false;
	set_bit(vector, vcpu->posted->requests);
	/* Set already: who did that notifies, and the vector is among what will be found. */
	if (test_and_set_bit(PVHV_POSTED_ON, &vcpu->posted->control))
		return true;
	if (READ_ONCE(vcpu->mode) == PVHV_IN_GUEST)
		vcpu->be->apic->notify(vcpu);
	else
		pvhv_make_request(vcpu, PVHV_REQ_EVENT);
	return true;
}

/* The owner: they are in IRR like any others. */
void pvhv_lapic_collect_posted(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	unsigned long word;
	unsigned int i;

	clear_bit(PVHV_POSTED_ON, &vcpu->posted->control);
	smp_mb__after_atomic();
	for (i = 0; i < LAPIC_WORDS; i++) {
		if (!READ_ONCE(vcpu->posted->requests[i]))
			continue;
		word = xchg(&vcpu->posted->requests[i], 0);
		atomic_long_or(word, (atomic_long_t *)&l->irr[i]);
	}
	WRITE_ONCE(l->irr_maybe, true);
	vcpu->event_check = true;
}
