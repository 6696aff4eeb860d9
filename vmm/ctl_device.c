// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl's commands for a machine's devices: balloon, guest, disks, networks.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "ctl.h"

static int put(const char *method, const char *machine, const char *path,
	       json_t *body)
{
	json_t *answer;
	int ret = ctl_request(machine, method, path, body, &answer);

	if (ret)
		return ret;
	if (ctl_json)
		ctl_print(answer);
	json_decref(answer);
	return CTL_OK;
}

static int get(const char *machine, const char *path)
{
	json_t *answer;
	int ret = ctl_get(machine, path, &answer);

	return ret ? ret : ctl_show(answer);
}

static int bad_size(const char *text)
{
	return fail(CTL_ERROR, "'%s' is not a size: give one like 512M or 2G",
		    text);
}

int ctl_balloon(int argc, char **argv)
{
	u64 size;

	if (argc < 3)
		return get(argv[1], "/api/v1/balloon");
	if (options_size(argv[2], &size))
		return bad_size(argv[2]);
	return put("PUT", argv[1], "/api/v1/balloon",
		   json_pack("{s:I}", "target", (json_int_t)size));
}

int ctl_guest(int argc, char **argv)
{
	const char *what = argc > 2 ? argv[2] : "show";
	json_t *body = NULL;
	char path[32];
	u64 ms;

	if (!strcmp(what, "show"))
		return get(argv[1], "/api/v1/guest");
	if (strcmp(what, "freeze") && strcmp(what, "thaw") &&
	    strcmp(what, "renew"))
		return fail(CTL_ERROR, "guest: '%s' is unknown: use show, freeze, thaw or renew",
			    what);
	if (argc > 3) {
		if (strcmp(what, "freeze") ||
		    options_number(argv[3], 1, UINT32_MAX, &ms))
			return fail(CTL_ERROR, "guest: '%s': only freeze takes a number, of milliseconds",
				    argv[3]);
		body = json_pack("{s:I}", "timeout_ms", (json_int_t)ms);
	}
	snprintf(path, sizeof(path), "/api/v1/guest/%s", what);
	return put("POST", argv[1], path, body);
}

/* "iops=N" "bps=RATE": both are numbers of the API. */
static int set_limits(const char *kind, bool has_iops, int argc, char **argv)
{
	json_t *body = json_object();
	u64 value;
	int i, err;

	for (i = 3; i < argc; i++) {
		if (!strncmp(argv[i], "bps=", 4)) {
			value = 0;
			err = strcmp(argv[i] + 4, "0") ?
			      options_rate(argv[i] + 4, &value) : 0;
			argv[i][3] = 0;
		} else if (has_iops && !strncmp(argv[i], "iops=", 5)) {
			err = options_number(argv[i] + 5, 0, INT64_MAX, &value);
			argv[i][4] = 0;
		} else {
			json_decref(body);
			return ctl_wrong_usage();
		}
		if (err) {
			json_decref(body);
			return fail(CTL_ERROR, "%s: no number: give one, 0 for no limit",
				    argv[i]);
		}
		json_object_set_new(body, argv[i], json_integer(value));
	}
	return put("PUT", argv[1], ctl_path(kind, argv[2], "limits"), body);
}

/* Disks. */

static int disk_list(int argc, char **argv)
{
	(void)argc;
	return get(argv[1], "/api/v1/disks");
}

static int disk_show(int argc, char **argv)
{
	(void)argc;
	return get(argv[1], ctl_path("disks", argv[2], NULL));
}

static int disk_resize(int argc, char **argv)
{
	u64 size = 0;

	/* Without a size: as large as its storage is now. */
	if (argc > 3 && options_size(argv[3], &size))
		return bad_size(argv[3]);
	return put("POST", argv[1], ctl_path("disks", argv[2], "resize"),
		   json_pack("{s:I}", "size", (json_int_t)size));
}

static int disk_limits(int argc, char **argv)
{
	return set_limits("disks", true, argc, argv);
}

int ctl_disk(int argc, char **argv)
{
	static const struct ctl_command commands[] = {
		{ "list", "MACHINE", "", 1, 1, disk_list },
		{ "show", "MACHINE DISK", "", 2, 2, disk_show },
		{ "resize", "MACHINE DISK [SIZE]", "", 2, 3, disk_resize },
		{ "limits", "MACHINE DISK [iops=N] [bps=RATE]", "", 3, 4,
		  disk_limits },
		{ }
	};

	return ctl_dispatch(commands, "pvhvctl disk", argc - 1, argv + 1);
}

/* Networks. */

static int net_list(int argc, char **argv)
{
	(void)argc;
	return get(argv[1], "/api/v1/nets");
}

static int net_show(int argc, char **argv)
{
	(void)argc;
	return get(argv[1], ctl_path("nets", argv[2], NULL));
}

static int net_limits(int argc, char **argv)
{
	return set_limits("nets", false, argc, argv);
}

static int net_link(int argc, char **argv)
{
	bool up = !strcmp(argv[3], "up");

	(void)argc;
	if (!up && strcmp(argv[3], "down"))
		return ctl_wrong_usage();
	return put("PUT", argv[1], ctl_path("nets", argv[2], "link"),
		   json_pack("{s:b}", "up", up));
}

static int net_announce(int argc, char **argv)
{
	(void)argc;
	return put("POST", argv[1], ctl_path("nets", argv[2], "announce"),
		   NULL);
}

int ctl_net(int argc, char **argv)
{
	static const struct ctl_command commands[] = {
		{ "list", "MACHINE", "", 1, 1, net_list },
		{ "show", "MACHINE NET", "", 2, 2, net_show },
		{ "limits", "MACHINE NET bps=RATE", "", 3, 3, net_limits },
		{ "link", "MACHINE NET up|down", "", 3, 3, net_link },
		{ "announce", "MACHINE NET", "", 2, 2, net_announce },
		{ }
	};

	return ctl_dispatch(commands, "pvhvctl net", argc - 1, argv + 1);
}
