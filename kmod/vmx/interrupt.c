// SPDX-License-Identifier: GPL-2.0
/*
 * interrupt.c - interrupts of the host that end a guest's stay, and those that
 * need not:
 *  1. acknowledged ones: the exit has taken the interrupt from the local APIC,
 *     which holds back others until its handler is done, so that is called
 *     as the CPU would through the IDT (SDM 28.2.2, 34.4.2). Without
 *     "acknowledge interrupt on exit" it stays pending and comes by itself.
 *  2. posted ones (SDM 30.6), which an entry allows only with the former: a
 *     notification is an interrupt of the host's that is not handed out, but
 *     makes the CPU look at the descriptor. One that comes when no guest runs
 *     has a handler in the kernel, which ends it and does no more.
 * Neither was seen on a processor; the first was in Bochs.
 */
#include <asm/desc.h>
#include <asm/irq_vectors.h>

#include "vmx.h"

/* --- 1. acknowledged --- */

void vmx_note_interrupt(struct vmx_vcpu *vmx)
{
	u32 info;

	if (!(vmx_caps.exit & VM_EXIT_ACK_INTR_ON_EXIT))
		return;
	info = vmcs_read(VM_EXIT_INTR_INFO);
	if (WARN_ON_ONCE((info & (INTR_INFO_VALID_MASK | INTR_INFO_INTR_TYPE_MASK)) !=
			 (INTR_INFO_VALID_MASK | INTR_TYPE_EXT_INTR)))
		return;
	vmx->acknowledged = true;
	vmx->acknowledged_vector = info & INTR_INFO_VECTOR_MASK;
}

void vmx_take_interrupt(struct pvhv_vcpu *vcpu)
{
	struct vmx_vcpu *vmx = to_vmx(vcpu);

	if (!vmx->acknowledged)
		return;
	vmx->acknowledged = false;
	vmx_call_interrupt(vmx_host_entry(vmx->acknowledged_vector));
}

/* --- 2. posted --- */

struct pvhv_posted *vmx_posted(struct pvhv_vcpu *vcpu)
{
	return vmx_caps.posts ? &to_vmx(vcpu)->posted : NULL;
}

void vmx_notify(const struct pvhv_vcpu *vcpu)
{
	int cpu = READ_ONCE(vcpu->cpu);

	if (cpu >= 0)
		pvhv_send_ipi(cpu, POSTED_INTR_VECTOR);
}
