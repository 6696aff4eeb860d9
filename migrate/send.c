// SPDX-License-Identifier: GPL-2.0
/*
 * A source: describes the machine, and if the destination accepts it, sends
 * memory while it runs, the rest while it stands, and hands it over.  Whatever
 * fails before that, the machine runs on here.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "mig.h"

/* The destination makes the machine before it accepts: in stall times. */
#define PATIENCE	3

struct send {
	struct precopy precopy;
	struct limit limit;
	unsigned int nr;		/* workers made */
	struct worker w[MIGRATE_CONNECTIONS_MAX];
};

static int open_connection(struct send *s, struct migrate *m)
{
	struct header h = {
		.version = FMT_VERSION,
		.flags = m->params.oneway ? HDR_ONEWAY : 0,
		.connection = s->nr,
		.connections = m->params.connections,
	};
	struct migrate_io *io;
	int err;

	err = connect_one(m, &io, m->params.stall_ms);
	if (err)
		return err;
	err = worker_init(&s->w[s->nr++], m, h.connection, io);
	if (err)
		return err;
	memcpy(h.id, m->id, sizeof(h.id));
	return stream_put_header(&s->w[h.connection].s, &h);
}

static int set_up(struct send *s, struct migrate *m)
{
	struct section sec;
	int err;

	if (getrandom(m->id, sizeof(m->id), 0) != sizeof(m->id))
		return verdict(&m->verdict, -EIO, "no random numbers");
	if (m->params.oneway && m->params.connections > 1)
		return verdict(&m->verdict, -EINVAL, "a file or pipe is one connection");
	err = blocks_get(&m->blocks, m->ops, m->vm, &m->verdict);
	if (err)
		return err;
	err = open_connection(s, m);
	if (err)
		return err;
	err = send_facts(m, &s->w[0].s);
	if (!err)
		err = disks_offer(m, &s->w[0].s);
	if (!err)
		err = blocks_put(&s->w[0].s, &m->blocks);
	if (!err && !m->params.oneway) {
		s->w[0].s.ch.stall_ms *= PATIENCE;
		err = disks_wanted(m, &s->w[0].s);
		if (!err)
			err = stream_expect(&s->w[0].s, TYPE_ACCEPT, &sec);
		s->w[0].s.ch.stall_ms = m->params.stall_ms;
	}
	handle_total(m);
	while (!err && s->nr < m->params.connections)
		err = open_connection(s, m);
	return err;
}

static int do_round(struct precopy *p, u32 round, bool limited)
{
	struct send *s = (struct send *)p;	/* its first member */

	return workers_round(s->w, s->nr, &p->todo, &p->disks_todo, limited ? &s->limit : NULL,
			     round);
}

static int send_machine(struct send *s, struct migrate *m)
{
	void *state = NULL;
	size_t len = 0;
	unsigned int i;
	int err;

	/* Into a file there are no second rounds: each page is there once. */
	err = m->params.oneway ? 0 : precopy_rounds(&s->precopy);
	if (!err)
		err = precopy_stop(&s->precopy, &state, &len);
	if (!err)
		err = state_put(&s->w[0].s, state, len);
	for (i = s->nr; !err && i-- > 0; )
		err = worker_end(&s->w[i], i ? 0 : len);
	free(state);
	return err ? err : handover_give(m, &s->w[0].s);
}

/* To all connections: each is read by a thread of its own. */
static void tell_failure(struct send *s)
{
	unsigned int i;

	for (i = 0; i < s->nr; i++)
		if (s->w[i].open)
			stream_put_fail(&s->w[i].s);
}

static bool connection_broke(struct migrate *m)
{
	return !handle_cancelled(m) && m->verdict.err != -EREMOTEIO;
}

static int run(struct migrate *m)
{
	struct send *s = calloc(1, sizeof(*s));
	unsigned int i;
	int err;

	m->owner = MIGRATE_HERE;
	if (!s)
		return verdict(&m->verdict, -ENOMEM, "no memory");
	limit_init(&s->limit, m->params.bandwidth);
	err = set_up(s, m);
	if (err)
		goto out;
	err = precopy_init(&s->precopy, m);
	if (err)
		goto out;
	s->precopy.round = do_round;
	err = send_machine(s, m);
	precopy_fini(&s->precopy);
out:
	/* The machine first, then those who want to know. */
	if (err && m->owner == MIGRATE_HERE)
		handle_resume(m);
	if (err && m->verdict.err != -EREMOTEIO && !m->params.oneway && !m->committed)
		tell_failure(s);
	if (err && m->progress.state == MIGRATE_HANDOVER && !m->committed && connection_broke(m))
		handover_withdraw(m);
	for (i = 0; i < s->nr; i++)
		worker_fini(&s->w[i]);
	free(s);
	return err ? m->verdict.err : 0;
}

int migrate_send(struct migrate **m, const struct migrate_ops *ops, void *vm,
		 const struct migrate_params *params)
{
	return handle_start(m, ops, vm, params, run, -1);
}
