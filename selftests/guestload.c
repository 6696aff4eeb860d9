// SPDX-License-Identifier: GPL-2.0
/*
 * Work in a guest that shows whether it was moved well: a ticker, a sum over memory, pages that are dirtied; with "more" also
 * processes that come and go, vector registers that hold something, and CPUs that wake each other and change their mappings; with
 * "disk=" records that are written one after the other, "record N" to block N, and read back.
 *
 *   guestload TICK_MS SUM_MIB DIRTY_MIB DIRTY_MIB_PER_S [first] [more] [disk=DEVICE]
 *
 * "first": the ticker goes before all other work, which may leave no time for that where a tick takes long.
 *
 * Prints a line a second: "load N gap MAX_US total TOTAL_US sums N dirty MIB forks N vectors N hops N records N", where the gap is the
 * largest time between two ticks (which are to be TICK_MS apart) since the line before, by the clock that also runs while the guest
 * is stopped, and the total the largest of all; and a line "... DIFFERS" if something is not as it has to be.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB		(1u << 20)
#define PAGE		4096u
#define SLICES		10		/* of a second, in which the dirtier works */
#define SUM_EVERY_US	200000
#define FORK_EVERY_US	50000
#define VECTOR_EVERY_US	20000
#define VECTOR_SPINS	300000
#define HOP_EVERY_US	20000
#define RECORD_EVERY_US	20000
#define RECORD_STANDS_S	15		/* then it is said what it waits for */

static atomic_ulong gap, sums, dirtied, forks, vectors, hops, records;

static void differs(const char *what)
{
	printf("%s DIFFERS\n", what);
	fflush(stdout);
}

static uint64_t now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static bool first;

/* What else the guest has to do is no gap. */
static void go_first(void)
{
	const struct sched_param param = { .sched_priority = 1 };

	if (sched_setscheduler(0, SCHED_FIFO, &param))
		perror("guestload: the ticker's priority");
}

static void *ticker(void *arg)
{
	const struct timespec tick = { .tv_nsec = (uintptr_t)arg * 1000000 };
	uint64_t last = now_ns(CLOCK_REALTIME), now, us;

	if (first)
		go_first();
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
		if (sum(data, words) != first)
			differs("SUM");
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
			if (p[0] != turn || p[words - 1] != turn)
				differs("PAGE");
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

static void *forker(void *arg)
{
	volatile unsigned int number = 0;
	int status;
	pid_t pid;

	for (;; usleep(FORK_EVERY_US)) {
		number++;
		pid = fork();
		if (!pid) {
			number = number * 3 + 1;	/* a page of its own */
			_exit(number & 0xff);
		}
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
		    WEXITSTATUS(status) != ((number * 3 + 1) & 0xff))
			differs("PROCESS");
		forks++;
	}
	return arg;
}

#define REGISTERS	16
#define LOAD(mov, reg, n)	mov " 32*" #n "(%1), %%" reg #n "\n\t"
#define STORE(mov, reg, n)	mov " %%" reg #n ", 32*" #n "(%2)\n\t"
#define EACH(what, mov, reg)	what(mov, reg, 0) what(mov, reg, 1) what(mov, reg, 2) what(mov, reg, 3) what(mov, reg, 4) \
	what(mov, reg, 5) what(mov, reg, 6) what(mov, reg, 7) what(mov, reg, 8) what(mov, reg, 9) what(mov, reg, 10) \
	what(mov, reg, 11) what(mov, reg, 12) what(mov, reg, 13) what(mov, reg, 14) what(mov, reg, 15)
#define HOLD(mov, reg, end)											\
	asm volatile("ldmxcsr %3\n\t" EACH(LOAD, mov, reg) "1: dec %0\n\t" "jnz 1b\n\t" EACH(STORE, mov, reg)	\
		     "stmxcsr %4\n\t" end									\
		     : "+r"(spins) : "r"(in), "r"(out), "m"(mode), "m"(after)					\
		     : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",	\
		       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

/* Holds @in in the vector registers for a while, and a rounding mode that nobody else has */
static uint32_t hold(const uint64_t *in, uint64_t *out)
{
	uint32_t usual, mode, after;
	unsigned long spins = VECTOR_SPINS;

	asm volatile("stmxcsr %0" : "=m"(usual));
	mode = usual | 0x6000;
	if (__builtin_cpu_supports("avx"))
		HOLD("vmovdqu", "ymm", "vzeroupper");
	else
		HOLD("movups", "xmm", "");
	asm volatile("ldmxcsr %0" : : "m"(usual));
	return after ^ mode;
}

static void *holder(void *arg)
{
	uint64_t in[REGISTERS * 4], out[REGISTERS * 4], seed = now_ns(CLOCK_MONOTONIC) | 1;
	unsigned int i;

	for (;; usleep(VECTOR_EVERY_US)) {
		/* What the registers are too small for stays as it is */
		for (i = 0; i < REGISTERS * 4; i++)
			in[i] = out[i] = next(&seed);
		if (hold(in, out) || memcmp(in, out, sizeof(in)))
			differs("VECTOR");
		vectors++;
	}
	return arg;
}

/* Two threads on different CPUs, if there are, hand a number to and fro; each takes write access from the page after it wrote */
static struct {
	int pipe[2][2];
	volatile uint64_t *page;
} ring;

static void *hopper(void *arg)
{
	unsigned int me = (uintptr_t)arg;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	cpu_set_t set;
	uint64_t number, n;

	CPU_ZERO(&set);
	CPU_SET(me ? cpus - 1 : 0, &set);
	sched_setaffinity(0, sizeof(set), &set);
	for (n = me;; n += 2) {
		if (read(ring.pipe[me][0], &number, sizeof(number)) != sizeof(number) || number != n || *ring.page != n)
			differs("HOP");
		number = n + 1;
		mprotect((void *)ring.page, PAGE, PROT_READ | PROT_WRITE);
		*ring.page = number;
		mprotect((void *)ring.page, PAGE, PROT_READ);
		if (write(ring.pipe[!me][1], &number, sizeof(number)) != sizeof(number))
			differs("HOP");
		hops++;
		if (!me)
			usleep(HOP_EVERY_US);
	}
	return arg;
}

static atomic_int recorder_id;

static void tell_wait(const char *what)
{
	char path[64], text[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/%s", recorder_id, what);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = 0;
	printf("the recorder stands: %s %s\n", what, text);
}

/* Once a second */
static void watch_recorder(void)
{
	static unsigned long last, since;

	since = records == last ? since + 1 : 0;
	last = records;
	if (since != RECORD_STANDS_S)
		return;
	tell_wait("wchan");
	tell_wait("syscall");
	tell_wait("stack");
}

/* One that is written, and then one of those before it, read into other memory */
static void *recorder(void *arg)
{
	char *out = aligned_alloc(PAGE, PAGE), *in = aligned_alloc(PAGE, PAGE), text[32];
	int fd = open(arg, O_RDWR | O_DIRECT | O_DSYNC);
	unsigned long n, old;

	recorder_id = gettid();
	memset(out, 0, PAGE);
	for (n = 0; fd >= 0; n++, usleep(RECORD_EVERY_US)) {
		snprintf(out, PAGE, "record %lu\n", n);
		if (pwrite(fd, out, PAGE, n * PAGE) != PAGE)
			break;
		old = n / 2;
		snprintf(text, sizeof(text), "record %lu\n", old);
		if (pread(fd, in, PAGE, old * PAGE) != PAGE || strcmp(in, text))
			break;
		records = n + 1;
	}
	perror("guestload: the disk");
	differs("DISK");
	return NULL;
}

static void start(void *(*run)(void *arg), void *arg)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, arg)) {
		perror("guestload: a thread");
		exit(1);
	}
}

static void more(void)
{
	static const uint64_t zero;

	ring.page = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (ring.page == MAP_FAILED || pipe(ring.pipe[0]) || pipe(ring.pipe[1]) ||
	    write(ring.pipe[0][1], &zero, sizeof(zero)) != sizeof(zero)) {
		perror("guestload");
		exit(1);
	}
	start(forker, NULL);
	start(holder, NULL);
	start(hopper, (void *)0);
	start(hopper, (void *)1);
}

/* Is it @word that comes next?  Then what follows it. */
static bool next_is(int argc, char **argv, int *i, const char *word)
{
	bool yes = *i < argc && !strcmp(argv[*i], word);

	*i += yes;
	return yes;
}

int main(int argc, char **argv)
{
	unsigned long us, total = 0, n;
	bool with_more;
	char *disk = NULL;
	int i = 5;

	first = next_is(argc, argv, &i, "first");
	with_more = next_is(argc, argv, &i, "more");
	if (i < argc && !strncmp(argv[i], "disk=", 5))
		disk = argv[i++] + 5;
	if (argc < 5 || i != argc) {
		fputs("usage: guestload TICK_MS SUM_MIB DIRTY_MIB DIRTY_MIB_PER_S [first] [more] [disk=DEVICE]\n", stderr);
		return 1;
	}
	dirty_pages = strtoul(argv[3], NULL, 0) * (MIB / PAGE);
	rate = strtoul(argv[4], NULL, 0);
	start(summer, (void *)strtoul(argv[2], NULL, 0));
	if (dirty_pages && rate)
		start(dirtier, NULL);
	if (with_more)
		more();
	if (disk)
		start(recorder, disk);
	start(ticker, (void *)strtoul(argv[1], NULL, 0));
	for (n = 1;; n++) {
		sleep(1);
		if (disk)
			watch_recorder();
		us = atomic_exchange(&gap, 0);
		total = us > total ? us : total;
		printf("load %lu gap %lu total %lu sums %lu dirty %lu forks %lu vectors %lu hops %lu records %lu\n", n, us, total,
		       (unsigned long)sums, (unsigned long)dirtied * PAGE / MIB, (unsigned long)forks, (unsigned long)vectors,
		       (unsigned long)hops, (unsigned long)records);
		fflush(stdout);
	}
}
