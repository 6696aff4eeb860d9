// SPDX-License-Identifier: GPL-2.0
/*
 * A guest that writes faster than its memory can be copied gets less time: in
 * each period its vCPUs nap for a part of it.  A nap ends when the machine is
 * to be held.
 */
#include <errno.h>

#include "vmm.h"

#define PERIOD_US	25000U
#define PERCENT_MAX	99U

static struct {
	struct vm *vm;
	struct loop_op op;
} throttle;

static void period(struct loop_op *op, int res)
{
	struct vm *vm = throttle.vm;
	u32 i;

	(void)res;
	if (!atomic_load(&vm->nap_us) || vm_stopping(vm))
		return;
	for (i = 0; i < vm->nr_vcpus; i++) {
		atomic_store(&vm->vcpus[i].nap, true);
		vcpu_kick(&vm->vcpus[i]);
	}
	loop_timer_us(op, PERIOD_US);
}

/* @percent of the guest's time is taken away; 0: none. */
int vm_throttle(struct vm *vm, unsigned int percent)
{
	if (percent > PERCENT_MAX)
		return -EINVAL;
	throttle.vm = vm;
	throttle.op.done = period;
	atomic_store(&vm->nap_us, PERIOD_US / 100 * percent);
	if (percent && !throttle.op.busy)
		return loop_timer_us(&throttle.op, PERIOD_US);
	return 0;
}

/* Before loop_fini(). */
void vm_throttle_end(struct vm *vm)
{
	atomic_store(&vm->nap_us, 0);
	loop_cancel(&throttle.op);
}
