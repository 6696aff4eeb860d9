// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies several vCPUs: start by INIT and SIPI, MP_STATE, IPIs in every addressing, INIT of a running vCPU, memory
 * ordering between them, TLB shootdown under load, HLT and wake-up.
 */
#include <string.h>

#include "apic.h"
#include "pv.h"
#include "vm.h"

#define NR		4
#define SIPI_PAGE	0x9000ul
#define VEC		0x61

static struct vm *vm;
static volatile uint32_t hits[NR], nmis[NR], online, phase;
static volatile bool end;

static void make_vm(void (*fn)(uint64_t))
{
	vm = vm_create(VM_IRQCHIP);
	for (uint32_t i = 0; i < NR; i++)
		vcpu_add(vm, i, fn, i);
}

static uint32_t mp_state(struct vcpu *vcpu)
{
	struct kvm_mp_state mp;

	VCPU_IOCTL(vcpu, KVM_GET_MP_STATE, &mp);
	return mp.mp_state;
}

static void set_mp_state(struct vcpu *vcpu, uint32_t state)
{
	struct kvm_mp_state mp = { .mp_state = state };

	VCPU_IOCTL(vcpu, KVM_SET_MP_STATE, &mp);
}

/*
 * The code a SIPI starts: real mode at SIPI_PAGE:0. It counts itself in at 0x600, keeps its CS at 0x610 + 2 * n, and
 * waits: this is all that is checked of APs that never leave real mode.
 */
__asm__(".pushsection .rodata\n"
	"sipi_start: .code16\n"
	"	cli\n"
	"	xor %ax, %ax\n"
	"	mov %ax, %ds\n"
	"	mov $1, %ax\n"
	"	lock xadd %ax, 0x600\n"
	"	mov %ax, %bx\n"
	"	add %bx, %bx\n"
	"	mov %cs, %ax\n"
	"	mov %ax, 0x610(%bx)\n"
	"1:	cmpw $0, 0x602\n"		/* the BSP says: sleep */
	"	pause\n"
	"	jz 1b\n"
	"2:	hlt\n"
	"	jmp 2b\n"
	"sipi_end: .code64\n"
	".globl sipi_start, sipi_end\n"
	".popsection");

static void guest_bsp(uint64_t x2)
{
	volatile uint16_t *count = (void *)0x600;

	if (x2)
		x2apic_enable();
	apic_enable();
	/* One by one, physical */
	for (uint32_t i = 1; i < NR; i++) {
		apic_icr(ICR_INIT | ICR_ASSERT, i);
		guest_delay_us(200);
		GUEST_ASSERT_EQ(*count, (uint16_t)(i - 1));
		apic_icr(ICR_STARTUP | ICR_ASSERT | SIPI_PAGE >> 12, i);
		GUEST_ASSERT(GUEST_WAIT(*count == i, 20000));
		/* a second SIPI to a running one does nothing */
		apic_icr(ICR_STARTUP | ICR_ASSERT | 0x12, i);
	}
	GUEST_SYNC(1);
	/* All but self, once more, from another page */
	apic_icr(ICR_INIT | ICR_ASSERT | ICR_OTHERS, 0);
	guest_delay_us(200);
	*count = 0;
	apic_icr(ICR_STARTUP | ICR_ASSERT | ICR_OTHERS | ((SIPI_PAGE >> 12) + 1), 0);
	GUEST_ASSERT(GUEST_WAIT(*count == NR - 1, 20000));
	for (uint32_t i = 0; i < NR - 1; i++)
		GUEST_ASSERT_EQ(((volatile uint16_t *)0x610)[i], (uint16_t)((SIPI_PAGE + 0x1000) >> 4));
	((volatile uint16_t *)0x602)[0] = 1;
	guest_delay_us(2000);
}

static volatile uint32_t syncs;

static void on_sync(struct vcpu *vcpu, struct ucall *uc)
{
	for (uint32_t i = 0; i < NR - 1; i++)
		ASSERT_EQ(((volatile uint16_t *)vm_hva(vm, 0x610))[i], SIPI_PAGE >> 4);
	syncs++;
}

static void start_by_sipi(uint64_t x2)
{
	vm = vm_create(VM_IRQCHIP);
	CODE_LOAD(vm, SIPI_PAGE, sipi);
	CODE_LOAD(vm, SIPI_PAGE + 0x1000, sipi);
	vcpu_add(vm, 0, guest_bsp, x2);
	for (uint32_t i = 1; i < NR; i++) {
		vcpu_set_cpuid(vcpu_create(vm, i));
		ASSERT_EQ(mp_state(vm->vcpus[i]), KVM_MP_STATE_UNINITIALIZED);
	}
	ASSERT_EQ(mp_state(vm->vcpus[0]), KVM_MP_STATE_RUNNABLE);
	vm->vcpus[0]->on_sync = on_sync;
	syncs = 0;
	if (x2) {
		/* APs in x2APIC mode cannot be set by the BSP; INIT keeps the mode, so the host sets it */
		for (uint32_t i = 1; i < NR; i++) {
			struct kvm_sregs sregs;

			VCPU_IOCTL(vm->vcpus[i], KVM_GET_SREGS, &sregs);
			sregs.apic_base |= APICBASE_X2APIC;
			VCPU_IOCTL(vm->vcpus[i], KVM_SET_SREGS, &sregs);
		}
	}
	for (uint32_t i = 0; i < NR; i++)
		vcpu_start(vm->vcpus[i]);
	vcpu_join(vm->vcpus[0]);
	ASSERT_EQ(syncs, 1);
	for (uint32_t i = 1; i < NR; i++)
		vcpu_stop(vm->vcpus[i]);
	vm_destroy(vm);
}

static void test_sipi(void)
{
	start_by_sipi(0);
	start_by_sipi(1);
}

/* What is set is read back; a vCPU that waits for INIT or SIPI does not run */
static void guest_never(uint64_t id)
{
	GUEST_ASSERT(false);
}

static void test_mp_state(void)
{
	static const uint32_t states[] = {
		KVM_MP_STATE_RUNNABLE, KVM_MP_STATE_UNINITIALIZED, KVM_MP_STATE_INIT_RECEIVED, KVM_MP_STATE_HALTED,
		KVM_MP_STATE_RUNNABLE,
	};
	struct kvm_mp_state bad = { .mp_state = 77 };
	struct vcpu *vcpu;

	make_vm(guest_never);
	vcpu = vm->vcpus[1];
	for (unsigned int i = 0; i < ARRAY_SIZE(states); i++) {
		set_mp_state(vcpu, states[i]);
		ASSERT_EQ(mp_state(vcpu), states[i]);
	}
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_MP_STATE, &bad), EINVAL);
	ASSERT_ERR(ioctl(vcpu->fd, KVM_SET_MP_STATE, NULL), EFAULT);
	for (unsigned int i = 0; i < 2; i++) {
		set_mp_state(vcpu, i ? KVM_MP_STATE_UNINITIALIZED : KVM_MP_STATE_HALTED);
		vcpu_start(vcpu);
		sleep_ms(50);
		vcpu_stop(vcpu);
		ASSERT_EQ(mp_state(vcpu), states[i ? 1 : 3]);
	}
}

static void on_irq(struct guest_regs *regs)
{
	hits[guest_vcpu_id()]++;
	apic_eoi();
}

static void on_nmi(struct guest_regs *regs)
{
	nmis[guest_vcpu_id()]++;
}

/* All come here; in x2 mode only after the host's flag */
static void come_online(bool x2)
{
	if (x2)
		x2apic_enable();
	apic_enable();
	__sync_fetch_and_add(&online, 1);
	GUEST_ASSERT(GUEST_WAIT(online == NR, 30000));
}

static bool all_hit(uint32_t n, uint32_t mask)
{
	for (uint32_t i = 0; i < NR; i++)
		if ((mask & 1u << i) && hits[i] != n)
			return false;
	return true;
}

static void check_hits(uint32_t mask)
{
	bool ok;

	sti_nop_cli();
	ok = GUEST_WAIT(all_hit(1, mask), 10000);
	GUEST_ASSERT(ok);
	guest_delay_us(100);
	for (uint32_t i = 0; i < NR; i++) {
		GUEST_ASSERT_EQ(hits[i], mask >> i & 1);
		hits[i] = 0;
	}
}

static volatile bool use_x2;

/* vCPU 0 sends, the others sleep or spin */
static void guest_ipi(uint64_t id)
{
	guest_handlers[VEC] = on_irq;
	guest_handlers[NMI_VECTOR] = on_nmi;
	come_online(use_x2);
	if (!use_x2) {
		xapic_write(APIC_DFR, 0xffffffff);
		xapic_write(APIC_LDR, BIT(24 + id));
	}
	__sync_fetch_and_add(&phase, 1);
	GUEST_ASSERT(GUEST_WAIT(phase == NR, 30000));
	if (id) {
		while (!end) {
			if (id & 1) {
				sti_hlt_cli();
			} else {
				sti();
				cpu_relax();
			}
		}
		return;
	}
	for (uint32_t i = 1; i < NR; i++) {
		apic_icr(ICR_ASSERT | VEC, i);
		check_hits(1u << i);
	}
	apic_icr(ICR_ASSERT | ICR_OTHERS | VEC, 0);
	check_hits(0xe);
	apic_icr(ICR_ASSERT | ICR_ALL | VEC, 0);
	check_hits(0xf);
	apic_icr(ICR_ASSERT | ICR_SELF | VEC, 0);
	check_hits(1);
	apic_icr(ICR_ASSERT | VEC, use_x2 ? 0xffffffff : 0xff);
	check_hits(0xf);
	/* logical: flat or the one x2APIC cluster, the same bits */
	for (uint32_t mask = 1; mask < 16; mask += 2) {
		apic_icr(ICR_ASSERT | ICR_LOGICAL | VEC, mask);
		check_hits(mask);
	}
	if (!use_x2) {
		/* to one of them */
		uint32_t sum = 0;

		apic_icr(ICR_ASSERT | ICR_LOGICAL | ICR_LOWEST | VEC, 0xe);
		GUEST_ASSERT(GUEST_WAIT(hits[1] + hits[2] + hits[3], 10000));
		guest_delay_us(500);
		for (uint32_t i = 0; i < NR; i++) {
			sum += hits[i];
			hits[i] = 0;
		}
		GUEST_ASSERT_EQ(sum, 1u);
	}
	/* NMI, to sleeping and spinning ones */
	for (uint32_t i = 1; i < NR; i++) {
		apic_icr(ICR_ASSERT | ICR_NMI, i);
		GUEST_ASSERT(GUEST_WAIT(nmis[i] == 1, 10000));
	}
	end = true;
	apic_icr(ICR_ASSERT | ICR_OTHERS | VEC, 0);
}

static void one_ipi(bool x2)
{
	use_x2 = x2;
	online = phase = 0;
	end = false;
	memset((void *)hits, 0, sizeof(hits));
	memset((void *)nmis, 0, sizeof(nmis));
	make_vm(guest_ipi);
	vm_run_all(vm);
	vm_destroy(vm);
}

static void test_ipi_xapic(void)
{
	one_ipi(false);
}

static void test_ipi_x2apic(void)
{
	one_ipi(true);
}

/* A token goes round, each waking the next out of HLT; no wake-up is lost */
#define ROUNDS	60
static volatile uint32_t token;

static void guest_ring(uint64_t id)
{
	guest_handlers[VEC] = on_irq;
	come_online(true);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		while (token != round * NR + id)
			sti_hlt_cli();
		token++;
		apic_icr(ICR_ASSERT | VEC, (id + 1) % NR);
	}
}

static void test_ring(void)
{
	make_vm(guest_ring);
	vm_run_all(vm);
	ASSERT_EQ(token, ROUNDS * NR);
	vm_destroy(vm);
}

static volatile uint64_t counter;

static void guest_count(uint64_t id)
{
	come_online(false);
	for (int i = 0; i < 20000; i++)
		__sync_fetch_and_add(&counter, 1);
}

static void test_atomics(void)
{
	make_vm(guest_count);
	vm_run_all(vm);
	ASSERT_EQ(counter, 20000 * NR);
}

/*
 * TLB shootdown, as kernels do it: vCPU 0 points a page-table entry elsewhere, sends an IPI, waits for all; after that
 * nobody may see the old page. The pages hold their number.
 */
#define SHOOT_VA	0x700000000000ul
#define SHOOT_ROUNDS	60
static volatile uint64_t *shoot_pte;
static volatile uint64_t shoot_pages[2];
static volatile uint32_t flushed, checked, generation;

static void on_flush(struct guest_regs *regs)
{
	invlpg((void *)SHOOT_VA);
	__sync_fetch_and_add(&flushed, 1);
	apic_eoi();
}

static void guest_shoot(uint64_t id)
{
	guest_handlers[VEC] = on_flush;
	come_online(true);
	if (id) {
		uint32_t seen = 0;

		sti();
		while (!end) {
			uint32_t g = generation;
			uint64_t v = *(volatile uint64_t *)SHOOT_VA;

			if (g != seen && g == generation) {
				GUEST_ASSERT_EQ(v, g);
				seen = g;
				__sync_fetch_and_add(&checked, 1);
			}
		}
		cli();
		return;
	}
	for (uint32_t round = 1; round <= SHOOT_ROUNDS; round++) {
		uint64_t page = shoot_pages[round & 1];

		*(volatile uint64_t *)page = round;
		*shoot_pte = page | PTE_P | PTE_W;
		invlpg((void *)SHOOT_VA);
		flushed = checked = 0;
		apic_icr(ICR_ASSERT | ICR_OTHERS | VEC, 0);
		GUEST_ASSERT(GUEST_WAIT(flushed == NR - 1, 20000));
		generation = round;
		GUEST_ASSERT(GUEST_WAIT(checked == NR - 1, 20000));
	}
	end = true;
}

static void test_shootdown(void)
{
	make_vm(guest_shoot);
	shoot_pages[0] = vm_alloc(vm, PAGE_SIZE);
	shoot_pages[1] = vm_alloc(vm, PAGE_SIZE);
	vm_map(vm, SHOOT_VA, shoot_pages[0], PTE_P | PTE_W);
	shoot_pte = (uint64_t *)vm_gpa(vm, vm_pte(vm, SHOOT_VA));
	vm_run_all(vm);
	vm_destroy(vm);
}

/* IDs that xAPIC has no word for, with holes between them: x2APIC messages, physical and logical, and in a list */
#define HIGH_ID	2999

static volatile uint32_t high_hits, high_ready;

static void on_high(struct guest_regs *regs)
{
	high_hits++;
	apic_eoi();
}

static void guest_high(uint64_t id)
{
	x2apic_enable();
	apic_enable();
	GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_ID)), id);
	GUEST_ASSERT_EQ(rdmsr(X2APIC_MSR(APIC_LDR)), (id >> 4) << 16 | 1 << (id & 15));
	if (id) {
		high_ready = 1;
		while (high_hits < 4)
			sti_nop_cli();
		return;
	}
	GUEST_ASSERT(GUEST_WAIT(high_ready, 20000));
	apic_icr(ICR_FIXED | ICR_ASSERT | VEC, HIGH_ID);
	GUEST_ASSERT(GUEST_WAIT(high_hits == 1, 20000));
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_LOGICAL | VEC, (HIGH_ID >> 4) << 16 | 1 << (HIGH_ID & 15));
	GUEST_ASSERT(GUEST_WAIT(high_hits == 2, 20000));
	GUEST_ASSERT_EQ(hypercall4(PV_HC_SEND_IPI, 2, 1, HIGH_ID - 64, VEC), 1l);
	GUEST_ASSERT(GUEST_WAIT(high_hits == 3, 20000));
	/* Nobody's */
	apic_icr(ICR_FIXED | ICR_ASSERT | VEC, HIGH_ID + 1);
	apic_icr(ICR_FIXED | ICR_ASSERT | VEC, HIGH_ID + 64);
	apic_icr(ICR_FIXED | ICR_ASSERT | VEC, 0x7fffffff);
	guest_delay_us(1000);
	GUEST_ASSERT_EQ(high_hits, 3u);
	apic_icr(ICR_FIXED | ICR_ASSERT | ICR_OTHERS | VEC, 0);
	GUEST_ASSERT(GUEST_WAIT(high_hits == 4, 20000));
}

static void test_high_ids(void)
{
	vm = vm_create(VM_IRQCHIP);
	if (vm_cap(vm, KVM_CAP_MAX_VCPU_ID) <= HIGH_ID)
		SKIP("no such IDs");
	guest_handlers[VEC] = on_high;
	vcpu_add(vm, 0, guest_high, 0);
	vcpu_add(vm, HIGH_ID, guest_high, HIGH_ID);
	vm_run_all(vm);
	vm_destroy(vm);
}

/* As many as there may be; they all get their INIT */
static void test_many(void)
{
	int max;

	vm = vm_create(VM_IRQCHIP);
	max = vm_cap(vm, KVM_CAP_MAX_VCPUS);
	if (max > 600)
		max = 600;
	for (int i = 0; i < max; i++)
		ASSERT_OK(ioctl(vm->fd, KVM_CREATE_VCPU, i * 2));
	vm_destroy(vm);
}

/* vCPU numbers: any order, no duplicates, none beyond the limit */
static void test_vcpu_ids(void)
{
	int max, max_id;

	vm = vm_create(VM_IRQCHIP);
	max = vm_cap(vm, KVM_CAP_MAX_VCPUS);
	max_id = vm_cap(vm, KVM_CAP_MAX_VCPU_ID);
	ASSERT_GE(max, NR);
	if (max_id <= 0)
		max_id = max;
	ASSERT_GE(max_id, max);
	vcpu_create(vm, 3);
	vcpu_create(vm, 0);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 3), EEXIST);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, max_id), EINVAL);
	ASSERT_ERR(ioctl(vm->fd, KVM_CREATE_VCPU, 0xffffffffu), EINVAL);
	vcpu_create(vm, 1);
	vm_destroy(vm);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(sipi),
		TEST(mp_state),
		TEST(ipi_xapic),
		TEST(ipi_x2apic),
		TEST(ring),
		TEST(atomics),
		TEST(shootdown),
		TEST(high_ids),
		TEST(many),
		TEST(vcpu_ids),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
