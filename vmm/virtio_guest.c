// SPDX-License-Identifier: GPL-2.0
/*
 * The machine's guest device (linux/pvhv_para.h, 5): what host and guest tell
 * each other besides I/O.  It has a configuration and no queues.
 *  1. The guest panicked: one line, an event, part of the status.
 *  2. The machine came to life anew (restored, cloned): a new identity and the
 *     time, which the guest's driver makes new entropy and its clock of.
 *  3. The guest's file systems stand still for a snapshot, on request.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <linux/pvhv_para.h>

#include "control.h"
#include "virtio.h"
#include "virtio_guest.h"

#define FIELD(name)		offsetof(struct pvhv_guest_config, name)
#define FIRST_OF_GUEST		FIELD(freeze_done)

#define ANSWER_MS		20000	/* how long a guest may take to freeze */
#define FREEZE_MS_DEFAULT	60000
#define FREEZE_MS_MAX		600000
#define PANICS_SAID		8

_Static_assert(sizeof(struct pvhv_guest_config) <= VIRTIO_CONFIG_MAX, "size");
_Static_assert(sizeof(((struct pvhv_guest_config *)0)->identity) == IDENTITY_LEN,
	       "size");

struct guest {
	struct virtio v;
	struct vm *vm;				/* [c] */
	struct control_source source;		/* [m] */
	struct control_call *call;		/* [m] waits for the guest, or NULL */
	struct loop_op timer;			/* [m] of that */
	u32 request;				/* [m] freeze requests so far */
	bool frozen;				/* [m] */
	u32 panics;				/* [m] */
	char message[PVHV_GUEST_MESSAGE + 1];	/* [m] the last one's */
};

static struct guest *to_guest(struct virtio *v)
{
	return container_of(v, struct guest, v);
}

static struct pvhv_guest_config config_of(struct guest *g)
{
	struct pvhv_guest_config c;

	virtio_config_get(&g->v, 0, &c, sizeof(c));
	return c;
}

/* 1. Panics. */

/* Text of the guest's, for people and for JSON. */
static void copy_text(char *to, const u8 *from, size_t len)
{
	size_t i;

	for (i = 0; i < len && from[i]; i++)
		to[i] = from[i] >= ' ' && from[i] < 0x7f ? from[i] : '?';
	to[i] = 0;
}

static void panicked(struct guest *g, const struct pvhv_guest_config *c)
{
	copy_text(g->message, c->message, sizeof(c->message));
	if (g->panics++ < PANICS_SAID)
		note("the guest panicked: %s", g->message);
	control_event("guest-panicked", "{s:s}", "message", g->message);
}

/* 2. A new life. */

void guest_renew(struct virtio *v, const u8 identity[IDENTITY_LEN])
{
	struct guest *g = to_guest(v);
	struct pvhv_guest_config c = config_of(g);
	struct timespec now;

	memcpy(c.identity, identity, sizeof(c.identity));
	clock_gettime(CLOCK_REALTIME, &now);
	c.clock_ns = now.tv_sec * 1000000000ULL + now.tv_nsec;
	c.renewals++;
	virtio_config_set(v, 0, &c, FIELD(freeze));
}

/* 3. Standing still. */

static void answer(struct guest *g, int err, const char *why, s64 nr)
{
	struct control_call *call = g->call;

	if (!call)
		return;
	g->call = NULL;
	loop_cancel(&g->timer);
	if (err)
		control_fail(call, err, "%s", why);
	else
		control_done(call, json_pack("{s:I}", "file_systems",
					     (json_int_t)nr));
}

static void timed_out(struct loop_op *op, int res)
{
	struct guest *g = container_of(op, struct guest, timer);

	if (res != -ECANCELED)
		answer(g, -ETIMEDOUT, "the guest does not answer", 0);
}

static void freeze_done(struct guest *g, const struct pvhv_guest_config *c)
{
	bool was = g->frozen;

	g->frozen = c->freeze_state == PVHV_GUEST_FROZEN;
	if (c->freeze_state == PVHV_GUEST_REFUSED)
		answer(g, -EIO, "the guest could not do it: its log has why", 0);
	else if (c->freeze_state == PVHV_GUEST_OVERDUE)
		answer(g, -ETIMEDOUT, "the guest went on by itself", 0);
	else
		answer(g, 0, NULL, c->freeze_count);
	if (was != g->frozen)
		control_event(g->frozen ? "guest-frozen" : "guest-thawed",
			      "{s:b}", "overdue",
			      c->freeze_state == PVHV_GUEST_OVERDUE);
}

static void ask(struct guest *g, u32 ms, struct control_call *call)
{
	struct {
		u32 freeze;
		u32 freeze_ms;
	} request = { g->request + 1, ms };

	if (!g->v.started) {
		control_fail(call, -ENOTCONN, "the guest has no driver for this: pvhv_guest of pvdrivers");
		return;
	}
	if (g->call) {
		control_fail(call, -EBUSY, "the guest has not answered the last request yet");
		return;
	}
	if (g->timer.busy || loop_timer(&g->timer, ANSWER_MS)) {
		control_fail(call, -EBUSY, "the last request is hardly over: try again");
		return;
	}
	g->call = call;
	g->request++;
	virtio_config_set(&g->v, FIELD(freeze), &request, sizeof(request));
}

/* The guest's half was written, all of it guest's numbers. */
static void config_changed(struct virtio *v, u32 off, u32 len)
{
	struct guest *g = to_guest(v);
	struct pvhv_guest_config c = config_of(g);

	if (off <= FIELD(panics) && off + len > FIELD(panics) && c.panics)
		panicked(g, &c);
	if (off <= FIELD(freeze_done) && off + len > FIELD(freeze_done) &&
	    c.freeze_done == g->request && g->request)
		freeze_done(g, &c);
}

static bool config_writable(const struct virtio *v, u32 off, u32 len)
{
	(void)v;
	return off >= FIRST_OF_GUEST &&
	       off + len <= sizeof(struct pvhv_guest_config);
}

/* The control socket's view. */

static json_t *status(void *arg)
{
	struct guest *g = arg;
	struct pvhv_guest_config c = config_of(g);
	char identity[2 * sizeof(c.identity) + 1];
	json_t *obj;
	size_t i;

	for (i = 0; i < sizeof(c.identity); i++)
		snprintf(identity + 2 * i, 3, "%02x", c.identity[i]);
	obj = json_pack("{s:b, s:b, s:i, s:s, s:i}", "driver", g->v.started,
			"frozen", g->frozen, "panics", (int)g->panics,
			"identity", identity, "renewals", (int)c.renewals);
	if (obj && g->panics)
		json_object_set_new(obj, "message", json_string(g->message));
	return obj;
}

static void run_freeze(void *arg, json_t *params, struct control_call *call)
{
	const json_t *given = json_object_get(params, "timeout_ms");
	json_int_t ms = given ? json_integer_value(given) : FREEZE_MS_DEFAULT;

	if (ms < 1 || ms > FREEZE_MS_MAX)
		control_fail(call, -ERANGE, "timeout_ms: 1 to %d",
			     FREEZE_MS_MAX);
	else
		ask(arg, ms, call);
}

static void run_thaw(void *arg, json_t *params, struct control_call *call)
{
	(void)params;
	ask(arg, 0, call);
}

static void run_renew(void *arg, json_t *params, struct control_call *call)
{
	struct guest *g = arg;
	int ret;

	(void)params;
	ret = identity_renew(g->vm);
	if (ret)
		control_fail(call, ret, "no new identity: %s", strerror(-ret));
	else
		control_done(call, status(g));
}

static const struct control_command commands[] = {
	{ "freeze", run_freeze, { { "timeout_ms", CONTROL_U64, false } } },
	{ "thaw", run_thaw, { { NULL } } },
	{ "renew", run_renew, { { NULL } } },
	{ NULL }
};

/* The device. */

static void start(struct virtio *v)
{
	(void)v;
}

static void stop(struct virtio *v)
{
	if (v->closing)
		answer(to_guest(v), -ECANCELED, "the machine stops", 0);
	virtio_stopped(v);
}

static void kick(struct virtio *v, unsigned int queue)
{
	(void)v;
	(void)queue;
}

/* A driver that goes has thawed what it froze. */
static void reset(struct virtio *v)
{
	struct guest *g = to_guest(v);
	static const u8 none[sizeof(struct pvhv_guest_config) - FIRST_OF_GUEST];

	answer(g, -ECONNRESET, "the guest's driver went away", 0);
	g->frozen = false;
	virtio_config_set(v, FIRST_OF_GUEST, none, sizeof(none));
}

static void save(struct virtio *v, struct state *st)
{
	struct guest *g = to_guest(v);

	state_put_u64(st, "request", g->request);
	state_put_u64(st, "frozen", g->frozen);
	state_put_u64(st, "panics", g->panics);
}

static int load(struct virtio *v, const struct state_section *sec)
{
	struct guest *g = to_guest(v);
	u64 request, frozen, panics;

	if (state_get_u64(sec, "request", UINT32_MAX, &request) ||
	    state_get_u64(sec, "frozen", 1, &frozen) ||
	    state_get_u64(sec, "panics", UINT32_MAX, &panics))
		return -EBADMSG;
	g->request = request;
	g->frozen = frozen;
	g->panics = panics;
	return 0;
}

static void destroy(struct virtio *v)
{
	struct guest *g = to_guest(v);

	control_remove(&g->source);
	virtio_fini(v);
	free(g);
}

static const struct virtio_ops guest_ops = {
	.name = "pvhv-guest",
	.id = PVHV_GUEST_DEVICE,
	.start = start,
	.stop = stop,
	.kick = kick,
	.reset = reset,
	.config_changed = config_changed,
	.config_writable = config_writable,
	.save = save,
	.load = load,
	.destroy = destroy,
};

/* NULL: it has been said why. */
struct virtio *virtio_guest_create(struct vm *vm)
{
	struct guest *g = calloc(1, sizeof(*g));

	if (!g) {
		fail(-ENOMEM, "out of memory");
		return NULL;
	}
	if (virtio_init(&g->v, &guest_ops, &vm->mem, "guest", 0, 0)) {
		free(g);
		return NULL;
	}
	g->vm = vm;
	g->v.config_len = sizeof(struct pvhv_guest_config);
	g->timer.done = timed_out;
	g->source = (struct control_source){
		.kind = "guest", .name = "guest", .arg = g,
		.status = status, .commands = commands,
	};
	control_add(&g->source);
	return &g->v;
}
