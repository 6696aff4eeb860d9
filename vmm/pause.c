// SPDX-License-Identifier: GPL-2.0
/*
 * Holding the vCPUs, for one or several reasons at a time.
 *  1. vm_pause() and vm_resume(): the machine runs when no owner holds it.
 *  2. A pause is complete when every vCPU is outside of KVM_RUN with
 *     immediate_exit set: from then on none executes an instruction of the
 *     guest.  A vCPU parks before its first KVM_RUN, and after one that has
 *     returned -EINTR, so that no access of a device is half done then.
 *  3. Who has to know is told: waiters once, notifiers at every change.
 *
 * A vCPU thread that waits for room in the console counts as held: it may
 * wait for as long as nobody reads, and goes through 2 when it has waited.
 */

#include "clock.h"
#include "vmm.h"

/* Longer than any host needs to wake a thread: then one waits for the console */
#define GO_US	1000000U

void pause_init(struct vm *vm)
{
	pthread_mutex_init(&vm->pause.lock, NULL);
	pthread_cond_init(&vm->pause.go, NULL);
	pthread_cond_init(&vm->pause.gone, NULL);
}

void pause_fini(struct vm *vm)
{
	pthread_cond_destroy(&vm->pause.gone);
	pthread_cond_destroy(&vm->pause.go);
	pthread_mutex_destroy(&vm->pause.lock);
}

/* The main thread's side. */

static void tell(struct vm *vm, bool running)
{
	struct run_notifier *n, *next;

	for (n = vm->pause.notifiers; n; n = next) {
		next = n->next;
		n->changed(n, running);
	}
}

static void end_waits(struct vm *vm, bool paused)
{
	struct pause_wait *w = vm->pause.waits, *next;

	vm->pause.waits = NULL;
	for (; w; w = next) {
		next = w->next;
		w->done(w, paused);
	}
}

/* After loop_wake(): has the last vCPU stopped? */
void pause_service(struct vm *vm)
{
	struct pause *p = &vm->pause;
	bool complete;

	if (vm_stopping(vm)) {
		end_waits(vm, false);
		return;
	}
	pthread_mutex_lock(&p->lock);
	complete = p->hold && p->held == vm->nr_vcpus;
	pthread_mutex_unlock(&p->lock);
	if (!complete || p->complete)
		return;
	p->complete = true;
	tell(vm, false);
	end_waits(vm, true);
}

void vm_pause(struct vm *vm, u32 owner)
{
	struct pause *p = &vm->pause;
	u32 i;

	p->owners |= owner;
	pthread_mutex_lock(&p->lock);
	/* Under the lock: a vCPU that is let go clears what this sets. */
	if (!p->hold)
		for (i = 0; i < vm->nr_vcpus; i++)
			vcpu_kick(&vm->vcpus[i]);
	p->hold = true;
	pthread_cond_broadcast(&p->go);		/* who naps */
	pthread_mutex_unlock(&p->lock);
	loop_wake();
}

/* Returns who holds the machine still, 0 if it runs. */
u32 vm_resume(struct vm *vm, u32 owners)
{
	struct pause *p = &vm->pause;

	if (!(p->owners & owners))
		return p->owners;
	p->owners &= ~owners;
	if (p->owners)
		return p->owners;
	p->complete = false;
	end_waits(vm, false);
	/* Devices first: one of them may have to stop the machine again. */
	tell(vm, true);
	if (p->owners)
		return p->owners;
	pthread_mutex_lock(&p->lock);
	p->hold = false;
	pthread_cond_broadcast(&p->go);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

bool vm_paused(const struct vm *vm)
{
	return vm->pause.complete;
}

/* The same, and no vCPU is within an access. */
bool vm_parked(struct vm *vm)
{
	struct pause *p = &vm->pause;
	bool parked;

	pthread_mutex_lock(&p->lock);
	parked = p->complete && p->held == vm->nr_vcpus && !p->waiting;
	pthread_mutex_unlock(&p->lock);
	return parked;
}

/* Calls back when the machine is paused, or will not be: at once if it is. */
void vm_when_paused(struct vm *vm, struct pause_wait *wait)
{
	if (vm->pause.complete) {
		wait->done(wait, true);
		return;
	}
	wait->next = vm->pause.waits;
	vm->pause.waits = wait;
}

void vm_add_notifier(struct vm *vm, struct run_notifier *n)
{
	struct run_notifier **p = &vm->pause.notifiers;

	while (*p)
		p = &(*p)->next;
	n->next = NULL;
	*p = n;
}

/* The machine stops: who is parked has to see it. */
void pause_release(struct vm *vm)
{
	pthread_mutex_lock(&vm->pause.lock);
	pthread_cond_broadcast(&vm->pause.go);
	pthread_mutex_unlock(&vm->pause.lock);
}

/* Any other thread, after a vm_resume(): the vCPUs are on their way into the guest, unless somebody else holds them. */
void pause_await_go(struct vm *vm)
{
	struct pause *p = &vm->pause;
	struct timespec end = clock_after_us(GO_US);
	int over = 0;

	pthread_mutex_lock(&p->lock);
	while (p->held && !p->hold && !vm_stopping(vm) && !over)
		over = pthread_cond_clockwait(&p->gone, &p->lock,
					      CLOCK_MONOTONIC, &end);
	pthread_mutex_unlock(&p->lock);
}

/* The vCPUs' side. */

static void hold(struct vm *vm)
{
	struct pause *p = &vm->pause;

	p->held++;
	if (p->hold && p->held == vm->nr_vcpus)
		loop_wake();
}

static void let_go(struct vm *vm)
{
	if (!--vm->pause.held)
		pthread_cond_broadcast(&vm->pause.gone);
}

/* A vCPU waits, or waits no more, for something other than the guest. */
void pause_waiting(struct vm *vm, bool waits)
{
	pthread_mutex_lock(&vm->pause.lock);
	if (waits) {
		vm->pause.waiting++;
		hold(vm);
	} else {
		vm->pause.waiting--;
		let_go(vm);
	}
	pthread_mutex_unlock(&vm->pause.lock);
}

/* Some time without the guest, unless it is to be held meanwhile. */
void pause_nap(struct vm *vm, u32 us)
{
	struct pause *p = &vm->pause;
	struct timespec end = clock_after_us(us);
	int over = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->hold && !vm_stopping(vm) && !over)
		over = pthread_cond_clockwait(&p->go, &p->lock, CLOCK_MONOTONIC,
					      &end);
	pthread_mutex_unlock(&p->lock);
}

/* KVM_RUN was interrupted; true if the vCPU was held, and is let go now. */
bool pause_park(struct vm *vm, u8 *immediate_exit)
{
	struct pause *p = &vm->pause;
	bool parked = false;

	pthread_mutex_lock(&p->lock);
	while (p->hold && !vm_stopping(vm)) {
		if (!parked)
			hold(vm);
		parked = true;
		pthread_cond_wait(&p->go, &p->lock);
	}
	if (parked)
		let_go(vm);
	/* Whoever stops the machine sets it after vm_stopping() is true. */
	__atomic_store_n(immediate_exit, 0, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&p->lock);
	return parked;
}
