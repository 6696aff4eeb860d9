// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl snapshot-disk and clone-disk: a second file with what a running
 * machine's disk holds at one moment.
 *  1. Where the file system shares blocks, the machine makes it alone.
 *  2. Elsewhere, with --overlay: two empty qcow2 overlays of the disk are made;
 *     then it is frozen for as long as qemu-nbd takes to serve one of them, and
 *     the machine goes on with that.  The other one is the copy.  What was the
 *     disk's file changes no more from then on.
 * Whatever fails, the machine goes on as it was.
 */
#include <errno.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"

#define FREEZE_MS	30000

extern char **environ;

/* The machine has a working directory of its own. */
int ctl_absolute(char *out, size_t len, const char *path)
{
	char cwd[PATH_MAX] = "";

	if (*path != '/' && !getcwd(cwd, sizeof(cwd)))
		return fail(CTL_ERROR, "the working directory: %s",
			    strerror(errno));
	if (snprintf(out, len, "%s%s%s", cwd, *path == '/' ? "" : "/", path) >=
	    (int)len)
		return fail(CTL_ERROR, "'%s': longer than a path may be", path);
	return CTL_OK;
}

/* Other programs. */

static int start(pid_t *pid, char *const argv[])
{
	int err = posix_spawnp(pid, argv[0], NULL, NULL, argv, environ);

	if (err == ENOENT)
		return fail(CTL_ERROR, "%s is not installed: install qemu-utils",
			    argv[0]);
	return err ? fail(CTL_ERROR, "%s: %s", argv[0], strerror(err)) : CTL_OK;
}

static int run(char *const argv[])
{
	int status, ret;
	pid_t pid;

	ret = start(&pid, argv);
	if (ret)
		return ret;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return CTL_OK;
	return fail(CTL_ERROR, "%s failed: see above", argv[0]);
}

/* The machine has the base file in use: -u does not look at it. */
static int make_overlay(struct ctl_copy *c, char *path, mode_t mode, bool *made)
{
	char size[24];
	char *argv[] = { "qemu-img", "create", "-q", "-u", "-f", "qcow2",
			 "-F", "raw", "-b", c->base, path, size, NULL };
	int ret;

	snprintf(size, sizeof(size), "%lld", (long long)c->size);
	if (!access(path, F_OK))
		return fail(CTL_ERROR, "'%s' exists: name a new file", path);
	*made = true;
	ret = run(argv);
	if (!ret && chmod(path, mode))
		ret = fail(CTL_ERROR, "%s: %s", path, strerror(errno));
	return ret;
}

/* Until the machine leaves it; it listens when qemu-nbd --fork returns. */
static int serve_overlay(struct ctl_copy *c)
{
	char pid_file[PATH_MAX + 8], *end;
	char *argv[] = { "qemu-nbd", "--fork", "--socket", c->socket,
			 "--format", "qcow2", "--discard", "unmap",
			 "--detect-zeroes", "unmap", "--shared", "8",
			 "--pid-file", pid_file, c->overlay_path, NULL };
	char text[32] = "";
	FILE *f;
	int ret;

	snprintf(pid_file, sizeof(pid_file), "%s.pid", c->overlay_path);
	ret = run(argv);
	if (ret)
		return ret;
	f = fopen(pid_file, "re");
	if (f && fgets(text, sizeof(text), f))
		c->server = strtol(text, &end, 10);
	if (f)
		fclose(f);
	unlink(pid_file);
	return c->server > 0 ? CTL_OK :
	       fail(CTL_ERROR, "%s: qemu-nbd has not said who it is", pid_file);
}

/* The machine. */

static int post(struct ctl_copy *c, const char *what, json_t *body, json_t **answer)
{
	return ctl_request(c->machine, "POST", ctl_path("disks", c->disk, what),
			   body, answer);
}

static int find_base(struct ctl_copy *c)
{
	const char *kind, *path;
	json_t *disk;
	int ret;

	ret = ctl_get(c->machine, ctl_path("disks", c->disk, NULL), &disk);
	if (ret)
		return ret;
	kind = json_string_value(json_object_get(disk, "kind"));
	path = json_string_value(json_object_get(disk, "path"));
	c->size = json_integer_value(json_object_get(disk, "size"));
	if (!kind || !path || strcmp(kind, "raw"))
		ret = fail(CTL_REFUSED, "%s: disk %s is no raw image: copy it where it is served",
			   c->machine, c->disk);
	else
		ret = ctl_absolute(c->base, sizeof(c->base), path);
	json_decref(disk);
	return ret;
}

/* Overlays: their files, before anything stands still. */
int ctl_copy_prepare(struct ctl_copy *c)
{
	int ret;

	if (snprintf(c->socket, sizeof(c->socket), "%s.nbd",
		     c->overlay_path) >= (int)sizeof(c->socket))
		return fail(CTL_ERROR, "'%s': too long for the socket beside it: shorten it",
			    c->overlay_path);
	ret = find_base(c);
	if (!ret)
		ret = make_overlay(c, c->overlay_path, 0600, &c->made_overlay);
	if (!ret)
		ret = make_overlay(c, c->path, c->mode, &c->made_copy);
	return ret;
}

int ctl_copy_freeze(struct ctl_copy *c)
{
	json_int_t size;
	json_t *disk;
	int ret;

	ret = post(c, "freeze", json_pack("{s:i}", "ms", FREEZE_MS), &disk);
	if (ret)
		return ret;
	c->stands = true;
	c->frozen = json_integer_value(json_object_get(disk, "frozen"));
	size = json_integer_value(json_object_get(disk, "size"));
	json_decref(disk);
	/* Overlays do not grow with their base. */
	if (*c->overlay_path && size != c->size)
		return fail(CTL_REFUSED, "%s: disk %s was resized meanwhile: try again",
			    c->machine, c->disk);
	return CTL_OK;
}

/* What the machine says is said here, unless there is another way. */
static char said[1100];

static void keep_line(const char *line)
{
	snprintf(said, sizeof(said), "%s", line);
}

static int by_sharing(struct ctl_copy *c, json_t **answer, bool *shared)
{
	void (*sink)(const char *line) = fail_sink;
	int ret;

	fail_sink = keep_line;
	ret = post(c, c->what, json_pack("{s:s}", "path", c->path), answer);
	fail_sink = sink;
	*shared = ret != CTL_REFUSED || strcmp(ctl_errno, "EOPNOTSUPP");
	if (*shared && ret)
		fail(0, "%s", said);
	c->made_copy = !ret;
	return ret;
}

static int cannot_share(const struct ctl_copy *c, const char *what_to_give)
{
	return fail(CTL_REFUSED, "%s: disk %s cannot share its blocks: give %s that the machine will write to from then on",
		    c->machine, c->disk, what_to_give);
}

/* Of the frozen disk; its file is not written to until ctl_copy_go_on(). */
int ctl_copy_take(struct ctl_copy *c)
{
	bool shared;
	int ret;

	if (*c->overlay_path)
		return serve_overlay(c);
	ret = by_sharing(c, NULL, &shared);
	return shared ? ret : cannot_share(c, "--overlays DIR, for new files");
}

static int switch_over(struct ctl_copy *c)
{
	char uri[PATH_MAX + 32];
	int ret;

	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", c->socket);
	ret = post(c, "switch", json_pack("{s:s}", "path", uri), NULL);
	/* From here on the machine has it, and its end ends it; or may have it. */
	if (!ret || ret == CTL_LOST) {
		c->server = 0;
		c->made_overlay = false;
	}
	return ret;
}

int ctl_copy_go_on(struct ctl_copy *c)
{
	int ret = *c->overlay_path ? switch_over(c) : CTL_OK;

	/* If it thawed by itself, the switch has failed, too. */
	ctl_copy_thaw(c);
	return ret;
}

void ctl_copy_thaw(struct ctl_copy *c)
{
	if (c->stands)
		post(c, "thaw", NULL, NULL);
	c->stands = false;
}

/* It is not wanted; what the machine uses meanwhile stays. */
void ctl_copy_undo(struct ctl_copy *c)
{
	ctl_copy_thaw(c);
	if (c->server > 0)
		kill(c->server, SIGTERM);
	c->server = 0;
	if (c->made_copy)
		unlink(c->path);
	if (c->made_overlay)
		unlink(c->overlay_path);
	c->made_copy = false;
	c->made_overlay = false;
}

static int by_overlay(struct ctl_copy *c)
{
	int ret = ctl_copy_prepare(c);

	if (!ret)
		ret = ctl_copy_freeze(c);
	if (!ret)
		ret = ctl_copy_take(c);
	if (!ret)
		ret = ctl_copy_go_on(c);
	if (ret)
		ctl_copy_undo(c);
	return ret;
}

static int do_copy(struct ctl_copy *c)
{
	json_t *answer = NULL;
	bool shared;
	int ret = by_sharing(c, &answer, &shared);

	if (!ret && ctl_json)
		ctl_print(answer);
	json_decref(answer);
	if (shared)
		return ret;
	return *c->overlay_path ? by_overlay(c) :
	       cannot_share(c, "--overlay PATH, a new file");
}

static int copy_disk(const char *what, mode_t mode, int argc, char **argv)
{
	struct ctl_copy *c = calloc(1, sizeof(*c));
	const char *args[3], *overlay = NULL;
	int i, nr = 0, ret = CTL_OK;

	if (!c)
		return fail(CTL_ERROR, "out of memory");
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--overlay") && i + 1 < argc)
			overlay = argv[++i];
		else if (argv[i][0] != '-' && nr < 3)
			args[nr++] = argv[i];
		else
			nr = 4;
	}
	if (nr != 3) {
		ret = ctl_wrong_usage();
		goto out;
	}
	c->machine = args[0];
	c->disk = args[1];
	c->what = what;
	c->mode = mode;
	ret = ctl_absolute(c->path, sizeof(c->path), args[2]);
	if (!ret && overlay)
		ret = ctl_absolute(c->overlay_path, sizeof(c->overlay_path),
				   overlay);
	if (!ret)
		ret = do_copy(c);
out:
	free(c);
	return ret;
}

int ctl_snapshot_disk(int argc, char **argv)
{
	return copy_disk("snapshot", 0400, argc, argv);
}

int ctl_clone_disk(int argc, char **argv)
{
	return copy_disk("clone", 0600, argc, argv);
}
