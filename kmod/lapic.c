// SPDX-License-Identifier: GPL-2.0
/*
 * lapic.c - the local APIC as the guest sees it:
 *  1. what is deliverable now, and taking it (peek, ack, EOI),
 *  2. interrupts arriving at one LAPIC (IRR), its LVT and its errors,
 *  3. the registers, behind the xAPIC page and the x2APIC MSRs,
 *  4. the task priority as CR8.
 * The timer is in lapic_timer.c, messages between LAPICs in lapic_ipi.c,
 * creation, modes and state transfer in lapic_state.c.
 */
#include "lapic.h"
#include "trace.h"

/* Writable bits of each LVT register; read-only status bits come on top. */
#define LVT_STATUS	(APIC_SEND_PENDING | APIC_LVT_REMOTE_IRR)
#define LVT_BASIC	(APIC_VECTOR_MASK | APIC_LVT_MASKED)
#define LVT_MODE	(LVT_BASIC | APIC_MODE_MASK)
#define LVT_LINT	(LVT_MODE | APIC_INPUT_POLARITY | APIC_LVT_LEVEL_TRIGGER)
#define SPIV_BITS	(APIC_VECTOR_MASK | APIC_SPIV_APIC_ENABLED | APIC_SPIV_FOCUS_DISABLED)
#define TDCR_BITS	0xbu
#define X2APIC_ICR_RESERVED	0xfff32000u	/* of the low half; bit 12 is ignored */

/* --------------------------------------------------------- selection -- */

void lapic_recount(struct pvhv_lapic *l)
{
	l->isr_top = lapic_highest(l->isr);
	l->isr_count = bitmap_weight(l->isr, 256);
	WRITE_ONCE(l->irr_maybe, lapic_highest(l->irr) >= 0);
	l->vcpu->event_check = true;
}

/* The vector this LAPIC would deliver now, -1: none. */
static int deliverable(struct pvhv_lapic *l)
{
	int vector;

	if (!READ_ONCE(l->irr_maybe) || lapic_mode(l) == LAPIC_OFF ||
	    unlikely(l->vcpu->virtual_apic))
		return -1;
	/* Something waits: the guest's next EOI must be seen. */
	if (unlikely(l->pv_eoi_set))
		lapic_pv_eoi_collect(l);
	vector = lapic_highest(l->irr);
	if (vector < 0 || (u32)(vector & 0xf0) <= (lapic_ppr(l) & 0xf0))
		return -1;
	return vector;
}

/* LINT0 in virtual-wire mode, or no LAPIC between the PIC and the CPU. */
bool pvhv_lapic_accepts_pic(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u32 lvt0;

	if (lapic_mode(l) == LAPIC_OFF)
		return vcpu->is_bsp;
	lvt0 = lapic_reg(l, APIC_LVT0);
	return !(lvt0 & APIC_LVT_MASKED) && GET_APIC_DELIVERY_MODE(lvt0) == APIC_MODE_EXTINT;
}

/* The PIC's vector, -1: none. ack: it is taken. */
static int pic_vector(struct pvhv_vcpu *vcpu, bool ack)
{
	int vector = vcpu->extint;

	if (!pvhv_lapic_accepts_pic(vcpu))
		return -1;
	if (!vcpu->pic_in_user)
		return ack ? pvhv_pic_ack(vcpu->vm) : pvhv_pic_peek(vcpu->vm);
	if (ack)
		vcpu->extint = PVHV_NO_EXTINT;
	return vector;
}

static bool pic_interrupts(const struct pvhv_vcpu *vcpu)
{
	return READ_ONCE(vcpu->vm->pic_output) || vcpu->extint != PVHV_NO_EXTINT;
}

int pvhv_irq_peek(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;

	if (unlikely(!l))
		return -1;
	if (unlikely(pic_interrupts(vcpu))) {
		int vector = pic_vector(vcpu, false);

		if (vector >= 0)
			return vector | PVHV_IRQ_OF_PIC;
	}
	return deliverable(l);
}

bool pvhv_irq_waits(struct pvhv_vcpu *vcpu)
{
	return pvhv_irq_peek(vcpu) >= 0 ||
	       (vcpu->virtual_apic && lapic_virtual_peek(vcpu->lapic) >= 0);
}

int pvhv_irq_ack(struct pvhv_vcpu *vcpu, int peeked)
{
	struct pvhv_lapic *l = vcpu->lapic;
	int vector = peeked;

	if (unlikely(peeked & PVHV_IRQ_OF_PIC)) {
		vector = pic_vector(vcpu, true);
		if (vector >= 0)
			return vector;
		/* The PIC's line fell. */
		vector = deliverable(l);
		if (vector < 0)
			return lapic_reg(l, APIC_SPIV) & APIC_VECTOR_MASK;
	}

	/* See lapic.h for the order. */
	WRITE_ONCE(l->irr_maybe, false);
	clear_bit(vector, l->irr);
	smp_mb__after_atomic();
	if (lapic_highest(l->irr) >= 0)
		WRITE_ONCE(l->irr_maybe, true);

	/* Its class is above all in service: it is the highest. */
	__set_bit(vector, l->isr);
	l->isr_count++;
	WRITE_ONCE(l->isr_top, vector);
	return vector;
}

void lapic_tell_eoi(struct pvhv_lapic *l, u8 vector)
{
	if (likely(!test_bit(vector, l->eoi_vectors)))
		return;
	if (l->vcpu->vm->irqchip_split)
		lapic_split_eoi(l, vector);
	else
		pvhv_ioapic_eoi(l->vcpu->vm, vector, test_bit(vector, l->tmr));
}

void lapic_eoi(struct pvhv_lapic *l)
{
	int vector = l->isr_top;

	if (unlikely(vector < 0))
		return;
	trace_pvhv_eoi(l->vcpu->id, vector);
	__clear_bit(vector, l->isr);
	WRITE_ONCE(l->isr_top, --l->isr_count ? lapic_highest(l->isr) : -1);
	if (READ_ONCE(l->irr_maybe))
		l->vcpu->event_check = true;
	lapic_tell_eoi(l, vector);
}

/* ----------------------------------------------------------- arrivals -- */

/* src: the vCPU whose thread this is, when it is one. */
void lapic_post(struct pvhv_lapic *l, u8 vector, bool level, const struct pvhv_vcpu *src)
{
	if (unlikely(test_bit(vector, l->tmr) != level)) {
		if (level)
			set_bit(vector, l->tmr);
		else
			clear_bit(vector, l->tmr);
	} else if (src != l->vcpu && !level && lapic_post_running(l, vector)) {
		return;
	}
	set_bit(vector, l->irr);
	smp_mb__after_atomic();
	WRITE_ONCE(l->irr_maybe, true);
	if (src == l->vcpu)
		l->vcpu->event_check = true;
	else
		pvhv_make_request(l->vcpu, PVHV_REQ_EVENT);
}

int lapic_local_deliver(struct pvhv_lapic *l, u32 lvt, const struct pvhv_vcpu *src)
{
	u32 value = lapic_reg(l, lvt);
	struct pvhv_apic_msg msg = {
		.vector = value & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(value),
	};

	if (lapic_mode(l) == LAPIC_OFF || (value & APIC_LVT_MASKED))
		return 0;
	return lapic_accept(l, src, &msg);
}

/* Errors gather until the guest writes ESR; each new one raises LVTERR. An
 * LVTERR with a vector that is itself an error ends here too. */
void lapic_error(struct pvhv_lapic *l, u32 bit)
{
	if (!test_and_set_bit(__ffs(bit), &l->esr_pending))
		lapic_local_deliver(l, APIC_LVTERR, NULL);
}

/* PIT channel 0 also drives LINT0; Linux's old NMI watchdog uses that. */
void pvhv_lapic_nmi_wd(struct pvhv_vm *vm)
{
	struct pvhv_vcpu *vcpu;
	unsigned int i;

	pvhv_for_each_vcpu(i, vcpu, vm) {
		struct pvhv_lapic *l = vcpu->lapic;

		if (l && GET_APIC_DELIVERY_MODE(lapic_reg(l, APIC_LVT0)) == APIC_MODE_NMI)
			lapic_local_deliver(l, APIC_LVT0, NULL);
	}
}

/* ---------------------------------------------------------- registers -- */

static void write_tpr(struct pvhv_lapic *l, u32 value)
{
	u32 old = lapic_reg(l, APIC_TASKPRI);

	lapic_set_reg(l, APIC_TASKPRI, value);
	if (value < old && READ_ONCE(l->irr_maybe))
		l->vcpu->event_check = true;
}

static void write_eoi(struct pvhv_lapic *l)
{
	if (unlikely(l->pv_eoi_set))
		lapic_pv_eoi_collect(l);
	lapic_take_back(l);
	lapic_eoi(l);
}

static u32 lvt_bits(struct pvhv_lapic *l, u32 offset)
{
	switch (offset) {
	case APIC_LVTT:
		return LVT_BASIC | l->timer_mode_mask;
	case APIC_LVT0:
	case APIC_LVT1:
		return LVT_LINT;
	case APIC_LVTERR:
		return LVT_BASIC;
	default:
		return LVT_MODE;
	}
}

static void set_lvt(struct pvhv_lapic *l, u32 offset, u32 value)
{
	if (offset == APIC_LVTT)
		lapic_timer_set_lvtt(l, value);	/* stores it under its lock */
	else
		lapic_set_reg(l, offset, value);
	/* The PIC may have been waiting for LINT0 to open. */
	if (offset == APIC_LVT0)
		l->vcpu->event_check = true;
}

static int write_lvt(struct pvhv_lapic *l, u32 offset, u32 value)
{
	u32 bits = lvt_bits(l, offset);

	if (l->mode == LAPIC_X2APIC && (value & ~(bits | LVT_STATUS)))
		return 1;
	value &= bits;
	if (!lapic_sw_enabled(l))
		value |= APIC_LVT_MASKED;
	set_lvt(l, offset, value);
	return 0;
}

static int write_spiv(struct pvhv_lapic *l, u32 value)
{
	u32 offset;

	if (l->mode == LAPIC_X2APIC && (value & ~SPIV_BITS))
		return 1;
	lapic_set_reg(l, APIC_SPIV, value & SPIV_BITS);
	/* Hardware may have written it: there is no old value to compare. */
	if (l->can_virtual)
		pvhv_request_of_own(l->vcpu, PVHV_REQ_VIRTUAL_APIC);
	if (value & APIC_SPIV_APIC_ENABLED)
		return 0;
	/* A software-disabled APIC has all of its LVT masked. */
	for (offset = APIC_LVTT; offset <= APIC_LVTERR; offset += 0x10)
		set_lvt(l, offset, lapic_reg(l, offset) | APIC_LVT_MASKED);
	return 0;
}

static u32 arbitration_priority(const struct pvhv_lapic *l)
{
	u32 tpr = lapic_reg(l, APIC_TASKPRI);
	int isr = max(l->isr_top, 0), irr = max(lapic_highest(l->irr), 0);

	if (tpr >> 4 >= (u32)irr >> 4 && tpr >> 4 > (u32)isr >> 4)
		return tpr;
	return max3(tpr & 0xf0, (u32)isr & 0xf0, (u32)irr & 0xf0);
}

/* A register of 32 bits; 1: there is none to write. */
static int reg_write(struct pvhv_lapic *l, u32 offset, u32 value)
{
	bool x2apic = l->mode == LAPIC_X2APIC;

	switch (offset) {
	case APIC_EOI:
		if (x2apic && value)
			return 1;
		write_eoi(l);
		return 0;
	case APIC_ICR:
		lapic_set_reg(l, APIC_ICR, value & ~APIC_ICR_BUSY);
		lapic_write_icr(l, value, lapic_reg(l, APIC_ICR2) >> 24);
		return 0;
	case APIC_TASKPRI:
		if (x2apic && (value & ~APIC_TPRI_MASK))
			return 1;
		write_tpr(l, value & APIC_TPRI_MASK);
		return 0;
	case APIC_TMICT:
		lapic_timer_set_initial(l, value);
		return 0;
	case APIC_SPIV:
		return write_spiv(l, value);
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
		return write_lvt(l, offset, value);
	case APIC_TDCR:
		if (x2apic && (value & ~TDCR_BITS))
			return 1;
		lapic_timer_set_divide(l, value & TDCR_BITS);
		return 0;
	case APIC_ESR:
		if (x2apic && value)
			return 1;
		lapic_set_reg(l, APIC_ESR, xchg(&l->esr_pending, 0));
		return 0;
	}
	if (x2apic) {
		if (offset != APIC_SELF_IPI || (value & ~APIC_VECTOR_MASK))
			return 1;
		lapic_write_icr(l, APIC_DEST_SELF | value, 0);
		return 0;
	}
	switch (offset) {
	case APIC_ID:
		lapic_set_reg(l, APIC_ID, value & 0xff000000);
		lapic_map_update(l->vcpu->vm);
		return 0;
	case APIC_LDR:
		lapic_set_reg(l, APIC_LDR, value & APIC_LDR_MASK);
		lapic_map_update(l->vcpu->vm);
		return 0;
	case APIC_DFR:
		lapic_set_reg(l, APIC_DFR, value | APIC_DFR_CLUSTER);
		lapic_map_update(l->vcpu->vm);
		return 0;
	case APIC_ICR2:
		lapic_set_reg(l, APIC_ICR2, value & 0xff000000);
		return 0;
	}
	return 1;
}

static u32 vector_word(const unsigned long *map, u32 index)
{
	return READ_ONCE(map[index / 2]) >> (index % 2 * 32);
}

/* The value, or 1: there is no such register to read. irqs on, if pv_eoi_set. */
static int reg_read(struct pvhv_lapic *l, u32 offset, u32 *value)
{
	bool x2apic = l->mode == LAPIC_X2APIC;

	if (unlikely(l->pv_eoi_set))
		pvhv_lapic_sync_pv_eoi_from_guest(l->vcpu);
	switch (offset) {
	case APIC_ID:
		*value = x2apic ? l->vcpu->id : lapic_reg(l, APIC_ID);
		return 0;
	case APIC_LDR:
		*value = x2apic ? lapic_x2apic_ldr(l->vcpu->id) : lapic_reg(l, APIC_LDR);
		return 0;
	case APIC_PROCPRI:
		lapic_take_back(l);
		*value = lapic_ppr(l);
		return 0;
	case APIC_ISR ... APIC_ISR + 0x70:
		lapic_take_back(l);
		*value = vector_word(l->isr, (offset - APIC_ISR) >> 4);
		return 0;
	case APIC_TMR ... APIC_TMR + 0x70:
		*value = vector_word(l->tmr, (offset - APIC_TMR) >> 4);
		return 0;
	case APIC_IRR ... APIC_IRR + 0x70:
		lapic_take_back(l);
		*value = vector_word(l->irr, (offset - APIC_IRR) >> 4);
		return 0;
	case APIC_TMCCT:
		*value = lapic_timer_current(l);
		return 0;
	case APIC_LVR:
	case APIC_TASKPRI:
	case APIC_SPIV:
	case APIC_ESR:
	case APIC_ICR:
	case APIC_LVTT:
	case APIC_LVTTHMR:
	case APIC_LVTPC:
	case APIC_LVT0:
	case APIC_LVT1:
	case APIC_LVTERR:
	case APIC_TMICT:
	case APIC_TDCR:
		*value = lapic_reg(l, offset);
		return 0;
	}
	if (x2apic)
		return 1;
	switch (offset) {
	case APIC_ARBPRI:
		*value = arbitration_priority(l);
		return 0;
	case APIC_DFR:
	case APIC_ICR2:
		*value = lapic_reg(l, offset);
		return 0;
	case APIC_EOI:		/* write-only, remote read: unused, no error */
	case APIC_RRR:
		*value = 0;
		return 0;
	}
	return 1;
}

/* ------------------------------------------------------------- x2APIC -- */

int pvhv_x2apic_write(struct pvhv_vcpu *vcpu, u32 msr, u64 value)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u32 offset = (msr - APIC_BASE_MSR) << 4;

	if (unlikely(!l || l->mode != LAPIC_X2APIC))
		return 1;
	/* The most frequent one, before any switch. */
	if (offset == APIC_EOI && !value) {
		write_eoi(l);
		return 0;
	}
	if (offset == APIC_ICR) {
		if ((u32)value & X2APIC_ICR_RESERVED)
			return 1;
		lapic_set_reg(l, APIC_ICR, (u32)value & ~APIC_ICR_BUSY);
		lapic_set_reg(l, APIC_ICR2, value >> 32);
		lapic_write_icr(l, value, value >> 32);
		return 0;
	}
	if (value >> 32)
		return 1;
	return reg_write(l, offset, value);
}

bool pvhv_lapic_read_sleeps(const struct pvhv_vcpu *vcpu)
{
	return vcpu->lapic->pv_eoi_set;
}

int pvhv_x2apic_read(struct pvhv_vcpu *vcpu, u32 msr, u64 *value)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u32 offset = (msr - APIC_BASE_MSR) << 4;
	u32 low;

	if (!l || l->mode != LAPIC_X2APIC || reg_read(l, offset, &low))
		return 1;
	*value = low;
	if (offset == APIC_ICR)
		*value |= (u64)lapic_reg(l, APIC_ICR2) << 32;
	return 0;
}

/* -------------------------------------------------------- xAPIC page -- */

/* With the LAPIC off or in x2APIC mode the page is a hole: all ones, unless
 * the VMM took that quirk away and sees the access itself. */
bool pvhv_lapic_owns_gpa(struct pvhv_vcpu *vcpu, u64 gpa)
{
	struct pvhv_lapic *l = vcpu->lapic;

	if (!l || (gpa ^ vcpu->apic_base) >> PAGE_SHIFT)
		return false;
	return l->mode == LAPIC_XAPIC ||
	       !(vcpu->vm->disabled_quirks & KVM_X86_QUIRK_LAPIC_MMIO_HOLE);
}

int pvhv_lapic_mmio_read(struct pvhv_vcpu *vcpu, u64 gpa, unsigned int len, void *val)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u32 offset = gpa & ~PAGE_MASK, value = 0;

	if (l->mode != LAPIC_XAPIC) {
		memset(val, 0xff, len);
		return 0;
	}
	memset(val, 0, len);
	if ((offset & 0xf) + len > 4)
		return 0;
	if (reg_read(l, offset & ~0xfu, &value)) {
		lapic_error(l, APIC_ESR_ILLREGA);
		return 0;
	}
	memcpy(val, (u8 *)&value + (offset & 0xf), len);
	return 0;
}

int pvhv_lapic_mmio_write(struct pvhv_vcpu *vcpu, u64 gpa, unsigned int len, const void *val)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u32 offset = gpa & ~PAGE_MASK, value;

	/* Registers are written as aligned double words; all else is lost. */
	if (l->mode != LAPIC_XAPIC || len != 4 || (offset & 0xf))
		return 0;
	memcpy(&value, val, sizeof(value));
	if (reg_write(l, offset, value))
		lapic_error(l, APIC_ESR_ILLREGA);
	return 0;
}

/* What is there already becomes what the register can hold, with all that it brings about. */
void lapic_written(struct pvhv_lapic *l, u32 offset)
{
	if (reg_write(l, offset, lapic_reg(l, offset)))
		lapic_error(l, APIC_ESR_ILLREGA);
}

/* ---------------------------------------------------------------- CR8 -- */

u64 pvhv_lapic_get_tpr(struct pvhv_vcpu *vcpu)
{
	return vcpu->lapic ? lapic_reg(vcpu->lapic, APIC_TASKPRI) >> 4 : 0;
}

void pvhv_lapic_set_tpr(struct pvhv_vcpu *vcpu, u64 cr8)
{
	struct pvhv_lapic *l = vcpu->lapic;

	/* Unchanged after an exit: keep the low bits that MMIO may have set. */
	if (l && cr8 != lapic_reg(l, APIC_TASKPRI) >> 4)
		write_tpr(l, (cr8 & 0xf) << 4);
}

/* The class of an interrupt that waits for nothing but a lower TPR, 0: none. */
unsigned int pvhv_lapic_tpr_blocks(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	int irr;

	if (!l || !READ_ONCE(l->irr_maybe) || vcpu->virtual_apic)
		return 0;
	irr = lapic_highest(l->irr);
	if (irr < 0 || irr >> 4 > (int)(lapic_reg(l, APIC_TASKPRI) >> 4) ||
	    irr >> 4 <= (l->isr_top < 0 ? 0 : l->isr_top >> 4))
		return 0;
	return irr >> 4;
}
