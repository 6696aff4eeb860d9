// SPDX-License-Identifier: GPL-2.0
/*
 * pvhvctl: sees and controls running machines by their control sockets, and
 * makes images for new ones.  Commands are a table of names; each file
 * ctl_*.c has some.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"

bool ctl_json;
const char *ctl_usage = "pvhvctl COMMAND";

static const struct ctl_command commands[] = {
	{ "list", "", "machines that run", 0, 0, ctl_list },
	{ "status", "MACHINE", "one machine's state", 1, 1, ctl_status },
	{ "console", "MACHINE [CONSOLE]", "its console; Ctrl-A x detaches", 1, 2,
	  ctl_console },
	{ "pause", "MACHINE", "hold its vCPUs", 1, 1, ctl_pause },
	{ "resume", "MACHINE", "let them go on", 1, 1, ctl_resume },
	{ "powerbutton", "MACHINE", "press its power button", 1, 1,
	  ctl_powerbutton },
	{ "reset", "MACHINE", "reset it, which ends pvhv-run with status 3", 1, 1,
	  ctl_reset },
	{ "stop", "MACHINE [--now] [--timeout SECONDS]",
	  "power button, and wait; --now: end it at once", 1, -1, ctl_stop },
	{ "balloon", "MACHINE [SIZE]", "memory it should keep", 1, 2,
	  ctl_balloon },
	{ "guest", "MACHINE [show|freeze [MS]|thaw|renew]",
	  "its panics; file systems stand still", 1, 3, ctl_guest },
	{ "disk", "list|show|resize|limits ...", "its disks", 0, -1, ctl_disk },
	{ "net", "list|show|limits|link|announce ...", "its networks", 0, -1, ctl_net },
	{ "snapshot-disk", "MACHINE DISK PATH [--overlay PATH]",
	  "keep a disk's present content", 3, -1, ctl_snapshot_disk },
	{ "clone-disk", "MACHINE DISK PATH [--overlay PATH]",
	  "a writable copy that shares its blocks", 3, -1, ctl_clone_disk },
	{ "suspend", "MACHINE FILE", "save it and end it; pvhv-run --restore goes on",
	  2, 2, ctl_suspend },
	{ "snapshot", "MACHINE FILE [--disks DIR [--overlays DIR]]",
	  "save it, perhaps with its disks, and let it run on", 2, 6,
	  ctl_snapshot },
	{ "clone", "FILE NAME... [-- OPTION...]",
	  "machines of a saved one, which share its memory", 2, -1, ctl_clone },
	{ "migrate", "MACHINE ADDRESS [OPTION]...",
	  "move it to a pvhv-run --incoming ADDRESS", 2, -1, ctl_migrate },
	{ "estimate", "MACHINE [--bandwidth RATE] [--downtime MS] [--period MS]",
	  "how long a move would take", 1, -1, ctl_estimate },
	{ "evacuate", "ADDRESS [--parallel N] [--bandwidth RATE] [OPTION]...",
	  "move all machines of this host", 1, -1, ctl_evacuate },
	{ "tls", "init DIR", "make a set of certificates for tests", 2, 2, ctl_tls },
	{ "stats", "MACHINE", "all its numbers", 1, 1, ctl_stats },
	{ "metrics", "MACHINE", "the same for Prometheus", 1, 1, ctl_metrics },
	{ "events", "MACHINE", "what happens from now on, a line each", 1, 1,
	  ctl_events },
	{ "image", "debian [OPTION]... OUT", "make a disk image", 0, -1,
	  ctl_image },
	{ }
};

static void help(void)
{
	const struct ctl_command *c;
	char usage[80];

	fputs("usage: pvhvctl [--json] COMMAND [ARGUMENT]...\n"
	      "Sees and controls virtual machines of pvhv-run.\n"
	      "\n", stdout);
	for (c = commands; c->name; c++) {
		snprintf(usage, sizeof(usage), "%s %s", c->name, c->args);
		if (strlen(usage) > 34)
			printf("  %s\n  %34s", usage, "");
		else
			printf("  %-34s", usage);
		printf("  %s\n", c->help);
	}
	fputs("\n"
	      "MACHINE is the name given by pvhv-run --name, or the path of a control socket\n"
	      "(with a '/').  SIZE is like 512M or 2G.  --json: answers as JSON.\n"
	      "\n"
	      "Exit status:\n"
	      "  0  done\n"
	      "  1  wrong usage, or this host cannot do it: one line says why\n"
	      "  2  no such machine runs\n"
	      "  3  the machine refused: one line says why\n"
	      "  4  the machine did not answer in time, or ended before it did\n",
	      stdout);
}

int ctl_wrong_usage(void)
{
	fail(-EINVAL, "usage: %s", ctl_usage);
	return CTL_ERROR;
}

/* argv[0] is the command's name; @before is what stands before it. */
int ctl_dispatch(const struct ctl_command *table, const char *before, int argc,
		 char **argv)
{
	static char usage[256];
	const struct ctl_command *c;

	for (c = table; c->name; c++)
		if (argc && !strcmp(c->name, argv[0]))
			break;
	if (!c->name) {
		if (argc)
			fail(-EINVAL, "unknown command '%s': see pvhvctl --help",
			     argv[0]);
		else
			fail(-EINVAL, "no command: see pvhvctl --help");
		return CTL_ERROR;
	}
	snprintf(usage, sizeof(usage), "%s %s %s", before, c->name, c->args);
	ctl_usage = usage;
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		printf("usage: %s\n", usage);
		return CTL_OK;
	}
	if (argc - 1 < c->least || (c->most >= 0 && argc - 1 > c->most))
		return ctl_wrong_usage();
	return c->run(argc, argv);
}

/* --json may stand anywhere; what is left is the command. */
static int take_json(int argc, char **argv)
{
	int i, nr = 1;

	for (i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--json"))
			ctl_json = true;
		else
			argv[nr++] = argv[i];
	}
	argv[nr] = NULL;
	return nr;
}

int main(int argc, char **argv)
{
	int ret = CTL_OK;

	fail_program = "pvhvctl";
	argc = take_json(argc, argv);
	if (argc > 1 && !strcmp(argv[1], "--help"))
		help();
	else if (argc > 1 && !strcmp(argv[1], "--version"))
		puts("pvhvctl " VMM_VERSION);
	else if (argc > 1 && argv[1][0] == '-')
		ret = fail(CTL_ERROR, "unknown option '%s': see pvhvctl --help",
			   argv[1]);
	else
		ret = ctl_dispatch(commands, "pvhvctl", argc - 1, argv + 1);
	if (fflush(stdout) && !ret)
		ret = fail(CTL_ERROR, "cannot write to standard output");
	return ret;
}
