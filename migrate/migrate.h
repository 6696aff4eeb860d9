/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Migration of a virtual machine, as a library that knows none: all that is of
 * the machine is reached by the functions of struct migrate_ops.
 *
 *   migrate_send()      live, over sockets, to a migrate_receive()
 *   migrate_receive()   the other end
 *   migrate_save()      into a file whose memory can be mapped: suspend, snapshot
 *   migrate_restore()   from such a file, or from a stream in a file or pipe
 *
 * The first three start a thread and return a handle; its functions may be
 * called from any thread.  Callbacks are called from the library's threads,
 * one at a time but for dirty_clear(); none may call back into the handle but
 * migrate_progress(), migrate_cancel() and migrate_force().
 *
 * Ownership.  The machine is the source's until the destination has said
 * "ready" (all of it is here and could run) and the source has answered
 * "yours".  See docs/stream.md, "Hand-over".
 *
 * Functions return 0 or -errno.  A failure has one line that says why, in the
 * handle's result; the library prints nothing.
 */
#ifndef PVHV_MIGRATE_H
#define PVHV_MIGRATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MIGRATE_PAGE_SIZE	4096U
#define MIGRATE_BLOCKS_MAX	64
#define MIGRATE_NAME_MAX	32	/* with its 0 */
#define MIGRATE_CONNECTIONS_MAX	16
#define MIGRATE_WHY_MAX		512
#define MIGRATE_STATE_MAX	(256U << 20)	/* bytes of device state */
#define MIGRATE_DISKS_MAX	64
#define MIGRATE_CHUNK		(64U << 10)	/* what is copied of a disk at once */

struct migrate;			/* one migration that goes on */
struct migrate_io;		/* one connection, file or pipe */
struct migrate_facts;		/* names and values */

/* A range of guest memory.  @size is a multiple of the page size. */
struct migrate_block {
	char name[MIGRATE_NAME_MAX];
	uint64_t gpa;
	uint64_t size;
	void *host;
	bool fresh;		/* destination: reads as zero and nobody wrote it yet */
};

/* A disk that is copied along.  @size is a multiple of 512. */
struct migrate_disk {
	char name[MIGRATE_NAME_MAX];
	uint64_t size;
};

/*
 * The machine.  "Source" functions may be NULL in a destination, and the
 * reverse; those marked optional in either.
 */
struct migrate_ops {
	/* Fills in at most @max blocks, returns how many there are.  The same at each call. */
	int (*blocks)(void *vm, struct migrate_block *list, unsigned int max);

	/*
	 * Preconditions.  The source describes itself by migrate_fact(); the
	 * destination compares before a page has moved, and says in @why
	 * (MIGRATE_WHY_MAX bytes) what differs.
	 */
	int (*describe)(void *vm, struct migrate_facts *facts);
	int (*check)(void *vm, const struct migrate_facts *theirs, char *why);

	/*
	 * Source: which pages the guest wrote.
	 * dirty_start() begins the log.
	 * dirty_fetch() sets bits (bit N of the array: page N of the block)
	 *   of pages written since they were last cleared, and clears them in
	 *   the log unless there is a dirty_clear().  The array is zeroed and
	 *   has a multiple of 64 bits.
	 * dirty_clear() clears the pages of @bitmap (bit 0: page @first, a
	 *   multiple of 64) in the log; the library reads them after that.
	 *   Called by several threads at once, for different pages.
	 *   Optional: without it dirty_fetch() clears.
	 * dirty_stop() ends the log; called once for each dirty_start().
	 */
	int (*dirty_start)(void *vm);
	int (*dirty_fetch)(void *vm, unsigned int block, uint64_t *bitmap);
	int (*dirty_clear)(void *vm, unsigned int block, uint64_t first, uint64_t count,
			   const uint64_t *bitmap);
	void (*dirty_stop)(void *vm);

	/*
	 * Optional: disks that are copied along, with params.copy_disks.
	 * disks() tells which, as blocks() does: a source those that it offers, a
	 *   destination (after check()) those that it has not; the names and
	 *   sizes say which is which.  Numbers below are those of the own list.
	 * disk_read() (source) reads a part, at a multiple of MIGRATE_CHUNK and
	 *   up to that long, into page-aligned memory.
	 * disk_fetch() (source) sets bits (bit N: the chunk N) of what was
	 *   written, and forgets them; the log begins with dirty_start().
	 * disk_write() (destination): @data NULL: zeroes.
	 * disk_flush() (destination): all that was written is on stable storage.
	 * Reading and writing are done by several threads at once, of different
	 * chunks.
	 */
	int (*disks)(void *vm, struct migrate_disk *list, unsigned int max);
	int (*disk_read)(void *vm, unsigned int disk, uint64_t offset, void *data, size_t len);
	int (*disk_fetch)(void *vm, unsigned int disk, uint64_t *bitmap);
	int (*disk_write)(void *vm, unsigned int disk, uint64_t offset, const void *data,
			  uint64_t len);
	int (*disk_flush)(void *vm);

	/* Source, optional: takes @percent (0 to 99) of the guest's time away. */
	int (*throttle)(void *vm, unsigned int percent);

	/*
	 * Source, optional: while held, memory is given back to the host only
	 * after it was written to, so that its contents can be kept before,
	 * and is read after it, so that there is something to protect.
	 */
	void (*hold)(void *vm, bool hold);

	/*
	 * Source, optional: just before pause(), while the machine runs: what
	 * can be done then does not lengthen the stop.
	 */
	void (*settle)(void *vm);

	/* After pause() nothing changes memory or device state; resume() undoes it. */
	int (*pause)(void *vm);
	/*
	 * Source: after a failure.  Destination: the machine's first run there;
	 * it runs when this returns, for the source hears of it then, and its
	 * downtime ends.
	 */
	int (*resume)(void *vm);

	/* Source, paused: all state but RAM, opaque; *@data is malloc()ed, the library frees it. */
	int (*save)(void *vm, void **data, size_t *len);
	/* Destination: all RAM is there.  Says in @why what is wrong with the state. */
	int (*load)(void *vm, const void *data, size_t len, char *why);

	/*
	 * Optional: what only one side may hold, such as locks of disks.
	 * The source lets go with release() before "yours", or keeps all of it
	 * if that fails; the destination
	 * takes with acquire() after it, before it runs; if that fails, the
	 * machine is the source's again, which takes them back by acquire().
	 */
	int (*release)(void *vm);
	int (*acquire)(void *vm, char *why);

	/*
	 * Live migration: the next connection: in the source one made, in
	 * the destination one accepted, within @timeout_ms.  Called for each
	 * of the connections, and again if the only cut that matters has to
	 * be resolved: the one between "yours" and its answer.
	 */
	int (*connection)(void *vm, struct migrate_io **io, int timeout_ms);

	/* Optional: the last call, from the library's thread: migrate_wait() won't block. */
	void (*done)(void *vm);
};

/* Level 1, of what the connection, or the bandwidth, would be waited for anyway; of migrate_send() */
#define MIGRATE_ZSTD_IDLE	(-1)

/* Zero is a sensible default for all of it, but for migrate_params_init()'s. */
struct migrate_params {
	unsigned int connections;	/* 1 to MIGRATE_CONNECTIONS_MAX; 1 */
	unsigned int downtime_ms;	/* the budget; 300 */
	unsigned int timeout_ms;	/* of all of it until the guest stops; 0: none */
	bool timeout_forces;		/* stop the guest then, rather than give up */
	unsigned int stall_ms;		/* nothing moves on a connection so long: it is cut; 10000 */
	uint64_t bandwidth;		/* bytes a second while the guest runs; 0: no limit */
	int zstd;			/* level of compression, 0: none, or MIGRATE_ZSTD_IDLE */
	size_t cache;			/* bytes of sent pages kept for deltas; 32 MiB, 0: none */
	bool copy_disks;		/* those that the destination has not */
	bool oneway;			/* nobody answers: a file or pipe that is read later */
	bool sync;			/* migrate_save(): on stable storage before it is done */
	bool running;			/* migrate_save(): the guest runs on afterwards: a snapshot */
	/*
	 * migrate_save() of one that runs on: a userfaultfd that may see faults
	 * of the kernel, after its UFFDIO_API, and /proc/self/pagemap.  With
	 * both (and memory of a kind that can be watched) the guest stands for
	 * its device state only; else, or with -1, for the last round of copies.
	 */
	int uffd, pagemap;
};

void migrate_params_init(struct migrate_params *p);

enum migrate_state {
	MIGRATE_SETUP,		/* connecting, preconditions */
	MIGRATE_MEMORY,		/* the guest runs, its memory is copied */
	MIGRATE_STOPPED,	/* the rest and the device state */
	MIGRATE_HANDOVER,	/* from "ready" on */
	MIGRATE_COMPLETED,
	MIGRATE_FAILED,
	MIGRATE_CANCELLED,
};

/* "setup", "memory" ... */
const char *migrate_state_name(enum migrate_state state);

/* A snapshot; figures of the source unless said otherwise. */
struct migrate_progress {
	enum migrate_state state;
	unsigned int round;		/* 0: the first time over all memory */
	uint64_t total;			/* bytes of memory, and of disks that are copied */
	uint64_t remaining;		/* bytes still to send, as far as is known */
	uint64_t bytes;			/* sent, or received, over all connections */
	uint64_t disk_total, disk_bytes; /* of disks; what was copied counts each time */
	uint64_t pages_zero, pages_plain, pages_delta, pages_same;
	uint64_t dirty_rate;		/* bytes a second that the guest dirties */
	uint64_t link_rate;		/* bytes a second, as acknowledged */
	unsigned int throttle;		/* percent */
	uint64_t elapsed_us;
	uint64_t expected_downtime_us;	/* if the guest were stopped now */
	uint64_t downtime_us;		/* measured: from pause to "it runs there" or resume, 0 before */
	uint64_t memory_us;		/* migrate_save(): how long writing memory took */
};

/* Whose the machine is when all is over. */
enum migrate_owner {
	MIGRATE_HERE,		/* it runs (or, never run here, can be thrown away: see below) */
	MIGRATE_THERE,
	MIGRATE_UNKNOWN,	/* the connection was lost at the one moment that matters: it is paused */
};

/*
 * Source:      err 0: THERE.  Else HERE: it runs again, or UNKNOWN.
 * Destination: err 0: HERE, it runs.  Else THERE, or UNKNOWN: all is here and
 *              paused; a migrate_force() that came in time has it run.
 * Save:        HERE: running after a failure or with params.running, else paused.
 */
struct migrate_result {
	int err;
	enum migrate_owner owner;
	char why[MIGRATE_WHY_MAX];
	struct migrate_progress progress;
};

/* @ops and @vm stay valid until migrate_wait() has returned; @params is copied. */
int migrate_send(struct migrate **m, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params);
int migrate_receive(struct migrate **m, const struct migrate_ops *ops, void *vm,
		    const struct migrate_params *params);
/* @fd: an empty regular file, stays the caller's. */
int migrate_save(struct migrate **m, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params, int fd);

/*
 * Blocks.  The destination's blocks are overwritten; @map replaces them by
 * private mappings of the file where it is an image and the blocks are pages
 * of a size that allows it: the file must then stay as it is.  The machine is
 * loaded, not resumed; the file's own end is checked, not the memory's sums
 * (pvhv-stream verify does that).  @fd stays the caller's.
 */
int migrate_restore(const struct migrate_ops *ops, void *vm, int fd, bool map,
		    char why[MIGRATE_WHY_MAX]);

/* Ends at the next chance; the machine runs on at the source.  Too late after "yours". */
void migrate_cancel(struct migrate *m);
/*
 * Source: stop the guest now, whatever the downtime.  Destination that is
 * ready and has lost its source: take the machine.  Only who knows that the
 * source is dead may say so.
 */
void migrate_force(struct migrate *m);
void migrate_progress(struct migrate *m, struct migrate_progress *p);
/* Waits for the end, frees the handle. */
int migrate_wait(struct migrate *m, struct migrate_result *result);

/*
 * policy.c: what a migration would take, of figures that are known before: how
 * much memory has contents, how fast the guest writes, how fast the link is.
 */
struct migrate_estimate {
	uint64_t memory;		/* bytes */
	uint64_t dirty_rate, bandwidth;	/* bytes a second; bandwidth not 0 */
	unsigned int downtime_ms;	/* the budget */
	/* The rest is the answer. */
	uint64_t elapsed_us, downtime_us;
	bool converges;			/* false: the guest would have to be slowed down */
};

void migrate_estimate(struct migrate_estimate *e);

/* facts.c: names and values, in the order they were added */
struct migrate_facts *migrate_facts_new(void);
void migrate_facts_free(struct migrate_facts *facts);
int migrate_fact(struct migrate_facts *facts, const char *name, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* NULL: no such fact.  Text from a stream: printable, but no more is known of it. */
const char *migrate_fact_get(const struct migrate_facts *facts, const char *name);
/* The facts number 0, 1 ...; false at the end. */
bool migrate_fact_at(const struct migrate_facts *facts, unsigned int nr, const char **name,
		     const char **value);
/* All that differs, by name: 0, or -EINVAL and "cpu is A there, B here; ..." */
int migrate_facts_compare(const struct migrate_facts *theirs, const struct migrate_facts *ours,
			  char why[MIGRATE_WHY_MAX]);

/*
 * io.c: carriers.  Connections are closed by the library once it has them.
 * @fd: socket, pipe or file; becomes O_NONBLOCK.  NULL: no memory, @fd is closed.
 */
struct migrate_io *migrate_io_fd(int fd);
/* Bytes, never blocking: how many, 0 at the end, -EAGAIN, -errno. */
struct migrate_io_ops {
	long (*read)(struct migrate_io *io, void *data, size_t len);
	long (*write)(struct migrate_io *io, const void *data, size_t len);
	/* What to poll(2) for after -EAGAIN: fd and events */
	int (*poll)(struct migrate_io *io, bool writing, short *events);
	/* No more will be written (the other side reads an end); optional */
	void (*finish)(struct migrate_io *io);
	void (*close)(struct migrate_io *io);
};
/* The first member of a carrier's own structure */
struct migrate_io {
	const struct migrate_io_ops *ops;
};

/*
 * tls.c: connections by TLS 1.3.  @dir has ca-cert.pem, and server-cert.pem and
 * server-key.pem for who accepts, client-cert.pem and client-key.pem for who
 * connects.  NULL or -errno with a reason in @why.
 */
struct migrate_tls;
struct migrate_tls *migrate_tls_load(const char *dir, bool connects, char why[MIGRATE_WHY_MAX]);
void migrate_tls_free(struct migrate_tls *tls);	/* after the last of its connections */
/*
 * The handshake; @fd is the connection's, or closed.  @name: what the other
 * side's certificate must be for, NULL: anything that the CA has signed.
 */
int migrate_io_tls(struct migrate_io **io, struct migrate_tls *tls, int fd, const char *name,
		   int timeout_ms, char why[MIGRATE_WHY_MAX]);
/* Makes a directory with all of these files, for the name "pvhv". */
int migrate_tls_init(const char *dir, char why[MIGRATE_WHY_MAX]);

#endif /* PVHV_MIGRATE_H */

