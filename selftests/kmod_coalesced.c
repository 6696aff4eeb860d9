// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies coalesced MMIO and port I/O: writes in a zone land in the ring in order, without an exit, until the ring is
 * full; reads and writes elsewhere exit; zones come and go.
 */
#include <string.h>

#include "vm.h"

#define ZONE	(MMIO_HOLE + 0x1000)
#define PORT	0x2f0

static struct vm *vm;
static struct vcpu *vcpu;
static struct kvm_coalesced_mmio_ring *ring;
static unsigned int ring_max;

static void guest_one(uint64_t addr)
{
	*(volatile uint32_t *)addr = (uint32_t)addr * 3;
}

static void guest_sizes(uint64_t arg)
{
	*(volatile uint8_t *)ZONE = 1;
	*(volatile uint16_t *)(ZONE + 2) = 2;
	*(volatile uint32_t *)(ZONE + 4) = 3;
	*(volatile uint64_t *)(ZONE + 8) = 4;
}

static void guest_read(uint64_t arg)
{
	GUEST_ASSERT_EQ(*(volatile uint32_t *)ZONE, 0x55u);
}

static void guest_many(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		*(volatile uint32_t *)ZONE = i;
}

static void guest_port(uint64_t arg)
{
	outb(PORT, 0x12);
	outw(PORT, 0x3456);
}

static int zone(unsigned long cmd, uint64_t addr, uint32_t size, bool pio)
{
	struct kvm_coalesced_mmio_zone z = { .addr = addr, .size = size, .pio = pio };

	return ioctl(vm->fd, cmd, &z);
}

static void start(void)
{
	int offset = sys_cap(KVM_CAP_COALESCED_MMIO);

	ASSERT_GT(offset, 0);
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_one, 0);
	ring = (void *)((char *)vcpu->run + offset * PAGE_SIZE);
	ASSERT_LE((offset + 1) * PAGE_SIZE, vcpu->run_size);
	ring_max = (PAGE_SIZE - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
}

static void expect(uint64_t addr, unsigned int len, uint64_t data, bool pio)
{
	struct kvm_coalesced_mmio *e = &ring->coalesced_mmio[ring->first];
	uint64_t v = 0;

	ASSERT_NE(ring->first, ring->last);
	ASSERT_EQ(e->phys_addr, addr);
	ASSERT_EQ(e->len, len);
	ASSERT_EQ(e->pio, pio);
	memcpy(&v, e->data, len);
	ASSERT_EQ(v, data);
	ring->first = (ring->first + 1) % ring_max;
}

static void expect_exit(uint64_t addr)
{
	vcpu_restart(vcpu, guest_one, addr);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, addr);
	vcpu_run_done(vcpu);
	ASSERT_EQ(ring->first, ring->last);
}

static void expect_ring(uint64_t addr)
{
	vcpu_restart(vcpu, guest_one, addr);
	vcpu_run_done(vcpu);
	expect(addr, 4, (uint32_t)addr * 3, false);
	ASSERT_EQ(ring->first, ring->last);
}

static void test_zone(void)
{
	start();
	expect_exit(ZONE);
	ASSERT_OK(zone(KVM_REGISTER_COALESCED_MMIO, ZONE, 0x100, false));
	expect_ring(ZONE);
	expect_ring(ZONE + 0xfc);
	expect_exit(ZONE + 0x100);
	expect_exit(ZONE - 4);
	expect_exit(ZONE + 0xfe);	/* partly in it */
	vcpu_restart(vcpu, guest_sizes, 0);
	vcpu_run_done(vcpu);
	expect(ZONE, 1, 1, false);
	expect(ZONE + 2, 2, 2, false);
	expect(ZONE + 4, 4, 3, false);
	expect(ZONE + 8, 8, 4, false);
	/* reads exit */
	vcpu_restart(vcpu, guest_read, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.is_write, 0);
	memset(vcpu->run->mmio.data, 0, 8);
	vcpu->run->mmio.data[0] = 0x55;
	vcpu_run_done(vcpu);
	/* two zones, one gone */
	ASSERT_OK(zone(KVM_REGISTER_COALESCED_MMIO, ZONE + 0x200, 0x10, false));
	expect_ring(ZONE + 0x204);
	ASSERT_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, ZONE, 0x100, false));
	expect_exit(ZONE);
	expect_ring(ZONE + 0x204);
	ASSERT_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, ZONE + 0x200, 0x10, false));
	expect_exit(ZONE + 0x204);
	vm_destroy(vm);
}

/* A full ring: the write exits, and nothing in the ring is overwritten */
static void test_full(void)
{
	unsigned int in_ring = 0, by_exit = 0;
	struct ucall uc;
	const unsigned int n = ring_max + 400;

	start();
	ASSERT_OK(zone(KVM_REGISTER_COALESCED_MMIO, ZONE, 4, false));
	vcpu_restart(vcpu, guest_many, n);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_NONE) {
		uint32_t v;

		ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
		/* In order: first all of the ring, then this one */
		while (ring->first != ring->last)
			expect(ZONE, 4, in_ring++ + by_exit, false);
		memcpy(&v, vcpu->run->mmio.data, 4);
		ASSERT_EQ(v, in_ring + by_exit);
		by_exit++;
	}
	while (ring->first != ring->last)
		expect(ZONE, 4, in_ring++ + by_exit, false);
	ASSERT_EQ(in_ring + by_exit, n);
	ASSERT_GT(by_exit, 0);
	ASSERT_LE(by_exit, n / (ring_max - 2) + 1);
}

static void test_pio(void)
{
	REQUIRE_CAP(KVM_CAP_COALESCED_PIO);
	start();
	ASSERT_OK(zone(KVM_REGISTER_COALESCED_MMIO, PORT, 4, true));
	vcpu_restart(vcpu, guest_port, 0);
	vcpu_run_done(vcpu);
	expect(PORT, 1, 0x12, true);
	expect(PORT, 2, 0x3456, true);
	/* the same numbers as memory are not in the zone */
	ASSERT_OK(zone(KVM_UNREGISTER_COALESCED_MMIO, PORT, 4, true));
	vcpu_restart(vcpu, guest_port, 0);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	vcpu_run_done(vcpu);
}

/* Nonsense that the VMM writes into the ring harms nobody */
static void test_bad_ring(void)
{
	static const uint32_t bad[] = { 0xffffffff, 0x80000000, 4096, 170, 171 };

	start();
	ASSERT_OK(zone(KVM_REGISTER_COALESCED_MMIO, ZONE, 0x100, false));
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct ucall uc;

		ring->first = 0;
		ring->last = bad[i];
		vcpu_restart(vcpu, guest_one, ZONE);
		while (vcpu_run_ucall(vcpu, &uc) != UCALL_DONE)
			ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_MMIO);
	}
	ring->first = ring->last = 0;
	expect_ring(ZONE);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(zone),
		TEST(full),
		TEST(pio),
		TEST(bad_ring),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
