// SPDX-License-Identifier: GPL-2.0
/*
 * vcpu_state.c - the ioctls that read and write a vCPU's state, each pair
 * side by side, and the vCPU's ioctl table.
 */
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/fpu/types.h>
#include <asm/fpu/xcr.h>
#include <asm/fpu/xstate.h>
#include <asm/trapnr.h>

#include "pvhv.h"

/* --- general registers --- */

long pvhv_ioctl_get_regs(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	const u64 *g = vcpu->gpr;

	*(struct kvm_regs *)data = (struct kvm_regs) {
		.rax = g[PVHV_RAX], .rbx = g[PVHV_RBX], .rcx = g[PVHV_RCX], .rdx = g[PVHV_RDX],
		.rsi = g[PVHV_RSI], .rdi = g[PVHV_RDI], .rsp = g[PVHV_RSP], .rbp = g[PVHV_RBP],
		.r8 = g[PVHV_R8], .r9 = g[PVHV_R9], .r10 = g[PVHV_R10], .r11 = g[PVHV_R11],
		.r12 = g[PVHV_R12], .r13 = g[PVHV_R13], .r14 = g[PVHV_R14], .r15 = g[PVHV_R15],
		.rip = vcpu->rip, .rflags = pvhv_debug_hide_step(vcpu, vcpu->rflags),
	};
	return 0;
}

long pvhv_ioctl_set_regs(void *obj, void *data, unsigned long arg)
{
	const struct kvm_regs *r = data;
	struct pvhv_vcpu *vcpu = obj;
	u64 *g = vcpu->gpr;

	g[PVHV_RAX] = r->rax; g[PVHV_RBX] = r->rbx; g[PVHV_RCX] = r->rcx; g[PVHV_RDX] = r->rdx;
	g[PVHV_RSI] = r->rsi; g[PVHV_RDI] = r->rdi; g[PVHV_RSP] = r->rsp; g[PVHV_RBP] = r->rbp;
	g[PVHV_R8] = r->r8; g[PVHV_R9] = r->r9; g[PVHV_R10] = r->r10; g[PVHV_R11] = r->r11;
	g[PVHV_R12] = r->r12; g[PVHV_R13] = r->r13; g[PVHV_R14] = r->r14; g[PVHV_R15] = r->r15;
	vcpu->rip = r->rip;
	vcpu->rflags = r->rflags | X86_EFLAGS_FIXED;
	pvhv_debug_rflags_set(vcpu);
	/* New registers, new story: a queued exception was of the old one. */
	vcpu->excp.pending = false;
	vcpu->event_check = true;
	return 0;
}

/* --- segments, control registers --- */

static void get_sregs_common(struct pvhv_vcpu *vcpu, struct kvm_sregs *s)
{
	const struct pvhv_backend *be = vcpu->be;

	be->get_segment(vcpu, &s->cs, PVHV_CS);
	be->get_segment(vcpu, &s->ds, PVHV_DS);
	be->get_segment(vcpu, &s->es, PVHV_ES);
	be->get_segment(vcpu, &s->fs, PVHV_FS);
	be->get_segment(vcpu, &s->gs, PVHV_GS);
	be->get_segment(vcpu, &s->ss, PVHV_SS);
	be->get_segment(vcpu, &s->tr, PVHV_TR);
	be->get_segment(vcpu, &s->ldt, PVHV_LDTR);
	be->get_dtables(vcpu, &s->gdt, &s->idt);
	s->cr0 = vcpu->cr0;
	s->cr2 = vcpu->cr2;
	s->cr3 = vcpu->cr3;
	s->cr4 = vcpu->cr4;
	s->cr8 = vcpu->lapic ? pvhv_lapic_get_tpr(vcpu) : vcpu->cr8;
	s->efer = vcpu->efer;
	s->apic_base = vcpu->apic_base;
}

long pvhv_ioctl_get_sregs(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_sregs *s = data;

	memset(s, 0, sizeof(*s));
	get_sregs_common(vcpu, s);
	if (vcpu->irq.injected && !vcpu->irq.soft)
		set_bit(vcpu->irq.vector, (unsigned long *)s->interrupt_bitmap);
	return 0;
}

static bool sregs_valid(struct pvhv_vcpu *vcpu, const struct kvm_sregs *s)
{
	if ((s->efer & EFER_LME) && (s->cr0 & X86_CR0_PG)) {
		if (!(s->cr4 & X86_CR4_PAE) || !(s->efer & EFER_LMA))
			return false;
		if (s->cr3 >> vcpu->maxphyaddr)
			return false;
	} else if ((s->efer & EFER_LMA) || s->cs.l) {
		/* Long mode is active exactly when enabled and paging is on. */
		return false;
	}
	if (s->cr4 & vcpu->cr4_reserved)
		return false;
	if (s->cr0 >> 32 || ((s->cr0 & X86_CR0_PG) && !(s->cr0 & X86_CR0_PE)) ||
	    ((s->cr0 & X86_CR0_NW) && !(s->cr0 & X86_CR0_CD)))
		return false;
	return !(s->efer & ~(vcpu->efer_allowed | EFER_LMA));
}

static long set_sregs_common(struct pvhv_vcpu *vcpu, const struct kvm_sregs *s)
{
	const struct pvhv_backend *be = vcpu->be;

	if (!sregs_valid(vcpu, s))
		return -EINVAL;
	if (vcpu->lapic) {
		if (s->apic_base != vcpu->apic_base &&
		    pvhv_lapic_set_base(vcpu, s->apic_base, true))
			return -EINVAL;
	} else {
		vcpu->apic_base = s->apic_base;
	}
	be->set_dtables(vcpu, &s->gdt, &s->idt);
	vcpu->cr2 = s->cr2;
	vcpu->cr3 = s->cr3;
	vcpu->cr0 = s->cr0 | X86_CR0_ET;
	vcpu->cr4 = s->cr4;
	vcpu->efer = s->efer;
	pvhv_set_cr8(vcpu, s->cr8 & 0xf);
	be->set_segment(vcpu, &s->cs, PVHV_CS);
	be->set_segment(vcpu, &s->ds, PVHV_DS);
	be->set_segment(vcpu, &s->es, PVHV_ES);
	be->set_segment(vcpu, &s->fs, PVHV_FS);
	be->set_segment(vcpu, &s->gs, PVHV_GS);
	be->set_segment(vcpu, &s->ss, PVHV_SS);
	be->set_segment(vcpu, &s->tr, PVHV_TR);
	be->set_segment(vcpu, &s->ldt, PVHV_LDTR);
	be->sync(vcpu, PVHV_SYNC_CR0 | PVHV_SYNC_CR3 | PVHV_SYNC_CR4 | PVHV_SYNC_EFER);
	be->flush_tlb(vcpu);
	pvhv_cpuid_cr4_changed(vcpu);
	vcpu->event_check = true;

	/* A VMM that resets the BSP by hand expects it to run again. */
	if (vcpu->is_bsp && vcpu->rip == 0xfff0 && s->cs.selector == 0xf000 &&
	    s->cs.base == 0xffff0000 && !(s->cr0 & X86_CR0_PE))
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	return 0;
}

long pvhv_ioctl_set_sregs(void *obj, void *data, unsigned long arg)
{
	const struct kvm_sregs *s = data;
	struct pvhv_vcpu *vcpu = obj;
	unsigned int vector;
	long r;

	r = set_sregs_common(vcpu, s);
	if (r)
		return r;
	vector = find_first_bit((const unsigned long *)s->interrupt_bitmap, KVM_NR_INTERRUPTS);
	if (vector < KVM_NR_INTERRUPTS) {
		vcpu->irq.injected = true;
		vcpu->irq.soft = false;
		vcpu->irq.vector = vector;
	}
	return 0;
}

/* The PDPTEs are in memory only: nested paging loads them from there. */
static long get_sregs2(void *obj, void *data, unsigned long arg)
{
	struct kvm_sregs2 *s2 = data;
	struct kvm_sregs s = { };

	get_sregs_common(obj, &s);
	memset(s2, 0, sizeof(*s2));
	memcpy(s2, &s, offsetof(struct kvm_sregs, interrupt_bitmap));
	return 0;
}

static long set_sregs2(void *obj, void *data, unsigned long arg)
{
	const struct kvm_sregs2 *s2 = data;
	struct kvm_sregs s = { };

	if (s2->flags)
		return -EINVAL;
	memcpy(&s, s2, offsetof(struct kvm_sregs, interrupt_bitmap));
	return set_sregs_common(obj, &s);
}

/* --- FPU and extended state --- */

static long get_fpu(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	const struct fxregs_state *fx = &vcpu->fpu.fpstate->regs.fxsave;
	struct kvm_fpu *fpu = data;

	memset(fpu, 0, sizeof(*fpu));
	memcpy(fpu->fpr, fx->st_space, sizeof(fpu->fpr));
	fpu->fcw = fx->cwd;
	fpu->fsw = fx->swd;
	fpu->ftwx = fx->twd;
	fpu->last_opcode = fx->fop;
	fpu->last_ip = fx->rip;
	fpu->last_dp = fx->rdp;
	memcpy(fpu->xmm, fx->xmm_space, sizeof(fx->xmm_space));
	fpu->mxcsr = fx->mxcsr;
	return 0;
}

static long set_fpu(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct fxregs_state *fx = &vcpu->fpu.fpstate->regs.fxsave;
	const struct kvm_fpu *fpu = data;

	if (fpu->mxcsr & ~pvhv_mxcsr_mask())
		return -EINVAL;
	memcpy(fx->st_space, fpu->fpr, sizeof(fpu->fpr));
	fx->cwd = fpu->fcw;
	fx->swd = fpu->fsw;
	fx->twd = fpu->ftwx;
	fx->fop = fpu->last_opcode;
	fx->rip = fpu->last_ip;
	fx->rdp = fpu->last_dp;
	memcpy(fx->xmm_space, fpu->xmm, sizeof(fx->xmm_space));
	fx->mxcsr = fpu->mxcsr;
	/* Else XRSTOR would take these two from their initial state. */
	vcpu->fpu.fpstate->regs.xsave.header.xfeatures |= XFEATURE_MASK_FPSSE;
	return 0;
}

/* A probe of the kernel's own answer: no header tells the size of a guest's. */
unsigned int pvhv_xsave_size(void)
{
	struct fpu_guest probe = { };
	unsigned int size = sizeof(struct kvm_xsave);

	if (fpu_alloc_guest_fpstate(&probe)) {
		size = max_t(unsigned int, size, probe.uabi_size);
		fpu_free_guest_fpstate(&probe);
	}
	return size;
}

/* MXCSR bits this CPU knows, from the FXSAVE image the kernel read at boot. */
u32 pvhv_mxcsr_mask(void)
{
	struct fxregs_state *fx;
	u32 mask = 0xffbf;	/* SDM vol. 1, 11.6.6: default of a zero field */

	fx = kzalloc(sizeof(*fx) + 16, GFP_KERNEL);
	if (!fx)
		return mask;
	asm volatile("fxsave %0" : "=m" (*PTR_ALIGN(fx, 16)));
	if (PTR_ALIGN(fx, 16)->mxcsr_mask)
		mask = PTR_ALIGN(fx, 16)->mxcsr_mask;
	kfree(fx);
	return mask;
}

static long copy_xsave_out(struct pvhv_vcpu *vcpu, unsigned long arg, unsigned int size)
{
	void *buf;
	long r = 0;

	buf = kvzalloc(size, GFP_KERNEL_ACCOUNT);
	if (!buf)
		return -ENOMEM;
	fpu_copy_guest_fpstate_to_uabi(&vcpu->fpu, buf, size,
			 vcpu->guest_xcr0 | XFEATURE_MASK_FPSSE, vcpu->pkru);
	if (copy_to_user((void __user *)arg, buf, size))
		r = -EFAULT;
	kvfree(buf);
	return r;
}

static long get_xsave(void *obj, void *data, unsigned long arg)
{
	return copy_xsave_out(obj, arg, sizeof(struct kvm_xsave));
}

static long get_xsave2(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;

	return copy_xsave_out(vcpu, arg, max_t(unsigned int, sizeof(struct kvm_xsave),
					       vcpu->fpu.uabi_size));
}

static long set_xsave(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	unsigned int size = max_t(unsigned int, sizeof(struct kvm_xsave), vcpu->fpu.uabi_size);
	void *buf;
	long r;

	buf = vmemdup_user((void __user *)arg, size);
	if (IS_ERR(buf))
		return PTR_ERR(buf);
	/* All that this host has, whatever CPUID says: state may come first. */
	r = fpu_copy_uabi_to_guest_fpstate(&vcpu->fpu, buf, pvhv_supported_xcr0(), &vcpu->pkru);
	kvfree(buf);
	return r;
}

static long get_xcrs(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_xcrs *x = data;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return -EINVAL;
	memset(x, 0, sizeof(*x));
	x->nr_xcrs = 1;
	x->xcrs[0].xcr = XCR_XFEATURE_ENABLED_MASK;
	x->xcrs[0].value = vcpu->xcr0;
	return 0;
}

static long set_xcrs(void *obj, void *data, unsigned long arg)
{
	const struct kvm_xcrs *x = data;
	u32 i;

	if (!boot_cpu_has(X86_FEATURE_XSAVE))
		return -EINVAL;
	if (x->nr_xcrs > KVM_MAX_XCRS || x->flags)
		return -EINVAL;
	for (i = 0; i < x->nr_xcrs; i++)
		if (x->xcrs[i].xcr == XCR_XFEATURE_ENABLED_MASK)
			return pvhv_set_xcr(obj, XCR_XFEATURE_ENABLED_MASK,
					    x->xcrs[i].value) ? -EINVAL : 0;
	return 0;
}

/* --- events --- */

long pvhv_ioctl_get_vcpu_events(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct pvhv_exception *e = &vcpu->excp;
	struct kvm_vcpu_events *ev = data;

	memset(ev, 0, sizeof(*ev));
	/*
	 * A client that cannot carry a payload gets the exception with its
	 * registers updated already, as "injected".
	 */
	if (!vcpu->vm->exception_payload && e->pending)
		pvhv_deliver_payload(vcpu);
	ev->exception.nr = e->vector;
	ev->exception.has_error_code = e->has_error;
	ev->exception.error_code = e->error;
	if (vcpu->vm->exception_payload) {
		ev->exception.injected = e->injected;
		ev->exception.pending = e->pending;
		ev->exception_has_payload = e->has_payload;
		ev->exception_payload = e->payload;
		ev->flags |= KVM_VCPUEVENT_VALID_PAYLOAD;
	} else {
		ev->exception.injected = e->injected || e->pending;
	}
	ev->interrupt.injected = vcpu->irq.injected && !vcpu->irq.soft;
	ev->interrupt.nr = vcpu->irq.vector;
	ev->interrupt.shadow = vcpu->be->get_int_shadow(vcpu);
	ev->nmi.injected = vcpu->nmi_injected;
	ev->nmi.pending = vcpu->nmi_pending + atomic_read(&vcpu->nmi_queued);
	ev->nmi.masked = vcpu->nmi_masked;
	if (vcpu->vm->triple_fault_event) {
		ev->triple_fault.pending = test_bit(PVHV_REQ_TRIPLE_FAULT, &vcpu->requests);
		ev->flags |= KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	}
	ev->flags |= KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
	return 0;
}

long pvhv_ioctl_set_vcpu_events(void *obj, void *data, unsigned long arg)
{
	const u32 known = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			  KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_SMM |
			  KVM_VCPUEVENT_VALID_PAYLOAD | KVM_VCPUEVENT_VALID_TRIPLE_FAULT;
	struct kvm_vcpu_events *ev = data;
	struct pvhv_vcpu *vcpu = obj;

	if (ev->flags & ~known)
		return -EINVAL;
	if (ev->flags & KVM_VCPUEVENT_VALID_PAYLOAD) {
		if (!vcpu->vm->exception_payload)
			return -EINVAL;
		if (ev->exception.pending)
			ev->exception.injected = 0;
		else
			ev->exception_has_payload = 0;
	} else {
		ev->exception.pending = 0;
		ev->exception_has_payload = 0;
	}
	if ((ev->exception.injected || ev->exception.pending) &&
	    (ev->exception.nr > 31 || ev->exception.nr == X86_TRAP_NMI))
		return -EINVAL;
	/* There is no system management mode to be in. */
	if ((ev->flags & KVM_VCPUEVENT_VALID_SMM) &&
	    (ev->smi.smm || ev->smi.pending || ev->smi.smm_inside_nmi || ev->smi.latched_init))
		return -EINVAL;
	if ((ev->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) && !vcpu->vm->triple_fault_event)
		return -EINVAL;

	vcpu->excp = (struct pvhv_exception) {
		.injected = ev->exception.injected,
		.pending = ev->exception.pending,
		.vector = ev->exception.nr,
		.has_error = ev->exception.has_error_code,
		.error = ev->exception.error_code,
		.has_payload = ev->exception_has_payload,
		.payload = ev->exception_payload,
	};
	vcpu->irq.injected = ev->interrupt.injected;
	vcpu->irq.vector = ev->interrupt.nr;
	vcpu->irq.soft = ev->interrupt.soft;
	if (ev->flags & KVM_VCPUEVENT_VALID_SHADOW)
		vcpu->be->set_int_shadow(vcpu, ev->interrupt.shadow);
	vcpu->nmi_injected = ev->nmi.injected;
	if (ev->flags & KVM_VCPUEVENT_VALID_NMI_PENDING) {
		vcpu->nmi_pending = 0;
		atomic_set(&vcpu->nmi_queued, ev->nmi.pending);
	}
	vcpu->be->set_nmi_masked(vcpu, ev->nmi.masked);
	if (ev->flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT) {
		if (ev->triple_fault.pending)
			pvhv_set_request(vcpu, PVHV_REQ_TRIPLE_FAULT);
		else
			clear_bit(PVHV_REQ_TRIPLE_FAULT, &vcpu->requests);
	}
	vcpu->event_check = true;
	return 0;
}

static long get_mp_state(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_mp_state *state = data;

	/* INIT and SIPI that wait in the LAPIC are part of the answer. */
	if (vcpu->lapic && pvhv_lapic_has_events(vcpu) && pvhv_lapic_events(vcpu) < 0)
		return -EIO;
	state->mp_state = vcpu->mp_state == KVM_MP_STATE_HALTED && vcpu->pv_unhalted ?
			  KVM_MP_STATE_RUNNABLE : vcpu->mp_state;
	return 0;
}

static long set_mp_state(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	const struct kvm_mp_state *state = data;

	switch (state->mp_state) {
	case KVM_MP_STATE_RUNNABLE:
		break;
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED:
	case KVM_MP_STATE_HALTED:
		if (!vcpu->lapic)
			return -EINVAL;
		break;
	default:
		return -EINVAL;
	}
	vcpu->mp_state = state->mp_state;
	vcpu->event_check = true;
	return 0;
}

/* --- debug registers --- */

static long get_debugregs(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_debugregs *d = data;

	memset(d, 0, sizeof(*d));
	memcpy(d->db, vcpu->dr, sizeof(d->db));
	d->dr6 = vcpu->dr6;
	d->dr7 = vcpu->dr7;
	return 0;
}

static long set_debugregs(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	const struct kvm_debugregs *d = data;

	if (d->flags || d->dr6 >> 32 || d->dr7 >> 32)
		return -EINVAL;
	memcpy(vcpu->dr, d->db, sizeof(vcpu->dr));
	vcpu->dr6 = pvhv_fix_dr6(d->dr6);
	vcpu->dr7 = pvhv_fix_dr7(d->dr7);
	vcpu->be->sync(vcpu, PVHV_SYNC_DR);
	return 0;
}

/* --- things done to a vCPU --- */

static long set_signal_mask(void *obj, void *data, unsigned long arg)
{
	struct kvm_signal_mask __user *user = (void __user *)arg;
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_signal_mask head;
	sigset_t set;

	if (!arg) {
		vcpu->sigset_active = false;
		return 0;
	}
	if (copy_from_user(&head, user, sizeof(head)))
		return -EFAULT;
	if (head.len != sizeof(set))
		return -EINVAL;
	if (copy_from_user(&set, user->sigset, sizeof(set)))
		return -EFAULT;
	sigdelsetmask(&set, sigmask(SIGKILL) | sigmask(SIGSTOP));
	vcpu->sigset = set;
	vcpu->sigset_active = true;
	return 0;
}

static long interrupt(void *obj, void *data, unsigned long arg)
{
	const struct kvm_interrupt *irq = data;

	return irq->irq >= KVM_NR_INTERRUPTS ? -EINVAL : pvhv_user_pic_interrupt(obj, irq->irq);
}

static long nmi(void *obj, void *data, unsigned long arg)
{
	pvhv_queue_nmi(obj);
	return 0;
}

static long translate(void *obj, void *data, unsigned long arg)
{
	struct kvm_translation *t = data;
	bool writable = false;
	u64 gpa = 0;

	t->valid = pvhv_translate_peek(obj, t->linear_address, &gpa, &writable);
	t->physical_address = t->valid ? gpa : ~0ULL;
	t->writeable = t->valid;
	t->usermode = 0;
	return 0;
}

/*
 * The TPR shadow of KVM_CAP_VAPIC is not offered, but QEMU switches it off at
 * every reset without asking whether it is there.
 */
static long set_vapic_addr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_vapic_addr *va = data;
	struct pvhv_vcpu *vcpu = obj;

	return !vcpu->lapic || va->vapic_addr ? -EINVAL : 0;
}

static long vcpu_enable_cap(void *obj, void *data, unsigned long arg)
{
	const struct kvm_enable_cap *cap = data;
	struct pvhv_vcpu *vcpu = obj;

	if (cap->flags || cap->cap != KVM_CAP_ENFORCE_PV_FEATURE_CPUID)
		return -EINVAL;
	vcpu->pv_enforce = cap->args[0];
	return 0;
}

const struct pvhv_ioctl pvhv_vcpu_state_ioctls[] = {
	{ KVM_GET_REGS, 0, pvhv_ioctl_get_regs },
	{ KVM_SET_REGS, 0, pvhv_ioctl_set_regs },
	{ KVM_GET_SREGS, 0, pvhv_ioctl_get_sregs },
	{ KVM_SET_SREGS, 0, pvhv_ioctl_set_sregs },
	{ KVM_GET_SREGS2, 0, get_sregs2 },
	{ KVM_SET_SREGS2, 0, set_sregs2 },
	{ KVM_GET_FPU, 0, get_fpu },
	{ KVM_SET_FPU, 0, set_fpu },
	{ KVM_GET_XSAVE, PVHV_IOC_RAW, get_xsave },
	{ KVM_GET_XSAVE2, PVHV_IOC_RAW, get_xsave2 },
	{ KVM_SET_XSAVE, PVHV_IOC_RAW, set_xsave },
	{ KVM_GET_XCRS, 0, get_xcrs },
	{ KVM_SET_XCRS, 0, set_xcrs },
	{ KVM_GET_MSRS, PVHV_IOC_RAW, pvhv_ioctl_get_msrs },
	{ KVM_SET_MSRS, PVHV_IOC_RAW, pvhv_ioctl_set_msrs },
	{ KVM_GET_CPUID2, PVHV_IOC_RAW, pvhv_ioctl_get_cpuid2 },
	{ KVM_SET_CPUID2, PVHV_IOC_RAW, pvhv_ioctl_set_cpuid2 },
	{ KVM_GET_LAPIC, 0, pvhv_ioctl_get_lapic },
	{ KVM_SET_LAPIC, 0, pvhv_ioctl_set_lapic },
	{ KVM_GET_VCPU_EVENTS, 0, pvhv_ioctl_get_vcpu_events },
	{ KVM_SET_VCPU_EVENTS, 0, pvhv_ioctl_set_vcpu_events },
	{ KVM_GET_MP_STATE, 0, get_mp_state },
	{ KVM_SET_MP_STATE, 0, set_mp_state },
	{ KVM_GET_DEBUGREGS, 0, get_debugregs },
	{ KVM_SET_DEBUGREGS, 0, set_debugregs },
	{ KVM_SET_GUEST_DEBUG, 0, pvhv_ioctl_set_guest_debug },
	{ KVM_SET_TSC_KHZ, 0, pvhv_ioctl_set_tsc_khz },
	{ KVM_GET_TSC_KHZ, 0, pvhv_ioctl_get_tsc_khz },
	{ KVM_SET_DEVICE_ATTR, 0, pvhv_ioctl_set_vcpu_attr },
	{ KVM_GET_DEVICE_ATTR, 0, pvhv_ioctl_get_vcpu_attr },
	{ KVM_HAS_DEVICE_ATTR, 0, pvhv_ioctl_has_vcpu_attr },
	{ KVM_SET_SIGNAL_MASK, PVHV_IOC_RAW, set_signal_mask },
	{ KVM_INTERRUPT, 0, interrupt },
	{ KVM_NMI, 0, nmi },
	{ KVM_PRE_FAULT_MEMORY, PVHV_IOC_RAW, pvhv_ioctl_pre_fault },
	{ KVM_TRANSLATE, 0, translate },
	{ KVM_ENABLE_CAP, 0, vcpu_enable_cap },
	{ KVM_SET_VAPIC_ADDR, 0, set_vapic_addr },
	{ KVM_KVMCLOCK_CTRL, 0, pvhv_ioctl_kvmclock_ctrl },
	{ KVM_X86_SETUP_MCE, 0, pvhv_ioctl_setup_mce },
	{ KVM_X86_SET_MCE, 0, pvhv_ioctl_set_mce },
	{ KVM_X86_SET_MCE, 0, pvhv_ioctl_set_mce },
	{ KVM_GET_STATS_FD, 0, pvhv_ioctl_vcpu_stats_fd },
};

const unsigned int pvhv_nr_vcpu_state_ioctls = ARRAY_SIZE(pvhv_vcpu_state_ioctls);
