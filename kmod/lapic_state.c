// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_state.c - the LAPIC's life:
 *  1. creation, reset, end,
 *  2. IA32_APIC_BASE: off, xAPIC, x2APIC,
 *  3. KVM_GET_LAPIC and KVM_SET_LAPIC.
 */
#include <linux/slab.h>

#include "lapic.h"

#define BASE_RESERVED	0x2ffull	/* 8 is BSP, 10 x2APIC, 11 enable */

static enum lapic_mode base_mode(u64 base)
{
	if (!(base & XAPIC_ENABLE))
		return LAPIC_OFF;
	return base & X2APIC_ENABLE ? LAPIC_X2APIC : LAPIC_XAPIC;
}

/* ---------------------------------------------------------------- life -- */

/* The registers as after power-up; ID, mode and version stay. */
static void reset_registers(struct pvhv_lapic *l)
{
	struct pvhv_vm *vm = l->vcpu->vm;
	u32 offset, id = lapic_reg(l, APIC_ID);

	if (pvhv_posted_waits(l->vcpu))
		pvhv_lapic_collect_posted(l->vcpu);
	l->lent = false;
	memset(l->regs, 0, KVM_APIC_REG_SIZE);
	lapic_set_reg(l, APIC_ID, id);
	lapic_set_reg(l, APIC_LVR, LAPIC_VERSION);
	lapic_set_reg(l, APIC_DFR, APIC_DFR_FLAT);
	lapic_set_reg(l, APIC_SPIV, 0xff);
	for (offset = APIC_LVTT; offset <= APIC_LVTERR; offset += 0x10)
		lapic_set_reg(l, offset, APIC_LVT_MASKED);
	/* Firmware that never programs LINT0 expects a virtual wire. */
	if (l->vcpu->is_bsp && !(vm->disabled_quirks & KVM_X86_QUIRK_LINT0_REENABLED))
		lapic_set_reg(l, APIC_LVT0, APIC_DM_EXTINT);
	memset(l->isr, 0, sizeof(l->isr));
	memset(l->irr, 0, sizeof(l->irr));
	memset(l->tmr, 0, sizeof(l->tmr));
	l->esr_pending = 0;
	lapic_timer_stop(l);
	lapic_recount(l);
}

int pvhv_lapic_create(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l;

	if (!smp_load_acquire(&vcpu->vm->irqchip_in_kernel))
		return 0;
	if (lapic_map_make_room(vcpu->vm, vcpu->id))
		return -ENOMEM;
	l = kzalloc(sizeof(*l), GFP_KERNEL_ACCOUNT);
	if (!l)
		return -ENOMEM;
	l->regs = vcpu->be->apic ? vcpu->be->apic->page(vcpu) : NULL;
	l->can_virtual = l->regs;
	vcpu->posted = l->can_virtual ? vcpu->be->apic->posted(vcpu) : NULL;
	if (!l->regs)
		l->regs = kzalloc(KVM_APIC_REG_SIZE, GFP_KERNEL_ACCOUNT);
	if (!l->regs) {
		kfree(l);
		return -ENOMEM;
	}
	l->vcpu = vcpu;
	/* Until it is reset, and known to be where the page is. */
	pvhv_apic_page_inhibit(vcpu->vm);
	l->isr_top = -1;
	l->eoi_vectors = vcpu->vm->irqchip_split ? l->tmr : pvhv_ioapic_vectors(vcpu->vm);
	l->timer_mode_mask = APIC_LVT_TIMER_PERIODIC;
	lapic_timer_init(l);
	vcpu->lapic = l;
	return 0;
}

/* Nothing may deliver to it any more: vCPUs go after the irqchip. */
void pvhv_lapic_free(struct pvhv_vcpu *vcpu)
{
	if (!vcpu->lapic)
		return;
	lapic_timer_free(vcpu->lapic);
	if (!vcpu->lapic->page_shown)
		pvhv_apic_page_allow(vcpu->vm);
	if (!vcpu->lapic->can_virtual)
		kfree(vcpu->lapic->regs);
	kfree(vcpu->lapic);
	vcpu->lapic = NULL;
}

static void set_mode(struct pvhv_lapic *l, u64 base)
{
	l->vcpu->apic_base = base;
	WRITE_ONCE(l->mode, base_mode(base));
	lapic_map_update(l->vcpu->vm);
	pvhv_lapic_choose_virtual(l->vcpu);
	l->vcpu->event_check = true;
}

void pvhv_lapic_reset(struct pvhv_vcpu *vcpu, bool init)
{
	u64 base = APIC_DEFAULT_PHYS_BASE | XAPIC_ENABLE;
	struct pvhv_lapic *l = vcpu->lapic;

	if (vcpu->is_bsp)
		base |= MSR_IA32_APICBASE_BSP;
	if (!l) {
		if (!init)
			vcpu->apic_base = base;
		return;
	}
	/* INIT leaves the ID, the base and the mode alone. */
	if (!init)
		lapic_set_reg(l, APIC_ID, vcpu->id << 24);
	l->pv_eoi_enabled = false;
	l->pv_eoi_set = false;
	vcpu->pv.pv_eoi_msr = 0;
	reset_registers(l);
	set_mode(l, init ? vcpu->apic_base : base);
}

void pvhv_lapic_cpuid_changed(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *leaf = pvhv_find_cpuid(vcpu, 1, 0);

	if (!vcpu->lapic)
		return;
	vcpu->lapic->timer_mode_mask = APIC_LVT_TIMER_PERIODIC;
	if (leaf && (leaf->ecx & BIT(24)))	/* TSC deadline timer */
		vcpu->lapic->timer_mode_mask |= APIC_LVT_TIMER_TSCDEADLINE;
}

/* -------------------------------------------------------- APIC base -- */

int pvhv_lapic_set_base(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	unsigned int phys_bits = vcpu->maxphyaddr ?: 36;
	u64 changed = vcpu->apic_base ^ value, reserved = BASE_RESERVED;
	enum lapic_mode old = base_mode(vcpu->apic_base), new = base_mode(value);
	struct pvhv_lapic *l = vcpu->lapic;

	if (phys_bits < 64)
		reserved |= ~0ull << phys_bits;
	if (!vcpu->guest_has_x2apic)
		reserved |= X2APIC_ENABLE;
	if ((value & reserved) || (new == LAPIC_OFF && (value & X2APIC_ENABLE)))
		return 1;
	/* x2APIC is left by turning the APIC off only, and entered from xAPIC. */
	if (!host && ((old == LAPIC_X2APIC && new == LAPIC_XAPIC) ||
		      (old == LAPIC_OFF && new == LAPIC_X2APIC)))
		return 1;
	if (!changed)
		return 0;
	if (!l) {
		vcpu->apic_base = value;
	} else {
		if (!host && new == LAPIC_OFF)
			reset_registers(l);
		if (new != old && new != LAPIC_OFF)
			lapic_set_reg(l, APIC_ID, vcpu->id << 24);
		set_mode(l, value);
	}
	if (changed & XAPIC_ENABLE)
		pvhv_cpuid_cr4_changed(vcpu);	/* CPUID's APIC bit */
	return 0;
}

/* ---------------------------------------------------- state transfer -- */

static void put_reg(struct kvm_lapic_state *s, u32 offset, u32 value)
{
	memcpy(s->regs + offset, &value, sizeof(value));
}

static u32 take_reg(const struct kvm_lapic_state *s, u32 offset)
{
	u32 value;

	memcpy(&value, s->regs + offset, sizeof(value));
	return value;
}

static void put_vectors(struct kvm_lapic_state *s, u32 offset, const unsigned long *map)
{
	u32 words[8], i;

	bitmap_to_arr32(words, map, 256);
	for (i = 0; i < 8; i++)
		put_reg(s, offset + i * 0x10, words[i]);
}

static void take_vectors(const struct kvm_lapic_state *s, u32 offset, unsigned long *map)
{
	u32 words[8], i;

	for (i = 0; i < 8; i++)
		words[i] = take_reg(s, offset + i * 0x10);
	bitmap_from_arr32(map, words, 256);
}

/* Registers that are plain values, and the bits that they can hold. */
static const struct {
	u16 offset;
	u32 bits;
} saved[] = {
	{ APIC_TASKPRI, 0xff }, { APIC_LDR, ~0u }, { APIC_DFR, ~0u },
	{ APIC_SPIV, 0x3ff }, { APIC_ESR, 0xff }, { APIC_ICR, ~APIC_ICR_BUSY },
	{ APIC_ICR2, ~0u }, { APIC_LVTTHMR, 0x107ff }, { APIC_LVTPC, 0x107ff },
	{ APIC_LVT0, 0x1a7ff }, { APIC_LVT1, 0x1a7ff }, { APIC_LVTERR, 0x100ff },
	{ APIC_TDCR, 0xb },
};

#define LVTT_BITS	0x700ffu

long pvhv_ioctl_get_lapic(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct pvhv_lapic *l = vcpu->lapic;
	struct kvm_lapic_state *s = data;
	bool x2apic;
	u32 i;

	if (!l)
		return -EINVAL;
	pvhv_lapic_sync_pv_eoi_from_guest(vcpu);
	lapic_take_back(l);
	x2apic = l->mode == LAPIC_X2APIC;
	memset(s, 0, sizeof(*s));
	for (i = 0; i < ARRAY_SIZE(saved); i++)
		put_reg(s, saved[i].offset, lapic_reg(l, saved[i].offset));
	put_vectors(s, APIC_ISR, l->isr);
	put_vectors(s, APIC_TMR, l->tmr);
	put_vectors(s, APIC_IRR, l->irr);
	put_reg(s, APIC_LVR, LAPIC_VERSION);
	put_reg(s, APIC_PROCPRI, lapic_ppr(l));
	put_reg(s, APIC_LVTT, lapic_reg(l, APIC_LVTT));
	put_reg(s, APIC_TMICT, lapic_reg(l, APIC_TMICT));
	put_reg(s, APIC_TMCCT, lapic_timer_current(l));
	put_reg(s, APIC_ID, lapic_reg(l, APIC_ID));
	if (x2apic) {
		put_reg(s, APIC_LDR, lapic_x2apic_ldr(vcpu->id));
		put_reg(s, APIC_ID, vcpu->vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS ?
			vcpu->id : vcpu->id << 24);
	}
	return 0;
}

/* The mode is IA32_APIC_BASE's, which the VMM sets first. */
long pvhv_ioctl_set_lapic(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct pvhv_lapic *l = vcpu->lapic;
	const struct kvm_lapic_state *s = data;
	bool x2apic;
	u32 i;

	if (!l)
		return -EINVAL;
	x2apic = l->mode == LAPIC_X2APIC;
	if (x2apic && (vcpu->vm->x2apic_api & KVM_X2APIC_API_USE_32BIT_IDS) &&
	    take_reg(s, APIC_ID) != vcpu->id)
		return -EINVAL;
	/* What the guest did to the old state's EOI bit no longer matters. */
	pvhv_lapic_sync_pv_eoi_from_guest(vcpu);
	lapic_take_back(l);
	lapic_timer_stop(l);
	for (i = 0; i < ARRAY_SIZE(saved); i++)
		lapic_set_reg(l, saved[i].offset, take_reg(s, saved[i].offset) & saved[i].bits);
	if (!x2apic) {
		lapic_set_reg(l, APIC_ID, take_reg(s, APIC_ID) & 0xff000000);
		lapic_set_reg(l, APIC_ICR2, lapic_reg(l, APIC_ICR2) & 0xff000000);
		lapic_set_reg(l, APIC_LDR, lapic_reg(l, APIC_LDR) & APIC_LDR_MASK);
		lapic_set_reg(l, APIC_DFR, lapic_reg(l, APIC_DFR) | APIC_DFR_CLUSTER);
	} else {
		lapic_set_reg(l, APIC_LDR, 0);	/* follows from the ID */
		lapic_set_reg(l, APIC_DFR, APIC_DFR_FLAT);
	}
	lapic_set_reg(l, APIC_LVTT, take_reg(s, APIC_LVTT) & LVTT_BITS);
	lapic_set_reg(l, APIC_TMICT, take_reg(s, APIC_TMICT));
	take_vectors(s, APIC_ISR, l->isr);
	take_vectors(s, APIC_TMR, l->tmr);
	take_vectors(s, APIC_IRR, l->irr);
	l->esr_pending = 0;
	lapic_timer_restore(l, take_reg(s, APIC_TMCCT));
	lapic_map_update(vcpu->vm);
	lapic_recount(l);
	pvhv_lapic_choose_virtual(vcpu);
	return 0;
}
