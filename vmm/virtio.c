// SPDX-License-Identifier: GPL-2.0
/*
 * The device core of virtio 1.x, under every transport and over every device.
 *  1. Register side (vCPU threads): status, features, configuration, queue
 *     registers, all under the device's lock.  What they set going is a bit
 *     in @pending and a wake-up of the main thread.
 *  2. Main thread: start, stop and reset of the device, in that order and one
 *     at a time; kicks of its queues.
 *  3. What devices call: requests, notifications, configuration news.
 *  4. A driver that breaks the rules stops its device (DEVICE_NEEDS_RESET)
 *     with one line, and nothing else.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "virtio.h"

/* What the core itself can do for any device. */
#define CORE_FEATURES	(VIRTIO_BIT(VIRTIO_F_VERSION_1) | \
			 VIRTIO_BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
			 VIRTIO_BIT(VIRTIO_RING_F_EVENT_IDX))

#define PENDING_RESET	1u
#define PENDING_START	2u
#define PENDING_CONFIG	4u

#define COMPLAINTS_MAX	8	/* lines that one guest's device may cost */

static void tell_main(struct virtio *v, unsigned int what)
{
	atomic_fetch_or(&v->pending, what);
	loop_wake();
}

/* For transports that show registers by themselves; under the lock. */
static void changed(struct virtio *v)
{
	if (v->transport && v->transport->changed)
		v->transport->changed(v);
}

/* The register side. */

u8 virtio_status(struct virtio *v)
{
	u8 status;

	pthread_mutex_lock(&v->lock);
	status = v->status;
	pthread_mutex_unlock(&v->lock);
	return status;
}

static bool features_fit(const struct virtio *v)
{
	return !(v->acked & ~v->offered) &&
	       (v->acked & VIRTIO_BIT(VIRTIO_F_VERSION_1));
}

/* A reset is complete, and the status zero, when the device has stopped. */
void virtio_set_status(struct virtio *v, u8 status)
{
	u8 set;

	pthread_mutex_lock(&v->lock);
	if (v->resetting || (!status && !v->status))
		goto out;
	if (!status) {
		v->resetting = true;
		tell_main(v, PENDING_RESET);
		goto out;
	}
	set = status & ~v->status & ~VIRTIO_CONFIG_S_NEEDS_RESET;
	if ((set & VIRTIO_CONFIG_S_FEATURES_OK) && !features_fit(v))
		set &= ~VIRTIO_CONFIG_S_FEATURES_OK;
	if (!((v->status | set) & VIRTIO_CONFIG_S_FEATURES_OK))
		set &= ~VIRTIO_CONFIG_S_DRIVER_OK;
	v->status |= set;
	if (set & VIRTIO_CONFIG_S_DRIVER_OK)
		tell_main(v, PENDING_START);
	changed(v);
out:
	pthread_mutex_unlock(&v->lock);
}

u32 virtio_offered(struct virtio *v, u32 select)
{
	return select < 2 ? v->offered >> (32 * select) : 0;
}

u32 virtio_acked(struct virtio *v, u32 select)
{
	u32 bits;

	if (select >= 2)
		return 0;
	pthread_mutex_lock(&v->lock);
	bits = v->acked >> (32 * select);
	pthread_mutex_unlock(&v->lock);
	return bits;
}

/* A device that no driver has begun with (status 0) takes nothing. */
static bool writable(const struct virtio *v)
{
	return v->status && !v->resetting;
}

void virtio_ack(struct virtio *v, u32 select, u32 bits)
{
	u64 mask = 0xffffffffULL << (32 * (select & 1));

	if (select >= 2)
		return;
	pthread_mutex_lock(&v->lock);
	if (writable(v) && !(v->status & VIRTIO_CONFIG_S_FEATURES_OK))
		v->acked = (v->acked & ~mask) | (u64)bits << (32 * select);
	pthread_mutex_unlock(&v->lock);
}

u8 virtio_generation(struct virtio *v)
{
	u8 generation;

	pthread_mutex_lock(&v->lock);
	generation = v->generation;
	pthread_mutex_unlock(&v->lock);
	return generation;
}

static bool config_holds(const struct virtio *v, u32 off, u32 len)
{
	return off <= v->config_len && len <= v->config_len - off;
}

void virtio_config_read(struct virtio *v, u32 off, u8 *data, u32 len)
{
	memset(data, 0, len);
	if (!config_holds(v, off, len))
		return;
	pthread_mutex_lock(&v->lock);
	memcpy(data, v->config + off, len);
	pthread_mutex_unlock(&v->lock);
}

void virtio_config_write(struct virtio *v, u32 off, const u8 *data, u32 len)
{
	if (!config_holds(v, off, len) || !len || !v->ops->config_writable)
		return;
	pthread_mutex_lock(&v->lock);
	if (writable(v) && v->ops->config_writable(v, off, len)) {
		memcpy(v->config + off, data, len);
		if (!v->written_end || off < v->written_off)
			v->written_off = off;
		if (off + len > v->written_end)
			v->written_end = off + len;
		changed(v);
		tell_main(v, PENDING_CONFIG);
	}
	pthread_mutex_unlock(&v->lock);
}

void virtio_refresh(struct virtio *v)
{
	pthread_mutex_lock(&v->lock);
	changed(v);
	pthread_mutex_unlock(&v->lock);
}

u64 virtio_queue_get(struct virtio *v, unsigned int queue,
		     enum virtio_queue_field field)
{
	struct virtio_queue *q;
	u64 value = 0;

	if (queue >= v->nr_queues)
		return 0;
	q = &v->queues[queue];
	pthread_mutex_lock(&v->lock);
	switch (field) {
	case VIRTIO_QUEUE_SIZE:
		value = q->size;
		break;
	case VIRTIO_QUEUE_ENABLE:
		value = q->enabled;
		break;
	case VIRTIO_QUEUE_DESC:
		value = q->desc;
		break;
	case VIRTIO_QUEUE_AVAIL:
		value = q->avail;
		break;
	case VIRTIO_QUEUE_USED:
		value = q->used;
		break;
	}
	pthread_mutex_unlock(&v->lock);
	return value;
}

static void merge(u64 *reg, u64 value, u64 mask)
{
	*reg = (*reg & ~mask) | (value & mask);
}

/* Values are looked at when the device starts: here they are just numbers. */
void virtio_queue_set(struct virtio *v, unsigned int queue,
		      enum virtio_queue_field field, u64 value, u64 mask)
{
	struct virtio_queue *q;

	if (queue >= v->nr_queues)
		return;
	q = &v->queues[queue];
	pthread_mutex_lock(&v->lock);
	if (!writable(v) || q->enabled ||
	    (v->status & VIRTIO_CONFIG_S_DRIVER_OK))
		goto out;
	switch (field) {
	case VIRTIO_QUEUE_SIZE:
		if (value)	/* zero is none: it keeps the one it has */
			q->size = value;
		break;
	case VIRTIO_QUEUE_ENABLE:
		q->enabled = value == 1;
		break;
	case VIRTIO_QUEUE_DESC:
		merge(&q->desc, value, mask);
		break;
	case VIRTIO_QUEUE_AVAIL:
		merge(&q->avail, value, mask);
		break;
	case VIRTIO_QUEUE_USED:
		merge(&q->used, value, mask);
		break;
	}
out:
	pthread_mutex_unlock(&v->lock);
}

/* Start, stop and reset, on the main thread. */

static void drain(int fd)
{
	u64 count;

	if (read(fd, &count, sizeof(count)) < 0)
		return;		/* nothing in it */
}

static void forget_queues(struct virtio *v)
{
	unsigned int i;

	for (i = 0; i < v->nr_queues; i++) {
		struct virtio_queue *q = &v->queues[i];

		virtq_fini(&q->ring);
		drain(q->call_fd);
	}
	drain(v->config_fd);
}

/* The device is quiet: back to what it was after power-on. */
static void finish_reset(struct virtio *v)
{
	unsigned int i;

	if (v->transport)
		v->transport->reset(v);
	forget_queues(v);
	if (v->ops->reset)
		v->ops->reset(v);
	v->features = 0;
	v->broken = false;

	pthread_mutex_lock(&v->lock);
	for (i = 0; i < v->nr_queues; i++) {
		struct virtio_queue *q = &v->queues[i];

		q->size = q->size_max;
		q->enabled = false;
		q->desc = 0;
		q->avail = 0;
		q->used = 0;
	}
	v->acked = 0;
	v->written_off = 0;
	v->written_end = 0;
	v->status = 0;
	v->resetting = false;
	changed(v);
	pthread_mutex_unlock(&v->lock);
}

static bool reset_due(struct virtio *v)
{
	bool due;

	pthread_mutex_lock(&v->lock);
	due = v->resetting;
	pthread_mutex_unlock(&v->lock);
	return due;
}

static bool start_queue(struct virtio *v, struct virtio_queue *q,
			const struct virtq_layout *at)
{
	if (!virtq_start(&q->ring, v->mem, at, q->size_max, v->features))
		return true;
	virtio_break(v, "queue %u: %s", q->index, q->ring.broken);
	return false;
}

/* The registers as they are now; false if the driver is not ready. */
static bool take_registers(struct virtio *v, struct virtq_layout *at)
{
	unsigned int i;
	bool ready;

	pthread_mutex_lock(&v->lock);
	ready = (v->status & VIRTIO_CONFIG_S_DRIVER_OK) && !v->resetting;
	v->features = v->acked;
	for (i = 0; i < v->nr_queues; i++) {
		const struct virtio_queue *q = &v->queues[i];

		at[i] = (struct virtq_layout){ q->desc, q->avail, q->used,
					       q->enabled ? q->size : 0 };
	}
	pthread_mutex_unlock(&v->lock);
	return ready;
}

static void kick(struct virtio_queue *q)
{
	struct virtio *v = q->v;

	if (v->broken || v->stopping || !virtio_queue_ready(v, q->index))
		return;
	q->kicks++;
	v->ops->kick(v, q->index);
}

static void watch(struct virtio_queue *q)
{
	if (q->own_kick && !q->kick_op.busy && !q->backend && !q->v->closing &&
	    virtio_queue_ready(q->v, q->index) &&
	    loop_watch_eventfd(&q->kick_op, q->kick_fd))
		virtio_break(q->v, "queue %u: the event loop cannot watch it",
			     q->index);
}

/* An interrupt may have been on its way when the machine was saved. */
static void tell_again(struct virtio_queue *q)
{
	struct virtio *v = q->v;

	if (v->transport && virtio_queue_ready(v, q->index))
		v->transport->notify_queue(v, q->index);
}

static void notify_config(struct virtio *v)
{
	if (v->transport && v->started)
		v->transport->notify_config(v);
}

static void start_device(struct virtio *v)
{
	struct virtq_layout at[VIRTIO_QUEUES_MAX];
	unsigned int i;

	if (v->started || v->stopping || v->paused || v->broken || v->closing ||
	    !take_registers(v, at))
		return;
	for (i = 0; i < v->nr_queues; i++)
		if (at[i].num && !start_queue(v, &v->queues[i], &at[i]))
			return;
	v->started = true;
	v->ops->start(v);
	for (i = 0; i < v->nr_queues; i++) {
		if (v->loaded)
			tell_again(&v->queues[i]);
		watch(&v->queues[i]);
		kick(&v->queues[i]);
	}
	/* And the configuration may have changed before the driver was there. */
	if (v->loaded)
		notify_config(v);
	v->loaded = false;
}

static void stop_device(struct virtio *v)
{
	if (v->stopping)
		return;
	if (!v->started) {
		if (reset_due(v))
			finish_reset(v);
		return;
	}
	v->stopping = true;
	v->ops->stop(v);
}

void virtio_stopped(struct virtio *v)
{
	unsigned int i;

	/* From here on memory may be saved: the end of this turn is too late to show what is done. */
	for (i = 0; i < v->nr_queues; i++) {
		virtio_flush(v, i);
		loop_cancel(&v->queues[i].kick_op);
		bell_in(&v->queues[i].bell);
	}
	v->stopping = false;
	v->started = false;
	if (v->paused)
		loop_wake();	/* somebody waits for it to be quiet */
	if (reset_due(v))
		finish_reset(v);
	else
		start_device(v);	/* resumed before it had stopped */
}

static void config_written(struct virtio *v)
{
	u32 off, end;

	pthread_mutex_lock(&v->lock);
	off = v->written_off;
	end = v->written_end;
	v->written_off = 0;
	v->written_end = 0;
	pthread_mutex_unlock(&v->lock);
	if (end > off && v->ops->config_changed)
		v->ops->config_changed(v, off, end - off);
}

/* What was written before a reset does not matter after it. */
void virtio_service(struct virtio *v)
{
	unsigned int pending;

	if (!atomic_load(&v->pending))
		return;
	pending = atomic_exchange(&v->pending, 0);
	if (pending & PENDING_RESET) {
		stop_device(v);
		return;
	}
	if (pending & PENDING_CONFIG)
		config_written(v);
	if (pending & PENDING_START)
		start_device(v);
}

void virtio_pause(struct virtio *v)
{
	v->paused = true;
	stop_device(v);
}

void virtio_resume(struct virtio *v)
{
	v->paused = false;
	start_device(v);
}

bool virtio_quiet(const struct virtio *v)
{
	return v->paused && !v->started && !v->stopping;
}

/* One that is paused will begin anew by itself. */
void virtio_log_writes(struct virtio *v, bool log)
{
	if (!v->ops->hide_writes || !v->ops->hide_writes(v, !log) ||
	    v->paused || !v->started)
		return;
	virtio_pause(v);
	virtio_resume(v);
}

/* Kicks. */

/* At the end of a turn, so that one look at the ring serves all of it. */
static void run_queue(struct loop_task *task)
{
	struct virtio_queue *q = container_of(task, struct virtio_queue, task);

	/* What the driver did before it kicked comes first. */
	virtio_service(q->v);
	kick(q);
}

static void kicked(struct loop_op *op, int res)
{
	struct virtio_queue *q = container_of(op, struct virtio_queue, kick_op);

	if (res >= 0 && !q->backend && !q->v->closing)
		loop_defer(&q->task);
	if (res == -ECANCELED)
		watch(q);	/* given back, or started again, since */
}

void virtio_open(struct virtio *v)
{
	virtio_service(v);
}

void virtio_close(struct virtio *v)
{
	unsigned int i;

	v->closing = true;
	for (i = 0; i < v->nr_queues; i++) {
		loop_cancel(&v->queues[i].kick_op);
		bell_in(&v->queues[i].bell);
		loop_undefer(&v->queues[i].task);
	}
	stop_device(v);
}

void virtio_kick_owner(struct virtio *v, unsigned int queue, bool own)
{
	struct virtio_queue *q = &v->queues[queue];

	q->backend = own;
	if (own)
		loop_cancel(&q->kick_op);
	watch(q);
}

/* What devices call. */

void virtio_break(struct virtio *v, const char *fmt, ...)
{
	char why[160];
	bool ready;
	va_list ap;

	if (v->broken)
		return;
	v->broken = true;
	pthread_mutex_lock(&v->lock);
	v->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	ready = v->status & VIRTIO_CONFIG_S_DRIVER_OK;
	changed(v);
	pthread_mutex_unlock(&v->lock);
	if (ready && v->transport)
		v->transport->notify_config(v);

	if (v->complaints++ >= COMPLAINTS_MAX)
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	fail(-EPROTO, "%s: the guest's driver broke it: %s: it stands still until the guest resets it%s",
	     v->label, why, v->complaints == COMPLAINTS_MAX ?
	     " (more such lines are left out)" : "");
}

bool virtio_pop(struct virtio *v, unsigned int queue, struct virtq_buf *buf)
{
	struct virtio_queue *q = &v->queues[queue];
	int ret;

	if (v->broken || v->stopping)
		return false;
	ret = virtq_pop(&q->ring, buf);
	if (ret > 0)
		q->requests++;
	if (ret < 0)
		virtio_break(v, "queue %u: %s", queue, q->ring.broken);
	return ret > 0;
}

void virtio_unpop(struct virtio *v, unsigned int queue,
		  const struct virtq_buf *buf)
{
	v->queues[queue].requests--;
	virtq_unpop(&v->queues[queue].ring, buf);
}

void virtio_push(struct virtio *v, unsigned int queue,
		 const struct virtq_buf *buf, u32 written)
{
	virtq_push(&v->queues[queue].ring, buf, written);
}

void virtio_flush(struct virtio *v, unsigned int queue)
{
	struct virtio_queue *q = &v->queues[queue];

	if (!virtq_publish(&q->ring) || !v->transport)
		return;
	q->interrupts++;
	v->transport->notify_queue(v, queue);
}

void virtio_show(struct virtio *v, unsigned int queue)
{
	virtq_show(&v->queues[queue].ring);
}

void virtio_kicks_off(struct virtio *v, unsigned int queue)
{
	virtq_kicks_off(&v->queues[queue].ring);
}

bool virtio_kicks_on(struct virtio *v, unsigned int queue)
{
	struct virtio_queue *q = &v->queues[queue];

	if (v->broken || v->stopping)
		return false;
	if (virtq_kicks_on(&q->ring))
		return true;
	if (!q->own_kick && virtq_ready(&q->ring))
		bell_out(&q->bell, virtq_news(&q->ring), q->ring.last_avail);
	return false;
}

void virtio_kick_again(struct virtio *v, unsigned int queue)
{
	if (!v->closing)
		loop_defer(&v->queues[queue].task);
}

void virtio_config_set(struct virtio *v, u32 off, const void *data, u32 len)
{
	bool news = false;

	pthread_mutex_lock(&v->lock);
	if (config_holds(v, off, len) && memcmp(v->config + off, data, len)) {
		memcpy(v->config + off, data, len);
		v->generation++;
		changed(v);
		news = true;
	}
	pthread_mutex_unlock(&v->lock);
	if (news)
		notify_config(v);
}

void virtio_config_get(struct virtio *v, u32 off, void *data, u32 len)
{
	virtio_config_read(v, off, data, len);
}

/* Saved and loaded while it is quiet, or before it was opened. */

static void virtio_save(struct device *dev, struct state *st)
{
	struct virtio *v = container_of(dev, struct virtio, dev);
	char name[32];
	unsigned int i;

	pthread_mutex_lock(&v->lock);
	state_put_u64(st, "device", v->ops->id);
	state_put_u64(st, "status", v->status);
	state_put_u64(st, "acked", v->acked);
	state_put_u64(st, "generation", v->generation);
	state_put(st, "config", v->config, v->config_len);
	state_put_u64(st, "queues", v->nr_queues);
	for (i = 0; i < v->nr_queues; i++) {
		const struct virtio_queue *q = &v->queues[i];
		const u64 regs[] = { q->size, q->enabled, q->desc, q->avail,
				     q->used };

		snprintf(name, sizeof(name), "queue%u", i);
		state_put(st, name, regs, sizeof(regs));
		virtq_save(&q->ring, st, i);
	}
	pthread_mutex_unlock(&v->lock);
	if (v->ops->save)
		v->ops->save(v, st);
}

static int load_queue(struct virtio_queue *q, const struct state_section *sec)
{
	char name[32];
	u64 regs[5];
	size_t got;

	snprintf(name, sizeof(name), "queue%u", q->index);
	if (state_get(sec, name, regs, sizeof(regs), &got) ||
	    got != sizeof(regs) || !regs[0] || regs[0] > UINT16_MAX ||
	    regs[1] > 1)
		return -EBADMSG;
	q->size = regs[0];
	q->enabled = regs[1];
	q->desc = regs[2];
	q->avail = regs[3];
	q->used = regs[4];
	return virtq_load(&q->ring, sec, q->index);
}

static int load_registers(struct virtio *v, const struct state_section *sec)
{
	u8 config[VIRTIO_CONFIG_MAX];
	u64 status, acked, generation;
	unsigned int i;
	size_t got;
	int ret;

	if (state_get_u64(sec, "status", UINT8_MAX, &status) ||
	    state_get_u64(sec, "acked", UINT64_MAX, &acked) ||
	    state_get_u64(sec, "generation", UINT8_MAX, &generation) ||
	    state_get(sec, "config", config, v->config_len, &got) ||
	    got != v->config_len)
		return -EBADMSG;
	if ((status & VIRTIO_CONFIG_S_FEATURES_OK) && (acked & ~v->offered))
		return fail(-EINVAL, "%s: the driver uses features 0x%llx that this host does not offer",
			    v->label, (unsigned long long)(acked & ~v->offered));
	for (i = 0; i < v->nr_queues; i++) {
		ret = load_queue(&v->queues[i], sec);
		if (ret)
			return ret;
	}
	memcpy(v->config, config, v->config_len);
	v->status = status;
	v->acked = acked;
	v->generation = generation;
	return 0;
}

static int virtio_load(struct device *dev, const struct state_section *sec)
{
	struct virtio *v = container_of(dev, struct virtio, dev);
	u64 id, queues;
	int ret;

	if (state_get_u64(sec, "device", UINT16_MAX, &id) || id != v->ops->id ||
	    state_get_u64(sec, "queues", VIRTIO_QUEUES_MAX, &queues) ||
	    queues != v->nr_queues)
		return -EBADMSG;
	pthread_mutex_lock(&v->lock);
	ret = load_registers(v, sec);
	pthread_mutex_unlock(&v->lock);
	if (!ret && v->ops->load)
		ret = v->ops->load(v, sec);
	if (ret)
		return ret;
	v->loaded = true;
	atomic_fetch_or(&v->pending, PENDING_START);
	return 0;
}

static void virtio_destroy(struct device *dev)
{
	struct virtio *v = container_of(dev, struct virtio, dev);

	v->ops->destroy(v);
}

static const struct device_ops device_ops = {
	.name = "virtio",
	.version = 1,
	.save = virtio_save,
	.load = virtio_load,
	.destroy = virtio_destroy,
};

const struct device_ops *virtio_device_ops(void)
{
	return &device_ops;
}

/* From nothing, and back. */

static int own_kick(struct virtio_queue *q)
{
	q->own_kick = true;
	q->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->kick_fd < 0 ? -errno : 0;
}

static int make_queue(struct virtio *v, unsigned int i, u16 size)
{
	struct virtio_queue *q = &v->queues[i];

	q->v = v;
	q->index = i;
	q->size_max = size;
	q->size = size;
	q->kick_op.done = kicked;
	q->task.run = run_queue;
	q->bell.task = &q->task;
	q->kick_fd = bell_join();
	if (q->kick_fd < 0)
		own_kick(q);
	q->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return q->kick_fd < 0 || q->call_fd < 0 ? -errno : 0;
}

int virtio_own_kicks(struct virtio *v, unsigned int nr)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < nr && !ret; i++)
		if (!v->queues[i].own_kick) {
			bell_leave();
			ret = own_kick(&v->queues[i]);
		}
	return ret;
}

int virtio_init(struct virtio *v, const struct virtio_ops *ops,
		const struct mem *mem, const char *label,
		unsigned int nr_queues, u16 size)
{
	unsigned int i;
	int ret = 0;

	memset(v, 0, sizeof(*v));
	v->ops = ops;
	v->mem = mem;
	v->offered = CORE_FEATURES;
	snprintf(v->label, sizeof(v->label), "%s", label);
	pthread_mutex_init(&v->lock, NULL);
	atomic_init(&v->pending, 0);
	v->config_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->config_fd < 0)
		ret = -errno;
	v->queues = calloc(nr_queues, sizeof(v->queues[0]));
	if (!v->queues)
		ret = -ENOMEM;
	for (i = 0; i < nr_queues && !ret; i++) {
		ret = make_queue(v, i, size);
		v->nr_queues++;
	}
	if (!ret)
		return 0;
	virtio_fini(v);
	return fail(ret, "%s: cannot create its queues: %s", label,
		    strerror(-ret));
}

void virtio_fini(struct virtio *v)
{
	unsigned int i;

	for (i = 0; i < v->nr_queues; i++) {
		struct virtio_queue *q = &v->queues[i];

		virtq_fini(&q->ring);
		if (!q->own_kick)
			bell_leave();
		else if (q->kick_fd >= 0)
			close(q->kick_fd);
		if (q->call_fd >= 0)
			close(q->call_fd);
	}
	free(v->queues);
	v->queues = NULL;
	v->nr_queues = 0;
	if (v->config_fd >= 0)
		close(v->config_fd);
	v->config_fd = -1;
	pthread_mutex_destroy(&v->lock);
}
