/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Differences between the guest kernels that the drivers build on, 6.1 to
 * 6.12; no other file tests LINUX_VERSION_CODE.
 */
#ifndef PVHV_PVDRIVERS_COMPAT_H
#define PVHV_PVDRIVERS_COMPAT_H

#include <linux/fs.h>
#include <linux/platform_device.h>
#include <linux/version.h>
#include <linux/virtio_config.h>

/* 6.11 put what belongs to one queue into one structure. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
#define PVHV_FIND_VQS_ARGS						\
	struct virtio_device *vdev, unsigned int nvqs,			\
	struct virtqueue *vqs[], vq_callback_t *callbacks[],		\
	const char * const names[], const bool *ctx, struct irq_affinity *desc
#define pvhv_vq_name(i)		(names[i])
#define pvhv_vq_callback(i)	(callbacks[i])
#define pvhv_vq_ctx(i)		(ctx && ctx[i])
#define pvhv_find_no_vqs(vdev)	virtio_find_vqs(vdev, 0, NULL, NULL, NULL, NULL)
#else
#define PVHV_FIND_VQS_ARGS						\
	struct virtio_device *vdev, unsigned int nvqs,			\
	struct virtqueue *vqs[], struct virtqueue_info vqs_info[],	\
	struct irq_affinity *desc
#define pvhv_vq_name(i)		(vqs_info[i].name)
#define pvhv_vq_callback(i)	(vqs_info[i].callback)
#define pvhv_vq_ctx(i)		(vqs_info[i].ctx)
#define pvhv_find_no_vqs(vdev)	virtio_find_vqs(vdev, 0, NULL, NULL, NULL)
#endif

/* 6.11 made remove() return nothing. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 11, 0)
#define PVHV_PLATFORM_REMOVE(name, fn)					\
	static int name(struct platform_device *pdev)			\
	{								\
		fn(pdev);						\
		return 0;						\
	}
#else
#define PVHV_PLATFORM_REMOVE(name, fn)					\
	static void name(struct platform_device *pdev)			\
	{								\
		fn(pdev);						\
	}
#endif

/* 6.6 asks who freezes a file system: then nobody else can thaw it. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 6, 0)
#define pvhv_freeze_super(sb)	freeze_super(sb)
#define pvhv_thaw_super(sb)	thaw_super(sb)
#else
#define pvhv_freeze_super(sb)	freeze_super(sb, FREEZE_HOLDER_KERNEL)
#define pvhv_thaw_super(sb)	thaw_super(sb, FREEZE_HOLDER_KERNEL)
#endif

#endif /* PVHV_PVDRIVERS_COMPAT_H */
