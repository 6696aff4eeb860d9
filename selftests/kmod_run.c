// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies KVM_RUN: the exits a guest causes (port I/O in all forms, MMIO, HLT, shutdown), how the next KVM_RUN completes
 * them, immediate_exit, signals, the signal mask, and the fields of struct kvm_run around them.
 */
#include <linux/keyctl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "vm.h"

#define PORT	0x2f0

static struct vm *vm;
static struct vcpu *vcpu;

static void start(void (*fn)(uint64_t))
{
	vm = vm_create(0);
	vcpu = vcpu_add(vm, 0, fn, 0);
}

static void *io_data(void)
{
	return (char *)vcpu->run + vcpu->run->io.data_offset;
}

static void expect_io(int direction, unsigned int size, unsigned int count)
{
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.direction, direction);
	ASSERT_EQ(vcpu->run->io.port, PORT);
	ASSERT_EQ(vcpu->run->io.size, size);
	ASSERT_EQ(vcpu->run->io.count, count);
}

static void guest_io_out(uint64_t arg)
{
	outb(PORT, 0x12);
	outw(PORT, 0x3456);
	outl(PORT, 0x789abcde);
	/* Immediate port numbers are another opcode */
	__asm__ volatile("outb %%al, $0x71" : : "a"(0x55));
	__asm__ volatile("outl %%eax, $0x71" : : "a"(0x11223344));
}

static void test_io_out(void)
{
	uint32_t v;

	start(guest_io_out);
	expect_io(KVM_EXIT_IO_OUT, 1, 1);
	ASSERT_EQ(*(uint8_t *)io_data(), 0x12);
	expect_io(KVM_EXIT_IO_OUT, 2, 1);
	ASSERT_EQ(*(uint16_t *)io_data(), 0x3456);
	expect_io(KVM_EXIT_IO_OUT, 4, 1);
	memcpy(&v, io_data(), 4);
	ASSERT_EQ(v, 0x789abcdeu);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.port, 0x71);
	ASSERT_EQ(*(uint8_t *)io_data(), 0x55);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	memcpy(&v, io_data(), 4);
	ASSERT_EQ(v, 0x11223344u);
	vcpu_run_done(vcpu);
}

static void guest_io_in(uint64_t arg)
{
	uint64_t rax;

	/* Byte and word leave the rest of RAX alone; a doubleword clears the upper half */
	__asm__ volatile("inb %%dx, %%al" : "=a"(rax) : "a"(0xffffffffffffffffull), "d"(PORT));
	GUEST_ASSERT_EQ(rax, 0xffffffffffffff5aull);
	__asm__ volatile("inw %%dx, %%ax" : "=a"(rax) : "a"(0xffffffffffffffffull), "d"(PORT));
	GUEST_ASSERT_EQ(rax, 0xffffffffffff1234ull);
	__asm__ volatile("inl %%dx, %%eax" : "=a"(rax) : "a"(0xffffffffffffffffull), "d"(PORT));
	GUEST_ASSERT_EQ(rax, 0x89abcdefull);
}

static void test_io_in(void)
{
	uint32_t v = 0x89abcdef;

	start(guest_io_in);
	expect_io(KVM_EXIT_IO_IN, 1, 1);
	*(uint8_t *)io_data() = 0x5a;
	expect_io(KVM_EXIT_IO_IN, 2, 1);
	*(uint16_t *)io_data() = 0x1234;
	expect_io(KVM_EXIT_IO_IN, 4, 1);
	memcpy(io_data(), &v, 4);
	vcpu_run_done(vcpu);
}

#define STRING_MAX	16384
static uint8_t string_buf[STRING_MAX] __attribute__((aligned(4096)));
static volatile struct {
	uint64_t offset, count;		/* where in string_buf, how many elements */
	uint32_t size;
	bool in, down, rep;
} s;

static void guest_string(uint64_t arg)
{
	char *p = (char *)string_buf + s.offset, *start = p;
	uint64_t n = s.count;
	int64_t moved = (int64_t)s.size * (int64_t)(s.rep ? s.count : 1);

	if (s.down)
		__asm__ volatile("std");
	switch (s.size | s.in << 3 | s.rep << 4) {
	case 0x01:
		__asm__ volatile("outsb" : "+S"(p) : "d"(PORT) : "memory");
		break;
	case 0x02:
		__asm__ volatile("outsw" : "+S"(p) : "d"(PORT) : "memory");
		break;
	case 0x04:
		__asm__ volatile("outsl" : "+S"(p) : "d"(PORT) : "memory");
		break;
	case 0x09:
		__asm__ volatile("insb" : "+D"(p) : "d"(PORT) : "memory");
		break;
	case 0x0a:
		__asm__ volatile("insw" : "+D"(p) : "d"(PORT) : "memory");
		break;
	case 0x0c:
		__asm__ volatile("insl" : "+D"(p) : "d"(PORT) : "memory");
		break;
	case 0x11:
		__asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	case 0x12:
		__asm__ volatile("rep outsw" : "+S"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	case 0x14:
		__asm__ volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	case 0x19:
		__asm__ volatile("rep insb" : "+D"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	case 0x1a:
		__asm__ volatile("rep insw" : "+D"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	case 0x1c:
		__asm__ volatile("rep insl" : "+D"(p), "+c"(n) : "d"(PORT) : "memory");
		break;
	}
	__asm__ volatile("cld");
	GUEST_ASSERT_EQ(p - start, s.down ? -moved : moved);
	if (s.rep)
		GUEST_ASSERT_EQ(n, 0ull);
}

/* One string instruction; the number of elements an exit carries is the module's choice */
static void string_one(uint64_t offset, uint64_t count, uint32_t size, bool in, bool down, bool rep)
{
	uint64_t total = rep ? count : 1, seen = 0;
	uint8_t model[STRING_MAX];
	struct ucall uc;

	s.offset = offset;
	s.count = count;
	s.size = size;
	s.in = in;
	s.down = down;
	s.rep = rep;
	for (unsigned int i = 0; i < STRING_MAX; i++)
		string_buf[i] = i * 7 + (i >> 8);
	memcpy(model, string_buf, STRING_MAX);
	vcpu_restart(vcpu, guest_string, 0);
	while (vcpu_run_ucall(vcpu, &uc) == UCALL_NONE) {
		ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
		ASSERT_EQ(vcpu->run->io.direction, in ? KVM_EXIT_IO_IN : KVM_EXIT_IO_OUT);
		ASSERT_EQ(vcpu->run->io.port, PORT);
		ASSERT_EQ(vcpu->run->io.size, size);
		ASSERT_GT(vcpu->run->io.count, 0u);
		for (unsigned int i = 0; i < vcpu->run->io.count; i++, seen++) {
			uint8_t *e = (uint8_t *)io_data() + i * size;
			uint64_t at = down ? offset - seen * size : offset + seen * size;

			ASSERT_LT(seen, total);
			if (in)
				for (unsigned int b = 0; b < size; b++)
					e[b] = model[at + b] = seen * 3 + b + 1;
			else if (memcmp(e, model + at, size))
				FAIL("element %llu of size %u differs", (unsigned long long)seen, size);
		}
	}
	ASSERT_EQ(uc.cmd, UCALL_DONE);
	ASSERT_EQ(seen, total);
	for (unsigned int i = 0; i < STRING_MAX; i++)
		if (string_buf[i] != model[i])
			FAIL("byte %u of memory is 0x%x, not 0x%x", i, string_buf[i], model[i]);
}

static void test_io_string(void)
{
	start(guest_string);
	for (uint32_t size = 1; size <= 4; size *= 2) {
		for (int in = 0; in < 2; in++) {
			string_one(64, 1, size, in, false, false);
			string_one(64, 0, size, in, false, true);
			string_one(64, 1, size, in, false, true);
			string_one(64, 17, size, in, false, true);
			string_one(4096 - 6, 9, size, in, false, true);
			string_one(1024, 17, size, in, true, true);
		}
	}
	/* More than a page, unaligned: elements cross pages */
	string_one(4093, 2100, 4, false, false, true);
	string_one(4095, 1500, 2, true, false, true);
	vm_destroy(vm);
}

static uint8_t shrunk[8];

static void guest_ins_shrunk(uint64_t arg)
{
	void *to = shrunk;
	uint64_t n = 5;

	__asm__ volatile("rep insb" : "+D"(to), "+c"(n) : "d"(PORT) : "memory");
	GUEST_ASSERT_EQ(n, 0ull);
	GUEST_ASSERT_EQ(to - (void *)shrunk, 2ll);
}

/* Userspace lowers the counter of a string instruction that is in flight: it ends there, nothing runs away */
static void test_io_string_shrunk(void)
{
	struct kvm_regs regs;

	start(guest_ins_shrunk);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rcx, 5);
	ASSERT_EQ(vcpu->run->io.count, 5);
	memcpy(io_data(), "abcde", 5);
	regs.rcx = 2;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	vcpu_run_done(vcpu);
	ASSERT(!memcmp(shrunk, "ab\0\0", 4));
}

static void guest_hlt(uint64_t arg)
{
	__asm__ volatile("hlt");
	GUEST_SYNC(1);
}

static void test_hlt(void)
{
	struct kvm_regs before, after;

	start(guest_hlt);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &before);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &after);
	ASSERT_EQ(*(uint8_t *)(uintptr_t)(after.rip - 1), 0xf4);
	ASSERT_EQ(vcpu->run->if_flag, 0);
	vcpu_run_sync(vcpu, 1);
	vcpu_run_done(vcpu);
}

static void guest_hlt_if(uint64_t arg)
{
	__asm__ volatile("sti; hlt");
}

static void test_hlt_fields(void)
{
	start(guest_hlt_if);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	ASSERT_EQ(vcpu->run->if_flag, 1);
	ASSERT_EQ(vcpu->run->ready_for_interrupt_injection, 1);
	ASSERT_EQ(vcpu->run->cr8, 0ull);
	vcpu_run_done(vcpu);
}

static void guest_mmio(uint64_t arg)
{
	*(volatile uint8_t *)MMIO_HOLE = 0x11;
	*(volatile uint16_t *)(MMIO_HOLE + 2) = 0x2222;
	*(volatile uint32_t *)(MMIO_HOLE + 4) = 0x33333333;
	*(volatile uint64_t *)(MMIO_HOLE + 8) = 0x4444444455555555ull;
	GUEST_ASSERT_EQ(*(volatile uint8_t *)(MMIO_HOLE + 16), 0x1);
	GUEST_ASSERT_EQ(*(volatile uint16_t *)(MMIO_HOLE + 16), 0x201);
	GUEST_ASSERT_EQ(*(volatile uint32_t *)(MMIO_HOLE + 16), 0x4030201u);
	GUEST_ASSERT_EQ(*(volatile uint64_t *)(MMIO_HOLE + 16), 0x807060504030201ull);
}

static void test_mmio(void)
{
	static const struct {
		uint64_t addr;
		unsigned int len;
		uint64_t data;
	} writes[] = {
		{ MMIO_HOLE, 1, 0x11 }, { MMIO_HOLE + 2, 2, 0x2222 }, { MMIO_HOLE + 4, 4, 0x33333333 },
		{ MMIO_HOLE + 8, 8, 0x4444444455555555ull },
	};
	uint64_t v;

	start(guest_mmio);
	for (unsigned int i = 0; i < 4; i++) {
		vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
		ASSERT_EQ(vcpu->run->mmio.phys_addr, writes[i].addr);
		ASSERT_EQ(vcpu->run->mmio.is_write, 1);
		ASSERT_EQ(vcpu->run->mmio.len, writes[i].len);
		v = 0;
		memcpy(&v, vcpu->run->mmio.data, writes[i].len);
		ASSERT_EQ(v, writes[i].data);
	}
	v = 0x807060504030201ull;
	for (unsigned int i = 0; i < 4; i++) {
		vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
		ASSERT_EQ(vcpu->run->mmio.phys_addr, MMIO_HOLE + 16);
		ASSERT_EQ(vcpu->run->mmio.is_write, 0);
		ASSERT_EQ(vcpu->run->mmio.len, 1u << i);
		memcpy(vcpu->run->mmio.data, &v, 8);
	}
	vcpu_run_done(vcpu);
}

static void guest_shutdown(uint64_t arg)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) idt = { 0, 0 };

	__asm__ volatile("lidt %0; ud2" : : "m"(idt));
}

static void test_shutdown(void)
{
	start(guest_shutdown);
	vcpu_run_exit(vcpu, KVM_EXIT_SHUTDOWN);
}

static void test_immediate_exit(void)
{
	struct kvm_regs before, after;

	start(guest_io_out);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &before);
	vcpu->run->immediate_exit = 1;
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &after);
	ASSERT(!memcmp(&before, &after, sizeof(before)));
	vcpu->run->immediate_exit = 0;
	expect_io(KVM_EXIT_IO_OUT, 1, 1);
}

/* A pending exit is completed by KVM_RUN with immediate_exit: then, and not before, registers are as after it */
static void test_complete_io(void)
{
	struct kvm_regs regs;

	start(guest_io_in);
	expect_io(KVM_EXIT_IO_IN, 1, 1);
	*(uint8_t *)io_data() = 0x5a;
	vcpu_complete_io(vcpu);
	/* What it completed is still there to read: clients look at it after the fact */
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.size, 1);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rax, 0xffffffffffffff5aull);
	ASSERT_NE(*(uint8_t *)(uintptr_t)regs.rip, 0xec);	/* past the IN */
	/* and it is not completed twice */
	vcpu_complete_io(vcpu);
	expect_io(KVM_EXIT_IO_IN, 2, 1);
	*(uint16_t *)io_data() = 0x1234;
	expect_io(KVM_EXIT_IO_IN, 4, 1);
}

static void guest_mmio_read(uint64_t arg)
{
	uint64_t v;

	__asm__ volatile("mov (%1), %%eax; mov %%rax, %0; nop" : "=r"(v) : "r"(MMIO_HOLE), "a"(-1ull) : "memory");
	GUEST_ASSERT_EQ(v, 0xcafef00dull);
}

static void test_complete_mmio(void)
{
	uint32_t v = 0xcafef00d;
	struct kvm_regs regs;

	start(guest_mmio_read);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	memcpy(vcpu->run->mmio.data, &v, 4);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	ASSERT_EQ(regs.rax, 0xcafef00dull);
	vcpu_run_done(vcpu);
}

static volatile bool guest_spins, guest_may_end;

static void guest_spin(uint64_t arg)
{
	while (!guest_may_end)
		guest_spins = true;
}

static void catch(int sig, void (*fn)(int))
{
	struct sigaction sa = { .sa_handler = fn };

	sigaction(sig, &sa, NULL);
}

static void test_signal_running(void)
{
	start(guest_spin);
	alarm_every_ms(30);
	for (int i = 0; i < 5; i++) {
		uint64_t t = now_ns();

		ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
		ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
		ASSERT_LT(now_ns() - t, 5000000000ull);
	}
	alarm_every_ms(0);
	ASSERT(guest_spins);
	guest_may_end = true;
	vcpu_run_done(vcpu);
}

/* The same where HLT waits in the kernel */
static void guest_hlt_forever(uint64_t arg)
{
	for (;;)
		__asm__ volatile("hlt");
}

static void test_signal_halted(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_hlt_forever, 0);
	alarm_every_ms(30);
	for (int i = 0; i < 5; i++) {
		uint64_t t = now_ns();

		ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
		ASSERT_LT(now_ns() - t, 5000000000ull);
	}
}

static void set_run_mask(const sigset_t *set)
{
	char buf[sizeof(struct kvm_signal_mask) + 8];
	struct kvm_signal_mask *mask = (void *)buf;

	mask->len = 8;
	memcpy(mask->sigset, set, 8);
	VCPU_IOCTL(vcpu, KVM_SET_SIGNAL_MASK, mask);
}

static volatile sig_atomic_t signals_seen;

static void count_signal(int sig)
{
	signals_seen++;
}

/* Blocked outside, open during KVM_RUN: it ends KVM_RUN, and stays pending */
static void test_signal_mask(void)
{
	sigset_t blocked, open, pending;

	start(guest_spin);
	catch(SIGUSR2, count_signal);
	sigemptyset(&open);
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	set_run_mask(&open);
	kill(getpid(), SIGUSR2);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
	ASSERT_EQ(signals_seen, 0);
	sigpending(&pending);
	ASSERT(sigismember(&pending, SIGUSR2));
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
	ASSERT_EQ(signals_seen, 1);

	/* Open outside, blocked during KVM_RUN: it does not end KVM_RUN */
	set_run_mask(&blocked);
	guest_may_end = true;
	vcpu_run_done(vcpu);

	/* No mask again */
	VCPU_IOCTL(vcpu, KVM_SET_SIGNAL_MASK, NULL);
}

/*
 * Task work of the thread (here: a new session keyring, from a child) is done on the way to userspace and back: nothing of it
 * shows in KVM_RUN's result.
 */
#define SHARED_GPA	0x40000000ul

static void guest_wait(uint64_t arg)
{
	while (!*(volatile bool *)SHARED_GPA)
		cpu_relax();
}

static void give_keyring(volatile bool *end)
{
	sleep_ms(100);		/* the parent is in the guest; if it is not, the test proves less */
	if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0)
		_exit(1);
	if (syscall(SYS_keyctl, KEYCTL_SESSION_TO_PARENT) < 0)
		_exit(2);
	sleep_ms(100);
	*end = true;
	_exit(0);
}

static void test_task_work(void)
{
	volatile bool *shared = mmap(NULL, HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	long before, after;
	sigset_t other;
	int status;
	pid_t pid;

	ASSERT(shared != MAP_FAILED);
	before = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0);
	if (before < 0 && errno == ENOSYS)
		SKIP("no keyrings in this kernel");
	start(guest_wait);
	vm_add_slot(vm, 2, 0, SHARED_GPA, HUGE_SIZE, (void *)shared);
	/* Unlike the thread's: so the mask really changes on the way in and out */
	sigemptyset(&other);
	sigaddset(&other, SIGUSR2);
	for (int masked = 0; masked < 2; masked++) {
		*shared = false;
		if (masked)
			set_run_mask(&other);
		vcpu_restart(vcpu, guest_wait, 0);
		pid = fork();
		ASSERT(pid >= 0);
		if (!pid)
			give_keyring(shared);
		ASSERT_EQ(vcpu_run_raw(vcpu), 0);
		ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
		after = ASSERT_OK(syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0));
		ASSERT_NE(after, before);
		before = after;
	}
}

/* An unblocked signal without a handler and a fatal one end the process in the guest */
static void test_signal_fatal(void)
{
	start(guest_spin);
	vcpu_start(vcpu);
	ASSERT(WAIT_FOR(guest_spins, 20000));
	_exit(KSFT_PASS);	/* the thread is in the guest */
}

/* RIP of an exit may be changed: an I/O instruction skipped by userspace */
static void guest_two_outs(uint64_t arg)
{
	outb(PORT, 1);
	outb(PORT, 2);
}

static void test_set_regs_between(void)
{
	struct kvm_regs regs;

	start(guest_two_outs);
	expect_io(KVM_EXIT_IO_OUT, 1, 1);
	vcpu_complete_io(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	regs.rip = (uintptr_t)guest_hlt;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	vcpu_run_sync(vcpu, 1);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(io_out),
		TEST(io_in),
		TEST(io_string),
		TEST(io_string_shrunk),
		TEST(hlt),
		TEST(hlt_fields),
		TEST(mmio),
		TEST(shutdown),
		TEST(immediate_exit),
		TEST(complete_io),
		TEST(complete_mmio),
		TEST(signal_running),
		TEST(signal_halted),
		TEST(signal_mask),
		TEST(task_work),
		TEST(signal_fatal),
		TEST(set_regs_between),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
