// SPDX-License-Identifier: GPL-2.0
/*
 * A destination.  Nothing that comes is believed: a connection's sections are
 * checked one by one, and what does not fit ends the migration, with a reason
 * that the source gets to read.
 *  1. The first connection: description, disks, memory layout.
 *  2. All connections, each by a thread: pages, parts of disks, rounds, and END.
 *  3. The device state is loaded; then it is the hand-over's turn.
 */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

struct conn {
	struct receiver *r;
	struct stream s;
	struct unpack u;
	u8 *chunk;			/* of a disk, made at the first need */
	bool first;
	pthread_t thread;
};

int receive_facts(struct migrate *m, struct stream *s)
{
	struct migrate_facts *facts;
	char why[MIGRATE_WHY_MAX] = "";
	struct section sec;
	int err;

	err = stream_expect(s, TYPE_FACTS, &sec);
	if (err)
		return err;
	facts = migrate_facts_new();
	if (!facts)
		return verdict(&m->verdict, -ENOMEM, "no memory");
	err = facts_parse(facts, sec.data, sec.len);
	if (err) {
		verdict(&m->verdict, err, "the machine's description is malformed");
	} else {
		err = m->ops->check(m->vm, facts, why);
		if (err)
			verdict(&m->verdict, err, "%s", *why ? why : strerror(-err));
	}
	migrate_facts_free(facts);
	return err;
}

int receive_blocks(struct migrate *m, struct stream *s, const struct header *h)
{
	struct section sec;
	int err;

	err = blocks_get(&m->blocks, m->ops, m->vm, &m->verdict);
	if (!err)
		err = stream_get(s, &sec);
	if (!err && sec.type == TYPE_DISKS && !(h->flags & HDR_IMAGE)) {
		err = disks_choose(m, sec.data, sec.len, h->flags & HDR_ONEWAY);
		if (!err)
			err = stream_get(s, &sec);
	}
	if (!err && sec.type != TYPE_BLOCKS)
		err = stream_unexpected(s, &sec);
	if (!err)
		err = blocks_check(&m->blocks, sec.data, sec.len, &m->verdict);
	handle_total(m);
	return err;
}

int receive_load(struct migrate *m, struct state_in *state)
{
	char why[MIGRATE_WHY_MAX] = "";
	int err;

	err = m->ops->load(m->vm, state->data, state->len, why);
	if (err)
		return verdict(&m->verdict, err, "the devices' state: %s",
			       *why ? why : strerror(-err));
	return 0;
}

static int check_end(struct conn *c, const struct section *sec)
{
	u64 state = c->first ? c->r->state.len : 0;

	if (sec->len != END_LEN || get64(sec->data) != c->u.pages ||
	    get64(sec->data + 8) != state || (c->first && state != c->r->state.total))
		return verdict(&c->r->m->verdict, -EBADMSG,
			       "%s: the end does not match what came", c->s.ch.peer);
	return 0;
}

static int echo_round(struct conn *c, const struct section *sec, bool oneway)
{
	u8 buf[SECTION_ROOM(ROUND_LEN)];

	if (sec->len != ROUND_LEN)
		return stream_unexpected(&c->s, sec);
	if (oneway)
		return 0;
	/* Little by little, so that the last time is short */
	if (c->first && disks_flush(c->r->m))
		return -ECANCELED;
	memcpy(buf + SEC_LEN, sec->data, ROUND_LEN);
	return stream_put(&c->s, TYPE_ROUND, buf, ROUND_LEN);
}

static int receive_conn(struct conn *c, bool oneway)
{
	struct migrate *m = c->r->m;
	struct section sec;
	u64 told = 0;
	int err;

	for (;;) {
		err = stream_get(&c->s, &sec);
		if (err)
			return err;
		m->bytes += c->s.ch.bytes_in - told;
		told = c->s.ch.bytes_in;
		if (sec.type == TYPE_PAGES)
			err = unpack(&c->u, sec.data, sec.len);
		else if (sec.type == TYPE_DISK)
			err = disk_unpack(m, c->r->disk_have, &c->chunk, sec.data, sec.len);
		else if (sec.type == TYPE_ROUND)
			err = echo_round(c, &sec, oneway);
		else if (sec.type == TYPE_STATE && c->first)
			err = state_get(&c->r->state, &sec, &m->verdict);
		else if (sec.type == TYPE_END)
			return check_end(c, &sec);
		else
			err = stream_unexpected(&c->s, &sec);
		if (err)
			return err;
	}
}

static void tell(struct conn *c)
{
	if (c->r->m->verdict.err != -EREMOTEIO)
		stream_put_fail(&c->s);
}

static void *conn_thread(void *arg)
{
	struct conn *c = arg;
	int err = receive_conn(c, false);

	if (err)
		tell(c);
	return (void *)(long)err;
}

static int conn_init(struct conn *c, struct receiver *r)
{
	c->r = r;
	c->u.blocks = &r->m->blocks;
	c->u.have = r->have;
	c->u.stats = &r->m->stats;
	c->u.verdict = &r->m->verdict;
	if (unpack_init(&c->u))
		return verdict(&r->m->verdict, -ENOMEM, "no memory");
	return 0;
}

static void conn_fini(struct conn *c)
{
	if (!c->r)
		return;
	unpack_fini(&c->u);
	free(c->chunk);
	stream_close(&c->s);
}

/* One more of the first one's kind, whichever comes */
static int accept_conn(struct receiver *r, struct conn *conns, const struct header *first)
{
	struct migrate *m = r->m;
	struct migrate_io *io;
	struct header h;
	struct stream s;
	struct conn *c;
	int err;

	err = connect_one(m, &io, m->params.stall_ms);
	if (err)
		return err;
	stream_init(&s, io, &m->verdict, m->params.stall_ms, "the source");
	err = stream_get_header(&s, &h);
	if (!err && (memcmp(h.id, first->id, sizeof(h.id)) || h.version != first->version ||
		     h.flags != first->flags || h.connections != first->connections ||
		     !h.connection || conns[h.connection].r))
		err = verdict(&m->verdict, -EPROTO, "a connection of another migration came");
	if (err) {
		stream_put_fail(&s);
		stream_close(&s);
		return err;
	}
	c = &conns[h.connection];
	c->s = s;
	return conn_init(c, r);
}

static int receive_conns(struct receiver *r, struct conn *conns, const struct header *h)
{
	unsigned int i, started = 1;
	bool oneway = h->flags & HDR_ONEWAY;
	void *ret;
	int err = 0;

	for (i = 1; !err && i < h->connections; i++)
		err = accept_conn(r, conns, h);
	while (!err && started < h->connections) {
		err = -pthread_create(&conns[started].thread, NULL, conn_thread, &conns[started]);
		if (err)
			verdict(&r->m->verdict, err, "a thread: %s", strerror(-err));
		else
			started++;
	}
	if (!err)
		err = receive_conn(&conns[0], oneway);
	for (i = 1; i < started; i++) {
		pthread_join(conns[i].thread, &ret);
		if (!err)
			err = (long)ret;
	}
	for (; err && i < h->connections; i++)
		if (conns[i].r)
			tell(&conns[i]);
	return err;
}

static int receiver_init(struct receiver *r, struct migrate *m)
{
	unsigned int i;

	r->m = m;
	for (i = 0; i < m->blocks.nr; i++) {
		r->have[i] = calloc(bitmap_words(m->blocks.b[i].size / PAGE_SIZE), sizeof(u64));
		if (!r->have[i])
			return verdict(&m->verdict, -ENOMEM, "no memory for a bitmap");
	}
	for (i = 0; i < m->disks.nr; i++) {
		if (!(m->disks.want & 1ULL << i))
			continue;
		r->disk_have[i] = calloc(bitmap_words(disk_chunks(m->disks.d[i].size)), sizeof(u64));
		if (!r->disk_have[i])
			return verdict(&m->verdict, -ENOMEM, "no memory for a bitmap");
	}
	return 0;
}

int receive_all(struct migrate *m, struct stream *s, const struct header *h)
{
	bool oneway = h->flags & HDR_ONEWAY;
	struct receiver r = { .m = m };
	struct conn *conns = NULL;
	unsigned int i;
	int err;

	err = receive_facts(m, s);
	if (!err)
		err = receive_blocks(m, s, h);
	if (!err)
		err = receiver_init(&r, m);
	if (err)
		goto out;
	err = -ENOMEM;
	conns = calloc(MIGRATE_CONNECTIONS_MAX, sizeof(*conns));
	if (!conns) {
		verdict(&m->verdict, err, "no memory");
		goto out;
	}
	err = conn_init(&conns[0], &r);
	if (err)
		goto out;
	conns[0].first = true;
	conns[0].s = *s;
	handle_state(m, MIGRATE_MEMORY);
	err = oneway ? 0 : disks_want(m, &conns[0].s);
	if (!err && !oneway)
		err = stream_put_empty(&conns[0].s, TYPE_ACCEPT);
	if (!err)
		err = receive_conns(&r, conns, h);
	*s = conns[0].s;
	conns[0].s.ch.io = NULL;
	conns[0].s.buf = NULL;
	if (!err)
		err = disks_flush(m);
	if (!err)
		err = receive_load(m, &r.state);
out:
	for (i = 0; conns && i < MIGRATE_CONNECTIONS_MAX; i++)
		conn_fini(&conns[i]);
	free(conns);
	for (i = 0; i < m->blocks.nr; i++)
		free((void *)r.have[i]);
	for (i = 0; i < m->disks.nr; i++)
		free((void *)r.disk_have[i]);
	free(r.state.data);
	return err;
}

static int run(struct migrate *m)
{
	struct migrate_io *io;
	struct stream s;
	struct header h = { .flags = 0 };
	int err;

	m->owner = MIGRATE_THERE;
	err = connect_one(m, &io, -1);
	if (err)
		return m->verdict.err;
	stream_init(&s, io, &m->verdict, m->params.stall_ms, "the source");
	err = stream_get_header(&s, &h);
	if (!err && (h.flags & (HDR_IMAGE | HDR_RESOLVE) || h.connection ||
		     (h.flags & HDR_ONEWAY && h.connections > 1)))
		err = verdict(&m->verdict, -EPROTO, "this connection is no migration's first one");
	if (!err) {
		memcpy(m->id, h.id, sizeof(m->id));
		err = receive_all(m, &s, &h);
	}
	if (!err && h.flags & HDR_ONEWAY) {
		m->owner = MIGRATE_HERE;
		err = m->ops->resume(m->vm);
		if (err)
			verdict(&m->verdict, err, "the machine does not run: %s", strerror(-err));
	} else if (!err) {
		err = handover_take(m, &s);
	} else if (m->verdict.err != -EREMOTEIO && !(h.flags & HDR_ONEWAY)) {
		stream_put_fail(&s);
	}
	stream_close(&s);
	return err ? m->verdict.err : 0;
}

int migrate_receive(struct migrate **m, const struct migrate_ops *ops, void *vm,
		    const struct migrate_params *params)
{
	return handle_start(m, ops, vm, params, run, -1);
}
