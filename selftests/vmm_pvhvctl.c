// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies pvhvctl against a control socket with sources that stand for a machine, and against servers that misbehave: every
 * command's request, output and exit status, how machines are found, the console on a pipe and on a terminal, copies of disks by
 * sharing and by overlay (with scripts in place of qemu-img and qemu-nbd), and what is undone when a step fails.
 *
 * Environment: PVHVCTL (the program).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "tap.h"
#include "../vmm/control.h"

#define FLOOD_LINES	100000

static char dir[64];		/* the run directory, and all other files */
static char program[PATH_MAX];

/* --- the machine ------------------------------------------------------------------------------------------------- */

static pthread_t server;
static pthread_barrier_t started;
static char asked[4096];		/* commands and their parameters, a line each */
static atomic_int running, attached = -1;
static bool share_blocks, ignore_button, takes_orders, move_fails;
static atomic_int flood;	/* the process that is interrupted meanwhile */
static char disk_path[128];
static json_int_t disk_size = 1048576;
static int disk_grows;	/* while it is being frozen */

static void note_command(const char *source, const char *command, json_t *params)
{
	char *text = json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS);
	size_t len = strlen(asked);

	snprintf(asked + len, sizeof(asked) - len, "%s %s %s\n", source, command, text);
	free(text);
}

static void woken(void *arg)
{
	if (!atomic_load(&running))
		loop_quit();
}

static void end_soon(void)
{
	atomic_store(&running, 0);
	loop_wake();
}

static json_t *vm_status(void *arg)
{
	return json_pack("{s:s, s:i, s:i, s:I, s:f, s:[]}", "state", "running", "pid", 4321, "cpus", 2, "memory",
			 (json_int_t)(512 * MIB), "uptime", 3725.25, "paused_by");
}

static void vm_metrics(void *arg, struct metric_set *set)
{
	metric_counter(set, "exits_total", "Exits", 7);
}

#define COMMAND(name)									\
	static void run_##name(void *arg, json_t *params, struct control_call *call)	\
	{										\
		note_command(arg, #name, params);					\
		control_done(call, json_pack("{s:s}", "state", #name));			\
	}

COMMAND(pause)
COMMAND(resume)
COMMAND(reset)
COMMAND(target)
COMMAND(limits)
COMMAND(limit)
COMMAND(link)
COMMAND(announce)
COMMAND(thaw)

static void run_powerbutton(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "powerbutton", params);
	control_done(call, NULL);
	if (!ignore_button)
		end_soon();
}

static void run_stop(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "stop", params);
	control_done(call, NULL);
	end_soon();
}

static void run_resize(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "resize", params);
	control_fail(call, -ENOSPC, "no room\nfor it");
}

static void copy(const char *what, json_t *params, struct control_call *call)
{
	note_command("disk", what, params);
	if (share_blocks)
		control_done(call, json_object());
	else
		control_fail(call, -EOPNOTSUPP, "its file system cannot share blocks");
}

static void run_snapshot(void *arg, json_t *params, struct control_call *call)
{
	copy("snapshot", params, call);
}

static void run_clone(void *arg, json_t *params, struct control_call *call)
{
	copy("clone", params, call);
}

static json_t *disk_status(void *arg)
{
	return json_pack("{s:s, s:s, s:I, s:b, s:i, s:[ss]}", "kind", "raw", "path", disk_path, "size", disk_size, "readonly", 0,
			 "frozen", 7, "held_by", "limit", "space");
}

static void run_freeze(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "freeze", params);
	disk_size += disk_grows;
	control_done(call, disk_status(NULL));
}

static void run_switch(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "switch", params);
	if (strstr(json_string_value(json_object_get(params, "path")), "refused"))
		control_fail(call, -EIO, "cannot be opened");
	else
		control_done(call, NULL);
}

static void run_estimate(void *arg, json_t *params, struct control_call *call)
{
	note_command(arg, "estimate", params);
	control_done(call, json_pack("{s:f, s:b}", "downtime", 0.125, "converges", 1));
}

static json_t *console_status(void *arg)
{
	return json_pack("{s:s, s:s*}", "kind", arg ? "file" : "control", "path", arg);
}

static int console_attach(void *arg, int fd)
{
	if (atomic_load(&attached) >= 0)
		return -EBUSY;
	if (fd >= 0)
		atomic_store(&attached, fd);
	return 0;
}

/* More than the socket takes at once, and an interrupt in the middle: the order to cancel comes all the same. */
static void say_much(int fd)
{
	static const char progress[] = "{\"event\": \"progress\"}\n";
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char order[64] = "";

	for (int i = 0; i < FLOOD_LINES; i++) {
		if (i == FLOOD_LINES / 2)
			ASSERT_EQ(kill(flood, SIGINT), 0);
		ASSERT_EQ(write(fd, progress, sizeof(progress) - 1), sizeof(progress) - 1);
	}
	if (poll(&pfd, 1, 20000) == 1 && read(fd, order, sizeof(order) - 1) > 0)
		strcat(asked, order);
	dprintf(fd, "{\"event\": \"failed\", \"message\": \"cancelled\"}\n");
}

/* The machine's side of /api/v1/move: what was ordered, then the events. */
static void *save(void *arg)
{
	const char *saved = move_fails ? "" : "saved";
	char order[512], control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { order, sizeof(order) - 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	int fd = *(int *)arg, file;
	ssize_t n = ASSERT_OK(recvmsg(fd, &msg, 0));

	order[n] = 0;
	ASSERT(CMSG_FIRSTHDR(&msg));
	memcpy(&file, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(file));
	snprintf(asked + strlen(asked), sizeof(asked) - strlen(asked), "%s", order);
	ASSERT_EQ(write(file, saved, strlen(saved)), strlen(saved));
	close(file);
	if (flood)
		say_much(fd);
	else if (move_fails)
		dprintf(fd, "{\"event\": \"failed\", \"message\": \"no moment\"}\n");
	else
		dprintf(fd, "{\"event\": \"progress\"}\n{\"event\": \"resumed\"}\n{\"event\": \"done\"}\n");
	close(fd);
	return NULL;
}

static int move_attach(void *arg, int fd)
{
	static int taken;
	pthread_t thread;

	if (!takes_orders)
		return -EBUSY;
	taken = fd;
	if (fd < 0)
		return 0;
	ASSERT_EQ(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, save, &taken), 0);
	return pthread_detach(thread);
}

static const struct control_command commands[] = {
	{ "pause", run_pause, { } },
	{ "resume", run_resume, { } },
	{ "reset", run_reset, { } },
	{ "stop", run_stop, { } },
	{ "powerbutton", run_powerbutton, { } },
	{ "target", run_target, { { "target", CONTROL_U64, true } } },
	{ "resize", run_resize, { { "size", CONTROL_U64, true } } },
	{ "limits", run_limits, { { "iops", CONTROL_U64, false }, { "bps", CONTROL_U64, false } } },
	{ "limit", run_limit, { { "bps", CONTROL_U64, true } } },
	{ "link", run_link, { { "up", CONTROL_BOOL, true } } },
	{ "announce", run_announce, { } },
	{ "snapshot", run_snapshot, { { "path", CONTROL_STRING, true } } },
	{ "clone", run_clone, { { "path", CONTROL_STRING, true } } },
	{ "freeze", run_freeze, { { "ms", CONTROL_U64, false } } },
	{ "thaw", run_thaw, { } },
	{ "estimate", run_estimate, { { "bandwidth", CONTROL_U64, false }, { "downtime_ms", CONTROL_U64, false },
				      { "period_ms", CONTROL_U64, false } } },
	{ "switch", run_switch, { { "path", CONTROL_STRING, true } } },
	{ }
};

static json_t *net_status(void *arg)
{
	return json_pack("{s:{s:s}, s:[{s:i}]}", "link", "mac", "52:54:00:00:00:01", "queues", "rx", 1);
}

static struct control_source sources[] = {
	{ .kind = "vm", .name = "inner-name", .arg = "vm", .status = vm_status, .metrics = vm_metrics, .commands = commands },
	{ .kind = "disk", .name = "disk 0", .arg = "disk", .status = disk_status, .commands = commands },
	{ .kind = "net", .name = "net0", .arg = "net", .status = net_status, .commands = commands },
	{ .kind = "balloon", .name = "balloon0", .arg = "balloon", .commands = commands },
	{ .kind = "console", .name = "serial", .status = console_status, .attach = console_attach },
	{ .kind = "console", .name = "log", .arg = "/var/log/vm", .status = console_status },
	{ .kind = "mover", .name = "mover", .arg = "mover", .commands = commands, .attach = move_attach },
};

static void *serve(void *arg)
{
	char path[128];
	unsigned int i;

	snprintf(path, sizeof(path), "%s/vm.sock", dir);
	ASSERT_EQ(loop_init(woken, NULL), 0);
	for (i = 0; i < ARRAY_SIZE(sources); i++)
		control_add(&sources[i]);
	ASSERT_EQ(control_open("--control", path), 0);
	pthread_barrier_wait(&started);
	loop_run();
	control_close();
	loop_fini();
	control_destroy();
	return NULL;
}

static void start(void)
{
	strcpy(dir, "/tmp/pvhvctl.XXXXXX");
	ASSERT(mkdtemp(dir));
	ASSERT_OK(setenv("PVHV_RUNDIR", dir, 1));
	snprintf(disk_path, sizeof(disk_path), "%s/disk.img", dir);
	atomic_store(&running, 1);
	pthread_barrier_init(&started, NULL, 2);
	ASSERT_EQ(pthread_create(&server, NULL, serve, NULL), 0);
	pthread_barrier_wait(&started);
}

static void clean(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ASSERT_EQ(system(command), 0);
}

static void stop(void)
{
	end_soon();
	ASSERT_EQ(pthread_join(server, NULL), 0);
	clean();
}

/* --- the program ------------------------------------------------------------------------------------------------- */

static char out[64 * 1024], err[4096];

static void read_file(const char *name, char *buf, size_t size)
{
	char path[128];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = ASSERT_OK(open(path, O_RDONLY));
	n = ASSERT_OK(read(fd, buf, size - 1));
	buf[n] = 0;
	close(fd);
}

/* Its exit status; a shell cuts the words */
static int ctl(const char *args, ...)
{
	char command[PATH_MAX + 1024], line[512];
	va_list ap;
	int status;

	va_start(ap, args);
	vsnprintf(line, sizeof(line), args, ap);
	va_end(ap);
	snprintf(command, sizeof(command), "cd %s && { timeout 60 %s %s; } >out 2>err </dev/null", dir, program, line);
	status = system(command);
	ASSERT(WIFEXITED(status));
	read_file("out", out, sizeof(out));
	read_file("err", err, sizeof(err));
	return WEXITSTATUS(status);
}

static bool says(const char *error)
{
	return error ? strstr(err, error) != NULL : !err[0];
}

#define CTL(args, status, output, error)								\
	do {												\
		int s_ = ctl(args);									\
		ASSERT_MSG(s_ == (status), "%s: status %d: %s%s", args, s_, out, err);			\
		ASSERT_MSG(!strcmp(out, output), "%s: %s", args, out);					\
		ASSERT_MSG(says(error), "%s: %s", args, err);						\
		ASSERT_MSG(!err[0] || strchr(err, '\n') == err + strlen(err) - 1, "%s: %s", args, err);	\
	} while (0)

#define ASKED(text)								\
	do {									\
		ASSERT_MSG(!strcmp(asked, text), "asked: %s", asked);		\
		asked[0] = 0;							\
	} while (0)

static void test_find(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd;

	start();
	/* One that is dead, and files that are none */
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/dead.sock", dir);
	fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	close(fd);
	ASSERT_EQ(ctl("list; touch x.sock"), 0);
	CTL("list", 0, "NAME                     STATE          PID  CPUS   MEMORY   UPTIME\n"
		       "vm                       running       4321     2     512M     1h2m\n", NULL);
	ASSERT_EQ(ctl("--json list"), 0);
	ASSERT_MSG(!strncmp(out, "[{\"name\":\"vm\",\"state\":\"running\",\"pid\":4321,", 42) && strstr(out, "\"disk\":[\"disk 0\"]"),
		   "%s", out);
	CTL("status dead", 2, "", "no machine 'dead' runs");
	CTL("status none", 2, "", "no machine 'none' runs");
	CTL("status .", 2, "", "no machine can have the name '.'");
	CTL("status ./none.sock", 2, "", "no machine './none.sock' runs");
	CTL("pause ./vm.sock", 0, "", NULL);
	CTL("status ./out", 2, "", "no machine './out' runs");
	stop();
	start();
	end_soon();
	ASSERT_EQ(pthread_join(server, NULL), 0);
	CTL("list", 0, "", NULL);
	CTL("--json list", 0, "[]\n", NULL);
	setenv("PVHV_RUNDIR", "/nowhere", 1);
	ASSERT_EQ(ctl("list"), 0);
	clean();
}

static void test_usage(void)
{
	start();
	CTL("", 1, "", "no command");
	CTL("bogus", 1, "", "unknown command 'bogus'");
	CTL("--bogus list", 1, "", "unknown option '--bogus'");
	CTL("status", 1, "", "usage: pvhvctl status MACHINE");
	CTL("list vm", 1, "", "usage: pvhvctl list");
	CTL("disk", 1, "", "no command");
	CTL("disk bogus", 1, "", "unknown command 'bogus'");
	CTL("disk resize vm", 1, "", "usage: pvhvctl disk resize MACHINE DISK [SIZE]");
	CTL("disk resize vm a 10X", 1, "", "'10X' is not a size");
	CTL("disk limits vm a", 1, "", "usage: pvhvctl disk limits");
	CTL("disk limits vm a iops", 1, "", "usage: pvhvctl disk limits");
	CTL("disk limits vm a iops=x", 1, "", "iops: no number");
	CTL("net limits vm a iops=1", 1, "", "usage: pvhvctl net limits");
	CTL("balloon vm x", 1, "", "'x' is not a size");
	CTL("estimate vm --bandwidth", 1, "", "--bandwidth: bytes in a second");
	CTL("estimate vm --downtime x", 1, "", "--downtime: milliseconds");
	CTL("estimate vm bogus", 1, "", "usage: pvhvctl estimate");
	CTL("evacuate", 1, "", "usage: pvhvctl evacuate");
	CTL("evacuate unix:/x", 1, "", "'unix:/x' is no address with a port");
	CTL("evacuate tcp:h:65536", 1, "", "no address with a port");
	CTL("evacuate tcp:h:1 --parallel 0", 1, "", "--parallel: a number from 1 to 64");
	CTL("stop --now", 1, "", "usage: pvhvctl stop");
	CTL("stop vm --timeout", 1, "", "usage: pvhvctl stop");
	CTL("stop vm --timeout 0", 1, "", "--timeout: '0' is no number");
	CTL("snapshot-disk vm a --overlay", 1, "", "usage: pvhvctl snapshot-disk");
	CTL("clone-disk vm a b c", 1, "", "usage: pvhvctl clone-disk");
	CTL("disk resize --help", 0, "usage: pvhvctl disk resize MACHINE DISK [SIZE]\n", NULL);
	ASSERT_EQ(ctl("--help"), 0);
	ASSERT(strstr(out, "snapshot-disk") && strstr(out, "Exit status:"));
	ASSERT_EQ(ctl("--version"), 0);
	ASSERT(!strncmp(out, "pvhvctl ", 8));
	ASKED("");
	stop();
}

static void test_commands(void)
{
	start();
	CTL("status vm", 0, "name: inner-name\nstate: running\npid: 4321\ncpus: 2\nmemory: 536870912\nuptime: 3725.250\n"
			    "paused_by:\ndisk: disk 0\nnet: net0\nballoon: balloon0\nconsole: serial log\nmover: mover\n", NULL);
	CTL("pause vm", 0, "", NULL);
	CTL("--json resume vm", 0, "{\"state\":\"resume\"}\n", NULL);
	CTL("reset vm", 0, "", NULL);
	CTL("balloon vm 256M", 0, "", NULL);
	CTL("balloon vm", 0, "name: balloon0\n", NULL);
	CTL("estimate vm --bandwidth 10M --downtime 50 --period 7", 0, "downtime: 0.125\nconverges: yes\n", NULL);
	CTL("estimate vm", 0, "downtime: 0.125\nconverges: yes\n", NULL);
	ASKED("vm pause {}\nvm resume {}\nvm reset {}\nballoon target {\"target\":268435456}\n"
	      "mover estimate {\"bandwidth\":10485760,\"downtime_ms\":50,\"period_ms\":7}\nmover estimate {}\n");
	/* This one cannot be moved */
	ASSERT_EQ(ctl("evacuate tcp:127.0.0.1:1,tls=off"), 3);
	ASSERT_MSG(strstr(err, "evacuate: 1 of 1 machines have stayed"), "%s", err);
	stop();
}

static void test_devices(void)
{
	start();
	strcpy(disk_path, "/images/a\033[31m.img");
	CTL("disk show vm 'disk 0'", 0, "name: disk 0\nkind: raw\npath: /images/a?[31m.img\nsize: 1048576\nreadonly: no\nfrozen: 7\nheld_by: limit space\n", NULL);
	CTL("disk list vm", 0, "name: disk 0\nkind: raw\npath: /images/a?[31m.img\nsize: 1048576\nreadonly: no\nfrozen: 7\nheld_by: limit space\n", NULL);
	CTL("disk show vm disk1", 3, "", "vm: no disk 'disk1'");
	CTL("disk resize vm 'disk 0' 1G", 3, "", "vm: no room?for it");
	CTL("disk resize vm 'disk 0'", 3, "", "vm: no room?for it");
	CTL("disk limits vm 'disk 0' bps=10M iops=0", 0, "", NULL);
	CTL("net show vm net0", 0, "name: net0\nlink:\n  mac: 52:54:00:00:00:01\nqueues:\n  rx: 1\n", NULL);
	CTL("net limits vm net0 bps=0", 0, "", NULL);
	CTL("net link vm net0 down", 0, "", NULL);
	CTL("net link vm net0 off", 1, "", "usage: pvhvctl net link");
	CTL("net announce vm net0", 0, "", NULL);
	ASKED("disk resize {\"size\":1073741824}\ndisk resize {\"size\":0}\ndisk limits {\"bps\":10485760,\"iops\":0}\n"
	      "net limit {\"bps\":0}\nnet link {\"up\":false}\nnet announce {}\n");
	CTL("stats vm", 0, "vm:\n  inner-name:\n    exits_total: 7\n", NULL);
	CTL("--json stats vm", 0, "{\"vm\":{\"inner-name\":{\"exits_total\":7}}}\n", NULL);
	CTL("metrics vm", 0, "# HELP pvhv_vm_exits_total Exits\n# TYPE pvhv_vm_exits_total counter\n"
			     "pvhv_vm_exits_total{vm=\"inner-name\"} 7\n", NULL);
	stop();
}

static void test_stop(void)
{
	start();
	CTL("stop vm", 0, "", NULL);
	ASKED("vm powerbutton {}\n");
	stop();
	start();
	ignore_button = true;
	CTL("stop vm --timeout 1", 4, "", "vm: still runs after 1 seconds");
	CTL("stop --now vm", 0, "", NULL);
	ASKED("vm powerbutton {}\nvm stop {}\n");
	stop();
}

static void test_events(void)
{
	start();
	/* Ends with the machine */
	ASSERT_EQ(ctl("events vm & sleep 1; %s stop --now vm; wait", program), 0);
	ASSERT_MSG(!strncmp(out, "{\"event\":\"connected\",\"state\":\"running\"}\n", 42), "%s", out);
	stop();
}

/* --- servers that are none ------------------------------------------------------------------------------------------ */

static const char *nonsense;

static void *serve_nonsense(void *arg)
{
	int fd = (int)(long)arg, client;
	char buf[1024];

	while ((client = accept(fd, NULL, NULL)) >= 0) {
		if (recv(client, buf, sizeof(buf), 0) > 0)
			send(client, nonsense, strlen(nonsense), MSG_NOSIGNAL);
		close(client);
	}
	return NULL;
}

static void test_nonsense(void)
{
	static const struct {
		const char *text;
		int status;
		const char *error;
	} cases[] = {
		{ "", 4, "ended before it answered" },
		{ "SSH-2.0-x\r\n\r\n", 1, "is no machine of pvhv" },
		{ "HTTP/1.1 200 OK\r\n\r\nnonsense", 1, "is no machine of pvhv" },
		{ "HTTP/1.1 200 OK\r\nno end", 4, "ended before it answered" },
		{ "HTTP/1.1 503 Busy\r\n\r\n", 3, "refused with HTTP status 503" },
		{ "HTTP/1.1 500 x\r\n\r\n{\"error\":\"a\\u001b[2J\"}", 3, "a?[2J" },
	};
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	pthread_t thread;
	unsigned int i;
	int fd;

	strcpy(dir, "/tmp/pvhvctl.XXXXXX");
	ASSERT(mkdtemp(dir));
	ASSERT_OK(setenv("PVHV_RUNDIR", dir, 1));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/bad.sock", dir);
	fd = ASSERT_OK(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	ASSERT_OK(bind(fd, (struct sockaddr *)&addr, sizeof(addr)));
	ASSERT_OK(listen(fd, 8));
	nonsense = "";
	ASSERT_EQ(pthread_create(&thread, NULL, serve_nonsense, (void *)(long)fd), 0);
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		__atomic_store_n(&nonsense, cases[i].text, __ATOMIC_SEQ_CST);
		CTL("status bad", cases[i].status, "", cases[i].error);
		CTL("events bad", strstr(cases[i].text, "200 OK\r\n\r\n") ? 0 : cases[i].status,
		    strstr(cases[i].text, "200 OK\r\n\r\n") ? "nonsense" : "",
		    strstr(cases[i].text, "200 OK\r\n\r\n") ? NULL : cases[i].error);
	}
	ASSERT_EQ(ctl("list"), 0);
	ASSERT(strstr(err, "bad: cannot be asked"));
	clean();
}

/* --- the console ------------------------------------------------------------------------------------------------------ */

static void wait_attached(void)
{
	int tries;

	for (tries = 0; atomic_load(&attached) < 0; tries++) {
		ASSERT_LT(tries, 20000);
		usleep(1000);
	}
}

static void expect_read(int fd, const char *text)
{
	char buf[1024] = "";
	size_t len = 0;
	ssize_t n;

	while (!strstr(buf, text)) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };

		ASSERT_MSG(poll(&pfd, 1, 20000) == 1, "no '%s' in '%s'", text, buf);
		n = read(fd, buf + len, sizeof(buf) - 1 - len);
		ASSERT_MSG(n > 0, "end instead of '%s' in '%s'", text, buf);
		len += n;
		buf[len] = 0;
	}
}

static pid_t run_console(int in, int out_fd, const char *name)
{
	pid_t pid = ASSERT_OK(fork());

	if (!pid) {
		setsid();
		dup2(in, STDIN_FILENO);
		dup2(out_fd, STDOUT_FILENO);
		dup2(out_fd, STDERR_FILENO);
		ioctl(STDIN_FILENO, TIOCSCTTY, 0);
		execl(program, program, "console", "vm", name, NULL);
		_exit(99);
	}
	return pid;
}

static int exit_status(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_console_pipe(void)
{
	int in[2], output[2], fd;
	pid_t pid;

	start();
	CTL("console vm log", 3, "", "console log is file /var/log/vm");
	CTL("console vm other", 3, "", "no console 'other'");
	ASSERT_OK(pipe2(in, O_CLOEXEC));
	ASSERT_OK(pipe2(output, O_CLOEXEC));
	pid = run_console(in[0], output[1], NULL);
	wait_attached();
	fd = atomic_load(&attached);
	/* On a pipe, Ctrl-A is as good as any other byte */
	ASSERT_EQ(write(in[1], "to\001x guest", 11), 11);
	expect_read(fd, "to\001x guest");
	ASSERT_EQ(write(fd, "from guest", 10), 10);
	expect_read(output[0], "from guest");
	CTL("console vm", 3, "", "console serial is in use");
	/* Output goes on after the input's end, until the console's */
	close(in[1]);
	ASSERT_EQ(write(fd, "still", 5), 5);
	expect_read(output[0], "still");
	close(fd);
	ASSERT_EQ(exit_status(pid), 0);
	stop();
}

static void test_console_terminal(void)
{
	struct termios before, raw, after;
	int master, slave, fd;
	pid_t pid;

	start();
	master = ASSERT_OK(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	slave = ASSERT_OK(open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC));
	ASSERT_OK(tcgetattr(slave, &before));
	pid = run_console(slave, slave, NULL);
	wait_attached();
	fd = atomic_load(&attached);
	expect_read(master, "Ctrl-A x detaches");
	ASSERT_EQ(write(fd, "login: ", 7), 7);
	expect_read(master, "login: ");
	ASSERT_OK(tcgetattr(slave, &raw));
	ASSERT(!(raw.c_lflag & (ICANON | ECHO | ISIG)));
	ASSERT_EQ(write(master, "a\003\001a\001x", 6), 6);
	expect_read(fd, "a\003\001");
	ASSERT_EQ(exit_status(pid), 0);
	ASSERT_OK(tcgetattr(slave, &after));
	ASSERT(after.c_lflag == before.c_lflag && after.c_oflag == before.c_oflag);
	stop();
}

/* --- copies of disks -------------------------------------------------------------------------------------------------- */

static void write_script(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = ASSERT_OK(open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0755));
	ASSERT_EQ(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* The file is the last but one argument, before the size */
#define QEMU_IMG	"#!/bin/sh\necho \"img $*\" >>calls\nwhile [ $# -gt 2 ]; do shift; done\n: >\"$1\"\n"
/* Says who it is, as the one that stays */
#define QEMU_NBD	"#!/bin/sh\necho \"nbd $*\" >>calls\nwhile [ \"$1\" != --pid-file ]; do shift; done\nsleep 1000 >/dev/null 2>&1 &\n" \
			"echo $! >\"$2\"\necho $! >>servers\n"

static void start_copy(void)
{
	char path[PATH_MAX];

	start();
	snprintf(path, sizeof(path), "%s:/usr/bin:/bin", dir);
	ASSERT_OK(setenv("PATH", path, 1));
	write_script("qemu-img", QEMU_IMG);
	write_script("qemu-nbd", QEMU_NBD);
}

static bool exists(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return !access(path, F_OK);
}

/* Dead or a zombie, whoever waits for it */
static bool server_runs(void)
{
	char text[64], path[64], state = 'X';
	FILE *f;

	read_file("servers", text, sizeof(text));
	ASSERT_GT(atoi(text), 1);
	usleep(100000);
	snprintf(path, sizeof(path), "/proc/%d/stat", atoi(text));
	f = fopen(path, "r");
	if (f) {
		ASSERT_EQ(fscanf(f, "%*d %*s %c", &state), 1);
		fclose(f);
	}
	return state != 'X' && state != 'Z';
}

static void expect_asked(const char *format, ...)
{
	char text[2048];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	ASKED(text);
}

static void test_copy_shared(void)
{
	start_copy();
	share_blocks = true;
	CTL("snapshot-disk vm 'disk 0' snap.img", 0, "", NULL);
	CTL("--json clone-disk vm 'disk 0' /abs/clone.img --overlay x", 0, "{}\n", NULL);
	expect_asked("disk snapshot {\"path\":\"%s/snap.img\"}\ndisk clone {\"path\":\"/abs/clone.img\"}\n", dir);
	ASSERT(!exists("calls"));
	stop();
}

static void test_copy_overlay(void)
{
	char calls[4096], expect[4096];

	start_copy();
	CTL("clone-disk vm 'disk 0' clone", 3, "", "give --overlay PATH");
	asked[0] = 0;
	CTL("clone-disk --overlay over vm 'disk 0' clone", 0, "", NULL);
	expect_asked("disk clone {\"path\":\"%s/clone\"}\ndisk freeze {\"ms\":30000}\n"
		     "disk switch {\"path\":\"nbd+unix:///?socket=%s/over.nbd\"}\ndisk thaw {}\n", dir, dir);
	read_file("calls", calls, sizeof(calls));
	snprintf(expect, sizeof(expect), "img create -q -u -f qcow2 -F raw -b %s/disk.img %s/over 1048576\n"
					 "img create -q -u -f qcow2 -F raw -b %s/disk.img %s/clone 1048576\n"
					 "nbd --fork --socket %s/over.nbd --format qcow2 ", dir, dir, dir, dir, dir);
	ASSERT_MSG(!strncmp(calls, expect, strlen(expect)), "%s", calls);
	ASSERT(exists("clone") && exists("over") && !exists("over.pid"));
	/* It is the machine's now */
	ASSERT(server_runs());
	ASSERT_EQ(ctl("list; kill $(cat servers)"), 0);
	stop();
}

static void test_copy_fails(void)
{
	start_copy();
	/* The machine does not take it: all is as before */
	CTL("snapshot-disk vm 'disk 0' snap --overlay refused", 3, "", "vm: cannot be opened");
	expect_asked("disk snapshot {\"path\":\"%s/snap\"}\ndisk freeze {\"ms\":30000}\n"
		     "disk switch {\"path\":\"nbd+unix:///?socket=%s/refused.nbd\"}\ndisk thaw {}\n", dir, dir);
	ASSERT(!exists("snap") && !exists("refused"));
	ASSERT(!server_runs());
	/* Files that are there are not touched */
	write_script("there", "x");
	CTL("snapshot-disk vm 'disk 0' snap --overlay there", 1, "", "there' exists");
	ASSERT(exists("there") && !exists("snap"));
	CTL("snapshot-disk vm 'disk 0' there --overlay over", 1, "", "there' exists");
	ASSERT(exists("there") && !exists("over"));
	asked[0] = 0;
	/* Programs that fail, or are not there */
	write_script("qemu-nbd", "#!/bin/sh\nexit 1\n");
	CTL("snapshot-disk vm 'disk 0' snap --overlay over", 1, "", "qemu-nbd failed");
	expect_asked("disk snapshot {\"path\":\"%s/snap\"}\ndisk freeze {\"ms\":30000}\ndisk thaw {}\n", dir);
	ASSERT(!exists("snap") && !exists("over"));
	ASSERT_EQ(ctl("list; PATH=/nowhere %s snapshot-disk vm 'disk 0' snap --overlay over", program), 1);
	ASSERT_MSG(strstr(err, "qemu-img is not installed"), "%s", err);
	ASSERT(!exists("snap") && !exists("over"));
	/* An overlay of the wrong size would cut the disk */
	disk_grows = 4096;
	asked[0] = 0;
	CTL("snapshot-disk vm 'disk 0' snap --overlay over", 3, "", "disk 0 was resized meanwhile");
	expect_asked("disk snapshot {\"path\":\"%s/snap\"}\ndisk freeze {\"ms\":30000}\ndisk thaw {}\n", dir);
	ASSERT(!exists("snap") && !exists("over"));
	stop();
}

/* A machine with its disk: it stands still from before the copy until the machine's moment is over */
static void test_snapshot_shared(void)
{
	char text[16];

	start_copy();
	takes_orders = true;
	share_blocks = true;
	CTL("snapshot vm machine --disks point", 0, "", NULL);
	expect_asked("disk freeze {\"ms\":30000}\ndisk clone {\"path\":\"%s/point/disk 0.img\"}\n"
		     "{\"do\":\"snapshot\",\"frozen\":{\"disk 0\":7}}\ndisk thaw {}\n", dir);
	read_file("machine", text, sizeof(text));
	ASSERT(!strcmp(text, "saved"));
	ASSERT(exists("point") && !exists("calls"));
	/* What fails leaves nothing, and no disk that stands still */
	CTL("snapshot vm machine --disks point", 1, "", "is there already");
	expect_asked("disk freeze {\"ms\":30000}\ndisk clone {\"path\":\"%s/point/disk 0.img\"}\ndisk thaw {}\n", dir);
	ASSERT(exists("machine"));
	move_fails = true;
	CTL("snapshot vm machine2 --disks point", 3, "", "vm: no moment");
	ASSERT(!exists("machine2") && strstr(asked, "disk thaw"));
	asked[0] = 0;
	share_blocks = false;
	CTL("snapshot vm machine2 --disks point", 3, "", "disk 0 cannot share its blocks: give --overlays DIR");
	expect_asked("disk freeze {\"ms\":30000}\ndisk clone {\"path\":\"%s/point/disk 0.img\"}\ndisk thaw {}\n", dir);
	CTL("snapshot vm machine2 --overlays x", 1, "", "usage: pvhvctl snapshot");
	CTL("snapshot vm machine2 --disks", 1, "", "usage: pvhvctl snapshot");
	stop();
}

static void test_snapshot_overlay(void)
{
	char calls[4096];

	start_copy();
	takes_orders = true;
	CTL("snapshot vm machine --disks point --overlays over", 0, "", NULL);
	expect_asked("disk freeze {\"ms\":30000}\n{\"do\":\"snapshot\",\"frozen\":{\"disk 0\":7}}\n"
		     "disk switch {\"path\":\"nbd+unix:///?socket=%s/over/disk 0.qcow2.nbd\"}\ndisk thaw {}\n", dir);
	read_file("calls", calls, sizeof(calls));
	ASSERT(exists("machine") && exists("point/disk 0.qcow2") && exists("over/disk 0.qcow2"));
	ASSERT(server_runs());
	ASSERT_EQ(ctl("list; kill $(cat servers); rm -r point over servers"), 0);
	/* The machine has no moment: it goes on as before */
	move_fails = true;
	CTL("snapshot vm machine2 --disks point --overlays over", 3, "", "vm: no moment");
	expect_asked("disk freeze {\"ms\":30000}\n{\"do\":\"snapshot\",\"frozen\":{\"disk 0\":7}}\ndisk thaw {}\n");
	ASSERT(!exists("machine2") && !exists("point/disk 0.qcow2") && !exists("over/disk 0.qcow2"));
	ASSERT(!server_runs());
	/* It has had it, and its disk does not go on: no half of a point stays */
	move_fails = false;
	ASSERT_EQ(ctl("list; rm servers"), 0);
	CTL("snapshot vm machine2 --disks point --overlays refused", 3, "", "vm: cannot be opened");
	ASSERT(!exists("machine2") && !exists("point/disk 0.qcow2") && !exists("refused/disk 0.qcow2"));
	ASSERT(!server_runs());
	stop();
}

/* Ctrl-C while it has other things to do than to wait */
static void test_interrupt(void)
{
	pid_t pid;

	start_copy();
	takes_orders = true;
	share_blocks = true;
	pid = ASSERT_OK(fork());
	if (!pid) {
		raise(SIGSTOP);
		if (!chdir(dir) && freopen("err", "w", stderr))
			execl(program, program, "snapshot", "vm", "machine", "--disks", "point", NULL);
		_exit(99);
	}
	ASSERT_EQ(waitpid(pid, NULL, WUNTRACED), pid);
	flood = pid;
	ASSERT_EQ(kill(pid, SIGCONT), 0);
	ASSERT_EQ(exit_status(pid), 3);
	read_file("err", err, sizeof(err));
	ASSERT_MSG(says("vm: cancelled"), "%s", err);
	expect_asked("disk freeze {\"ms\":30000}\ndisk clone {\"path\":\"%s/point/disk 0.img\"}\n"
		     "{\"do\":\"snapshot\",\"frozen\":{\"disk 0\":7}}\n{\"do\": \"cancel\"}\ndisk thaw {}\n", dir);
	ASSERT(!exists("machine") && !exists("point/disk 0.img"));
	flood = 0;
	stop();
}

static const struct tap_test tests[] = {
	TEST(find),
	TEST(usage),
	TEST(commands),
	TEST(devices),
	TEST(stop),
	TEST(events),
	TEST(nonsense),
	TEST(console_pipe),
	TEST(console_terminal),
	TEST(interrupt),
	TEST(snapshot_shared),
	TEST(snapshot_overlay),
	TEST(copy_shared),
	TEST(copy_overlay),
	TEST(copy_fails),
};

int main(int argc, char **argv)
{
	const char *given = getenv("PVHVCTL");
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 32);

	if (given)
		snprintf(program, sizeof(program), "%s", given);
	else if (n > 0)
		strcpy(strrchr(program, '/'), "/../vmm/pvhvctl");
	if (access(program, X_OK)) {
		printf("1..0 # SKIP no %s\n", program);
		return KSFT_SKIP;
	}
	signal(SIGPIPE, SIG_IGN);
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
