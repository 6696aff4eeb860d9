// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies ends of all kinds: file descriptors closed in every order, processes killed in the guest, descriptors that
 * live on in children, exec, mappings that outlive their vCPU, memory that goes first, exit with running vCPUs. After
 * each of them the module holds no more references than before.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;
static volatile bool guest_runs, guest_end;

static void guest_spin(uint64_t arg)
{
	while (!guest_end)
		guest_runs = true;
}

static void guest_one(uint64_t arg)
{
}

static const char *module_name(void)
{
	if (strstr(dev_path(), "pvhv"))
		return "pvhv";
	return access("/sys/module/kvm_amd", F_OK) ? "kvm_intel" : "kvm_amd";
}

/* References to the module; -1 where they cannot be read */
static int module_refs(void)
{
	char path[64], buf[16] = "";
	int fd, n = -1;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module_name());
	fd = open(path, O_RDONLY);
	if (fd >= 0 && read(fd, buf, sizeof(buf) - 1) > 0)
		n = atoi(buf);
	if (fd >= 0)
		close(fd);
	return n;
}

/* Runs fn in a child; afterwards all its references are gone, soon */
static int in_child(void (*fn)(void))
{
	int refs = module_refs(), status;
	pid_t pid = fork();

	if (!pid) {
		fn();
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	if (refs >= 0 && !WAIT_FOR(module_refs() <= refs, 10000))
		FAIL("%d references to the module left, %d before", module_refs(), refs);
	return status;
}

/* Every order of closing: device, VM, vCPU, run structure, guest memory, an irqfd's and an ioeventfd's eventfd, stats */
enum thing { DEV, VM, VCPU, RUN, MEM, IRQFD, IOEVENTFD, STATS, NR_THINGS };

static void close_in_order(const uint8_t *order)
{
	int fd[NR_THINGS];
	struct kvm_irqfd irqfd = { .gsi = 5 };
	struct kvm_ioeventfd io = { .addr = 0x2f0, .len = 1, .flags = KVM_IOEVENTFD_FLAG_PIO };
	size_t run_size;
	void *run, *mem;

	fd[DEV] = dev_open();
	fd[VM] = ASSERT_OK(ioctl(fd[DEV], KVM_CREATE_VM, 0));
	ASSERT_OK(ioctl(fd[VM], KVM_CREATE_IRQCHIP, 0));
	fd[VCPU] = ASSERT_OK(ioctl(fd[VM], KVM_CREATE_VCPU, 0));
	run_size = ioctl(fd[DEV], KVM_GET_VCPU_MMAP_SIZE, 0);
	run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd[VCPU], 0);
	ASSERT(run != MAP_FAILED);
	mem = mmap_aligned(HUGE_SIZE, HUGE_SIZE);
	struct kvm_userspace_memory_region region = {
		.memory_size = HUGE_SIZE, .userspace_addr = (uintptr_t)mem, .flags = KVM_MEM_LOG_DIRTY_PAGES,
	};
	ASSERT_OK(ioctl(fd[VM], KVM_SET_USER_MEMORY_REGION, &region));
	irqfd.fd = fd[IRQFD] = eventfd(0, 0);
	ASSERT_OK(ioctl(fd[VM], KVM_IRQFD, &irqfd));
	io.fd = fd[IOEVENTFD] = eventfd(0, 0);
	ASSERT_OK(ioctl(fd[VM], KVM_IOEVENTFD, &io));
	fd[STATS] = ASSERT_OK(ioctl(fd[VM], KVM_GET_STATS_FD, 0));
	for (unsigned int i = 0; i < NR_THINGS; i++) {
		switch (order[i]) {
		case RUN:
			((volatile struct kvm_run *)run)->immediate_exit = 1;
			ASSERT_OK(munmap(run, run_size));
			break;
		case MEM:
			ASSERT_OK(munmap(mem, HUGE_SIZE));
			break;
		default:
			ASSERT_OK(close(fd[order[i]]));
		}
	}
}

static void all_orders(void)
{
	uint8_t order[NR_THINGS];

	/* 8! would take too long: each thing at each place, and a random choice */
	for (unsigned int first = 0; first < NR_THINGS; first++) {
		for (unsigned int i = 0; i < NR_THINGS; i++)
			order[i] = (first + i) % NR_THINGS;
		close_in_order(order);
		for (unsigned int i = 0; i < NR_THINGS; i++)
			order[i] = (first + NR_THINGS - i) % NR_THINGS;
		close_in_order(order);
	}
	for (int n = 0; n < 24; n++) {
		for (unsigned int i = 0; i < NR_THINGS; i++)
			order[i] = i;
		for (unsigned int i = NR_THINGS - 1; i; i--) {
			unsigned int j = rand() % (i + 1), t = order[i];

			order[i] = order[j];
			order[j] = t;
		}
		close_in_order(order);
	}
}

static void test_close_orders(void)
{
	ASSERT_EQ(in_child(all_orders), 0);
}

static void start_spinning(void)
{
	vm = vm_create(VM_IRQCHIP | VM_PIT);
	for (uint32_t i = 0; i < 3; i++) {
		vcpu = vcpu_add(vm, i, guest_spin, 0);
		vcpu_start(vcpu);
	}
	ASSERT(WAIT_FOR(guest_runs, 30000));
}

static void exit_while_running(void)
{
	start_spinning();
	_exit(0);
}

static void test_exit_running(void)
{
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(in_child(exit_while_running), 0);
}

static void killed_while_running(void)
{
	start_spinning();
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void test_kill_running(void)
{
	for (int i = 0; i < 3; i++) {
		int status = in_child(killed_while_running);

		ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	}
}

/* vCPUs asleep in HLT, waiting for a SIPI, in the middle of an exit */
static void guest_hlt(uint64_t arg)
{
	guest_runs = true;
	__asm__ volatile("cli; hlt");
}

static void killed_while_halted(void)
{
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_UNINITIALIZED };

	vm = vm_create(VM_IRQCHIP);
	vcpu_add(vm, 0, guest_hlt, 0);
	vcpu_add(vm, 1, guest_hlt, 0);
	VCPU_IOCTL(vm->vcpus[1], KVM_SET_MP_STATE, &mp);
	vcpu_start(vm->vcpus[0]);
	vcpu_start(vm->vcpus[1]);
	ASSERT(WAIT_FOR(guest_runs, 30000));
	sleep_ms(20);
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

static void test_kill_halted(void)
{
	int status = in_child(killed_while_halted);

	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* fd closed while another thread is in its KVM_RUN: the run goes on, the end comes with its end */
static void close_under_run(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_spin, 0);
	vcpu_start(vcpu);
	ASSERT(WAIT_FOR(guest_runs, 30000));
	ASSERT_OK(close(vm->fd));
	ASSERT_OK(close(vcpu->fd));
	guest_runs = false;
	ASSERT(WAIT_FOR(guest_runs, 30000));
	guest_end = true;
	vcpu_join(vcpu);
}

static void test_close_under_run(void)
{
	ASSERT_EQ(in_child(close_under_run), 0);
}

/* The run structure stays readable when everything else is gone */
static void mapping_outlives(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_one, 0);
	vcpu_run_done(vcpu);
	ASSERT_OK(close(vcpu->fd));
	ASSERT_OK(close(vm->fd));
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	vcpu->run->immediate_exit = 1;
	memset((void *)vcpu->run, 0x5a, vcpu->run_size);
	ASSERT_EQ(vcpu->run->immediate_exit, 0x5a);
}

static void test_mapping_outlives(void)
{
	ASSERT_EQ(in_child(mapping_outlives), 0);
}

/* Descriptors in a child keep the VM, though it is no use there, after its owner died */
static void child_keeps_fds(void)
{
	struct kvm_regs regs;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_one, 0);
	if (!fork()) {
		sleep_ms(100);
		if (ioctl(vcpu->fd, KVM_GET_REGS, &regs) != -1 || errno != EIO)
			tap_diag("the child's ioctl: errno %d", errno);
		_exit(0);
	}
	_exit(0);
}

static void test_forked_fds(void)
{
	ASSERT_EQ(in_child(child_keeps_fds), 0);
}

static void exec_something(void)
{
	start_spinning();
	execl("/proc/self/exe", "kmod_teardown", "-l", NULL);
	_exit(1);
}

/* exec closes them all (close-on-exec), with vCPUs running in other threads */
static void test_exec(void)
{
	int null = open("/dev/null", O_WRONLY), saved = dup(1), status;

	dup2(null, 1);
	status = in_child(exec_something);
	dup2(saved, 1);
	ASSERT_EQ(status, 0);
}

/* Guest memory goes before the VM, in a process that ends then */
static void memory_first(void)
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, guest_one, 0);
	vcpu_run_done(vcpu);
	vm_add_mem(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, 0x40000000, HUGE_SIZE * 4);
	ASSERT_OK(munmap(vm_hva(vm, 0x40000000), HUGE_SIZE * 4));
	ASSERT_OK(munmap(vm_hva(vm, 0), LOW_MEM_SIZE));
	ASSERT_EQ(vcpu_run_raw(vcpu), -EFAULT);
	vcpu->run->immediate_exit = 0;
}

static void test_memory_first(void)
{
	ASSERT_EQ(in_child(memory_first), 0);
}

/* A VM pins the module, even with the device closed */
static void test_module_pinned(void)
{
	int dev = dev_open(), fd;

	if (module_refs() < 0)
		SKIP("not a module");
	fd = ASSERT_OK(ioctl(dev, KVM_CREATE_VM, 0));
	close(dev);
	ASSERT_GE(module_refs(), 1);
	ASSERT_EQ(syscall(SYS_delete_module, module_name(), O_NONBLOCK), -1);
	if (errno == EPERM)
		SKIP("not root");
	ASSERT(errno == EWOULDBLOCK || errno == EBUSY);
	ASSERT_GE(ASSERT_OK(ioctl(fd, KVM_CREATE_VCPU, 0)), 0);
}

/* Creating and destroying many, several at a time */
static void *churn(void *arg)
{
	for (int i = 0; i < 12; i++) {
		uint8_t order[NR_THINGS] = { VM, VCPU, MEM, RUN, STATS, IOEVENTFD, DEV, IRQFD };

		close_in_order(order);
	}
	return NULL;
}

static void churn_all(void)
{
	pthread_t t[3];

	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, churn, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}

static void test_churn(void)
{
	ASSERT_EQ(in_child(churn_all), 0);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(close_orders),
		TEST(exit_running),
		TEST(kill_running),
		TEST(kill_halted),
		TEST(close_under_run),
		TEST(mapping_outlives),
		TEST(forked_fds),
		TEST(exec),
		TEST(memory_first),
		TEST(module_pinned),
		TEST(churn),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
