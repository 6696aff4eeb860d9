// SPDX-License-Identifier: GPL-2.0
/*
 * Virtio 1.x devices on the PCI bus (virtio 1.2, 4.1), modern interface only.
 *  1. Capabilities: where the driver finds the register groups.  The doorbell
 *     is there twice: as ports, which cost no instruction decoding and come
 *     first because drivers take the first that they can use, and as memory.
 *  2. The registers, in one memory BAR; MSI-X beside them.
 *  3. Doorbells are ioeventfds, moved with their BARs; what does not match
 *     one (another width) rings the same bell from here.
 *  4. Interrupts: a queue's eventfd by MSI-X, or the line with the ISR byte
 *     while the driver has not turned MSI-X on.
 *
 * The device's registers are the virtio core's (virtio.c), which has a lock of
 * its own; @lock is for what only this transport has.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/pci_regs.h>
#include <linux/virtio_pci.h>

#include "pci.h"
#include "virtio.h"

#define VENDOR			0x1af4
#define DEVICE_BASE		0x1040
#define SUBSYSTEM		0x1100

#define BAR_PORTS		0
#define BAR_MEMORY		1
#define PORTS_SIZE		256U
#define PORT_STEP		2U	/* 128 queues in the ports of one BAR */
#define DOORBELL_STEP		4U

/* The memory BAR: a page for each group. */
#define PAGE			0x1000U
#define AT_COMMON		(0 * PAGE)
#define AT_ISR			(1 * PAGE)
#define AT_DEVICE		(2 * PAGE)
#define AT_DOORBELL		(3 * PAGE)
#define AT_TABLE		(4 * PAGE)
#define AT_PENDING		(5 * PAGE)
#define MEMORY_SIZE		(8 * PAGE)

#define ISR_QUEUE		1
#define ISR_CONFIG		2

struct virtio_pci {
	struct pci_dev pci;
	struct device dev;
	char name[40];			/* [c] */
	struct virtio *v;		/* [c] */
	u8 msix_cap;			/* [c] where it is */
	u8 window_cap;			/* [c] */
	atomic_bool use_msix;		/* [a] */

	pthread_mutex_t lock;
	u32 offered_select;		/* [l] lock */
	u32 acked_select;		/* [l] lock */
	u16 queue_select;		/* [l] lock */
	u8 isr;				/* [l] lock */
	struct msix msix;		/* [l] lock; sources: queues, then config */
	atomic_bool *has_vector;	/* [a] by source */
};

static struct virtio_pci *to_vp(struct pci_dev *pci)
{
	return container_of(pci, struct virtio_pci, pci);
}

static u16 config_source(const struct virtio_pci *vp)
{
	return vp->v->nr_queues;
}

/* The line, under the lock. */
static void update_line(struct virtio_pci *vp)
{
	pci_intx(&vp->pci, vp->isr && !atomic_load(&vp->use_msix));
}

static void set_vector(struct virtio_pci *vp, u16 source, u16 vector)
{
	if (vector >= vp->msix.nr)
		vector = VIRTIO_MSI_NO_VECTOR;	/* reads back as a refusal */
	msix_set_vector(&vp->msix, source, vector);
	atomic_store(&vp->has_vector[source], vector != VIRTIO_MSI_NO_VECTOR);
}

/* Common configuration: each field has one width, addresses two halves. */

static u64 select_read(struct virtio_pci *vp, u32 off)
{
	struct virtio *v = vp->v;
	u16 q = vp->queue_select;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		return vp->offered_select;
	case VIRTIO_PCI_COMMON_DF:
		return virtio_offered(v, vp->offered_select);
	case VIRTIO_PCI_COMMON_GFSELECT:
		return vp->acked_select;
	case VIRTIO_PCI_COMMON_GF:
		return virtio_acked(v, vp->acked_select);
	case VIRTIO_PCI_COMMON_MSIX:
		return vp->msix.sources[config_source(vp)].vector;
	case VIRTIO_PCI_COMMON_NUMQ:
		return v->nr_queues;
	case VIRTIO_PCI_COMMON_STATUS:
		return virtio_status(v);
	case VIRTIO_PCI_COMMON_CFGGENERATION:
		return virtio_generation(v);
	case VIRTIO_PCI_COMMON_Q_SELECT:
		return q;
	case VIRTIO_PCI_COMMON_Q_SIZE:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_SIZE);
	case VIRTIO_PCI_COMMON_Q_MSIX:
		return q < v->nr_queues ? vp->msix.sources[q].vector :
					  VIRTIO_MSI_NO_VECTOR;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_ENABLE);
	case VIRTIO_PCI_COMMON_Q_NOFF:
		return q < v->nr_queues ? q : 0;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_DESC);
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_DESC) >> 32;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_AVAIL);
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_AVAIL) >> 32;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_USED);
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		return virtio_queue_get(v, q, VIRTIO_QUEUE_USED) >> 32;
	default:
		return 0;
	}
}

static void set_address(struct virtio_pci *vp, enum virtio_queue_field field,
			u32 half, bool high)
{
	virtio_queue_set(vp->v, vp->queue_select, field,
			 (u64)half << (high ? 32 : 0),
			 0xffffffffULL << (high ? 32 : 0));
}

static void select_write(struct virtio_pci *vp, u32 off, u32 value)
{
	struct virtio *v = vp->v;

	switch (off) {
	case VIRTIO_PCI_COMMON_DFSELECT:
		vp->offered_select = value;
		break;
	case VIRTIO_PCI_COMMON_GFSELECT:
		vp->acked_select = value;
		break;
	case VIRTIO_PCI_COMMON_GF:
		virtio_ack(v, vp->acked_select, value);
		break;
	case VIRTIO_PCI_COMMON_MSIX:
		if (virtio_status(v))
			set_vector(vp, config_source(vp), value);
		break;
	case VIRTIO_PCI_COMMON_STATUS:
		virtio_set_status(v, value);
		break;
	case VIRTIO_PCI_COMMON_Q_SELECT:
		vp->queue_select = value;
		break;
	case VIRTIO_PCI_COMMON_Q_SIZE:
		virtio_queue_set(v, vp->queue_select, VIRTIO_QUEUE_SIZE, value,
				 UINT64_MAX);
		break;
	case VIRTIO_PCI_COMMON_Q_MSIX:
		if (vp->queue_select < v->nr_queues && virtio_status(v))
			set_vector(vp, vp->queue_select, value);
		break;
	case VIRTIO_PCI_COMMON_Q_ENABLE:
		virtio_queue_set(v, vp->queue_select, VIRTIO_QUEUE_ENABLE,
				 value, UINT64_MAX);
		break;
	case VIRTIO_PCI_COMMON_Q_DESCLO:
	case VIRTIO_PCI_COMMON_Q_DESCHI:
		set_address(vp, VIRTIO_QUEUE_DESC, value,
			    off == VIRTIO_PCI_COMMON_Q_DESCHI);
		break;
	case VIRTIO_PCI_COMMON_Q_AVAILLO:
	case VIRTIO_PCI_COMMON_Q_AVAILHI:
		set_address(vp, VIRTIO_QUEUE_AVAIL, value,
			    off == VIRTIO_PCI_COMMON_Q_AVAILHI);
		break;
	case VIRTIO_PCI_COMMON_Q_USEDLO:
	case VIRTIO_PCI_COMMON_Q_USEDHI:
		set_address(vp, VIRTIO_QUEUE_USED, value,
			    off == VIRTIO_PCI_COMMON_Q_USEDHI);
		break;
	}
}

/* Width of the field that starts at @off; 0: none does. */
static u32 field_width(u32 off)
{
	if (off >= VIRTIO_PCI_COMMON_Q_DESCLO)
		return off < VIRTIO_PCI_COMMON_Q_USEDHI + 4 && !(off % 4) ? 4 : 0;
	if (off >= VIRTIO_PCI_COMMON_Q_SELECT)
		return off % 2 ? 0 : 2;
	if (off >= VIRTIO_PCI_COMMON_STATUS)
		return 1;
	if (off >= VIRTIO_PCI_COMMON_MSIX)
		return off % 2 ? 0 : 2;
	return off % 4 ? 0 : 4;
}

static void common_read(struct virtio_pci *vp, u32 off, u8 *data, u32 len)
{
	pthread_mutex_lock(&vp->lock);
	if (field_width(off) == len)
		pci_put(data, select_read(vp, off), len);
	pthread_mutex_unlock(&vp->lock);
}

static void common_write(struct virtio_pci *vp, u32 off, const u8 *data, u32 len)
{
	pthread_mutex_lock(&vp->lock);
	if (field_width(off) == len)
		select_write(vp, off, pci_get(data, len));
	pthread_mutex_unlock(&vp->lock);
}

/* Reading it takes the line back. */
static void isr_read(struct virtio_pci *vp, u8 *data)
{
	pthread_mutex_lock(&vp->lock);
	data[0] = vp->isr;
	vp->isr = 0;
	update_line(vp);
	pthread_mutex_unlock(&vp->lock);
}

static void ring_bell(struct virtio_pci *vp, u64 queue)
{
	u64 one = 1;

	/* Full means that a kick is on its way. */
	if (queue < vp->v->nr_queues &&
	    write(vp->v->queues[queue].kick_fd, &one, sizeof(one)) < 0)
		return;
}

static void bar_read(struct pci_dev *pci, unsigned int bar, u64 off, u8 *data,
		     u32 len)
{
	struct virtio_pci *vp = to_vp(pci);
	u32 at = off % PAGE;

	memset(data, 0, len);
	if (bar != BAR_MEMORY || at + len > PAGE)
		return;
	switch (off - at) {
	case AT_COMMON:
		common_read(vp, at, data, len);
		break;
	case AT_ISR:
		if (!at)
			isr_read(vp, data);
		break;
	case AT_DEVICE:
		virtio_config_read(vp->v, at, data, len);
		break;
	case AT_TABLE:
		pthread_mutex_lock(&vp->lock);
		msix_table_read(&vp->msix, at, data, len);
		pthread_mutex_unlock(&vp->lock);
		break;
	case AT_PENDING:
		pthread_mutex_lock(&vp->lock);
		msix_pending_read(&vp->msix, at, data, len);
		pthread_mutex_unlock(&vp->lock);
		break;
	}
}

static void bar_write(struct pci_dev *pci, unsigned int bar, u64 off,
		      const u8 *data, u32 len)
{
	struct virtio_pci *vp = to_vp(pci);
	u32 at = off % PAGE;

	if (bar == BAR_PORTS) {
		ring_bell(vp, off / PORT_STEP);
		return;
	}
	if (at + len > PAGE)
		return;
	switch (off - at) {
	case AT_COMMON:
		common_write(vp, at, data, len);
		break;
	case AT_DEVICE:
		virtio_config_write(vp->v, at, data, len);
		break;
	case AT_DOORBELL:
		ring_bell(vp, at / DOORBELL_STEP);
		break;
	case AT_TABLE:
		pthread_mutex_lock(&vp->lock);
		msix_table_write(&vp->msix, at, data, len);
		pthread_mutex_unlock(&vp->lock);
		break;
	}
}

/* A kernel that refuses leaves that bell to bar_write(). */
static void bar_mapped(struct pci_dev *pci, unsigned int bar, u64 base,
		       bool mapped)
{
	struct virtio_pci *vp = to_vp(pci);
	const struct pci_host *host = &pci->bus->host;
	bool pio = bar == BAR_PORTS;
	u64 at = pio ? base : base + AT_DOORBELL;
	u32 step = pio ? PORT_STEP : DOORBELL_STEP;
	u16 i;

	for (i = 0; i < vp->v->nr_queues; i++)
		host->ioeventfd(host->arg, vp->v->queues[i].kick_fd,
				at + i * step, sizeof(u16), pio, mapped);
}

/* The window of VIRTIO_PCI_CAP_PCI_CFG: an access to a BAR in three steps. */

struct window {
	u8 *data;
	u8 bar;
	u32 off;
	u32 len;
};

static bool window_open(struct virtio_pci *vp, struct window *w)
{
	u8 *cap = vp->pci.config + vp->window_cap;
	u32 size;

	w->data = cap + sizeof(struct virtio_pci_cap);
	w->bar = cap[offsetof(struct virtio_pci_cap, bar)];
	w->off = pci_get(cap + offsetof(struct virtio_pci_cap, offset), 4);
	w->len = pci_get(cap + offsetof(struct virtio_pci_cap, length), 4);
	size = w->bar < PCI_BARS ? vp->pci.bars[w->bar].size : 0;
	return (w->len == 1 || w->len == 2 || w->len == 4) &&
	       w->off % w->len == 0 && w->off < size;
}

static bool in_window(const struct virtio_pci *vp, u32 off, u32 len)
{
	u32 data = vp->window_cap + sizeof(struct virtio_pci_cap);

	return off < data + 4 && off + len > data;
}

static void config_read(struct pci_dev *pci, u32 off, u32 len)
{
	struct virtio_pci *vp = to_vp(pci);
	struct window w;

	if (in_window(vp, off, len) && window_open(vp, &w))
		bar_read(pci, w.bar, w.off, w.data, w.len);
}

static void update_control(struct virtio_pci *vp)
{
	u16 control = pci_get(vp->pci.config + vp->msix_cap + PCI_MSIX_FLAGS, 2);

	pthread_mutex_lock(&vp->lock);
	atomic_store(&vp->use_msix, control & PCI_MSIX_FLAGS_ENABLE);
	msix_control(&vp->msix, control);
	update_line(vp);
	pthread_mutex_unlock(&vp->lock);
}

static void config_written(struct pci_dev *pci, u32 off, u32 len)
{
	struct virtio_pci *vp = to_vp(pci);
	struct window w;

	if (off < vp->msix_cap + PCI_MSIX_FLAGS + 2U &&
	    off + len > vp->msix_cap + (u32)PCI_MSIX_FLAGS)
		update_control(vp);
	if (in_window(vp, off, len) && window_open(vp, &w))
		bar_write(pci, w.bar, w.off, w.data, w.len);
}

static const struct pci_dev_ops pci_ops = {
	.bar_read = bar_read,
	.bar_write = bar_write,
	.bar_mapped = bar_mapped,
	.config_read = config_read,
	.config_written = config_written,
};

/* What the virtio core asks of its transport, on the main thread. */

static void interrupt(struct virtio_pci *vp, u16 source, u8 isr)
{
	if (!atomic_load(&vp->use_msix)) {
		pthread_mutex_lock(&vp->lock);
		vp->isr |= isr;
		update_line(vp);
		pthread_mutex_unlock(&vp->lock);
	} else if (atomic_load(&vp->has_vector[source])) {
		loop_signal(vp->msix.sources[source].fd);
	}
}

static void notify_queue(struct virtio *v, unsigned int queue)
{
	interrupt(v->transport_data, queue, ISR_QUEUE);
}

static void notify_config(struct virtio *v)
{
	struct virtio_pci *vp = v->transport_data;

	interrupt(vp, config_source(vp), ISR_CONFIG);
}

/* The line takes the ISR byte. */
static bool calls_reach(struct virtio *v)
{
	struct virtio_pci *vp = v->transport_data;

	return atomic_load(&vp->use_msix);
}

static void reset(struct virtio *v)
{
	struct virtio_pci *vp = v->transport_data;
	u16 i;

	pthread_mutex_lock(&vp->lock);
	for (i = 0; i < vp->msix.nr_sources; i++)
		set_vector(vp, i, VIRTIO_MSI_NO_VECTOR);
	vp->offered_select = 0;
	vp->acked_select = 0;
	vp->queue_select = 0;
	vp->isr = 0;
	update_line(vp);
	pthread_mutex_unlock(&vp->lock);
}

static const struct virtio_transport transport = {
	.notify_queue = notify_queue,
	.notify_config = notify_config,
	.reset = reset,
	.calls_reach = calls_reach,
};

/* State. */

static void vp_save(struct device *dev, struct state *st)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);

	pci_dev_save(&vp->pci, st);
	pthread_mutex_lock(&vp->lock);
	state_put_u64(st, "offered_select", vp->offered_select);
	state_put_u64(st, "acked_select", vp->acked_select);
	state_put_u64(st, "queue_select", vp->queue_select);
	state_put_u64(st, "isr", vp->isr);
	msix_save(&vp->msix, st);
	pthread_mutex_unlock(&vp->lock);
}

static int vp_load(struct device *dev, const struct state_section *sec)
{
	struct virtio_pci *vp = container_of(dev, struct virtio_pci, dev);
	u64 offered, acked, queue, isr;
	int ret;
	u16 i;

	if (state_get_u64(sec, "offered_select", UINT32_MAX, &offered) ||
	    state_get_u64(sec, "acked_select", UINT32_MAX, &acked) ||
	    state_get_u64(sec, "queue_select", UINT16_MAX, &queue) ||
	    state_get_u64(sec, "isr", ISR_QUEUE | ISR_CONFIG, &isr))
		return -EBADMSG;
	ret = pci_dev_load(&vp->pci, sec);
	if (ret)
		return ret;
	pthread_mutex_lock(&vp->lock);
	vp->offered_select = offered;
	vp->acked_select = acked;
	vp->queue_select = queue;
	vp->isr = isr;
	ret = msix_load(&vp->msix, sec);
	for (i = 0; !ret && i < vp->msix.nr_sources; i++)
		set_vector(vp, i, vp->msix.sources[i].vector);
	pthread_mutex_unlock(&vp->lock);
	if (!ret)
		update_control(vp);
	return ret;
}

static void vp_free(struct virtio_pci *vp)
{
	msix_fini(&vp->msix);
	free(vp->has_vector);
	pthread_mutex_destroy(&vp->lock);
	free(vp);
}

static void vp_destroy(struct device *dev)
{
	vp_free(container_of(dev, struct virtio_pci, dev));
}

static const struct device_ops device_ops = {
	.name = "virtio-pci",
	.version = 1,
	.save = vp_save,
	.load = vp_load,
	.destroy = vp_destroy,
};

/* What the driver finds. */

static void add_cap(struct virtio_pci *vp, u8 type, u8 bar, u32 at, u32 len)
{
	const struct virtio_pci_cap cap = {
		.cap_len = sizeof(cap), .cfg_type = type, .bar = bar,
		.offset = at, .length = len,
	};

	pci_cap_add(&vp->pci, PCI_CAP_ID_VNDR, &cap.cap_len, sizeof(cap) - 2);
}

static void add_doorbell(struct virtio_pci *vp, u8 bar, u32 at, u32 len,
			 u32 step)
{
	const struct virtio_pci_notify_cap cap = {
		.cap = { .cap_len = sizeof(cap),
			 .cfg_type = VIRTIO_PCI_CAP_NOTIFY_CFG, .bar = bar,
			 .offset = at, .length = len },
		.notify_off_multiplier = step,
	};

	pci_cap_add(&vp->pci, PCI_CAP_ID_VNDR, &cap.cap.cap_len,
		    sizeof(cap) - 2);
}

static void add_window(struct virtio_pci *vp)
{
	const struct virtio_pci_cfg_cap cap = {
		.cap = { .cap_len = sizeof(cap),
			 .cfg_type = VIRTIO_PCI_CAP_PCI_CFG },
	};
	u8 *w;

	vp->window_cap = pci_cap_add(&vp->pci, PCI_CAP_ID_VNDR,
				     &cap.cap.cap_len, sizeof(cap) - 2);
	w = vp->pci.writable + vp->window_cap;
	w[offsetof(struct virtio_pci_cap, bar)] = 0xff;
	memset(w + offsetof(struct virtio_pci_cap, offset), 0xff, 4);
	memset(w + offsetof(struct virtio_pci_cap, length), 0xff, 4);
	memset(w + offsetof(struct virtio_pci_cfg_cap, pci_cfg_data), 0xff, 4);
}

static void add_msix(struct virtio_pci *vp, u16 vectors)
{
	u8 body[PCI_CAP_MSIX_SIZEOF - 2];

	pci_put(body, vectors - 1, 2);
	pci_put(body + 2, AT_TABLE | BAR_MEMORY, 4);
	pci_put(body + 6, AT_PENDING | BAR_MEMORY, 4);
	vp->msix_cap = pci_cap_add(&vp->pci, PCI_CAP_ID_MSIX, body,
				   sizeof(body));
	pci_put(vp->pci.writable + vp->msix_cap + PCI_MSIX_FLAGS,
		PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 2);
}

static u32 class_of(u16 id)
{
	switch (id) {
	case VIRTIO_ID_NET:
		return 0x020000;	/* Ethernet */
	case VIRTIO_ID_BLOCK:
		return 0x018000;	/* mass storage */
	case VIRTIO_ID_CONSOLE:
		return 0x078000;	/* communication */
	default:
		return 0x00ff00;	/* other */
	}
}

static void describe(struct virtio_pci *vp, u16 vectors)
{
	const struct pci_id id = {
		VENDOR, DEVICE_BASE + vp->v->ops->id, SUBSYSTEM, 1,
		class_of(vp->v->ops->id),
	};
	u16 queues = vp->v->nr_queues;

	pci_dev_init(&vp->pci, &pci_ops, &id);
	pci_bar_init(&vp->pci, BAR_PORTS, true, PORTS_SIZE);
	pci_bar_init(&vp->pci, BAR_MEMORY, false, MEMORY_SIZE);
	add_cap(vp, VIRTIO_PCI_CAP_COMMON_CFG, BAR_MEMORY, AT_COMMON,
		sizeof(struct virtio_pci_common_cfg));
	add_doorbell(vp, BAR_PORTS, 0, queues * PORT_STEP, PORT_STEP);
	add_doorbell(vp, BAR_MEMORY, AT_DOORBELL, queues * DOORBELL_STEP,
		     DOORBELL_STEP);
	add_cap(vp, VIRTIO_PCI_CAP_ISR_CFG, BAR_MEMORY, AT_ISR, 1);
	if (vp->v->config_len)
		add_cap(vp, VIRTIO_PCI_CAP_DEVICE_CFG, BAR_MEMORY, AT_DEVICE,
			vp->v->config_len);
	add_window(vp);
	add_msix(vp, vectors);
}

int virtio_pci_add(struct pci_bus *bus, struct devices *devs, struct virtio *v)
{
	struct virtio_pci *vp = calloc(1, sizeof(*vp));
	u16 sources = v->nr_queues + 1, i;
	int ret;

	if (!vp)
		return fail(-ENOMEM, "out of memory");
	pthread_mutex_init(&vp->lock, NULL);
	vp->v = v;
	vp->has_vector = calloc(sources, sizeof(vp->has_vector[0]));
	ret = vp->has_vector ? 0 : -ENOMEM;
	if (!ret)
		ret = msix_init(&vp->msix, &bus->host, sources, sources);
	if (ret)
		goto err;
	for (i = 0; i < v->nr_queues; i++)
		vp->msix.sources[i].fd = v->queues[i].call_fd;
	vp->msix.sources[i].fd = v->config_fd;
	describe(vp, sources);
	ret = pci_add(bus, &vp->pci);
	if (ret)
		goto err;
	snprintf(vp->name, sizeof(vp->name), "%s.pci", v->label);
	devices_add_named(devs, &vp->dev, &device_ops, vp->name);
	v->transport_data = vp;
	v->transport = &transport;
	return 0;
err:
	vp_free(vp);
	return fail(ret, "%s: cannot be put on the PCI bus: %s", v->label,
		    ret == -ENOSPC ? "it is full: give fewer devices" :
				     strerror(-ret));
}
