/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of pvhv_bus.ko share.
 */
#ifndef PVHV_BUS_H
#define PVHV_BUS_H

#include <linux/interrupt.h>
#include <linux/virtio.h>
#include <linux/pvhv_para.h>

struct pvhv_slot {
	struct virtio_device vdev;
	struct pvhv_bus_page *page;	/* shared with the host */
	raw_spinlock_t lock;		/* commands */
	u32 index;
	u32 port;
	int notices_irq;		/* the configuration's, or 0 */
};

/* bus.c: 0 or -errno. */
int pvhv_slot_command(struct pvhv_slot *slot, u32 command, const void *arg,
		      size_t len);

/* vdev.c */
extern const struct virtio_config_ops pvhv_config_ops;
void pvhv_vdev_reset(struct virtio_device *vdev);

/* irq.c: a Linux interrupt for a vector, with the handler already there. */
int pvhv_irq_init(void);
void pvhv_irq_exit(void);
int pvhv_irq_request(struct pvhv_slot *slot, u32 vector, irq_handler_t handler,
		     const char *name, void *data);
void pvhv_irq_free(int irq, void *data);

#endif /* PVHV_BUS_H */
