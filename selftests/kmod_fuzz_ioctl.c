// SPDX-License-Identifier: GPL-2.0
/*
 * Throws random ioctls with random arguments at the device, VMs and vCPUs, from several threads, with junk vCPU state and
 * junk guest code run in between. Passes when every process of it can be ended in time; whether the kernel stayed healthy
 * shows in its log (selftests/host/run looks there).
 *
 * PVHV_FUZZ_SECONDS (default 10) bounds the time, PVHV_FUZZ_SEED repeats a run.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm_new.h"
#include "vm.h"

#define ARENA_SIZE	(4ul << 20)	/* guest memory of all VMs, and where pointers point */
#define ROUND_MS	1500

static uint64_t rng;
static uint8_t *arena;
static int fds[24];
static unsigned int nr_fds;
static struct kvm_run *runs[8];
static unsigned int nr_runs;

static uint64_t rnd(void)
{
	/* Shared by threads: races only make it more random */
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng;
}

/* Numbers that are more likely to hurt than random ones */
static uint64_t nasty(void)
{
	static const uint64_t values[] = {
		0, 1, 2, 3, 4, 5, 8, 16, 0x20, 0x40, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x1001, 0x2000, 0xffff, 0x10000,
		0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff, 0x8000000000000000, ~0ull, ~0xfffull,
		0xfee00000, 0xfec00000, 0xfffff000, 0x7ffffffff000, 0x800000000000, 0xffff800000000000, 0x4b564d00, 0xc0000080,
		0x800, 0x830, 0x6e0, 0x200000, 0x1fffff, 1ull << 40, 1ull << 52,
	};

	switch (rnd() % 4) {
	case 0:
		return values[rnd() % ARRAY_SIZE(values)];
	case 1:
		return values[rnd() % ARRAY_SIZE(values)] + (int64_t)(rnd() % 17) - 8;
	case 2:
		return rnd() % 256;
	default:
		return rnd() >> rnd() % 64;
	}
}

static const unsigned long sys_cmds[] = {
	KVM_GET_API_VERSION, KVM_CREATE_VM, KVM_CHECK_EXTENSION, KVM_GET_VCPU_MMAP_SIZE, KVM_GET_MSR_INDEX_LIST,
	KVM_GET_MSR_FEATURE_INDEX_LIST, KVM_GET_SUPPORTED_CPUID, KVM_GET_EMULATED_CPUID, KVM_GET_MSRS,
	KVM_X86_GET_MCE_CAP_SUPPORTED, KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR,
};

static const unsigned long vm_cmds[] = {
	KVM_CREATE_VCPU, KVM_CHECK_EXTENSION, KVM_SET_USER_MEMORY_REGION, KVM_GET_DIRTY_LOG, KVM_CLEAR_DIRTY_LOG,
	KVM_SET_TSS_ADDR, KVM_SET_IDENTITY_MAP_ADDR, KVM_CREATE_IRQCHIP, KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_GET_IRQCHIP,
	KVM_SET_IRQCHIP, KVM_CREATE_PIT2, KVM_GET_PIT2, KVM_SET_PIT2, KVM_REINJECT_CONTROL, KVM_SET_GSI_ROUTING,
	KVM_SIGNAL_MSI, KVM_IRQFD, KVM_IOEVENTFD, KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_REGISTER_COALESCED_MMIO,
	KVM_UNREGISTER_COALESCED_MMIO, KVM_ENABLE_CAP, KVM_GET_STATS_FD, KVM_SET_BOOT_CPU_ID, KVM_X86_SET_MSR_FILTER,
	KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ,
};

static const unsigned long vcpu_cmds[] = {
	KVM_RUN, KVM_RUN, KVM_RUN, KVM_RUN, KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_SREGS2,
	KVM_SET_SREGS2, KVM_GET_FPU, KVM_SET_FPU, KVM_GET_XSAVE, KVM_SET_XSAVE, KVM_GET_XSAVE2, KVM_GET_XCRS, KVM_SET_XCRS,
	KVM_GET_MSRS, KVM_SET_MSRS, KVM_SET_CPUID2, KVM_GET_CPUID2, KVM_SET_CPUID, KVM_GET_LAPIC, KVM_SET_LAPIC,
	KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_MP_STATE, KVM_SET_MP_STATE, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
	KVM_SET_TSC_KHZ, KVM_GET_TSC_KHZ, KVM_INTERRUPT, KVM_NMI, KVM_SET_SIGNAL_MASK, KVM_TRANSLATE, KVM_SET_GUEST_DEBUG,
	KVM_KVMCLOCK_CTRL, KVM_TPR_ACCESS_REPORTING, KVM_SET_VAPIC_ADDR, KVM_ENABLE_CAP, KVM_GET_STATS_FD, KVM_SMI,
	KVM_X86_SETUP_MCE, KVM_X86_SET_MCE, KVM_GET_NESTED_STATE, KVM_SET_NESTED_STATE, KVM_SET_DEVICE_ATTR,
	KVM_GET_DEVICE_ATTR, KVM_HAS_DEVICE_ATTR, KVM_PRE_FAULT_MEMORY,
};

static void add_fd(int fd)
{
	if (fd < 0)
		return;
	if (nr_fds < ARRAY_SIZE(fds)) {
		fds[nr_fds++] = fd;
	} else {
		unsigned int i = 4 + rnd() % (ARRAY_SIZE(fds) - 4);

		close(fds[i]);
		fds[i] = fd;
	}
}

static void junk_bytes(uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t v = rnd() % 3 ? nasty() : rnd();

		memcpy(p + i, &v, n - i < 8 ? n - i : 8);
	}
}

/* A block for the ioctl's structure; often the last one read with a few changes, so that state is nearly valid */
static void *argument(unsigned long cmd)
{
	static __thread uint64_t buf[8192 / 8];
	size_t size = cmd >> 16 & 0x3fff;

	switch (rnd() % 8) {
	case 0:
		return (void *)nasty();
	case 1:
		return arena + rnd() % ARENA_SIZE;
	case 2:
	case 3:
		junk_bytes((uint8_t *)buf, size + 64 < sizeof(buf) ? size + 64 : sizeof(buf));
		return buf;
	default:
		for (int i = rnd() % 4; i > 0; i--)
			buf[rnd() % (size / 8 + 1) % ARRAY_SIZE(buf)] = nasty();
		return buf;
	}
}

/* Some ioctls want more sense than chance gives */
static void *sensible(unsigned long cmd, void *arg, uint64_t *room)
{
	switch (cmd) {
	case KVM_SET_USER_MEMORY_REGION: {
		struct kvm_userspace_memory_region *r = (void *)room;

		*r = (struct kvm_userspace_memory_region){
			.slot = rnd() % 6,
			.flags = rnd() % 4,
			.guest_phys_addr = (rnd() % 8) << 20,
			.memory_size = (rnd() % 5) << 18,
			.userspace_addr = (uintptr_t)arena + (rnd() % 8 << 18),
		};
		return r;
	}
	case KVM_GET_DIRTY_LOG: {
		struct kvm_dirty_log *l = (void *)room;

		*l = (struct kvm_dirty_log){ .slot = rnd() % 6, .dirty_bitmap = arena };
		return l;
	}
	case KVM_CREATE_VCPU:
		return (void *)(rnd() % 5);
	case KVM_IRQFD: {
		struct kvm_irqfd *f = (void *)room;

		*f = (struct kvm_irqfd){ .fd = fds[rnd() % nr_fds], .gsi = rnd() % 30, .flags = rnd() % 4 };
		return f;
	}
	case KVM_IOEVENTFD: {
		struct kvm_ioeventfd *f = (void *)room;

		*f = (struct kvm_ioeventfd){
			.fd = fds[rnd() % nr_fds], .addr = nasty(), .len = rnd() % 9, .flags = rnd() % 8, .datamatch = rnd() % 3,
		};
		return f;
	}
	case KVM_ENABLE_CAP: {
		struct kvm_enable_cap *c = (void *)room;

		*c = (struct kvm_enable_cap){ .cap = rnd() % 240, .args = { nasty(), nasty() } };
		return c;
	}
	default:
		return arg;
	}
}

static void one_call(void)
{
	int fd = fds[rnd() % nr_fds], ret;
	uint64_t room[16];
	unsigned long cmd;
	void *arg;

	switch (rnd() % 16) {
	case 0:
		cmd = sys_cmds[rnd() % ARRAY_SIZE(sys_cmds)];
		break;
	case 1 ... 6:
		cmd = vm_cmds[rnd() % ARRAY_SIZE(vm_cmds)];
		break;
	case 7:
		cmd = _IOC(rnd() % 4, KVMIO, rnd() % 256, rnd() % 64);
		break;
	default:
		cmd = vcpu_cmds[rnd() % ARRAY_SIZE(vcpu_cmds)];
	}
	arg = argument(cmd);
	if (cmd == KVM_RUN)
		arg = rnd() % 32 ? 0 : arg;
	else if (rnd() % 4)
		arg = sensible(cmd, arg, room);
	/* Big read-ins of junk would overwrite the program's own memory; that is no test */
	ret = ioctl(fd, cmd, arg);
	if (ret < 0)
		return;
	switch (cmd) {
	case KVM_CREATE_VM:
		add_fd(ret);
		break;
	case KVM_GET_STATS_FD:
		junk_bytes((uint8_t *)room, 16);
		pread(ret, room, sizeof(room), room[0] % 8192);
		close(ret);
		break;
	case KVM_CREATE_VCPU:
		add_fd(ret);
		if (nr_runs < ARRAY_SIZE(runs)) {
			void *run = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ret, 0);

			if (run != MAP_FAILED)
				runs[nr_runs++] = run;
		}
		break;
	}
}

static volatile bool end;

/* Registers by struct kvm_run; most random bits there would only make KVM_RUN refuse */
static void junk_sync_regs(struct kvm_run *run)
{
	junk_bytes((void *)&run->s.regs, rnd() % sizeof(run->s.regs));
	run->kvm_valid_regs = rnd() % 8;
	run->kvm_dirty_regs = rnd() % 8;
}

static void *caller(void *arg)
{
	while (!end) {
		one_call();
		if (nr_runs && rnd() % 64 == 0)
			junk_sync_regs(runs[rnd() % nr_runs]);
		if (nr_runs && rnd() % 8 == 0)
			((volatile uint8_t *)runs[rnd() % nr_runs])[rnd() % (rnd() % 2 ? 256 : 12288)] = nasty();
		if (rnd() % 64 == 0)
			junk_bytes(arena + (rnd() % ARENA_SIZE & ~0xfffull), 4096);
		if (rnd() % 256 == 0)
			madvise(arena + (rnd() % ARENA_SIZE & ~0xfffull), 4096, MADV_DONTNEED);
	}
	return NULL;
}

static void alarm_handler(int sig)
{
}

/* One process: some seconds of calls. What it does to itself does not matter. */
static void fuzz_child(uint64_t seed)
{
	struct itimerval tick = { .it_interval.tv_usec = 3000, .it_value.tv_usec = 3000 };
	struct sigaction sa = { .sa_handler = alarm_handler };
	struct rlimit core = { 0 }, files = { 200, 200 };
	uint64_t stop = now_ns() + ROUND_MS * 1000000ull;
	pthread_t t[2];
	int null = open("/dev/null", O_RDWR);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setrlimit(RLIMIT_CORE, &core);
	setrlimit(RLIMIT_NOFILE, &files);
	dup2(null, 0);
	rng = seed * 2 + 1;
	arena = mmap_aligned(ARENA_SIZE, HUGE_SIZE);
	for (size_t i = 0; i < ARENA_SIZE; i += 4096 * (1 + rnd() % 16))
		junk_bytes(arena + i, 4096);
	add_fd(sys_fd());
	add_fd(eventfd(0, EFD_NONBLOCK));
	add_fd(eventfd(5, EFD_NONBLOCK | EFD_SEMAPHORE));
	add_fd(null);
	add_fd(ioctl(sys_fd(), KVM_CREATE_VM, 0));
	/* A VM that works to begin with, most of the time */
	if (rnd() % 4) {
		int vm = fds[4], vcpu;
		struct kvm_userspace_memory_region r = { .memory_size = ARENA_SIZE, .userspace_addr = (uintptr_t)arena };

		if (rnd() % 2)
			ioctl(vm, KVM_CREATE_IRQCHIP, 0);
		ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
		vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
		if (vcpu >= 0) {
			struct kvm_cpuid2 *cpuid = sys_supported_cpuid();
			struct kvm_sregs sregs;

			ioctl(vcpu, KVM_SET_CPUID2, cpuid);
			ioctl(vcpu, KVM_GET_SREGS, &sregs);
			sregs.cs.base = sregs.cs.selector = 0;
			ioctl(vcpu, KVM_SET_SREGS, &sregs);
			runs[nr_runs++] = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
			add_fd(vcpu);
		}
	}
	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &tick, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, caller, NULL);
	while (now_ns() < stop)
		one_call();
	_exit(0);
}

static unsigned int env_number(const char *name, unsigned int dflt)
{
	const char *v = getenv(name);

	return v ? strtoul(v, NULL, 0) : dflt;
}

static void test_fuzz(void)
{
	unsigned int seconds = env_number("PVHV_FUZZ_SECONDS", 10), n = 0;
	uint64_t seed = env_number("PVHV_FUZZ_SEED", now_ns()), stop = now_ns() + seconds * 1000000000ull;

	sys_fd();	/* skips without device */
	tap_diag("PVHV_FUZZ_SEED=%u", (unsigned int)seed);
	do {
		uint64_t limit;
		int status;
		pid_t pid = fork();

		ASSERT(pid >= 0);
		if (!pid)
			fuzz_child((unsigned int)seed + n);
		limit = now_ns() + (ROUND_MS + 500) * 1000000ull;
		while (waitpid(pid, &status, WNOHANG) != pid) {
			if (now_ns() > limit) {
				/* Blocked in the kernel or stopped in itself: a fatal signal ends it in any case */
				kill(pid, SIGKILL);
				limit = now_ns() + 30000000000ull;
				while (waitpid(pid, &status, WNOHANG) != pid) {
					if (now_ns() > limit)
						FAIL("process %d of seed %u cannot be killed", n, (unsigned int)seed);
					sleep_ms(10);
				}
				break;
			}
			sleep_ms(5);
		}
		n++;
	} while (now_ns() < stop);
	tap_diag("%u processes", n);
}

/* And the device works as before */
static void guest_nothing(uint64_t arg)
{
}

static void test_works_afterwards(void)
{
	struct vm *vm = vm_create(VM_IRQCHIP | VM_PIT);

	vcpu_run_done(vcpu_add(vm, 0, guest_nothing, 0));
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	const struct tap_test tests[] = {
		TEST_TIMEOUT(fuzz, env_number("PVHV_FUZZ_SECONDS", 10) + 90),
		TEST(works_afterwards),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
