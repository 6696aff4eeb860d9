// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies vCPU threads that move between the host's CPUs: the guest's TSC does not go back, its registers, MSRs, vector
 * state and timers come along, and nothing of an old CPU's TLB is seen. With CPU 1 taken off line where that can be done.
 */
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

#define VEC	0x61
#define VA	0x700000000000ul

static struct vm *vm;
static volatile bool end;
static volatile uint64_t rounds;
static volatile uint32_t ticks;
static volatile uint64_t *pte, page[2];

static void need_two_cpus(void)
{
	cpu_set_t set;

	ASSERT_OK(sched_getaffinity(0, sizeof(set), &set));
	if (CPU_COUNT(&set) < 2)
		SKIP("one CPU only");
}

static void on_tick(struct guest_regs *regs)
{
	ticks++;
	apic_eoi();
}

static void guest_travel(uint64_t arg)
{
	uint64_t last = rdtsc();
	uint32_t x = 1;

	x2apic_enable();
	apic_enable();
	guest_handlers[VEC] = on_tick;
	wrmsr(X2APIC_MSR(APIC_LVTT), APIC_LVTT_DEADLINE | VEC);
	wrmsr(0xc0000082, 0x1234);
	wrmsr(0xc0000102, 0x5678000);
	GUEST_WRREG(dr2, 0x9000);
	for (uint64_t n = 1; !end; n++) {
		uint64_t now = rdtsc();
		uint32_t lo, hi;

		if (now < last)
			guest_assert_failed("the TSC goes back", __FILE__, __LINE__, now, last, true);
		last = now;
		__asm__ volatile("movd %0, %%xmm5" : : "r"((uint32_t)n));
		wrmsr(MSR_TSC_DEADLINE, now + guest_us(200));
		/* a page that changes under the same address */
		*(volatile uint64_t *)page[n & 1] = n;
		*pte = page[n & 1] | PTE_P | PTE_W;
		invlpg((void *)VA);
		GUEST_ASSERT_EQ(*(volatile uint64_t *)VA, n);
		if (n & 1)
			sti_hlt_cli();
		else
			guest_cpuid(0, 0);
		__asm__ volatile("movd %%xmm5, %0" : "=r"(x));
		GUEST_ASSERT_EQ(x, (uint32_t)n);
		GUEST_ASSERT_EQ(rdmsr(0xc0000082), 0x1234ull);
		GUEST_ASSERT_EQ(rdmsr(0xc0000102), 0x5678000ull);
		GUEST_ASSERT_EQ(GUEST_RDREG(dr2), 0x9000ull);
		__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
		GUEST_ASSERT((lo | (uint64_t)hi << 32) >= last);
		rounds = n;
	}
}

static void pin(pthread_t t, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	ASSERT_EQ(pthread_setaffinity_np(t, sizeof(set), &set), 0);
}

static void expect_progress(void)
{
	uint64_t seen = rounds;

	if (WAIT_FOR(rounds > seen + 2, 20000))
		return;
	vcpu_diag(vm->vcpus[0]);
	FAIL("the guest stands still at round %llu", (unsigned long long)rounds);
}

static void start(unsigned int nr)
{
	need_two_cpus();
	vm = vm_create(VM_IRQCHIP);
	page[0] = vm_alloc(vm, PAGE_SIZE);
	page[1] = vm_alloc(vm, PAGE_SIZE);
	vm_map(vm, VA, page[0], PTE_P | PTE_W);
	pte = (uint64_t *)vm_gpa(vm, vm_pte(vm, VA));
	for (unsigned int i = 0; i < nr; i++)
		vcpu_add(vm, i, guest_travel, 0);
}

static void test_one(void)
{
	start(1);
	vcpu_start(vm->vcpus[0]);
	for (int i = 0; i < 60; i++) {
		pin(vm->vcpus[0]->thread, i & 1);
		expect_progress();
	}
	end = true;
	vcpu_join(vm->vcpus[0]);
	ASSERT_GT(ticks, 10);
}

/* A vCPU that other threads run in turn, each on its own CPU */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void guest_turns(uint64_t arg)
{
	uint64_t last = 0;

	for (uint64_t n = 0; n < 60; n++) {
		uint64_t now = rdtsc();

		GUEST_ASSERT(now > last);
		last = now;
		__asm__ volatile("movd %0, %%xmm7" : : "r"((uint32_t)n));
		GUEST_SYNC(n);
		uint32_t x;

		__asm__ volatile("movd %%xmm7, %0" : "=r"(x));
		GUEST_ASSERT_EQ(x, (uint32_t)n);
	}
}

static void *take_turns(void *arg)
{
	pin(pthread_self(), (long)arg);
	for (;;) {
		struct ucall uc;

		pthread_mutex_lock(&turn);
		if (end) {
			pthread_mutex_unlock(&turn);
			return NULL;
		}
		if (vcpu_run_ucall(vm->vcpus[0], &uc) == UCALL_DONE)
			end = true;
		else
			ASSERT_EQ(uc.cmd, UCALL_SYNC);
		rounds++;
		pthread_mutex_unlock(&turn);
		sched_yield();
	}
}

static void test_other_threads(void)
{
	pthread_t t[2];

	need_two_cpus();
	vm = vm_create(VM_IRQCHIP);
	vcpu_add(vm, 0, guest_turns, 0);
	for (long i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, take_turns, (void *)i);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	ASSERT_EQ(rounds, 61);
}

static bool set_online(int on)
{
	int fd = open("/sys/devices/system/cpu/cpu1/online", O_WRONLY);
	bool ok = fd >= 0 && write(fd, on ? "1" : "0", 1) == 1;

	if (fd >= 0)
		close(fd);
	return ok;
}

/* CPU 1 goes and comes back under a running vCPU */
static void test_hotplug(void)
{
	start(1);
	vcpu_start(vm->vcpus[0]);
	expect_progress();
	for (int i = 0; i < 3; i++) {
		cpu_set_t both;

		CPU_ZERO(&both);
		CPU_SET(0, &both);
		CPU_SET(1, &both);
		pin(vm->vcpus[0]->thread, 1);
		expect_progress();
		pthread_setaffinity_np(vm->vcpus[0]->thread, sizeof(both), &both);
		if (!set_online(0)) {
			end = true;
			vcpu_join(vm->vcpus[0]);
			SKIP("CPU 1 cannot be taken off line");
		}
		expect_progress();
		ASSERT(set_online(1));
		expect_progress();
	}
	end = true;
	vcpu_join(vm->vcpus[0]);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(one),
		TEST(other_threads),
		TEST(hotplug),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
