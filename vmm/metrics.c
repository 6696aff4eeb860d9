// SPDX-License-Identifier: GPL-2.0
/*
 * The numbers of all sources.
 *  1. Sources add samples to a set, one after the other.
 *  2. metrics_text(): Prometheus' text format, in which all samples of one
 *     name stand together.
 *  3. metrics_json(): kind -> source -> name -> value.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"

struct sample {
	const struct control_source *src;
	char name[64];
	const char *help;
	char key[16];		/* a further label, or empty */
	char value[32];
	u64 whole;
	double real;
	bool is_real;
	bool counter;
	bool printed;
};

struct metric_set {
	const struct control_source *src;	/* whose samples are added */
	const char *key;
	const char *value;
	struct sample *sample;
	size_t nr, cap;
	bool failed;
};

static struct sample *add(struct metric_set *set, const char *name,
			  const char *help)
{
	struct sample *s;

	if (set->failed)
		return NULL;
	if (set->nr == set->cap) {
		size_t cap = set->cap ? 2 * set->cap : 64;

		s = reallocarray(set->sample, cap, sizeof(*s));
		if (!s) {
			set->failed = true;
			return NULL;
		}
		set->sample = s;
		set->cap = cap;
	}
	s = &set->sample[set->nr++];
	memset(s, 0, sizeof(*s));
	s->src = set->src;
	snprintf(s->name, sizeof(s->name), "%s", name);
	s->help = help;
	if (set->key) {
		snprintf(s->key, sizeof(s->key), "%s", set->key);
		snprintf(s->value, sizeof(s->value), "%s", set->value);
	}
	return s;
}

static void add_whole(struct metric_set *set, const char *name,
		      const char *help, bool counter, u64 value)
{
	struct sample *s = add(set, name, help);

	if (!s)
		return;
	s->counter = counter;
	s->whole = value;
}

static void add_real(struct metric_set *set, const char *name,
		     const char *help, bool counter, double value)
{
	struct sample *s = add(set, name, help);

	if (!s)
		return;
	s->counter = counter;
	s->is_real = true;
	s->real = value;
}

void metric_counter(struct metric_set *set, const char *name, const char *help,
		    u64 value)
{
	add_whole(set, name, help, true, value);
}

void metric_gauge(struct metric_set *set, const char *name, const char *help,
		  u64 value)
{
	add_whole(set, name, help, false, value);
}

void metric_counter_f(struct metric_set *set, const char *name,
		      const char *help, double value)
{
	add_real(set, name, help, true, value);
}

void metric_gauge_f(struct metric_set *set, const char *name,
		    const char *help, double value)
{
	add_real(set, name, help, false, value);
}

void metric_label(struct metric_set *set, const char *key, const char *value)
{
	set->key = key;
	set->value = value;
}

static void collect(struct metric_set *set)
{
	struct control_source *src;

	memset(set, 0, sizeof(*set));
	for (src = control_first(NULL); src; src = src->next) {
		set->src = src;
		metric_label(set, NULL, NULL);
		if (src->metrics)
			src->metrics(src->arg, set);
	}
}

/* Prometheus' text. */

static void put_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n')
			fputs("\\n", out);
		else if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fputc(*text, out);
	}
}

static void put_label(FILE *out, const char *comma, const char *key,
		      const char *value)
{
	fprintf(out, "%s%s=\"", comma, key);
	put_escaped(out, value);
	fputc('"', out);
}

static void put_sample(FILE *out, const struct sample *s, const char *vm)
{
	const char *kind = s->src->kind;

	fprintf(out, "pvhv_%s_%s{", kind, s->name);
	put_label(out, "", "vm", vm);
	if (strcmp(kind, "vm"))
		put_label(out, ",", kind, s->src->name);
	if (s->key[0])
		put_label(out, ",", s->key, s->value);
	if (s->is_real)
		fprintf(out, "} %.9g\n", s->real);
	else
		fprintf(out, "} %" PRIu64 "\n", s->whole);
}

static bool same_family(const struct sample *a, const struct sample *b)
{
	return !strcmp(a->src->kind, b->src->kind) && !strcmp(a->name, b->name);
}

static void put_family(FILE *out, struct metric_set *set, size_t first,
		       const char *vm)
{
	const struct sample *s = &set->sample[first];
	size_t i;

	fprintf(out, "# HELP pvhv_%s_%s %s\n# TYPE pvhv_%s_%s %s\n",
		s->src->kind, s->name, s->help, s->src->kind, s->name,
		s->counter ? "counter" : "gauge");
	for (i = first; i < set->nr; i++) {
		if (set->sample[i].printed ||
		    !same_family(s, &set->sample[i]))
			continue;
		put_sample(out, &set->sample[i], vm);
		set->sample[i].printed = true;
	}
}

char *metrics_text(const char *vm, size_t *len)
{
	struct metric_set set;
	char *text = NULL;
	FILE *out;
	size_t i;

	collect(&set);
	out = set.failed ? NULL : open_memstream(&text, len);
	if (!out)
		goto out;
	for (i = 0; i < set.nr; i++)
		if (!set.sample[i].printed)
			put_family(out, &set, i, vm);
	if (fclose(out)) {
		free(text);
		text = NULL;
	}
out:
	free(set.sample);
	return text;
}

/* JSON. */

/* The member of that name, made if it is not there; a borrowed reference. */
static json_t *child(json_t *parent, const char *name)
{
	json_t *obj = json_object_get(parent, name);

	if (!obj && !json_object_set_new(parent, name, json_object()))
		obj = json_object_get(parent, name);
	return obj;
}

static int put_json(json_t *root, const struct sample *s)
{
	json_t *obj = child(child(root, s->src->kind), s->src->name);

	if (s->key[0])
		obj = child(child(obj, s->key), s->value);
	return json_object_set_new(obj, s->name, s->is_real ?
				   json_real(s->real) : json_integer(s->whole));
}

json_t *metrics_json(void)
{
	struct metric_set set;
	json_t *root = NULL;
	size_t i;

	collect(&set);
	if (!set.failed)
		root = json_object();
	for (i = 0; root && i < set.nr; i++)
		if (put_json(root, &set.sample[i])) {
			json_decref(root);
			root = NULL;
		}
	free(set.sample);
	return root;
}
