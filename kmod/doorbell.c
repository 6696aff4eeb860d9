// SPDX-License-Identifier: GPL-2.0
/*
 * doorbell.c - the guest's hypercall PVHV_HC_KICK signals an eventfd:
 *  1. PVHV_SET_DOORBELL: numbers and their eventfds,
 *  2. the hypercall; from a 64-bit kernel it needs no decoding, its length is
 *     part of the ABI (linux/pvhv_para.h).
 *
 * The array only grows, by a copy; its entries change in place. Writers hold
 * vm->slots_lock, vCPUs read under vm->srcu.
 */
#include <linux/eventfd.h>
#include <linux/nospec.h>
#include <linux/slab.h>

#include "pvhv.h"
#include "trace.h"
#include <linux/pvhv.h>
#include <linux/pvhv_para.h>

#define GROW_MIN	64

struct pvhv_doorbells {
	u32 nr;
	struct eventfd_ctx *ctx[];	/* NULL: no such doorbell */
};

static struct pvhv_doorbells *writers(struct pvhv_vm *vm)
{
	return rcu_dereference_protected(vm->doorbells, lockdep_is_held(&vm->slots_lock));
}

static void sync_readers(struct pvhv_vm *vm)
{
	/* A vCPU that is not counted yet will see what was stored. */
	smp_mb();
	if (smp_load_acquire(&vm->nr_vcpus))
		pvhv_srcu_sync(vm);
}

static struct pvhv_doorbells *grow(struct pvhv_vm *vm, u32 id)
{
	struct pvhv_doorbells *old = writers(vm), *new;
	u32 nr = roundup_pow_of_two(max_t(u32, id + 1, GROW_MIN));

	if (old && id < old->nr)
		return old;
	new = kvzalloc(struct_size(new, ctx, nr), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;
	new->nr = nr;
	if (old)
		memcpy(new->ctx, old->ctx, old->nr * sizeof(old->ctx[0]));
	rcu_assign_pointer(vm->doorbells, new);
	if (old)
		sync_readers(vm);
	kvfree(old);
	return new;
}

static int assign(struct pvhv_vm *vm, u32 id, struct eventfd_ctx *ctx)
{
	struct pvhv_doorbells *bells = grow(vm, id);

	if (!bells)
		return -ENOMEM;
	if (bells->ctx[id])
		return -EEXIST;
	smp_store_release(&bells->ctx[id], ctx);
	return 0;
}

static int deassign(struct pvhv_vm *vm, u32 id, struct eventfd_ctx *ctx)
{
	struct pvhv_doorbells *bells = writers(vm);

	if (!bells || id >= bells->nr || bells->ctx[id] != ctx)
		return -ENOENT;
	WRITE_ONCE(bells->ctx[id], NULL);
	sync_readers(vm);
	eventfd_ctx_put(ctx);
	return 0;
}

long pvhv_ioctl_set_doorbell(void *obj, void *data, unsigned long arg)
{
	const struct pvhv_doorbell *args = data;
	struct pvhv_vm *vm = obj;
	struct eventfd_ctx *ctx;
	int ret;

	if (args->flags & ~PVHV_DOORBELL_DEASSIGN || args->pad || args->id >= PVHV_DOORBELLS_MAX)
		return -EINVAL;
	ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	mutex_lock(&vm->slots_lock);
	if (args->flags & PVHV_DOORBELL_DEASSIGN)
		ret = deassign(vm, args->id, ctx);
	else
		ret = assign(vm, args->id, ctx);
	mutex_unlock(&vm->slots_lock);
	if (ret || (args->flags & PVHV_DOORBELL_DEASSIGN))
		eventfd_ctx_put(ctx);	/* else the array keeps it */
	return ret;
}

/* The VM goes: no vCPU runs any more. */
void pvhv_doorbells_destroy(struct pvhv_vm *vm)
{
	struct pvhv_doorbells *bells = rcu_dereference_protected(vm->doorbells, 1);
	u32 i;

	for (i = 0; bells && i < bells->nr; i++) {
		if (bells->ctx[i])
			eventfd_ctx_put(bells->ctx[i]);
	}
	RCU_INIT_POINTER(vm->doorbells, NULL);
	kvfree(bells);
}

/* Any context, with vm->srcu; the hypercall's result. */
long pvhv_doorbell_ring(struct pvhv_vm *vm, u64 id)
{
	const struct pvhv_doorbells *bells = srcu_dereference(vm->doorbells, &vm->srcu);
	struct eventfd_ctx *ctx;

	if (unlikely(!bells || id >= bells->nr))
		return -KVM_EINVAL;
	ctx = smp_load_acquire(&bells->ctx[array_index_nospec(id, bells->nr)]);
	if (unlikely(!ctx))
		return -KVM_EINVAL;
	pvhv_eventfd_signal(ctx);
	return 0;
}

/* PVHV_HC_KICK, interrupts off; PVHV_SLOW: it needs the usual way. */
int pvhv_doorbell_fast(struct pvhv_vcpu *vcpu)
{
	struct pvhv_code code;
	u64 next = vcpu->exit.next_rip;

	vcpu->be->get_code(vcpu, &code);
	if (unlikely(code.cpl || code.mode != PVHV_MODE_64))
		return PVHV_SLOW;
	pvhv_finish_insn(vcpu, next ? next : vcpu->rip + PVHV_HC_KICK_BYTES);
	trace_pvhv_hypercall(PVHV_HC_KICK, vcpu->gpr[PVHV_RBX], 0, 0, 0);
	vcpu->gpr[PVHV_RAX] = pvhv_doorbell_ring(vcpu->vm, vcpu->gpr[PVHV_RBX]);
	vcpu->stat.hypercalls++;
	return PVHV_RESUME;
}
