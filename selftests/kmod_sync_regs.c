// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies registers in struct kvm_run (KVM_CAP_SYNC_REGS): what is asked for is there after KVM_RUN and what the ioctls
 * give, what is marked changed is taken, nothing else is; bad bits, bad values, a page that changes meanwhile.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "vm.h"

#define ALL	(KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS)

static struct vm *vm;
static struct vcpu *vcpu;
static struct kvm_run *run;

/* Reports rbx and goes on; rbx is the host's to set meanwhile */
static void guest_report(uint64_t arg)
{
	for (;;) {
		uint64_t rbx;

		__asm__ volatile("outb %%al, %%dx" : "=b"(rbx) : "a"(0), "b"(0x11), "d"(0x80) : "memory");
		GUEST_SYNC(rbx);
	}
}

static void start(void)
{
	REQUIRE_CAP(KVM_CAP_SYNC_REGS);
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_report, 0);
	run = vcpu->run;
}

static void test_valid(void)
{
	struct kvm_vcpu_events events;
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	start();
	ASSERT_EQ(sys_cap(KVM_CAP_SYNC_REGS) & ALL, ALL);
	/* Not asked for: not written */
	memset(&run->s, 0x5a, sizeof(run->s));
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	for (unsigned int i = 0; i < sizeof(run->s); i++)
		ASSERT_EQ(((uint8_t *)&run->s)[i], 0x5a);
	vcpu_run_sync(vcpu, 0x11);

	run->kvm_valid_regs = ALL;
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &events);
	ASSERT(!memcmp(&run->s.regs.regs, &regs, sizeof(regs)));
	ASSERT(!memcmp(&run->s.regs.sregs, &sregs, sizeof(sregs)));
	ASSERT(!memcmp(&run->s.regs.events, &events, sizeof(events)));
	ASSERT_EQ(regs.rbx, 0x11);

	/* One kind alone */
	vcpu_run_sync(vcpu, 0x11);
	run->kvm_valid_regs = KVM_SYNC_X86_REGS;
	memset(&run->s, 0x5a, sizeof(run->s));
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT(!memcmp(&run->s.regs.regs, &regs, sizeof(regs)));
	ASSERT_EQ(*(uint8_t *)&run->s.regs.sregs, 0x5a);
	ASSERT_EQ(*(uint8_t *)&run->s.regs.events, 0x5a);

	/* KVM_RUN that only completes the exit shows them too */
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT(!memcmp(&run->s.regs.regs, &regs, sizeof(regs)));
}

static void test_dirty(void)
{
	struct kvm_sregs sregs;

	start();
	run->kvm_valid_regs = ALL;
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	/* Changed, but not said so: the guest's stay */
	run->s.regs.regs.rbx = 0x22;
	vcpu_run_sync(vcpu, 0x11);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	run->s.regs.regs.rbx = 0x33;
	run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	vcpu_run_sync(vcpu, 0x33);
	ASSERT_EQ(run->kvm_dirty_regs, 0);

	/* System registers; without seeing them */
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	run->kvm_valid_regs = 0;
	run->s.regs.sregs.cr2 = 0x123456;
	run->s.regs.sregs.cr4 |= CR4_DE;
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	vcpu_run_sync(vcpu, 0x11);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	ASSERT_EQ(sregs.cr2, 0x123456);
	ASSERT(sregs.cr4 & CR4_DE);
	ASSERT_EQ(run->kvm_dirty_regs, 0);

	/* Events: an NMI */
	run->kvm_valid_regs = ALL;
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(run->s.regs.events.nmi.masked, 0);
	run->s.regs.events.nmi.masked = 1;
	run->kvm_dirty_regs = KVM_SYNC_X86_EVENTS;
	vcpu_run_sync(vcpu, 0x11);
	ASSERT_EQ(run->s.regs.events.nmi.masked, 1);
}

static void test_bad(void)
{
	struct kvm_sregs sregs;

	start();
	for (int bit = 3; bit < 64; bit++) {
		run->kvm_valid_regs = BIT(bit);
		ASSERT_EQ(vcpu_run_raw(vcpu), -EINVAL);
		run->kvm_valid_regs = 0;
		run->kvm_dirty_regs = BIT(bit) | KVM_SYNC_X86_REGS;
		ASSERT_EQ(vcpu_run_raw(vcpu), -EINVAL);
		ASSERT_EQ(run->kvm_dirty_regs, BIT(bit) | KVM_SYNC_X86_REGS);
		run->kvm_dirty_regs = 0;
	}
	run->kvm_valid_regs = ALL;
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	/* What the ioctl refuses is refused, and the guest not run */
	run->s.regs.sregs.cr0 |= BIT(40);
	run->kvm_dirty_regs = KVM_SYNC_X86_SREGS;
	ASSERT_EQ(vcpu_run_raw(vcpu), -EINVAL);
	ASSERT(run->kvm_dirty_regs & KVM_SYNC_X86_SREGS);
	run->s.regs.sregs = sregs;
	run->s.regs.events.exception.nr = 99;
	run->s.regs.events.exception.injected = 1;
	run->kvm_dirty_regs = KVM_SYNC_X86_EVENTS;
	ASSERT_EQ(vcpu_run_raw(vcpu), -EINVAL);
	run->kvm_dirty_regs = 0;
	vcpu_run_sync(vcpu, 0x11);
}

/* Another thread writes to the page all the time: KVM_RUN ends somehow, the host is well, and so is the next VM */
static volatile bool racer_ends;

static void *racer(void *arg)
{
	unsigned int seed = 1;

	while (!racer_ends) {
		volatile struct kvm_run *r = arg;

		switch (rand_r(&seed) % 6) {
		case 0:
			r->kvm_dirty_regs = rand_r(&seed) % 8;
			break;
		case 1:
			r->s.regs.events.exception.nr = rand_r(&seed);
			r->s.regs.events.exception.injected = rand_r(&seed) % 2;
			break;
		case 2:
			r->s.regs.sregs.cr4 ^= BIT(rand_r(&seed) % 24);
			break;
		case 3:
			r->s.regs.sregs.cr0 ^= BIT(rand_r(&seed) % 32);
			break;
		case 4:
			r->s.regs.events.interrupt.injected = rand_r(&seed) % 2;
			r->s.regs.events.flags = rand_r(&seed) % 64;
			break;
		case 5:
			r->s.regs.sregs.interrupt_bitmap[rand_r(&seed) % 4] = rand_r(&seed);
			r->s.regs.regs.rip ^= rand_r(&seed) % 16;
			break;
		}
	}
	return NULL;
}

static void no_action(int signal)
{
	(void)signal;
}

/* A guest whose registers were raced with may loop for ever: signals take it out of that. */
static timer_t kick_main(pthread_t *thread)
{
	static const struct itimerspec often = { .it_interval.tv_nsec = 5000000, .it_value.tv_nsec = 5000000 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2 };
	struct sigaction action = { .sa_handler = no_action };
	sigset_t set;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	ASSERT_EQ(sigaction(SIGUSR2, &action, NULL), 0);
	ASSERT_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	ASSERT_EQ(pthread_create(thread, NULL, racer, run), 0);
	ASSERT_EQ(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
	ASSERT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
	ASSERT_EQ(timer_settime(timer, 0, &often, NULL), 0);
	return timer;
}

static void race(volatile unsigned int *runs)
{
	uint64_t end = now_ns() + 3000000000ull;
	pthread_t thread;
	timer_t timer;

	start();
	run->kvm_valid_regs = ALL;
	timer = kick_main(&thread);
	for (unsigned int i = 0; now_ns() < end; i++) {
		vcpu_run_raw(vcpu);
		(*runs)++;
		if (i % 16 == 0)
			vcpu_setup_long(vcpu, guest_report, 0);
		/* the set-up takes low memory each time */
		vm->alloc = i % 256 ? vm->alloc : 0x100000;
	}
	racer_ends = true;
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_EQ(timer_delete(timer), 0);
}

/* In a process of its own: what a guest runs from a random RIP may overwrite this program, which is its memory, too. */
static void test_race(void)
{
	volatile unsigned int *runs = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child;

	ASSERT(runs != MAP_FAILED);
	child = ASSERT_OK(fork());
	if (!child) {
		race(runs);
		_exit(0);
	}
	ASSERT_EQ(waitpid(child, NULL, 0), child);
	ASSERT_LE(100, *runs);
	start();
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	vcpu_run_sync(vcpu, 0x11);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(valid),
		TEST(dirty),
		TEST(bad),
		TEST(race),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
