// SPDX-License-Identifier: GPL-2.0
/*
 * A running machine is saved or moves to another host, by command (see move.h;
 * what the library asks of it meanwhile is in move_out.c).
 *  1. The client: progress for it.
 *  2. The end: one that was suspended or has moved ends, else it goes on.
 *  3. The client's orders with their descriptors, its going away, which
 *     cancels.
 *  4. Everybody else sees how far it is, and what a move would take.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "blk.h"
#include "control.h"
#include "move.h"
#include "move_address.h"

#define PROGRESS_MS	250
#define ORDER_MAX	4096
/* What a gigabit a second carries, and migrate_params_init()'s downtime */
#define ESTIMATE_MS		1000
#define ESTIMATE_MAX_MS		60000
#define ESTIMATE_BANDWIDTH	(112 * MIB)
#define ESTIMATE_DOWNTIME_MS	300

enum move_what { MOVE_SUSPEND, MOVE_SNAPSHOT, MOVE_MIGRATE };

static struct {
	struct vm *vm;
	int client;			/* [m] or -1 */
	int fd;				/* [m] the file, or -1 */
	struct migrate *m;		/* [m] NULL: nothing goes on */
	enum move_what what;		/* [m] */
	struct move_watch watch;	/* [c] */
	bool unknown;			/* [m] nobody can say whose it is: held */
	bool closing;			/* [m] */
	struct letter over;		/* of the library, when all is done */
	char text[ORDER_MAX];		/* [m] orders that have begun to come */
	size_t len;			/* [m] */
	struct loop_op order_op;	/* [m] */
	struct loop_op tick_op;		/* [m] */
	struct control_source source;
} mover = { .client = -1, .fd = -1, .watch = { -1, -1 } };

/* 1. The client. */

/* @obj is taken over */
static void tell_object(const char *event, json_t *obj)
{
	json_t *head = json_pack("{s:s}", "event", event);
	char *text = NULL;

	if (head && obj && !json_object_update(head, obj))
		text = json_dumps(head, JSON_COMPACT);
	/* Who does not read loses progress, not the end of it: see finish(). */
	if (text && mover.client >= 0) {
		struct iovec line[] = {
			{ text, strlen(text) }, { "\n", 1 },
		};
		struct msghdr msg = { .msg_iov = line, .msg_iovlen = 2 };

		if (sendmsg(mover.client, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			text[0] = 0;
	}
	free(text);
	json_decref(obj);
	json_decref(head);
}

static void tell(const char *event, const char *fmt, ...)
{
	json_error_t why;
	va_list ap;

	va_start(ap, fmt);
	tell_object(event, json_vpack_ex(&why, 0, fmt, ap));
	va_end(ap);
}

static void drop_client(void)
{
	if (mover.client >= 0)
		close(mover.client);
	mover.client = -1;
	mover.len = 0;
	move_out_no_connection(-ENOTCONN);
}

/* For one more connection; see move_out.c. */
static void ask(void)
{
	if (mover.client < 0)
		move_out_no_connection(-ENOTCONN);
	else
		tell("connect", "{}");
}

static void resumed(void)
{
	tell("resumed", "{}");
}

/* NULL: no memory */
static json_t *progress(void)
{
	struct migrate_progress p;

	migrate_progress(mover.m, &p);
	return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:i, s:f}",
			 "phase", migrate_state_name(p.state),
			 "round", (int)p.round, "total", (json_int_t)p.total,
			 "remaining", (json_int_t)p.remaining,
			 "disk_total", (json_int_t)p.disk_total,
			 "disk_bytes", (json_int_t)p.disk_bytes,
			 "bytes", (json_int_t)p.bytes,
			 "seconds", p.elapsed_us / 1e6,
			 "dirty_rate", (json_int_t)p.dirty_rate,
			 "link_rate", (json_int_t)p.link_rate,
			 "throttle", (int)p.throttle,
			 "expected_downtime", p.expected_downtime_us / 1e6);
}

static void tick(struct loop_op *op, int res)
{
	(void)res;
	if (!mover.m || mover.closing)
		return;
	tell_object("progress", progress());
	loop_timer(op, PROGRESS_MS);
}

/* 2. The end. */

static const struct {
	const char *doing;	/* of a failure's line */
	const char *event;
	bool ends;
} kinds[] = {
	[MOVE_SUSPEND] = { "saving the machine", "suspended", true },
	[MOVE_SNAPSHOT] = { "saving the machine", "saved", false },
	[MOVE_MIGRATE] = { "moving the machine", "migrated", true },
};

static void finish(struct letter *letter)
{
	struct migrate_result result;

	(void)letter;
	migrate_wait(mover.m, &result);
	mover.m = NULL;
	move_out_end();
	if (mover.fd >= 0)
		close(mover.fd);
	mover.fd = -1;
	loop_cancel(&mover.tick_op);
	if (result.err) {
		fail(result.err, "%s: %s", kinds[mover.what].doing, result.why);
		tell("failed", "{s:s, s:i, s:b}", "message", result.why, "errno",
		     -result.err, "runs", result.owner == MIGRATE_HERE);
	} else {
		tell("done", "{s:I, s:f, s:f, s:f, s:i, s:I, s:I}",
		     "bytes", (json_int_t)result.progress.bytes,
		     "seconds", result.progress.elapsed_us / 1e6,
		     "downtime", result.progress.downtime_us / 1e6,
		     "memory_seconds", result.progress.memory_us / 1e6,
		     "rounds", (int)result.progress.round + 1,
		     "memory", (json_int_t)(result.progress.total -
					    result.progress.disk_total),
		     "disks", (json_int_t)result.progress.disk_total);
	}
	/* What the client has not read yet stays readable for it. */
	drop_client();
	mover.unknown = result.err && result.owner == MIGRATE_UNKNOWN;
	if (result.err)
		return;
	if (!kinds[mover.what].ends)
		vm_thaw(mover.vm);
	control_event(kinds[mover.what].event, "{}");
	if (kinds[mover.what].ends)
		vm_stop(mover.vm, STATUS_POWEROFF);
}

/*
 * Somebody who knows says that a machine of which we do not know runs here, or
 * here too: then its disks are not to be had.
 */
int move_reclaim(struct vm *vm)
{
	int ret;

	if (!mover.unknown || mover.vm != vm)
		return 0;
	ret = disks_take(vm);
	if (ret)
		return ret;
	mover.unknown = false;
	vm_thaw(vm);
	return 0;
}

/* 3. The client's orders. */

static void refuse(int err, const char *why)
{
	tell("failed", "{s:s, s:i, s:b}", "message", why, "errno", -err,
	     "runs", true);
	if (mover.fd >= 0)
		close(mover.fd);
	mover.fd = -1;
	drop_client();
}

/* A number of the order, if it is there: 0 and @value, or -EINVAL. */
static int number(const json_t *order, const char *name, u64 most, u64 *value)
{
	const json_t *v = json_object_get(order, name);

	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0 ||
	    (u64)json_integer_value(v) > most)
		return -EINVAL;
	*value = json_integer_value(v);
	return 0;
}

static int get_params(const json_t *order, struct migrate_params *p)
{
	u64 connections, downtime, timeout = 0, bandwidth = 0, zstd = 0;
	bool compress = json_object_get(order, "compress");

	migrate_params_init(p);
	p->stall_ms = MOVE_STALL_MS;
	connections = p->connections;
	downtime = p->downtime_ms;
	if (number(order, "connections", MIGRATE_CONNECTIONS_MAX, &connections) ||
	    number(order, "downtime_ms", INT_MAX, &downtime) ||
	    number(order, "timeout_ms", INT_MAX, &timeout) ||
	    number(order, "bandwidth", INT64_MAX, &bandwidth) ||
	    number(order, "compress", 19, &zstd) || !connections)
		return -EINVAL;
	p->connections = connections;
	p->downtime_ms = downtime;
	p->timeout_ms = timeout;
	p->timeout_forces = json_is_true(json_object_get(order, "force"));
	p->copy_disks = json_is_true(json_object_get(order, "copy_disks"));
	p->bandwidth = bandwidth;
	p->zstd = compress ? (int)zstd : MIGRATE_ZSTD_IDLE;
	return 0;
}

/* "disk0" and which freeze of it. */
static int get_frozen(const json_t *order, u64 frozen[DISKS_MAX])
{
	json_t *disks = json_object_get(order, "frozen"), *nr;
	const struct blk *blk;
	const char *name;
	u32 i;

	memset(frozen, 0, DISKS_MAX * sizeof(*frozen));
	if (disks && !json_is_object(disks))
		return -EINVAL;
	json_object_foreach(disks, name, nr) {
		for (i = 0; (blk = disks_at(mover.vm, i)); i++)
			if (!strcmp(blk->label, name))
				break;
		if (!blk || !json_is_integer(nr) || json_integer_value(nr) <= 0)
			return -EINVAL;
		frozen[i] = json_integer_value(nr);
	}
	return 0;
}

static int start(enum move_what what, struct migrate_params *params,
		 struct move_order *order)
{
	const struct migrate_ops *ops;
	int ret;

	mover.what = what;
	mover.over.opened = finish;
	params->copy_disks &= what == MOVE_MIGRATE;
	order->over = &mover.over;
	order->ask = ask;
	order->resumed = resumed;
	order->copy_disks = params->copy_disks;
	ops = move_out_begin(order);
	if (what == MOVE_MIGRATE) {
		move_out_connection(mover.fd);
		mover.fd = -1;
		ret = migrate_send(&mover.m, ops, mover.vm, params);
	} else {
		params->running = what == MOVE_SNAPSHOT;
		params->uffd = mover.watch.uffd;
		params->pagemap = mover.watch.pagemap;
		ret = migrate_save(&mover.m, ops, mover.vm, params, mover.fd);
	}
	if (ret)
		mover.m = NULL;
	else
		loop_timer(&mover.tick_op, PROGRESS_MS);
	return ret;
}

static int what_of(const json_t *order)
{
	static const char * const names[] = {
		[MOVE_SUSPEND] = "suspend", [MOVE_SNAPSHOT] = "snapshot",
		[MOVE_MIGRATE] = "migrate",
	};
	const char *name = json_string_value(json_object_get(order, "do"));
	unsigned int i;

	for (i = 0; name && i < ARRAY_SIZE(names); i++)
		if (!strcmp(name, names[i]))
			return i;
	return -EINVAL;
}

static void begin(const json_t *order)
{
	int what = what_of(order), ret;
	struct migrate_params params;
	struct move_order out;

	if (what < 0)
		refuse(what, "an order to suspend, snapshot or migrate is needed");
	else if (get_params(order, &params))
		refuse(-EINVAL, "a number of the order makes no sense");
	else if (get_frozen(order, out.frozen))
		refuse(-EINVAL, "\"frozen\" of the order names what is no frozen disk");
	else if (mover.fd < 0)
		refuse(-EBADF, what == MOVE_MIGRATE ?
		       "no connection came with the order" :
		       "no file came with the order");
	else if (vm_stopping(mover.vm))
		refuse(-EBUSY, "the machine stops");
	else if (mover.unknown || move_arrives())
		refuse(-EBUSY, "the machine may be another host's");
	else if (move_estimates())
		refuse(-EBUSY, "somebody measures the machine just now: try again");
	else {
		ret = start(what, &params, &out);
		if (ret)
			refuse(ret, strerror(-ret));
	}
}

/* While it goes on. */
static void steer(const json_t *order)
{
	const char *what = json_string_value(json_object_get(order, "do"));
	int fd = mover.fd;

	if (!what)
		return;
	if (!strcmp(what, "cancel")) {
		migrate_cancel(mover.m);
	} else if (!strcmp(what, "force")) {
		migrate_force(mover.m);
	} else if (!strcmp(what, "connection") && mover.what == MOVE_MIGRATE &&
		   fd >= 0) {
		mover.fd = -1;
		move_out_connection(fd);
	} else if (!strcmp(what, "no-connection")) {
		move_out_no_connection(-ECONNREFUSED);
	}
}

static void obey(const char *line, size_t len)
{
	json_t *order = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);

	if (mover.m)
		steer(order);
	else
		begin(order);
	json_decref(order);
}

/* Whole lines. */
static void obey_all(void)
{
	char *end;
	size_t len;

	while (mover.client >= 0 &&
	       (end = memchr(mover.text, '\n', mover.len))) {
		len = end + 1 - mover.text;
		obey(mover.text, len);
		if (mover.client < 0)
			return;
		mover.len -= len;
		memmove(mover.text, end + 1, mover.len);
	}
}

/* False: the client has gone, or says what is no order. */
static bool listen_to(void)
{
	int fd = -1;
	ssize_t n;

	n = move_receive_fd(mover.client, mover.text + mover.len,
			    sizeof(mover.text) - mover.len, &fd);
	if (fd >= 0) {
		/* One at a time: who sends more loses them. */
		if (mover.fd >= 0)
			close(fd);
		else
			mover.fd = fd;
	}
	if (n < 0)
		return errno == EAGAIN;
	mover.len += n;
	obey_all();
	return n && mover.len < sizeof(mover.text);
}

/* The client has something to say, or has gone. */
static void client_ready(struct loop_op *op, int res)
{
	(void)res;
	if (mover.closing || mover.client < 0)
		return;
	if (!listen_to() && mover.client >= 0) {
		if (mover.m)
			migrate_cancel(mover.m);
		drop_client();
	}
	if (mover.client >= 0)
		loop_poll(op, mover.client, POLLIN);
}

static int attach(void *arg, int fd)
{
	(void)arg;
	if (mover.client >= 0 || mover.m || mover.closing ||
	    mover.order_op.busy || mover.tick_op.busy)
		return -EBUSY;
	if (fd < 0)
		return 0;
	mover.client = fd;
	mover.len = 0;
	mover.order_op.done = client_ready;
	mover.tick_op.done = tick;
	return loop_poll(&mover.order_op, fd, POLLIN);
}

/* 4. What others see. */

static json_t *status(void *arg)
{
	(void)arg;
	return mover.m ? progress() :
	       json_pack("{s:s}", "phase", mover.unknown ? "unknown" :
			 move_arrives() ? "arriving" : "none");
}

static void metrics(void *arg, struct metric_set *set)
{
	struct migrate_progress p = { .round = 0 };

	(void)arg;
	if (mover.m)
		migrate_progress(mover.m, &p);
	metric_gauge(set, "active", "1 while the machine is saved or moves away",
		     mover.m != NULL);
	metric_gauge(set, "remaining_bytes", "Memory still to be copied",
		     p.remaining);
	metric_gauge(set, "sent_bytes", "Bytes of it so far", p.bytes);
	metric_gauge(set, "dirty_bytes_per_second", "What the guest writes meanwhile",
		     p.dirty_rate);
}

static u64 param(const json_t *params, const char *name, u64 otherwise)
{
	const json_t *value = json_object_get(params, name);

	return value ? (u64)json_integer_value(value) : otherwise;
}

static void run_estimate(void *arg, json_t *params, struct control_call *call)
{
	u64 period = param(params, "period_ms", ESTIMATE_MS);
	u64 bandwidth = param(params, "bandwidth", ESTIMATE_BANDWIDTH);
	u64 downtime = param(params, "downtime_ms", ESTIMATE_DOWNTIME_MS);

	(void)arg;
	if (!period || period > ESTIMATE_MAX_MS || !bandwidth || downtime > INT_MAX)
		control_fail(call, -ERANGE, "a number makes no sense: period_ms is from 1 to %d, bandwidth not 0",
			     ESTIMATE_MAX_MS);
	else if (mover.m || mover.unknown || mover.closing || move_arrives() ||
		 move_estimates())
		control_fail(call, -EBUSY, "the machine moves, or is measured");
	else
		move_estimate(mover.vm, period, bandwidth, downtime, call);
}

static const struct control_command commands[] = {
	{ "estimate", run_estimate, {
		{ "period_ms", CONTROL_U64, false },
		{ "bandwidth", CONTROL_U64, false },
		{ "downtime_ms", CONTROL_U64, false },
	} },
	{ .name = NULL }
};

int move_open(struct vm *vm)
{
	if (!vm->opt->control)
		return 0;
	mover.vm = vm;
	mover.source = (struct control_source){
		.kind = "mover", .name = "mover", .attach = attach,
		.status = status, .metrics = metrics, .commands = commands,
	};
	control_add(&mover.source);
	move_watch_open(vm, &mover.watch);
	return move_out_open(vm);
}

/* The loop has ended: what goes on comes to its end here. */
void move_close(struct vm *vm)
{
	if (!mover.vm)
		return;
	mover.closing = true;
	move_estimate_end();
	if (mover.m)
		migrate_cancel(mover.m);
	while (mover.m) {
		freeze_service(vm);	/* is told that the machine stops */
		disks_flush_end(vm);
		mailbox_wait();
	}
	loop_cancel(&mover.order_op);
	loop_cancel(&mover.tick_op);
	drop_client();
	control_remove(&mover.source);
	move_watch_close(&mover.watch);
	mover.vm = NULL;
}
