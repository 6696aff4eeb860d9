// SPDX-License-Identifier: GPL-2.0
/*
 * run.c - KVM_RUN. Three loops, each inside the other:
 *  1. pvhv_vcpu_run(): what userspace sees: completion of the last exit,
 *     the signal mask, the FPU; then run_loop().
 *  2. run_loop(): until userspace is needed: enter the guest, or sleep while
 *     the guest is halted.
 *  3. enter_guest(): interrupts off: enter, handle the exit, enter again, for
 *     as long as exits can be handled without turning interrupts on.
 * vmm/vcpu.c is the userspace twin of this file.
 */
#include <linux/context_tracking.h>
#include <linux/ktime.h>
#include <linux/sched/signal.h>
#include <linux/sched/stat.h>
#include <linux/task_work.h>
#include <linux/vtime.h>
#include <asm/fpu/xcr.h>
#include <asm/special_insns.h>

#include "pvhv.h"
#include "trace.h"

#define HALT_POLL_START_NS	10000	/* first poll after a short sleep */

/* --- work that the thread owes the rest of the kernel --- */

/*
 * TIF_NOTIFY_RESUME stays set for rseq until the thread returns to
 * userspace; only queued task work makes it worth leaving the guest.
 */
static bool thread_work_pending(void)
{
	unsigned long ti = read_thread_flags();

	if (likely(!(ti & (_TIF_NEED_RESCHED | _TIF_SIGPENDING |
			   _TIF_NOTIFY_SIGNAL | _TIF_NOTIFY_RESUME))))
		return false;
	return (ti & ~_TIF_NOTIFY_RESUME) & (_TIF_NEED_RESCHED | _TIF_SIGPENDING | _TIF_NOTIFY_SIGNAL) ||
	       task_work_pending(current);
}

static int do_thread_work(struct pvhv_vcpu *vcpu)
{
	if (signal_pending(current)) {
		vcpu->run->exit_reason = KVM_EXIT_INTR;
		vcpu->stat.signal_exits++;
		return -EINTR;
	}
	if (need_resched()) {
		srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
		cond_resched();
		vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	}
	if (task_work_pending(current)) {
		/* It runs on the way to userspace, see restart_unseen(). */
		return -ERESTARTNOINTR;
	}
	return PVHV_RESUME;
}

/* --- requests --- */

static int handle_requests(struct pvhv_vcpu *vcpu)
{
	vcpu->stat.request_exits++;
	/* An interrupt, and the thread had not its CPU: all there is where devices do I/O. */
	if (!(READ_ONCE(vcpu->requests) & ~(BIT(PVHV_REQ_STEAL_UPDATE) | BIT(PVHV_REQ_EVENT)))) {
		if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_STEAL_UPDATE))
			pvhv_steal_update(vcpu);
		if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_EVENT))
			vcpu->event_check = true;
		return PVHV_RESUME;
	}
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_VM_DEAD))
		return -EIO;
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_SYNC)) {
		srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
		vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	}
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_TLB_FLUSH))
		pvhv_flush_tlb(vcpu);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_TRIPLE_FAULT)) {
		vcpu->run->exit_reason = KVM_EXIT_SHUTDOWN;
		return PVHV_TO_USER;
	}
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_DEBUG_STEP))
		return pvhv_debug_step(vcpu);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_USER_EOI)) {
		int r = pvhv_split_eoi_exit(vcpu);

		if (r <= 0)
			return r;
	}
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_APIC_EVENTS)) {
		int r = pvhv_lapic_events(vcpu);

		if (r <= 0)
			return r;
	}
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_PV_EOI))
		pvhv_lapic_sync_pv_eoi_from_guest(vcpu);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_VIRTUAL_APIC))
		pvhv_lapic_choose_virtual(vcpu);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_MSR_FILTER))
		vcpu->be->sync(vcpu, PVHV_SYNC_MSRS);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_CLOCK_UPDATE))
		pvhv_clock_update(vcpu);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_STEAL_UPDATE))
		pvhv_steal_update(vcpu);
	clear_bit(PVHV_REQ_UNBLOCK, &vcpu->requests);
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_NMI))
		vcpu->event_check = true;
	if (pvhv_test_and_clear_request(vcpu, PVHV_REQ_EVENT))
		vcpu->event_check = true;
	return PVHV_RESUME;
}

/* --- extended state that VMRUN does not switch --- */

static u64 host_xcr0, host_xss;	/* alike on all CPUs and never changed */

void __init pvhv_run_init(void)
{
	if (boot_cpu_has(X86_FEATURE_XSAVE))
		host_xcr0 = xgetbv(XCR_XFEATURE_ENABLED_MASK);
	if (boot_cpu_has(X86_FEATURE_XSAVES))
		rdmsrl(MSR_IA32_XSS, host_xss);
}

static void load_guest_xstate(struct pvhv_vcpu *vcpu)
{
	if (vcpu->cr4 & X86_CR4_OSXSAVE) {
		if (vcpu->xcr0 != host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, vcpu->xcr0);
		if (vcpu->xss != host_xss)
			wrmsrl(MSR_IA32_XSS, vcpu->xss);
	}
	if (vcpu->cr4 & X86_CR4_PKE) {
		vcpu->host_pkru = rdpkru();
		if (vcpu->pkru != vcpu->host_pkru)
			wrpkru(vcpu->pkru);
	}
}

static void put_guest_xstate(struct pvhv_vcpu *vcpu)
{
	if (vcpu->cr4 & X86_CR4_PKE) {
		vcpu->pkru = rdpkru();
		if (vcpu->pkru != vcpu->host_pkru)
			wrpkru(vcpu->host_pkru);
	}
	if (vcpu->cr4 & X86_CR4_OSXSAVE) {
		if (vcpu->xcr0 != host_xcr0)
			xsetbv(XCR_XFEATURE_ENABLED_MASK, host_xcr0);
		if (vcpu->xss != host_xss)
			wrmsrl(MSR_IA32_XSS, host_xss);
	}
}

/* --- 3. interrupts off --- */

/*
 * The last look before the guest runs. Whoever posts a request sets the bit,
 * then reads mode; we set mode, then read the bits: one of the two sees the
 * other. After this point interrupts are off, so a kick ends the guest at once.
 */
static bool may_enter(struct pvhv_vcpu *vcpu)
{
	smp_store_mb(vcpu->mode, PVHV_IN_GUEST);
	if (unlikely(vcpu->requests)) {
		if (vcpu->requests != BIT(PVHV_REQ_EVENT))
			return false;
		clear_bit(PVHV_REQ_EVENT, &vcpu->requests);
		smp_mb__after_atomic();
		vcpu->event_check = true;
	}
	/* Likewise; what comes from here on hardware finds as it enters. */
	if (unlikely(pvhv_posted_waits(vcpu)))
		pvhv_lapic_collect_posted(vcpu);
	return !thread_work_pending();
}

/* Userspace injects interrupts itself and wants to know when it can. */
static bool user_irq_window_open(struct pvhv_vcpu *vcpu)
{
	return vcpu->pic_in_user && vcpu->run->request_interrupt_window &&
	       pvhv_user_pic_ready(vcpu) && !vcpu->irq.injected && !vcpu->excp.pending &&
	       vcpu->be->irq_allowed(vcpu);
}

static int enter_guest(struct pvhv_vcpu *vcpu)
{
	const struct pvhv_backend *be = vcpu->be;
	int r = PVHV_RESUME;

	if (unlikely(READ_ONCE(vcpu->requests))) {
		r = handle_requests(vcpu);
		if (r <= 0)
			return r;
		/* An INIT stopped it. */
		if (vcpu->mp_state != KVM_MP_STATE_RUNNABLE)
			return PVHV_RESUME;
	}
	if (unlikely(user_irq_window_open(vcpu))) {
		vcpu->run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
		return PVHV_TO_USER;
	}

	preempt_disable();
	local_irq_disable();
	if (unlikely(!this_cpu_read(pvhv_virt_on))) {
		/* This CPU goes offline; the scheduler will move us. */
		local_irq_enable();
		preempt_enable();
		schedule_timeout_uninterruptible(1);
		return do_thread_work(vcpu);
	}
	if (test_thread_flag(TIF_NEED_FPU_LOAD))
		switch_fpu_return();
	load_guest_xstate(vcpu);

	vcpu->exit.kind = PVHV_EXIT_NONE;
	vtime_account_guest_enter();
	while (may_enter(vcpu)) {
		if (vcpu->event_check || vcpu->excp.pending)
			pvhv_inject_events(vcpu);
		if (vcpu->pv.pv_eoi_msr)
			pvhv_lapic_sync_pv_eoi_to_guest(vcpu);
		trace_pvhv_entry(vcpu);

		context_tracking_guest_enter();
		be->enter(vcpu);
		context_tracking_guest_exit();

		WRITE_ONCE(vcpu->mode, PVHV_OUTSIDE_GUEST);
		vcpu->stat.exits++;
		trace_pvhv_exit(vcpu);

		r = pvhv_handle_exit_fast(vcpu);
		if (r != PVHV_RESUME)
			break;
		vcpu->exit.kind = PVHV_EXIT_NONE;
		vcpu->stat.fast_reentries++;
	}
	WRITE_ONCE(vcpu->mode, PVHV_OUTSIDE_GUEST);

	pvhv_distrust_branches();
	put_guest_xstate(vcpu);
	/* The interrupt that ended the guest is taken here, as guest time. */
	if (be->take_interrupt)
		be->take_interrupt(vcpu);
	local_irq_enable();
	if (vcpu->exit.kind == PVHV_EXIT_INTR) {
		vcpu->stat.irq_exits++;
		rcu_note_context_switch(false);
	}
	local_irq_disable();
	vtime_account_guest_exit();
	local_irq_enable();
	preempt_enable();

	if (r == PVHV_SLOW)
		r = pvhv_handle_exit(vcpu);
	if (r == PVHV_RESUME && unlikely(thread_work_pending()))
		r = do_thread_work(vcpu);
	return r;
}

/* --- 2. until userspace is needed --- */

bool pvhv_vcpu_runnable(struct pvhv_vcpu *vcpu)
{
	if (vcpu->mp_state == KVM_MP_STATE_RUNNABLE)
		return true;
	if (vcpu->lapic && pvhv_lapic_has_events(vcpu))
		return true;
	if (vcpu->mp_state != KVM_MP_STATE_HALTED)
		return false;
	return vcpu->pv_unhalted || pvhv_events_pending(vcpu);
}

/* Also what ends a sleep: requests are answered by the loop, not here. */
static bool must_wake(struct pvhv_vcpu *vcpu)
{
	return READ_ONCE(vcpu->requests) || pvhv_posted_waits(vcpu) || pvhv_vcpu_runnable(vcpu) ||
	       thread_work_pending();
}

/* Wakes soon after going to sleep make polling longer, long sleeps end it. */
static void adjust_halt_poll(struct pvhv_vcpu *vcpu, u64 slept_ns)
{
	unsigned int max = READ_ONCE(vcpu->vm->max_halt_poll_ns);

	if (slept_ns <= vcpu->halt_poll_ns)
		return;
	if (slept_ns > max)
		vcpu->halt_poll_ns = 0;
	else
		vcpu->halt_poll_ns = min(max, vcpu->halt_poll_ns ? vcpu->halt_poll_ns * 2 :
						HALT_POLL_START_NS);
}

/* Only time that nobody else has a use for: who waits for the CPU does not
 * always ask for it (batch tasks do not), and may be the one to wake us. */
static bool halt_poll(struct pvhv_vcpu *vcpu, ktime_t start)
{
	ktime_t stop = ktime_add_ns(start, vcpu->halt_poll_ns);

	if (!vcpu->halt_poll_ns || !single_task_running())
		return false;
	vcpu->stat.halt_polls++;
	do {
		if (must_wake(vcpu)) {
			vcpu->stat.halt_poll_success++;
			return true;
		}
		cpu_relax();
	} while (single_task_running() && !need_resched() &&
		 ktime_before(ktime_get(), stop));
	return false;
}

static void sleep_until_woken(struct pvhv_vcpu *vcpu)
{
	prepare_to_rcuwait(&vcpu->wait);
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (must_wake(vcpu))
			break;
		schedule();
	}
	finish_rcuwait(&vcpu->wait);
	vcpu->stat.halt_wakeups++;
}

/* What ended the sleep may have made the vCPU runnable. */
static int after_sleep(struct pvhv_vcpu *vcpu)
{
	int r;

	if (READ_ONCE(vcpu->requests)) {
		r = handle_requests(vcpu);
		if (r <= 0)
			return r;
	}
	if (pvhv_posted_waits(vcpu))
		pvhv_lapic_collect_posted(vcpu);
	if (vcpu->lapic && pvhv_lapic_has_events(vcpu)) {
		r = pvhv_lapic_events(vcpu);
		if (r <= 0)
			return r;
	}
	if (vcpu->mp_state == KVM_MP_STATE_HALTED && pvhv_vcpu_runnable(vcpu)) {
		vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
		vcpu->pv_unhalted = false;
		vcpu->event_check = true;
	}
	return thread_work_pending() ? do_thread_work(vcpu) : PVHV_RESUME;
}

static int block(struct pvhv_vcpu *vcpu)
	__releases(&vcpu->vm->srcu)
	__acquires(&vcpu->vm->srcu)
{
	ktime_t start = ktime_get();
	bool polled;
	u64 slept;

	if (vcpu->enter_until)
		pvhv_lapic_timer_sleep(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
	polled = halt_poll(vcpu, start);
	if (!polled)
		sleep_until_woken(vcpu);
	vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);

	slept = ktime_to_ns(ktime_sub(ktime_get(), start));
	if (vcpu->mp_state == KVM_MP_STATE_HALTED)
		adjust_halt_poll(vcpu, slept);
	trace_pvhv_halt_poll(vcpu->id, polled, slept);
	return after_sleep(vcpu);
}

static int run_loop(struct pvhv_vcpu *vcpu)
{
	int r;

	/* An exit that only finished the last one leaves its reason standing, as KVM's does. */
	vcpu->run->exit_reason = KVM_EXIT_UNKNOWN;
	do {
		if (likely(vcpu->mp_state == KVM_MP_STATE_RUNNABLE))
			r = enter_guest(vcpu);
		else
			r = block(vcpu);
	} while (r > 0);
	return r;
}

/* --- 1. KVM_RUN --- */

static void publish_run_state(struct pvhv_vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	run->if_flag = !!(vcpu->rflags & X86_EFLAGS_IF);
	run->apic_base = vcpu->apic_base;
	run->flags = 0;
	run->cr8 = vcpu->lapic ? pvhv_lapic_get_tpr(vcpu) : vcpu->cr8;
	run->ready_for_interrupt_injection = !vcpu->pic_in_user ||
		(pvhv_user_pic_ready(vcpu) && !vcpu->irq.injected && !vcpu->excp.pending &&
		 !vcpu->excp.injected && vcpu->be->irq_allowed(vcpu));
}

static int run_with_fpu(struct pvhv_vcpu *vcpu)
{
	int r = PVHV_RESUME;

	vcpu->stat.host_state_reloads++;
	fpu_swap_kvm_fpstate(&vcpu->fpu, true);
	vcpu->srcu_idx = srcu_read_lock(&vcpu->vm->srcu);
	if (vcpu->complete) {
		int (*complete)(struct pvhv_vcpu *vcpu) = vcpu->complete;

		vcpu->complete = NULL;
		r = complete(vcpu);
		if (r > 0 && pvhv_test_and_clear_request(vcpu, PVHV_REQ_DEBUG_STEP))
			r = pvhv_debug_step(vcpu);
	}
	/* Read after the completion: "complete this exit, then stop". */
	if (r > 0 && READ_ONCE(vcpu->run->PVHV_IMMEDIATE_EXIT))
		r = -EINTR;
	if (r > 0)
		r = run_loop(vcpu);
	srcu_read_unlock(&vcpu->vm->srcu, vcpu->srcu_idx);
	fpu_swap_kvm_fpstate(&vcpu->fpu, false);
	return r;
}

/*
 * Task work has to run. A pretended signal makes the way to userspace restart
 * this ioctl, so that nobody sees it. Last of all: sigprocmask() looks for real
 * signals and would take the flag away.
 */
static void restart_unseen(void)
{
	set_thread_flag(TIF_SIGPENDING);
}

int pvhv_vcpu_run(struct pvhv_vcpu *vcpu)
{
	sigset_t saved;
	int r;

	if (unlikely(vcpu->run->kvm_dirty_regs || vcpu->run->kvm_valid_regs)) {
		r = pvhv_sync_regs_in(vcpu);
		if (r)
			return r;
	}
	if (!vcpu->lapic && pvhv_set_cr8(vcpu, vcpu->run->cr8))
		return -EINVAL;
	if (vcpu->pic_in_user && vcpu->run->request_interrupt_window)
		vcpu->event_check = true;
	if (vcpu->sigset_active)
		sigprocmask(SIG_SETMASK, &vcpu->sigset, &saved);
	pvhv_note_thread(vcpu);
	pvhv_vcpu_load(vcpu);
	r = run_with_fpu(vcpu);
	pvhv_vcpu_put(vcpu);
	publish_run_state(vcpu);
	if (unlikely(vcpu->run->kvm_valid_regs))
		pvhv_sync_regs_out(vcpu);
	if (vcpu->sigset_active)
		sigprocmask(SIG_SETMASK, &saved, NULL);
	if (r == -ERESTARTNOINTR)
		restart_unseen();
	return r;
}
