// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies what a VMM can change about a VM's behaviour: KVM_CAP_DISABLE_QUIRKS(2), each quirk on and off,
 * KVM_CAP_X86_DISABLE_EXITS, KVM_CAP_X86_APIC_BUS_CYCLES_NS.
 */
#include <asm/kvm_para.h>
#include <string.h>

#include "apic.h"
#include "kvm_new.h"
#include "pv.h"
#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static void enable(uint32_t cap, uint64_t arg)
{
	struct kvm_enable_cap e = { .cap = cap, .args[0] = arg };

	VM_IOCTL(vm, KVM_ENABLE_CAP, &e);
}

static void start(unsigned int flags, uint64_t no_quirks, void (*fn)(uint64_t), uint64_t arg)
{
	vm = vm_create(flags);
	if (no_quirks)
		enable(KVM_CAP_DISABLE_QUIRKS2, no_quirks);
	vcpu = vcpu_add(vm, 0, fn, arg);
}

static void test_arguments(void)
{
	struct kvm_enable_cap e = { .cap = KVM_CAP_DISABLE_QUIRKS2 };
	uint64_t all = sys_cap(KVM_CAP_DISABLE_QUIRKS2);

	vm = vm_create(VM_BARE);
	ASSERT_EQ(all & 0x3f, 0x3f);
	for (int bit = 0; bit < 64; bit++) {
		e.args[0] = BIT(bit);
		if (all & BIT(bit))
			VM_IOCTL(vm, KVM_ENABLE_CAP, &e);
		else
			ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);
	}
	/* The older form takes all */
	ASSERT_EQ(sys_cap(KVM_CAP_DISABLE_QUIRKS), 1);
	enable(KVM_CAP_DISABLE_QUIRKS, ~0ull);
}

/* --- the other vendor's hypercall --- */

__asm__(".pushsection .text\n"
	".globl foreign_call, foreign_insn\n"
	"foreign_call: mov %edi, %eax\n"
	"foreign_insn: vmcall\n"
	"ret\n"
	".popsection");
extern uint8_t foreign_insn[];
uint64_t foreign_call(uint64_t nr);

static const uint8_t vmcall[] = { 0x0f, 0x01, 0xc1 }, vmmcall[] = { 0x0f, 0x01, 0xd9 };
static volatile uint64_t ud_seen;

static void on_ud(struct guest_regs *regs)
{
	ud_seen++;
	regs->rip += 3;
}

static void guest_foreign(uint64_t nr)
{
	GUEST_SYNC(foreign_call(nr));
}

static void test_hypercall_insn(void)
{
	struct ucall uc;

	/* Replaced by the CPU's own; an unknown call's result is -ENOSYS */
	guest_handlers[UD_VECTOR] = on_ud;
	start(0, 0, guest_foreign, 0x1234);
	memcpy(foreign_insn, guest_is_amd ? vmcall : vmmcall, 3);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	ASSERT_EQ(uc.arg[0], -1000);
	ASSERT_EQ(ud_seen, 0);
	ASSERT(!memcmp(foreign_insn, guest_is_amd ? vmmcall : vmcall, 3));

	/* Left alone: #UD is the guest's */
	start(0, KVM_X86_QUIRK_FIX_HYPERCALL_INSN, guest_foreign, 0x1234);
	memcpy(foreign_insn, guest_is_amd ? vmcall : vmmcall, 3);
	ASSERT_EQ(vcpu_run_ucall(vcpu, &uc), UCALL_SYNC);
	ASSERT_EQ(uc.arg[0], 0x1234);
	ASSERT_EQ(ud_seen, 1);
	ASSERT(!memcmp(foreign_insn, guest_is_amd ? vmcall : vmmcall, 3));
}

/* Where the guest cannot write, it is a #PF */
static volatile uint64_t pf_error, pf_cr2;

static void on_pf(struct guest_regs *regs)
{
	pf_error = regs->error;
	pf_cr2 = GUEST_RDREG(cr2);
	guest_done();
}

static void test_hypercall_readonly(void)
{
	guest_handlers[PF_VECTOR] = on_pf;
	start(0, 0, guest_foreign, 0x1234);
	memcpy(foreign_insn, guest_is_amd ? vmcall : vmmcall, 3);
	*vm_pte(vm, (uintptr_t)foreign_insn) &= ~PTE_W;
	vcpu_run_done(vcpu);
	ASSERT_EQ(pf_error, 3);	/* present, write */
	ASSERT_EQ(pf_cr2, (uintptr_t)foreign_insn);
}

/* --- port 0x7e --- */

static void guest_out_7e(uint64_t port)
{
	outb(port, 1);
}

static uint8_t byte_at_rip(void)
{
	struct kvm_regs regs;

	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	return *(uint8_t *)regs.rip;
}

static void one_out(uint64_t quirks, uint16_t port, bool at_insn)
{
	start(0, quirks, guest_out_7e, port);
	vcpu_run_exit(vcpu, KVM_EXIT_IO);
	ASSERT_EQ(vcpu->run->io.port, port);
	ASSERT_EQ(byte_at_rip() == 0xee, at_insn);	/* out %al, %dx */
	vcpu_run_done(vcpu);
}

static void test_out_7e(void)
{
	one_out(0, 0x7e, false);
	one_out(0, 0x7f, true);
	one_out(KVM_X86_QUIRK_OUT_7E_INC_RIP, 0x7e, true);
}

/* --- MONITOR, MWAIT --- */

static void guest_mwait(uint64_t vector)
{
	int v = GUEST_SAFE_ASM("monitor", NULL, , "a"(&ud_seen), "c"(0), "d"(0));

	GUEST_ASSERT_EQ(v, (int)vector);
	v = GUEST_SAFE_ASM("mwait", NULL, , "a"(0), "c"(0));
	GUEST_ASSERT_EQ(v, (int)vector);
}

static void test_mwait_ud(void)
{
	start(0, 0, guest_mwait, -1);
	ASSERT(!(cpuid_find(vm->cpuid, 1, 0)->ecx & BIT(3)));
	vcpu_run_done(vcpu);
	start(0, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, guest_mwait, UD_VECTOR);
	vcpu_run_done(vcpu);
	/* A guest that has them */
	vm = vm_create(0);
	enable(KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS);
	cpuid_find(vm->cpuid, 1, 0)->ecx |= BIT(3);
	vcpu = vcpu_add(vm, 0, guest_mwait, -1);
	vcpu_run_done(vcpu);
}

#define MSR_MISC_ENABLE		0x1a0
#define MISC_ENABLE_MWAIT	BIT(18)

static void guest_misc_enable(uint64_t follows)
{
	uint64_t v = rdmsr(MSR_MISC_ENABLE);
	uint32_t before = guest_cpuid(1, 0).ecx & BIT(3);

	wrmsr(MSR_MISC_ENABLE, v | MISC_ENABLE_MWAIT);
	GUEST_ASSERT_EQ(guest_cpuid(1, 0).ecx & BIT(3), follows ? BIT(3) : before);
	wrmsr(MSR_MISC_ENABLE, v & ~MISC_ENABLE_MWAIT);
	GUEST_ASSERT_EQ(guest_cpuid(1, 0).ecx & BIT(3), follows ? 0ull : before);
}

static void test_misc_enable(void)
{
	start(0, 0, guest_misc_enable, false);
	vcpu_run_done(vcpu);
	start(0, KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, guest_misc_enable, true);
	vcpu_run_done(vcpu);
}

/* --- local APIC --- */

static void one_lint0(uint64_t quirks, uint32_t lvt0)
{
	struct kvm_lapic_state lapic;

	vm = vm_create(VM_IRQCHIP);
	if (quirks)
		enable(KVM_CAP_DISABLE_QUIRKS2, quirks);
	vcpu = vcpu_create(vm, 0);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	ASSERT_EQ(*(uint32_t *)(lapic.regs + APIC_LVT0), lvt0);
}

static void test_lint0(void)
{
	one_lint0(0, 0x700);
	one_lint0(KVM_X86_QUIRK_LINT0_REENABLED, APIC_LVT_MASKED);
}

static void guest_hole(uint64_t hole)
{
	x2apic_enable();
	GUEST_ASSERT_EQ(xapic_read(APIC_ID), hole ? 0xffffffffu : 0x1234u);
}

static void test_lapic_hole(void)
{
	start(VM_IRQCHIP, 0, guest_hole, true);
	vcpu_run_done(vcpu);
	start(VM_IRQCHIP, KVM_X86_QUIRK_LAPIC_MMIO_HOLE, guest_hole, false);
	vcpu_run_exit(vcpu, KVM_EXIT_MMIO);
	ASSERT_EQ(vcpu->run->mmio.phys_addr, APIC_BASE + APIC_ID);
	*(uint32_t *)vcpu->run->mmio.data = 0x1234;
	vcpu_run_done(vcpu);
}

/* The guest's view of CR0 is its own either way */
static void guest_cd(uint64_t arg)
{
	uint64_t cr0 = GUEST_RDREG(cr0);

	GUEST_WRREG(cr0, cr0 | CR0_CD);
	GUEST_ASSERT(GUEST_RDREG(cr0) & CR0_CD);
	GUEST_WRREG(cr0, cr0);
	GUEST_ASSERT_EQ(GUEST_RDREG(cr0), cr0);
}

static void test_cd(void)
{
	start(0, 0, guest_cd, 0);
	vcpu_run_done(vcpu);
	start(0, KVM_X86_QUIRK_CD_NW_CLEARED, guest_cd, 0);
	vcpu_run_done(vcpu);
}

/* --- exits that are not made --- */

static volatile bool awake;

static void guest_hlt(uint64_t arg)
{
	/* AMD-V forgets at an exit that the guest was halted */
	for (;;)
		__asm__ volatile("hlt");
}

static void start_no_exits(unsigned int flags, uint64_t exits, void (*fn)(uint64_t))
{
	vm = vm_create(flags);
	if (!(vm_cap(vm, KVM_CAP_X86_DISABLE_EXITS) & exits))
		SKIP("HLT always exits on this host");
	enable(KVM_CAP_X86_DISABLE_EXITS, exits);
	vcpu = vcpu_add(vm, 0, fn, 0);
}

/* HLT stays in the guest: no exit, but a signal ends KVM_RUN */
static void test_hlt(void)
{
	start_no_exits(0, KVM_X86_DISABLE_EXITS_HLT, guest_hlt);
	alarm_every_ms(50);
	ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_INTR);
}

static void on_timer(struct guest_regs *regs)
{
	awake = true;
	apic_eoi();
}

/* Interrupts wake it: the timer, here */
static void guest_hlt_timer(uint64_t arg)
{
	x2apic_enable();
	apic_enable();
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	for (int i = 0; i < 5; i++) {
		awake = false;
		apic_write(APIC_LVTT, 0x40);
		apic_write(APIC_TMICT, 1000000);
		while (!awake)
			sti_hlt_cli();
	}
}

static void test_hlt_woken(void)
{
	guest_handlers[0x40] = on_timer;
	start_no_exits(VM_IRQCHIP, KVM_X86_DISABLE_EXITS_HLT, guest_hlt_timer);
	vcpu_run_done(vcpu);
}

/* Who does not exit for HLT is not there to be kicked */
static void test_unhalt(void)
{
	struct kvm_cpuid2 *back;
	struct kvm_cpuid_entry2 *e;

	start_no_exits(VM_IRQCHIP, KVM_X86_DISABLE_EXITS_HLT, guest_hlt_timer);
	ASSERT(cpuid_find(vm->cpuid, KVM_CPUID_FEATURES, 0)->eax & BIT(KVM_FEATURE_PV_UNHALT));
	back = sys_supported_cpuid();
	VCPU_IOCTL(vcpu, KVM_GET_CPUID2, back);
	e = cpuid_find(back, KVM_CPUID_FEATURES, 0);
	ASSERT(e && !(e->eax & BIT(KVM_FEATURE_PV_UNHALT)));
	/* the same CPUID again is the same, although a bit of it was taken away */
	guest_handlers[0x40] = on_timer;
	vcpu_run_done(vcpu);
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, vm->cpuid);
}

/* --- the LAPIC timer's clock --- */

/* The timer's count, and the moments of the TSC between which it was read: a vCPU may be stopped for long anywhere */
static uint32_t read_count(uint64_t *before, uint64_t *after)
{
	uint32_t count;

	*before = rdtsc();
	count = apic_read(APIC_TMCCT);
	*after = rdtsc();
	return count;
}

static void guest_bus(uint64_t ns)
{
	uint64_t first[2], second[2], least_us, most_us, us;
	uint32_t count;

	x2apic_enable();
	apic_enable();
	apic_write(APIC_TDCR, APIC_TDCR_DIV1);
	apic_write(APIC_LVTT, APIC_LVT_MASKED | 0x40);
	apic_write(APIC_TMICT, 0xffffffff);
	count = read_count(&first[0], &first[1]);
	guest_delay_us(20000);
	count -= read_count(&second[0], &second[1]);
	us = count * ns / 1000;
	least_us = (second[0] - first[1]) * 1000 / guest_tsc_khz;
	most_us = (second[1] - first[0]) * 1000 / guest_tsc_khz;
	/* within a tenth, and what an emulator's two clocks may lie apart */
	GUEST_ASSERT(us > least_us * 9 / 10 - 1000);
	GUEST_ASSERT(us < most_us * 11 / 10 + 1000);
}

static void test_bus_cycles(void)
{
	static const uint64_t cycles[] = { 1, 10, 100, 40000 };
	struct kvm_enable_cap e = { .cap = KVM_CAP_X86_APIC_BUS_CYCLES_NS };

	REQUIRE_CAP(KVM_CAP_X86_APIC_BUS_CYCLES_NS);
	for (unsigned int i = 0; i < ARRAY_SIZE(cycles); i++) {
		vm = vm_create(VM_IRQCHIP);
		enable(KVM_CAP_X86_APIC_BUS_CYCLES_NS, cycles[i]);
		vcpu = vcpu_add(vm, 0, guest_bus, cycles[i]);
		vcpu_run_done(vcpu);
	}
	e.args[0] = 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);		/* there is a vCPU */
	vm = vm_create(VM_BARE);
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), ENXIO);		/* no LAPIC */
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	e.args[0] = 0;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);
	e.args[0] = BIT(25) + 1;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);
	e.args[0] = ~0ull;
	ASSERT_ERR(ioctl(vm->fd, KVM_ENABLE_CAP, &e), EINVAL);
	/* The longest count there is: nothing overflows, nothing comes */
	e.args[0] = BIT(25);
	VM_IOCTL(vm, KVM_ENABLE_CAP, &e);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(arguments),
		TEST(hypercall_insn),
		TEST(hypercall_readonly),
		TEST(out_7e),
		TEST(mwait_ud),
		TEST(misc_enable),
		TEST(lint0),
		TEST(lapic_hole),
		TEST(cd),
		TEST(hlt),
		TEST(hlt_woken),
		TEST(unhalt),
		TEST(bus_cycles),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
