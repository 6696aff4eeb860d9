// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies memory slots: add, move, delete, change of flags, read-only slots, every bad argument, many slots, slots above
 * 4 GiB, memory that is not there, changes under a running guest.
 */
#include <string.h>
#include <sys/mman.h>

#include "kvm_new.h"
#include "vm.h"

#define SLOT	5
#define GPA	0x40000000ul
#define SIZE	(4 * HUGE_SIZE)
#define HIGH_GPA	(BIT(32) + HUGE_SIZE)
#define HIGH_GVA	0x7f0000000000ul

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint64_t result;

static void guest_read(uint64_t addr)
{
	result = *(volatile uint64_t *)addr;
}

static void guest_write(uint64_t addr)
{
	*(volatile uint64_t *)addr = addr ^ 0x5555;
}

static void start(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_read, 0);
}

static void expect_read(uint64_t gva, uint64_t value)
{
	vcpu_restart(vcpu, guest_read, gva);
	vcpu_run_done(vcpu);
	ASSERT_EQ(result, value);
}

static void expect_write(uint64_t gva, uint64_t *hva)
{
	*hva = 0;
	vcpu_restart(vcpu, guest_write, gva);
	vcpu_run_done(vcpu);
	ASSERT_EQ(*hva, gva ^ 0x5555);
}

/* No memory there: the access is MMIO, at this guest-physical address */
static void expect_mmio(uint64_t gva, bool write, uint64_t gpa)
{
	vcpu_restart(vcpu, write ? guest_write : guest_read, gva);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, gpa);
	ASSERT_EQ(vcpu->run->mmio.is_write, write);
	ASSERT_EQ(vcpu->run->mmio.len, 8);
	vcpu_run_done(vcpu);
}

static void test_add_delete(void)
{
	uint64_t *mem;

	start();
	expect_mmio(GPA, false, GPA);
	expect_mmio(GPA, true, GPA);
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	mem[0] = 0x1122334455667788;
	mem[SIZE / 8 - 1] = 42;
	expect_read(GPA, 0x1122334455667788);
	expect_read(GPA + SIZE - 8, 42);
	expect_write(GPA + 0x3000, mem + 0x3000 / 8);
	expect_mmio(GPA + SIZE, false, GPA + SIZE);
	expect_mmio(GPA - 8, true, GPA - 8);
	vm_del_slot(vm, SLOT);
	expect_mmio(GPA, false, GPA);
	expect_mmio(GPA + 0x3000, true, GPA + 0x3000);
	/* The same memory again, under another number */
	vm_add_slot(vm, SLOT + 1, 0, GPA, SIZE, mem);
	expect_read(GPA + SIZE - 8, 42);
	vm_destroy(vm);
}

/* The longer form: the same slots; its flag for private memory is refused, the other form knows no such flag either */
static void test_region2(void)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = SLOT, .guest_phys_addr = GPA, .memory_size = SIZE,
	};
	uint64_t *mem = mmap_aligned(SIZE, HUGE_SIZE);

	REQUIRE_CAP(KVM_CAP_USER_MEMORY2);
	start();
	region.userspace_addr = (uintptr_t)mem;
	region.flags = KVM_MEM_GUEST_MEMFD;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, &region), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, SLOT, KVM_MEM_GUEST_MEMFD, GPA, SIZE, mem), EINVAL);
	expect_mmio(GPA, true, GPA);
	region.flags = 0;
	VM_IOCTL(vm, KVM_SET_USER_MEMORY_REGION2, &region);
	expect_write(GPA + 0x3000, mem + 0x3000 / 8);
	/* One form changes what the other made */
	ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA + SIZE, SIZE, mem));
	expect_write(GPA + SIZE, mem);
	region.memory_size = 0;
	VM_IOCTL(vm, KVM_SET_USER_MEMORY_REGION2, &region);
	expect_mmio(GPA + SIZE, true, GPA + SIZE);
	/* Less than the whole structure can be read */
	char *end = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_OK(mprotect(end + PAGE_SIZE, PAGE_SIZE, PROT_NONE));
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION2, end + PAGE_SIZE - sizeof(region) + 8), EFAULT);
}

/* Mapped ahead: all of a range, as much of it as there is memory, none of it; the rest comes back */
static void prefault(uint64_t gpa, uint64_t size, uint64_t left, int err)
{
	struct kvm_pre_fault_memory range = { .gpa = gpa, .size = size };
	int r = ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, &range);

	ASSERT_EQ(r ? errno : 0, err);
	ASSERT_EQ(range.size, left);
	ASSERT_EQ(range.gpa, gpa + size - left);
}

static void test_prefault(void)
{
	uint64_t *mem;

	REQUIRE_CAP(KVM_CAP_PRE_FAULT_MEMORY);
	start();
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	mem[SIZE / 8 - 1] = 77;
	prefault(GPA, SIZE, 0, 0);
	prefault(GPA, SIZE, 0, 0);
	prefault(GPA + 0x5000, PAGE_SIZE, 0, 0);
	prefault(GPA + SIZE - PAGE_SIZE, 3 * PAGE_SIZE, 2 * PAGE_SIZE, 0);
	prefault(GPA + SIZE, PAGE_SIZE, PAGE_SIZE, ENOENT);
	prefault(1ull << 51, PAGE_SIZE, PAGE_SIZE, ENOENT);
	/* What the guest reads then is what is there, also after the host has written or taken it away */
	expect_read(GPA + SIZE - 8, 77);
	mem[1] = 5;
	expect_read(GPA + 8, 5);
	ASSERT_OK(madvise(mem, SIZE, MADV_DONTNEED));
	expect_read(GPA + 8, 0);
	expect_write(GPA + 0x3000, mem + 0x3000 / 8);
	/* No range */
	prefault(GPA + 1, PAGE_SIZE, PAGE_SIZE, EINVAL);
	prefault(GPA, 1, 1, EINVAL);
	prefault(GPA, 0, 0, EINVAL);
	prefault(-PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, EINVAL);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_PRE_FAULT_MEMORY, NULL), EFAULT);
	/* Memory that the VMM itself may not touch */
	ASSERT_OK(mprotect(mem, SIZE, PROT_NONE));
	prefault(GPA, PAGE_SIZE, PAGE_SIZE, EFAULT);
}

static void test_move(void)
{
	uint64_t *mem;

	start();
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	mem[1] = 77;
	expect_read(GPA + 8, 77);
	ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA + HUGE_SIZE, SIZE, mem));
	expect_mmio(GPA + 8, false, GPA + 8);
	expect_read(GPA + HUGE_SIZE + 8, 77);
	expect_write(GPA + HUGE_SIZE + SIZE - 8, mem + SIZE / 8 - 1);
	/* By one page: huge mappings no longer fit */
	ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA + PAGE_SIZE, SIZE, mem));
	expect_read(GPA + PAGE_SIZE + 8, 77);
	expect_write(GPA + PAGE_SIZE + SIZE - 8, mem + SIZE / 8 - 1);
	expect_mmio(GPA + 8, false, GPA + 8);
}

/* Two slots show the same memory */
static void test_alias(void)
{
	uint64_t *mem;

	start();
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	vm_add_slot(vm, SLOT + 1, 0, GPA + 2 * SIZE, SIZE, mem);
	expect_write(GPA + 0x1000, mem + 0x1000 / 8);
	expect_read(GPA + 2 * SIZE + 0x1000, (GPA + 0x1000) ^ 0x5555);
	expect_write(GPA + 2 * SIZE + 0x1000, mem + 0x1000 / 8);
}

static void test_readonly(void)
{
	uint64_t *mem;

	start();
	mem = vm_add_mem(vm, SLOT, KVM_MEM_READONLY, GPA, SIZE);
	mem[2] = 99;
	expect_read(GPA + 16, 99);
	vcpu_restart(vcpu, guest_write, GPA + 16);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, GPA + 16);
	ASSERT_EQ(vcpu->run->mmio.is_write, 1);
	ASSERT_EQ(*(uint64_t *)vcpu->run->mmio.data, (GPA + 16) ^ 0x5555);
	vcpu_run_done(vcpu);
	ASSERT_EQ(mem[2], 99);
	/* the host's writes show */
	mem[2] = 100;
	expect_read(GPA + 16, 100);

	/* code runs there: mov %rdi, %rax; inc %rax; mov %rax, (%rsi); ret */
	static const uint8_t code[] = { 0x48, 0x89, 0xf8, 0x48, 0xff, 0xc0, 0x48, 0x89, 0x06, 0xc3 };
	struct kvm_regs regs;

	memcpy(mem + 512, code, sizeof(code));
	vcpu_restart(vcpu, (void (*)(uint64_t))(GPA + 4096), 6);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rsi = (uintptr_t)&result;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	vcpu_run_done(vcpu);
	ASSERT_EQ(result, 7);

	/* Read-only cannot be switched on a slot that exists */
	ASSERT_ERR(vm_set_slot(vm, SLOT, 0, GPA, SIZE, mem), EINVAL);
	vm_del_slot(vm, SLOT);
	vm_add_slot(vm, SLOT, 0, GPA, SIZE, mem);
	expect_write(GPA + 16, mem + 2);
	ASSERT_ERR(vm_set_slot(vm, SLOT, KVM_MEM_READONLY, GPA, SIZE, mem), EINVAL);
}

/* Memory the process itself may only read backs a read-only slot */
static void test_readonly_mapping(void)
{
	uint64_t *mem;

	start();
	mem = vm_add_mem(vm, SLOT, KVM_MEM_READONLY, GPA, SIZE);
	mem[2] = 99;
	ASSERT_OK(mprotect(mem, SIZE, PROT_READ));
	expect_read(GPA + 16, 99);
	expect_read(GPA + HUGE_SIZE, 0);
	expect_mmio(GPA + 16, true, GPA + 16);
}

static void test_bad_arguments(void)
{
	unsigned int max;
	char *mem;

	start();
	max = vm_cap(vm, KVM_CAP_NR_MEMSLOTS);
	ASSERT_GE(max, 32);
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);

	ASSERT_ERR(ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, NULL), EFAULT);
	/* misaligned */
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2 + 1, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, PAGE_SIZE + 1, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, PAGE_SIZE, mem + 1), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2 + 0x800, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, 0x800, mem), EINVAL);
	/* around the end of the address space */
	ASSERT_ERR(vm_set_slot(vm, 6, 0, 0xfffffffffffff000, 2 * PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, 0x8000000000000000, 0x8000000000001000, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, BIT(60), mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, BIT(44), mem), EINVAL);
	/* not this process's to give */
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, PAGE_SIZE, (void *)0xffff888000000000), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, PAGE_SIZE, (void *)0x8000000000000000), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA * 2, HUGE_SIZE, (void *)0xfffffffffffff000), EINVAL);
	/* numbers and flags */
	ASSERT_ERR(vm_set_slot(vm, max, 0, GPA * 2, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 0xffff, 0, GPA * 2, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 0xffffffff, 0, GPA * 2, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 1u << 31, GPA * 2, PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, 6, 1u << 16, GPA * 2, PAGE_SIZE, mem), EINVAL);
	/* overlap */
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA, PAGE_SIZE, mem), EEXIST);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA + SIZE - PAGE_SIZE, HUGE_SIZE, mem), EEXIST);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA - PAGE_SIZE, 2 * PAGE_SIZE, mem), EEXIST);
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA - HUGE_SIZE, SIZE + 2 * HUGE_SIZE, mem), EEXIST);
	/* moving onto another */
	ASSERT_ERR(vm_set_slot(vm, SLOT, 0, LOW_MEM_SIZE - PAGE_SIZE, SIZE, mem), EEXIST);
	/* size and address of what exists are fixed */
	ASSERT_ERR(vm_set_slot(vm, SLOT, 0, GPA, SIZE - PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, SLOT, 0, GPA, SIZE + PAGE_SIZE, mem), EINVAL);
	ASSERT_ERR(vm_set_slot(vm, SLOT, 0, GPA, SIZE, mem + PAGE_SIZE), EINVAL);
	/* nothing to delete */
	ASSERT_ERR(vm_set_slot(vm, 6, 0, GPA, 0, mem), EINVAL);

	/* After all that the slot is as it was; setting it again to the same is no error */
	*(uint64_t *)mem = 4711;
	expect_read(GPA, 4711);
	ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA, SIZE, mem));
	expect_read(GPA, 4711);
	expect_mmio(GPA + SIZE, false, GPA + SIZE);
}

/* As many as a large VMM would use, touching each other and in no order */
static void test_many(void)
{
	enum { N = 300 };
	uint64_t *mem;

	start();
	mem = mmap_aligned(N * PAGE_SIZE, PAGE_SIZE);
	for (unsigned int i = 0; i < N; i++) {
		unsigned int at = i * 77 % N;	/* 77 and 300 share no factor */

		mem[at * 512] = at + 1000;
		ASSERT_OK(vm_set_slot(vm, 10 + i, 0, GPA + at * PAGE_SIZE, PAGE_SIZE, mem + at * 512));
	}
	for (unsigned int at = 0; at < N; at += 7)
		expect_read(GPA + at * PAGE_SIZE, at + 1000);
	for (unsigned int i = 0; i < N; i += 2)
		ASSERT_OK(vm_set_slot(vm, 10 + i, 0, 0, 0, NULL));
	for (unsigned int i = 0; i < N; i += 13) {
		unsigned int at = i * 77 % N;

		if (i & 1)
			expect_read(GPA + at * PAGE_SIZE, at + 1000);
		else
			expect_mmio(GPA + at * PAGE_SIZE, false, GPA + at * PAGE_SIZE);
	}
	/* the largest number there is */
	ASSERT_OK(vm_set_slot(vm, vm_cap(vm, KVM_CAP_NR_MEMSLOTS) - 1, 0, GPA + HUGE_SIZE * 2, PAGE_SIZE, mem));
	expect_read(GPA + HUGE_SIZE * 2, 1000);
	vm_destroy(vm);
}

static void test_high(void)
{
	uint64_t *mem;

	start();
	vm_map(vm, HIGH_GVA, HIGH_GPA, PTE_P | PTE_W);
	vm_map(vm, HIGH_GVA + PAGE_SIZE, HIGH_GPA + SIZE, PTE_P | PTE_W);
	mem = vm_add_mem(vm, SLOT, 0, HIGH_GPA, SIZE);
	mem[0] = 321;
	expect_read(HIGH_GVA, 321);
	expect_write(HIGH_GVA + 8, mem + 1);
	expect_mmio(HIGH_GVA + PAGE_SIZE, false, HIGH_GPA + SIZE);
}

/* The last page that the guest's physical addresses reach */
static void test_highest(void)
{
	struct kvm_cpuid_entry2 *leaf;
	uint64_t gpa, *mem;
	unsigned int bits;

	start();
	leaf = cpuid_find(vm->cpuid, 0x80000008, 0);
	ASSERT(leaf);
	bits = leaf->eax & 0xff;
	/* a second-level table of four levels reaches 48 bits, whatever the CPU says */
	if (bits > 48)
		bits = 48;
	gpa = BIT(bits) - HUGE_SIZE;
	vm_map(vm, HIGH_GVA, gpa, PTE_P | PTE_W);
	vm_map(vm, HIGH_GVA + PAGE_SIZE, gpa + HUGE_SIZE - PAGE_SIZE, PTE_P | PTE_W);
	expect_mmio(HIGH_GVA, true, gpa);
	mem = vm_add_mem(vm, SLOT, 0, gpa, HUGE_SIZE);
	expect_write(HIGH_GVA, mem);
	expect_write(HIGH_GVA + PAGE_SIZE + 8, mem + (HUGE_SIZE - PAGE_SIZE) / 8 + 1);
	vm_del_slot(vm, SLOT);
	expect_mmio(HIGH_GVA, false, gpa);
}

/* A slot over addresses where nothing is mapped: accepted, and an error of KVM_RUN when the guest goes there */
static void test_no_memory(void)
{
	char *mem;

	start();
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	ASSERT_OK(munmap(mem + HUGE_SIZE, HUGE_SIZE));
	expect_write(GPA, (uint64_t *)mem);
	vcpu_restart(vcpu, guest_write, GPA + HUGE_SIZE);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	vcpu_restart(vcpu, guest_read, GPA + HUGE_SIZE);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	/* and the guest goes on when there is memory */
	ASSERT(mmap(mem + HUGE_SIZE, HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
	       mem + HUGE_SIZE);
	vcpu_run_done(vcpu);
	ASSERT_EQ(result, 0);
	/* memory only for reading */
	ASSERT_OK(mprotect(mem + HUGE_SIZE, HUGE_SIZE, PROT_READ));
	expect_read(GPA + HUGE_SIZE, 0);
	vcpu_restart(vcpu, guest_write, GPA + HUGE_SIZE);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
}

static volatile bool guest_ends;
static volatile uint64_t writes, mmio_exits;

static void guest_writer(uint64_t addr)
{
	for (uint64_t i = 0; !guest_ends; i++) {
		*(volatile uint64_t *)(addr + i % 64 * PAGE_SIZE) = i;
		writes++;
	}
}

static bool count_mmio(struct vcpu *v)
{
	mmio_exits++;
	return v->run->exit_reason == KVM_EXIT_MMIO;
}

static void test_change_while_running(void)
{
	uint64_t *mem, seen;

	start();
	mem = vm_add_mem(vm, SLOT, 0, GPA, SIZE);
	vcpu->on_exit = count_mmio;
	vcpu_restart(vcpu, guest_writer, GPA);
	vcpu_start(vcpu);
	for (int i = 0; i < 30; i++) {
		ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA, 0, mem));
		/* No write of the guest reaches the memory now */
		memset(mem, 0, 64 * PAGE_SIZE);
		seen = mmio_exits;
		ASSERT(WAIT_FOR(mmio_exits > seen, 20000));
		for (unsigned int p = 0; p < 64; p++)
			ASSERT_EQ(mem[p * 512], 0);
		ASSERT_OK(vm_set_slot(vm, SLOT, 0, GPA, SIZE, mem));
		seen = writes;
		ASSERT(WAIT_FOR(writes > seen + 64 && mem[7 * 512], 20000));
	}
	guest_ends = true;
	vcpu_join(vcpu);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(add_delete),
		TEST(region2),
		TEST(prefault),
		TEST(move),
		TEST(alias),
		TEST(readonly),
		TEST(readonly_mapping),
		TEST(bad_arguments),
		TEST(many),
		TEST(high),
		TEST(highest),
		TEST(no_memory),
		TEST(change_while_running),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
