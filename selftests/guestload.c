// SPDX-License-Identifier: GPL-2.0
/*
 * Work in a guest that shows whether it was moved well: a ticker, a sum over memory, pages that are dirtied.
 *
 *   guestload TICK_MS SUM_MIB DIRTY_MIB DIRTY_MIB_PER_S
 *
 * Prints a line a second: "load N gap MAX_US total TOTAL_US sums N dirty MIB", where the gap is the largest time between two ticks
 * (which are to be TICK_MS apart) since the line before, by the clock that also runs while the guest is stopped, and the
 * total the largest of all; and "SUM DIFFERS" or "PAGE DIFFERS" if memory is not what was written.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIB		(1u << 20)
#define PAGE		4096u
#define SLICES		10		/* of a second, in which the dirtier works */
#define SUM_EVERY_US	200000

static atomic_ulong gap, sums, dirtied;

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static void *ticker(void *arg)
{
	const struct timespec tick = { .tv_nsec = (uintptr_t)arg * 1000000 };
	uint64_t last = now_ns(CLOCK_REALTIME), now, us;

	for (;;) {
		nanosleep(&tick, NULL);
		now = now_ns(CLOCK_REALTIME);
		us = (now - last) / 1000;
		if (us > gap)
			gap = us;
		last = now;
	}
	return arg;
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static uint64_t sum(const uint64_t *data, size_t words)
{
	uint64_t s = 0;
	size_t i;

	for (i = 0; i < words; i++)
		s = (s ^ data[i]) * 0x100000001b3ull;
	return s;
}

static void *summer(void *arg)
{
	size_t words = (uintptr_t)arg * (MIB / sizeof(uint64_t)), i;
	uint64_t *data = malloc(words * sizeof(uint64_t)), seed = now_ns(CLOCK_MONOTONIC) | 1, first;

	for (i = 0; data && i < words; i++)
		data[i] = next(&seed);
	first = data ? sum(data, words) : 0;
	while (data) {
		if (sum(data, words) != first) {
			puts("SUM DIFFERS");
			fflush(stdout);
		}
		sums++;
		usleep(SUM_EVERY_US);
	}
	return NULL;
}

static size_t dirty_pages, rate;

/* Each page holds how often it was written, at both ends */
static void *dirtier(void *arg)
{
	uint64_t *data = aligned_alloc(PAGE, dirty_pages * PAGE), *p, turn = 0;
	size_t i = 0, n, words = PAGE / sizeof(uint64_t);
	const struct timespec slice = { .tv_nsec = 1000000000L / SLICES };

	memset(data, 0, dirty_pages * PAGE);
	for (;;) {
		for (n = rate * (MIB / PAGE) / SLICES; n; n--) {
			p = data + i * words;
			if (p[0] != turn || p[words - 1] != turn) {
				puts("PAGE DIFFERS");
				fflush(stdout);
			}
			p[0] = turn + 1;
			p[words - 1] = turn + 1;
			dirtied++;
			if (++i == dirty_pages) {
				i = 0;
				turn++;
			}
		}
		nanosleep(&slice, NULL);
	}
	return arg;
}

static void start(void *(*run)(void *arg), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg)) {
		perror("guestload: a thread");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	unsigned long us, total = 0, n;

	if (argc != 5) {
		fputs("usage: guestload TICK_MS SUM_MIB DIRTY_MIB DIRTY_MIB_PER_S\n", stderr);
		return 1;
	}
	dirty_pages = strtoul(argv[3], NULL, 0) * (MIB / PAGE);
	rate = strtoul(argv[4], NULL, 0);
	start(summer, (void *)strtoul(argv[2], NULL, 0));
	if (dirty_pages && rate)
		start(dirtier, NULL);
	start(ticker, (void *)strtoul(argv[1], NULL, 0));
	for (n = 1;; n++) {
		sleep(1);
		us = atomic_exchange(&gap, 0);
		total = us > total ? us : total;
		printf("load %lu gap %lu total %lu sums %lu dirty %lu\n", n, us, total, (unsigned long)sums,
		       (unsigned long)dirtied * PAGE / MIB);
		fflush(stdout);
	}
}
