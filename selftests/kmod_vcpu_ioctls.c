// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the ioctls of a vCPU as ioctls: what is set is read back and reaches the guest; bad values, pointers, sizes and
 * states are refused and change nothing; threads that use one vCPU at once do each other no harm.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static void guest_nothing(uint64_t arg)
{
}

static void start(unsigned int flags)
{
	vm = vm_create(flags);
	vcpu = vcpu_add(vm, 0, guest_nothing, 0);
}

/* Guest code that adds one to every register and says so */
__asm__(".pushsection .text\n"
	"regs_guest:\n"
	"	inc %rax; inc %rbx; inc %rcx; inc %rdx; inc %rsi; inc %rdi; inc %rbp\n"
	"	inc %r8; inc %r9; inc %r10; inc %r11; inc %r12; inc %r13; inc %r14; inc %r15\n"
	"	stc; std\n"
	"	hlt\n"
	".popsection");

static void test_regs(void)
{
	extern const char regs_guest[];
	struct kvm_regs set, get;
	uint64_t *p = (uint64_t *)&set, *q = (uint64_t *)&get;

	start(0);
	for (unsigned int i = 0; i < 16; i++)
		p[i] = 0x1111111111111111ull * (i + 1) ^ 0x5a5a;
	set.rip = (uintptr_t)regs_guest;
	set.rflags = RFLAGS_FIXED | BIT(6);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &set);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &get);
	ASSERT(!memcmp(&set, &get, sizeof(set)));
	vcpu_run_exit(vcpu, KVM_EXIT_HLT);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &get);
	for (unsigned int i = 0; i < 16; i++)
		ASSERT_EQ(q[i], p[i] + (&p[i] != (uint64_t *)&set.rsp));
	/* the last INC decides; STC and STD are added */
	ASSERT_EQ(get.rflags & (BIT(0) | BIT(10) | BIT(1)), BIT(0) | BIT(10) | BIT(1));
	ASSERT_EQ(get.rflags & BIT(6), 0);
}

static bool same_segment(const struct kvm_segment *a, const struct kvm_segment *b)
{
	return a->base == b->base && a->limit == b->limit && a->selector == b->selector && a->type == b->type &&
	       a->present == b->present && a->dpl == b->dpl && a->db == b->db && a->s == b->s && a->l == b->l &&
	       a->g == b->g && a->avl == b->avl;
}

static bool same_sregs(const struct kvm_sregs *a, const struct kvm_sregs *b)
{
	const struct kvm_segment *x = &a->cs, *y = &b->cs;

	for (int i = 0; i < 6; i++)
		if (!same_segment(x + i, y + i))
			return false;
	return a->tr.base == b->tr.base && a->tr.selector == b->tr.selector && a->tr.limit == b->tr.limit &&
	       a->gdt.base == b->gdt.base && a->gdt.limit == b->gdt.limit && a->idt.base == b->idt.base &&
	       a->idt.limit == b->idt.limit && a->cr0 == b->cr0 && a->cr2 == b->cr2 && a->cr3 == b->cr3 &&
	       a->cr4 == b->cr4 && a->cr8 == b->cr8 && a->efer == b->efer && a->apic_base == b->apic_base;
}

static void test_sregs(void)
{
	struct kvm_sregs old, set, get;

	start(VM_IRQCHIP);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &old);
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &old);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &get);
	ASSERT(same_sregs(&old, &get));
	set = old;
	set.cr2 = 0xdeadbeef000;
	set.cr8 = 9;
	set.fs.base = 0x123456789000;
	set.gs.base = 0xffff812345678000;
	set.fs.selector = 0x43;
	set.fs.dpl = 3;
	set.es.limit = 0xfffff;
	set.es.g = 0;
	set.es.avl = 1;
	set.gdt.base = 0xffff800000001000;
	set.gdt.limit = 0x1234;
	set.idt.limit = 0x123;
	set.ldt.base = 0x5000;
	set.ldt.limit = 0x77;
	set.ldt.type = 2;
	set.ldt.present = 1;
	set.ldt.unusable = 0;
	set.apic_base = old.apic_base & ~APICBASE_ENABLE;
	set.cr4 |= CR4_PGE | CR4_DE;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &set);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &get);
	ASSERT(same_sregs(&set, &get));
	ASSERT_EQ(get.ldt.base, 0x5000);
	ASSERT_EQ(get.ldt.limit, 0x77);
	/* an unusable segment says so */
	set.es = (struct kvm_segment){ .unusable = 1 };
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &set);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &get);
	ASSERT_EQ(get.es.unusable, 1);
	/* and all that ran through leaves a vCPU that runs */
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &old);
	vcpu_run_done(vcpu);
}

static void refuse_sregs(const struct kvm_sregs *bad)
{
	struct kvm_sregs before, after;

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &before);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, bad), EINVAL);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &after);
	ASSERT(same_sregs(&before, &after));
}

static void test_bad_sregs(void)
{
	struct kvm_sregs old, s;

	start(VM_IRQCHIP);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &old);
	s = old;
	s.cr4 |= BIT(63);
	refuse_sregs(&s);
	s = old;
	s.cr4 |= BIT(15);
	refuse_sregs(&s);
	s = old;
	s.cr4 &= ~CR4_PAE;		/* long mode without PAE */
	refuse_sregs(&s);
	s = old;
	s.efer &= ~EFER_LMA;		/* LME and paging without LMA */
	refuse_sregs(&s);
	s = old;
	s.efer &= ~EFER_LME;		/* LMA alone */
	refuse_sregs(&s);
	s = old;
	s.cr3 |= BIT(62);		/* beyond the physical addresses */
	refuse_sregs(&s);
	s = old;
	s.apic_base |= BIT(9);
	refuse_sregs(&s);
	s = old;
	s.apic_base = (s.apic_base & ~APICBASE_ENABLE) | APICBASE_X2APIC;
	refuse_sregs(&s);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SREGS, NULL), EFAULT);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_SREGS, NULL), EFAULT);
	vcpu_run_done(vcpu);
}

static void test_sregs2(void)
{
	struct kvm_sregs2 a = { 0 }, b = { 0 };

	REQUIRE_CAP(KVM_CAP_SREGS2);
	start(0);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS2, &a);
	ASSERT_EQ(a.cr3, vm->cr3);
	a.cr2 = 0x1000;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS2, &a);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS2, &b);
	ASSERT_EQ(b.cr2, 0x1000);
	ASSERT_EQ(a.efer, b.efer);
	ASSERT_EQ(a.flags, b.flags);
	a.flags = 0x8000;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SREGS2, &a), EINVAL);
}

static void test_fpu(void)
{
	struct kvm_fpu set = { 0 }, get;

	start(0);
	VCPU_IOCTL(vcpu, KVM_GET_FPU, &get);
	ASSERT_EQ(get.fcw, 0x37f);
	for (unsigned int i = 0; i < 8; i++)
		memset(set.fpr[i], i + 1, 10);
	for (unsigned int i = 0; i < 16; i++)
		memset(set.xmm[i], 0x80 + i, 16);
	set.fcw = 0x27f;
	set.fsw = 0x3800;
	set.ftwx = 0x5a;
	set.last_ip = 0x1234;
	VCPU_IOCTL(vcpu, KVM_SET_FPU, &set);
	VCPU_IOCTL(vcpu, KVM_GET_FPU, &get);
	ASSERT(!memcmp(set.fpr, get.fpr, sizeof(set.fpr)));
	ASSERT(!memcmp(set.xmm, get.xmm, sizeof(set.xmm)));
	ASSERT_EQ(get.fcw, 0x27f);
	ASSERT_EQ(get.fsw, 0x3800);
	ASSERT_EQ(get.ftwx, 0x5a);
	ASSERT_EQ(get.last_ip, 0x1234);
	vcpu_run_done(vcpu);
}

static void test_cpuid2(void)
{
	struct kvm_cpuid2 *c;
	struct kvm_cpuid2 small = { .nent = 0 };

	vm = vm_create(0);
	vcpu = vcpu_create(vm, 0);
	c = calloc(1, sizeof(*c) + 300 * sizeof(c->entries[0]));
	memcpy(c, vm->cpuid, sizeof(*c) + vm->cpuid->nent * sizeof(c->entries[0]));
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, c);
	/* read back, by the protocol */
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_CPUID2, &small), E2BIG);
	c->nent = 300;
	memset(c->entries, 0, 300 * sizeof(c->entries[0]));
	VCPU_IOCTL(vcpu, KVM_GET_CPUID2, c);
	/* (old KVM leaves nent alone) */
	for (unsigned int i = 0; i < vm->cpuid->nent; i++) {
		ASSERT_EQ(c->entries[i].function, vm->cpuid->entries[i].function);
		ASSERT_EQ(c->entries[i].index, vm->cpuid->entries[i].index);
		ASSERT_EQ(c->entries[i].eax, vm->cpuid->entries[i].eax);
	}
	/* too many */
	c->nent = 257;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, c), E2BIG);
	c->nent = 0xffffffff;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, c), E2BIG);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_CPUID2, NULL), EFAULT);
}

static void test_msrs(void)
{
	struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + 1000 * sizeof(msrs->entries[0]));

	start(0);
	/* the number done, up to the first that is not known */
	msrs->nmsrs = 3;
	msrs->entries[0].index = 0xc0000082;
	msrs->entries[0].data = 0x1234;
	msrs->entries[1].index = 0x12345678;
	msrs->entries[2].index = 0xc0000082;
	msrs->entries[2].data = 0x5678;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, msrs), 1);
	ASSERT_EQ(vcpu_get_msr(vcpu, 0xc0000082), 0x1234);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, msrs), 1);
	msrs->nmsrs = 0;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, msrs), 0);
	msrs->nmsrs = 255;
	for (unsigned int i = 0; i < 255; i++)
		msrs->entries[i].index = 0xc0000082;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, msrs), 255);
	ASSERT_EQ(msrs->entries[254].data, 0x1234);
	msrs->nmsrs = 1000;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_MSRS, msrs), E2BIG);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_MSRS, msrs), E2BIG);
	msrs->nmsrs = 0xffffffff;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_MSRS, msrs), E2BIG);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_MSRS, NULL), EFAULT);
}

static void test_events(void)
{
	struct kvm_vcpu_events ev, get;

	start(VM_IRQCHIP);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ASSERT_EQ(ev.exception.injected, 0);
	ASSERT_EQ(ev.interrupt.injected, 0);
	ASSERT_EQ(ev.nmi.pending, 0);
	ev.flags = KVM_VCPUEVENT_VALID_NMI_PENDING;
	ev.nmi.masked = 1;
	ev.nmi.pending = 1;
	VCPU_IOCTL(vcpu, KVM_SET_VCPU_EVENTS, &ev);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &get);
	ASSERT_EQ(get.nmi.masked, 1);
	ASSERT_EQ(get.nmi.pending, 1);
	ev = get;
	ev.flags = 0x8000;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev), EINVAL);
	ev.flags = 0;
	ev.exception.injected = 1;
	ev.exception.nr = 32;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev), EINVAL);
	ev.exception.nr = NMI_VECTOR;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &ev), EINVAL);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, NULL), EFAULT);
}

static void test_tsc_khz(void)
{
	long khz;

	start(0);
	khz = VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0);
	ASSERT_GT(khz, 1000);
	/* the frequency it has can be set on any host */
	VCPU_IOCTL(vcpu, KVM_SET_TSC_KHZ, khz);
	ASSERT_EQ(VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0), khz);
}

static void test_signal_mask(void)
{
	char buf[sizeof(struct kvm_signal_mask) + 8] = { 0 };
	struct kvm_signal_mask *m = (void *)buf;

	start(0);
	m->len = 8;
	VCPU_IOCTL(vcpu, KVM_SET_SIGNAL_MASK, m);
	m->len = 4;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, m), EINVAL);
	m->len = 0;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, m), EINVAL);
	m->len = 0xffffffff;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_SIGNAL_MASK, m), EINVAL);
	VCPU_IOCTL(vcpu, KVM_SET_SIGNAL_MASK, NULL);
}

static void test_interrupt(void)
{
	struct kvm_interrupt irq = { .irq = 0x40 };

	start(VM_IRQCHIP);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_INTERRUPT, &irq), ENXIO);
	vm_destroy(vm);
	start(0);
	irq.irq = 256;
	ASSERT_ERR(ioctl(vcpu->fd, KVM_INTERRUPT, &irq), EINVAL);
	irq.irq = 0x40;
	VCPU_IOCTL(vcpu, KVM_INTERRUPT, &irq);
}

static void test_translate(void)
{
	struct kvm_translation tr = { .linear_address = 0x123456 };

	start(0);
	if (ioctl(vcpu->fd, KVM_TRANSLATE, &tr) && (errno == ENOTTY || errno == EINVAL))
		SKIP("no KVM_TRANSLATE");
	VCPU_IOCTL(vcpu, KVM_TRANSLATE, &tr);
	ASSERT_EQ(tr.valid, 1);
	ASSERT_EQ(tr.physical_address, 0x123456);
	vm_map(vm, 0x7fff00000000, 0x5000, PTE_P);
	tr.linear_address = 0x7fff00000123;
	VCPU_IOCTL(vcpu, KVM_TRANSLATE, &tr);
	ASSERT_EQ(tr.valid, 1);
	ASSERT_EQ(tr.physical_address, 0x5123);
	tr.linear_address = 0x7fff00001000;
	VCPU_IOCTL(vcpu, KVM_TRANSLATE, &tr);
	ASSERT_EQ(tr.valid, 0);
}

static void test_run_argument(void)
{
	start(0);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_RUN, 1), EINVAL);
	vcpu_run_done(vcpu);
}

static void test_bad_pointers(void)
{
	static const unsigned long cmds[] = {
		KVM_GET_REGS, KVM_SET_REGS, KVM_GET_SREGS, KVM_SET_SREGS, KVM_GET_FPU, KVM_SET_FPU, KVM_GET_XSAVE,
		KVM_SET_XSAVE, KVM_GET_XCRS, KVM_SET_XCRS, KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS, KVM_GET_MP_STATE,
		KVM_SET_MP_STATE, KVM_GET_LAPIC, KVM_SET_LAPIC, KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS, KVM_GET_MSRS,
		KVM_SET_MSRS, KVM_GET_CPUID2, KVM_SET_CPUID2,
	};
	static const unsigned long ptrs[] = { 0, 8, 0x7ffffffffffffff8, 0xffff888000000000, ~7ul };

	start(VM_IRQCHIP);
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		/* EINVAL, whatever the pointer, where the CPU has no XSAVE */
		if ((cmds[i] == KVM_GET_XCRS || cmds[i] == KVM_SET_XCRS) && !vm_cap(vm, KVM_CAP_XCRS))
			continue;
		for (unsigned int p = 0; p < ARRAY_SIZE(ptrs); p++)
			if (ioctl(vcpu->fd, cmds[i], ptrs[p]) != -1 || errno != EFAULT)
				FAIL("ioctl 0x%lx with pointer 0x%lx: errno %d", cmds[i], ptrs[p], errno);
	}
	vcpu_run_done(vcpu);
}

static void test_unknown(void)
{
	static const unsigned long cmds[] = { _IO(KVMIO, 0x0f), _IO(KVMIO, 0xfe), _IO(0x12, 1), 0, ~0u };

	start(0);
	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		ASSERT_EQ(ioctl(vcpu->fd, cmds[i], 0), -1);
		ASSERT(errno == EINVAL || errno == ENOTTY);
	}
}

/* The run structure: shared, and no more than it */
static void test_mmap(void)
{
	struct kvm_run *again;
	char *p;

	start(0);
	again = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	ASSERT(again != MAP_FAILED);
	vcpu->run->immediate_exit = 1;
	ASSERT_EQ(again->immediate_exit, 1);
	again->immediate_exit = 0;
	p = mmap(NULL, 64 * PAGE_SIZE, PROT_READ, MAP_SHARED, vcpu->fd, 0);
	if (p != MAP_FAILED) {
		/* Beyond its size there is nothing to read */
		pid_t pid = fork();
		int status;

		if (!pid) {
			volatile char c = p[vcpu->run_size];

			_exit(c ? 1 : 2);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	}
}

static void test_other_process(void)
{
	struct kvm_regs regs;
	pid_t pid;
	int status;

	start(0);
	pid = fork();
	if (!pid) {
		ASSERT_ERR(ioctl(vcpu->fd, KVM_RUN, 0), EIO);
		ASSERT_ERR(ioctl(vcpu->fd, KVM_GET_REGS, &regs), EIO);
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	vcpu_run_done(vcpu);
}

/* One thread runs the guest, others read and write its state: each call is as if alone */
static volatile bool race_end, race_guest_end;
static volatile uint64_t turns;

static void guest_turn(uint64_t arg)
{
	while (!race_guest_end) {
		outb(0x2f0, 1);
		turns++;
	}
}

static bool any_io(struct vcpu *v)
{
	return v->run->exit_reason == KVM_EXIT_IO;
}

static void *racer(void *arg)
{
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_vcpu_events ev;
	struct kvm_debugregs dbg;
	struct kvm_regs regs;
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + 200 * sizeof(c->entries[0]));

	while (!race_end) {
		VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
		ASSERT_NE(regs.rip, 0);
		VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
		VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
		VCPU_IOCTL(vcpu, KVM_GET_FPU, &fpu);
		VCPU_IOCTL(vcpu, KVM_SET_FPU, &fpu);
		VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
		VCPU_IOCTL(vcpu, KVM_GET_DEBUGREGS, &dbg);
		c->nent = 200;
		VCPU_IOCTL(vcpu, KVM_GET_CPUID2, c);
		ioctl(vcpu->fd, KVM_SET_MSRS, NULL);
		ioctl(vcpu->fd, KVM_NMI + 0x7000, 0);
	}
	return NULL;
}

static void test_races(void)
{
	pthread_t t[3];

	start(0);
	vcpu->on_exit = any_io;
	vcpu_restart(vcpu, guest_turn, 0);
	vcpu_start(vcpu);
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, racer, NULL);
	ASSERT(WAIT_FOR(turns > 2000, 60000));
	race_end = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
	race_guest_end = true;
	vcpu_join(vcpu);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(regs),
		TEST(sregs),
		TEST(bad_sregs),
		TEST(sregs2),
		TEST(fpu),
		TEST(cpuid2),
		TEST(msrs),
		TEST(events),
		TEST(tsc_khz),
		TEST(signal_mask),
		TEST(interrupt),
		TEST(translate),
		TEST(run_argument),
		TEST(bad_pointers),
		TEST(unknown),
		TEST(mmap),
		TEST(other_process),
		TEST(races),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
