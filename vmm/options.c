// SPDX-License-Identifier: GPL-2.0
/*
 * The command line: long options, kvmtool's short ones, and key=value groups.
 * Pointers into argv are kept, nothing is copied.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "blk.h"
#include "port.h"

#define DEFAULT_DEV	"/dev/pvhv"
#define DEFAULT_APPEND	"console=ttyS0"
#define DEFAULT_MEMORY	(512 * MIB)

enum {
	OPT_CONSOLE = 256, OPT_CONTROL, OPT_DISK, OPT_NAME, OPT_DEV, OPT_DRY_RUN,
	OPT_EXIT_PORT, OPT_RNG, OPT_PORT, OPT_BALLOON, OPT_SANDBOX, OPT_USER,
	OPT_CHROOT, OPT_RESTORE, OPT_CLONE, OPT_INCOMING, OPT_BUS, OPT_CPU_MODEL,
	OPT_HELP, OPT_VERSION
};

static const struct option longs[] = {
	{ "kernel", required_argument, NULL, 'k' },
	{ "initrd", required_argument, NULL, 'i' },
	{ "append", required_argument, NULL, 'p' },
	{ "params", required_argument, NULL, 'p' },
	{ "memory", required_argument, NULL, 'm' },
	{ "cpus", required_argument, NULL, 'c' },
	{ "cpu-model", required_argument, NULL, OPT_CPU_MODEL },
	{ "disk", required_argument, NULL, OPT_DISK },
	{ "net", required_argument, NULL, 'n' },
	{ "console", required_argument, NULL, OPT_CONSOLE },
	{ "port", required_argument, NULL, OPT_PORT },
	{ "balloon", optional_argument, NULL, OPT_BALLOON },
	{ "rng", optional_argument, NULL, OPT_RNG },
	{ "bus", required_argument, NULL, OPT_BUS },
	{ "control", required_argument, NULL, OPT_CONTROL },
	{ "name", required_argument, NULL, OPT_NAME },
	{ "sandbox", required_argument, NULL, OPT_SANDBOX },
	{ "user", required_argument, NULL, OPT_USER },
	{ "chroot", required_argument, NULL, OPT_CHROOT },
	{ "restore", required_argument, NULL, OPT_RESTORE },
	{ "clone", no_argument, NULL, OPT_CLONE },
	{ "incoming", required_argument, NULL, OPT_INCOMING },
	{ "dev", required_argument, NULL, OPT_DEV },
	{ "dry-run", no_argument, NULL, OPT_DRY_RUN },
	{ "exit-port", no_argument, NULL, OPT_EXIT_PORT },
	{ "help", no_argument, NULL, OPT_HELP },
	{ "version", no_argument, NULL, OPT_VERSION },
	{ NULL, 0, NULL, 0 }
};

void options_help(void)
{
	fputs("usage: pvhv-run --kernel FILE [OPTION]...\n"
	      "Runs a virtual machine on " DEFAULT_DEV ".\n"
	      "\n"
	      "  -k, --kernel FILE      bzImage, or ELF with a PVH entry\n"
	      "  -i, --initrd FILE      initial RAM disk\n"
	      "  -p, --append TEXT      kernel command line (default: " DEFAULT_APPEND ")\n"
	      "  -c, --cpus N           number of CPUs (default: 1)\n"
	      "      --cpu-model NAME   a CPU that unlike hosts can be, so that the machine can move\n"
	      "                         between them; help lists them (default: host)\n"
	      "  -m, --memory SIZE      memory, in MiB or with K, M, G (default: 512M)\n"
	      "      --memory size=SIZE,hugepages=thp|off|2M|1G\n"
	      "  -d, --disk PATH        raw image, block device or NBD URI (several times: several)\n"
	      "      --disk path=PATH,readonly=on|off,direct=on|off|auto,queues=N,\n"
	      "             iops=N,bps=RATE,serial=TEXT\n"
	      "  -n, --net tap=NAME,bridge=NAME,mac=ADDRESS,queues=N,bps=RATE,\n"
	      "             vhost=on|off|auto   a network through a tap of the host\n"
	      "  -n, --net user,tcp=HOST:GUEST,udp=HOST:GUEST,mac=ADDRESS,bps=RATE\n"
	      "                         the same without privileges, by passt\n"
	      "      --console KIND     stdio (default), pty, file=PATH, socket=PATH, control\n"
	      "                         (clients of the control socket), none\n"
	      "      --port name=NAME,socket=PATH|file=PATH|control|pty|none,console=on|off\n"
	      "                         a virtio port, or another console (several times: several)\n"
	      "      --balloon[=target=SIZE,reporting=on|off,oom=on|off]\n"
	      "                         memory that the guest gives back (virtio-balloon)\n"
	      "      --rng[=bps=RATE]   entropy of the host for the guest (virtio-rng)\n"
	      "      --bus pci|pvhv     where the devices are: on PCI, for stock kernels (default),\n"
	      "                         or on the pvhv bus, for guests with its drivers\n"
	      "      --exit-port        a byte that the guest writes to port 0xf4 ends\n"
	      "                         pvhv-run with that status\n"
	      "      --control PATH     socket that pvhvctl and curl control the machine by\n"
	      "                         (HTTP; none: no socket)\n"
	      "      --name NAME        name of the machine, in the process list as pvhv:NAME;\n"
	      "                         pvhvctl finds it by this name: the control socket is\n"
	      "                         /run/pvhv/NAME.sock, or in $XDG_RUNTIME_DIR/pvhv\n"
	      "      --user NAME        run as that user, or UID:GID, once all is open (root only)\n"
	      "      --chroot DIR       see only that directory then (root only)\n"
	      "      --restore FILE         go on with a machine that was saved: its own options hold\n"
	      "                         where none are given here\n"
	      "      --clone            it is another machine than the one that was saved: its\n"
	      "                         networks get addresses of their own, by its --name\n"
	      "      --incoming ADDRESS     take over a machine that pvhvctl migrate sends:\n"
	      "                         tcp:ADDRESS:PORT[,tls_dir=DIR|,tls=off], unix:PATH\n"
	      "      --sandbox on|off   no privileges, and only the system calls that are needed,\n"
	      "                         once the guest runs (default: on)\n"
	      "      --dev PATH         device of the KVM API (default: " DEFAULT_DEV ")\n"
	      "      --dry-run          check all of it, print the plan, start nothing\n"
	      "      --help, --version\n"
	      "\n"
	      "On a terminal: Ctrl-A x quits, Ctrl-A b sends a break (SysRq), Ctrl-A a\n"
	      "sends Ctrl-A.  SIGPWR presses the power button.\n"
	      "\n"
	      "Exit status:\n"
	      "    0  the guest powered off, or Ctrl-A x\n"
	      "    1  wrong usage, or the host cannot do it: one line says why\n"
	      "    3  the guest asked for a reset (reboot, panic=)\n"
	      "    4  the guest ended by a triple fault\n"
	      "    5  the guest cannot go on: one line says why\n"
	      "    N  what the guest wrote to the exit port, with --exit-port\n"
	      "128+N  ended by signal N\n", stdout);
}

static int bad_size(const char *text)
{
	return fail(-EINVAL, "--memory: '%s' is not a size: give one like 512M or 2G",
		    text);
}

static int parse_pages(const char *text, enum mem_pages *pages)
{
	static const struct {
		const char *name;
		enum mem_pages pages;
	} kinds[] = {
		{ "thp", MEM_PAGES_THP }, { "off", MEM_PAGES_SMALL },
		{ "2M", MEM_PAGES_2M }, { "1G", MEM_PAGES_1G },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!strcmp(text, kinds[i].name)) {
			*pages = kinds[i].pages;
			return 0;
		}
	return fail(-EINVAL, "--memory: hugepages=%s is unknown: use thp, off, 2M or 1G",
		    text);
}

/* "SIZE" or "size=SIZE,hugepages=KIND". */
static int parse_memory(struct options *opt, char *text)
{
	char *key, *value;
	int ret = 0;

	if (!strchr(text, '='))
		return options_size(text, &opt->memory) ? bad_size(text) : 0;
	while (!ret && options_next(&text, &key, &value)) {
		if (!value)
			ret = fail(-EINVAL, "--memory: '%s' is no key=value: use size= and hugepages=",
				   key);
		else if (!strcmp(key, "size"))
			ret = options_size(value, &opt->memory) ?
			      bad_size(value) : 0;
		else if (!strcmp(key, "hugepages"))
			ret = parse_pages(value, &opt->pages);
		else
			ret = fail(-EINVAL, "--memory: unknown key '%s': use size= and hugepages=",
				   key);
	}
	return ret;
}

static int parse_console(struct options *opt, const char *text)
{
	static const struct {
		const char *name;
		enum console_kind kind;
	} kinds[] = {
		{ "stdio", CONSOLE_STDIO }, { "pty", CONSOLE_PTY },
		{ "none", CONSOLE_NONE }, { "control", CONSOLE_CONTROL },
		{ "file=", CONSOLE_FILE },
		{ "socket=", CONSOLE_SOCKET },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t len = strlen(kinds[i].name);
		bool path = kinds[i].name[len - 1] == '=';

		if (strncmp(text, kinds[i].name, len) ||
		    (path ? !text[len] : text[len]))
			continue;
		opt->console = kinds[i].kind;
		opt->console_path = path ? text + len : NULL;
		return 0;
	}
	return fail(-EINVAL, "--console: '%s' is unknown: use stdio, pty, file=PATH, socket=PATH, control or none",
		    text);
}

static int parse_port(struct options *opt, char *text)
{
	struct port_options *port = &opt->ports[opt->nr_ports];
	u32 i;
	int ret;

	if (opt->nr_ports == PORTS_MAX)
		return fail(-E2BIG, "--port: %d are all that a machine can have: give fewer",
			    PORTS_MAX);
	ret = port_options_parse(port, text);
	if (ret)
		return ret;
	for (i = 0; i < opt->nr_ports; i++)
		if (!strcmp(opt->ports[i].name, port->name))
			return fail(-EEXIST, "--port: name=%s is there twice: give each its own",
				    port->name);
	opt->nr_ports++;
	return 0;
}

static int parse_switch(const char *option, const char *key, const char *value,
			bool *on)
{
	if (strcmp(value, "on") && strcmp(value, "off"))
		return fail(-EINVAL, "%s: %s=%s is unknown: use on or off",
			    option, key, value);
	*on = !strcmp(value, "on");
	return 0;
}

/* "target=SIZE,reporting=on|off,oom=on|off", or nothing. */
static int parse_balloon(struct options *opt, char *text)
{
	struct balloon_options *b = &opt->balloon_opt;
	char *key, *value;
	int ret = 0;

	opt->balloon = true;
	b->reporting = true;
	b->deflate_on_oom = true;
	while (!ret && text && options_next(&text, &key, &value)) {
		if (value && !strcmp(key, "target"))
			ret = options_size(value, &b->keep) ?
			      fail(-EINVAL, "--balloon: target=%s is not a size: give one like 512M",
				   value) : 0;
		else if (value && !strcmp(key, "reporting"))
			ret = parse_switch("--balloon", key, value,
					   &b->reporting);
		else if (value && !strcmp(key, "oom"))
			ret = parse_switch("--balloon", key, value,
					   &b->deflate_on_oom);
		else
			ret = fail(-EINVAL, "--balloon: unknown '%s': use target=, reporting=, oom=",
				   key);
	}
	return ret;
}

/* "bps=RATE", or nothing. */
static int parse_rng(struct options *opt, char *text)
{
	char *key, *value;

	opt->rng = true;
	while (text && options_next(&text, &key, &value)) {
		if (!value || strcmp(key, "bps"))
			return fail(-EINVAL, "--rng: unknown '%s': use bps=RATE",
				    key);
		if (options_rate(value, &opt->rng_bps))
			return fail(-EINVAL, "--rng: bps=%s is not a rate: give bytes in a second, like 64K",
				    value);
	}
	return 0;
}

static int parse_cpus(struct options *opt, const char *text)
{
	u64 value;

	if (options_number(text, 1, MAX_CPUS, &value))
		return fail(-EINVAL, "--cpus: '%s' is not a number from 1 to %d: give one",
			    text, MAX_CPUS);
	opt->cpus = value;
	return 0;
}

static int parse_cpu_model(struct options *opt, const char *text)
{
	opt->cpu_model_list = !strcmp(text, "help");
	if (!opt->cpu_model_list && strcmp(text, CPU_MODEL_HOST) &&
	    !cpu_model_find(text))
		return fail(-EINVAL, "--cpu-model: '%.64s' is unknown: --cpu-model help lists what there is",
			    text);
	opt->cpu_model = text;
	return 0;
}

static int parse_sandbox(struct options *opt, const char *text)
{
	if (strcmp(text, "on") && strcmp(text, "off"))
		return fail(-EINVAL, "--sandbox: '%s' is unknown: use on or off",
			    text);
	opt->no_sandbox = !strcmp(text, "off");
	return 0;
}

static int parse_bus(struct options *opt, const char *text)
{
	if (strcmp(text, "pci") && strcmp(text, "pvhv"))
		return fail(-EINVAL, "--bus: '%s' is unknown: use pci or pvhv",
			    text);
	opt->bus = strcmp(text, "pvhv") ? BUS_PCI : BUS_PVHV;
	return 0;
}

static int unknown(int argc, char **argv, int at)
{
	/* getopt names a short option, and else stands after the long one. */
	if (optopt && optopt < 256)
		return fail(-EINVAL, "unknown option or missing argument '-%c': see pvhv-run --help",
			    optopt);
	return fail(-EINVAL, "unknown option or missing argument '%s': see pvhv-run --help",
		    at < argc ? argv[at] : "");
}

static int parse_disk(struct options *opt, int c, char *text)
{
	struct disk_options *disk;

	if (opt->nr_disks == DISKS_MAX)
		return fail(-E2BIG, "--disk: more than %d disks: leave some out",
			    DISKS_MAX);
	disk = &opt->disks[opt->nr_disks++];
	return c == 'd' ? disk_options_path(disk, text) :
			  disk_options_parse(disk, text);
}

static int parse_net(struct options *opt, char *text)
{
	if (opt->nr_nets == NETS_MAX)
		return fail(-E2BIG, "--net: more than %d networks: leave some out",
			    NETS_MAX);
	return net_options_parse(&opt->nets[opt->nr_nets++], text);
}

static int parse_one(struct options *opt, int c)
{
	switch (c) {
	case 'k':
		opt->kernel = optarg;
		return 0;
	case 'i':
		/* Empty, as from an unset variable in a unit file: none. */
		opt->initrd = *optarg ? optarg : NULL;
		return 0;
	case 'p':
		opt->append = optarg;
		return 0;
	case 'm':
		return parse_memory(opt, optarg);
	case 'c':
		return parse_cpus(opt, optarg);
	case 'd':
	case OPT_DISK:
		return parse_disk(opt, c, optarg);
	case 'n':
		return parse_net(opt, optarg);
	case OPT_CONSOLE:
		return parse_console(opt, optarg);
	case OPT_PORT:
		return parse_port(opt, optarg);
	case OPT_BALLOON:
		return parse_balloon(opt, optarg);
	case OPT_RNG:
		return parse_rng(opt, optarg);
	case OPT_BUS:
		return parse_bus(opt, optarg);
	case OPT_CONTROL:
		if (!*optarg)
			return fail(-EINVAL, "--control: no path: give one, or none");
		opt->control = optarg;
		return 0;
	case OPT_NAME:
		opt->name = optarg;
		return 0;
	case OPT_CPU_MODEL:
		return parse_cpu_model(opt, optarg);
	case OPT_SANDBOX:
		return parse_sandbox(opt, optarg);
	case OPT_USER:
		opt->user = optarg;
		return 0;
	case OPT_CHROOT:
		opt->chroot = optarg;
		return 0;
	case OPT_RESTORE:
		opt->restore = optarg;
		return 0;
	case OPT_CLONE:
		opt->clone = true;
		return 0;
	case OPT_INCOMING:
		opt->incoming = optarg;
		return 0;
	case OPT_DEV:
		opt->dev = optarg;
		return 0;
	case OPT_DRY_RUN:
		opt->dry_run = true;
		return 0;
	case OPT_EXIT_PORT:
		opt->exit_port = true;
		return 0;
	case OPT_HELP:
		opt->help = true;
		return 0;
	default:
		opt->version = true;
		return 0;
	}
}

/* A machine with a name is found by it. */
static int settle_control(struct options *opt)
{
	int ret;
	u32 i;

	opt->control_option = "--control";
	if (opt->control && !strcmp(opt->control, "none")) {
		opt->control = NULL;
	} else if (opt->name && !opt->control) {
		opt->control_option = "--name";
		ret = rundir_socket(opt->control_default,
				    sizeof(opt->control_default), opt->name);
		if (ret == -EINVAL || ret == -ENAMETOOLONG)
			return fail(ret, "--name: '%s' cannot name a control socket: choose another, or give --control PATH or --control none",
				    opt->name);
		/* Users without a run directory have no such socket. */
		if (!ret)
			opt->control = opt->control_default;
	}
	if (opt->console == CONSOLE_CONTROL && !opt->control)
		return fail(-EINVAL, "--console: 'control' needs a control socket: give --control PATH");
	for (i = 0; i < opt->nr_ports; i++)
		if (opt->ports[i].kind == CONSOLE_CONTROL && !opt->control)
			return fail(-EINVAL, "--port: 'control' needs a control socket: give --control PATH");
	return 0;
}

/* The options that make the machine, by what getopt calls them. */
static const struct {
	int c;
	const char *name;
	bool list;		/* several times: several */
} machine[] = {
	{ 'm', "memory", false }, { 'c', "cpus", false },
	{ 'd', "d", true }, { OPT_DISK, "disk", true }, { 'n', "net", true },
	{ OPT_PORT, "port", true }, { OPT_BALLOON, "balloon", false },
	{ OPT_RNG, "rng", false }, { OPT_EXIT_PORT, "exit-port", false },
	{ OPT_BUS, "bus", false }, { OPT_CPU_MODEL, "cpu-model", false },
};

/* Before its value is cut into pieces. */
static int record(struct options *opt, int c)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(machine); i++)
		if (machine[i].c == c) {
			if (!machine[i].list)
				option_args_drop(&opt->args, machine[i].name);
			return option_args_add(&opt->args, machine[i].name,
					       optarg);
		}
	return 0;
}

static int parse_all(struct options *opt, int argc, char **argv)
{
	int c, at, ret = 0;

	opterr = 0;
	optind = 0;	/* start over, whoever parsed before */
	for (at = 1; !ret; at = optind) {
		optopt = 0;
		c = getopt_long(argc, argv, "+k:i:p:m:c:d:n:", longs, NULL);
		if (c < 0)
			break;
		ret = c == '?' ? unknown(argc, argv, at) : record(opt, c);
		if (!ret)
			ret = parse_one(opt, c);
	}
	if (ret || opt->help || opt->version || opt->cpu_model_list)
		return ret;
	if (optind < argc)
		return fail(-EINVAL, "'%s' is not an option: see pvhv-run --help",
			    argv[optind]);
	return 0;
}

static void set_defaults(struct options *opt)
{
	memset(opt, 0, sizeof(*opt));
	opt->dev = DEFAULT_DEV;
	opt->append = DEFAULT_APPEND;
	opt->memory = DEFAULT_MEMORY;
	opt->cpus = 1;
}

static int check_all(const struct options *opt)
{
	if (opt->balloon_opt.keep > opt->memory)
		return fail(-ERANGE, "--balloon: target= is more than the machine's memory: give less");
	if (opt->restore && opt->kernel)
		return fail(-EINVAL, "--restore: the saved machine has its kernel: leave out --kernel");
	if (opt->incoming && (opt->kernel || opt->restore))
		return fail(-EINVAL, "--incoming: the machine that comes has its kernel and its state: leave out %s",
			    opt->kernel ? "--kernel" : "--restore");
	if (opt->clone && !opt->restore)
		return fail(-EINVAL, "--clone: of what: name a saved machine with --restore FILE");
	if (opt->incoming && opt->dry_run)
		return fail(-EINVAL, "--incoming: cannot be tried by --dry-run: a failed migration harms nobody");
	if (opt->restore && opt->dry_run)
		return fail(-EINVAL, "--restore: cannot be tried by --dry-run: use pvhv-stream verify");
	if (!opt->restore && !opt->incoming && !opt->kernel)
		return fail(-EINVAL, "no kernel: name one with --kernel FILE");
	return 0;
}

int options_parse(struct options *opt, int argc, char **argv)
{
	int ret;

	set_defaults(opt);
	ret = parse_all(opt, argc, argv);
	if (ret || opt->help || opt->version || opt->cpu_model_list)
		return ret;
	ret = check_all(opt);
	return ret ? ret : settle_control(opt);
}

/* A list of devices on the command line takes the place of the saved one. */
static void drop_replaced(struct option_args *args, const struct options *own)
{
	if (own->nr_disks) {
		option_args_drop(args, "d");
		option_args_drop(args, "disk");
	}
	if (own->nr_nets)
		option_args_drop(args, "net");
	if (own->nr_ports)
		option_args_drop(args, "port");
}

static void keep_process(struct options *opt, const struct options *own)
{
	opt->name = own->name;
	opt->dev = own->dev;
	opt->console = own->console;
	opt->console_path = own->console_path;
	opt->control = own->control;
	opt->control_option = own->control_option;
	memcpy(opt->control_default, own->control_default,
	       sizeof(opt->control_default));
	opt->user = own->user;
	opt->chroot = own->chroot;
	opt->no_sandbox = own->no_sandbox;
	opt->restore = own->restore;
	opt->clone = own->clone;
	opt->incoming = own->incoming;
}

static int copy_args(struct option_args *to, const struct option_args *from)
{
	u32 i;

	for (i = 0; i < from->nr; i++) {
		if (to->nr == OPTION_ARGS_MAX)
			return fail(-E2BIG, "the saved machine and the command line have too many options");
		to->text[to->nr] = strdup(from->text[i]);
		if (!to->text[to->nr])
			return fail(-ENOMEM, "out of memory");
		to->nr++;
	}
	return 0;
}

/* Who sent them says what the machine has, and nothing else. */
static int check_saved(const struct option_args *saved)
{
	unsigned int i;
	u32 nr;

	for (nr = 0; nr < saved->nr; nr++) {
		for (i = 0; i < ARRAY_SIZE(machine); i++)
			if (option_is(saved->text[nr], machine[i].name))
				break;
		if (i == ARRAY_SIZE(machine))
			return fail(-EINVAL, "the saved machine has an unknown option '%.64s': use a newer pvhv-run",
				    saved->text[nr]);
	}
	return 0;
}

/* Its kernel has looked at the CPU that it had. */
static int check_cpu_model(const struct option_args *saved,
			   const struct options *own)
{
	const char *was = CPU_MODEL_HOST, *value;
	u32 i;

	for (i = 0; i < saved->nr; i++) {
		value = strchr(saved->text[i], '=');
		if (value && option_is(saved->text[i], "cpu-model"))
			was = value + 1;
	}
	if (!own->cpu_model || !strcmp(own->cpu_model, was))
		return 0;
	return fail(-EINVAL, "--cpu-model: the machine was started with '%.64s' and keeps that: leave it out",
		    was);
}

/* The pieces of values stay in @opt->merged as long as the machine runs. */
int options_merge(struct options *opt, const struct option_args *saved)
{
	struct options own = *opt;
	char *argv[OPTION_ARGS_MAX + 2];
	u32 i;
	int ret;

	memset(&opt->merged, 0, sizeof(opt->merged));
	ret = check_saved(saved);
	if (!ret)
		ret = check_cpu_model(saved, &own);
	if (!ret)
		ret = copy_args(&opt->merged, saved);
	if (!ret) {
		drop_replaced(&opt->merged, &own);
		ret = copy_args(&opt->merged, &own.args);
	}
	if (ret)
		return ret;
	own.merged = opt->merged;
	set_defaults(opt);
	argv[0] = "pvhv-run";
	for (i = 0; i < own.merged.nr; i++)
		argv[1 + i] = own.merged.text[i];
	argv[1 + i] = NULL;
	ret = parse_all(opt, 1 + i, argv);
	opt->merged = own.merged;
	option_args_free(&own.args);
	keep_process(opt, &own);
	/* The addresses that were typed are those of the other machine. */
	for (i = 0; opt->clone && !own.nr_nets && i < opt->nr_nets; i++)
		opt->nets[i].mac_given = false;
	return ret ? ret : check_all(opt);
}

void options_free(struct options *opt)
{
	option_args_free(&opt->args);
	option_args_free(&opt->merged);
}
