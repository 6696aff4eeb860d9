// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies ioeventfd: port I/O and MMIO, every length and any length, data matches, what does not match, taking off,
 * several on one address, closing in any order, changes under a running guest.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vm.h"

#define PORT	0x2f0

static struct vm *vm;
static struct vcpu *vcpu;

/* What the guest writes: a list of accesses */
struct access {
	uint64_t addr, data;
	uint8_t len;
	bool pio;
};

static volatile struct access acc;

static void guest_access(uint64_t arg)
{
	switch (acc.len | acc.pio << 4) {
	case 0x11:
		outb(acc.addr, acc.data);
		break;
	case 0x12:
		outw(acc.addr, acc.data);
		break;
	case 0x14:
		outl(acc.addr, acc.data);
		break;
	case 1:
		*(volatile uint8_t *)acc.addr = acc.data;
		break;
	case 2:
		*(volatile uint16_t *)acc.addr = acc.data;
		break;
	case 4:
		*(volatile uint32_t *)acc.addr = acc.data;
		break;
	case 8:
		*(volatile uint64_t *)acc.addr = acc.data;
		break;
	}
}

static void start(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_access, 0);
}

/* Does the write come to userspace? */
static bool exits(bool pio, uint64_t addr, uint8_t len, uint64_t data)
{
	struct ucall uc;

	acc = (struct access){ addr, data, len, pio };
	vcpu_restart(vcpu, guest_access, 0);
	if (vcpu_run_ucall(vcpu, &uc) == UCALL_DONE)
		return false;
	ASSERT_EQ(vcpu->run->exit_reason, pio ? KVM_EXIT_IO : KVM_EXIT_MMIO);
	vcpu_run_done(vcpu);
	return true;
}

static uint64_t count(int fd)
{
	uint64_t n;

	return read(fd, &n, 8) == 8 ? n : 0;
}

static int set(int fd, uint32_t flags, uint64_t addr, uint32_t len, uint64_t match)
{
	struct kvm_ioeventfd io = { .fd = fd, .flags = flags, .addr = addr, .len = len, .datamatch = match };

	return ioctl(vm->fd, KVM_IOEVENTFD, &io);
}

static void one_space(bool pio)
{
	const uint32_t space = pio ? KVM_IOEVENTFD_FLAG_PIO : 0;
	const uint64_t base = pio ? PORT : MMIO_HOLE;
	int fd = eventfd(0, EFD_NONBLOCK), fd2 = eventfd(0, EFD_NONBLOCK);

	start();
	for (uint8_t len = 1; len <= (pio ? 4 : 8); len *= 2) {
		uint64_t addr = base + 16 * len;

		ASSERT(exits(pio, addr, len, 1));
		ASSERT_OK(set(fd, space, addr, len, 0));
		for (int i = 0; i < 3; i++)
			ASSERT(!exits(pio, addr, len, i));
		ASSERT_EQ(count(fd), 3);
		/* another length, another address: to userspace */
		ASSERT(exits(pio, addr, len == 1 ? 2 : len / 2, 1));
		ASSERT(exits(pio, addr + len, len, 1));
		ASSERT(exits(pio, addr - len, len, 1));
		ASSERT_EQ(count(fd), 0);
		ASSERT_OK(set(fd, space | KVM_IOEVENTFD_FLAG_DEASSIGN, addr, len, 0));
		ASSERT(exits(pio, addr, len, 1));
		ASSERT_EQ(count(fd), 0);
	}

	/* Data matches: two eventfds on one address */
	ASSERT_OK(set(fd, space | KVM_IOEVENTFD_FLAG_DATAMATCH, base, 2, 0x1234));
	ASSERT_OK(set(fd2, space | KVM_IOEVENTFD_FLAG_DATAMATCH, base, 2, 0x4321));
	ASSERT_ERR(set(fd2, space | KVM_IOEVENTFD_FLAG_DATAMATCH, base, 2, 0x1234), EEXIST);
	ASSERT(!exits(pio, base, 2, 0x1234));
	ASSERT_EQ(count(fd), 1);
	ASSERT_EQ(count(fd2), 0);
	ASSERT(!exits(pio, base, 2, 0x4321));
	ASSERT_EQ(count(fd), 0);
	ASSERT_EQ(count(fd2), 1);
	ASSERT(exits(pio, base, 2, 0x1111));
	/* only the one with these data goes */
	ASSERT_ERR(set(fd, space | KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_DEASSIGN, base, 2, 0x4321), ENOENT);
	ASSERT_OK(set(fd, space | KVM_IOEVENTFD_FLAG_DATAMATCH | KVM_IOEVENTFD_FLAG_DEASSIGN, base, 2, 0x1234));
	ASSERT(exits(pio, base, 2, 0x1234));
	ASSERT(!exits(pio, base, 2, 0x4321));
	count(fd2);

	/* Any length */
	if (vm_cap(vm, KVM_CAP_IOEVENTFD_ANY_LENGTH) > 0) {
		ASSERT_OK(set(fd, space, base + 64, 0, 0));
		for (uint8_t len = 1; len <= (pio ? 4 : 8); len *= 2)
			ASSERT(!exits(pio, base + 64, len, 7));
		ASSERT_EQ(count(fd), pio ? 3 : 4);
		ASSERT_OK(set(fd, space | KVM_IOEVENTFD_FLAG_DEASSIGN, base + 64, 0, 0));
		ASSERT(exits(pio, base + 64, 4, 7));
	}
	vm_destroy(vm);
	close(fd);
	close(fd2);
}

static void test_pio(void)
{
	one_space(true);
}

static void test_mmio(void)
{
	one_space(false);
}

/* Reads are never events */
static void guest_read(uint64_t arg)
{
	GUEST_ASSERT_EQ(inb(PORT), 0x77);
	GUEST_ASSERT_EQ(*(volatile uint8_t *)MMIO_HOLE, 0x78);
}

static void test_reads(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);

	start();
	ASSERT_OK(set(fd, KVM_IOEVENTFD_FLAG_PIO, PORT, 1, 0));
	ASSERT_OK(set(fd, 0, MMIO_HOLE, 1, 0));
	vcpu_restart(vcpu, guest_read, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	*((uint8_t *)vcpu->run + vcpu->run->io.data_offset) = 0x77;
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	vcpu->run->mmio.data[0] = 0x78;
	vcpu_run_done(vcpu);
	ASSERT_EQ(count(fd), 0);
}

/* Many of them */
static void test_many(void)
{
	enum { N = 100 };
	int fd[N];

	start();
	for (int i = 0; i < N; i++) {
		fd[i] = eventfd(0, EFD_NONBLOCK);
		ASSERT_OK(set(fd[i], 0, MMIO_HOLE + (i * 37 % N) * 4, 4, 0));
	}
	for (int i = 0; i < N; i += 7) {
		ASSERT(!exits(false, MMIO_HOLE + (i * 37 % N) * 4, 4, 1));
		ASSERT_EQ(count(fd[i]), 1);
	}
	ASSERT(exits(false, MMIO_HOLE + N * 4, 4, 1));
	/* eventfds that are closed are not lost to the VM */
	close(fd[0]);
	ASSERT(!exits(false, MMIO_HOLE, 4, 1));
	vm_destroy(vm);
}

/* On and off while the guest writes: each write is an exit or an event, none is lost */
static volatile bool end;
static volatile uint64_t done_writes, io_exits;

static void guest_writes(uint64_t arg)
{
	while (!end) {
		outb(PORT, 1);
		done_writes++;
	}
}

static bool count_exit(struct vcpu *v)
{
	io_exits++;
	return v->run->exit_reason == KVM_EXIT_IO;
}

static void test_running(void)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	uint64_t events = 0;

	start();
	vcpu->on_exit = count_exit;
	vcpu_restart(vcpu, guest_writes, 0);
	vcpu_start(vcpu);
	for (int i = 0; i < 40; i++) {
		uint64_t seen = done_writes;

		ASSERT_OK(set(fd, KVM_IOEVENTFD_FLAG_PIO, PORT, 1, 0));
		ASSERT(WAIT_FOR(done_writes > seen + 2, 20000));
		ASSERT_OK(set(fd, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DEASSIGN, PORT, 1, 0));
		events += count(fd);
	}
	end = true;
	vcpu_join(vcpu);
	ASSERT_GT(events, 0);
	ASSERT_EQ(events + io_exits, done_writes);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(pio),
		TEST(mmio),
		TEST(reads),
		TEST(many),
		TEST(running),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
