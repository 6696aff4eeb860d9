// SPDX-License-Identifier: GPL-2.0
/*
 * diskload FILE rand|seq SIZE DEPTH COUNT: COUNT direct reads of SIZE bytes, DEPTH at a time by io_uring; prints the nanoseconds
 * that one took, which are instructions where time counts them: the mean, and the median of ten batches, which leaves out what else
 * a system does now and then. A tenth of the reads comes before that and is not counted.
 * FILE "cached:NAME" reads through the page cache.
 */
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE	(2ul << 20)
#define BATCHES		10

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

static struct io_uring ring;
static int fd;
static int sequential;
static uint64_t length, size, at;
static uint8_t *buffers;

static uint64_t next_position(void)
{
	uint64_t blocks = length / size, block = at++;

	if (!sequential)
		block = block * 2654435761u;
	return block % blocks * size;
}

static void submit(unsigned long slot)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);

	io_uring_prep_read(sqe, fd, buffers + slot * size, size, next_position());
	io_uring_sqe_set_data64(sqe, slot);
}

static double batch_ns[BATCHES];	/* of one read */
static unsigned int batches;

static void note_batch(unsigned long done, unsigned long count)
{
	static unsigned long done_before;
	static uint64_t before;
	uint64_t t;

	if (done && (batches == BATCHES || done < (batches + 1) * count / BATCHES))
		return;
	t = now();
	if (done)
		batch_ns[batches++] = (double)(t - before) / (done - done_before);
	else
		batches = 0;
	before = t;
	done_before = done;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(void)
{
	qsort(batch_ns, batches, sizeof(batch_ns[0]), compare);
	return (batch_ns[batches / 2] + batch_ns[(batches - 1) / 2]) / 2;
}

/* Until @count reads are done, with @depth in flight all the time. */
static int run(unsigned long count, unsigned int depth)
{
	unsigned long submitted = 0, done = 0;
	struct io_uring_cqe *cqe;
	unsigned int head, seen;

	note_batch(0, count);
	for (; submitted < depth && submitted < count; submitted++)
		submit(submitted);
	while (done < count) {
		if (io_uring_submit_and_wait(&ring, 1) < 0)
			return 1;
		seen = 0;
		io_uring_for_each_cqe(&ring, head, cqe) {
			seen++;
			if (cqe->res != (int)size) {
				fprintf(stderr, "diskload: a read returned %d\n", cqe->res);
				return 1;
			}
			if (submitted < count) {
				submit(io_uring_cqe_get_data64(cqe));
				submitted++;
			}
		}
		io_uring_cq_advance(&ring, seen);
		done += seen;
		note_batch(done, count);
	}
	return 0;
}

/* In huge pages, so that it does not hang on chance how scattered they are. */
static uint8_t *map_buffers(size_t len)
{
	uint8_t *base = mmap(NULL, len + 2 * HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (base == MAP_FAILED)
		return NULL;
	base += -(uintptr_t)base % HUGE_PAGE;
	len += -len % HUGE_PAGE;
	madvise(base, len, MADV_HUGEPAGE);
	memset(base, 0, len);
	return base;
}

int main(int argc, char **argv)
{
	unsigned long count, depth;
	int cached;
	uint64_t start;

	if (argc != 6) {
		fputs("usage: diskload FILE rand|seq SIZE DEPTH COUNT\n", stderr);
		return 2;
	}
	cached = !strncmp(argv[1], "cached:", 7);
	sequential = !strcmp(argv[2], "seq");
	size = strtoul(argv[3], NULL, 0);
	depth = strtoul(argv[4], NULL, 0);
	count = strtoul(argv[5], NULL, 0);
	fd = open(argv[1] + (cached ? 7 : 0), O_RDONLY | (cached ? 0 : O_DIRECT));
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	length = lseek(fd, 0, SEEK_END);
	buffers = map_buffers(size * depth);
	if (!buffers || io_uring_queue_init(depth, &ring, 0)) {
		fputs("diskload: no memory or no io_uring\n", stderr);
		return 1;
	}
	if (run(count / 10 + 1, depth))
		return 1;
	start = now();
	if (run(count, depth))
		return 1;
	printf("%llu %.0f\n", (unsigned long long)((now() - start) / count), median());
	return 0;
}
