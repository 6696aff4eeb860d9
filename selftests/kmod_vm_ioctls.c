// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the ioctls of a VM as ioctls: order of creation, wrong state, bad arguments, bad pointers, races. What they do
 * to guests is in the tests named after their subject.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

static struct vm *vm;

static void start(unsigned int flags)
{
	vm = vm_create(flags | VM_BARE);
}

static void test_irqchip_order(void)
{
	struct kvm_pit_config pit = { 0 };
	struct kvm_irqchip chip = { 0 };
	struct kvm_pit_state2 ps = { 0 };
	struct kvm_irq_level level = { .irq = 4, .level = 1 };
	struct kvm_msi msi = { .address_lo = 0xfee00000, .data = 0x40 };

	start(0);
	/* Nothing of it is there */
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), ENXIO);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), ENXIO);
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_PIT2, &ps), ENXIO);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_PIT2, &ps), ENXIO);
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQ_LINE, &level), ENXIO);
	ASSERT_EQ(ioctl(vm->fd, KVM_SIGNAL_MSI, &msi), -1);

	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EEXIST);
	VM_IOCTL(vm, KVM_GET_IRQCHIP, &chip);
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_PIT2, &ps), ENXIO);
	VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, &pit), EEXIST);
	VM_IOCTL(vm, KVM_GET_PIT2, &ps);
	vm_destroy(vm);

	/* Too late */
	start(0);
	vcpu_create(vm, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EINVAL);
}

static void test_irqchip_id(void)
{
	struct kvm_irqchip chip = { .chip_id = 3 };

	start(0);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_IRQCHIP, &chip), EINVAL);
	chip.chip_id = ~0u;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_IRQCHIP, &chip), EINVAL);
	for (chip.chip_id = 0; chip.chip_id < 3; chip.chip_id++) {
		struct kvm_irqchip again;

		VM_IOCTL(vm, KVM_GET_IRQCHIP, &chip);
		VM_IOCTL(vm, KVM_SET_IRQCHIP, &chip);
		again.chip_id = chip.chip_id;
		VM_IOCTL(vm, KVM_GET_IRQCHIP, &again);
		ASSERT(!memcmp(&chip.chip, &again.chip, sizeof(struct kvm_ioapic_state)));
	}
}

static void test_tss(void)
{
	uint64_t map = 0xfffbc000;
	struct vcpu *vcpu;

	start(0);
	VM_IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_TSS_ADDR, 0xfffff000ul), EINVAL);
	if (sys_cap(KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
		VM_IOCTL(vm, KVM_SET_IDENTITY_MAP_ADDR, &map);
		ASSERT_ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, NULL), EFAULT);
		vcpu = vcpu_create(vm, 0);
		ASSERT_ERR(ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &map), EINVAL);
		ASSERT(vcpu);
	}
}

static void test_routing(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[4];
	} r = { .head.nr = 1 };
	int max;

	start(0);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	max = vm_cap(vm, KVM_CAP_IRQ_ROUTING);
	ASSERT_GE(max, 24);
	r.e[0] = (struct kvm_irq_routing_entry){
		.gsi = 5, .type = KVM_IRQ_ROUTING_IRQCHIP, .u.irqchip = { KVM_IRQCHIP_IOAPIC, 5 },
	};
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
	r.head.flags = 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.flags = 0;
	r.e[0].gsi = max;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].gsi = 5;
	r.e[0].type = 99;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].type = KVM_IRQ_ROUTING_IRQCHIP;
	r.e[0].u.irqchip.irqchip = 7;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
	r.e[0].u.irqchip.pin = 24;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].u.irqchip.irqchip = KVM_IRQCHIP_PIC_SLAVE;
	r.e[0].u.irqchip.pin = 8;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.e[0].u.irqchip.pin = 1;
	r.e[0].flags = 0x10;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.nr = 0xffffffff;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.nr = max + 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_GSI_ROUTING, &r), EINVAL);
	r.head.nr = 0;
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
}

static void test_clock(void)
{
	struct kvm_clock_data a, b;

	start(0);
	VM_IOCTL(vm, KVM_GET_CLOCK, &a);
	sleep_ms(2);
	VM_IOCTL(vm, KVM_GET_CLOCK, &b);
	ASSERT_GT(b.clock, a.clock);
	a = (struct kvm_clock_data){ .clock = 1234567890123456ull };
	VM_IOCTL(vm, KVM_SET_CLOCK, &a);
	VM_IOCTL(vm, KVM_GET_CLOCK, &b);
	ASSERT_GE(b.clock, a.clock);
	ASSERT_LT(b.clock, a.clock + 60000000000ull);
	a.flags = 1u << 31;
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_CLOCK, &a), EINVAL);
}

static void test_irqfd(void)
{
	struct kvm_irqfd irqfd = { .fd = eventfd(0, 0), .gsi = 5 };

	start(0);
	ASSERT_EQ(ioctl(vm->fd, KVM_IRQFD, &irqfd), -1);	/* no interrupt chip */
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	VM_IOCTL(vm, KVM_IRQFD, &irqfd);
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EBUSY);
	irqfd.flags = KVM_IRQFD_FLAG_DEASSIGN;
	VM_IOCTL(vm, KVM_IRQFD, &irqfd);
	irqfd.flags = 0x80;
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EINVAL);
	irqfd.flags = 0;
	irqfd.fd = 9999;
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EBADF);
	irqfd.fd = vm->fd;	/* not an eventfd */
	ASSERT_ERR(ioctl(vm->fd, KVM_IRQFD, &irqfd), EINVAL);
}

static void test_ioeventfd(void)
{
	struct kvm_ioeventfd io = { .addr = 0x100, .len = 2, .fd = eventfd(0, 0), .flags = KVM_IOEVENTFD_FLAG_PIO };

	start(0);
	VM_IOCTL(vm, KVM_IOEVENTFD, &io);
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EEXIST);
	io.flags |= KVM_IOEVENTFD_FLAG_DEASSIGN;
	VM_IOCTL(vm, KVM_IOEVENTFD, &io);
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), ENOENT);
	io.flags = KVM_IOEVENTFD_FLAG_PIO;
	io.len = 3;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	io.len = 16;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	io.len = 4;
	io.flags = 0x100;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	io.flags = 0;
	io.addr = ~0ull - 1;	/* around the end */
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	io.addr = 0x1000;
	io.fd = 9999;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EBADF);
	io.fd = vm->fd;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
	/* a match on data needs a length */
	io.fd = eventfd(0, 0);
	io.len = 0;
	io.flags = KVM_IOEVENTFD_FLAG_DATAMATCH;
	ASSERT_ERR(ioctl(vm->fd, KVM_IOEVENTFD, &io), EINVAL);
}

static void test_dirty_log(void)
{
	struct kvm_dirty_log log = { .slot = 3 };
	struct kvm_clear_dirty_log clear = { .slot = 3, .num_pages = 64 };
	uint64_t bitmap[8];
	void *mem;

	start(0);
	mem = mmap_aligned(64 * PAGE_SIZE, PAGE_SIZE);
	log.dirty_bitmap = clear.dirty_bitmap = bitmap;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);
	ASSERT_OK(vm_set_slot(vm, 3, 0, 0, 64 * PAGE_SIZE, mem));
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), ENOENT);	/* there, but not logging */
	ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, 0, 64 * PAGE_SIZE, mem));
	VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
	log.dirty_bitmap = NULL;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EFAULT);
	log.slot = 0xffff;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EINVAL);
	log.slot = 0xffff0003;
	ASSERT_ERR(ioctl(vm->fd, KVM_GET_DIRTY_LOG, &log), EINVAL);

	VM_IOCTL(vm, KVM_CLEAR_DIRTY_LOG, &clear);
	clear.first_page = 1;	/* multiples of 64, but for the end of the slot */
	ASSERT_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.first_page = 0;
	clear.num_pages = 63;
	ASSERT_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.num_pages = 128;
	ASSERT_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.first_page = ~63ull;
	clear.num_pages = 64;
	ASSERT_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), EINVAL);
	clear.first_page = 0;
	clear.slot = 4;
	ASSERT_ERR(ioctl(vm->fd, KVM_CLEAR_DIRTY_LOG, &clear), ENOENT);
}

static void test_enable_cap(void)
{
	struct kvm_enable_cap cap = { .cap = 100000 };

	start(0);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, NULL), EFAULT);
	cap = (struct kvm_enable_cap){ .cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, .args[0] = 1u << 30 };
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 1;
	cap.flags = 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.flags = 0;
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	/* a capability that is only asked for cannot be enabled */
	cap = (struct kvm_enable_cap){ .cap = KVM_CAP_USER_MEMORY };
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
}

/* The limit of vCPU numbers: once, for vCPUs and the boot CPU */
static void test_max_vcpu_id(void)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_MAX_VCPU_ID };
	int max;

	start(0);
	max = vm_cap(vm, KVM_CAP_MAX_VCPU_ID);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, max + 1), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, BIT(32)), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, BIT(32)), EINVAL);
	VM_IOCTL(vm, KVM_SET_BOOT_CPU_ID, 3);
	cap.args[0] = max + 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 2;		/* below the boot CPU's */
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	cap.args[0] = 4;
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &cap);
	cap.args[0] = 5;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &cap), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 5), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 4), EINVAL);
	VM_IOCTL(vm, KVM_CREATE_VCPU, 3);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_BOOT_CPU_ID, 0), EBUSY);
}

static void test_nr_mmu_pages(void)
{
	start(0);
	VM_IOCTL(vm, KVM_SET_NR_MMU_PAGES, 64);
	VM_IOCTL(vm, KVM_SET_NR_MMU_PAGES, 1000000);
	ASSERT_ERR(ioctl(vm->fd, KVM_SET_NR_MMU_PAGES, 63), EINVAL);
}

/* Every ioctl that takes a pointer, given bad ones */
static void test_bad_pointers(void)
{
	static const unsigned long cmds[] = {
		KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG, KVM_GET_IRQCHIP, KVM_SET_IRQCHIP, KVM_GET_PIT2, KVM_SET_PIT2,
		KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SET_GSI_ROUTING, KVM_SIGNAL_MSI, KVM_IRQFD, KVM_IOEVENTFD,
		KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_REGISTER_COALESCED_MMIO, KVM_UNREGISTER_COALESCED_MMIO, KVM_ENABLE_CAP,
	};
	struct kvm_pit_config pit = { 0 };

	start(0);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_PIT2, NULL), EFAULT);
	VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		static const unsigned long ptrs[] = { 0, 8, 0x7ffffffffffffff8, 0xffff888000000000, ~7ul };

		for (unsigned int p = 0; p < ARRAY_SIZE(ptrs); p++)
			if (ioctl(vm->fd, cmds[i], ptrs[p]) != -1 || errno != EFAULT)
				FAIL("ioctl 0x%lx with pointer 0x%lx: errno %d", cmds[i], ptrs[p], errno);
	}
}

static void test_unknown(void)
{
	static const unsigned long cmds[] = { _IO(KVMIO, 0x0f), _IO(KVMIO, 0xfe), _IO(0x12, 1), 0, ~0u };

	start(0);
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++)
		ASSERT_ERR(ioctl(vm->fd, cmds[i], 0), ENOTTY);
}

/* A VM belongs to the process that made it */
static void test_other_process(void)
{
	pid_t pid;
	int status;

	start(0);
	pid = fork();
	if (!pid) {
		ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0), EIO);
		ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0), EIO);
		ASSERT_ERR(vm_set_slot(vm, 0, 0, 0, PAGE_SIZE, mmap_aligned(PAGE_SIZE, PAGE_SIZE)), EIO);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	VM_IOCTL(vm, KVM_CREATE_VCPU, 0);
}

/* Races: of many that create the same, one succeeds */
static volatile int go, created, existed;

static void *create_one(void *arg)
{
	while (!go)
		;
	if (ioctl(vm->fd, KVM_CREATE_VCPU, (long)arg) >= 0)
		__sync_fetch_and_add(&created, 1);
	else if (errno == EEXIST)
		__sync_fetch_and_add(&existed, 1);
	return NULL;
}

static void *create_chip(void *arg)
{
	while (!go)
		;
	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0) >= 0)
		__sync_fetch_and_add(&created, 1);
	else if (errno == EEXIST)
		__sync_fetch_and_add(&existed, 1);
	return NULL;
}

static void race(void *(*fn)(void *), void *arg)
{
	pthread_t t[6];

	go = created = existed = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, fn, arg);
	go = 1;
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	ASSERT_EQ(created, 1);
	ASSERT_EQ(existed, ARRAY_SIZE(t) - 1);
}

static void test_races(void)
{
	for (int round = 0; round < 5; round++) {
		start(0);
		race(create_chip, NULL);
		for (long id = 0; id < 4; id++)
			race(create_one, (void *)id);
		close(vm->fd);
	}
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(irqchip_order),
		TEST(irqchip_id),
		TEST(tss),
		TEST(routing),
		TEST(clock),
		TEST(irqfd),
		TEST(ioeventfd),
		TEST(dirty_log),
		TEST(enable_cap),
		TEST(max_vcpu_id),
		TEST(nr_mmu_pages),
		TEST(bad_pointers),
		TEST(unknown),
		TEST(other_process),
		TEST(races),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
