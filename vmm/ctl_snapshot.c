// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl snapshot: a machine in a file at one moment, and with --disks its
 * disks at the same one.
 *  1. Which disks: all that it can write to.
 *  2. They stand still, are copied (ctl_copy.c), and stay so until the
 *     machine's moment is over: the guest runs, and sees slow disks.  The
 *     machine refuses if one of them has thawed by itself before.
 *  3. What fails leaves neither file nor copies.  Only a disk that has been
 *     switched to its overlay stays there: what is below has a reader, perhaps.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"

struct snapshot {
	struct ctl_follow how;	/* first */
	const char *disks;	/* a directory, or NULL */
	const char *overlays;	/* the same */
	struct ctl_copy *copies[DISKS_MAX];
	u32 nr;
	bool gone_on;
	int err;		/* CTL_..., of going on */
};

/* 1. */

static int add(struct snapshot *s, const char *disk)
{
	const char *type = s->overlays ? "qcow2" : "img";
	char path[PATH_MAX];
	struct ctl_copy *c;
	int ret;

	if (s->nr == DISKS_MAX)
		return fail(CTL_ERROR, "more disks than a machine has");
	c = calloc(1, sizeof(*c));
	if (!c)
		return fail(CTL_ERROR, "out of memory");
	s->copies[s->nr++] = c;
	c->machine = s->how.machine;
	c->disk = disk;
	c->what = "clone";
	c->mode = 0600;
	snprintf(path, sizeof(path), "%s/%s.%s", s->disks, disk, type);
	ret = ctl_absolute(c->path, sizeof(c->path), path);
	if (ret || !s->overlays)
		return ret;
	snprintf(path, sizeof(path), "%s/%s.%s", s->overlays, disk, type);
	return ctl_absolute(c->overlay_path, sizeof(c->overlay_path), path);
}

static int make_directory(const char *path)
{
	if (!path || !mkdir(path, 0700) || errno == EEXIST)
		return CTL_OK;
	return fail(CTL_ERROR, "'%s': %s", path, strerror(errno));
}

/* @list stays the owner of names. */
static int find_disks(struct snapshot *s, json_t **list)
{
	const char *name, *kind;
	json_t *disk;
	size_t i;
	int ret = ctl_get(s->how.machine, "/api/v1/disks", list);

	if (ret)
		return ret;
	json_array_foreach(*list, i, disk) {
		name = json_string_value(json_object_get(disk, "name"));
		kind = json_string_value(json_object_get(disk, "kind"));
		if (!name || !kind ||
		    json_is_true(json_object_get(disk, "readonly")))
			continue;
		ret = add(s, name);
		if (!ret && strcmp(kind, "raw"))
			ret = fail(CTL_REFUSED, "%s: disk %s is no raw image: copy it where it is served",
				   s->how.machine, name);
		if (ret)
			return ret;
	}
	ret = make_directory(s->disks);
	return ret ? ret : make_directory(s->overlays);
}

/* 2. */

static int copy_disks(struct snapshot *s, json_t *frozen)
{
	int ret = CTL_OK;
	u32 i;

	for (i = 0; !ret && s->overlays && i < s->nr; i++)
		ret = ctl_copy_prepare(s->copies[i]);
	for (i = 0; !ret && i < s->nr; i++) {
		ret = ctl_copy_freeze(s->copies[i]);
		if (!ret)
			json_object_set_new(frozen, s->copies[i]->disk,
					    json_integer(s->copies[i]->frozen));
	}
	for (i = 0; !ret && i < s->nr; i++)
		ret = ctl_copy_take(s->copies[i]);
	return ret;
}

/* The moment is over. */
static void go_on(const struct ctl_follow *how)
{
	struct snapshot *s = (struct snapshot *)how;
	int ret;
	u32 i;

	if (s->gone_on)
		return;
	s->gone_on = true;
	for (i = 0; i < s->nr; i++) {
		ret = ctl_copy_go_on(s->copies[i]);
		s->err = s->err ? s->err : ret;
	}
}

/* 3. */

static int save_with_disks(struct snapshot *s, const char *file)
{
	json_t *frozen = json_object(), *list = NULL;
	int ret;
	u32 i;

	ctl_catch_interrupt();
	ret = find_disks(s, &list);
	if (!ret)
		ret = copy_disks(s, frozen);
	if (!ret && ctl_interrupted)
		ret = CTL_ERROR;
	if (!ret)
		ret = ctl_save(&s->how, json_pack("{s:s, s:O}", "do", "snapshot",
						  "frozen", frozen), file);
	if (!ret)
		go_on(&s->how);
	if (!ret && s->err) {
		ret = s->err;
		unlink(file);
	}
	for (i = 0; i < s->nr; i++) {
		if (ret)
			ctl_copy_undo(s->copies[i]);
		free(s->copies[i]);
	}
	json_decref(frozen);
	json_decref(list);
	return ret;
}

int ctl_snapshot(int argc, char **argv)
{
	struct snapshot s = { .how = {
		.machine = argv[1], .what = "saved",
	} };
	int i;

	for (i = 3; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--disks"))
			s.disks = argv[i + 1];
		else if (!strcmp(argv[i], "--overlays"))
			s.overlays = argv[i + 1];
		else
			return ctl_wrong_usage();
	}
	if (i != argc || (s.overlays && !s.disks))
		return ctl_wrong_usage();
	if (!s.disks)
		return ctl_save(&s.how, json_pack("{s:s}", "do", "snapshot"),
				argv[2]);
	s.how.woken = ctl_cancel;
	s.how.resumed = go_on;
	return save_with_disks(&s, argv[2]);
}
