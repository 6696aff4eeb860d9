// SPDX-License-Identifier: GPL-2.0
/*
 * insn.c - the guest's view of memory by linear address:
 *  1. translation by the guest's page tables (walk.c with this vCPU's state),
 *  2. copies over linear addresses.
 */
#include <asm/trapnr.h>

#include "pvhv.h"

enum pvhv_cpu_mode pvhv_cpu_mode(struct pvhv_vcpu *vcpu)
{
	struct pvhv_code code;

	vcpu->be->get_code(vcpu, &code);
	return code.mode;
}

int pvhv_cpl(struct pvhv_vcpu *vcpu)
{
	struct pvhv_code code;

	vcpu->be->get_code(vcpu, &code);
	return code.cpl;
}

/* --- 1. translation --- */

static int read_pte(void *vcpu, u64 gpa, void *pte, unsigned int bytes)
{
	return pvhv_read_guest(((struct pvhv_vcpu *)vcpu)->vm, gpa, pte, bytes);
}

static int set_ad(void *vcpu, u64 gpa, u64 old, u64 new, unsigned int bytes)
{
	return pvhv_cmpxchg_guest(((struct pvhv_vcpu *)vcpu)->vm, gpa, &old, new, bytes);
}

/* The callbacks' opaque is the vCPU. */
void pvhv_walk_env_init(struct pvhv_vcpu *vcpu, u8 cpl, struct pvhv_walk_env *env)
{
	*env = (struct pvhv_walk_env) {
		.cr0 = vcpu->cr0,
		.cr3 = vcpu->cr3,
		.cr4 = vcpu->cr4,
		.efer = vcpu->efer,
		.rflags = vcpu->rflags,
		.pkru = vcpu->pkru,
		.cpl = cpl,
		.maxphyaddr = vcpu->maxphyaddr,
		.gbpages = vcpu->guest_has_gbpages,
		.opaque = vcpu,
		.read_pte = read_pte,
	};
}

int pvhv_translate(struct pvhv_vcpu *vcpu, u64 linear, u32 access, u64 *gpa)
{
	struct pvhv_walk_result res;
	struct pvhv_walk_env env;
	struct pvhv_code code;
	int r;

	vcpu->be->get_code(vcpu, &code);
	if (code.cpl == 3 && !(access & PVHV_WALK_IMPLICIT))
		access |= PVHV_WALK_USER;
	pvhv_walk_env_init(vcpu, code.cpl, &env);
	env.set_ad = set_ad;	/* as the CPU does */
	r = pvhv_walk(&env, linear, access, &res);
	switch (r) {
	case PVHV_WALK_OK:
		*gpa = res.gpa;
		return 0;
	case PVHV_WALK_FAULT:
		pvhv_queue_pf(vcpu, res.cr2, res.error_code);
		return 1;
	case PVHV_WALK_NONCANONICAL:
		pvhv_queue_gp(vcpu);
		return 1;
	case PVHV_WALK_RACE:
		return 1;	/* nothing queued: the instruction runs again */
	default:
		return r;	/* a table outside of memory */
	}
}

/* For KVM_TRANSLATE: no access is made, nothing is queued. */
bool pvhv_translate_peek(struct pvhv_vcpu *vcpu, u64 linear, u64 *gpa, bool *writable)
{
	struct pvhv_walk_result res;
	struct pvhv_walk_env env;

	pvhv_walk_env_init(vcpu, 0, &env);
	env.cr4 &= ~(u64)X86_CR4_SMAP;	/* a debugger's view: user pages too */
	if (pvhv_walk(&env, linear, 0, &res) != PVHV_WALK_OK)
		return false;
	*gpa = res.gpa;
	*writable = res.writable;
	return true;
}

/* --- 2. copies --- */

static int copy_linear(struct pvhv_vcpu *vcpu, u64 linear, void *buf,
		       unsigned int len, bool write)
{
	while (len) {
		unsigned int part = min_t(unsigned int, len, PAGE_SIZE - (linear & ~PAGE_MASK));
		u64 gpa;
		int r;

		r = pvhv_translate(vcpu, linear, write ? PVHV_WALK_WRITE : 0, &gpa);
		if (r)
			return r;
		r = write ? pvhv_write_guest(vcpu->vm, gpa, buf, part) :
			    pvhv_read_guest(vcpu->vm, gpa, buf, part);
		if (r)
			return r;
		linear += part;
		buf += part;
		len -= part;
	}
	return 0;
}

int pvhv_read_linear(struct pvhv_vcpu *vcpu, u64 linear, void *buf, unsigned int len)
{
	return copy_linear(vcpu, linear, buf, len, false);
}

int pvhv_write_linear(struct pvhv_vcpu *vcpu, u64 linear, const void *buf, unsigned int len)
{
	return copy_linear(vcpu, linear, (void *)buf, len, true);
}
