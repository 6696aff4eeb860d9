// SPDX-License-Identifier: GPL-2.0
/*
 * hypercall.c - KVM's hypercalls (VMMCALL, VMCALL):
 *  1. arguments, privilege and result as KVM passes them,
 *  2. the calls: kick, IPI, yield, clock pairing, and PVHV_HC_KICK, which is
 *     doorbell.c's; others are -KVM_ENOSYS,
 *  3. the fast path (interrupts off) for those that neither sleep nor touch
 *     guest memory,
 *  4. whose thread a vCPU is, for the calls that yield to it,
 *  5. the other vendor's instruction becomes this one's.
 *
 * A call whose feature bit the guest does not have, with
 * KVM_CAP_ENFORCE_PV_FEATURE_CPUID, does not exist.
 */
#include <linux/pid.h>
#include <linux/sched.h>
#include <linux/srcu.h>
#include <linux/time64.h>

#include "pvhv.h"
#include "trace.h"
#include <linux/pvhv_para.h>

struct call {
	u64 nr, arg[4];
	bool wide;	/* made in 64-bit mode */
	bool user;	/* not made in ring 0 */
};

static void get_call(struct pvhv_vcpu *vcpu, struct call *c)
{
	struct pvhv_code code;
	u64 mask;

	vcpu->be->get_code(vcpu, &code);
	c->user = code.cpl;
	c->wide = code.mode == PVHV_MODE_64;
	mask = c->wide ? ~0ULL : U32_MAX;
	c->nr = vcpu->gpr[PVHV_RAX] & mask;
	c->arg[0] = vcpu->gpr[PVHV_RBX] & mask;
	c->arg[1] = vcpu->gpr[PVHV_RCX] & mask;
	c->arg[2] = vcpu->gpr[PVHV_RDX] & mask;
	c->arg[3] = vcpu->gpr[PVHV_RSI] & mask;
}

static bool pv_has(const struct pvhv_vcpu *vcpu, unsigned int feature)
{
	return !vcpu->pv_enforce || (vcpu->pv_features & BIT(feature));
}

/* KVM_RUN: yielding needs to know whose thread a vCPU is. */
void pvhv_note_thread(struct pvhv_vcpu *vcpu)
{
	struct pid *old, *me = task_pid(current);

	old = rcu_dereference_protected(vcpu->pid, lockdep_is_held(&vcpu->mutex));
	if (likely(old == me))
		return;
	rcu_assign_pointer(vcpu->pid, get_pid(me));
	if (!old)
		return;
	synchronize_rcu();
	put_pid(old);
}

/* Gives the rest of this vCPU's slice to one that was interrupted. */
static void yield_to_vcpu(struct pvhv_vcpu *vcpu, u32 apic_id)
{
	struct pvhv_vcpu *target = pvhv_vcpu_by_apic_id(vcpu->vm, apic_id);
	struct task_struct *task;

	if (!target || target == vcpu || READ_ONCE(target->mode) == PVHV_IN_GUEST)
		return;
	rcu_read_lock();
	task = get_pid_task(rcu_dereference(target->pid), PIDTYPE_PID);
	rcu_read_unlock();
	if (!task)
		return;
	yield_to(task, true);
	put_task_struct(task);
}

static long kick(struct pvhv_vcpu *vcpu, u32 apic_id)
{
	struct pvhv_vcpu *target = pvhv_vcpu_by_apic_id(vcpu->vm, apic_id);

	if (target) {
		WRITE_ONCE(target->pv_unhalted, true);
		pvhv_make_request(target, PVHV_REQ_EVENT);
	}
	return 0;
}

/* Host wall clock and guest TSC of one moment, for guests that keep time. */
static long clock_pairing(struct pvhv_vcpu *vcpu, u64 gpa, u64 type)
{
	struct kvm_clock_pairing pairing = { };
	u64 tsc, boot, real;
	u32 ns;

	if (type != KVM_CLOCK_PAIRING_WALLCLOCK)
		return -KVM_EOPNOTSUPP;
	if (!pvhv_host_clock(&tsc, &boot, &real))
		return -KVM_EOPNOTSUPP;
	pairing.sec = div_u64_rem(real, NSEC_PER_SEC, &ns);
	pairing.nsec = ns;
	pairing.tsc = pvhv_guest_tsc(vcpu, tsc);
	if (pvhv_write_guest(vcpu->vm, gpa, &pairing, sizeof(pairing)))
		return -KVM_EFAULT;
	return 0;
}

/* Those that need no sleep; -EAGAIN: not one of them. */
static long call_atomic(struct pvhv_vcpu *vcpu, const struct call *c)
{
	switch (c->nr) {
	case KVM_HC_VAPIC_POLL_IRQ:
		return 0;
	case KVM_HC_SEND_IPI:
		if (!pv_has(vcpu, KVM_FEATURE_PV_SEND_IPI) || !vcpu->lapic)
			return -KVM_ENOSYS;
		return pvhv_pv_send_ipi(vcpu, c->arg[0], c->arg[1], c->arg[2],
					c->arg[3]);
	case PVHV_HC_KICK:
		return pvhv_doorbell_ring(vcpu->vm, c->arg[0]);
	case KVM_HC_KICK_CPU:
	case KVM_HC_SCHED_YIELD:
	case KVM_HC_CLOCK_PAIRING:
		return -EAGAIN;
	default:
		return -KVM_ENOSYS;
	}
}

static long call_sleeping(struct pvhv_vcpu *vcpu, const struct call *c)
{
	switch (c->nr) {
	case KVM_HC_KICK_CPU:
		if (!pv_has(vcpu, KVM_FEATURE_PV_UNHALT))
			return -KVM_ENOSYS;
		kick(vcpu, c->arg[1]);
		yield_to_vcpu(vcpu, c->arg[1]);
		return 0;
	case KVM_HC_SCHED_YIELD:
		if (!pv_has(vcpu, KVM_FEATURE_PV_SCHED_YIELD))
			return -KVM_ENOSYS;
		yield_to_vcpu(vcpu, c->arg[0]);
		return 0;
	case KVM_HC_CLOCK_PAIRING:
		return clock_pairing(vcpu, c->arg[0], c->arg[1]);
	default:
		return call_atomic(vcpu, c);
	}
}

static int finish(struct pvhv_vcpu *vcpu, const struct call *c, long result)
{
	vcpu->gpr[PVHV_RAX] = c->wide ? (u64)result : (u32)result;
	vcpu->stat.hypercalls++;
	return PVHV_RESUME;
}

int pvhv_handle_hypercall(struct pvhv_vcpu *vcpu)
{
	struct call c;
	long result;

	get_call(vcpu, &c);
	trace_pvhv_hypercall(c.nr, c.arg[0], c.arg[1], c.arg[2], c.arg[3]);
	if (pvhv_skip_insn(vcpu, false))
		return PVHV_RESUME;
	result = c.user ? -KVM_EPERM : call_sleeping(vcpu, &c);
	return finish(vcpu, &c, result);
}

int pvhv_handle_hypercall_fast(struct pvhv_vcpu *vcpu)
{
	struct call c;
	long result;
	int r;

	if (vcpu->gpr[PVHV_RAX] == PVHV_HC_KICK) {
		r = pvhv_doorbell_fast(vcpu);
		if (likely(r != PVHV_SLOW))
			return r;
	}
	get_call(vcpu, &c);
	switch (c.nr) {
	case KVM_HC_KICK_CPU:
	case KVM_HC_SCHED_YIELD:
	case KVM_HC_CLOCK_PAIRING:
		return PVHV_SLOW;
	}
	r = pvhv_skip_insn(vcpu, true);
	if (unlikely(r))
		return r;
	trace_pvhv_hypercall(c.nr, c.arg[0], c.arg[1], c.arg[2], c.arg[3]);
	result = c.user ? -KVM_EPERM : call_atomic(vcpu, &c);
	return finish(vcpu, &c, result);
}

/*
 * A guest that came from another vendor's CPU still has that one's instruction
 * in it. It is written over where the guest itself could write, as KVM does
 * unless that quirk is off.
 */
bool pvhv_fix_hypercall(struct pvhv_vcpu *vcpu)
{
	static const u8 known[][3] = { { 0x0f, 0x01, 0xc1 }, { 0x0f, 0x01, 0xd9 } };
	const struct pvhv_exit *e = &vcpu->exit;
	struct pvhv_insn insn;
	struct pvhv_code code;
	unsigned int i;

	if (vcpu->vm->disabled_quirks & KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
		return false;
	pvhv_decode_exit(vcpu, &insn, false);	/* for the bytes */
	for (i = 0; i < ARRAY_SIZE(known); i++) {
		if (e->nr_bytes < sizeof(known[i]) || memcmp(e->bytes, known[i], sizeof(known[i])) ||
		    !memcmp(known[i], vcpu->be->hypercall, sizeof(known[i])))
			continue;
		vcpu->be->get_code(vcpu, &code);
		return pvhv_write_linear(vcpu, code.mode == PVHV_MODE_64 ? vcpu->rip :
					 (u32)(code.base + vcpu->rip),
					 vcpu->be->hypercall, sizeof(vcpu->be->hypercall)) >= 0;
	}
	return false;
}
