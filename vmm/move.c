// SPDX-License-Identifier: GPL-2.0
/*
 * A running machine is saved, by command (see move.h).
 *  1. The client: its order with the descriptors, progress for it, its going
 *     away, which cancels.
 *  2. What the library asks of the machine, in threads of its own: errands of
 *     the main thread, whose end they wait for.
 *  3. The end: a suspended machine ends, a snapshot's goes on.
 */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "move.h"

#define PROGRESS_MS	250
#define ORDER_MAX	4096
#define FDS_MAX		1

static struct mover {
	struct vm *vm;
	struct move_cpu cpu;		/* [c] */
	int client;			/* [m] or -1 */
	int fd;				/* [m] the file, or -1 */
	struct migrate *m;		/* [m] NULL: nothing goes on */
	bool ends;			/* [m] the machine does, when it is saved */
	bool closing;			/* [m] */
	struct letter over;		/* of the library, when all is done */
	struct freeze freeze;
	struct errand *freezing;	/* [m] waits for the freeze */
	struct loop_op order_op;	/* [m] */
	struct loop_op tick_op;		/* [m] */
	struct control_source source;
} mover = { .client = -1, .fd = -1 };

/* 1. The client. */

static void tell(const char *event, const char *fmt, ...)
{
	json_t *obj = NULL, *head = json_pack("{s:s}", "event", event);
	json_error_t why;
	char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	obj = json_vpack_ex(&why, 0, fmt, ap);
	va_end(ap);
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

static void drop_client(void)
{
	if (mover.client >= 0)
		close(mover.client);
	mover.client = -1;
}

static void tick(struct loop_op *op, int res)
{
	struct migrate_progress p;

	(void)res;
	if (!mover.m || mover.closing)
		return;
	migrate_progress(mover.m, &p);
	tell("progress", "{s:s, s:I, s:I, s:I, s:f}",
	     "phase", migrate_state_name(p.state),
	     "total", (json_int_t)p.total, "remaining", (json_int_t)p.remaining,
	     "bytes", (json_int_t)p.bytes, "seconds", p.elapsed_us / 1e6);
	loop_timer(op, PROGRESS_MS);
}

/* 2. Errands. */

struct errand {
	struct letter letter;
	int (*run)(struct errand *e);	/* may end it later: WAITS */
	int ret;
	struct state *st;
	sem_t ended;
};

#define WAITS	1

static void end_errand(struct errand *e, int ret)
{
	e->ret = ret;
	sem_post(&e->ended);
}

static void opened(struct letter *letter)
{
	struct errand *e = container_of(letter, struct errand, letter);
	int ret = e->run(e);

	if (ret != WAITS)
		end_errand(e, ret);
}

/* In one of the library's threads. */
static int send_main(int (*run)(struct errand *e), struct state *st)
{
	struct errand e = { .letter.opened = opened, .run = run, .st = st };

	sem_init(&e.ended, 0, 0);
	mailbox_post(&e.letter);
	while (sem_wait(&e.ended))
		;
	sem_destroy(&e.ended);
	return e.ret;
}

static void frozen(struct freeze *f, int err)
{
	struct errand *e = mover.freezing;

	(void)f;
	mover.freezing = NULL;
	if (e)
		end_errand(e, err);
}

static int run_pause(struct errand *e)
{
	int ret;

	mover.freezing = e;
	mover.freeze.done = frozen;
	ret = vm_freeze(mover.vm, &mover.freeze);
	if (!ret)
		return WAITS;
	mover.freezing = NULL;
	return ret;
}

static int run_resume(struct errand *e)
{
	(void)e;
	vm_thaw(mover.vm);
	return 0;
}

static int run_save(struct errand *e)
{
	return vm_save(mover.vm, e->st);
}

static int op_blocks(void *vm, struct migrate_block *list, unsigned int max)
{
	return move_blocks(vm, list, max);
}

static int op_describe(void *vm, struct migrate_facts *facts)
{
	return move_describe(vm, &mover.cpu, facts);
}

static int op_pause(void *vm)
{
	(void)vm;
	return send_main(run_pause, NULL);
}

static int op_resume(void *vm)
{
	(void)vm;
	return send_main(run_resume, NULL);
}

static int op_save(void *vm, void **data, size_t *len)
{
	struct state st;
	int ret;

	(void)vm;
	state_init(&st);
	ret = send_main(run_save, &st);
	if (ret) {
		state_free(&st);
		return ret;
	}
	*data = st.data;
	*len = st.len;
	return 0;
}

static void op_done(void *vm)
{
	(void)vm;
	mailbox_post(&mover.over);
}

static const struct migrate_ops ops = {
	.blocks = op_blocks,
	.describe = op_describe,
	.pause = op_pause,
	.resume = op_resume,
	.save = op_save,
	.done = op_done,
};

/* 3. The end. */

static void finish(struct letter *letter)
{
	struct migrate_result result;

	(void)letter;
	migrate_wait(mover.m, &result);
	mover.m = NULL;
	close(mover.fd);
	mover.fd = -1;
	loop_cancel(&mover.tick_op);
	if (result.err) {
		fail(result.err, "saving the machine: %s", result.why);
		tell("failed", "{s:s, s:i}", "message", result.why, "errno",
		     -result.err);
	} else {
		tell("done", "{s:I, s:f, s:f}",
		     "bytes", (json_int_t)result.progress.bytes,
		     "seconds", result.progress.elapsed_us / 1e6,
		     "downtime", result.progress.downtime_us / 1e6);
	}
	/* What the client has not read yet stays readable for it. */
	drop_client();
	if (result.err)
		return;
	if (!mover.ends)
		vm_thaw(mover.vm);
	control_event(mover.ends ? "suspended" : "saved", "{}");
	if (mover.ends)
		vm_stop(mover.vm, STATUS_POWEROFF);
}

static int start(bool ends)
{
	struct migrate_params params;
	int ret;

	migrate_params_init(&params);
	mover.ends = ends;
	mover.over.opened = finish;
	ret = migrate_save(&mover.m, &ops, mover.vm, &params, mover.fd);
	if (ret)
		mover.m = NULL;
	else
		loop_timer(&mover.tick_op, PROGRESS_MS);
	return ret;
}

static void refuse(int err, const char *why)
{
	tell("failed", "{s:s, s:i}", "message", why, "errno", -err);
	if (mover.fd >= 0)
		close(mover.fd);
	mover.fd = -1;
	drop_client();
}

/* One message with a descriptor. */
static ssize_t receive(char *text, size_t len)
{
	union {
		char room[CMSG_SPACE(FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { text, len };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.room, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	n = recvmsg(mover.client, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n;
	c = CMSG_FIRSTHDR(&msg);
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&mover.fd, CMSG_DATA(c), sizeof(int));
	return n;
}

static void obey(const char *text, size_t len)
{
	json_t *order = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	const char *what = json_string_value(json_object_get(order, "do"));
	int ret;

	if (!what || (strcmp(what, "suspend") && strcmp(what, "snapshot")))
		refuse(-EINVAL, "an order to suspend or snapshot is needed");
	else if (mover.fd < 0)
		refuse(-EBADF, "no file came with the order");
	else if (vm_stopping(mover.vm))
		refuse(-EBUSY, "the machine stops");
	else {
		ret = start(!strcmp(what, "suspend"));
		if (ret)
			refuse(ret, strerror(-ret));
	}
	json_decref(order);
}

/* The client has something to say, or has gone. */
static void client_ready(struct loop_op *op, int res)
{
	char text[ORDER_MAX];
	ssize_t n;

	(void)res;
	if (mover.closing || mover.client < 0)
		return;
	if (!mover.m) {
		n = receive(text, sizeof(text));
		if (n > 0)
			obey(text, n);
		else if (n == 0 || errno != EAGAIN)
			drop_client();
	} else {
		n = recv(mover.client, text, sizeof(text), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN)) {
			migrate_cancel(mover.m);
			drop_client();
		}
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
	mover.order_op.done = client_ready;
	mover.tick_op.done = tick;
	return loop_poll(&mover.order_op, fd, POLLIN);
}

int move_open(struct vm *vm)
{
	if (!vm->opt->control)
		return 0;
	mover.vm = vm;
	mover.source = (struct control_source){
		.kind = "mover", .name = "mover", .attach = attach,
	};
	control_add(&mover.source);
	return move_know_cpu(vm, &mover.cpu);
}

/* The loop has ended: what goes on comes to its end here. */
void move_close(struct vm *vm)
{
	if (!mover.vm)
		return;
	mover.closing = true;
	if (mover.m)
		migrate_cancel(mover.m);
	while (mover.m) {
		freeze_service(vm);	/* is told that the machine stops */
		mailbox_wait();
	}
	loop_cancel(&mover.order_op);
	loop_cancel(&mover.tick_op);
	drop_client();
	control_remove(&mover.source);
	mover.vm = NULL;
}
