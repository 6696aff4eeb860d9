/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host half of disks: what a front (virtio_blk.c, Xen's ring later) asks
 * for in terms of bytes, whatever the storage is.
 *
 *     front --blk_submit()--> blk.c --kind->start()--> blk_raw.c, blk_nbd.c
 *           <---req->done()--       <--blk_done()-----
 *                                   <--blk_hold()-----  (started anew later)
 *
 * blk.c checks requests, holds them back where something stands in the way
 * (a gate: a limit, a full host disk, a lost server, a snapshot) and counts.
 * A request that is held is nobody's but blk.c's: it touches no guest memory
 * and can be given back to the front undone (blk_stop()).
 *
 * Everything here runs on the main thread.
 */
#ifndef PVHV_BLK_H
#define PVHV_BLK_H

#include <sys/uio.h>

#include "vmm.h"

struct blk;

#define BLK_SECTOR		512
#define BLK_BOUNCE_LEN		MIB

/* options_disk.c: the value of --disk. */
int disk_options_parse(struct disk_options *disk, char *text);
int disk_options_path(struct disk_options *disk, char *path);
void disk_options_print(const struct disk_options *disk);

enum blk_op { BLK_READ, BLK_WRITE, BLK_FLUSH, BLK_DISCARD, BLK_ZERO, BLK_OPS };

/* Of a write or zero: done only when it is on stable storage. */
#define BLK_DURABLE		1
/* Of a zero: the space may be given back to the host. */
#define BLK_UNMAP		2

struct blk_bounce {
	struct blk_bounce *next;
	u8 *data;		/* BLK_BOUNCE_LEN, page aligned */
};

#define BLK_PARTS_MAX	4

struct blk_part {
	struct loop_op op;
	struct blk_req *req;
	u32 len;
};

struct blk_req {
	/* The front's; @done may be called from within blk_submit(). */
	void (*done)(struct blk_req *req, int err);
	/* Or NULL; what a read has put into a piece that is used up. */
	void (*wrote)(struct blk_req *req, const void *data, u64 len);
	struct iovec *iov;	/* the pieces, of @len bytes; used up as they move */
	u32 nr_iov;
	u8 op;			/* enum blk_op */
	u8 flags;
	u64 pos;		/* in bytes; @pos and @len are used up as well */
	u64 len;

	/* blk.c's. */
	struct blk *blk;
	struct blk_req *next;
	u64 total;		/* as submitted, for the statistics */
	bool paid;		/* the limits have let it pass */
	bool flushing;		/* durable: the data is there, the flush is not */

	/* The kind's, while the request is started. */
	struct loop_op io;
	struct blk_part part[BLK_PARTS_MAX];
	void (*parts_done)(struct blk_req *req);
	u32 nr_parts;		/* in flight */
	bool in_one;		/* no parts any more */
	struct blk_bounce *bounce;
	u32 piece;		/* bytes in flight of it */
	int err;
	bool unmapped;		/* a zero that tried to punch a hole */
};

/* Why requests are held. */
enum blk_gate {
	BLK_GATE_LIMIT = 1,	/* the token bucket is empty */
	BLK_GATE_SPACE = 2,	/* the host's disk is full */
	BLK_GATE_QUIET = 4,	/* blk_quiesce() */
	BLK_GATE_LINK = 8,	/* the server is away */
	BLK_GATE_BUFFER = 16,	/* all bounce buffers are in use */
	BLK_GATE_TURN = 32,	/* until the loop's next turn */
};

struct blk_stats {
	u64 requests[BLK_OPS];	/* done without an error */
	u64 bytes[BLK_OPS];
	u64 errors;
	u32 started;		/* with the host now */
	u32 held;		/* held now, for the reason in @gates */
	u32 gates;
};

/* What a disk tells; NULL where nobody listens. */
struct blk_events {
	void (*resized)(void *arg);		/* its front */
	void *resized_arg;
	/* No space on the host: writes are held until blk_resume(). */
	void (*no_space)(void *arg);		/* its machine */
	void *no_space_arg;
};

struct blk_quiet {
	void (*done)(struct blk_quiet *quiet);
	struct blk_quiet *next;
};

/* [m] One at a time. */
struct blk_freeze {
	enum { BLK_THAWED, BLK_FREEZING, BLK_FROZEN } state;
	u64 nr;				/* which one it is, from 1 */
	bool quiesced;
	bool shared;
	bool flushing;		/* @flush is in use */
	bool copying;
	struct blk_quiet quiet;
	struct blk_req flush;
	struct loop_op timer_op;
	u64 deadline;
	void (*done)(void *arg, int err);
	void *arg;
	/* Of a copy. */
	struct loop_file copy;
	struct loop_op sync_op;
	void (*copied)(void *arg, int err);
	void *copied_arg;
};

struct blk_kind {
	const char *name;
	/* Blocking, before the loop runs; fills the geometry. */
	int (*open)(struct blk *blk);
	void (*close)(struct blk *blk);
	/* The loop runs; it is about to end. */
	void (*attach)(struct blk *blk);
	void (*detach)(struct blk *blk);
	void (*start)(struct blk *blk, struct blk_req *req);
	/* blk_stop() waits for what is started: get it back soon. */
	void (*hurry)(struct blk *blk);
	/* @size 0: look at the storage anew.  Calls blk_resized(). */
	int (*resize)(struct blk *blk, u64 size);
	/* A copy that shares the blocks; quiet and flushed at this moment. */
	int (*reflink)(struct blk *blk, int fd);
	/* Lets others read the storage, or keeps them from it again. */
	int (*share)(struct blk *blk, bool share);
	/*
	 * Optional: of a disk that stands still: another host has it from now
	 * on, or this one again.  -EBUSY: it is somebody else's.
	 */
	int (*own)(struct blk *blk, bool own);
	/* Optional, any thread: what is cached goes to the storage. */
	int (*sync)(struct blk *blk);
	/* Optional, any thread: reads what is there now, into aligned memory. */
	int (*peek)(struct blk *blk, u64 pos, void *data, size_t len);
};

extern const struct blk_kind blk_raw;
extern const struct blk_kind blk_nbd;

struct blk {
	const struct blk_kind *kind;
	void *data;			/* the kind's */
	const char *path;		/* [c] or a URI */
	char label[16];			/* [c] "disk0" */
	struct blk_events events;

	/* Geometry, in bytes; the kind's open() fills it. */
	u64 size;
	u32 block;			/* what a request is a multiple of */
	u32 physical;			/* what is best a multiple of */
	u32 optimal;			/* best length of a request, or 0 */
	u32 discard_block;
	bool readonly;
	bool later;			/* another host has it for now */
	bool can_discard;
	bool durable;			/* the kind knows BLK_DURABLE of writes */
	enum disk_direct direct;	/* asked for; ON or OFF when open */

	u32 gates;
	bool stopping;			/* blk_stop() */
	bool dirty;			/* something was written since the last flush */
	u32 flushes;			/* started now */
	u32 started;
	u32 held;
	struct blk_req *head;		/* held, in order */
	struct blk_req **tail;
	struct loop_task task;		/* looks at what is held */
	u32 quiet_users;
	struct blk_quiet *quiet;	/* wait for started to be 0 */
	struct limit ops_limit;
	struct limit bytes_limit;
	struct loop_op limit_op;
	struct blk_stats stats;

	struct blk_bounce *bounces;	/* free ones */
	u32 nr_bounces;
	struct blk_freeze freeze;
	_Atomic u64 *log;		/* [m] of what was written, or NULL; bits [a] */
	char *own_path;			/* what @path is after a blk_switch() */
};

/* blk.c: for the machine. */
struct blk *blk_open(const struct disk_options *opt, const char *label);
struct blk *blk_create(const struct blk_kind *kind,
		       const struct disk_options *opt, const char *label);
bool blk_is_uri(const char *path);
void blk_attach(struct blk *blk);
void blk_detach(struct blk *blk);
void blk_close(struct blk *blk);

/* For fronts. */
void blk_submit(struct blk *blk, struct blk_req *req);
/*
 * Until blk_go(), what is held, or would be, is given back: done(-ECANCELED).
 * What is started ends by itself.
 */
void blk_stop(struct blk *blk);
void blk_go(struct blk *blk);

/* For whoever manages the machine; errors are -errno, and not said. */
int blk_resize(struct blk *blk, u64 size);
void blk_limit(struct blk *blk, u64 ops, u64 bytes);
void blk_resume(struct blk *blk);
void blk_get_stats(const struct blk *blk, struct blk_stats *stats);
/* Nothing is started and nothing will be, when @quiet->done() is called. */
void blk_quiesce(struct blk *blk, struct blk_quiet *quiet);
void blk_unquiesce(struct blk *blk, struct blk_quiet *quiet);

/* blk_log.c: which chunks were written: a bit for each. */
#define BLK_LOG_CHUNK		(64 * KIB)

int blk_log_start(struct blk *blk);
void blk_log_stop(struct blk *blk);
void blk_log_written(struct blk *blk, const struct blk_req *req);
/* Any thread, between these: adds the bits to @bitmap and forgets them. */
void blk_log_fetch(struct blk *blk, u64 *bitmap);

/* For kinds. */
static inline enum blk_op blk_req_op(const struct blk_req *req)
{
	return req->flushing ? BLK_FLUSH : req->op;
}
void blk_done(struct blk_req *req, int err);
void blk_hold(struct blk_req *req, enum blk_gate gate);
void blk_gate_open(struct blk *blk, enum blk_gate gate);
void blk_gate_shut(struct blk *blk, enum blk_gate gate);
void blk_resized(struct blk *blk, u64 size);
void blk_charge(struct blk *blk, u64 bytes);
/* Past all gates: for blk_freeze.c's own. */
void blk_start(struct blk *blk, struct blk_req *req);

/* blk_parts.c: a large piece of registered memory by several operations. */
bool blk_parts_start(struct blk_req *req, const struct loop_file *file,
		     int rw_flags, void (*done)(struct blk_req *req));

/* blk_iov.c: pieces of memory, and bounce buffers where they do not fit. */
void blk_advance(struct blk_req *req, u64 len);
bool blk_aligned(const struct blk_req *req, u32 align);
void blk_gather(const struct blk_req *req, void *data, size_t len);
void blk_scatter(struct blk_req *req, const void *data, size_t len);
int blk_bounce_get(struct blk_req *req);
void blk_bounce_put(struct blk_req *req);
void blk_bounce_fini(struct blk *blk);

/* blk_lock.c: one writer, or any number of readers. */
int blk_lock(int fd, bool writer);
int blk_unread(int fd);
void blk_unlock(int fd);

/* blk_freeze.c: a disk that stands still, and what can be done with it. */
/*
 * Quiet, flushed and readable by other programs when @done is called; thaws by
 * itself after @ms.  The guest sees a slow disk.
 */
int blk_freeze(struct blk *blk, u32 ms, void (*done)(void *arg, int err),
	       void *arg);
/* Which of its freezes it is in, 0: none. */
u64 blk_frozen(const struct blk *blk);
void blk_thaw(struct blk *blk);
/*
 * A copy into the empty file @fd at one moment, which shares the blocks: of a
 * frozen disk, of that one.
 */
int blk_copy(struct blk *blk, int fd, void (*done)(void *arg, int err),
	     void *arg);
/* A frozen disk goes on from other storage with the same content. */
int blk_switch(struct blk *blk, const char *path);
void blk_freeze_init(struct blk *blk);
void blk_freeze_fini(struct blk *blk);

/* blk_control.c: what clients of the control socket see. */
int blk_control_add(struct blk *blk);
void blk_control_remove(struct blk *blk);

#endif /* PVHV_BLK_H */
