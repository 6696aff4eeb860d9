/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: what tests of virtio devices without a guest share: the device under test, a transport that counts what it is told, a
 * loop that runs for a moment, a driver's first steps.
 */
#ifndef PVHV_SELFTESTS_FAKEVIRTIO_H
#define PVHV_SELFTESTS_FAKEVIRTIO_H

#include "tap.h"
#include "vring.h"

static struct virtio *v;
static unsigned int nr_irq[VIRTIO_QUEUES_MAX], nr_config_irq, nr_reset;

static inline void fakevirtio_on_queue(struct virtio *dev, unsigned int queue)
{
	ASSERT(dev == v);
	nr_irq[queue]++;
}

static inline void fakevirtio_on_config(struct virtio *dev)
{
	nr_config_irq++;
}

static inline void fakevirtio_on_reset(struct virtio *dev)
{
	nr_reset++;
}

static const struct virtio_transport transport = {
	.notify_queue = fakevirtio_on_queue, .notify_config = fakevirtio_on_config, .reset = fakevirtio_on_reset,
};

/* For loop_init(): registers have set something going */
static inline void woken(void *arg)
{
	if (v)
		virtio_service(v);
}

static inline void fakevirtio_turns_over(struct loop_op *op, int res)
{
	loop_quit();
}

static inline void run_loop(unsigned int ms)
{
	struct loop_op op = { .done = fakevirtio_turns_over };

	ASSERT_EQ(loop_timer(&op, ms), 0);
	ASSERT_EQ(loop_run(), 0);
}

/* Up to FEATURES_OK: queues are next, then driver_ok() */
static inline void negotiate(u64 features)
{
	u8 status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	virtio_set_status(v, status);
	virtio_ack(v, 0, features);
	virtio_ack(v, 1, features >> 32);
	virtio_set_status(v, status | VIRTIO_CONFIG_S_FEATURES_OK);
	ASSERT(virtio_status(v) & VIRTIO_CONFIG_S_FEATURES_OK);
}

static inline void driver_ok(void)
{
	virtio_set_status(v, virtio_status(v) | VIRTIO_CONFIG_S_DRIVER_OK);
}

#endif
