// SPDX-License-Identifier: GPL-2.0
/*
 * Names and values by which a source describes its machine.
 *  1. The list.
 *  2. Its section: checked in full before any of it is kept.
 *  3. Comparing two: all differences in one line.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mig.h"

#define FACTS_HEAD	8
#define FACT_HEAD	4

struct migrate_facts {
	unsigned int nr;
	char **text;		/* name, 0, value, 0 */
};

struct migrate_facts *migrate_facts_new(void)
{
	return calloc(1, sizeof(struct migrate_facts));
}

void migrate_facts_free(struct migrate_facts *facts)
{
	if (!facts)
		return;
	while (facts->nr)
		free(facts->text[--facts->nr]);
	free(facts->text);
	free(facts);
}

static int add(struct migrate_facts *facts, const char *name, size_t name_len, const char *value,
	       size_t value_len)
{
	char **text, *t;

	if (!name_len || name_len > FACT_NAME_MAX || value_len > FACT_VALUE_MAX ||
	    facts->nr == FACTS_MAX)
		return -E2BIG;
	text = realloc(facts->text, (facts->nr + 1) * sizeof(*text));
	if (!text)
		return -ENOMEM;
	facts->text = text;
	t = malloc(name_len + value_len + 2);
	if (!t)
		return -ENOMEM;
	memcpy(t, name, name_len);
	t[name_len] = 0;
	memcpy(t + name_len + 1, value, value_len);
	t[name_len + 1 + value_len] = 0;
	text[facts->nr++] = t;
	return 0;
}

int migrate_fact(struct migrate_facts *facts, const char *name, const char *fmt, ...)
{
	char value[FACT_VALUE_MAX + 1];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(value, sizeof(value), fmt, ap);
	va_end(ap);
	if (n < 0 || n > (int)FACT_VALUE_MAX)
		return -E2BIG;
	return add(facts, name, strlen(name), value, n);
}

bool migrate_fact_at(const struct migrate_facts *facts, unsigned int nr, const char **name,
		     const char **value)
{
	if (nr >= facts->nr)
		return false;
	*name = facts->text[nr];
	*value = *name + strlen(*name) + 1;
	return true;
}

const char *migrate_fact_get(const struct migrate_facts *facts, const char *name)
{
	const char *n, *value;
	unsigned int i;

	for (i = 0; migrate_fact_at(facts, i, &n, &value); i++)
		if (!strcmp(n, name))
			return value;
	return NULL;
}

static void differs(char *why, size_t *len, const char *name, const char *there, const char *here)
{
	int n = snprintf(why + *len, MIGRATE_WHY_MAX - *len, "%s%s is %s there, %s here",
			 *len ? "; " : "", name, there ? there : "unknown", here ? here : "unknown");

	*len = MIN(*len + n, MIGRATE_WHY_MAX - 1UL);
}

int migrate_facts_compare(const struct migrate_facts *theirs, const struct migrate_facts *ours,
			  char why[MIGRATE_WHY_MAX])
{
	const char *name, *value, *other;
	unsigned int i;
	size_t len = 0;

	why[0] = 0;
	for (i = 0; migrate_fact_at(ours, i, &name, &value); i++) {
		other = migrate_fact_get(theirs, name);
		if (!other || strcmp(other, value))
			differs(why, &len, name, other, value);
	}
	for (i = 0; migrate_fact_at(theirs, i, &name, &value); i++)
		if (!migrate_fact_get(ours, name))
			differs(why, &len, name, value, NULL);
	return len ? -EINVAL : 0;
}

int facts_put(struct stream *s, const struct migrate_facts *facts)
{
	const char *name, *value;
	size_t len = FACTS_HEAD;
	unsigned int i;
	u8 *buf, *p;
	int err;

	for (i = 0; migrate_fact_at(facts, i, &name, &value); i++)
		len += FACT_HEAD + strlen(name) + strlen(value);
	if (len > FACTS_MAX_LEN)
		return verdict(s->ch.verdict, -E2BIG, "the machine's description is too long");
	buf = malloc(SECTION_ROOM(len));
	if (!buf)
		return verdict(s->ch.verdict, -ENOMEM, "no memory for the machine's description");
	p = buf + SEC_LEN;
	put32(p, facts->nr);
	put32(p + 4, 0);
	p += FACTS_HEAD;
	for (i = 0; migrate_fact_at(facts, i, &name, &value); i++) {
		put16(p, strlen(name));
		put16(p + 2, strlen(value));
		p += FACT_HEAD;
		memcpy(p, name, strlen(name));
		p += strlen(name);
		memcpy(p, value, strlen(value));
		p += strlen(value);
	}
	err = stream_put(s, TYPE_FACTS, buf, len);
	free(buf);
	return err;
}

static bool printable(const u8 *p, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (p[i] < ' ' || p[i] == 0x7f)
			return false;
	return true;
}

int facts_parse(struct migrate_facts *facts, const u8 *data, size_t len)
{
	u32 nr, name_len, value_len, i;
	int err;

	if (len < FACTS_HEAD)
		return -EBADMSG;
	nr = get32(data);
	data += FACTS_HEAD;
	len -= FACTS_HEAD;
	if (nr > FACTS_MAX)
		return -EBADMSG;
	for (i = 0; i < nr; i++) {
		if (len < FACT_HEAD)
			return -EBADMSG;
		name_len = get16(data);
		value_len = get16(data + 2);
		data += FACT_HEAD;
		len -= FACT_HEAD;
		if (len < name_len || len - name_len < value_len ||
		    !printable(data, name_len + value_len))
			return -EBADMSG;
		err = add(facts, (const char *)data, name_len, (const char *)data + name_len,
			  value_len);
		if (err)
			return err;
		data += name_len + value_len;
		len -= name_len + value_len;
	}
	return len ? -EBADMSG : 0;
}
