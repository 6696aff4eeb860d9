// SPDX-License-Identifier: GPL-2.0
/*
 * eventfd.c - eventfds as interrupt lines and as doorbells:
 *  1. irqfd: a write to an eventfd raises a GSI, at once and in whatever
 *     context the writer is in; it ends with its eventfd's last close,
 *  2. resampling irqfds: level lines, lowered and reported at the guest's EOI,
 *  3. ioeventfd: a guest's write to an address signals an eventfd.
 *
 * Locks: vm->irq_lock (assignment, shutdown); vm->irqfd_lock, inside the
 * eventfd's wait-queue lock: membership in vm->irqfds, whose remover shuts the
 * irqfd down. ioeventfds: vm->slots_lock.
 */
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "pvhv.h"

/* All resampling irqfds of one GSI share its line. */
struct resampler {
	struct pvhv_ack_notifier ack;
	struct list_head irqfds;	/* irq_lock / srcu */
	struct list_head link;		/* vm->resamplers, irq_lock */
};

struct irqfd {
	struct pvhv_vm *vm;
	struct eventfd_ctx *ctx;
	u32 gsi;
	wait_queue_entry_t wait;
	poll_table poll;
	struct list_head link;		/* vm->irqfds while active, irqfd_lock */
	bool active;			/* irqfd_lock; who clears it shuts it down */
	struct work_struct shutdown;
	struct resampler *resampler;	/* NULL: edge */
	struct eventfd_ctx *resample_ctx;
	struct list_head resampler_link;
};

struct ioeventfd {
	struct pvhv_io_dev dev;
	struct list_head link;		/* vm->ioeventfds, slots_lock */
	struct eventfd_ctx *ctx;
	u64 addr;
	u64 datamatch;
	u32 len;			/* 0: any */
	bool match;
	enum pvhv_bus bus;
};

static struct workqueue_struct *shutdown_wq;

int pvhv_eventfd_module_init(void)
{
	shutdown_wq = alloc_workqueue("pvhv-irqfd", 0, 0);
	return shutdown_wq ? 0 : -ENOMEM;
}

void pvhv_eventfd_module_exit(void)
{
	destroy_workqueue(shutdown_wq);
}

void pvhv_eventfd_init(struct pvhv_vm *vm)
{
	spin_lock_init(&vm->irqfd_lock);
	INIT_LIST_HEAD(&vm->irqfds);
	INIT_LIST_HEAD(&vm->resamplers);
	INIT_LIST_HEAD(&vm->irq_ack_notifiers);
	INIT_LIST_HEAD(&vm->ioeventfds);
}

/* --------------------------------------------------------------- irqfd -- */

/* Any context; nothing on this way signals an eventfd in its turn. */
static void inject(struct irqfd *irqfd)
{
	struct pvhv_vm *vm = irqfd->vm;
	int idx = srcu_read_lock(&vm->srcu);

	if (irqfd->resampler)
		pvhv_set_irq(vm, PVHV_IRQ_SOURCE_RESAMPLE, irqfd->gsi, 1);
	else
		pvhv_pulse_irq(vm, PVHV_IRQ_SOURCE_USER, irqfd->gsi);
	srcu_read_unlock(&vm->srcu, idx);
}

/* Under the eventfd's wait-queue lock, irqs off. */
static int irqfd_wakeup(wait_queue_entry_t *wait, unsigned int mode, int sync, void *key)
{
	struct irqfd *irqfd = container_of(wait, struct irqfd, wait);
	__poll_t events = key_to_poll(key);
	unsigned long flags;
	int consumed = 0;
	u64 count;

	if (events & EPOLLIN) {
		eventfd_ctx_do_read(irqfd->ctx, &count);
		inject(irqfd);
		consumed = 1;
	}
	if (events & EPOLLHUP) {
		spin_lock_irqsave(&irqfd->vm->irqfd_lock, flags);
		if (irqfd->active) {
			irqfd->active = false;
			list_del(&irqfd->link);
			queue_work(shutdown_wq, &irqfd->shutdown);
		}
		spin_unlock_irqrestore(&irqfd->vm->irqfd_lock, flags);
	}
	return consumed;
}

static void irqfd_poll_queue(struct file *file, wait_queue_head_t *head, poll_table *poll)
{
	struct irqfd *irqfd = container_of(poll, struct irqfd, poll);

	/* Before pollers in userspace: what we take they need not see. */
	add_wait_queue_priority(head, &irqfd->wait);
}

/* The guest's EOI: the line falls until a device that still wants to raises
 * its eventfd again. */
static void resampler_acked(struct pvhv_vm *vm, struct pvhv_ack_notifier *ack)
{
	struct resampler *r = container_of(ack, struct resampler, ack);
	struct irqfd *irqfd;

	pvhv_set_irq(vm, PVHV_IRQ_SOURCE_RESAMPLE, ack->gsi, 0);
	list_for_each_entry_srcu(irqfd, &r->irqfds, resampler_link,
				 srcu_read_lock_held(&vm->srcu))
		pvhv_eventfd_signal(irqfd->resample_ctx);
}

/* irq_lock held. */
static int resampler_join(struct irqfd *irqfd)
{
	struct pvhv_vm *vm = irqfd->vm;
	struct resampler *r;

	list_for_each_entry(r, &vm->resamplers, link) {
		if (r->ack.gsi == irqfd->gsi)
			goto join;
	}
	r = kzalloc(sizeof(*r), GFP_KERNEL_ACCOUNT);
	if (!r)
		return -ENOMEM;
	r->ack.gsi = irqfd->gsi;
	r->ack.acked = resampler_acked;
	INIT_LIST_HEAD(&r->irqfds);
	list_add(&r->link, &vm->resamplers);
	pvhv_ack_notifier_add(vm, &r->ack);
join:
	list_add_rcu(&irqfd->resampler_link, &r->irqfds);
	irqfd->resampler = r;
	return 0;
}

/* irq_lock held; the eventfd no longer calls. */
static void resampler_leave(struct irqfd *irqfd)
{
	struct resampler *r = irqfd->resampler;
	struct pvhv_vm *vm = irqfd->vm;
	int idx;

	list_del_rcu(&irqfd->resampler_link);
	if (!list_empty(&r->irqfds)) {
		pvhv_srcu_sync(vm);
		return;
	}
	list_del(&r->link);
	pvhv_ack_notifier_del(vm, &r->ack);	/* syncs */
	idx = srcu_read_lock(&vm->srcu);
	pvhv_set_irq(vm, PVHV_IRQ_SOURCE_RESAMPLE, irqfd->gsi, 0);
	srcu_read_unlock(&vm->srcu, idx);
	kfree(r);
}

/* irq_lock held; the caller deactivated it. */
static void irqfd_shutdown(struct irqfd *irqfd)
{
	u64 count;

	/* Afterwards no wakeup runs or comes. */
	eventfd_ctx_remove_wait_queue(irqfd->ctx, &irqfd->wait, &count);
	if (irqfd->resampler) {
		resampler_leave(irqfd);
		eventfd_ctx_put(irqfd->resample_ctx);
	}
	eventfd_ctx_put(irqfd->ctx);
	kfree(irqfd);
}

static void irqfd_shutdown_work(struct work_struct *work)
{
	struct irqfd *irqfd = container_of(work, struct irqfd, shutdown);
	struct pvhv_vm *vm = irqfd->vm;

	/* The lock also waits for the end of the assignment. */
	mutex_lock(&vm->irq_lock);
	irqfd_shutdown(irqfd);
	mutex_unlock(&vm->irq_lock);
}

/* irq_lock held: all that match; ctx NULL: all. */
static void irqfd_shutdown_matching(struct pvhv_vm *vm, struct eventfd_ctx *ctx, u32 gsi)
{
	struct irqfd *irqfd, *next;
	LIST_HEAD(gone);

	spin_lock_irq(&vm->irqfd_lock);
	list_for_each_entry_safe(irqfd, next, &vm->irqfds, link) {
		if (ctx && (irqfd->ctx != ctx || irqfd->gsi != gsi))
			continue;
		irqfd->active = false;
		list_move(&irqfd->link, &gone);
	}
	spin_unlock_irq(&vm->irqfd_lock);
	list_for_each_entry_safe(irqfd, next, &gone, link)
		irqfd_shutdown(irqfd);
}

static int irqfd_deassign(struct pvhv_vm *vm, const struct kvm_irqfd *args)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fdget(args->fd);

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	mutex_lock(&vm->irq_lock);
	irqfd_shutdown_matching(vm, ctx, args->gsi);
	mutex_unlock(&vm->irq_lock);
	eventfd_ctx_put(ctx);
	/* One that closed by itself meanwhile is gone too when we return. */
	flush_workqueue(shutdown_wq);
	return 0;
}

static bool irqfd_taken(struct irqfd *irqfd)
{
	struct irqfd *other;

	list_for_each_entry(other, &irqfd->vm->irqfds, link) {
		if (other->ctx == irqfd->ctx)
			return true;
	}
	return false;
}

/* irq_lock held. */
static int irqfd_connect(struct irqfd *irqfd, struct file *file)
{
	struct pvhv_vm *vm = irqfd->vm;
	int ret;

	if (irqfd->resample_ctx) {
		ret = resampler_join(irqfd);
		if (ret)
			return ret;
	}
	spin_lock_irq(&vm->irqfd_lock);
	if (irqfd_taken(irqfd)) {
		spin_unlock_irq(&vm->irqfd_lock);
		if (irqfd->resampler)
			resampler_leave(irqfd);
		return -EBUSY;
	}
	irqfd->active = true;
	list_add_tail(&irqfd->link, &vm->irqfds);
	spin_unlock_irq(&vm->irqfd_lock);

	init_waitqueue_func_entry(&irqfd->wait, irqfd_wakeup);
	init_poll_funcptr(&irqfd->poll, irqfd_poll_queue);
	/* Signalled before we listened? */
	if (vfs_poll(file, &irqfd->poll) & EPOLLIN)
		inject(irqfd);
	return 0;
}

static int irqfd_assign(struct pvhv_vm *vm, const struct kvm_irqfd *args)
{
	struct irqfd *irqfd;
	struct file *file;
	int ret;

	irqfd = kzalloc(sizeof(*irqfd), GFP_KERNEL_ACCOUNT);
	if (!irqfd)
		return -ENOMEM;
	irqfd->vm = vm;
	irqfd->gsi = args->gsi;
	INIT_WORK(&irqfd->shutdown, irqfd_shutdown_work);

	file = fget(args->fd);
	if (!file) {
		ret = -EBADF;
		goto free_irqfd;
	}
	irqfd->ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(irqfd->ctx)) {
		ret = PTR_ERR(irqfd->ctx);
		goto put_file;
	}
	if (args->flags & KVM_IRQFD_FLAG_RESAMPLE) {
		irqfd->resample_ctx = eventfd_ctx_fdget(args->resamplefd);
		if (IS_ERR(irqfd->resample_ctx)) {
			ret = PTR_ERR(irqfd->resample_ctx);
			goto put_ctx;
		}
	}
	mutex_lock(&vm->irq_lock);
	ret = irqfd_connect(irqfd, file);
	mutex_unlock(&vm->irq_lock);
	if (ret)
		goto put_resample;
	fput(file);	/* from here on its last close may end the irqfd */
	return 0;

put_resample:
	if (irqfd->resample_ctx)
		eventfd_ctx_put(irqfd->resample_ctx);
put_ctx:
	eventfd_ctx_put(irqfd->ctx);
put_file:
	fput(file);
free_irqfd:
	kfree(irqfd);
	return ret;
}

long pvhv_ioctl_irqfd(void *obj, void *data, unsigned long arg)
{
	const struct kvm_irqfd *args = data;
	struct pvhv_vm *vm = obj;

	if (args->flags & ~(KVM_IRQFD_FLAG_DEASSIGN | KVM_IRQFD_FLAG_RESAMPLE))
		return -EINVAL;
	if (args->flags & KVM_IRQFD_FLAG_DEASSIGN)
		return irqfd_deassign(vm, args);
	if (!smp_load_acquire(&vm->irqchip_in_kernel))
		return -EINVAL;
	/* Only an IOAPIC or a PIC of ours can tell when to sample again. */
	if ((args->flags & KVM_IRQFD_FLAG_RESAMPLE) && vm->irqchip_split)
		return -EINVAL;
	return irqfd_assign(vm, args);
}

void pvhv_eventfd_release(struct pvhv_vm *vm)
{
	mutex_lock(&vm->irq_lock);
	irqfd_shutdown_matching(vm, NULL, 0);
	mutex_unlock(&vm->irq_lock);
	flush_workqueue(shutdown_wq);
}

/* ----------------------------------------------------------- ioeventfd -- */

static bool value_matches(const struct ioeventfd *e, unsigned int len, const void *val)
{
	u64 value = 0;

	if (!e->match)
		return true;
	memcpy(&value, val, len);
	return value == e->datamatch;
}

static int ioeventfd_write(struct pvhv_vcpu *vcpu, struct pvhv_io_dev *dev, u64 addr,
			   unsigned int len, const void *val)
{
	struct ioeventfd *e = container_of(dev, struct ioeventfd, dev);

	if (addr != e->addr || (e->len && (len != e->len || !value_matches(e, len, val))))
		return -EOPNOTSUPP;
	pvhv_eventfd_signal(e->ctx);
	return 0;
}

static void ioeventfd_destroy(struct pvhv_io_dev *dev)
{
	struct ioeventfd *e = container_of(dev, struct ioeventfd, dev);

	list_del(&e->link);
	eventfd_ctx_put(e->ctx);
	kfree(e);
}

static bool ioeventfd_collides(struct pvhv_vm *vm, const struct ioeventfd *e)
{
	const struct ioeventfd *o;

	list_for_each_entry(o, &vm->ioeventfds, link) {
		if (o->bus != e->bus || o->addr != e->addr)
			continue;
		if (!o->len || !e->len)
			return true;
		if (o->len == e->len && (!o->match || !e->match || o->datamatch == e->datamatch))
			return true;
	}
	return false;
}

static int ioeventfd_assign(struct pvhv_vm *vm, const struct kvm_ioeventfd *args,
			    struct eventfd_ctx *ctx)
{
	struct ioeventfd *e = kzalloc(sizeof(*e), GFP_KERNEL_ACCOUNT);
	int ret = -EEXIST;

	if (!e)
		return -ENOMEM;
	e->ctx = ctx;
	e->addr = args->addr;
	e->len = args->len;
	e->match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
	e->datamatch = args->datamatch;
	e->bus = args->flags & KVM_IOEVENTFD_FLAG_PIO ? PVHV_BUS_PIO : PVHV_BUS_MMIO;
	e->dev.write = ioeventfd_write;
	e->dev.destroy = ioeventfd_destroy;
	e->dev.atomic = true;
	e->dev.uncounted = true;

	mutex_lock(&vm->slots_lock);
	if (!ioeventfd_collides(vm, e))
		ret = pvhv_iobus_register(vm, e->bus, e->addr, e->len, &e->dev);
	if (!ret)
		list_add_tail(&e->link, &vm->ioeventfds);
	mutex_unlock(&vm->slots_lock);
	if (ret)
		kfree(e);
	return ret;
}

static int ioeventfd_deassign(struct pvhv_vm *vm, const struct kvm_ioeventfd *args,
			      struct eventfd_ctx *ctx)
{
	enum pvhv_bus bus = args->flags & KVM_IOEVENTFD_FLAG_PIO ? PVHV_BUS_PIO : PVHV_BUS_MMIO;
	bool match = args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH;
	struct ioeventfd *e;
	int ret = -ENOENT;

	mutex_lock(&vm->slots_lock);
	list_for_each_entry(e, &vm->ioeventfds, link) {
		if (e->bus != bus || e->ctx != ctx || e->addr != args->addr ||
		    e->len != args->len || e->match != match ||
		    (match && e->datamatch != args->datamatch))
			continue;
		ret = pvhv_iobus_unregister(vm, bus, &e->dev);
		if (!ret)
			ioeventfd_destroy(&e->dev);
		break;
	}
	mutex_unlock(&vm->slots_lock);
	return ret;
}

long pvhv_ioctl_ioeventfd(void *obj, void *data, unsigned long arg)
{
	const struct kvm_ioeventfd *args = data;
	struct eventfd_ctx *ctx;
	int ret;

	if (args->flags & ~(KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_PIO |
			    KVM_IOEVENTFD_FLAG_DEASSIGN))
		return -EINVAL;
	if (args->len > 8 || (args->len & (args->len - 1)))
		return -EINVAL;
	/* A range that wraps, or a value of no length, is never met. */
	if (args->addr + args->len < args->addr ||
	    (!args->len && (args->flags & KVM_IOEVENTFD_FLAG_DATAMATCH)))
		return -EINVAL;
	ctx = eventfd_ctx_fdget(args->fd);
	if (IS_ERR(ctx))
		return PTR_ERR(ctx);
	if (args->flags & KVM_IOEVENTFD_FLAG_DEASSIGN) {
		ret = ioeventfd_deassign(obj, args, ctx);
	} else {
		ret = ioeventfd_assign(obj, args, ctx);
		if (!ret)
			return 0;	/* the device keeps the reference */
	}
	eventfd_ctx_put(ctx);
	return ret;
}
