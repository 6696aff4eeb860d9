// SPDX-License-Identifier: GPL-2.0
/*
 * For how long a guest that moves is seen to stand, by who listens to it.
 *
 *   moveload guest TICK_US REGION_MIB MIB_PER_S	in the guest
 *	sends a byte to the first serial port every TICK_US, and once a second a line with the largest time between two of
 *	them by the guest's own CLOCK_REALTIME; rewrites MIB_PER_S of a region of REGION_MIB, each page as a whole and with
 *	something new.
 *   moveload watch FIFO OUT	in the host
 *	reads what the VMMs write to FIFO, copies to OUT what is no tick, and prints at SIGTERM for how many microseconds nothing
 *	came at most, since SIGUSR1 if there was one.
 *
 * The listener's is the measure: some VMMs stop the guest's clocks while it moves.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE		4096u
#define WORDS		(PAGE / sizeof(uint64_t))
#define PAGES_PER_MIB	256u
#define SLICES		100		/* of a second, in which the dirtier works */
#define SERIAL		0x3f8
#define LINE_STATUS	(SERIAL + 5)
#define ROOM		0x20
#define TICK		'.'

static uint64_t now_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000ull + ts.tv_nsec / 1000;
}

static size_t region, rate;		/* pages, pages a second */

static void *dirtier(void *arg)
{
	const struct timespec slice = { .tv_nsec = 1000000000L / SLICES };
	uint64_t *data = aligned_alloc(PAGE, region * PAGE), *p, word = 88172645463325252ull;
	size_t page = 0, n, i;

	memset(data, 1, region * PAGE);
	for (;;) {
		for (n = rate / SLICES; n; n--) {
			p = data + page * WORDS;
			for (i = 0; i < WORDS; i++) {
				word = word * 6364136223846793005ull + 1442695040888963407ull;
				p[i] = word;
			}
			page = (page + 1) % region;
		}
		nanosleep(&slice, NULL);
	}
	return arg;
}

/* By the kernel: QEMU's AMD-V forgets that a program of a guest was given ports (docs/emulated-hosts.md). */
static int ports;

static void put(char c)
{
	unsigned char status = 0;

	while (!(status & ROOM))
		if (pread(ports, &status, 1, LINE_STATUS) != 1)
			exit(1);
	if (pwrite(ports, &c, 1, SERIAL) != 1)
		exit(1);
}

static int guest(char **argv)
{
	unsigned long tick_us = strtoul(argv[0], NULL, 0), gap = 0;
	const struct timespec tick = { .tv_nsec = tick_us * 1000 };
	uint64_t last, now, told;
	char line[64], *c;
	pthread_t thread;

	region = strtoul(argv[1], NULL, 0) * PAGES_PER_MIB;
	rate = strtoul(argv[2], NULL, 0) * PAGES_PER_MIB;
	ports = open("/dev/port", O_RDWR);
	if (ports < 0 || (rate && pthread_create(&thread, NULL, dirtier, NULL))) {
		perror("moveload");
		return 1;
	}
	told = last = now_us(CLOCK_REALTIME);
	for (;;) {
		nanosleep(&tick, NULL);
		now = now_us(CLOCK_REALTIME);
		gap = now - last > gap ? now - last : gap;
		last = now;
		put(TICK);
		if (now - told < 1000000)
			continue;
		told = now;
		snprintf(line, sizeof(line), "\ngap %lu\n", gap);
		for (c = line; *c; c++)
			put(*c);
		gap = 0;
	}
}

static volatile sig_atomic_t told;

static void tell(int number)
{
	told = number;
}

static int watch(const char *fifo, const char *out)
{
	const struct sched_param param = { .sched_priority = 1 };
	const struct sigaction sa = { .sa_handler = tell };
	int in = open(fifo, O_RDWR), to = open(out, O_WRONLY | O_CREAT | O_APPEND, 0600);
	struct pollfd pfd = { .fd = in, .events = POLLIN };
	uint64_t last = 0, now, gap = 0;
	sigset_t both, none;
	char buf[4096];
	ssize_t n, i, j;

	if (in < 0 || to < 0 || sched_setscheduler(0, SCHED_FIFO, &param)) {
		perror("moveload");
		return 1;
	}
	sigemptyset(&none);
	sigemptyset(&both);
	sigaddset(&both, SIGTERM);
	sigaddset(&both, SIGUSR1);
	sigprocmask(SIG_BLOCK, &both, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGUSR1, &sa, NULL);
	for (;;) {
		n = ppoll(&pfd, 1, NULL, &none) > 0 ? read(in, buf, sizeof(buf)) : 0;
		now = now_us(CLOCK_MONOTONIC);
		if (told == SIGUSR1)
			gap = last = 0;
		if (n > 0 || told == SIGTERM) {
			if (last && now - last > gap)
				gap = now - last;
			last = now;
		}
		if (told == SIGTERM)
			break;
		told = 0;
		for (i = j = 0; i < n; i++)
			if (buf[i] != TICK)
				buf[j++] = buf[i];
		if (j && write(to, buf, j) != j)
			return 1;
	}
	printf("%lu\n", (unsigned long)gap);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 5 && !strcmp(argv[1], "guest"))
		return guest(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "watch"))
		return watch(argv[2], argv[3]);
	fputs("usage: moveload guest TICK_US REGION_MIB MIB_PER_S | watch FIFO OUT\n", stderr);
	return 2;
}
