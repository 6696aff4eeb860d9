// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_pv.c - KVM's paravirtual help for the LAPIC:
 *  1. PV EOI: the guest ends an interrupt by clearing a bit in its memory,
 *  2. the KVM_HC_SEND_IPI hypercall.
 *
 * The guest's bit is set before an entry when one vector is in service, nothing
 * else waits and nobody wants to see that vector's EOI. While pv_eoi_set, the
 * guest may have ended it: whoever needs the ISR collects first. Exits in
 * between touch no guest memory.
 */
#include "lapic.h"

/* Both bytes matter to no one but bit 0: KVM_PV_EOI_ENABLED. */
static void collect_from(struct pvhv_lapic *l, u8 byte)
{
	l->pv_eoi_set = false;
	if (!(byte & KVM_PV_EOI_ENABLED))
		lapic_eoi(l);
}

/* Irqs may be off. When the page is away just now, the slow way is asked for. */
void lapic_pv_eoi_collect(struct pvhv_lapic *l)
{
	struct pvhv_vm *vm = l->vcpu->vm;
	int idx = srcu_read_lock(&vm->srcu), ret;
	u8 byte, clear;

	ret = pvhv_read_guest_atomic(vm, l->pv_eoi_gpa, &byte, 1);
	if (!ret && (byte & KVM_PV_EOI_ENABLED)) {
		clear = byte & ~KVM_PV_EOI_ENABLED;
		ret = pvhv_write_guest_atomic(vm, l->pv_eoi_gpa, &clear, 1);
	}
	srcu_read_unlock(&vm->srcu, idx);
	if (ret)
		pvhv_request_of_own(l->vcpu, PVHV_REQ_PV_EOI);
	else
		collect_from(l, byte);
}

void pvhv_lapic_sync_pv_eoi_from_guest(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	struct pvhv_vm *vm = vcpu->vm;
	u8 byte = 0, clear;
	int idx;

	if (!l || !l->pv_eoi_set)
		return;
	idx = srcu_read_lock(&vm->srcu);
	/* Memory that is gone for good counts as cleared: the interrupt ends. */
	if (pvhv_read_guest(vm, l->pv_eoi_gpa, &byte, 1))
		byte = 0;
	clear = byte & ~KVM_PV_EOI_ENABLED;
	if ((byte & KVM_PV_EOI_ENABLED) && pvhv_write_guest(vm, l->pv_eoi_gpa, &clear, 1))
		byte = 0;
	srcu_read_unlock(&vm->srcu, idx);
	collect_from(l, byte);
	vcpu->event_check = true;
}

void pvhv_lapic_sync_pv_eoi_to_guest(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u8 byte = KVM_PV_EOI_ENABLED;

	if (!l || !l->pv_eoi_enabled || l->pv_eoi_set || l->isr_count != 1 ||
	    READ_ONCE(l->irr_maybe) || test_bit(l->isr_top, l->eoi_vectors))
		return;
	/* The page is away: the guest ends this one by its register. */
	if (!pvhv_write_guest_atomic(vcpu->vm, l->pv_eoi_gpa, &byte, 1))
		l->pv_eoi_set = true;
}

int pvhv_lapic_set_pv_eoi(struct pvhv_vcpu *vcpu, u64 msr_value)
{
	struct pvhv_lapic *l = vcpu->lapic;
	u64 gpa = msr_value & ~(u64)KVM_MSR_ENABLED;
	bool enable = msr_value & KVM_MSR_ENABLED, there;
	int idx;

	/* A LAPIC in userspace has no use for it, but may say that it is off. */
	if (!l)
		return msr_value ? 1 : 0;
	if (gpa & 3)
		return 1;
	if (enable) {
		idx = srcu_read_lock(&vcpu->vm->srcu);
		there = pvhv_gfn_to_memslot(vcpu->vm, gpa >> PAGE_SHIFT);
		srcu_read_unlock(&vcpu->vm->srcu, idx);
		if (!there)
			return 1;
	}
	pvhv_lapic_sync_pv_eoi_from_guest(vcpu);
	vcpu->pv.pv_eoi_msr = msr_value;
	l->pv_eoi_gpa = gpa;
	l->pv_eoi_enabled = enable;
	return 0;
}

/* One word of the bitmap; bit n is APIC ID min + n. */
static int send_word(struct pvhv_vcpu *vcpu, unsigned long word, u64 min,
		     const struct pvhv_apic_msg *msg)
{
	unsigned int bit;
	int count = 0;

	for_each_set_bit(bit, &word, BITS_PER_LONG) {
		u64 id = min + bit;
		struct pvhv_vcpu *target = id < PVHV_MAX_VCPU_ID ?
					   pvhv_vcpu_by_apic_id(vcpu->vm, id) : NULL;

		if (target)
			count += lapic_accept(target->lapic, vcpu, msg);
	}
	return count;
}

int pvhv_pv_send_ipi(struct pvhv_vcpu *vcpu, unsigned long low,
		     unsigned long high, u32 min, u32 icr)
{
	struct pvhv_apic_msg msg = {
		.vector = icr & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(icr),
	};
	/* A 32-bit caller's words hold 32 IDs each. */
	unsigned int word_ids = pvhv_cpu_mode(vcpu) == PVHV_MODE_64 ? 64 : 32;
	int count;

	if (!vcpu->lapic || (icr & (APIC_DEST_ALLBUT | APIC_DEST_LOGICAL)))
		return -KVM_EINVAL;
	if (word_ids == 32) {
		low = (u32)low;
		high = (u32)high;
	}
	count = send_word(vcpu, low, min, &msg);
	return count + send_word(vcpu, high, (u64)min + word_ids, &msg);
}
