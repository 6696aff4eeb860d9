// SPDX-License-Identifier: GPL-2.0
/*
 * fetch.c - the exiting instruction:
 *  1. its bytes, by a walk of the guest's page tables,
 *  2. the last walk, remembered: the entries it read, where they are in the
 *     VMM's memory and what they held. The walk is a function of these and of
 *     the control registers, so as long as all are the same, so is its result,
 *     and reading them again is all that is to do. Nothing stale is ever used,
 *  3. instructions decoded before, by their bytes,
 *  4. RIP moved past it.
 *
 * Where hardware tells the next RIP (NRIPS) none of it is needed to skip an
 * instruction, and where it hands over the bytes (decode assists) no walk is.
 */
#include <linux/hash.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "pvhv.h"

#define MEMO_BITS	3
#define RAW_BYTES	16	/* what is fetched at once: an instruction and one byte */
#define NO_PAGE		1	/* no linear page has this address */

struct pvhv_fetch {
	/* the last walk's input ... */
	u64 page, cr0, cr3, cr4, efer, generation;
	u8 cpl;
	/* ... the entries it read, and its result */
	u8 nr;
	bool simple;			/* all entries of 8 bytes, in memory */
	struct {
		const u64 __user *hva;
		u64 value;
	} pte[5];
	const u8 __user *code;
	/* decoded instructions */
	struct {
		u64 raw[2];
		u32 mode;
		struct pvhv_insn insn;
	} memo[1 << MEMO_BITS];
};

int pvhv_fetch_init(struct pvhv_vcpu *vcpu)
{
	vcpu->fetch = kzalloc(sizeof(*vcpu->fetch), GFP_KERNEL_ACCOUNT);
	if (!vcpu->fetch)
		return -ENOMEM;
	vcpu->fetch->page = NO_PAGE;
	return 0;
}

void pvhv_fetch_free(struct pvhv_vcpu *vcpu)
{
	kfree(vcpu->fetch);
}

/* --- 1. bytes by a walk --- */

static u64 code_linear(const struct pvhv_code *code, u64 rip)
{
	return code->mode == PVHV_MODE_64 ? rip : (u32)(code->base + rip);
}

static int read_pte_and_note(void *opaque, u64 gpa, void *pte, unsigned int bytes)
{
	struct pvhv_vcpu *vcpu = opaque;
	struct pvhv_fetch *f = vcpu->fetch;
	struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vcpu->vm, gpa >> PAGE_SHIFT);

	if (!slot || pvhv_read_guest_atomic(vcpu->vm, gpa, pte, bytes))
		return -EFAULT;
	if (bytes != sizeof(u64) || f->nr == ARRAY_SIZE(f->pte)) {
		f->simple = false;
		return 0;
	}
	f->pte[f->nr].hva = (const u64 __user *)(pvhv_slot_hva(slot, gpa >> PAGE_SHIFT) +
						 offset_in_page(gpa));
	f->pte[f->nr++].value = *(u64 *)pte;
	return 0;
}

/* The guest-physical address of a byte of code. atomic: interrupts are off. */
static bool walk_code(struct pvhv_vcpu *vcpu, const struct pvhv_code *code, u64 linear,
		      bool atomic, u64 *gpa)
{
	struct pvhv_walk_result res;
	struct pvhv_walk_env env;

	pvhv_walk_env_init(vcpu, code->cpl, &env);
	if (atomic)
		env.read_pte = read_pte_and_note;
	vcpu->fetch->nr = 0;
	vcpu->fetch->simple = atomic;
	if (pvhv_walk(&env, linear, PVHV_WALK_FETCH | (code->cpl == 3 ? PVHV_WALK_USER : 0),
		      &res) != PVHV_WALK_OK)
		return false;
	*gpa = res.gpa;
	return true;
}

/* --- 2. the last walk --- */

static void remember_walk(struct pvhv_vcpu *vcpu, const struct pvhv_code *code,
			  u64 linear, u64 gpa)
{
	struct pvhv_memslot *slot = pvhv_gfn_to_memslot(vcpu->vm, gpa >> PAGE_SHIFT);
	struct pvhv_fetch *f = vcpu->fetch;

	f->page = NO_PAGE;
	if (!slot || !f->simple)
		return;
	f->page = linear & PAGE_MASK;
	f->cr0 = vcpu->cr0;
	f->cr3 = vcpu->cr3;
	f->cr4 = vcpu->cr4;
	f->efer = vcpu->efer;
	f->cpl = code->cpl;
	f->generation = pvhv_memslots_generation(vcpu->vm);
	f->code = (const u8 __user *)pvhv_slot_hva(slot, gpa >> PAGE_SHIFT);
}

static __always_inline bool same_walk(struct pvhv_vcpu *vcpu, const struct pvhv_code *code,
				      u64 linear)
{
	const struct pvhv_fetch *f = vcpu->fetch;

	return f->page == (linear & PAGE_MASK) && f->cr3 == vcpu->cr3 && f->cpl == code->cpl &&
	       f->cr0 == vcpu->cr0 && f->cr4 == vcpu->cr4 && f->efer == vcpu->efer &&
	       f->generation == pvhv_memslots_generation(vcpu->vm);
}

/* RAW_BYTES at linear, which are all in its page; sleeps not. */
static bool fetch_again(struct pvhv_vcpu *vcpu, u64 linear, u64 *raw)
{
	const struct pvhv_fetch *f = vcpu->fetch;
	const u64 __user *from = (const u64 __user *)(f->code + offset_in_page(linear));
	unsigned int i;
	u64 value;

	pagefault_disable();
	if (!user_access_begin(from, RAW_BYTES))
		goto out;
	for (i = 0; i < f->nr; i++) {
		unsafe_get_user(value, f->pte[i].hva, fault);
		if (value != f->pte[i].value)
			goto fault;
	}
	unsafe_get_user(raw[0], from, fault);
	unsafe_get_user(raw[1], from + 1, fault);
	user_access_end();
	pagefault_enable();
	return true;
fault:
	user_access_end();
out:
	pagefault_enable();
	return false;
}

/* --- 3. decoding --- */

static int decode_memo(struct pvhv_vcpu *vcpu, const u64 *raw, enum pvhv_cpu_mode mode,
		       struct pvhv_insn *insn)
{
	unsigned int slot = hash_64(raw[0], MEMO_BITS);
	int r;

	if (vcpu->fetch->memo[slot].raw[0] == raw[0] && vcpu->fetch->memo[slot].raw[1] == raw[1] &&
	    vcpu->fetch->memo[slot].mode == mode) {
		*insn = vcpu->fetch->memo[slot].insn;
		return PVHV_DECODE_OK;
	}
	r = pvhv_decode(insn, (const u8 *)raw, PVHV_INSN_MAX, mode);
	if (r == PVHV_DECODE_OK) {
		vcpu->fetch->memo[slot].raw[0] = raw[0];
		vcpu->fetch->memo[slot].raw[1] = raw[1];
		vcpu->fetch->memo[slot].mode = mode;
		vcpu->fetch->memo[slot].insn = *insn;
	}
	return r;
}

/* Up to len bytes at linear, as many as are mapped; their number. */
static unsigned int fetch(struct pvhv_vcpu *vcpu, const struct pvhv_code *code, u64 linear,
			  u8 *buf, unsigned int len, bool atomic)
{
	unsigned int got = 0;

	while (got < len) {
		unsigned int part = min_t(unsigned int, len - got,
					  PAGE_SIZE - offset_in_page(linear + got));
		u64 gpa;

		if (!walk_code(vcpu, code, linear + got, atomic, &gpa))
			break;
		if (atomic ? pvhv_read_guest_atomic(vcpu->vm, gpa, buf + got, part) :
			     pvhv_read_guest(vcpu->vm, gpa, buf + got, part))
			break;
		if (atomic)
			remember_walk(vcpu, code, linear + got, gpa);
		got += part;
	}
	return got;
}

int pvhv_decode_exit(struct pvhv_vcpu *vcpu, struct pvhv_insn *insn, bool atomic)
{
	struct pvhv_exit *e = &vcpu->exit;
	struct pvhv_code code;
	u64 raw[2], linear;

	vcpu->be->get_code(vcpu, &code);
	if (e->nr_bytes && pvhv_decode(insn, e->bytes, e->nr_bytes, code.mode) == PVHV_DECODE_OK)
		return PVHV_DECODE_OK;
	linear = code_linear(&code, vcpu->rip);
	if (offset_in_page(linear) <= PAGE_SIZE - RAW_BYTES) {
		u64 gpa;

		if (!same_walk(vcpu, &code, linear) && walk_code(vcpu, &code, linear, true, &gpa))
			remember_walk(vcpu, &code, linear, gpa);
		if (same_walk(vcpu, &code, linear) && fetch_again(vcpu, linear, raw)) {
			memcpy(e->bytes, raw, PVHV_INSN_MAX);
			e->nr_bytes = PVHV_INSN_MAX;
			return decode_memo(vcpu, raw, code.mode, insn);
		}
		vcpu->fetch->page = NO_PAGE;
	}
	e->nr_bytes = fetch(vcpu, &code, linear, e->bytes, PVHV_INSN_MAX, atomic);
	return pvhv_decode(insn, e->bytes, e->nr_bytes, code.mode);
}

/* --- 4. RIP --- */

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
	if (likely(!(vcpu->rflags & X86_EFLAGS_TF)))
		return;
	if (vcpu->guest_debug & KVM_GUESTDBG_SINGLESTEP)
		pvhv_set_request(vcpu, PVHV_REQ_DEBUG_STEP);
	else
		pvhv_queue_db(vcpu, DR_STEP);
}

u64 pvhv_next_rip(struct pvhv_vcpu *vcpu)
{
	struct pvhv_insn insn;

	if (vcpu->exit.next_rip)
		return vcpu->exit.next_rip;
	if (pvhv_decode_exit(vcpu, &insn, false) != PVHV_DECODE_OK)
		return 0;
	return pvhv_insn_next_rip(&insn, vcpu->rip);
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
