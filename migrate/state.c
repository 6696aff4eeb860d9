// SPDX-License-Identifier: GPL-2.0
/* The device state, in parts: the stream does not know what is in it. */
#include <stdlib.h>
#include <string.h>

#include "mig.h"

int state_put(struct stream *s, u8 *state, size_t len)
{
	u8 *buf = malloc(SECTION_ROOM(STATE_HEAD + STATE_PART_MAX));
	size_t at = 0, part;
	int err = 0;

	if (!buf)
		return verdict(s->ch.verdict, -ENOMEM, "no memory for the devices' state");
	while (!err && at < len) {
		part = MIN(len - at, STATE_PART_MAX);
		put64(buf + SEC_LEN, len);
		put64(buf + SEC_LEN + 8, at);
		memcpy(buf + SEC_LEN + STATE_HEAD, state + at, part);
		err = stream_put(s, TYPE_STATE, buf, STATE_HEAD + part);
		at += part;
	}
	free(buf);
	return err;
}

int state_get(struct state_in *st, const struct section *sec, struct verdict *v)
{
	size_t part, cap;
	u8 *data;

	if (sec->len <= STATE_HEAD)
		return verdict(v, -EBADMSG, "a part of the devices' state has no data");
	part = sec->len - STATE_HEAD;
	if (!st->len)
		st->total = get64(sec->data);
	if (st->total > MIGRATE_STATE_MAX || get64(sec->data) != st->total ||
	    get64(sec->data + 8) != st->len || part > st->total - st->len)
		return verdict(v, -EBADMSG, "the parts of the devices' state do not fit together");
	if (st->cap < st->len + part) {
		cap = MAX(st->cap * 2, st->len + part);
		data = realloc(st->data, cap);
		if (!data)
			return verdict(v, -ENOMEM, "no memory for the devices' state");
		st->data = data;
		st->cap = cap;
	}
	memcpy(st->data + st->len, sec->data + STATE_HEAD, part);
	st->len += part;
	return 0;
}
