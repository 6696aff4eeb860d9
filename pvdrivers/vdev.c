// SPDX-License-Identifier: GPL-2.0
/*
 * The bus as a virtio transport.
 *  1. Configuration and status: read from the page, written by commands.
 *  2. Queues: made by virtio_ring, kicked by a hypercall.
 *  3. An interrupt for each queue that has a callback, and one for the
 *     configuration.
 */
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <asm/kvm_para.h>

#include "compat.h"
#include "pvhv_bus.h"

#define RESET_POLL_MS	1

/* A queue's transport half, its virtqueue's priv. */
struct vq_info {
	u32 bell;
	int irq;		/* 0: it has no callback */
	char name[48];
};

static struct pvhv_slot *to_slot(struct virtio_device *vdev)
{
	return container_of(vdev, struct pvhv_slot, vdev);
}

/* Configuration. */

static u32 generation(struct virtio_device *vdev)
{
	const struct pvhv_bus_page *page = to_slot(vdev)->page;
	u32 now;

	while ((now = smp_load_acquire(&page->generation)) & 1)
		cpu_relax();	/* the host is at it */
	return now;
}

static void get_config(struct virtio_device *vdev, unsigned int offset,
		       void *buf, unsigned int len)
{
	const struct pvhv_bus_page *page = to_slot(vdev)->page;
	u32 before;

	if (WARN_ON_ONCE(offset > sizeof(page->config) ||
			 len > sizeof(page->config) - offset)) {
		memset(buf, 0, len);
		return;
	}
	do {
		before = generation(vdev);
		memcpy(buf, page->config + offset, len);
		smp_rmb();	/* data, then the generation again */
	} while (READ_ONCE(page->generation) != before);
}

static void set_config(struct virtio_device *vdev, unsigned int offset,
		       const void *buf, unsigned int len)
{
	struct pvhv_bus_config config = { };
	unsigned int part;

	for (; len; offset += part, buf += part, len -= part) {
		part = min_t(unsigned int, len, sizeof(config.data));
		config.offset = offset;
		config.len = part;
		memcpy(config.data, buf, part);
		if (pvhv_slot_command(to_slot(vdev), PVHV_BUS_CMD_CONFIG,
				      &config, sizeof(config)))
			dev_err_ratelimited(&vdev->dev, "no configuration at %u\n",
					    offset);
	}
}

/* Status and features. */

static u8 get_status(struct virtio_device *vdev)
{
	return READ_ONCE(to_slot(vdev)->page->status);
}

static void set_status(struct virtio_device *vdev, u8 status)
{
	u32 arg = status;

	pvhv_slot_command(to_slot(vdev), PVHV_BUS_CMD_STATUS, &arg, sizeof(arg));
}

/* Complete when the device has nothing in flight any more. */
void pvhv_vdev_reset(struct virtio_device *vdev)
{
	set_status(vdev, 0);
	while (get_status(vdev))
		msleep(RESET_POLL_MS);
}

static u64 get_features(struct virtio_device *vdev)
{
	return READ_ONCE(to_slot(vdev)->page->features);
}

static int finalize_features(struct virtio_device *vdev)
{
	vring_transport_features(vdev);
	if (!__virtio_test_bit(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "the device is no virtio 1.x device\n");
		return -EINVAL;
	}
	return pvhv_slot_command(to_slot(vdev), PVHV_BUS_CMD_FEATURES,
				 &vdev->features, sizeof(vdev->features));
}

/* Queues. */

static bool notify(struct virtqueue *vq)
{
	const struct vq_info *info = vq->priv;

	return !kvm_hypercall1(PVHV_HC_KICK, info->bell);
}

static void delete_vq(struct virtqueue *vq)
{
	struct vq_info *info = vq->priv;

	if (info->irq)
		pvhv_irq_free(info->irq, vq);
	vring_del_virtqueue(vq);
	kfree(info);
}

static void del_vqs(struct virtio_device *vdev)
{
	struct pvhv_slot *slot = to_slot(vdev);
	struct virtqueue *vq, *next;

	list_for_each_entry_safe(vq, next, &vdev->vqs, list)
		delete_vq(vq);
	if (slot->notices_irq)
		pvhv_irq_free(slot->notices_irq, vdev);
	slot->notices_irq = 0;
}

/* @vector: its own one if it is to have an interrupt. */
static int enable_vq(struct virtqueue *vq, u32 vector)
{
	struct pvhv_bus_queue queue = {
		.index = vq->index,
		.size = virtqueue_get_vring_size(vq),
		.desc = virtqueue_get_desc_addr(vq),
		.avail = virtqueue_get_avail_addr(vq),
		.used = virtqueue_get_used_addr(vq),
		.vector = vector,
	};

	return pvhv_slot_command(to_slot(vq->vdev), PVHV_BUS_CMD_QUEUE, &queue,
				 sizeof(queue));
}

static struct virtqueue *setup_vq(struct virtio_device *vdev, u32 index,
				  vq_callback_t *callback, const char *name,
				  bool ctx)
{
	struct pvhv_slot *slot = to_slot(vdev);
	struct vq_info *info;
	struct virtqueue *vq;
	u16 size;
	int ret;

	size = index < PVHV_BUS_QUEUES_MAX ?
	       READ_ONCE(slot->page->queue_max[index]) : 0;
	if (!size)
		return ERR_PTR(-ENOENT);
	info = kzalloc(sizeof(*info), GFP_KERNEL);
	if (!info)
		return ERR_PTR(-ENOMEM);
	vq = vring_create_virtqueue(index, size, SMP_CACHE_BYTES, vdev, true,
				    true, ctx, notify, callback, name);
	if (!vq) {
		kfree(info);
		return ERR_PTR(-ENOMEM);
	}
	vq->num_max = size;
	vq->priv = info;
	info->bell = slot->page->bell + index;
	snprintf(info->name, sizeof(info->name), "%s-%s", dev_name(&vdev->dev),
		 name);
	if (callback) {
		ret = pvhv_irq_request(slot, index, vring_interrupt, info->name,
				       vq);
		if (ret < 0)
			goto err;
		info->irq = ret;
	}
	ret = enable_vq(vq, callback ? index : PVHV_BUS_NO_VECTOR);
	if (!ret)
		return vq;
err:
	delete_vq(vq);
	return ERR_PTR(ret);
}

static irqreturn_t config_interrupt(int irq, void *data)
{
	virtio_config_changed(data);
	return IRQ_HANDLED;
}

/* The last vector is the configuration's: queues have their number's. */
static int setup_notices(struct virtio_device *vdev)
{
	struct pvhv_slot *slot = to_slot(vdev);
	u32 vector = slot->page->nr_queues;
	int irq;

	if (vector >= slot->page->nr_vectors)
		return -ENOSPC;
	irq = pvhv_irq_request(slot, vector, config_interrupt,
			       dev_name(&vdev->dev), vdev);
	if (irq < 0)
		return irq;
	slot->notices_irq = irq;
	return pvhv_slot_command(slot, PVHV_BUS_CMD_NOTICES, &vector,
				 sizeof(vector));
}

/* As many queues as CPUs are meant for a CPU each, so are their interrupts. */
static void spread(struct virtqueue *vq)
{
	struct vq_info *info = vq->priv;

	if (info->irq)
		irq_set_affinity(info->irq, cpumask_of(
				 cpumask_local_spread(vq->index, NUMA_NO_NODE)));
}

static int find_vqs(PVHV_FIND_VQS_ARGS)
{
	unsigned int i, index = 0;
	int ret;

	ret = setup_notices(vdev);
	if (ret)
		goto err;
	for (i = 0; i < nvqs; i++) {
		if (!pvhv_vq_name(i)) {
			vqs[i] = NULL;
			continue;
		}
		vqs[i] = setup_vq(vdev, index++, pvhv_vq_callback(i),
				  pvhv_vq_name(i), pvhv_vq_ctx(i));
		if (IS_ERR(vqs[i])) {
			ret = PTR_ERR(vqs[i]);
			goto err;
		}
		if (desc)
			spread(vqs[i]);
	}
	return 0;
err:
	del_vqs(vdev);
	return ret;
}

static void synchronize_cbs(struct virtio_device *vdev)
{
	struct virtqueue *vq;

	list_for_each_entry(vq, &vdev->vqs, list) {
		const struct vq_info *info = vq->priv;

		if (info->irq)
			synchronize_irq(info->irq);
	}
	if (to_slot(vdev)->notices_irq)
		synchronize_irq(to_slot(vdev)->notices_irq);
}

static int set_vq_affinity(struct virtqueue *vq, const struct cpumask *mask)
{
	const struct vq_info *info = vq->priv;

	if (!vq->callback)
		return -EINVAL;
	return mask && info->irq ? irq_set_affinity(info->irq, mask) : 0;
}

static const char *bus_name(struct virtio_device *vdev)
{
	return "pvhv";
}

const struct virtio_config_ops pvhv_config_ops = {
	.get = get_config,
	.set = set_config,
	.generation = generation,
	.get_status = get_status,
	.set_status = set_status,
	.reset = pvhv_vdev_reset,
	.find_vqs = find_vqs,
	.del_vqs = del_vqs,
	.synchronize_cbs = synchronize_cbs,
	.get_features = get_features,
	.finalize_features = finalize_features,
	.bus_name = bus_name,
	.set_vq_affinity = set_vq_affinity,
};
