// SPDX-License-Identifier: GPL-2.0
/*
 * A disk as clients of the control socket see it.
 *  1. Status and numbers.
 *  2. Commands: resize, limits; snapshot and clone, where the file system can
 *     share blocks; freeze, thaw and switch, with which pvhvctl does the same
 *     by an overlay where it cannot.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "blk.h"
#include "control.h"

#define FREEZE_MS	10000		/* if nothing else is asked for */
#define FREEZE_MAX_MS	60000

struct disk_source {
	struct control_source source;
	struct blk *blk;
};

/* A command that is answered later. */
struct disk_call {
	struct control_call *call;
	struct blk *blk;
	int fd;
	char *path;			/* a copy's, unlinked if it fails */
};

/* Status and numbers. */

static json_t *gate_names(u32 gates)
{
	static const struct {
		u32 gate;
		const char *name;
	} names[] = {
		{ BLK_GATE_LIMIT, "limit" }, { BLK_GATE_SPACE, "space" },
		{ BLK_GATE_QUIET, "frozen" }, { BLK_GATE_LINK, "server" },
	};
	json_t *list = json_array();
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (gates & names[i].gate)
			json_array_append_new(list, json_string(names[i].name));
	return list;
}

static json_t *blk_status(const struct blk *blk)
{
	struct blk_stats stats;

	blk_get_stats(blk, &stats);
	return json_pack("{s:s, s:s, s:I, s:i, s:b, s:b, s:I, s:I, s:i, s:i, s:I, s:o}",
			 "kind", blk->kind->name, "path", blk->path,
			 "size", (json_int_t)blk->size, "block", blk->block,
			 "readonly", blk->readonly,
			 "direct", blk->direct == DISK_DIRECT_ON,
			 "iops", (json_int_t)blk->ops_limit.rate,
			 "bps", (json_int_t)blk->bytes_limit.rate,
			 "in_flight", stats.started, "held", stats.held,
			 "frozen", (json_int_t)blk_frozen(blk),
			 "held_by", gate_names(stats.gates));
}

static json_t *status(void *arg)
{
	return blk_status(arg);
}

static void metrics(void *arg, struct metric_set *set)
{
	const struct blk *blk = arg;
	struct blk_stats stats;

	blk_get_stats(blk, &stats);
	metric_counter(set, "read_requests_total", "Reads that were done",
		       stats.requests[BLK_READ]);
	metric_counter(set, "read_bytes_total", "Bytes that were read",
		       stats.bytes[BLK_READ]);
	metric_counter(set, "write_requests_total", "Writes that were done",
		       stats.requests[BLK_WRITE]);
	metric_counter(set, "write_bytes_total", "Bytes that were written",
		       stats.bytes[BLK_WRITE]);
	metric_counter(set, "flush_requests_total", "Flushes that were done",
		       stats.requests[BLK_FLUSH]);
	metric_counter(set, "discard_requests_total", "Discards that were done",
		       stats.requests[BLK_DISCARD]);
	metric_counter(set, "discard_bytes_total", "Bytes that were discarded",
		       stats.bytes[BLK_DISCARD]);
	metric_counter(set, "zero_requests_total", "Write-zeroes that were done",
		       stats.requests[BLK_ZERO]);
	metric_counter(set, "zero_bytes_total", "Bytes that were zeroed",
		       stats.bytes[BLK_ZERO]);
	metric_counter(set, "errors_total", "Requests that failed",
		       stats.errors);
	metric_gauge(set, "in_flight", "Requests that are with the host",
		     stats.started);
	metric_gauge(set, "held", "Requests that are held back", stats.held);
	metric_gauge(set, "size_bytes", "The disk's size", blk->size);
}

/* Commands. */

static u64 number(json_t *params, const char *name, u64 otherwise)
{
	json_t *value = json_object_get(params, name);

	return value ? (u64)json_integer_value(value) : otherwise;
}

static void run_resize(void *arg, json_t *params, struct control_call *call)
{
	struct blk *blk = arg;
	u64 size = number(params, "size", 0);
	int err = blk_resize(blk, size);

	switch (err) {
	case 0:
		control_done(call, blk_status(blk));
		break;
	case -EINVAL:
		control_fail(call, err, "the size is no multiple of %u bytes",
			     blk->block);
		break;
	case -ERANGE:
		control_fail(call, err, "a disk cannot be made smaller");
		break;
	case -EOPNOTSUPP:
		control_fail(call, err, "the host decides its size: change it there, then ask for size 0");
		break;
	default:
		control_fail(call, err, "%s: %s", blk->path, strerror(-err));
		break;
	}
}

static void run_limits(void *arg, json_t *params, struct control_call *call)
{
	struct blk *blk = arg;

	blk_limit(blk, number(params, "iops", blk->ops_limit.rate),
		  number(params, "bps", blk->bytes_limit.rate));
	control_done(call, blk_status(blk));
}

static struct disk_call *new_call(struct blk *blk, struct control_call *call)
{
	struct disk_call *dc = calloc(1, sizeof(*dc));

	if (!dc) {
		control_fail(call, -ENOMEM, "out of memory");
		return NULL;
	}
	dc->call = call;
	dc->blk = blk;
	dc->fd = -1;
	return dc;
}

static void free_call(struct disk_call *dc)
{
	if (dc->fd >= 0)
		close(dc->fd);
	free(dc->path);
	free(dc);
}

static void copy_failed(struct disk_call *dc, int err)
{
	struct blk *blk = dc->blk;

	switch (err) {
	case -EXDEV:
		control_fail(dc->call, err, "%s: on another file system: name a path beside %s",
			     dc->path, blk->path);
		break;
	case -EOPNOTSUPP:
	case -EINVAL:
	case -ENOTTY:
		control_fail(dc->call, -EOPNOTSUPP, "%s: its file system cannot share blocks: use an overlay",
			     blk->path);
		break;
	case -EBUSY:
		control_fail(dc->call, err, "another copy of it is under way");
		break;
	default:
		control_fail(dc->call, err, "%s: %s", dc->path, strerror(-err));
		break;
	}
}

static void copied(void *arg, int err)
{
	struct disk_call *dc = arg;

	if (err) {
		if (dc->fd >= 0)
			unlink(dc->path);
		copy_failed(dc, err);
	} else {
		control_done(dc->call, blk_status(dc->blk));
	}
	free_call(dc);
}

static void copy(struct blk *blk, json_t *params, struct control_call *call,
		 mode_t mode)
{
	struct disk_call *dc = new_call(blk, call);
	int err = 0;

	if (!dc)
		return;
	dc->path = strdup(json_string_value(json_object_get(params, "path")));
	if (!dc->path)
		err = -ENOMEM;
	if (!err) {
		dc->fd = open(dc->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			      mode);
		if (dc->fd < 0)
			err = -errno;
	}
	if (!err)
		err = blk_copy(blk, dc->fd, copied, dc);
	if (err)
		copied(dc, err);
}

static void run_snapshot(void *arg, json_t *params, struct control_call *call)
{
	copy(arg, params, call, 0400);
}

static void run_clone(void *arg, json_t *params, struct control_call *call)
{
	copy(arg, params, call, 0600);
}

static void frozen(void *arg, int err)
{
	struct disk_call *dc = arg;

	if (err)
		control_fail(dc->call, err, "cannot be frozen: %s",
			     strerror(-err));
	else
		control_done(dc->call, blk_status(dc->blk));
	free_call(dc);
}

static void run_freeze(void *arg, json_t *params, struct control_call *call)
{
	u64 ms = number(params, "ms", FREEZE_MS);
	struct disk_call *dc = new_call(arg, call);
	int err;

	if (!dc)
		return;
	err = blk_freeze(arg, ms < FREEZE_MAX_MS ? ms : FREEZE_MAX_MS, frozen,
			 dc);
	if (err)
		frozen(dc, err);
}

static void run_thaw(void *arg, json_t *params, struct control_call *call)
{
	(void)params;
	blk_thaw(arg);
	control_done(call, blk_status(arg));
}

static void run_switch(void *arg, json_t *params, struct control_call *call)
{
	const char *path = json_string_value(json_object_get(params, "path"));
	struct blk *blk = arg;
	int err = blk_switch(blk, path);

	switch (err) {
	case 0:
		control_done(call, blk_status(blk));
		break;
	case -EAGAIN:
		control_fail(call, -EBUSY, "freeze it first");
		break;
	case -EINVAL:
		control_fail(call, err, "%s: not of the same size and blocks",
			     path);
		break;
	default:
		control_fail(call, err, "%s: cannot be opened: pvhv-run has said why",
			     path);
		break;
	}
}

static const struct control_command commands[] = {
	{ "resize", run_resize, { { "size", CONTROL_U64, true } } },
	{ "limits", run_limits, { { "iops", CONTROL_U64, false },
				  { "bps", CONTROL_U64, false } } },
	{ "snapshot", run_snapshot, { { "path", CONTROL_STRING, true } } },
	{ "clone", run_clone, { { "path", CONTROL_STRING, true } } },
	{ "freeze", run_freeze, { { "ms", CONTROL_U64, false } } },
	{ "thaw", run_thaw, { { NULL, 0, false } } },
	{ "switch", run_switch, { { "path", CONTROL_STRING, true } } },
	{ NULL, NULL, { { NULL, 0, false } } }
};

int blk_control_add(struct blk *blk)
{
	struct disk_source *ds = calloc(1, sizeof(*ds));

	if (!ds)
		return fail(-ENOMEM, "out of memory");
	ds->blk = blk;
	ds->source = (struct control_source){
		.kind = "disk", .name = blk->label, .arg = blk,
		.status = status, .metrics = metrics, .commands = commands,
	};
	control_add(&ds->source);
	return 0;
}

void blk_control_remove(struct blk *blk)
{
	struct control_source *src = control_find("disk", blk->label);

	if (!src)
		return;
	control_remove(src);
	free(container_of(src, struct disk_source, source));
}
