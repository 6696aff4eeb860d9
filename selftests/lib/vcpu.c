// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: make vCPUs and put them into a mode; run them and decode what they say; run them in threads.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

/* What a vCPU's page in low memory holds (its GS base points there) */
struct guest_cpu {
	uint32_t id;
	uint32_t pad[15];
	uint64_t gdt[16];
	uint8_t tss[104];
} __attribute__((packed));

/* The guest's TSS: rsp0 and one interrupt stack, for double faults */
#define TSS_RSP0	4
#define TSS_IST1	36
#define TSS_IO_MAP	102	/* offset of the bitmap of ports: beyond the limit, there is none */

struct vcpu *vcpu_create(struct vm *vm, uint32_t id)
{
	struct vcpu *vcpu = calloc(1, sizeof(*vcpu));

	ASSERT(vcpu);
	ASSERT(vm->nr_vcpus < VM_MAX_VCPUS);
	vcpu->vm = vm;
	vcpu->id = id;
	vcpu->fd = VM_IOCTL(vm, KVM_CREATE_VCPU, id);
	vcpu->run_size = SYS_IOCTL(KVM_GET_VCPU_MMAP_SIZE, 0);
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	ASSERT(vcpu->run != MAP_FAILED);
	vm->vcpus[vm->nr_vcpus++] = vcpu;
	return vcpu;
}

void vcpu_destroy(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->vm;

	ASSERT(!vcpu->started);
	ASSERT_OK(munmap(vcpu->run, vcpu->run_size));
	ASSERT_OK(close(vcpu->fd));
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		if (vm->vcpus[i] == vcpu)
			vm->vcpus[i] = vm->vcpus[vm->nr_vcpus - 1];
	vm->nr_vcpus--;
	free(vcpu);
}

/* The supported CPUID, with this vCPU's APIC ID in it */
void vcpu_set_cpuid(struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid = vcpu->vm->cpuid;

	for (uint32_t i = 0; i < cpuid->nent; i++) {
		struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

		if (e->function == 1)
			e->ebx = (e->ebx & 0xffffff) | vcpu->id << 24;
		else if (e->function == 0xb || e->function == 0x1f)
			e->edx = vcpu->id;
	}
	VCPU_IOCTL(vcpu, KVM_SET_CPUID2, cpuid);
}

static struct kvm_segment segment(uint16_t selector, uint8_t type, bool code64, bool big)
{
	return (struct kvm_segment){
		.selector = selector,
		.limit = 0xffffffff,
		.type = type,
		.present = 1,
		.dpl = selector & 3,
		.db = big,
		.s = 1,
		.l = code64,
		.g = 1,
	};
}

static uint64_t descriptor(uint8_t type, uint8_t dpl, bool l, bool db, bool g)
{
	uint64_t d = (uint64_t)type << 40 | 1ull << 44 | (uint64_t)dpl << 45 | 1ull << 47;

	d |= 0xffff | 0xfull << 48;
	return d | (uint64_t)l << 53 | (uint64_t)db << 54 | (uint64_t)g << 55;
}

void vcpu_restart(struct vcpu *vcpu, void (*fn)(uint64_t), uint64_t arg)
{
	struct kvm_regs regs = {
		.rip = (uintptr_t)fn,
		.rsp = vcpu->stack_top - 8,
		.rdi = arg,
		.rflags = RFLAGS_FIXED,
	};

	/* A guest function that returns has done its work */
	*(uint64_t *)vm_hva(vcpu->vm, regs.rsp) = (uintptr_t)guest_done;
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
}

static uint64_t build_idt(struct vm *vm)
{
	uint64_t idt = vm_alloc(vm, PAGE_SIZE), *gate = vm_hva(vm, idt);

	for (int i = 0; i < 256; i++) {
		uint64_t entry = guest_vectors[i], ist = i == DF_VECTOR;

		gate[2 * i] = (entry & 0xffff) | SEL_CODE64 << 16 | ist << 32 | 0x8eull << 40 |
			      (entry >> 16 & 0xffff) << 48;
		gate[2 * i + 1] = entry >> 32;
	}
	/* int3 and int 0x80 may come from user mode */
	gate[2 * BP_VECTOR] |= 3ull << 45;
	gate[2 * 0x80] |= 3ull << 45;
	return idt;
}

void vcpu_setup_long(struct vcpu *vcpu, void (*fn)(uint64_t), uint64_t arg)
{
	struct vm *vm = vcpu->vm;
	uint64_t page = vm_alloc(vm, PAGE_SIZE);
	uint64_t tss = page + offsetof(struct guest_cpu, tss);
	struct guest_cpu *cpu = vm_hva(vm, page);
	struct kvm_cpuid_entry2 *leaf1 = cpuid_find(vm->cpuid, 1, 0);
	struct kvm_sregs sregs;
	uint64_t stack;

	cpu->id = vcpu->id;
	cpu->gdt[SEL_CODE64 / 8] = descriptor(0xb, 0, true, false, true);
	cpu->gdt[SEL_DATA / 8] = descriptor(3, 0, false, true, true);
	cpu->gdt[SEL_UDATA / 8] = descriptor(3, 3, false, true, true);
	cpu->gdt[SEL_UCODE64 / 8] = descriptor(0xb, 3, true, false, true);
	cpu->gdt[SEL_CODE32 / 8] = descriptor(0xb, 0, false, true, true);
	cpu->gdt[SEL_CODE16 / 8] = descriptor(0xb, 0, false, false, false);
	cpu->gdt[SEL_DATA16 / 8] = descriptor(3, 0, false, false, false);
	cpu->gdt[SEL_TSS / 8] = (sizeof(cpu->tss) - 1) | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56;
	cpu->gdt[SEL_TSS / 8 + 1] = tss >> 32;
	stack = vm_alloc(vm, GUEST_STACK) + GUEST_STACK;
	memcpy(cpu->tss + TSS_RSP0, &stack, 8);
	stack = vm_alloc(vm, PAGE_SIZE) + PAGE_SIZE;
	memcpy(cpu->tss + TSS_IST1, &stack, 8);
	*(uint16_t *)(cpu->tss + TSS_IO_MAP) = sizeof(cpu->tss);

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = segment(SEL_CODE64, 0xb, true, false);
	sregs.ds = segment(SEL_DATA, 3, false, true);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.gs.base = page;
	sregs.tr = (struct kvm_segment){
		.selector = SEL_TSS, .base = tss, .limit = sizeof(cpu->tss) - 1, .type = 0xb, .present = 1,
	};
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.gdt = (struct kvm_dtable){ .base = page + offsetof(struct guest_cpu, gdt), .limit = sizeof(cpu->gdt) - 1 };
	sregs.idt = (struct kvm_dtable){ .base = build_idt(vm), .limit = PAGE_SIZE - 1 };
	sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	sregs.cr3 = vm->cr3;
	sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	if (leaf1->ecx & BIT(26))
		sregs.cr4 |= CR4_OSXSAVE;
	sregs.efer = EFER_LME | EFER_LMA | EFER_NX;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	vcpu->stack_top = vm_alloc(vm, GUEST_STACK) + GUEST_STACK;
	vcpu_restart(vcpu, fn, arg);
}

struct vcpu *vcpu_add(struct vm *vm, uint32_t id, void (*fn)(uint64_t), uint64_t arg)
{
	struct vcpu *vcpu = vcpu_create(vm, id);
	struct kvm_mp_state mp = { .mp_state = KVM_MP_STATE_RUNNABLE };

	vcpu_set_cpuid(vcpu);
	guest_tsc_khz = VCPU_IOCTL(vcpu, KVM_GET_TSC_KHZ, 0);
	vcpu_setup_long(vcpu, fn, arg);
	/* With an interrupt chip, all but the first wait for INIT; without, the call changes nothing and may be refused */
	ioctl(vcpu->fd, KVM_SET_MP_STATE, &mp);
	return vcpu;
}

void vcpu_setup_prot32(struct vcpu *vcpu, uint32_t eip, uint32_t esp)
{
	struct kvm_regs regs = { .rip = eip, .rsp = esp, .rflags = RFLAGS_FIXED };
	uint64_t gdt = vm_alloc(vcpu->vm, PAGE_SIZE), *e = vm_hva(vcpu->vm, gdt);
	struct kvm_sregs sregs;

	e[SEL_DATA / 8] = descriptor(3, 0, false, true, true);
	e[SEL_CODE32 / 8] = descriptor(0xb, 0, false, true, true);
	e[SEL_CODE64 / 8] = descriptor(0xb, 0, true, false, true);
	e[SEL_CODE16 / 8] = descriptor(0xb, 0, false, false, false);
	e[SEL_DATA16 / 8] = descriptor(3, 0, false, false, false);
	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs = segment(SEL_CODE32, 0xb, false, true);
	sregs.ds = segment(SEL_DATA, 3, false, true);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.gdt = (struct kvm_dtable){ .base = gdt, .limit = 0x7f };
	sregs.idt = (struct kvm_dtable){ 0 };
	sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
	sregs.cr4 = 0;
	sregs.efer = 0;
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
}

void vcpu_setup_real(struct vcpu *vcpu, uint16_t cs, uint16_t ip, uint16_t sp)
{
	struct kvm_regs regs = { .rip = ip, .rsp = sp, .rflags = RFLAGS_FIXED };
	struct kvm_sregs sregs;

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	sregs.cs.selector = cs;
	sregs.cs.base = (uint32_t)cs << 4;
	sregs.ds.selector = sregs.es.selector = sregs.ss.selector = 0;
	sregs.ds.base = sregs.es.base = sregs.ss.base = 0;
	sregs.idt = (struct kvm_dtable){ .base = 0, .limit = 0x3ff };
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
}

void code_load(struct vm *vm, uint64_t gpa, const void *start, const void *end)
{
	memcpy(vm_hva(vm, gpa), start, (const char *)end - (const char *)start);
}

int vcpu_run_raw(struct vcpu *vcpu)
{
	return ioctl(vcpu->fd, KVM_RUN, 0) ? -errno : 0;
}

void vcpu_run(struct vcpu *vcpu)
{
	int ret;

	do {
		ret = vcpu_run_raw(vcpu);
	} while (ret == -EINTR && !vcpu->stop);
	if (ret)
		FAIL("KVM_RUN of vCPU %u: errno %d", vcpu->id, -ret);
}

const char *exit_name(uint32_t reason)
{
	static const char *const names[] = {
		"UNKNOWN", "EXCEPTION", "IO", "HYPERCALL", "DEBUG", "HLT", "MMIO", "IRQ_WINDOW_OPEN", "SHUTDOWN",
		"FAIL_ENTRY", "INTR", "SET_TPR", "TPR_ACCESS", "13", "14", "15", "NMI", "INTERNAL_ERROR",
	};

	return reason < ARRAY_SIZE(names) ? names[reason] : "?";
}

/* Decodes the exit in run; fails the test for what the guest reports as failure */
static uint64_t decode_ucall(struct vcpu *vcpu, struct ucall *uc)
{
	struct kvm_run *run = vcpu->run;
	struct ucall *guest;
	uint32_t ptr;

	uc->cmd = UCALL_NONE;
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != UCALL_PORT || run->io.direction != KVM_EXIT_IO_OUT)
		return UCALL_NONE;
	ASSERT_EQ(run->io.size, 4);
	memcpy(&ptr, (char *)run + run->io.data_offset, 4);
	guest = vm_hva(vcpu->vm, ptr);
	*uc = *guest;
	switch (uc->cmd) {
	case UCALL_ASSERT:
		if (uc->arg[5])
			tap_fail((char *)uc->arg[1], uc->arg[2], "guest (vCPU %u): %s: 0x%llx, 0x%llx", vcpu->id,
				 (char *)uc->arg[0], (unsigned long long)uc->arg[3], (unsigned long long)uc->arg[4]);
		tap_fail((char *)uc->arg[1], uc->arg[2], "guest (vCPU %u): %s", vcpu->id, (char *)uc->arg[0]);
	case UCALL_EXCEPTION:
		FAIL("guest (vCPU %u): vector %llu, error code 0x%llx at rip 0x%llx, cr2 0x%llx", vcpu->id,
		     (unsigned long long)uc->arg[0], (unsigned long long)uc->arg[1],
		     (unsigned long long)uc->arg[2], (unsigned long long)uc->arg[3]);
	}
	return uc->cmd;
}

uint64_t vcpu_run_ucall(struct vcpu *vcpu, struct ucall *uc)
{
	vcpu_run(vcpu);
	return decode_ucall(vcpu, uc);
}

static void unexpected_exit(struct vcpu *vcpu, const char *wanted)
{
	struct kvm_run *run = vcpu->run;
	struct kvm_regs regs = { 0 };

	ioctl(vcpu->fd, KVM_GET_REGS, &regs);
	tap_diag("exit %u (%s) of vCPU %u at rip 0x%llx", run->exit_reason, exit_name(run->exit_reason), vcpu->id,
		 (unsigned long long)regs.rip);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		tap_diag("port 0x%x size %u direction %u count %u", run->io.port, run->io.size, run->io.direction,
			 run->io.count);
		break;
	case KVM_EXIT_MMIO:
		tap_diag("address 0x%llx length %u write %u", (unsigned long long)run->mmio.phys_addr, run->mmio.len,
			 run->mmio.is_write);
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		tap_diag("suberror %u ndata %u", run->internal.suberror, run->internal.ndata);
		for (uint32_t i = 0; i < run->internal.ndata && i < 16; i++)
			tap_diag("data[%u] 0x%llx", i, (unsigned long long)run->internal.data[i]);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		tap_diag("reason 0x%llx", (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	}
	FAIL("the guest should have come to %s", wanted);
}

void vcpu_run_sync(struct vcpu *vcpu, uint64_t arg)
{
	struct ucall uc;

	if (vcpu_run_ucall(vcpu, &uc) != UCALL_SYNC) {
		if (uc.cmd == UCALL_DONE)
			FAIL("the guest was done before it came to GUEST_SYNC(%llu)", (unsigned long long)arg);
		unexpected_exit(vcpu, "GUEST_SYNC");
	}
	if (uc.arg[0] != arg)
		FAIL("GUEST_SYNC(%llu), not %llu", (unsigned long long)uc.arg[0], (unsigned long long)arg);
}

void vcpu_run_done(struct vcpu *vcpu)
{
	struct ucall uc;

	for (;;) {
		switch (vcpu_run_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			return;
		case UCALL_SYNC:
			continue;
		}
		unexpected_exit(vcpu, "its end");
	}
}

void vcpu_run_exit(struct vcpu *vcpu, uint32_t reason)
{
	struct ucall uc;

	vcpu_run_ucall(vcpu, &uc);
	if (uc.cmd == UCALL_SYNC)
		FAIL("GUEST_SYNC(%llu), not the exit %s", (unsigned long long)uc.arg[0], exit_name(reason));
	if (uc.cmd == UCALL_DONE)
		FAIL("the guest was done, no exit %s", exit_name(reason));
	if (vcpu->run->exit_reason != reason)
		unexpected_exit(vcpu, exit_name(reason));
}

void vcpu_complete_io(struct vcpu *vcpu)
{
	vcpu->run->immediate_exit = 1;
	ASSERT_EQ(vcpu_run_raw(vcpu), -EINTR);
	vcpu->run->immediate_exit = 0;
}

void vcpu_set_msr(struct vcpu *vcpu, uint32_t index, uint64_t value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };

	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &msrs), 1);
}

uint64_t vcpu_get_msr(struct vcpu *vcpu, uint32_t index)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = { .head.nmsrs = 1, .entry = { .index = index } };

	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_MSRS, &msrs), 1);
	return msrs.entry.data;
}

uint64_t vcpu_stat(struct vcpu *vcpu, const char *name)
{
	int fd = ASSERT_OK(ioctl(vcpu->fd, KVM_GET_STATS_FD, 0));
	struct kvm_stats_header h;
	struct {
		struct kvm_stats_desc head;
		char name[128];
	} desc;
	uint64_t value = 0;
	unsigned int i;

	ASSERT_EQ(pread(fd, &h, sizeof(h), 0), sizeof(h));
	ASSERT_LE(h.name_size, sizeof(desc.name));
	for (i = 0; i < h.num_desc; i++) {
		size_t size = sizeof(desc.head) + h.name_size;

		ASSERT_EQ(pread(fd, &desc, size, h.desc_offset + i * size), size);
		if (!strncmp(desc.name, name, h.name_size))
			break;
	}
	if (i == h.num_desc)
		FAIL("there is no statistic %s", name);
	ASSERT_EQ(pread(fd, &value, sizeof(value), h.data_offset + desc.head.offset), sizeof(value));
	close(fd);
	return value;
}

static void nothing(int sig)
{
	(void)sig;
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;
	struct ucall uc;
	int ret;

	vcpu->running = true;
	while (!vcpu->stop) {
		ret = vcpu_run_raw(vcpu);
		/* EAGAIN: a vCPU that waited for its start-up IPI got it, or was woken */
		if (ret == -EINTR || ret == -EAGAIN)
			continue;
		if (ret)
			FAIL("KVM_RUN of vCPU %u: errno %d", vcpu->id, -ret);
		switch (decode_ucall(vcpu, &uc)) {
		case UCALL_DONE:
			vcpu->running = false;
			return NULL;
		case UCALL_SYNC:
			if (vcpu->on_sync)
				vcpu->on_sync(vcpu, &uc);
			break;
		default:
			if (!vcpu->on_exit || !vcpu->on_exit(vcpu))
				unexpected_exit(vcpu, "its end");
		}
	}
	vcpu->running = false;
	return NULL;
}

void vcpu_start(struct vcpu *vcpu)
{
	struct sigaction sa = { .sa_handler = nothing };

	sigaction(SIGUSR1, &sa, NULL);
	vcpu->stop = false;
	ASSERT_EQ(pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu), 0);
	vcpu->started = true;
}

void vcpu_join(struct vcpu *vcpu)
{
	ASSERT_EQ(pthread_join(vcpu->thread, NULL), 0);
	vcpu->started = false;
}

void vcpu_kick(struct vcpu *vcpu)
{
	ASSERT_EQ(pthread_kill(vcpu->thread, SIGUSR1), 0);
}

void vcpu_stop(struct vcpu *vcpu)
{
	vcpu->stop = true;
	/* immediate_exit closes the gap between the thread's look at stop and its KVM_RUN */
	*(volatile uint8_t *)&vcpu->run->immediate_exit = 1;
	vcpu_kick(vcpu);
	vcpu_join(vcpu);
	vcpu->run->immediate_exit = 0;
}

void vcpu_diag(struct vcpu *vcpu)
{
	struct kvm_mp_state mp = { 0 };
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events ev;
	struct kvm_regs regs;

	if (vcpu->started)
		vcpu_stop(vcpu);
	VCPU_IOCTL(vcpu, KVM_GET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_GET_VCPU_EVENTS, &ev);
	ioctl(vcpu->fd, KVM_GET_MP_STATE, &mp);
	tap_diag("vCPU %u: rip 0x%llx rflags 0x%llx mp_state %u shadow %u injected %u", vcpu->id, regs.rip, regs.rflags,
		 mp.mp_state, ev.interrupt.shadow, ev.interrupt.injected);
	if (ioctl(vcpu->fd, KVM_GET_LAPIC, &lapic))
		return;
	for (unsigned int i = 0; i < 8; i++) {
		uint32_t isr = *(uint32_t *)(lapic.regs + 0x100 + i * 16), irr = *(uint32_t *)(lapic.regs + 0x200 + i * 16);

		if (isr || irr)
			tap_diag("vectors from 0x%x: ISR 0x%x IRR 0x%x", i * 32, isr, irr);
	}
	tap_diag("LVTT 0x%x TMICT 0x%x TMCCT 0x%x deadline 0x%llx TSC 0x%llx", *(uint32_t *)(lapic.regs + 0x320),
		 *(uint32_t *)(lapic.regs + 0x380), *(uint32_t *)(lapic.regs + 0x390),
		 (unsigned long long)vcpu_get_msr(vcpu, MSR_TSC_DEADLINE), (unsigned long long)vcpu_get_msr(vcpu, MSR_TSC));
}

void vm_run_all(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		vcpu_start(vm->vcpus[i]);
	for (unsigned int i = 0; i < vm->nr_vcpus; i++)
		vcpu_join(vm->vcpus[i]);
}
