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

struct copy {
	const char *machine;
	const char *disk;
	const char *what;	/* "snapshot", "clone": also the command */
	const char *overlay;	/* given by the user */
	char path[PATH_MAX];
	char overlay_path[PATH_MAX];
	char socket[RUNDIR_MAX];
	char base[PATH_MAX];	/* the disk's present file */
	json_int_t size;
	mode_t mode;		/* of the copy */
	pid_t server;		/* qemu-nbd, 0 when it is not ours to end */
};

/* The machine has a working directory of its own. */
static int absolute(char *out, size_t len, const char *path)
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
static int make_overlay(struct copy *c, char *path, mode_t mode)
{
	char size[24];
	char *argv[] = { "qemu-img", "create", "-q", "-u", "-f", "qcow2",
			 "-F", "raw", "-b", c->base, path, size, NULL };
	int ret;

	snprintf(size, sizeof(size), "%lld", (long long)c->size);
	if (!access(path, F_OK))
		return fail(CTL_ERROR, "'%s' exists: name a new file", path);
	ret = run(argv);
	if (!ret && chmod(path, mode))
		ret = fail(CTL_ERROR, "%s: %s", path, strerror(errno));
	return ret;
}

/* Until the machine leaves it; it listens when qemu-nbd --fork returns. */
static int serve_overlay(struct copy *c)
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

static int post(struct copy *c, const char *what, json_t *body, json_t **answer)
{
	return ctl_request(c->machine, "POST", ctl_path("disks", c->disk, what),
			   body, answer);
}

static int find_base(struct copy *c)
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
		ret = absolute(c->base, sizeof(c->base), path);
	json_decref(disk);
	return ret;
}

/* Overlays do not grow with their base. */
static int freeze(struct copy *c)
{
	json_t *disk;
	int ret;

	ret = post(c, "freeze", json_pack("{s:i}", "ms", FREEZE_MS), &disk);
	if (ret)
		return ret;
	if (json_integer_value(json_object_get(disk, "size")) != c->size) {
		ret = fail(CTL_REFUSED, "%s: disk %s was resized meanwhile: try again",
			   c->machine, c->disk);
		post(c, "thaw", NULL, NULL);
	}
	json_decref(disk);
	return ret;
}

static int switch_over(struct copy *c)
{
	char uri[PATH_MAX + 32];
	int ret;

	snprintf(uri, sizeof(uri), "nbd+unix:///?socket=%s", c->socket);
	ret = post(c, "switch", json_pack("{s:s}", "path", uri), NULL);
	/* From here on the machine has it, and its end ends it. */
	if (!ret)
		c->server = 0;
	return ret;
}

static int by_overlay(struct copy *c)
{
	int ret;

	ret = find_base(c);
	if (!ret)
		ret = make_overlay(c, c->overlay_path, 0600);
	if (ret)
		return ret;
	ret = make_overlay(c, c->path, c->mode);
	if (ret)
		goto remove_overlay;
	ret = freeze(c);
	if (ret)
		goto remove_copy;
	ret = serve_overlay(c);
	if (!ret)
		ret = switch_over(c);
	/* If it thawed by itself, the switch has failed, too. */
	post(c, "thaw", NULL, NULL);
	if (!ret)
		return CTL_OK;
	if (c->server > 0)
		kill(c->server, SIGTERM);
remove_copy:
	unlink(c->path);
remove_overlay:
	unlink(c->overlay_path);
	return ret;
}

/* What the machine says is said here, unless there is another way. */
static char said[1100];

static void keep_line(const char *line)
{
	snprintf(said, sizeof(said), "%s", line);
}

static int by_sharing(struct copy *c, bool *shared)
{
	void (*sink)(const char *line) = fail_sink;
	json_t *answer;
	int ret;

	fail_sink = keep_line;
	ret = post(c, c->what, json_pack("{s:s}", "path", c->path), &answer);
	fail_sink = sink;
	*shared = ret != CTL_REFUSED || strcmp(ctl_errno, "EOPNOTSUPP");
	if (*shared && ret)
		fail(0, "%s", said);
	if (!ret && ctl_json)
		ctl_print(answer);
	json_decref(answer);
	return ret;
}

static int do_copy(struct copy *c)
{
	bool shared;
	int ret = by_sharing(c, &shared);

	if (shared)
		return ret;
	if (!c->overlay)
		return fail(CTL_REFUSED, "%s: disk %s cannot share its blocks: give --overlay PATH, a new file that the machine will write to from then on",
			    c->machine, c->disk);
	if (snprintf(c->socket, sizeof(c->socket), "%s.nbd",
		     c->overlay_path) >= (int)sizeof(c->socket))
		return fail(CTL_ERROR, "--overlay: '%s': too long for the socket beside it: shorten it",
			    c->overlay);
	return by_overlay(c);
}

static int copy_disk(const char *what, mode_t mode, int argc, char **argv)
{
	struct copy *c = calloc(1, sizeof(*c));
	const char *args[3];
	int i, nr = 0, ret = CTL_OK;

	if (!c)
		return fail(CTL_ERROR, "out of memory");
	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--overlay") && i + 1 < argc)
			c->overlay = argv[++i];
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
	ret = absolute(c->path, sizeof(c->path), args[2]);
	if (!ret && c->overlay)
		ret = absolute(c->overlay_path, sizeof(c->overlay_path),
			       c->overlay);
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
