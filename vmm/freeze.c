// SPDX-License-Identifier: GPL-2.0
/*
 * Standing still, so that all of a machine can be saved or handed over.
 *  1. vm_freeze(): the vCPUs are held and parked, none is within an access;
 *     the virtio devices have nothing in flight and touch no guest memory.
 *     Whoever asked is called when that is so.
 *  2. vm_thaw(): the way back, at any time.
 *
 * A vCPU that waits for room in the console would be within an access for as
 * long as nobody reads, so the console takes what it has to say.
 */
#include <errno.h>

#include "virtio.h"

static void set_quiet(struct vm *vm)
{
	struct freeze *f = vm->freeze;

	f->devices = true;
	vm_virtio_pause(vm);
}

/* After loop_wake(): is all still by now? */
void freeze_service(struct vm *vm)
{
	struct freeze *f = vm->freeze;

	if (!f || f->frozen)
		return;
	if (vm_stopping(vm)) {
		vm->freeze = NULL;
		f->done(f, -ECANCELED);
		return;
	}
	if (!vm_parked(vm))
		return;
	if (!f->devices)
		set_quiet(vm);
	if (!vm_virtio_quiet(vm))
		return;
	f->frozen = true;
	f->done(f, 0);
}

/* -EBUSY: somebody else has it frozen.  Done may be called from within. */
int vm_freeze(struct vm *vm, struct freeze *f)
{
	if (vm->freeze)
		return -EBUSY;
	if (vm_stopping(vm))
		return -ECANCELED;
	f->devices = false;
	f->frozen = false;
	vm->freeze = f;
	console_yield(vm->console, true);
	vm_pause(vm, PAUSE_MOVE);
	loop_wake();
	return 0;
}

void vm_thaw(struct vm *vm)
{
	struct freeze *f = vm->freeze;

	if (!f)
		return;
	vm->freeze = NULL;
	console_yield(vm->console, false);
	/* The guest first: it has waited, and does not see that its devices begin a moment later. */
	vm_resume(vm, PAUSE_MOVE);
	if (f->devices)
		vm_virtio_resume(vm);
}
