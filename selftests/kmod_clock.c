// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies time: KVM_GET_CLOCK and SET_CLOCK, the paravirtual clock page and wall clock as a guest uses them, on several
 * vCPUs that must never see time go back, and the TSCs of vCPUs against each other.
 */
#include <string.h>
#include <time.h>

#include "apic.h"
#include "pv.h"
#include "vm.h"

#define NR	3

static struct vm *vm;
static struct vcpu *vcpu;
static volatile struct pv_time pages[NR] __attribute__((aligned(64)));
static volatile struct pv_wall wall;
static volatile uint64_t guest_ns;

static uint64_t vm_clock(void)
{
	struct kvm_clock_data c;

	VM_IOCTL(vm, KVM_GET_CLOCK, &c);
	return c.clock;
}

static void guest_clock(uint64_t arg)
{
	wrmsr(MSR_PV_SYSTEM_TIME, (uintptr_t)&pages[0] | 1);
	GUEST_ASSERT_EQ(rdmsr(MSR_PV_SYSTEM_TIME), (uint64_t)(uintptr_t)&pages[0] | 1);
	for (;;) {
		guest_ns = pv_time_ns(&pages[0]);
		GUEST_SYNC(1);
	}
}

static void start(void (*fn)(uint64_t))
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, fn, 0);
}

/* The guest's time lies between the VM's before and after */
static void test_page(void)
{
	uint64_t before, after, last = 0;

	start(guest_clock);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(pages[0].version & 1, 0);
	ASSERT_NE(pages[0].version, 0);
	ASSERT_NE(pages[0].mul, 0);
	for (int i = 0; i < 20; i++) {
		before = vm_clock();
		vcpu_run_sync(vcpu, 1);
		after = vm_clock();
		/* Two clocks of the host are compared here; they differ by little */
		ASSERT_GE(guest_ns + 5000000, before);
		ASSERT_LE(guest_ns, after + 5000000);
		ASSERT_GT(guest_ns, last);
		last = guest_ns;
		sleep_ms(3);
	}
}

static void test_set_clock(void)
{
	struct kvm_clock_data c = { .clock = 86400ull * 1000000000 * 365 }, get;
	uint32_t version;

	start(guest_clock);
	vcpu_run_sync(vcpu, 1);
	version = pages[0].version;
	VM_IOCTL(vm, KVM_SET_CLOCK, &c);
	VM_IOCTL(vm, KVM_GET_CLOCK, &get);
	ASSERT_GE(get.clock, c.clock);
	ASSERT_LT(get.clock, c.clock + 20000000000);
	vcpu_run_sync(vcpu, 1);
	ASSERT_NE(pages[0].version, version);
	ASSERT_GE(guest_ns, c.clock);
	ASSERT_LT(guest_ns, c.clock + 20000000000);
	/* and back */
	c.clock = 5000000000;
	VM_IOCTL(vm, KVM_SET_CLOCK, &c);
	vcpu_run_sync(vcpu, 1);
	ASSERT_GE(guest_ns, c.clock);
	ASSERT_LT(guest_ns, c.clock + 20000000000);
	/* with the real time of the moment: what passed since then is added */
	if (sys_cap(KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) {
		struct timespec ts;

		clock_gettime(CLOCK_REALTIME, &ts);
		c.flags = KVM_CLOCK_REALTIME;
		c.realtime = ts.tv_sec * 1000000000ull + ts.tv_nsec - 100000000000;	/* 100 s ago */
		c.clock = 1000000000000;
		VM_IOCTL(vm, KVM_SET_CLOCK, &c);
		ASSERT_GE(vm_clock(), 1099000000000);
		ASSERT_LT(vm_clock(), 1200000000000);
		VM_IOCTL(vm, KVM_GET_CLOCK, &get);
		if (get.flags & KVM_CLOCK_REALTIME)
			ASSERT_GE(get.realtime, ts.tv_sec * 1000000000ull);
	}
}

static void guest_off(uint64_t arg)
{
	wrmsr(MSR_PV_SYSTEM_TIME, (uintptr_t)&pages[0] | 1);
	GUEST_SYNC(1);
	wrmsr(MSR_PV_SYSTEM_TIME, 0);
	GUEST_SYNC(1);
	GUEST_SYNC(1);
}

/* Switched off, the page is left alone */
static void test_off(void)
{
	struct kvm_clock_data c = { .clock = 77 };

	start(guest_off);
	vcpu_run_sync(vcpu, 1);
	ASSERT_NE(pages[0].mul, 0);
	vcpu_run_sync(vcpu, 1);
	memset((void *)&pages[0], 0x5a, sizeof(pages[0]));
	VM_IOCTL(vm, KVM_SET_CLOCK, &c);
	vcpu_run_sync(vcpu, 1);
	for (unsigned int i = 0; i < sizeof(pages[0]); i++)
		ASSERT_EQ(((volatile uint8_t *)&pages[0])[i], 0x5a);
}

static void guest_wall(uint64_t arg)
{
	wrmsr(MSR_PV_SYSTEM_TIME, (uintptr_t)&pages[0] | 1);
	wrmsr(MSR_PV_WALL_CLOCK, (uintptr_t)&wall);
	guest_ns = pv_time_ns(&pages[0]);
	GUEST_SYNC(1);
}

/* Wall clock of the VM's start, plus its time, is now */
static void test_wall(void)
{
	struct timespec ts;
	int64_t now, guest;

	start(guest_wall);
	sleep_ms(20);
	vcpu_run_sync(vcpu, 1);
	clock_gettime(CLOCK_REALTIME, &ts);
	ASSERT_EQ(wall.version & 1, 0);
	ASSERT_NE(wall.version, 0);
	ASSERT_LT(wall.nsec, 1000000000);
	now = ts.tv_sec * 1000ll + ts.tv_nsec / 1000000;
	guest = wall.sec * 1000ll + (wall.nsec + guest_ns) / 1000000;
	ASSERT_LT(guest - now, 500);
	ASSERT_GT(guest - now, -5000);
}

/* Several vCPUs hand a time stamp round: none may be older than the one before */
static volatile uint64_t latest;
static volatile uint32_t lock, ready;
static volatile uint64_t rounds[NR];
static volatile bool unstable;

static void guest_monotone(uint64_t id)
{
	wrmsr(MSR_PV_SYSTEM_TIME, (uintptr_t)&pages[id] | 1);
	__sync_fetch_and_add(&ready, 1);
	while (ready < NR)
		cpu_relax();
	if (!(pages[id].flags & PV_TIME_STABLE))
		unstable = true;
	for (int i = 0; i < 300; i++) {
		uint64_t now;

		while (__sync_lock_test_and_set(&lock, 1))
			cpu_relax();
		now = pv_time_ns(&pages[id]);
		/* Without the stable bit guests have to smooth it out themselves */
		if (!unstable && now < latest)
			guest_assert_failed("time goes back", __FILE__, __LINE__, now, latest, true);
		if (now > latest)
			latest = now;
		__sync_lock_release(&lock);
		rounds[id]++;
	}
}

static void test_monotone(void)
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, guest_monotone, i);
	vm_run_all(vm);
	for (uint32_t i = 0; i < NR; i++)
		ASSERT_EQ(rounds[i], 300);
	if (unstable)
		SKIP("the host's clock source gives no stable time");
}

/* TSCs of vCPUs made one after another agree */
static volatile uint64_t last_tsc;

static void guest_tsc(uint64_t id)
{
	__sync_fetch_and_add(&ready, 1);
	while (ready < NR)
		cpu_relax();
	for (int i = 0; i < 300; i++) {
		uint64_t now;

		while (__sync_lock_test_and_set(&lock, 1))
			cpu_relax();
		now = rdtsc();
		if (now < last_tsc)
			guest_assert_failed("the TSC goes back", __FILE__, __LINE__, now, last_tsc, true);
		last_tsc = now;
		__sync_lock_release(&lock);
	}
}

static void test_tsc(void)
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, guest_tsc, i);
	vm_run_all(vm);
}

/* The offset from the host's TSC, as an attribute: read, written, seen by the guest */
static void guest_read_tsc(uint64_t arg)
{
	for (;;)
		GUEST_SYNC2(1, rdtsc());
}

static void test_tsc_offset(void)
{
	uint64_t offset = 0, set, before, after;
	struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)&offset,
	};
	struct ucall uc;

	REQUIRE_CAP(KVM_CAP_VCPU_ATTRIBUTES);
	start(guest_read_tsc);
	VCPU_IOCTL(vcpu, KVM_HAS_DEVICE_ATTR, &attr);
	VCPU_IOCTL(vcpu, KVM_GET_DEVICE_ATTR, &attr);
	for (int i = 0; i < 4; i++) {
		set = offset + (int64_t[]){ 0, 1000000000000, -5000000000, 0x123456789abcdef }[i];
		attr.addr = (uintptr_t)&set;
		VCPU_IOCTL(vcpu, KVM_SET_DEVICE_ATTR, &attr);
		before = rdtsc();
		vcpu_run_ucall(vcpu, &uc);
		after = rdtsc();
		ASSERT_EQ(uc.cmd, UCALL_SYNC);
		ASSERT_GE(uc.arg[1], before + set);
		ASSERT_LE(uc.arg[1], after + set);
		attr.addr = (uintptr_t)&offset;
		VCPU_IOCTL(vcpu, KVM_GET_DEVICE_ATTR, &attr);
		ASSERT_EQ(offset, set);
	}
	/* Writing the TSC moves it */
	vcpu_set_msr(vcpu, MSR_TSC, rdtsc() + 77000000000000);
	VCPU_IOCTL(vcpu, KVM_GET_DEVICE_ATTR, &attr);
	ASSERT_NE(offset, set);
	attr.addr = 8;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), EFAULT);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), EFAULT);
	attr.attr = 1;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_HAS_DEVICE_ATTR, &attr), ENXIO);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_DEVICE_ATTR, &attr), ENXIO);
	attr.group = 1;
	attr.attr = 0;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_DEVICE_ATTR, &attr), ENXIO);
}

/* The VMM paused the guest: its watchdogs are to be told */
static void test_stopped(void)
{
	REQUIRE_CAP(KVM_CAP_KVMCLOCK_CTRL);
	start(guest_clock);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(pages[0].flags & PV_TIME_STOPPED, 0);
	VCPU_IOCTL(vcpu, KVM_KVMCLOCK_CTRL, 0);
	vcpu_run_sync(vcpu, 1);
	ASSERT_EQ(pages[0].flags & PV_TIME_STOPPED, PV_TIME_STOPPED);
}

#define VEC		0x61
#define SLEEP_MS	50

static volatile uint64_t tsc_seen, fired_at;

static void on_deadline(struct guest_regs *regs)
{
	fired_at = rdtsc();
}

/* Reads both clocks, then waits for a deadline of its TSC, khz ticks (a millisecond) away */
static void guest_scaled(uint64_t khz)
{
	uint64_t until;

	wrmsr(MSR_PV_SYSTEM_TIME, (uintptr_t)&pages[0] | 1);
	x2apic_enable();
	apic_enable();
	guest_handlers[VEC] = on_deadline;
	wrmsr(X2APIC_MSR(APIC_LVTT), APIC_LVTT_DEADLINE | VEC);
	for (;;) {
		tsc_seen = rdtsc();
		guest_ns = pv_time_ns(&pages[0]);
		GUEST_SYNC(1);
		fired_at = 0;
		until = rdtsc() + khz;
		wrmsr(MSR_TSC_DEADLINE, until);
		sti();
		while (!fired_at && rdtsc() < until + 5000 * khz)
			cpu_relax();
		cli();
		GUEST_ASSERT(fired_at >= until);
		wrmsr(X2APIC_MSR(APIC_EOI), 0);
	}
}

static void scaled(uint64_t khz)
{
	uint64_t before[2], after[2], tsc[2], ns[2], least, most;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_scaled, khz);
	VCPU_IOCTL(vcpu, KVM_SET_TSC_KHZ, khz);
	ASSERT_EQ(VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0), khz);
	vcpu_run_sync(vcpu, 1);
	for (int i = 0; i < 2; i++) {
		before[i] = now_ns();
		vcpu_run_sync(vcpu, 1);
		after[i] = now_ns();
		tsc[i] = tsc_seen;
		ns[i] = guest_ns;
		sleep_ms(SLEEP_MS);
	}
	least = before[1] - after[0];
	most = after[1] - before[0];
	ASSERT_GE((tsc[1] - tsc[0]) * 1000 / khz * 1000, least - least / 100);
	ASSERT_LE((tsc[1] - tsc[0]) * 1000 / khz * 1000, most + most / 100);
	ASSERT_GE(ns[1] - ns[0], least - least / 100);
	ASSERT_LE(ns[1] - ns[0], most + most / 100);
	/* The VM's own clock is the one that the guest has */
	vcpu_run_sync(vcpu, 1);
	ASSERT_GE(vm_clock() + 5000000, guest_ns);
	vm_destroy(vm);
}

/* A frequency that the host's TSC does not have: what was a host's with another one goes on at its pace */
static void test_scaled(void)
{
	long khz;

	REQUIRE_CAP(KVM_CAP_TSC_CONTROL);
	start(guest_clock);
	khz = VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_TSC_KHZ, khz / 1000), EINVAL);
	scaled(khz / 2);
	scaled(khz * 3);
	scaled(khz / 10 * 9);
}

/* The frequency reported is the one the page implies */
static void test_frequency(void)
{
	uint64_t implied;
	long khz;

	start(guest_clock);
	vcpu_run_sync(vcpu, 1);
	khz = VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0);
	/* ns per tick = mul * 2^(shift - 32) */
	implied = pages[0].shift >= 0 ? (1000000ull << 32) / pages[0].mul >> pages[0].shift :
					((1000000ull << 32) / pages[0].mul) << -pages[0].shift;
	ASSERT_GE(implied, khz - khz / 100);
	ASSERT_LE(implied, khz + khz / 100);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(page),
		TEST(set_clock),
		TEST(off),
		TEST(wall),
		TEST(monotone),
		TEST(tsc),
		TEST(tsc_offset),
		TEST(stopped),
		TEST(scaled),
		TEST(frequency),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
