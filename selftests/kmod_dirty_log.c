// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the dirty log: exactly the pages the guest wrote are reported, each once, with plain get, with manual protect
 * and clear, with the log all set at first; over huge pages, several slots, several vCPUs that write while it is read.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "vm.h"

#define SLOT	3
#define GPA	0x40000000ul
#define PAGES	1100ul			/* no multiple of 64, more than two huge pages */
#define SIZE	(PAGES * PAGE_SIZE)
#define WORDS	((PAGES + 63) / 64)

static struct vm *vm;
static struct vcpu *vcpu;
static char *mem;
static uint64_t bitmap[WORDS], want[WORDS];

/* The guest writes one word to each page of a list */
static volatile uint32_t list[PAGES], nr_list;

static void guest_write_list(uint64_t value)
{
	for (uint32_t i = 0; i < nr_list; i++)
		*(volatile uint64_t *)(GPA + list[i] * PAGE_SIZE + 64) = value;
}

static void guest_read_all(uint64_t arg)
{
	for (uint64_t i = 0; i < PAGES; i++)
		*(volatile uint64_t *)(GPA + i * PAGE_SIZE);
}

static void set_log(bool on)
{
	ASSERT_OK(vm_set_slot(vm, SLOT, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, GPA, SIZE, mem));
}

static void enable_manual(uint64_t how)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args[0] = how };

	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
}

static void start(bool huge, uint64_t manual)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_read_all, 0);
	if (manual)
		enable_manual(manual);
	mem = mmap_aligned((SIZE + HUGE_SIZE) & ~(HUGE_SIZE - 1), HUGE_SIZE);
	madvise(mem, SIZE, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	memset(mem, 1, SIZE);
	vm_add_slot(vm, SLOT, 0, GPA, SIZE, mem);
}

static void get_log(void)
{
	struct kvm_dirty_log log = { .slot = SLOT, .dirty_bitmap = bitmap };

	memset(bitmap, 0xee, sizeof(bitmap));
	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
}

static int clear_log(uint64_t first, uint64_t pages, uint64_t *bits)
{
	struct kvm_clear_dirty_log clear = {
		.slot = SLOT, .first_page = first, .num_pages = pages, .dirty_bitmap = bits,
	};

	return ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear);
}

static bool bit(const uint64_t *map, uint64_t n)
{
	return map[n / 64] >> n % 64 & 1;
}

static void check_log(const char *when)
{
	for (uint64_t i = 0; i < WORDS * 64; i++)
		if (bit(bitmap, i) != bit(want, i))
			FAIL("%s: page %llu is %sreported", when, (unsigned long long)i, bit(bitmap, i) ? "" : "not ");
}

static void nothing_wanted(void)
{
	memset(want, 0, sizeof(want));
}

/* The guest writes a random choice of pages, one in n; adds them to what is wanted */
static void write_some(unsigned int n)
{
	nr_list = 0;
	for (uint32_t i = 0; i < PAGES; i++) {
		if (rand() % n)
			continue;
		list[nr_list++] = i;
		want[i / 64] |= 1ull << i % 64;
	}
	vcpu_restart(vcpu, guest_write_list, rand());
	vcpu_run_done(vcpu);
}

static void read_all(void)
{
	vcpu_restart(vcpu, guest_read_all, 0);
	vcpu_run_done(vcpu);
}

static void one_get(bool huge)
{
	start(huge, 0);
	/* what is mapped writable before must not stay so */
	write_some(1);
	set_log(true);
	nothing_wanted();
	get_log();
	check_log("before any write");
	read_all();
	get_log();
	check_log("after reading");
	for (int i = 0; i < 6; i++) {
		nothing_wanted();
		write_some(i < 3 ? 10 : 300);
		read_all();
		get_log();
		check_log("after writing");
		nothing_wanted();
		get_log();
		check_log("got twice");
	}
	/* twice between gets is once */
	write_some(20);
	write_some(20);
	get_log();
	check_log("two writes");
	/* off and on again forgets */
	write_some(5);
	set_log(false);
	write_some(5);
	set_log(true);
	nothing_wanted();
	get_log();
	check_log("off and on");
	/* first and last page */
	nr_list = 2;
	list[0] = 0;
	list[1] = PAGES - 1;
	want[0] |= 1;
	want[(PAGES - 1) / 64] |= 1ull << (PAGES - 1) % 64;
	vcpu_restart(vcpu, guest_write_list, 1);
	vcpu_run_done(vcpu);
	get_log();
	check_log("first and last");
	vm_destroy(vm);
}

static void test_get(void)
{
	one_get(false);
	one_get(true);
}

static void one_manual(bool huge)
{
	uint64_t bits[WORDS];

	start(huge, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	write_some(1);
	set_log(true);
	nothing_wanted();
	get_log();
	check_log("before any write");
	write_some(10);
	/* Get does not clear */
	for (int i = 0; i < 3; i++) {
		get_log();
		check_log("get");
	}
	/* Clear a part: first_page and num_pages limit it, bits select in it */
	memset(bits, 0xff, sizeof(bits));
	ASSERT_OK(clear_log(64, 128, bits));
	want[1] = want[2] = 0;
	get_log();
	check_log("cleared two words");
	memset(bits, 0, sizeof(bits));
	bits[0] = 0x5555555555555555;
	ASSERT_OK(clear_log(0, 64, bits));
	want[0] &= ~bits[0];
	get_log();
	check_log("cleared every other page");
	/* What was cleared is reported when written again; what was not stays */
	for (int i = 0; i < 4; i++) {
		write_some(50);
		get_log();
		check_log("written again");
		memcpy(bits, bitmap, sizeof(bits));
		ASSERT_OK(clear_log(0, PAGES, bits));
		nothing_wanted();
		get_log();
		check_log("all cleared");
	}
	vm_destroy(vm);
}

static void test_manual(void)
{
	ASSERT(sys_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE);
	one_manual(false);
	one_manual(true);
}

static void one_initially_set(bool huge)
{
	uint64_t bits[WORDS];

	start(huge, KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE | KVM_DIRTY_LOG_INITIALLY_SET);
	write_some(1);
	set_log(true);
	nothing_wanted();
	for (uint64_t i = 0; i < PAGES; i++)
		want[i / 64] |= 1ull << i % 64;
	get_log();
	check_log("at first");
	/* Clear half: from now on those are exact, the others stay dirty */
	memset(bits, 0xff, sizeof(bits));
	ASSERT_OK(clear_log(0, 512, bits));
	memset(want, 0, 512 / 8);
	get_log();
	check_log("half cleared");
	write_some(40);
	get_log();
	check_log("written");
	ASSERT_OK(clear_log(512, PAGES - 512, bits));
	memset(want + 8, 0, sizeof(want) - 64);
	write_some(40);
	get_log();
	check_log("second half cleared and written");
	vm_destroy(vm);
}

static void test_initially_set(void)
{
	if (!(sys_cap(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) & KVM_DIRTY_LOG_INITIALLY_SET))
		SKIP("not offered");
	one_initially_set(false);
	one_initially_set(true);
}

/* One slot logs, its neighbour does not; both log, each for itself */
static void test_slots(void)
{
	struct kvm_dirty_log log = { .slot = SLOT + 1, .dirty_bitmap = bitmap };
	char *other;

	start(false, 0);
	other = mmap_aligned(HUGE_SIZE, HUGE_SIZE);
	vm_add_slot(vm, SLOT + 1, KVM_MEM_LOG_DIRTY_PAGES, GPA + SIZE, 64 * PAGE_SIZE, other);
	set_log(true);
	nr_list = 3;
	list[0] = 5;
	list[1] = PAGES;		/* first and sixth of the other */
	list[2] = PAGES + 5;
	vcpu_restart(vcpu, guest_write_list, 1);
	vcpu_run_done(vcpu);
	memset(bitmap, 0, sizeof(bitmap));
	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
	ASSERT_EQ(bitmap[0], 0x21);
	nothing_wanted();
	want[0] = 0x20;
	get_log();
	check_log("first slot");
	set_log(false);
	vcpu_restart(vcpu, guest_write_list, 2);
	vcpu_run_done(vcpu);
	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
	ASSERT_EQ(bitmap[0], 0x21);
	log.slot = SLOT;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
}

/* The process's own writes are its own business; what the module writes for the guest counts */
static void guest_ins(uint64_t page)
{
	void *p = (void *)(GPA + page * PAGE_SIZE);

	__asm__ volatile("insb" : "+D"(p) : "d"(0x2f0) : "memory");
}

static bool any_io(struct vcpu *v)
{
	return v->run->exit_reason == KVM_EXIT_IO;
}

static void test_module_writes(void)
{
	start(false, 0);
	set_log(true);
	nothing_wanted();
	memset(mem, 5, SIZE);
	get_log();
	check_log("the process wrote");
	vcpu->on_exit = any_io;
	vcpu_restart(vcpu, guest_ins, 77);
	vcpu_start(vcpu);
	vcpu_join(vcpu);
	want[1] = 1ull << (77 - 64);
	get_log();
	check_log("a string input");
}

/* The guest's page tables are written by the CPU: accessed and dirty bits make their pages dirty */
static void guest_touch(uint64_t gva)
{
	*(volatile uint64_t *)gva = 1;
}

static void test_page_tables(void)
{
	const uint64_t gva = 0x600000000000;
	uint64_t *e;

	start(false, 0);
	/* tables in pages 10, 11, 12 of the slot; they map page 20 */
	memset(mem, 0, SIZE);
	e = vm_hva(vm, vm->cr3);
	e[gva >> 39 & 511] = (GPA + 10 * PAGE_SIZE) | PTE_P | PTE_W;
	*(uint64_t *)(mem + 10 * PAGE_SIZE) = (GPA + 11 * PAGE_SIZE) | PTE_P | PTE_W;
	*(uint64_t *)(mem + 11 * PAGE_SIZE) = (GPA + 12 * PAGE_SIZE) | PTE_P | PTE_W;
	*(uint64_t *)(mem + 12 * PAGE_SIZE) = (GPA + 20 * PAGE_SIZE) | PTE_P | PTE_W;
	set_log(true);
	vcpu_restart(vcpu, guest_touch, gva);
	vcpu_run_done(vcpu);
	ASSERT(*(uint64_t *)(mem + 12 * PAGE_SIZE) & PTE_D);
	nothing_wanted();
	want[0] = 1 << 10 | 1 << 11 | 1 << 12 | 1 << 20;
	get_log();
	check_log("a walk");
}

/*
 * Nothing is lost: vCPUs write numbers to their own pages and count them up; every page whose number grew between two
 * harvests must be in the second.
 */
#define WRITERS		3
#define OWN		64u
static volatile bool writers_end;
static volatile uint64_t writer_rounds[WRITERS];

static void guest_writer(uint64_t id)
{
	for (uint64_t n = 1; !writers_end; n++) {
		for (uint64_t i = 0; i < OWN; i++)
			if ((n + i) % 3 == 0)
				*(volatile uint64_t *)(GPA + (id * OWN + i) * PAGE_SIZE) = n;
		writer_rounds[id] = n;
	}
}

static void concurrent(bool huge, bool manual)
{
	static uint64_t before[WRITERS * OWN], after[WRITERS * OWN];
	static uint64_t seen_dirty[WRITERS * OWN];

	memset(seen_dirty, 0, sizeof(seen_dirty));
	start(huge, manual ? KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE : 0);
	writers_end = false;
	set_log(true);
	for (unsigned int w = 0; w < WRITERS; w++) {
		writer_rounds[w] = 0;
		if (w)
			vcpu_add(vm, w, guest_writer, w);
		else
			vcpu_restart(vcpu, guest_writer, 0);
	}
	for (unsigned int i = 0; i < WRITERS * OWN; i++)
		before[i] = *(uint64_t *)(mem + i * PAGE_SIZE);
	for (unsigned int w = 0; w < WRITERS; w++)
		vcpu_start(vm->vcpus[w]);
	for (int round = 0; round < 15; round++) {
		for (unsigned int w = 0; w < WRITERS; w++) {
			uint64_t r = writer_rounds[w];

			ASSERT(WAIT_FOR(writer_rounds[w] > r, 30000));
		}
		/*
		 * The numbers as they are now are in the log that is fetched after them (or were in one before); clearing
		 * happens before the next look at the numbers.
		 */
		for (unsigned int i = 0; i < WRITERS * OWN; i++)
			after[i] = *(volatile uint64_t *)(mem + i * PAGE_SIZE);
		get_log();
		for (unsigned int i = 0; i < WRITERS * OWN; i++) {
			if (bit(bitmap, i))
				seen_dirty[i] = 1;
			else if (after[i] != before[i] && !seen_dirty[i])
				FAIL("round %d: page %u changed unseen", round, i);
			/* A page reported may have been written after the look: then it counts for the next round too */
			seen_dirty[i] = bit(bitmap, i);
			before[i] = after[i];
		}
		if (manual)
			ASSERT_OK(clear_log(0, PAGES, bitmap));
	}
	writers_end = true;
	for (unsigned int w = 0; w < WRITERS; w++)
		vcpu_join(vm->vcpus[w]);
	/* At rest: what changed since the last look is in the last log */
	for (unsigned int i = 0; i < WRITERS * OWN; i++)
		after[i] = *(volatile uint64_t *)(mem + i * PAGE_SIZE);
	get_log();
	for (unsigned int i = 0; i < WRITERS * OWN; i++)
		if (after[i] != before[i] && !bit(bitmap, i) && !seen_dirty[i])
			FAIL("at the end: page %u changed unseen", i);
	for (uint64_t i = WRITERS * OWN; i < PAGES; i++)
		ASSERT(!bit(bitmap, i));
	vm_destroy(vm);
}

static void test_concurrent(void)
{
	concurrent(false, false);
	concurrent(true, true);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(get),
		TEST(manual),
		TEST(initially_set),
		TEST(slots),
		TEST(module_writes),
		TEST(page_tables),
		TEST(concurrent),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
