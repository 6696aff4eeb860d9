// SPDX-License-Identifier: GPL-2.0
/*
 * Process 1 of an emulated host, entered from ./init when everything is mounted and loaded.
 *
 * Jobs:
 * 1. runs the command of /host/argv with its standard streams carried over virtio-serial ports
 *    (a pseudo-terminal where the runner's caller sits at one, else three pipes), or, in Bochs, as frames
 *    through one I/O port, which carries nothing in the other direction;
 * 2. adopts and reaps orphans, and ends whatever the command leaves behind;
 * 3. reports to the runner through the "ctl" port: exit status, module unload, taint, kernel log;
 * 4. powers the machine off.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bochs/frames.h"

#define PORTS "/sys/class/virtio-ports"

/* In place of a file descriptor: frames on this channel. */
#define TO_FRAMES(channel) (0x10000 | (channel))

/* One direction of one stream: what was read from @from and is not yet written to @to. */
struct relay {
	int from;
	int to;
	size_t len;
	size_t done;
	char buf[32768];
};

static int ctl = -1;
static bool in_bochs;

static void report(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static ssize_t write_frame(int channel, const char *buf, size_t len)
{
	unsigned char head[] = { FRAME_BEGIN, channel, len & 0xff, len >> 8 };

	if (len > FRAME_MAX)
		return write_frame(channel, buf, FRAME_MAX);
	/* The compiler is not told that outsb() reads memory. */
	__asm__ volatile("" : : "r"(head) : "memory");
	outsb(FRAME_PORT, head, sizeof(head));
	outsb(FRAME_PORT, buf, len);
	return len;
}

/* To a file descriptor or TO_FRAMES(). */
static ssize_t put(int to, const char *buf, size_t len)
{
	if (to >= TO_FRAMES(0))
		return write_frame(to & 0xff, buf, len);
	return write(to, buf, len);
}

static void write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = put(fd, buf, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		buf += n;
		len -= n;
	}
}

static void report(const char *fmt, ...)
{
	char line[8192];
	va_list args;
	int n;

	va_start(args, fmt);
	n = vsnprintf(line, sizeof(line), fmt, args);
	va_end(args);
	write_all(ctl, line, n < (int)sizeof(line) ? n : (int)sizeof(line) - 1);
}

static void power_off(void)
{
	if (in_bochs)
		outsb(SHUTDOWN_PORT, SHUTDOWN_WORD, strlen(SHUTDOWN_WORD));
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static int open_frames(const char *name)
{
	if (!strcmp(name, "in"))
		return open("/dev/null", O_RDONLY | O_CLOEXEC);
	return TO_FRAMES(!strcmp(name, "out") ? FRAME_OUT : !strcmp(name, "err") ? FRAME_ERR : FRAME_CTL);
}

/* Opens the virtio-serial port that QEMU calls @name; -1 if there is none (yet). */
static int open_port(const char *name)
{
	char path[PATH_MAX], found[64];
	struct dirent *entry;
	int fd = -1;
	DIR *dir;

	if (in_bochs)
		return open_frames(name);
	dir = opendir(PORTS);
	if (!dir)
		return -1;
	while (fd < 0 && (entry = readdir(dir))) {
		FILE *file;

		snprintf(path, sizeof(path), PORTS "/%s/name", entry->d_name);
		file = fopen(path, "re");
		if (!file)
			continue;
		if (fgets(found, sizeof(found), file)) {
			found[strcspn(found, "\n")] = '\0';
			if (!strcmp(found, name)) {
				snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
				fd = open(path, O_RDWR | O_CLOEXEC);
			}
		}
		fclose(file);
	}
	closedir(dir);
	return fd;
}

/* Splits /host/argv, NUL-terminated strings as in /proc/PID/cmdline. */
static char **read_argv(void)
{
	static char text[1 << 20];
	static char *argv[4096];
	size_t len, at = 0;
	unsigned int n = 0;
	FILE *file;

	file = fopen("/host/argv", "re");
	if (!file)
		return NULL;
	len = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	while (at < len && n < 4095) {
		argv[n++] = text + at;
		at += strlen(text + at) + 1;
	}
	return n ? argv : NULL;
}

static int env_int(const char *name)
{
	const char *value = getenv(name);

	return value ? atoi(value) : 0;
}

/* Ends in the command, or in the shell's two statuses for a command that can't be run. */
static void __attribute__((noreturn)) run_child(char **argv, const int fds[3], bool tty)
{
	sigset_t none;
	int i;

	setsid();
	for (i = 0; i < 3; i++)
		if (dup2(fds[i], i) < 0)
			_exit(126);
	if (tty)
		ioctl(0, TIOCSCTTY, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (chdir(getenv("HOST_DIR") ?: "/") < 0)
		_exit(126);
	unsetenv("HOST_DIR");
	unsetenv("HOST_ROWS");
	unsetenv("HOST_COLS");
	unsetenv("HOST_TTY");
	unsetenv("HOST_UNLOAD");
	unsetenv("HOST_FRAMES");
	execvp(argv[0], argv);
	dprintf(2, "emulated host: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126);
}

/* Moves what can be moved without waiting for the reader. False at the end of the stream. */
static bool relay_step(struct relay *r)
{
	ssize_t n;

	if (r->done == r->len) {
		n = read(r->from, r->buf, sizeof(r->buf));
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (!n)
			return false;
		r->len = n;
		r->done = 0;
	}
	n = put(r->to, r->buf + r->done, r->len - r->done);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	r->done += n;
	return true;
}

static void relay_end(struct relay *r)
{
	close(r->from);
	r->from = -1;
}

/* An output stream at the end of the command: all that is in the pipe, but no waiting for more. */
static void relay_drain(struct relay *r)
{
	struct pollfd p = { .fd = r->from, .events = POLLIN };

	if (r->from < 0)
		return;
	while (r->done < r->len || (poll(&p, 1, 0) == 1 && (p.revents & POLLIN)))
		if (!relay_step(r))
			break;
}

/* Reaps everybody; true and *status once @child is among them. */
static bool reap(pid_t child, int *status)
{
	bool found = false;
	pid_t pid;
	int st;

	while ((pid = waitpid(-1, &st, WNOHANG)) > 0) {
		if (pid != child)
			continue;
		*status = WIFSIGNALED(st) ? 128 + WTERMSIG(st) : WEXITSTATUS(st);
		found = true;
	}
	return found;
}

/* Carries the streams until @child ends. in->to is nonblocking, so a command that does not read can't stop its output. */
static int carry(pid_t child, struct relay *in, struct relay *out, struct relay *err, int sigfd)
{
	struct signalfd_siginfo info;
	int status = 0;

	for (;;) {
		bool pending = in->done < in->len;
		struct pollfd p[5] = {
			{ .fd = sigfd, .events = POLLIN },
			{ .fd = out->from, .events = POLLIN },
			{ .fd = err->from, .events = POLLIN },
			{ .fd = pending ? -1 : in->from, .events = POLLIN },
			{ .fd = pending ? in->to : -1, .events = POLLOUT },
		};

		if (poll(p, 5, -1) < 0)
			continue;
		if (p[1].revents && !relay_step(out))
			relay_end(out);
		if (p[2].revents && !relay_step(err))
			relay_end(err);
		if ((p[3].revents || p[4].revents) && !relay_step(in)) {
			relay_end(in);
			in->len = in->done = 0;
			if (in->to != out->from) {
				close(in->to);
				in->to = -1;
			}
		}
		if (p[0].revents) {
			if (read(sigfd, &info, sizeof(info)) < 0)
				continue;
			if (reap(child, &status))
				return status;
		}
	}
}

static int run_pipes(char **argv, int sigfd)
{
	static struct relay in, out, err;
	int pin[2], pout[2], perr[2], status;
	pid_t child;

	in.from = open_port("in");
	out.to = open_port("out");
	err.to = open_port("err");
	if (in.from < 0 || out.to < 0 || err.to < 0 ||
	    pipe2(pin, O_CLOEXEC) || pipe2(pout, O_CLOEXEC) || pipe2(perr, O_CLOEXEC))
		return 126;
	fcntl(pin[1], F_SETFL, O_NONBLOCK);
	child = fork();
	if (!child)
		run_child(argv, (int[]){ pin[0], pout[1], perr[1] }, false);
	close(pin[0]);
	close(pout[1]);
	close(perr[1]);
	in.to = pin[1];
	out.from = pout[0];
	err.from = perr[0];
	status = carry(child, &in, &out, &err, sigfd);
	relay_drain(&out);
	relay_drain(&err);
	return status;
}

static int run_tty(char **argv, int sigfd)
{
	static struct relay in, out, err;
	struct winsize size = { .ws_row = env_int("HOST_ROWS"), .ws_col = env_int("HOST_COLS") };
	int master, slave, status;
	pid_t child;

	in.from = open_port("in");
	out.to = open_port("out");
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (in.from < 0 || out.to < 0 || master < 0 || grantpt(master) || unlockpt(master))
		return 126;
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return 126;
	if (size.ws_row && size.ws_col)
		ioctl(slave, TIOCSWINSZ, &size);
	child = fork();
	if (!child)
		run_child(argv, (int[]){ slave, slave, slave }, true);
	/* slave stays open here: a master without one reads as hung up, between the programs of a script too */
	in.to = out.from = master;
	err.from = -1;
	status = carry(child, &in, &out, &err, sigfd);
	relay_drain(&out);
	return status;
}

/* Nothing of the command's may hold the module or write to the log after this. */
static void end_leftovers(void)
{
	static const struct timespec tick = { .tv_nsec = 10000000 };
	int tries;

	kill(-1, SIGKILL);
	for (tries = 0; tries < 1000; tries++) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid < 0 && errno == ECHILD)
			return;
		if (!pid)
			nanosleep(&tick, NULL);
	}
	report("leftover a process of the command can't be killed\n");
}

static void report_unload(void)
{
	int status = system("/bin/rmmod pvhv >/host/rmmod.out 2>&1");
	char text[256] = "";
	FILE *file = fopen("/host/rmmod.out", "re");

	if (file) {
		if (fgets(text, sizeof(text), file))
			text[strcspn(text, "\n")] = '\0';
		fclose(file);
	}
	report("unload %d %s\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128, text);
}

static void report_log(void)
{
	static char record[8192], tainted[32];
	int fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	ssize_t n;

	n = fd < 0 ? 0 : read(fd, tainted, sizeof(tainted) - 1);
	report("tainted %d\n", n > 0 ? atoi(tainted) & ~env_int("HOST_TAINTED") : 0);
	fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	/* EPIPE: the ring overran us; the next read continues at the oldest record. */
	while ((n = read(fd, record, sizeof(record) - 1)) > 0 || (n < 0 && errno == EPIPE)) {
		unsigned long long usec = 0;
		unsigned int prio = 0;
		char *text;

		if (n < 0)
			continue;
		record[n] = '\0';
		text = strchr(record, ';');
		if (!text)
			continue;
		sscanf(record, "%u,%*u,%llu", &prio, &usec);
		text++;
		text[strcspn(text, "\n")] = '\0';
		report("log [%5llu.%06llu] %s\n", usec / 1000000, usec % 1000000, text);
	}
}

int main(int argc, char **argv)
{
	static const struct timespec tick = { .tv_nsec = 2000000 };
	int sigfd, status, tries;
	sigset_t mask;

	in_bochs = env_int("HOST_FRAMES");
	if (in_bochs && iopl(3)) {
		fprintf(stderr, "emulated host: no access to ports\n");
		in_bochs = false;
		power_off();
	}
	/* "ctl" is the last port of the bus: once it is there, the others are too, with their connection state. */
	for (tries = 0; ctl < 0 && tries < 5000; tries++) {
		ctl = open_port("ctl");
		if (ctl < 0)
			nanosleep(&tick, NULL);
	}
	if (ctl < 0) {
		fprintf(stderr, "emulated host: no virtio-serial port \"ctl\"\n");
		power_off();
	}
	if (argc == 3 && !strcmp(argv[1], "fail")) {
		report("fail %s\n", argv[2]);
		report_log();
		report("end\n");
		power_off();
	}

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigfd = signalfd(-1, &mask, SFD_CLOEXEC);
	argv = read_argv();
	if (sigfd < 0 || !argv) {
		report("fail no command\nend\n");
		power_off();
	}
	report("start\n");
	status = env_int("HOST_TTY") ? run_tty(argv, sigfd) : run_pipes(argv, sigfd);
	report("exit %d\n", status);
	end_leftovers();
	if (env_int("HOST_UNLOAD"))
		report_unload();
	report_log();
	report("end\n");
	power_off();
}
