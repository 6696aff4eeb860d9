// SPDX-License-Identifier: GPL-2.0
/*
 * codeload MIB [COMMAND [ARG]...]: takes so much memory in huge pages, runs a short piece of code in each 20 bytes of it, in no order,
 * and gives it back, as guests leave a host's memory behind; runs COMMAND; takes as much memory anew. Prints the milliseconds that
 * the kernel needed for the slowest 2 MiB, before and after that.
 */
#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE	(2ul << 20)
#define PIECE		20
#define NOP		0x90
#define RET		0xc3

struct memory {
	uint8_t *raw, *data;
	size_t size;
};

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* The slowest huge page, in milliseconds */
static uint64_t take(struct memory *m)
{
	uint64_t begin, took, most = 0;
	size_t at;

	m->raw = mmap(NULL, m->size + HUGE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m->raw == MAP_FAILED)
		err(1, "memory");
	m->data = (uint8_t *)(((uintptr_t)m->raw + HUGE_PAGE - 1) & -HUGE_PAGE);
	madvise(m->data, m->size, MADV_HUGEPAGE);
	for (at = 0; at < m->size; at += HUGE_PAGE) {
		begin = now();
		m->data[at] = 1;
		took = now() - begin;
		most = took > most ? took : most;
	}
	return most / 1000000;
}

static void run_code(const struct memory *m)
{
	uint32_t nr = m->size / PIECE, *order = malloc(nr * sizeof(*order)), i, other, swap;

	if (!order)
		err(1, "memory");
	memset(m->data, NOP, m->size);
	for (i = 0; i < nr; i++) {
		m->data[(size_t)i * PIECE + PIECE - 1] = RET;
		order[i] = i;
	}
	for (i = nr - 1; i; i--) {
		other = (((uint64_t)random() << 31) + random()) % (i + 1);
		swap = order[i];
		order[i] = order[other];
		order[other] = swap;
	}
	for (i = 0; i < nr; i++)
		((void (*)(void))(m->data + (size_t)order[i] * PIECE))();
	free(order);
}

static void command(char **argv)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		execvp(*argv, argv);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s fails", *argv);
}

int main(int argc, char **argv)
{
	struct memory m = { .size = argc > 1 ? strtoul(argv[1], NULL, 10) << 20 : 0 };
	uint64_t before, after;

	if (!m.size || m.size % HUGE_PAGE)
		errx(2, "usage: codeload MIB [COMMAND [ARG]...], MIB of 2 each");
	before = take(&m);
	run_code(&m);
	munmap(m.raw, m.size + HUGE_PAGE);
	if (argc > 2)
		command(argv + 2);
	after = take(&m);
	printf("before %llu after %llu\n", (unsigned long long)before, (unsigned long long)after);
	return 0;
}
