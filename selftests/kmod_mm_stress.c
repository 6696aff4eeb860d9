// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies that no write of a guest is lost or seen late while everything happens to its memory at once: vCPUs write
 * random pages and check what they wrote before, the process forks, collapses, compacts and gives away pages, switches the
 * dirty log on and off and copies the memory by it as a migration does, and adds, moves and deletes slots beside it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define GPA	0x40000000ul
#define ALIAS	0x60000000ul	/* the same memory, in slots that come and go */
#define SIZE	(6 * HUGE_SIZE)
#define PAGES	(SIZE / PAGE_SIZE)
#define WRITERS	3
#define SECONDS	8

static struct vm *vm;
static char *mem, *copy;
static uint64_t bitmap[PAGES / 64];
static volatile bool end, churn_end;
static volatile uint64_t rounds[WRITERS];
static uint64_t expected[WRITERS][PAGES];

static uint64_t xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Word id of every page is this vCPU's */
static void guest_writer(uint64_t id)
{
	uint64_t state = 0x9e3779b97f4a7c15ull * (id + 1), n = 0;

	while (!end) {
		uint64_t r = xorshift(&state), page = r % PAGES;
		volatile uint64_t *word = (volatile uint64_t *)(GPA + page * PAGE_SIZE) + id;

		GUEST_ASSERT_EQ(*word, expected[id][page]);
		if (r >> 62) {
			*word = r;
			expected[id][page] = r;
		}
		++n;
		rounds[id] = n;
	}
}

/* A read through an alias that is not there at the moment is MMIO: it reads as zeros */
static bool on_exit_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	if (run->exit_reason != KVM_EXIT_MMIO || run->mmio.is_write)
		return false;
	memset(run->mmio.data, 0, sizeof(run->mmio.data));
	return true;
}

static volatile uint64_t alias_reads;

static void guest_alias_reader(uint64_t id)
{
	uint64_t state = 77;

	while (!end) {
		(void)*(volatile uint64_t *)(ALIAS + xorshift(&state) % (SIZE + HUGE_SIZE) / 8 * 8);
		alias_reads++;
	}
}

static void compact_memory(void)
{
	int fd = open("/proc/sys/vm/compact_memory", O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, "1", 1) < 0)
		tap_diag("compact_memory: errno %d", errno);
	close(fd);
}

static void *churn_thread(void *arg)
{
	uint64_t state = 5;
	pid_t pid;

	while (!churn_end) {
		uint64_t r = xorshift(&state);
		char *at = mem + r / 8 % (SIZE / HUGE_SIZE) * HUGE_SIZE;
		char *page = mem + r / 64 % PAGES * PAGE_SIZE;

		/* None of these may change what the memory holds */
		switch (r % 8) {
		case 0:
			pid = fork();
			if (!pid) {
				usleep(r % 3000);
				_exit(0);
			}
			if (r & 256)
				waitpid(pid, NULL, 0);
			break;
		case 1:
		case 2:
			madvise(at, HUGE_SIZE, MADV_COLLAPSE);
			break;
		case 3:
			if (!(r >> 32 & 7))
				compact_memory();
			break;
		case 4:
			madvise(page, PAGE_SIZE * 3, MADV_PAGEOUT);
			break;
		case 5:
			madvise(page, PAGE_SIZE, MADV_COLD);
			break;
		case 6:	/* splits a huge page: a mapping of its own */
			madvise(page, PAGE_SIZE, MADV_DONTFORK);
			madvise(page, PAGE_SIZE, MADV_DOFORK);
			break;
		case 7:
			while (waitpid(-1, NULL, WNOHANG) > 0)
				;
			break;
		}
		usleep(r >> 8 & 0x3fff);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	return NULL;
}

static void *slots_thread(void *arg)
{
	uint64_t n;

	for (n = 0; !churn_end; n++) {
		vm_set_slot(vm, 7, n % 3 == 2 ? KVM_MEM_READONLY : 0, ALIAS, SIZE, mem);
		usleep(n % 4 * 500);
		vm_set_slot(vm, 7, n % 3 == 2 ? KVM_MEM_READONLY : 0, ALIAS + n % 2 * HUGE_SIZE, SIZE, mem);
		usleep(n % 3 * 500);
		vm_set_slot(vm, 7, 0, ALIAS, 0, mem);
	}
	return NULL;
}

/* One round of a migration: the log, then what it names */
static void harvest_and_copy(bool manual)
{
	struct kvm_dirty_log log = { .slot = 3, .dirty_bitmap = bitmap };
	struct kvm_clear_dirty_log clear = { .slot = 3, .num_pages = PAGES, .dirty_bitmap = bitmap };

	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
	if (manual)
		VM_IOCTL(vm, KVM_CLEAR_DIRTY_LOG, &clear);
	for (unsigned int i = 0; i < PAGES; i++)
		if (bitmap[i / 64] & BIT(i % 64))
			memcpy(copy + i * PAGE_SIZE, mem + i * PAGE_SIZE, PAGE_SIZE);
}

static void stress(bool shared, uint32_t manual)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args = { manual } };
	uint64_t stop = now_ns() + SECONDS * 1000000000ull;
	pthread_t churn, slots;
	struct vcpu *reader;

	vm = vm_create(0);
	mem = mmap_aligned(SIZE, HUGE_SIZE);
	if (shared) {
		int fd = memfd_create("stress", 0);

		ASSERT(fd >= 0);
		ASSERT_OK(ftruncate(fd, SIZE));
		ASSERT(mmap(mem, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == mem);
	} else {
		madvise(mem, SIZE, MADV_HUGEPAGE);
	}
	memset(mem, 0, SIZE);
	copy = mmap_aligned(SIZE, PAGE_SIZE);
	vm_add_slot(vm, 3, 0, GPA, SIZE, mem);
	if (manual)
		VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	for (unsigned int i = 0; i < WRITERS; i++)
		vcpu_start(vcpu_add(vm, i, guest_writer, i));
	reader = vcpu_add(vm, WRITERS, guest_alias_reader, 0);
	reader->on_exit = on_exit_mmio;
	vcpu_start(reader);
	ASSERT_EQ(pthread_create(&churn, NULL, churn_thread, NULL), 0);
	ASSERT_EQ(pthread_create(&slots, NULL, slots_thread, NULL), 0);

	while (now_ns() < stop) {
		ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem));
		memcpy(copy, mem, SIZE);
		for (int i = 0; i < 4; i++) {
			harvest_and_copy(manual);
			sleep_ms(20);
		}
		if (now_ns() < stop) {
			ASSERT_OK(vm_set_slot(vm, 3, 0, GPA, SIZE, mem));
			sleep_ms(50);
		}
	}
	/* The log may be off now: on again, while they write */
	ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, GPA, SIZE, mem));
	memcpy(copy, mem, SIZE);
	harvest_and_copy(manual);
	end = true;
	for (unsigned int i = 0; i <= WRITERS; i++)
		vcpu_join(vm->vcpus[i]);
	harvest_and_copy(manual);
	churn_end = true;
	pthread_join(churn, NULL);
	pthread_join(slots, NULL);
	for (unsigned int i = 0; i < PAGES; i++)
		if (memcmp(copy + i * PAGE_SIZE, mem + i * PAGE_SIZE, PAGE_SIZE))
			FAIL("page %u differs from its copy", i);
	for (unsigned int w = 0; w < WRITERS; w++) {
		for (unsigned int i = 0; i < PAGES; i++)
			ASSERT_EQ(((uint64_t *)(mem + i * PAGE_SIZE))[w], expected[w][i]);
	}
	tap_diag("rounds %lu %lu %lu, alias reads %lu", rounds[0], rounds[1], rounds[2], alias_reads);
	ASSERT(alias_reads);
	vm_destroy(vm);
}

static void test_anonymous(void)
{
	stress(false, 0);
}

static void test_anonymous_manual(void)
{
	stress(false, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
}

static void test_shared_initially_set(void)
{
	stress(true, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST_TIMEOUT(anonymous, 300),
		TEST_TIMEOUT(anonymous_manual, 300),
		TEST_TIMEOUT(shared_initially_set, 300),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
