// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl migrate (move.h has the protocol with the machine).
 *  1. The connections are made here, with this user's rights and certificates,
 *     and handed over; the first one comes with the order.
 *  2. Ctrl-C cancels, and waits for what became of it.
 *  3. Certificates for tests.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "move_address.h"

#define CONNECT_MS	10000
#define LAST_WORDS_MS	2000
#define OPTIONS		"[--progress] [--downtime MS] [--timeout SECONDS] [--force] [--bandwidth RATE] [--connections N] [--compress LEVEL] [--copy-disks]"

static struct move_address to;
static struct migrate_tls *tls;

/* 1. */

static int make_connection(char why[MIGRATE_WHY_MAX])
{
	char reason[MIGRATE_WHY_MAX];
	int fd = move_address_connect(&to, CONNECT_MS, why);

	if (fd < 0)
		return fd;
	fd = move_relay_start(tls, fd, to.peer, CONNECT_MS, reason);
	if (fd < 0)
		snprintf(why, MIGRATE_WHY_MAX, "%s: %.400s", to.shown, reason);
	return fd;
}

static void another(const struct ctl_follow *how)
{
	static const char order[] = "{\"do\": \"connection\"}\n";
	char why[MIGRATE_WHY_MAX];
	int fd = make_connection(why);

	if (fd < 0) {
		ctl_say(how->sock, "{\"do\": \"no-connection\"}\n");
		return;
	}
	move_send_fd(how->sock, order, strlen(order), fd);
	close(fd);
}

/* 2. */

static void done(const struct ctl_follow *how, const json_t *event)
{
	char bytes[32];

	if (ctl_json || how->lines)
		return;
	ctl_size(bytes, sizeof(bytes),
		 json_integer_value(json_object_get(event, "bytes")));
	printf("%s: moved to %s in %.2f s, stopped for %.0f ms, %s sent in %d rounds\n",
	       how->machine, to.shown,
	       json_real_value(json_object_get(event, "seconds")),
	       json_real_value(json_object_get(event, "downtime")) * 1e3, bytes,
	       (int)json_integer_value(json_object_get(event, "rounds")));
}

static int send_order(int sock, const json_t *order)
{
	char why[MIGRATE_WHY_MAX];
	int fd = make_connection(why), ret;

	if (fd < 0)
		return fail(CTL_ERROR, "%s", why);
	ret = ctl_send_order(sock, order, fd);
	close(fd);
	return ret ? fail(CTL_LOST, "cannot be told: %s", strerror(-ret)) : 0;
}

static int migrate(const char *machine, json_t *order, bool lines)
{
	struct ctl_follow how = {
		.machine = machine, .what = "moved", .lines = lines,
		.connect = another, .woken = ctl_cancel, .done = done,
	};
	struct ctl_stream *st = malloc(sizeof(*st));
	int ret;

	if (!st)
		return fail(CTL_ERROR, "out of memory");
	ret = ctl_stream(machine, CTL_MOVE_PATH, CTL_MOVE_PROTOCOL, 101, st);
	if (ret)
		goto out;
	ret = send_order(st->fd, order);
	if (ret) {
		close(st->fd);
		goto out;
	}
	ctl_catch_interrupt();
	how.sock = st->fd;
	ret = ctl_follow(&how);
	/* What is with a relay of ours is not with the other host yet. */
	move_relay_wait(LAST_WORDS_MS);
out:
	free(st);
	return ret;
}

static int number(json_t *order, const char *name, const char *option,
		  const char *text, u64 least, u64 most, u64 factor)
{
	u64 value;

	if (!text || options_number(text, least, most, &value))
		return fail(-EINVAL, "%s: a number from %llu to %llu is needed",
			    option, (unsigned long long)least,
			    (unsigned long long)most);
	return json_object_set_new(order, name, json_integer(value * factor));
}

int ctl_bandwidth(const char *text, u64 *rate)
{
	if (!text || options_rate(text, rate) || *rate > INT64_MAX)
		return fail(-EINVAL, "--bandwidth: bytes in a second are needed, like 100M");
	return 0;
}

static int bandwidth(json_t *order, const char *text)
{
	u64 value;
	int ret = ctl_bandwidth(text, &value);

	return ret ? ret : json_object_set_new(order, "bandwidth",
					       json_integer(value));
}

/* Those behind the address; *@lines: --progress, and nobody looks. */
static int parse(json_t *order, char **argv, bool *lines)
{
	int ret = 0;

	for (; !ret && *argv; argv++) {
		if (!strcmp(*argv, "--progress")) {
			*lines = !isatty(STDERR_FILENO);
			continue;
		}
		if (!strcmp(*argv, "--force")) {
			ret = json_object_set_new(order, "force", json_true());
			continue;
		}
		if (!strcmp(*argv, "--copy-disks")) {
			ret = json_object_set_new(order, "copy_disks", json_true());
			continue;
		}
		if (!strcmp(*argv, "--downtime"))
			ret = number(order, "downtime_ms", *argv, argv[1], 0,
				     INT_MAX, 1);
		else if (!strcmp(*argv, "--timeout"))
			ret = number(order, "timeout_ms", *argv, argv[1], 1,
				     INT_MAX / 1000, 1000);
		else if (!strcmp(*argv, "--connections"))
			ret = number(order, "connections", *argv, argv[1], 1,
				     MIGRATE_CONNECTIONS_MAX, 1);
		else if (!strcmp(*argv, "--compress"))
			ret = number(order, "compress", *argv, argv[1], 0, 19, 1);
		else if (!strcmp(*argv, "--bandwidth"))
			ret = bandwidth(order, argv[1]);
		else
			ret = fail(-EINVAL, "unknown '%s': use " OPTIONS, *argv);
		argv++;
	}
	return ret;
}

int ctl_migrate(int argc, char **argv)
{
	json_t *order = json_pack("{s:s}", "do", "migrate");
	char why[MIGRATE_WHY_MAX];
	bool lines = false;
	int ret = CTL_ERROR;

	(void)argc;
	if (!order) {
		fail(ret, "out of memory");
		return ret;
	}
	if (parse(order, argv + 3, &lines) ||
	    move_address_parse(&to, "migrate", argv[2]))
		goto out;
	if (to.tls_dir) {
		tls = migrate_tls_load(to.tls_dir, true, why);
		if (!tls) {
			fail(ret, "%s: make a set with 'pvhvctl tls init DIR', or say tls=off",
			     why);
			goto out;
		}
	}
	signal(SIGPIPE, SIG_IGN);
	ret = migrate(argv[1], order, lines);
out:
	json_decref(order);
	move_address_free(&to);
	return ret;
}

/* 3. */

int ctl_tls(int argc, char **argv)
{
	char why[MIGRATE_WHY_MAX];

	(void)argc;
	if (strcmp(argv[1], "init"))
		return ctl_wrong_usage();
	if (migrate_tls_init(argv[2], why))
		return fail(CTL_ERROR, "%s", why);
	return CTL_OK;
}
