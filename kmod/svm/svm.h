/* SPDX-License-Identifier: GPL-2.0 */
/*
 * svm.h - private header of the AMD-V backend. Section numbers name the
 * "AMD64 Architecture Programmer's Manual", volume 2 (APM).
 */
#ifndef PVHV_SVM_H
#define PVHV_SVM_H

#include <linux/io.h>
#include <linux/mm.h>
#include <asm/svm.h>
#include <asm/tlbflush.h>

#include "../pvhv.h"

/* One host CPU. */
struct svm_cpu {
	struct page *hsave;		/* VM_HSAVE_PA: VMRUN's host state */
	struct page *host_vmcb;		/* VMSAVE of the host: FS, GS, TR, LDTR, syscall MSRs */
	u64 asid_generation;		/* 0: virtualization is off here */
	u32 next_asid;
	struct svm_vcpu *last;		/* who ran last: IBPB when it changes */
};
DECLARE_PER_CPU(struct svm_cpu, svm_cpus);

#define SVM_NO_RIP	(~0ULL)

struct svm_vcpu {
	struct vmcb *vmcb;
	u64 vmcb_pa;
	u64 host_vmcb_pa;		/* of the CPU it is loaded on */
	u64 asid_generation;
	int asid_cpu;
	bool flush;			/* second-level TLB is stale */
	bool dr_lent;			/* MOV DR does not exit during this entry */
	bool iret_seen;			/* IRET exit taken, NMIs open once RIP moves */
	u64 iret_rip;
	bool nmi_singlestep;		/* TF and #DB are ours */
	u64 nmi_step_tf;		/* the guest's own TF meanwhile */
	u64 bp_rip;			/* the last exception put in was a #BP: RIP then */
	u64 shadow_rip;			/* the last host interrupt in STI's shadow: RIP */
	u64 shadow_exit;		/* and number of exits before it */
	u64 tsc_aux_live;		/* what MSR_TSC_AUX holds while loaded */
};

static inline struct svm_vcpu *to_svm(const struct pvhv_vcpu *vcpu)
{
	return vcpu->backend_data;
}

/* What the processor has beyond the base of AMD-V; set once by probe(). */
struct svm_caps {
	bool nrips, decode_assists, flush_by_asid, clean_bits, pause_filter;
	bool pause_threshold, v_spec_ctrl;
	bool exit_after_irq;	/* see svm.c */
	u32 nr_asids;
};
extern struct svm_caps svm_caps;

/* VMCB clean bits, APM 15.15.3: a set bit says "unchanged since last exit". */
enum {
	SVM_CLEAN_INTERCEPTS, SVM_CLEAN_PERM_MAP, SVM_CLEAN_ASID,
	SVM_CLEAN_INTR, SVM_CLEAN_NPT, SVM_CLEAN_CR, SVM_CLEAN_DR,
	SVM_CLEAN_DT, SVM_CLEAN_SEG, SVM_CLEAN_CR2, SVM_CLEAN_LBR,
	SVM_CLEAN_AVIC,
	/* these the VMM writes before every entry, so they stay dirty */
	SVM_ALWAYS_DIRTY = BIT(SVM_CLEAN_INTR) | BIT(SVM_CLEAN_CR2),
};

static inline void svm_dirty(struct svm_vcpu *svm, int bit)
{
	svm->vmcb->control.clean &= ~BIT(bit);
}

static inline void svm_intercept(struct svm_vcpu *svm, int bit, bool on)
{
	u32 *word = &svm->vmcb->control.intercepts[bit / 32];
	u32 old = *word;

	*word = on ? old | BIT(bit % 32) : old & ~BIT(bit % 32);
	if (*word != old)
		svm_dirty(svm, SVM_CLEAN_INTERCEPTS);
}

/* svm.c: */
extern const struct pvhv_backend pvhv_svm_backend;

/* exit.c: */
void svm_normalise_exit(struct pvhv_vcpu *vcpu);

/* event.c: */
void svm_requeue_events(struct pvhv_vcpu *vcpu);
void svm_inject_exception(struct pvhv_vcpu *vcpu);
void svm_inject_irq(struct pvhv_vcpu *vcpu);
void svm_inject_nmi(struct pvhv_vcpu *vcpu);
void svm_set_nmi_masked(struct pvhv_vcpu *vcpu, bool masked);
bool svm_irq_allowed(struct pvhv_vcpu *vcpu);
bool svm_nmi_allowed(struct pvhv_vcpu *vcpu);
void svm_request_irq_window(struct pvhv_vcpu *vcpu);
void svm_close_irq_window(struct pvhv_vcpu *vcpu);
void svm_request_nmi_window(struct pvhv_vcpu *vcpu);
void svm_iret_intercepted(struct pvhv_vcpu *vcpu);
bool svm_end_nmi_singlestep(struct pvhv_vcpu *vcpu);
u32 svm_get_int_shadow(struct pvhv_vcpu *vcpu);
void svm_set_int_shadow(struct pvhv_vcpu *vcpu, u32 mask);

/* state.c: */
void svm_get_segment(struct pvhv_vcpu *vcpu, struct kvm_segment *s, int seg);
void svm_set_segment(struct pvhv_vcpu *vcpu, const struct kvm_segment *s, int seg);
void svm_get_code(struct pvhv_vcpu *vcpu, struct pvhv_code *code);
void svm_get_dtables(struct pvhv_vcpu *vcpu, struct kvm_dtable *gdt,
		     struct kvm_dtable *idt);
void svm_set_dtables(struct pvhv_vcpu *vcpu, const struct kvm_dtable *gdt,
		     const struct kvm_dtable *idt);
int svm_get_msr(struct pvhv_vcpu *vcpu, u32 index, u64 *value);
int svm_set_msr(struct pvhv_vcpu *vcpu, u32 index, u64 value);
void svm_sync(struct pvhv_vcpu *vcpu, u32 what);
void svm_lend_debug_registers(struct pvhv_vcpu *vcpu, bool lend);

/* permissions.c: the MSR and I/O permission maps, shared by all vCPUs */
int svm_permissions_init(void);
void svm_permissions_exit(void);
u64 svm_msrpm_pa(void);
void svm_choose_msrpm(struct pvhv_vcpu *vcpu);	/* the VM's filter may need all exits */
u64 svm_iopm_pa(void);

/* enter.S: VMRUN round trip; interrupts off on both sides. */
asmlinkage void svm_world_switch(u64 *gpr, u64 vmcb_pa, u64 host_vmcb_pa,
				 u64 guest_spec_ctrl, u64 host_spec_ctrl);

#endif /* PVHV_SVM_H */
