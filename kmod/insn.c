// SPDX-License-Identifier: GPL-2.0
/*
 * insn.c - the guest's view of memory by linear address:
 *  1. translation by the guest's page tables (walk.c with this vCPU's state),
 *  2. copies over linear addresses,
 *  3. fetching the exiting instruction, and moving RIP past it.
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

static int read_pte_atomic(void *vcpu, u64 gpa, void *pte, unsigned int bytes)
{
	return pvhv_read_guest_atomic(((struct pvhv_vcpu *)vcpu)->vm, gpa, pte, bytes);
}

static int set_ad(void *vcpu, u64 gpa, u64 old, u64 new, unsigned int bytes)
{
	return pvhv_cmpxchg_guest(((struct pvhv_vcpu *)vcpu)->vm, gpa, &old, new, bytes);
}

enum translate_how {
	TRANSLATE_ACCESS,	/* as the CPU does: A and D bits are set */
	TRANSLATE_PEEK,		/* leaves the tables alone */
	TRANSLATE_ATOMIC,	/* the same, interrupts off */
};

/* A walk status, or -EFAULT from reading the tables. */
static int walk(struct pvhv_vcpu *vcpu, const struct pvhv_code *code, u64 linear,
		u32 access, enum translate_how how, struct pvhv_walk_result *res)
{
	struct pvhv_walk_env env = {
		.cr0 = vcpu->cr0,
		.cr3 = vcpu->cr3,
		.cr4 = vcpu->cr4,
		.efer = vcpu->efer,
		.rflags = vcpu->rflags,
		.pkru = vcpu->pkru,
		.cpl = code->cpl,
		.maxphyaddr = vcpu->maxphyaddr,
		.gbpages = vcpu->guest_has_gbpages,
		.opaque = vcpu,
		.read_pte = how == TRANSLATE_ATOMIC ? read_pte_atomic : read_pte,
		.set_ad = how == TRANSLATE_ACCESS ? set_ad : NULL,
	};

	return pvhv_walk(&env, linear, access, res);
}

int pvhv_translate(struct pvhv_vcpu *vcpu, u64 linear, u32 access, u64 *gpa)
{
	struct pvhv_walk_result res;
	struct pvhv_code code;
	int r;

	vcpu->be->get_code(vcpu, &code);
	if (code.cpl == 3 && !(access & PVHV_WALK_IMPLICIT))
		access |= PVHV_WALK_USER;
	r = walk(vcpu, &code, linear, access, TRANSLATE_ACCESS, &res);
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
	struct pvhv_code code = { .cpl = 0 };

	if (walk(vcpu, &code, linear, PVHV_WALK_IMPLICIT, TRANSLATE_PEEK, &res) != PVHV_WALK_OK)
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

/* --- 3. the exiting instruction --- */

static u64 code_linear(const struct pvhv_code *code, u64 rip)
{
	return code->mode == PVHV_MODE_64 ? rip : (u32)(code->base + rip);
}

/* Up to len bytes at RIP, as many as are mapped; their number. */
static unsigned int fetch(struct pvhv_vcpu *vcpu, const struct pvhv_code *code,
			  u8 *buf, unsigned int len, bool atomic)
{
	u64 linear = code_linear(code, vcpu->rip);
	u32 access = PVHV_WALK_FETCH | (code->cpl == 3 ? PVHV_WALK_USER : 0);
	unsigned int got = 0;

	while (got < len) {
		unsigned int part = min_t(unsigned int, len - got,
					  PAGE_SIZE - ((linear + got) & ~PAGE_MASK));
		struct pvhv_walk_result res;

		if (walk(vcpu, code, linear + got, access,
			 atomic ? TRANSLATE_ATOMIC : TRANSLATE_PEEK, &res) != PVHV_WALK_OK)
			break;
		if (atomic ? pvhv_read_guest_atomic(vcpu->vm, res.gpa, buf + got, part) :
			     pvhv_read_guest(vcpu->vm, res.gpa, buf + got, part))
			break;
		got += part;
	}
	return got;
}

/* What hardware knows of the instruction, or the bytes in memory. */
int pvhv_decode_exit(struct pvhv_vcpu *vcpu, struct pvhv_insn *insn, bool atomic)
{
	struct pvhv_exit *e = &vcpu->exit;
	struct pvhv_code code;
	unsigned int len;

	vcpu->be->get_code(vcpu, &code);
	if (e->nr_bytes && pvhv_decode(insn, e->bytes, e->nr_bytes, code.mode) == PVHV_DECODE_OK)
		return PVHV_DECODE_OK;
	/* Most instructions end well before their page does: one walk. */
	len = min_t(unsigned int, PVHV_INSN_MAX,
		    PAGE_SIZE - (code_linear(&code, vcpu->rip) & ~PAGE_MASK));
	e->nr_bytes = fetch(vcpu, &code, e->bytes, len, atomic);
	if (e->nr_bytes == len && len < PVHV_INSN_MAX &&
	    pvhv_decode(insn, e->bytes, len, code.mode) == PVHV_DECODE_MORE)
		e->nr_bytes = fetch(vcpu, &code, e->bytes, PVHV_INSN_MAX, atomic);
	return pvhv_decode(insn, e->bytes, e->nr_bytes, code.mode);
}

/*
 * RIP to next: what completing any instruction does besides its own work.
 * RF goes, an interrupt shadow ends, and TF traps.
 */
void pvhv_finish_insn(struct pvhv_vcpu *vcpu, u64 next_rip)
{
	vcpu->rip = next_rip;
	vcpu->rflags &= ~X86_EFLAGS_RF;
	if (unlikely(vcpu->be->get_int_shadow(vcpu))) {
		vcpu->be->set_int_shadow(vcpu, 0);
		vcpu->event_check = true;
	}
	if (unlikely(vcpu->rflags & X86_EFLAGS_TF))
		pvhv_queue_db(vcpu, DR_STEP);
}

int pvhv_skip_insn(struct pvhv_vcpu *vcpu, bool atomic)
{
	struct pvhv_insn insn;

	if (likely(vcpu->exit.next_rip)) {
		pvhv_finish_insn(vcpu, vcpu->exit.next_rip);
		return 0;
	}
	if (pvhv_decode_exit(vcpu, &insn, atomic) != PVHV_DECODE_OK) {
		if (atomic)
			return PVHV_SLOW;
		/*
		 * The guest changed the instruction or its mapping since it
		 * exited. Running it again is what a CPU would have done.
		 */
		return 1;
	}
	pvhv_finish_insn(vcpu, pvhv_insn_next_rip(&insn, vcpu->rip));
	return 0;
}
