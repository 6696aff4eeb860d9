/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Virtio 1.x: rings (virtqueue.c) and what all virtio devices share
 * (virtio.c).  A device front (virtio_blk.c ...) embeds struct virtio, fills a
 * struct virtio_ops and knows no transport; a transport (virtio_pci.c ...)
 * embeds nothing of a device and fills a struct virtio_transport.
 *
 * Threads: every function of virtio_ops but config_writable() runs on the main
 * thread, as does everything marked "device side" below.  Transports call the
 * "register side" from vCPU threads; what that sets going (start, stop, a
 * changed configuration field) is done a moment later on the main thread.
 *
 * Life of a device, as its ops see it:
 *
 *     virtio_init() ... [ start { kick } stop, virtio_stopped() [reset] ] ... destroy
 *
 * start: the driver is ready (DRIVER_OK), or the machine was resumed or
 *        loaded; features and queues are final.  A kick of every ready queue
 *        follows at once.
 * stop:  the driver resets the device, or the machine pauses.  No new request
 *        may be popped.  Whatever is in flight ends: pushed if it is done,
 *        virtio_unpop()ed if not; then the device calls virtio_stopped(), from
 *        within stop() if nothing is in flight.  Until then the driver sees
 *        the reset as not yet complete.
 */
#ifndef PVHV_VIRTIO_H
#define PVHV_VIRTIO_H

#include <sys/uio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_ring.h>

#include "vmm.h"

#define VIRTQ_SIZE_MAX		1024
#define VIRTIO_QUEUES_MAX	128
#define VIRTIO_CONFIG_MAX	256
#define VIRTIO_BIT(f)		(1ULL << (f))

/* virtqueue.c: one split ring in guest memory; needs nothing but the memory. */
struct virtq {
	const struct mem *mem;
	const volatile u8 *desc;
	const volatile u8 *avail;
	volatile u8 *used;
	u16 num;		/* entries; 0: not set up, never ready */
	u16 chain_max;		/* descriptors in an indirect table's chain */
	bool event_idx;
	bool indirect;
	u16 last_avail;		/* next available entry to take */
	u16 avail_idx;		/* the guest's index when last looked at */
	u16 used_idx;		/* next used element to fill */
	u16 published;		/* the used index that the guest sees */
	u16 in_flight;		/* popped, neither pushed nor unpopped */
	u16 nr_returned;
	u16 *returned;		/* heads given back, popped before the ring */
	const char *broken;	/* why; it yields nothing any more */
};

/*
 * One request: the readable ("out": driver to device) pieces first, then the
 * writable ("in") ones.  The owner provides @iov and @max and leaves the
 * pieces as popped until the buffer is pushed or unpopped; the bytes they
 * point to are the guest's and may change at any time: copy what is looked
 * at twice (virtq_read()).
 */
struct virtq_buf {
	struct iovec *iov;
	u16 max;
	u16 head;
	u16 nr_out;
	u16 nr_in;
	u64 out_len;
	u64 in_len;
};

struct virtq_layout {
	u64 desc;
	u64 avail;
	u64 used;
	u16 num;
};

static inline bool virtq_ready(const struct virtq *q)
{
	return q->num && !q->broken;
}

/* True if there was more when the guest's index was last looked at. */
static inline bool virtq_at_hand(const struct virtq *q)
{
	return q->last_avail != q->avail_idx || q->nr_returned;
}

/* The guest's index: another than @last_avail when there is more. */
static inline const volatile u16 *virtq_news(const struct virtq *q)
{
	return (const volatile u16 *)(q->avail + 2);
}

int virtq_start(struct virtq *q, const struct mem *mem,
		const struct virtq_layout *at, u16 chain_max, u64 features);
void virtq_fini(struct virtq *q);
int virtq_pop(struct virtq *q, struct virtq_buf *buf);
void virtq_unpop(struct virtq *q, const struct virtq_buf *buf);
void virtq_push(struct virtq *q, const struct virtq_buf *buf, u32 written);
void virtq_show(struct virtq *q);
bool virtq_publish(struct virtq *q);
void virtq_kicks_off(struct virtq *q);
bool virtq_kicks_on(struct virtq *q);
u16 virtq_position(const struct virtq *q);
void virtq_set_position(struct virtq *q, u16 position);
void virtq_save(const struct virtq *q, struct state *st, unsigned int index);
int virtq_load(struct virtq *q, const struct state_section *sec,
	       unsigned int index);

/* Copies from the out or into the in pieces; returns how much there was. */
size_t virtq_read(const struct virtq_buf *buf, u64 off, void *data, size_t len);
size_t virtq_write(const struct virtq_buf *buf, u64 off, const void *data,
		   size_t len);
/* The pieces of [off, off + len); returns their number, at most @nr. */
unsigned int virtq_slice(const struct iovec *iov, unsigned int nr, u64 off,
			 u64 len, struct iovec *out);

/* virtio.c: the device core. */
struct virtio;

struct virtio_ops {
	const char *name;	/* "virtio-blk" */
	u16 id;			/* VIRTIO_ID_* */
	void (*start)(struct virtio *v);
	void (*stop)(struct virtio *v);
	void (*kick)(struct virtio *v, unsigned int queue);
	/* Optional: stopped by a reset; what the driver had set is void. */
	void (*reset)(struct virtio *v);
	/* Optional: the driver wrote a field that config_writable() allows. */
	void (*config_changed)(struct virtio *v, u32 off, u32 len);
	bool (*config_writable)(const struct virtio *v, u32 off, u32 len);
	/* Optional: the device's own fields, beside the core's. */
	void (*save)(struct virtio *v, struct state *st);
	int (*load)(struct virtio *v, const struct state_section *sec);
	/*
	 * Optional: from the next start on, guest memory may be written behind
	 * mem_wrote()'s back, or not.  True if that needs one now.
	 */
	bool (*hide_writes)(struct virtio *v, bool may);
	void (*destroy)(struct virtio *v);
};

/* What a transport does for a device. */
struct virtio_transport {
	/* Main thread: used buffers, or the configuration, are news. */
	void (*notify_queue)(struct virtio *v, unsigned int queue);
	void (*notify_config)(struct virtio *v);
	/* Main thread: back to the state after power-on. */
	void (*reset)(struct virtio *v);
	/*
	 * Whether a write to a queue's call_fd is all that an interrupt takes,
	 * so that the host's kernel can make it.
	 */
	bool (*calls_reach)(struct virtio *v);
	/*
	 * Optional, any thread, under the device's lock: status or
	 * configuration may be others now.
	 */
	void (*changed)(struct virtio *v);
};

struct virtio_queue {
	struct virtio *v;	/* [c] */
	u16 index;		/* [c] */
	u16 size_max;		/* [c] a power of two */
	int kick_fd;		/* [c] eventfd: driver to device, ours if @own_kick */
	bool own_kick;		/* [c] else that of all bells */
	int call_fd;		/* [c] eventfd: device to driver */

	u16 size;		/* [l] lock: what the driver chose */
	bool enabled;		/* [l] lock */
	u64 desc;		/* [l] lock */
	u64 avail;		/* [l] lock */
	u64 used;		/* [l] lock */

	struct virtq ring;	/* [m] */
	struct bell bell;	/* [m] or, if @own_kick: */
	struct loop_op kick_op;	/* [m] */
	struct loop_task task;	/* [m] a look at the ring is due */
	bool backend;		/* [m] the host's kernel takes the kicks */
	u64 kicks;		/* [m] statistics */
	u64 requests;		/* [m] */
	u64 interrupts;		/* [m] */
};

struct virtio {
	struct device dev;
	struct virtio *next;			/* [c] all of a machine */
	const struct virtio_ops *ops;		/* [c] */
	const struct virtio_transport *transport;	/* [c] */
	void *transport_data;			/* [c] */
	const struct mem *mem;			/* [c] */
	char label[32];				/* [c] "disk0", in messages and state */
	u64 offered;				/* [c] features, VIRTIO_BIT()s */
	u16 nr_queues;				/* [c] */
	u16 config_len;				/* [c] */
	struct virtio_queue *queues;		/* [c] */
	int config_fd;				/* [c] eventfd: configuration news */

	pthread_mutex_t lock;
	u8 config[VIRTIO_CONFIG_MAX];		/* [l] lock */
	u8 status;				/* [l] lock */
	u8 generation;				/* [l] lock */
	bool resetting;				/* [l] lock */
	u64 acked;				/* [l] lock: what the driver took */
	u32 written_off, written_end;		/* [l] lock: fields written */
	atomic_uint pending;			/* [a] work for the main thread */

	u64 features;				/* [m] negotiated, since start */
	bool started;				/* [m] */
	bool stopping;				/* [m] until virtio_stopped() */
	bool paused;				/* [m] */
	bool closing;				/* [m] */
	bool broken;				/* [m] until the reset */
	bool loaded;				/* [m] not started since */
	unsigned int complaints;		/* [m] */
};

/* Device side.  @label is unique in the machine; all queues get @size. */
int virtio_init(struct virtio *v, const struct virtio_ops *ops,
		const struct mem *mem, const char *label,
		unsigned int nr_queues, u16 size);
/* Frees what virtio_init() made; the last line of ops->destroy(). */
void virtio_fini(struct virtio *v);
static inline bool virtio_has(const struct virtio *v, unsigned int feature)
{
	return v->features & VIRTIO_BIT(feature);
}
static inline bool virtio_queue_ready(const struct virtio *v, unsigned int queue)
{
	return v->started && queue < v->nr_queues &&
	       virtq_ready(&v->queues[queue].ring);
}
/* False: no request, or the ring is broken, which has been said by then. */
bool virtio_pop(struct virtio *v, unsigned int queue, struct virtq_buf *buf);
void virtio_unpop(struct virtio *v, unsigned int queue,
		  const struct virtq_buf *buf);
/* Pushes show, and interrupt the driver if it wants that, at the flush. */
void virtio_push(struct virtio *v, unsigned int queue,
		 const struct virtq_buf *buf, u32 written);
void virtio_flush(struct virtio *v, unsigned int queue);
/*
 * Pushes show, and the flush comes later: drivers that look by themselves
 * meanwhile are spared the interrupt.
 */
void virtio_show(struct virtio *v, unsigned int queue);
/*
 * do { virtio_kicks_off(); while (virtio_pop()) ...; virtio_flush(); }
 * while (virtio_kicks_on());   A device that has done a ring's worth and
 * wants to let others run leaves the loop and calls virtio_kick_again().
 */
void virtio_kicks_off(struct virtio *v, unsigned int queue);
bool virtio_kicks_on(struct virtio *v, unsigned int queue);
void virtio_kick_again(struct virtio *v, unsigned int queue);
/* The driver broke the rules: DEVICE_NEEDS_RESET and one line. */
void virtio_break(struct virtio *v, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void virtio_stopped(struct virtio *v);
/* Before the start as well; tells the driver if something changed. */
void virtio_config_set(struct virtio *v, u32 off, const void *data, u32 len);
void virtio_config_get(struct virtio *v, u32 off, void *data, u32 len);
/*
 * The eventfds of a queue, for a backend in the host kernel (vhost), which may
 * poll the one and write the other itself: the first @nr queues have a kick of
 * their own then, before there is a transport.  With @own the main thread no
 * longer polls the kick; virtio_unpop()ed state is the backend's business.
 */
int virtio_own_kicks(struct virtio *v, unsigned int nr);
void virtio_kick_owner(struct virtio *v, unsigned int queue, bool own);

/* Machine side, main thread. */
void virtio_open(struct virtio *v);	/* the loop runs: kicks are taken */
void virtio_close(struct virtio *v);	/* before loop_fini() */
void virtio_service(struct virtio *v);	/* after loop_wake() */
void virtio_pause(struct virtio *v);
void virtio_resume(struct virtio *v);
bool virtio_quiet(const struct virtio *v);	/* paused and nothing in flight */
/* All that is written to guest memory is logged from now on, or need not be. */
void virtio_log_writes(struct virtio *v, bool log);

/* Register side, any thread. */
u8 virtio_status(struct virtio *v);
void virtio_set_status(struct virtio *v, u8 status);
u32 virtio_offered(struct virtio *v, u32 select);
u32 virtio_acked(struct virtio *v, u32 select);
void virtio_ack(struct virtio *v, u32 select, u32 bits);
u8 virtio_generation(struct virtio *v);
void virtio_refresh(struct virtio *v);	/* calls the transport's changed() */
void virtio_config_read(struct virtio *v, u32 off, u8 *data, u32 len);
void virtio_config_write(struct virtio *v, u32 off, const u8 *data, u32 len);

enum virtio_queue_field {
	VIRTIO_QUEUE_SIZE, VIRTIO_QUEUE_ENABLE, VIRTIO_QUEUE_DESC,
	VIRTIO_QUEUE_AVAIL, VIRTIO_QUEUE_USED
};

u64 virtio_queue_get(struct virtio *v, unsigned int queue,
		     enum virtio_queue_field field);
/* Replaces the bits of @mask, so that halves of an address can be set. */
void virtio_queue_set(struct virtio *v, unsigned int queue,
		      enum virtio_queue_field field, u64 value, u64 mask);

/* device.c's view of any virtio device. */
const struct device_ops *virtio_device_ops(void);

/* virtio_vm.c: all of a machine's. */
int vm_add_virtio(struct vm *vm, struct virtio *v);
void vm_virtio_open(struct vm *vm);
void vm_virtio_service(struct vm *vm);
void vm_virtio_close(struct vm *vm);
void vm_virtio_pause(struct vm *vm);
void vm_virtio_resume(struct vm *vm);
bool vm_virtio_quiet(const struct vm *vm);
void vm_virtio_log_writes(struct vm *vm, bool log);

/* virtio_rng.c */
struct virtio *virtio_rng_create(const struct mem *mem, const char *label,
				 u64 bps);

/* virtio_net.c: takes @net in any case. */
struct net;
struct virtio *virtio_net_create(const struct mem *mem, struct net *net,
				 const char *label);
void virtio_net_renumber(struct virtio *v);

#endif /* PVHV_VIRTIO_H */
