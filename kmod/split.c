// SPDX-License-Identifier: GPL-2.0
/*
 * split.c - KVM_CAP_SPLIT_IRQCHIP: LAPICs here, PIC and IOAPIC in userspace:
 *  1. making a VM such a one,
 *  2. the end of a level-triggered interrupt is userspace's to know: an IOAPIC
 *     hears an EOI when the LAPIC's TMR bit says so, as on a bus,
 *  3. the userspace PIC's interrupts (KVM_INTERRUPT) and the window for them.
 *     Without a LAPIC here it is the same, but that nothing masks them.
 */
#include "lapic.h"

/* --- 1. making --- */

int pvhv_split_irqchip(struct pvhv_vm *vm, u64 nr_pins)
{
	int r;

	/* GSIs of the IOAPIC's pins. Any level-triggered message may be one of its. */
	if (nr_pins > PVHV_MAX_IRQ_ROUTES)
		return -EINVAL;
	if (vm->irqchip_in_kernel || vm->nr_vcpus)
		return -EEXIST;
	r = pvhv_apic_map_create(vm);
	if (r)
		return r;
	vm->irqchip_split = true;
	/* Seen: the above is seen too. */
	smp_store_release(&vm->irqchip_in_kernel, true);
	return 0;
}

/* --- 2. EOI --- */

/* The vCPU's own thread, irqs may be off: before it enters again it exits. */
void lapic_split_eoi(struct pvhv_lapic *l, u8 vector)
{
	__set_bit(vector, l->user_eois);
	pvhv_request_of_own(l->vcpu, PVHV_REQ_USER_EOI);
}

int pvhv_split_eoi_exit(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	unsigned int vector = find_first_bit(l->user_eois, 256);

	if (vector >= 256)
		return PVHV_RESUME;
	__clear_bit(vector, l->user_eois);
	if (!bitmap_empty(l->user_eois, 256))
		pvhv_set_request(vcpu, PVHV_REQ_USER_EOI);
	vcpu->run->exit_reason = KVM_EXIT_IOAPIC_EOI;
	vcpu->run->eoi.vector = vector;
	return PVHV_TO_USER;
}

/* --- 3. the PIC --- */

bool pvhv_user_pic_ready(struct pvhv_vcpu *vcpu)
{
	if (!vcpu->lapic)
		return true;
	return vcpu->extint == PVHV_NO_EXTINT && pvhv_lapic_accepts_pic(vcpu);
}

int pvhv_user_pic_interrupt(struct pvhv_vcpu *vcpu, u8 vector)
{
	if (!vcpu->lapic) {
		vcpu->irq.injected = true;
		vcpu->irq.soft = false;
		vcpu->irq.vector = vector;
	} else if (!vcpu->vm->irqchip_split) {
		return -ENXIO;
	} else if (vcpu->extint != PVHV_NO_EXTINT) {
		return -EEXIST;
	} else {
		vcpu->extint = vector;
	}
	vcpu->event_check = true;
	return 0;
}
