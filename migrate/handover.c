// SPDX-License-Identifier: GPL-2.0
/*
 * Who owns the machine.
 *
 *	destination            source
 *	READY     ----------->          all is here and could run
 *	          <-----------  YOURS   from here on it is not the source's
 *	TAKEN     ----------->          it is the destination's, and runs
 *	          <-----------  BYE     nobody will ask any more
 *
 * Instead of TAKEN there may be RELEASED: the destination will never run it.
 * BYE follows both.
 * If the connection breaks before YOURS was written, the machine is the
 * source's, which runs it and says so as below.  If it breaks after that, only
 * the destination knows: the source asks on a new connection (a header with
 * RESOLVE) and gets the same answer.  A destination that is ready and hears
 * nothing waits for that question; the first one makes it answer RELEASED for
 * good.
 */
#include <string.h>

#include "mig.h"

#define RESOLVE_STALLS	6		/* how long it is tried, in stall times */
#define TRY_MS		250
#define ANSWER_MS	2000

int connect_one(struct migrate *m, struct migrate_io **io, int timeout_ms)
{
	u64 end = now_ns() + timeout_ms * NSEC_PER_MSEC;
	int err;

	/* In slices, to notice a cancel; no limit if it is negative */
	do {
		*io = NULL;
		err = m->ops->connection(m->vm, io, TRY_MS);
		if (m->verdict.err && !err) {
			(*io)->ops->close(*io);
			*io = NULL;
		}
		if (m->verdict.err)
			return -ECANCELED;
	} while (err == -ETIMEDOUT && (timeout_ms < 0 || now_ns() < end));
	if (err)
		return verdict(&m->verdict, err, "no connection: %s", strerror(-err));
	return 0;
}

/* A connection to ask or answer on; whatever happens to it is of no importance. */
static int open_resolve(struct migrate *m, struct stream *s, struct verdict *v, const char *peer)
{
	struct migrate_io *io = NULL;
	int err;

	err = m->ops->connection(m->vm, &io, TRY_MS);
	if (err)
		return err;
	err = verdict_init(v);
	if (err) {
		io->ops->close(io);
		return err;
	}
	stream_init(s, io, v, ANSWER_MS, peer);
	return 0;
}

static u64 resolve_until(const struct migrate *m)
{
	return now_ns() + RESOLVE_STALLS * m->params.stall_ms * NSEC_PER_MSEC;
}

/* Source: TAKEN, RELEASED, or 0: no answer */
static u32 ask(struct migrate *m, u64 end)
{
	struct header h = {
		.version = FMT_VERSION, .flags = HDR_RESOLVE, .connections = 1,
	};
	struct verdict v;
	struct stream s;
	struct section sec;
	u32 answer = 0;

	memcpy(h.id, m->id, sizeof(h.id));
	while (!answer && now_ns() < end) {
		if (open_resolve(m, &s, &v, "the destination")) {
			sleep_ms(TRY_MS);
			continue;
		}
		if (!stream_put_header(&s, &h) && !stream_get(&s, &sec) &&
		    (sec.type == TYPE_TAKEN || sec.type == TYPE_RELEASED)) {
			answer = sec.type;
			stream_put_empty(&s, TYPE_BYE);
		}
		stream_close(&s);
		verdict_fini(&v);
		if (!answer)
			sleep_ms(TRY_MS);
	}
	return answer;
}

/* Destination: true if it was asked and has answered */
static bool answer_one(struct migrate *m, u32 type)
{
	struct section sec;
	struct verdict v;
	struct stream s;
	struct header h;
	bool done;

	if (open_resolve(m, &s, &v, "the source"))
		return false;
	done = !stream_get_header(&s, &h) && h.flags & HDR_RESOLVE &&
	       !memcmp(h.id, m->id, sizeof(h.id)) && !stream_put_empty(&s, type) &&
	       !stream_expect(&s, TYPE_BYE, &sec);
	stream_close(&s);
	verdict_fini(&v);
	return done;
}

/* Waits to be asked; true if it was, false if nobody did or (@forcible) it is to be taken. */
static bool answer(struct migrate *m, u32 type, bool forcible)
{
	u64 end = resolve_until(m);

	while (now_ns() < end && !(forcible && m->force)) {
		if (answer_one(m, type))
			return true;
		sleep_ms(MIN(TRY_MS / 10, m->params.stall_ms));
	}
	return false;
}

static int given(struct migrate *m, u32 how)
{
	char why[MIGRATE_WHY_MAX] = "";
	int err;

	handle_downtime(m);
	if (how == TYPE_TAKEN) {
		m->owner = MIGRATE_THERE;
		return 0;
	}
	if (how == TYPE_RELEASED) {
		err = m->ops->acquire ? m->ops->acquire(m->vm, why) : 0;
		if (err) {
			m->owner = MIGRATE_UNKNOWN;
			return verdict_instead(&m->verdict, err,
					       "the destination gave the machine back, but here: %s", why);
		}
		return verdict_instead(&m->verdict, -ECONNABORTED,
				       "the destination gave the machine back");
	}
	m->owner = MIGRATE_UNKNOWN;
	return verdict_instead(&m->verdict, -ECONNABORTED,
			       "the connection broke at the hand-over and the destination does not answer: the machine is paused here; resume it only if it does not run there");
}

int handover_give(struct migrate *m, struct stream *s)
{
	struct section sec = { .type = 0 };
	int err;

	handle_state(m, MIGRATE_HANDOVER);
	if (!m->params.oneway) {
		err = stream_expect(s, TYPE_READY, &sec);
		if (err)
			return err;
	}
	err = handle_commit(m);
	if (err)
		return err;
	if (m->params.oneway)
		return given(m, TYPE_TAKEN);
	err = m->ops->release ? m->ops->release(m->vm) : 0;
	if (err) {
		handle_uncommit(m);
		return verdict(&m->verdict, err, "what only one side may hold is not let go: %s",
			       strerror(-err));
	}
	s->ch.deaf = true;
	if (stream_put_empty(s, TYPE_YOURS) || stream_get(s, &sec) ||
	    (sec.type != TYPE_TAKEN && sec.type != TYPE_RELEASED)) {
		stream_close(s);
		return given(m, ask(m, resolve_until(m)));
	}
	/* If this gets lost, the destination only waits in vain to be asked. */
	stream_put_empty(s, TYPE_BYE);
	return given(m, sec.type);
}

/* A destination that may wait for YOURS learns that it waits in vain: it is asked. */
void handover_withdraw(struct migrate *m)
{
	ask(m, now_ns() + ANSWER_MS * NSEC_PER_MSEC);
}

/* RELEASED, for certain */
static int give_back(struct migrate *m, struct stream *s)
{
	struct section sec;

	m->owner = MIGRATE_THERE;
	s->ch.deaf = true;
	if (stream_put_empty(s, TYPE_RELEASED) || stream_get(s, &sec)) {
		stream_close(s);
		answer(m, TYPE_RELEASED, false);
	}
	return m->verdict.err;
}

static int take(struct migrate *m, struct stream *s, bool forced)
{
	char why[MIGRATE_WHY_MAX] = "";
	bool told = false;
	struct section sec;
	int err;

	err = forced ? 0 : handle_commit(m);
	if (err)
		return give_back(m, s);
	err = m->ops->acquire ? m->ops->acquire(m->vm, why) : 0;
	if (err) {
		verdict(&m->verdict, err, "%s", why);
		return give_back(m, s);
	}
	s->ch.deaf = true;
	m->owner = MIGRATE_HERE;
	/* First it runs: the guest has been waiting, and the source measures for how long. */
	err = m->ops->resume(m->vm);
	if (err)
		verdict(&m->verdict, err, "the machine does not run: %s", strerror(-err));
	if (!forced)
		told = !stream_put_empty(s, TYPE_TAKEN);
	if (told && !stream_expect(s, TYPE_BYE, &sec))
		return err;
	stream_close(s);
	answer(m, TYPE_TAKEN, false);
	return err;
}

int handover_take(struct migrate *m, struct stream *s)
{
	struct section sec;
	int err;

	m->owner = MIGRATE_THERE;
	err = stream_put_empty(s, TYPE_READY);
	if (err)
		return err;
	handle_state(m, MIGRATE_HANDOVER);
	err = stream_expect(s, TYPE_YOURS, &sec);
	if (!err)
		return take(m, s, false);
	if (err == -EREMOTEIO)
		return err;
	if (handle_cancelled(m))
		return give_back(m, s);
	stream_close(s);
	if (answer(m, TYPE_RELEASED, true))
		return err;
	if (!m->force) {
		m->owner = MIGRATE_UNKNOWN;
		return err;
	}
	return take(m, s, true);
}
