/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vmx.h - private header of the VT-x backend. Chapter and section numbers
 * name the "Intel 64 and IA-32 Architectures Software Developer's Manual",
 * volume 3 (SDM).
 */
#ifndef PVHV_VMX_H
#define PVHV_VMX_H

#include <linux/io.h>
#include <linux/list.h>
#include <asm/vmx.h>

#include "../pvhv.h"

/*
 * VMCS fields that are kept in struct vmx_vcpu, too. What is known need not be
 * read, what is dirty is written before the next entry; so state can be set
 * and often read without the VMCS being this CPU's current one. RIP, RSP,
 * RFLAGS and the host's state are vmx.c's own.
 */
enum vmx_field {
	/* eight segments (enum vmx_segment) with four fields each: vmx_segment_field() */
	VMX_SEGMENTS,
	VMX_GDTR_BASE = VMX_SEGMENTS + 32,
	VMX_GDTR_LIMIT,
	VMX_IDTR_BASE,
	VMX_IDTR_LIMIT,
	VMX_SYSENTER_CS,
	VMX_SYSENTER_ESP,
	VMX_SYSENTER_EIP,
	VMX_CR0,
	VMX_CR0_SHADOW,
	VMX_CR3,
	VMX_CR4,
	VMX_CR4_SHADOW,
	VMX_EFER,
	VMX_DR7,
	VMX_INTERRUPTIBILITY,
	VMX_ACTIVITY,
	VMX_PENDING_DEBUG,
	VMX_PDPTE0,
	VMX_PDPTE1,
	VMX_PDPTE2,
	VMX_PDPTE3,
	VMX_PROC_CONTROLS,
	VMX_PROC2_CONTROLS,
	VMX_ENTRY_CONTROLS,
	VMX_EXCEPTIONS,
	VMX_TSC_OFFSET,
	VMX_TSC_MULTIPLIER,
	VMX_MSR_BITMAP,
	VMX_ENTRY_EVENT,
	VMX_ENTRY_ERROR,
	VMX_TPR_THRESHOLD,
	VMX_INTR_STATUS,
	VMX_NR_FIELDS
};

enum vmx_segment_part { VMX_SELECTOR, VMX_BASE, VMX_LIMIT, VMX_ACCESS };

/* What may differ after any exit: all that the guest changes by itself. */
#define VMX_GUEST_CHANGES							\
	(GENMASK_ULL(VMX_SYSENTER_EIP, VMX_SEGMENTS) | BIT_ULL(VMX_CR3) |	\
	 GENMASK_ULL(VMX_PDPTE3, VMX_INTERRUPTIBILITY) | BIT_ULL(VMX_ENTRY_EVENT) |	\
	 BIT_ULL(VMX_INTR_STATUS))

/* One host CPU. */
struct vmx_cpu {
	struct page *vmxon;
	struct list_head active;	/* vmx_vcpu.link: VMCSs that are active here */
	struct vmx_vcpu *current_vmcs;
	struct vmx_vcpu *last;		/* who ran last: IBPB when it changes */
};
DECLARE_PER_CPU(struct vmx_cpu, vmx_cpus);

/* The system call MSRs, which the CPU does not switch. */
enum vmx_switched_msr { VMX_STAR, VMX_LSTAR, VMX_SFMASK, VMX_NR_SWITCHED };

/* Of the host's performance counters: those that differ for a guest, at most. */
#define VMX_NR_PERF_MSRS	6

struct vmx_vcpu {
	struct pvhv_posted posted;	/* first, for its alignment */

	/* What an entry and an exit load; aligned, too. */
	struct vmx_msr_entry perf_guest[VMX_NR_PERF_MSRS], perf_host[VMX_NR_PERF_MSRS];
	u32 hw_perf_msrs;		/* how many, in the VMCS */

	struct page *vmcs;
	struct page *write_log;		/* page-modification log; NULL: none */
	struct page *apic_page;		/* virtual-APIC page, perhaps for its TPR only; NULL: none */
	u64 vmcs_pa;
	struct list_head link;		/* vmx_cpu.active */
	int vmcs_cpu;			/* where it is active; -1: nowhere */
	bool launched;
	bool begun;			/* what never changes is in the VMCS */
	bool flush;			/* second-level TLB is stale */
	bool dr_lent;			/* MOV DR does not exit during this entry */
	bool tpr_lent;			/* MOV CR8 does not exit any more */
	u8 tpr_threshold;		/* with it: exit when TPR's class is below */
	u8 tpr_before;			/* the entry */
	bool x2apic_direct;		/* its MSRs, as far as hardware has them */
	bool msrs_filtered;
	bool eoi_exits_dirty;
	bool acknowledged;		/* the host's interrupt that ended the stay: it is not pending */
	u8 acknowledged_vector;
	bool irq_as_int_n;		/* how the last interrupt went in */
	u8 rip_back;			/* by how much this entry's RIP is before the guest's */
	u16 vpid;			/* 0: none */
	u32 pin;			/* pin-based controls */
	u64 eptp;
	u64 slice_end;			/* TSC, with vmx_caps.slice; 0: not begun */

	unsigned long eoi_exits[256 / BITS_PER_LONG];

	u64 known, dirty;		/* bits of enum vmx_field */
	u64 field[VMX_NR_FIELDS];

	/* What the VMCS holds of these. */
	u64 hw_rip, hw_rsp, hw_rflags, hw_timer, hw_pin;
	u64 hw_host_rsp;		/* enter.S */
	u64 hw_host_cr3, hw_host_cr4, hw_host_fs, hw_host_gs;
	int hw_host_cpu;

	/* The guest's, while others are in the CPU; loaded: between load and put. */
	bool loaded;
	u64 msr[VMX_NR_SWITCHED], cstar, kernel_gs_base;
	u64 tsc_aux_live;		/* what MSR_TSC_AUX holds while loaded */

	/* The thread's, while the guest's are in the CPU. */
	u16 host_fs, host_gs, host_ds, host_es, host_ldt;
	u64 host_debugctl;
};

static inline struct vmx_vcpu *to_vmx(const struct pvhv_vcpu *vcpu)
{
	return vcpu->backend_data;
}

/* What was negotiated with the processor; set once by probe(). */
struct vmx_caps {
	u32 revision;
	u32 pin, proc, proc2, exit, entry;	/* controls of every vCPU */
	u64 slice;		/* ticks of the TSC; 0: no limit to a stay in the guest */
	u32 longest_stay;	/* the same, of the preemption timer, or its maximum; 0: there is none */
	u8 timer_shift;		/* 2^N ticks of the TSC are one of the timer */
	bool invept_context, ept_5_levels, flush_l1d;
	u8 int_n_length;	/* of injected INT n */
	bool perf;		/* the host has performance counters */
	bool posts;		/* posted interrupts are used, perhaps without hardware that takes them */
};
extern struct vmx_caps vmx_caps;

/* A virtual APIC's controls; all of them, or it is not used. */
#define VMX_VIRTUAL_APIC	(SECONDARY_EXEC_VIRTUALIZE_X2APIC_MODE |	\
				 SECONDARY_EXEC_APIC_REGISTER_VIRT |		\
				 SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY)

static inline bool vmx_has_virtual_apic(void)
{
	return vmx_caps.proc2 & SECONDARY_EXEC_VIRTUAL_INTR_DELIVERY;
}

static inline enum vmx_field vmx_segment_field(int seg, enum vmx_segment_part part)
{
	/* The VMCS has LDTR before TR. */
	int nr = seg == PVHV_TR ? 7 : seg == PVHV_LDTR ? 6 : seg;

	return VMX_SEGMENTS + 4 * nr + part;
}

static __always_inline u64 vmcs_read(unsigned long encoding)
{
	u64 value;

	asm volatile("vmread %1, %0" : "=r" (value) : "r" (encoding) : "cc");
	return value;
}

static __always_inline void vmcs_write(unsigned long encoding, u64 value)
{
	asm volatile("vmwrite %1, %0" : : "r" (encoding), "rm" (value) : "cc");
}

/* vmcs.c: */
u64 vmx_fetch(struct vmx_vcpu *vmx, enum vmx_field f);
void vmx_write_dirty(struct vmx_vcpu *vmx);	/* before an entry */
int vmx_vmcs_alloc(struct vmx_vcpu *vmx);
void vmx_vmcs_free(struct vmx_vcpu *vmx);
void vmx_vmcs_leave_other_cpu(struct vmx_vcpu *vmx);	/* preemption off, irqs on */
void vmx_vmcs_make_current(struct vmx_vcpu *vmx);	/* irqs off, virtualization on */
void vmx_vmcs_clear_all(void);				/* of this CPU, irqs off */

static inline u64 vmx_get(struct vmx_vcpu *vmx, enum vmx_field f)
{
	return likely(vmx->known & BIT_ULL(f)) ? vmx->field[f] : vmx_fetch(vmx, f);
}

/* After an exit: what was read of the VMCS. */
static inline void vmx_learn(struct vmx_vcpu *vmx, enum vmx_field f, u64 value)
{
	vmx->field[f] = value;
	vmx->known |= BIT_ULL(f);
}

static inline void vmx_set(struct vmx_vcpu *vmx, enum vmx_field f, u64 value)
{
	if ((vmx->known & BIT_ULL(f)) && vmx->field[f] == value)
		return;
	vmx->field[f] = value;
	vmx->known |= BIT_ULL(f);
	vmx->dirty |= BIT_ULL(f);
}

/* Bits of a field, on or off. */
static inline void vmx_switch(struct vmx_vcpu *vmx, enum vmx_field f, u64 bits, bool on)
{
	u64 old = vmx_get(vmx, f);

	vmx_set(vmx, f, on ? old | bits : old & ~bits);
}

/* caps.c: */
int vmx_probe_caps(struct pvhv_tdp_format *ept);	/* -ENODEV: logs why */

/* host.c: */
int vmx_host_init(void);
unsigned long vmx_host_entry(u8 vector);		/* of the host's handler */
void vmx_host_exit(void);
int vmx_cpu_enable(void);
void vmx_cpu_disable(void);
void vmx_host_constants(void);			/* into the current VMCS */
void vmx_host_leave(struct pvhv_vcpu *vcpu);	/* the thread's state out, the guest's in */
void vmx_host_return(struct pvhv_vcpu *vcpu);
void vmx_host_refresh(struct vmx_vcpu *vmx);	/* host fields, before each entry */
void vmx_host_perf(struct vmx_vcpu *vmx);	/* before each entry, with vmx_caps.perf */

/* vmx.c: */
extern const struct pvhv_backend pvhv_vmx_backend;

/* exit.c: */
void vmx_normalise_exit(struct pvhv_vcpu *vcpu, u32 reason);

/* event.c: */
void vmx_requeue_events(struct pvhv_vcpu *vcpu, u32 info);
void vmx_inject_exception(struct pvhv_vcpu *vcpu);
void vmx_inject_irq(struct pvhv_vcpu *vcpu);
void vmx_inject_nmi(struct pvhv_vcpu *vcpu);
void vmx_set_nmi_masked(struct pvhv_vcpu *vcpu, bool masked);
bool vmx_irq_allowed(struct pvhv_vcpu *vcpu);
bool vmx_nmi_allowed(struct pvhv_vcpu *vcpu);
void vmx_request_irq_window(struct pvhv_vcpu *vcpu);
void vmx_request_nmi_window(struct pvhv_vcpu *vcpu);
u32 vmx_get_int_shadow(struct pvhv_vcpu *vcpu);
void vmx_set_int_shadow(struct pvhv_vcpu *vcpu, u32 mask);
void vmx_fix_shadow(struct pvhv_vcpu *vcpu);	/* before an entry */
void vmx_forget_step(struct pvhv_vcpu *vcpu);	/* after an exit */

/* state.c: */
void vmx_get_segment(struct pvhv_vcpu *vcpu, struct kvm_segment *s, int seg);
void vmx_set_segment(struct pvhv_vcpu *vcpu, const struct kvm_segment *s, int seg);
void vmx_get_code(struct pvhv_vcpu *vcpu, struct pvhv_code *code);
void vmx_get_dtables(struct pvhv_vcpu *vcpu, struct kvm_dtable *gdt, struct kvm_dtable *idt);
void vmx_set_dtables(struct pvhv_vcpu *vcpu, const struct kvm_dtable *gdt,
		     const struct kvm_dtable *idt);
int vmx_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value);
int vmx_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value);
void vmx_sync(struct pvhv_vcpu *vcpu, u32 what);
void vmx_lend_debug_registers(struct pvhv_vcpu *vcpu, bool lend);
void vmx_lend_tpr(struct pvhv_vcpu *vcpu);
void vmx_load_tpr(struct pvhv_vcpu *vcpu);	/* before an entry, with tpr_lent */
void vmx_save_tpr(struct pvhv_vcpu *vcpu);	/* after the exit */

/* interrupt.c: the host's, acknowledged by exits (if vmx_caps.exit says so); posted ones */
void vmx_note_interrupt(struct vmx_vcpu *vmx);		/* after such an exit */
void vmx_take_interrupt(struct pvhv_vcpu *vcpu);
struct pvhv_posted *vmx_posted(struct pvhv_vcpu *vcpu);
void vmx_notify(const struct pvhv_vcpu *vcpu);

/* apicv.c: */
extern const struct pvhv_apic_ops vmx_apic_ops;
int vmx_apic_init(void);
void vmx_apic_exit(void);
void vmx_write_eoi_exits(struct vmx_vcpu *vmx);	/* before an entry, with eoi_exits_dirty */

/* permissions.c: the MSR bitmaps, shared by all vCPUs */
int vmx_permissions_init(void);
void vmx_permissions_exit(void);
void vmx_use_msr_bitmap(struct vmx_vcpu *vmx);	/* by msrs_filtered and x2apic_direct */
void vmx_filter_msrs(struct pvhv_vcpu *vcpu);	/* the VM's filter may need all exits */

/*
 * enter.S: one entry, until one exit; interrupts off on both sides. Nonzero:
 * VMLAUNCH or VMRESUME failed.
 */
struct vmx_speculation {
	u64 guest_spec_ctrl, host_spec_ctrl;
	u64 restore;		/* write the host's after the exit */
};
asmlinkage int vmx_world_switch(u64 *gpr, bool launched, u64 *hw_host_rsp,
				const struct vmx_speculation *spec);
extern const u8 vmx_exit_point[];
asmlinkage void vmx_call_nmi(void);	/* the host's handler, as if it came now */
asmlinkage void vmx_call_interrupt(unsigned long entry);

#endif /* PVHV_VMX_H */
