// SPDX-License-Identifier: GPL-2.0
/*
 * Virtio 1.x devices on the pvhv bus (linux/pvhv_para.h has its ABI).
 *  1. Two registers a slot, by ports: a page that guest and host share, and
 *     commands, whose arguments are copied from it once.
 *  2. The host's part of the page: written when something of the device
 *     changes, never read.
 *  3. Kicks are doorbells, which the host's kernel turns into the queues'
 *     eventfds; interrupts are messages bound to eventfds, as with MSI-X.
 *
 * Locks, in their order: a slot's @lock (commands, vectors), struct virtio's,
 * the slot's @page_lock (what is shown).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/pvhv_para.h>

#include "virtio.h"
#include "virtio_bus.h"

#define VENDOR		0x70767668	/* "pvhv" */

_Static_assert(sizeof(struct pvhv_bus_page) == 1 << PVHV_BUS_PAGE_SHIFT, "a page");
_Static_assert(PVHV_BUS_QUEUES_MAX == VIRTIO_QUEUES_MAX, "queues");
_Static_assert(PVHV_BUS_CONFIG_MAX == VIRTIO_CONFIG_MAX, "configuration");
_Static_assert(PVHV_BUS_NO_VECTOR == MSIX_NO_VECTOR, "vectors");

union arg {
	u32 status;
	u64 features;
	u32 notices;
	struct pvhv_bus_queue queue;
	struct pvhv_bus_vector vector;
	struct pvhv_bus_config config;
	u8 bytes[64];
};

struct slot {
	struct device dev;
	char name[40];			/* [c] */
	struct virtio *v;		/* [c] */
	u32 bell;			/* [c] */
	atomic_bool *has_vector;	/* [a] by source */

	pthread_mutex_t lock;
	struct msix msix;		/* [l] lock; sources: queues, then config */
	u32 frame;			/* [l] lock */

	pthread_mutex_t page_lock;
	volatile struct pvhv_bus_page *page;	/* [l] page_lock, lock to change */
	u32 generation;			/* [l] page_lock */
	u8 shown[PVHV_BUS_CONFIG_MAX];	/* [l] page_lock: @config there */
};

struct virtio_bus {
	struct virtio_bus_host host;	/* [c] */
	struct slot *slots[PVHV_BUS_SLOTS_MAX];	/* [c] */
	u32 nr;				/* [c] */
};

static u16 config_source(const struct slot *s)
{
	return s->v->nr_queues;
}

/* What is shown, under page_lock. */

static void show_config(struct slot *s, const u8 *config)
{
	u32 i;

	atomic_store_explicit((_Atomic u32 *)&s->page->generation,
			      ++s->generation, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	for (i = 0; i < PVHV_BUS_CONFIG_MAX; i++)
		s->page->config[i] = config[i];
	atomic_store_explicit((_Atomic u32 *)&s->page->generation,
			      ++s->generation, memory_order_release);
	memcpy(s->shown, config, sizeof(s->shown));
}

/* Under page_lock, after something was written to it. */
static void page_written(struct slot *s)
{
	mem_wrote(s->v->mem, s->page, sizeof(*s->page));
}

static void show_identity(struct slot *s)
{
	const struct virtio *v = s->v;
	volatile struct pvhv_bus_page *page = s->page;
	u32 i;

	page->device = v->ops->id;
	page->vendor = VENDOR;
	page->features = v->offered;
	page->nr_queues = v->nr_queues;
	page->nr_vectors = s->msix.nr;
	page->bell = s->bell;
	page->config_len = v->config_len;
	for (i = 0; i < v->nr_queues; i++)
		page->queue_max[i] = v->queues[i].size_max;
}

/* The core's news, under the device's lock. */
static void changed(struct virtio *v)
{
	struct slot *s = v->transport_data;

	pthread_mutex_lock(&s->page_lock);
	if (s->page) {
		if (memcmp(s->shown, v->config, sizeof(s->shown)))
			show_config(s, v->config);
		atomic_store_explicit((_Atomic u32 *)&s->page->status, v->status,
				      memory_order_release);
		page_written(s);
	}
	pthread_mutex_unlock(&s->page_lock);
}

/* Vectors, under the slot's lock. */

static bool vector_fits(const struct slot *s, u32 vector)
{
	return vector < s->msix.nr || vector == PVHV_BUS_NO_VECTOR;
}

static void set_vector(struct slot *s, u16 source, u16 vector)
{
	msix_set_vector(&s->msix, source, vector);
	atomic_store(&s->has_vector[source], vector != PVHV_BUS_NO_VECTOR);
}

/* Commands, under the slot's lock. */

static u32 set_status(struct slot *s, const union arg *arg)
{
	if (arg->status > UINT8_MAX)
		return PVHV_BUS_EINVAL;
	virtio_set_status(s->v, arg->status);
	return PVHV_BUS_OK;
}

static u32 set_features(struct slot *s, const union arg *arg)
{
	u32 low = arg->features, high = arg->features >> 32;

	virtio_ack(s->v, 0, low);
	virtio_ack(s->v, 1, high);
	return virtio_acked(s->v, 0) == low && virtio_acked(s->v, 1) == high ?
	       PVHV_BUS_OK : PVHV_BUS_EBUSY;
}

static u32 set_queue(struct slot *s, const union arg *arg)
{
	const struct pvhv_bus_queue *q = &arg->queue;
	struct virtio *v = s->v;

	if (q->index >= v->nr_queues || !vector_fits(s, q->vector) ||
	    !q->size || (q->size & (q->size - 1)) ||
	    q->size > v->queues[q->index].size_max)
		return PVHV_BUS_EINVAL;
	if (virtio_queue_get(v, q->index, VIRTIO_QUEUE_ENABLE))
		return PVHV_BUS_EBUSY;
	virtio_queue_set(v, q->index, VIRTIO_QUEUE_SIZE, q->size, UINT64_MAX);
	virtio_queue_set(v, q->index, VIRTIO_QUEUE_DESC, q->desc, UINT64_MAX);
	virtio_queue_set(v, q->index, VIRTIO_QUEUE_AVAIL, q->avail, UINT64_MAX);
	virtio_queue_set(v, q->index, VIRTIO_QUEUE_USED, q->used, UINT64_MAX);
	virtio_queue_set(v, q->index, VIRTIO_QUEUE_ENABLE, 1, UINT64_MAX);
	if (!virtio_queue_get(v, q->index, VIRTIO_QUEUE_ENABLE))
		return PVHV_BUS_EBUSY;
	set_vector(s, q->index, q->vector);
	return PVHV_BUS_OK;
}

static u32 set_message(struct slot *s, const union arg *arg)
{
	const struct pvhv_bus_vector *m = &arg->vector;

	if (m->index >= s->msix.nr || m->on > 1)
		return PVHV_BUS_EINVAL;
	return msix_set_message(&s->msix, m->index, m->address, m->data, m->on) ?
	       PVHV_BUS_OK : PVHV_BUS_EFAIL;
}

static u32 set_notices(struct slot *s, const union arg *arg)
{
	if (!vector_fits(s, arg->notices))
		return PVHV_BUS_EINVAL;
	if (!virtio_status(s->v))
		return PVHV_BUS_EBUSY;
	set_vector(s, config_source(s), arg->notices);
	return PVHV_BUS_OK;
}

static u32 write_config(struct slot *s, const union arg *arg)
{
	const struct pvhv_bus_config *c = &arg->config;

	if (!c->len || c->len > sizeof(c->data) ||
	    c->offset > s->v->config_len ||
	    c->len > s->v->config_len - c->offset)
		return PVHV_BUS_EINVAL;
	virtio_config_write(s->v, c->offset, c->data, c->len);
	return PVHV_BUS_OK;
}

static u32 execute(struct slot *s, u32 command, const union arg *arg)
{
	switch (command) {
	case PVHV_BUS_CMD_STATUS:
		return set_status(s, arg);
	case PVHV_BUS_CMD_FEATURES:
		return set_features(s, arg);
	case PVHV_BUS_CMD_QUEUE:
		return set_queue(s, arg);
	case PVHV_BUS_CMD_VECTOR:
		return set_message(s, arg);
	case PVHV_BUS_CMD_NOTICES:
		return set_notices(s, arg);
	case PVHV_BUS_CMD_CONFIG:
		return write_config(s, arg);
	default:
		return PVHV_BUS_EINVAL;
	}
}

static void command(struct slot *s, u32 number)
{
	u64 at = (u64)s->frame << PVHV_BUS_PAGE_SHIFT;
	union arg arg;
	u32 result;

	/* The page was all memory when it was named, and memory stays. */
	if (!s->frame ||
	    mem_read(s->v->mem, at + offsetof(struct pvhv_bus_page, arg), &arg,
		     sizeof(arg)))
		return;
	result = execute(s, number, &arg);
	atomic_store_explicit((_Atomic u32 *)&s->page->result, result,
			      memory_order_release);
	page_written(s);
}

/* Frame 0 is where the first page is, and no page to share. */
static void set_frame(struct slot *s, u32 frame)
{
	u8 *page = NULL;

	if (frame)
		page = mem_at(s->v->mem, (u64)frame << PVHV_BUS_PAGE_SHIFT,
			      sizeof(struct pvhv_bus_page));
	s->frame = page ? frame : 0;
	pthread_mutex_lock(&s->page_lock);
	s->page = (volatile struct pvhv_bus_page *)page;
	memset(s->shown, 0, sizeof(s->shown));
	if (page) {
		memset(page, 0, sizeof(struct pvhv_bus_page));
		s->page->generation = s->generation;
		show_identity(s);
		page_written(s);
	}
	pthread_mutex_unlock(&s->page_lock);
	virtio_refresh(s->v);
}

/* The registers, from vCPU threads. */

static void put_u32(u8 *data, u32 value)
{
	memcpy(data, &value, sizeof(value));
}

static struct slot *slot_at(struct virtio_bus *bus, u64 off, u32 len)
{
	u64 n = off / PVHV_BUS_PORTS;

	return len == sizeof(u32) && !(off % sizeof(u32)) && n < bus->nr ?
	       bus->slots[n] : NULL;
}

static void bus_read(void *arg, u64 off, u8 *data, u32 len)
{
	struct slot *s = slot_at(arg, off, len);
	u32 frame;

	if (!s)
		return;		/* ones */
	pthread_mutex_lock(&s->lock);
	frame = s->frame;
	pthread_mutex_unlock(&s->lock);
	put_u32(data, off % PVHV_BUS_PORTS == PVHV_BUS_FRAME ? frame : 0);
}

static void bus_write(void *arg, u64 off, const u8 *data, u32 len)
{
	struct slot *s = slot_at(arg, off, len);
	u32 value;

	if (!s)
		return;
	memcpy(&value, data, sizeof(value));
	pthread_mutex_lock(&s->lock);
	if (off % PVHV_BUS_PORTS == PVHV_BUS_FRAME)
		set_frame(s, value);
	else
		command(s, value);
	pthread_mutex_unlock(&s->lock);
}

/* What the virtio core asks of its transport, on the main thread. */

static void interrupt(struct slot *s, u16 source)
{
	if (atomic_load(&s->has_vector[source]))
		loop_signal(s->msix.sources[source].fd);
}

static void notify_queue(struct virtio *v, unsigned int queue)
{
	interrupt(v->transport_data, queue);
}

static void notify_config(struct virtio *v)
{
	interrupt(v->transport_data, config_source(v->transport_data));
}

static bool calls_reach(struct virtio *v)
{
	(void)v;
	return true;
}

static void reset(struct virtio *v)
{
	struct slot *s = v->transport_data;
	u16 i;

	pthread_mutex_lock(&s->lock);
	for (i = 0; i < s->msix.nr_sources; i++)
		set_vector(s, i, PVHV_BUS_NO_VECTOR);
	for (i = 0; i < s->msix.nr; i++)
		msix_set_message(&s->msix, i, 0, 0, false);
	pthread_mutex_unlock(&s->lock);
}

static const struct virtio_transport transport = {
	.notify_queue = notify_queue,
	.notify_config = notify_config,
	.reset = reset,
	.calls_reach = calls_reach,
	.changed = changed,
};

/* State: the page's contents are the guest's memory. */

static void slot_save(struct device *dev, struct state *st)
{
	struct slot *s = container_of(dev, struct slot, dev);

	pthread_mutex_lock(&s->lock);
	state_put_u64(st, "frame", s->frame);
	state_put_u64(st, "generation", s->generation);
	msix_save(&s->msix, st);
	pthread_mutex_unlock(&s->lock);
}

static int slot_load(struct device *dev, const struct state_section *sec)
{
	struct slot *s = container_of(dev, struct slot, dev);
	u64 frame, generation;
	int ret;
	u16 i;

	if (state_get_u64(sec, "frame", UINT32_MAX, &frame) ||
	    state_get_u64(sec, "generation", UINT32_MAX, &generation) ||
	    generation % 2)
		return -EBADMSG;
	pthread_mutex_lock(&s->lock);
	ret = msix_load(&s->msix, sec);
	for (i = 0; !ret && i < s->msix.nr_sources; i++) {
		u16 vector = s->msix.sources[i].vector;

		if (!vector_fits(s, vector))
			ret = -EBADMSG;
		else
			set_vector(s, i, vector);
	}
	s->generation = generation;
	if (!ret)
		set_frame(s, frame);
	if (!ret && s->frame != frame)
		ret = -EBADMSG;
	pthread_mutex_unlock(&s->lock);
	return ret;
}

static void slot_free(struct slot *s)
{
	msix_fini(&s->msix);
	free(s->has_vector);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->page_lock);
	free(s);
}

static void slot_destroy(struct device *dev)
{
	slot_free(container_of(dev, struct slot, dev));
}

static const struct device_ops device_ops = {
	.name = "virtio-bus",
	.version = 1,
	.save = slot_save,
	.load = slot_load,
	.destroy = slot_destroy,
};

/* From nothing, and back. */

static int hang_bells(struct virtio_bus *bus, struct slot *s)
{
	u16 i;
	int ret;

	for (i = 0; i < s->v->nr_queues; i++) {
		ret = bus->host.doorbell(bus->host.irq.arg,
					 s->v->queues[i].kick_fd, s->bell + i);
		if (ret)
			return ret;
	}
	return 0;
}

static int slot_init(struct virtio_bus *bus, struct slot *s)
{
	struct virtio *v = s->v;
	u16 sources = v->nr_queues + 1, i;
	int ret;

	s->has_vector = calloc(sources, sizeof(s->has_vector[0]));
	if (!s->has_vector)
		return -ENOMEM;
	ret = msix_init(&s->msix, &bus->host.irq, sources, sources);
	if (ret)
		return ret;
	for (i = 0; i < v->nr_queues; i++)
		s->msix.sources[i].fd = v->queues[i].call_fd;
	s->msix.sources[i].fd = v->config_fd;
	msix_control(&s->msix, PCI_MSIX_FLAGS_ENABLE);
	return hang_bells(bus, s);
}

/* Takes nothing over; @v stays with its owner. */
int virtio_bus_add(struct virtio_bus *bus, struct devices *devs,
		   struct virtio *v)
{
	struct slot *s;
	int ret = -ENOMEM;

	if (bus->nr == PVHV_BUS_SLOTS_MAX)
		return fail(-ENOSPC, "%s: the bus is full: give fewer devices",
			    v->label);
	s = calloc(1, sizeof(*s));
	if (!s)
		return fail(-ENOMEM, "out of memory");
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->page_lock, NULL);
	s->v = v;
	s->bell = bus->nr * PVHV_BUS_QUEUES_MAX;
	ret = slot_init(bus, s);
	if (ret) {
		slot_free(s);
		return fail(ret, "%s: cannot be put on the bus: %s", v->label,
			    strerror(-ret));
	}
	snprintf(s->name, sizeof(s->name), "%s.bus", v->label);
	devices_add_named(devs, &s->dev, &device_ops, s->name);
	v->transport_data = s;
	v->transport = &transport;
	bus->slots[bus->nr++] = s;
	return 0;
}

struct virtio_bus *virtio_bus_create(const struct virtio_bus_host *host,
				     struct iobus *pio)
{
	struct virtio_bus *bus = calloc(1, sizeof(*bus));
	const struct iobus_region region = {
		PORT_BUS, PVHV_BUS_SLOTS_MAX * PVHV_BUS_PORTS, bus_read,
		bus_write, bus
	};

	if (!bus)
		return NULL;
	bus->host = *host;
	if (iobus_add(pio, &region)) {
		free(bus);
		return NULL;
	}
	return bus;
}

/* Its slots are devices of the machine and gone by now. */
void virtio_bus_destroy(struct virtio_bus *bus)
{
	free(bus);
}

u32 virtio_bus_slots(const struct virtio_bus *bus)
{
	return bus->nr;
}
