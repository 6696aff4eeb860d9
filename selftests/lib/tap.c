// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: run the tests of a program, each in a child with a time limit; print TAP 13; make the exit status.
 */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"

#define TAP_TIMEOUT_S	120	/* an emulated host under load is slow: this only catches hangs */

static char *no_args[] = { NULL };
char **tap_args = no_args;

/* The skip reason travels from the child to the parent here */
static char *skip_reason;
#define SKIP_REASON_MAX	200

static void vdiag(const char *fmt, va_list ap)
{
	char buf[1024], *line, *save;

	/* One write a line: threads and processes share the stream */
	vsnprintf(buf, sizeof(buf), fmt, ap);
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		dprintf(STDOUT_FILENO, "# %s\n", line);
}

void tap_diag(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vdiag(fmt, ap);
	va_end(ap);
}

void tap_fail(const char *file, int line, const char *fmt, ...)
{
	char buf[900];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf, sizeof(buf), fmt, ap);
	va_end(ap);
	tap_diag("%s:%d: %s", file, line, buf);
	_exit(KSFT_FAIL);
}

void tap_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(skip_reason, SKIP_REASON_MAX, fmt, ap);
	va_end(ap);
	_exit(KSFT_SKIP);
}

static unsigned int test_timeout(const struct tap_test *test)
{
	const char *env = getenv("PVHV_TEST_TIMEOUT");

	if (env)
		return atoi(env);
	return test->timeout_s ? test->timeout_s : TAP_TIMEOUT_S;
}

/* Where a thread that hangs is: what it waits in, user and kernel. */
static void diag_thread(const char *task, const char *tid)
{
	static const char * const what[] = { "comm", "syscall", "stack" };
	char path[PATH_MAX], buf[900];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(what); i++) {
		ssize_t n = -1;
		int fd;

		snprintf(path, sizeof(path), "%s/%s/%s", task, tid, what[i]);
		fd = open(path, O_RDONLY);
		if (fd >= 0) {
			n = read(fd, buf, sizeof(buf) - 1);
			close(fd);
		}
		if (n > 0) {
			buf[n] = '\0';
			tap_diag("thread %s, %s: %s", tid, what[i], buf);
		}
	}
}

static void diag_threads(pid_t pid)
{
	struct dirent *entry;
	char task[32];
	DIR *dir;

	snprintf(task, sizeof(task), "/proc/%d/task", pid);
	dir = opendir(task);
	while (dir && (entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			diag_thread(task, entry->d_name);
	if (dir)
		closedir(dir);
}

/* Waits for the child; kills its process group at the time limit. Returns the wait status, or -1 on time-out. */
static int wait_child(pid_t pid, unsigned int timeout_s)
{
	struct timespec limit = { .tv_sec = timeout_s };
	int status;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		if (sigtimedwait(&set, NULL, &limit) < 0 && errno == EAGAIN)
			break;
	}
	diag_threads(pid);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	return -1;
}

static int run_test(const struct tap_test *test, unsigned int nr)
{
	pid_t pid;
	int status;

	skip_reason[0] = '\0';
	fflush(stdout);
	pid = fork();
	if (pid < 0) {
		printf("not ok %u %s # fork: %s\n", nr, test->name, strerror(errno));
		return KSFT_FAIL;
	}
	if (!pid) {
		sigset_t set;

		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sigemptyset(&set);
		sigaddset(&set, SIGCHLD);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
		test->fn();
		fflush(stdout);
		_exit(KSFT_PASS);
	}
	status = wait_child(pid, test_timeout(test));
	kill(-pid, SIGKILL);	/* whatever the test left behind */
	if (status == -1) {
		printf("not ok %u %s # timed out after %u s\n", nr, test->name, test_timeout(test));
		return KSFT_FAIL;
	}
	if (WIFSIGNALED(status)) {
		printf("not ok %u %s # killed by signal %d\n", nr, test->name, WTERMSIG(status));
		return KSFT_FAIL;
	}
	switch (WEXITSTATUS(status)) {
	case KSFT_PASS:
		printf("ok %u %s\n", nr, test->name);
		return KSFT_PASS;
	case KSFT_SKIP:
		printf("ok %u %s # SKIP %s\n", nr, test->name, skip_reason);
		return KSFT_SKIP;
	default:
		printf("not ok %u %s\n", nr, test->name);
		return KSFT_FAIL;
	}
}

static bool chosen(const struct tap_test *test, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, test->name))
			return true;
	return false;
}

int tap_main(int argc, char **argv, const struct tap_test *tests, unsigned int nr)
{
	unsigned int i, n = 0, pass = 0, fail = 0, skip = 0;
	sigset_t set;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (i = 1; i < (unsigned int)argc; i++) {
		if (!strcmp(argv[i], "-a")) {
			argv[i] = NULL;
			tap_args = argv + i + 1;
			break;
		}
	}
	if (argc > 1 && argv[1] && !strcmp(argv[1], "-l")) {
		for (i = 0; i < nr; i++)
			puts(tests[i].name);
		return KSFT_PASS;
	}
	skip_reason = mmap(NULL, SKIP_REASON_MAX, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (skip_reason == MAP_FAILED)
		return KSFT_FAIL;

	/* SIGCHLD is waited for, never delivered */
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);

	for (i = 0; i < nr; i++)
		n += chosen(&tests[i], argv + 1);
	printf("TAP version 13\n1..%u\n", n);
	n = 0;
	for (i = 0; i < nr; i++) {
		if (!chosen(&tests[i], argv + 1))
			continue;
		switch (run_test(&tests[i], ++n)) {
		case KSFT_PASS:
			pass++;
			break;
		case KSFT_SKIP:
			skip++;
			break;
		default:
			fail++;
		}
	}
	printf("# Totals: pass:%u fail:%u xfail:0 xpass:0 skip:%u error:0\n", pass, fail, skip);
	if (fail || !n)
		return KSFT_FAIL;
	return pass ? KSFT_PASS : KSFT_SKIP;
}
