// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies doorbells: the hypercall signals the eventfd of its number and no other, in 64-bit kernels without touching other
 * registers; unknown numbers, arguments, taking off, growth, changes under a running guest.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <linux/kvm_para.h>
#include <linux/pvhv.h>
#include <linux/pvhv_para.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;
static volatile uint64_t seen[6], answered;
static volatile bool end;

static void guest_ring(uint64_t bell)
{
	uint64_t rax = PVHV_HC_KICK, rbx = bell, rcx = 0x1111, rdx = 0x2222, rsi = 0x3333;
	uint64_t before, after;

	__asm__ volatile("lea 1f(%%rip), %0\n\t"
			 ".byte 0x0f, 0x01\n\t"
			 ".byte 0xd9\n"
			 "1:\tlea (%%rip), %1"
			 : "=&r"(before), "=&r"(after), "+a"(rax), "+b"(rbx), "+c"(rcx), "+d"(rdx), "+S"(rsi)
			 : : "memory");
	seen[0] = rax;
	seen[1] = rbx;
	seen[2] = rcx;
	seen[3] = rdx;
	seen[4] = rsi;
	seen[5] = after - before;
}

/* Counts those that were taken */
static void guest_rings_on(uint64_t arg)
{
	while (!end)
		if (!hypercall4(PVHV_HC_KICK, 7, 0, 0, 0))
			answered++;
}

static int set(uint32_t id, int fd, uint32_t flags)
{
	struct pvhv_doorbell bell = { .id = id, .fd = fd, .flags = flags };

	return ioctl(vm->fd, PVHV_SET_DOORBELL, &bell) ? errno : 0;
}

static uint64_t count(int fd)
{
	uint64_t n;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static int64_t ring(uint64_t bell)
{
	struct ucall uc;

	vcpu_restart(vcpu, guest_ring, bell);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_DONE);
	return seen[0];
}

static void start(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_ring, 0);
}

static int event(void)
{
	return eventfd(0, EFD_NONBLOCK);
}

static void test_offered(void)
{
	start();
	ASSERT_EQ(VM_IOCTL(vm, KVM_CHECK_EXTENSION, PVHV_CAP_DOORBELL), PVHV_DOORBELLS_MAX);
	ASSERT_EQ(SYS_IOCTL(KVM_CHECK_EXTENSION, PVHV_CAP_DOORBELL), PVHV_DOORBELLS_MAX);
}

static void test_rings(void)
{
	int a = event(), b = event();

	start();
	ASSERT_EQ(set(3, a, 0), 0);
	ASSERT_EQ(set(4, b, 0), 0);
	ASSERT_EQ(ring(3), 0);
	ASSERT_EQ(seen[1], 3);
	ASSERT_EQ(seen[2], 0x1111);
	ASSERT_EQ(seen[3], 0x2222);
	ASSERT_EQ(seen[4], 0x3333);
	ASSERT_EQ(seen[5], 7);		/* the second LEA's own length: RIP is where it should be */
	ASSERT_EQ(count(a), 1);
	ASSERT_EQ(count(b), 0);
	ASSERT_EQ(ring(4), 0);
	ASSERT_EQ(ring(4), 0);
	ASSERT_EQ(count(a), 0);
	ASSERT_EQ(count(b), 2);
}

static void test_unknown_numbers(void)
{
	int fd = event();

	start();
	ASSERT_EQ(ring(0), -KVM_EINVAL);
	ASSERT_EQ(set(9, fd, 0), 0);
	for (uint64_t n = 0; n < 70; n++)
		ASSERT_EQ(ring(n), n == 9 ? 0 : -KVM_EINVAL);
	ASSERT_EQ(ring(PVHV_DOORBELLS_MAX), -KVM_EINVAL);
	ASSERT_EQ(ring(1ull << 32 | 9), -KVM_EINVAL);
	ASSERT_EQ(ring(~0ull), -KVM_EINVAL);
	ASSERT_EQ(count(fd), 1);
}

static void test_arguments(void)
{
	struct pvhv_doorbell bell = { .id = 1, .fd = event(), .pad = 1 };
	int fd = event();

	start();
	ASSERT_ERR(ioctl(vm->fd, PVHV_SET_DOORBELL, &bell), EINVAL);
	ASSERT_EQ(set(PVHV_DOORBELLS_MAX, fd, 0), EINVAL);
	ASSERT_EQ(set(1, fd, 2), EINVAL);
	ASSERT_EQ(set(1, -1, 0), EBADF);
	ASSERT_EQ(set(1, vm->fd, 0), EINVAL);
	ASSERT_EQ(set(1, fd, 0), 0);
	ASSERT_EQ(set(1, bell.fd, 0), EEXIST);
	ASSERT_EQ(set(1, bell.fd, PVHV_DOORBELL_DEASSIGN), ENOENT);
	ASSERT_EQ(set(2, fd, PVHV_DOORBELL_DEASSIGN), ENOENT);
	ASSERT_EQ(set(PVHV_DOORBELLS_MAX - 1, fd, PVHV_DOORBELL_DEASSIGN), ENOENT);
}

static void test_taken_off(void)
{
	int fd = event();

	start();
	ASSERT_EQ(set(1, fd, 0), 0);
	ASSERT_EQ(ring(1), 0);
	ASSERT_EQ(set(1, fd, PVHV_DOORBELL_DEASSIGN), 0);
	ASSERT_EQ(ring(1), -KVM_EINVAL);
	ASSERT_EQ(count(fd), 1);
	ASSERT_EQ(set(1, fd, 0), 0);
	ASSERT_EQ(ring(1), 0);
}

static void test_all_of_them(void)
{
	int a = event(), b = event();

	start();
	ASSERT_EQ(set(0, a, 0), 0);
	ASSERT_EQ(set(PVHV_DOORBELLS_MAX - 1, b, 0), 0);
	ASSERT_EQ(set(100, a, 0), 0);
	ASSERT_EQ(ring(0), 0);
	ASSERT_EQ(ring(100), 0);
	ASSERT_EQ(ring(PVHV_DOORBELLS_MAX - 1), 0);
	ASSERT_EQ(count(a), 2);
	ASSERT_EQ(count(b), 1);
	/* What is left is put back with the VM. */
}

static void test_changed_under_a_running_guest(void)
{
	uint64_t events = 0;
	int fd = event();

	start();
	vcpu_restart(vcpu, guest_rings_on, 0);
	vcpu_start(vcpu);
	for (int i = 0; i < 40; i++) {
		uint64_t before = answered;

		ASSERT_EQ(set(7, fd, 0), 0);
		ASSERT_EQ(set(64 << (i % 7), fd, 0), i < 7 ? 0 : EEXIST);	/* the array grows */
		ASSERT(WAIT_FOR(answered > before + 2, 20000));
		ASSERT_EQ(set(7, fd, PVHV_DOORBELL_DEASSIGN), 0);
		events += count(fd);
		ASSERT_EQ(count(fd), 0);
	}
	end = true;
	vcpu_join(vcpu);
	ASSERT_GT(events, 0);
	ASSERT_EQ(events, answered);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(offered),
		TEST(rings),
		TEST(unknown_numbers),
		TEST(arguments),
		TEST(taken_off),
		TEST(all_of_them),
		TEST(changed_under_a_running_guest),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
