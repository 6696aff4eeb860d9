// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies that the guest follows what the process does to the memory behind a slot: madvise, mprotect, fork and
 * copy-on-write, munmap and mremap, splits and collapses of huge pages, KSM; with the guest at rest and running.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define GPA	0x40000000ul
#define SIZE	(4 * HUGE_SIZE)
#define PAGES	(SIZE / PAGE_SIZE)

static struct vm *vm;
static struct vcpu *vcpu;
static char *mem;
static volatile uint64_t sum;

/* All of a range: the sum of the first words of its pages; or a word written to each */
static volatile struct {
	uint64_t start, pages, value;
} range;

static void guest_sum(uint64_t arg)
{
	uint64_t s = 0;

	for (uint64_t i = 0; i < range.pages; i++)
		s += *(volatile uint64_t *)(range.start + i * PAGE_SIZE);
	sum = s;
}

static void guest_fill(uint64_t arg)
{
	for (uint64_t i = 0; i < range.pages; i++)
		*(volatile uint64_t *)(range.start + i * PAGE_SIZE) = range.value;
}

static uint64_t guest_sum_of(uint64_t offset, uint64_t pages)
{
	range.start = GPA + offset;
	range.pages = pages;
	vcpu_restart(vcpu, guest_sum, 0);
	vcpu_run_done(vcpu);
	return sum;
}

static void fill(uint64_t offset, uint64_t pages, uint64_t value)
{
	range.start = GPA + offset;
	range.pages = pages;
	range.value = value;
	vcpu_restart(vcpu, guest_fill, 0);
	vcpu_run_done(vcpu);
}

static uint64_t word(uint64_t offset)
{
	return *(volatile uint64_t *)(mem + offset);
}

static void start_with(void *memory)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_sum, 0);
	mem = memory;
	vm_add_slot(vm, 3, 0, GPA, SIZE, mem);
}

static void start(bool huge)
{
	start_with(mmap_aligned(SIZE, HUGE_SIZE));
	madvise(mem, SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static void one_dontneed(bool huge)
{
	start(huge);
	fill(0, PAGES, 3);
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES);
	ASSERT_OK(madvise(mem, SIZE / 2, MADV_DONTNEED));
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES / 2);
	/* one small page out of the middle of a huge one */
	ASSERT_OK(madvise(mem + SIZE / 2 + 5 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED));
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES / 2 - 3);
	fill(0, PAGES, 4);
	for (unsigned int i = 0; i < PAGES; i++)
		ASSERT_EQ(word(i * PAGE_SIZE), 4);
	vm_destroy(vm);
}

static void test_dontneed(void)
{
	one_dontneed(false);
	one_dontneed(true);
}

static void test_mprotect(void)
{
	start(false);
	fill(0, 16, 7);
	ASSERT_OK(mprotect(mem, 16 * PAGE_SIZE, PROT_READ));
	ASSERT_EQ(guest_sum_of(0, 16), 7 * 16);
	/* The guest may no more write than the process */
	range.start = GPA;
	range.pages = 16;
	range.value = 8;
	vcpu_restart(vcpu, guest_fill, 0);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	ASSERT_EQ(word(0), 7);
	ASSERT_OK(mprotect(mem, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE));
	vcpu_run_done(vcpu);
	ASSERT_EQ(word(15 * PAGE_SIZE), 8);
	ASSERT_OK(mprotect(mem, 16 * PAGE_SIZE, PROT_NONE));
	vcpu_restart(vcpu, guest_sum, 0);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	ASSERT_OK(mprotect(mem, 16 * PAGE_SIZE, PROT_READ | PROT_WRITE));
	ASSERT_EQ(guest_sum_of(0, 16), 8 * 16);
}

/* After fork both processes share pages until one writes: the guest's writes stay on this side */
static void one_fork(bool huge)
{
	int to_child[2], to_parent[2], status;
	char c;
	pid_t pid;

	start(huge);
	fill(0, PAGES, 1);
	ASSERT_OK(pipe(to_child));
	ASSERT_OK(pipe(to_parent));
	pid = fork();
	if (!pid) {
		/* The child's view stays, and its writes do not reach the guest */
		ASSERT_EQ(read(to_child[0], &c, 1), 1);
		for (unsigned int i = 0; i < PAGES; i++)
			ASSERT_EQ(word(i * PAGE_SIZE), 1);
		memset(mem + SIZE / 2, 0x77, SIZE / 2);
		ASSERT_EQ(write(to_parent[1], "x", 1), 1);
		ASSERT_EQ(read(to_child[0], &c, 1), 1);
		_exit(0);
	}
	fill(0, PAGES / 2, 2);
	ASSERT_EQ(guest_sum_of(0, PAGES / 2), PAGES);
	ASSERT_EQ(write(to_child[1], "x", 1), 1);
	ASSERT_EQ(read(to_parent[0], &c, 1), 1);
	ASSERT_EQ(guest_sum_of(SIZE / 2, PAGES / 2), PAGES / 2);
	fill(SIZE / 2, PAGES / 2, 3);
	ASSERT_EQ(word(SIZE - PAGE_SIZE), 3);
	ASSERT_EQ(write(to_child[1], "x", 1), 1);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	vm_destroy(vm);
}

static void test_fork(void)
{
	one_fork(false);
	one_fork(true);
}

/* A page the guest only read is the zero page; the process's first write replaces it */
static void test_zero_page(void)
{
	start(false);
	ASSERT_EQ(guest_sum_of(0, PAGES), 0);
	for (unsigned int i = 0; i < PAGES; i += 3)
		*(volatile uint64_t *)(mem + i * PAGE_SIZE) = 5;
	ASSERT_EQ(guest_sum_of(0, PAGES), (PAGES + 2) / 3 * 5);
	fill(0, PAGES, 6);
	for (unsigned int i = 0; i < PAGES; i++)
		ASSERT_EQ(word(i * PAGE_SIZE), 6);
}

static void test_munmap_remap(void)
{
	char *other;

	start(false);
	fill(0, PAGES, 1);
	ASSERT_OK(munmap(mem, PAGE_SIZE));
	range.start = GPA;
	range.pages = 1;
	vcpu_restart(vcpu, guest_sum, 0);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	ASSERT_EQ(guest_sum_of(PAGE_SIZE, PAGES - 1), PAGES - 1);
	/* other memory in the same place */
	other = mmap(mem, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT(other == mem);
	ASSERT_EQ(guest_sum_of(0, PAGES), 0);
	fill(0, PAGES, 2);
	/* memory moved in from elsewhere */
	other = mmap_aligned(HUGE_SIZE, HUGE_SIZE);
	for (unsigned int i = 0; i < 512; i++)
		*(uint64_t *)(other + i * PAGE_SIZE) = 9;
	ASSERT(mremap(other, HUGE_SIZE, HUGE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, mem) == mem);
	ASSERT_EQ(guest_sum_of(0, 512), 9 * 512);
	ASSERT_EQ(guest_sum_of(HUGE_SIZE, 512), 2 * 512);
}

/* A shared file: writes of others show, a hole punched is zeroes again */
static void test_shared_memory(void)
{
	int fd = memfd_create("pvhv-test", 0);
	char *a, *b;

	ASSERT_OK(fd);
	ASSERT_OK(ftruncate(fd, SIZE));
	a = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	b = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT(a != MAP_FAILED && b != MAP_FAILED);
	start_with(a);
	fill(0, PAGES, 3);
	ASSERT_EQ(*(volatile uint64_t *)(b + SIZE - PAGE_SIZE), 3);
	*(volatile uint64_t *)b = 13;
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES + 10);
	ASSERT_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE / 2));
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES / 2);
	/* cut short: nothing is behind the end any more */
	ASSERT_OK(ftruncate(fd, SIZE / 2));
	range.start = GPA + SIZE / 2;
	range.pages = 1;
	vcpu_restart(vcpu, guest_sum, 0);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	ASSERT_OK(ftruncate(fd, SIZE));
	ASSERT_EQ(guest_sum_of(SIZE / 2, PAGES / 2), 0);
}

/* Huge pages come and go under the guest; it sees no difference */
static bool has_thp(void)
{
	char buf[64] = "";
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY);

	if (fd < 0 || read(fd, buf, sizeof(buf) - 1) <= 0)
		return false;
	close(fd);
	return !strstr(buf, "[never]");
}

static void test_thp(void)
{
	uint64_t expected;

	if (!has_thp())
		SKIP("no transparent huge pages");
	start(true);
	for (unsigned int i = 0; i < PAGES; i++)
		*(uint64_t *)(mem + i * PAGE_SIZE) = i;
	expected = (uint64_t)PAGES * (PAGES - 1) / 2;
	ASSERT_EQ(guest_sum_of(0, PAGES), expected);
	/* Split by protection of a part, by discarding a part */
	ASSERT_OK(mprotect(mem + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ));
	ASSERT_EQ(guest_sum_of(0, PAGES), expected);
	ASSERT_OK(mprotect(mem + 3 * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE));
	fill(3 * PAGE_SIZE, 1, 3);
	ASSERT_OK(madvise(mem + HUGE_SIZE, 17 * PAGE_SIZE, MADV_DONTNEED));
	for (unsigned int i = 512; i < 512 + 17; i++)
		expected -= i;
	ASSERT_EQ(guest_sum_of(0, PAGES), expected);
	/* Collapse small ones */
	ASSERT_OK(madvise(mem, SIZE, MADV_NOHUGEPAGE));
	ASSERT_OK(madvise(mem + 2 * HUGE_SIZE, HUGE_SIZE, MADV_DONTNEED));
	fill(2 * HUGE_SIZE, 512, 4);
	ASSERT_OK(madvise(mem, SIZE, MADV_HUGEPAGE));
	if (madvise(mem + 2 * HUGE_SIZE, HUGE_SIZE, MADV_COLLAPSE))
		tap_diag("MADV_COLLAPSE: %s", strerror(errno));
	ASSERT_EQ(guest_sum_of(2 * HUGE_SIZE, 512), 4 * 512);
	fill(2 * HUGE_SIZE, 512, 5);
	ASSERT_EQ(word(2 * HUGE_SIZE), 5);
	ASSERT_EQ(word(3 * HUGE_SIZE - PAGE_SIZE), 5);
}

static bool write_sys(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, value, strlen(value)) > 0;

	if (fd >= 0)
		close(fd);
	return ok;
}

static long read_sys(const char *path)
{
	char buf[32] = "";
	int fd = open(path, O_RDONLY);
	long v = -1;

	if (fd >= 0 && read(fd, buf, sizeof(buf) - 1) > 0)
		sscanf(buf, "%ld", &v);
	if (fd >= 0)
		close(fd);
	return v;
}

/* Equal pages become one; a write of the guest parts them again */
static void test_ksm(void)
{
	long shared;

	start(false);
	if (madvise(mem, 64 * PAGE_SIZE, MADV_MERGEABLE) || !write_sys("/sys/kernel/mm/ksm/run", "1"))
		SKIP("no KSM");
	write_sys("/sys/kernel/mm/ksm/sleep_millisecs", "1");
	write_sys("/sys/kernel/mm/ksm/pages_to_scan", "1000");
	fill(0, 64, 0x6b736d);
	shared = 0;
	WAIT_FOR((shared = read_sys("/sys/kernel/mm/ksm/pages_sharing")) >= 50, 30000);
	ASSERT_EQ(guest_sum_of(0, 64), 64 * 0x6b736dull);
	fill(0, 32, 1);
	ASSERT_EQ(guest_sum_of(0, 64), 32 + 32 * 0x6b736dull);
	for (unsigned int i = 0; i < 64; i++)
		ASSERT_EQ(word(i * PAGE_SIZE), i < 32 ? 1 : 0x6b736d);
	write_sys("/sys/kernel/mm/ksm/run", "2");
	if (shared < 50)
		SKIP("KSM merged only %ld pages in time", shared);
}

/* Memory of 2 MiB pages from the pool, mapped at once; and a hole punched into it */
static void test_hugetlb(void)
{
	int fd = memfd_create("pvhv-huge", MFD_HUGETLB);
	long had = read_sys("/proc/sys/vm/nr_hugepages");
	char *p;

	if (fd < 0 || had < 0)
		SKIP("no huge pages");
	write_sys("/proc/sys/vm/nr_hugepages", "6");
	ASSERT_OK(ftruncate(fd, SIZE));
	p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		SKIP("no huge pages to be had");
	start_with(p);
	fill(0, PAGES, 3);
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * PAGES);
	for (unsigned int i = 0; i < PAGES; i++)
		ASSERT_EQ(word(i * PAGE_SIZE), 3);
	ASSERT_OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, HUGE_SIZE, HUGE_SIZE));
	ASSERT_EQ(guest_sum_of(0, PAGES), 3 * (PAGES - 512));
	fill(HUGE_SIZE, 512, 4);
	ASSERT_EQ(word(2 * HUGE_SIZE - PAGE_SIZE), 4);
	vm_destroy(vm);
	munmap(p, SIZE);
	close(fd);
	write_sys("/proc/sys/vm/nr_hugepages", had ? "6" : "0");
}

/* The same with the guest running all the time */
static volatile bool guest_end;
static volatile uint64_t rounds, mismatches;

/* Owns the even pages: what it wrote it must read. Odd pages it only reads: they may be anything the host wrote. */
static void guest_churn(uint64_t arg)
{
	uint64_t n = 0;

	while (!guest_end) {
		n++;
		for (uint64_t i = 0; i < 64; i += 2)
			*(volatile uint64_t *)(GPA + i * PAGE_SIZE) = n;
		for (uint64_t i = 0; i < 64; i += 2)
			if (*(volatile uint64_t *)(GPA + i * PAGE_SIZE) != n)
				mismatches++;
		for (uint64_t i = 1; i < 64; i += 2)
			if (*(volatile uint64_t *)(GPA + i * PAGE_SIZE) > 2)
				mismatches++;
		rounds++;
	}
}

static void test_running(void)
{
	int status;

	start(true);
	vcpu_restart(vcpu, guest_churn, 0);
	vcpu_start(vcpu);
	for (int i = 0; i < 25; i++) {
		uint64_t seen = rounds;
		pid_t pid;

		for (uint64_t p = 1; p < 64; p += 2) {
			char *page = mem + p * PAGE_SIZE;

			*(volatile uint64_t *)page = 1 + (i & 1);
			madvise(page, PAGE_SIZE, MADV_DONTNEED);
			if (p % 8 == 1) {
				mprotect(page, PAGE_SIZE, PROT_READ);
				mprotect(page, PAGE_SIZE, PROT_READ | PROT_WRITE);
			}
		}
		madvise(mem, HUGE_SIZE, MADV_COLLAPSE);
		/* pages move */
		if (i % 8 == 0)
			write_sys("/proc/sys/vm/compact_memory", "1");
		if (i % 5 == 0) {
			pid = fork();
			if (!pid) {
				memset(mem, 0xff, 64 * PAGE_SIZE);
				_exit(0);
			}
			ASSERT_EQ(waitpid(pid, &status, 0), pid);
			ASSERT_EQ(status, 0);
		}
		ASSERT(WAIT_FOR(rounds > seen + 1, 30000));
	}
	guest_end = true;
	vcpu_join(vcpu);
	ASSERT_EQ(mismatches, 0);
	vm_destroy(vm);
}

/* Memory taken away from under a running guest ends its KVM_RUN with EFAULT and nothing worse */
static volatile int unmap_result;

static void *run_until_fault(void *arg)
{
	int ret;

	do {
		ret = vcpu_run_raw(vcpu);
	} while (ret == -EINTR);
	unmap_result = ret;
	return NULL;
}

static void test_unmap_running(void)
{
	pthread_t t;

	for (int i = 0; i < 3; i++) {
		start(i & 1);
		rounds = 0;
		guest_end = false;
		unmap_result = 1;
		vcpu_restart(vcpu, guest_churn, 0);
		pthread_create(&t, NULL, run_until_fault, NULL);
		ASSERT(WAIT_FOR(rounds > 3, 30000));
		ASSERT_OK(munmap(mem, SIZE));
		pthread_join(t, NULL);
		ASSERT_EQ(unmap_result, -EFAULT);
		vm_destroy(vm);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(dontneed),
		TEST(mprotect),
		TEST(fork),
		TEST(zero_page),
		TEST(munmap_remap),
		TEST(shared_memory),
		TEST(thp),
		TEST(ksm),
		TEST(hugetlb),
		TEST(running),
		TEST(unmap_running),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
