// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies that a stock bzImage boots by its 16-bit entry, as kvmtool does it: the same calls in the same order, real-mode
 * registers, a BIOS of a few bytes. The set-up code runs in real mode, finds its memory, switches to protected mode; the
 * decompressor goes on to long mode; the kernel says its version on the serial port.
 */
#include <asm/bootparam.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

#define RAM_SIZE	(192ul << 20)
#define SETUP_SEG	0x1000u		/* where the boot sector would be */
#define SETUP_GPA	(SETUP_SEG << 4)
#define SETUP_SP	0x8000
#define CMDLINE_GPA	0x20000u
#define KERNEL_GPA	0x100000u
#define BIOS_SEG	0xf000u
#define BIOS_GPA	(BIOS_SEG << 4)
#define VGA_GPA		0xa0000u
#define VGA_SIZE	0x20000u
#define COM1		0x3f8
#define LSR_READY	0x60		/* nothing to send any more */
#define CMDLINE		"earlyprintk=serial,ttyS0,115200 console=ttyS0 nokaslr panic=-1"

static struct vm *vm;
static struct vcpu *vcpu;
static uint8_t *ram;
static char said[64 << 10];
static unsigned int said_len;

/*
 * The BIOS: every interrupt but three answers "no such function" (carry set in the caller's flags). Video and keyboard do
 * nothing. int 0x15, AX 0xe820 is the memory map at bios_map.
 */
__asm__(".pushsection .rodata\n"
	"bios_start: .code16\n"
	"bios_none:\n"
	"	push %bp\n"
	"	mov %sp, %bp\n"
	"	orw $1, 6(%bp)\n"
	"	pop %bp\n"
	"	iret\n"
	"bios_quiet:\n"
	"	iret\n"
	"bios_int15:\n"
	"	cmp $0xe820, %ax\n"
	"	jne bios_none\n"
	"	push %ds\n"
	"	push %si\n"
	"	push %di\n"
	"	mov %cs, %si\n"
	"	mov %si, %ds\n"
	"	imul $20, %bx, %si\n"
	"	add $(bios_map - bios_start), %si\n"
	"	mov $20, %cx\n"
	"	cld\n"
	"	rep movsb\n"
	"	pop %di\n"
	"	pop %si\n"
	"	pop %ds\n"
	"	inc %ebx\n"
	"	cmp $3, %ebx\n"
	"	jb 1f\n"
	"	xor %ebx, %ebx\n"
	"1:	mov $20, %ecx\n"
	"	mov $0x534d4150, %eax\n"	/* SMAP */
	"	push %bp\n"
	"	mov %sp, %bp\n"
	"	andw $0xfffe, 6(%bp)\n"
	"	pop %bp\n"
	"	iret\n"
	"	.balign 4\n"
	"bios_map: .space 3 * 20\n"
	".code64\n"
	"bios_end:\n"
	".popsection");
extern const char bios_start[], bios_end[], bios_none[], bios_quiet[], bios_int15[], bios_map[];

struct e820 {
	uint64_t addr, size;
	uint32_t type;
} __attribute__((packed));

static void load_bios(void)
{
	const struct e820 map[] = {
		{ 0, 0x9fc00, 1 }, { BIOS_GPA, 0x10000, 2 }, { KERNEL_GPA, RAM_SIZE - KERNEL_GPA, 1 },
	};
	uint32_t *ivt = (uint32_t *)ram;

	memcpy(ram + BIOS_GPA, bios_start, bios_end - bios_start);
	memcpy(ram + BIOS_GPA + (bios_map - bios_start), map, sizeof(map));
	for (int i = 0; i < 256; i++)
		ivt[i] = BIOS_SEG << 16 | (uint32_t)(bios_none - bios_start);
	ivt[0x10] = ivt[0x16] = BIOS_SEG << 16 | (uint32_t)(bios_quiet - bios_start);
	ivt[0x15] = BIOS_SEG << 16 | (uint32_t)(bios_int15 - bios_start);
}

static void load_kernel(const char *path)
{
	struct setup_header *hdr = (void *)(ram + SETUP_GPA + 0x1f1);
	size_t setup_size, size;
	struct stat st;
	uint8_t *file;
	int fd;

	fd = open(path, O_RDONLY);
	if (fd < 0)
		SKIP("%s: %s", path, strerror(errno));
	ASSERT_OK(fstat(fd, &st));
	file = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT(file != MAP_FAILED);
	memcpy(hdr, file + 0x1f1, sizeof(*hdr));
	ASSERT_EQ(hdr->header, 0x53726448);	/* HdrS */
	ASSERT(hdr->loadflags & LOADED_HIGH);
	setup_size = ((hdr->setup_sects ?: 4) + 1) * 512;
	size = st.st_size - setup_size;
	ASSERT_LT(setup_size, (size_t)SETUP_SP);
	ASSERT_LT(KERNEL_GPA + size, RAM_SIZE);
	memcpy(ram + SETUP_GPA, file, setup_size);
	memcpy(ram + KERNEL_GPA, file + setup_size, size);
	munmap(file, st.st_size);
	close(fd);

	strcpy((char *)ram + CMDLINE_GPA, CMDLINE);
	hdr->cmd_line_ptr = CMDLINE_GPA;
	hdr->type_of_loader = 0xff;
	hdr->loadflags |= CAN_USE_HEAP;
	hdr->heap_end_ptr = 0xfe00;
	hdr->vid_mode = 0xffff;		/* normal */
}

/* --- kvmtool's calls --- */

static void require_caps(void)
{
	static const int caps[] = {
		KVM_CAP_COALESCED_MMIO, KVM_CAP_SET_TSS_ADDR, KVM_CAP_PIT2, KVM_CAP_USER_MEMORY, KVM_CAP_IRQ_ROUTING,
		KVM_CAP_IRQCHIP, KVM_CAP_HLT, KVM_CAP_IRQ_INJECT_STATUS, KVM_CAP_EXT_CPUID,
	};

	ASSERT_EQ(SYS_IOCTL(KVM_GET_API_VERSION, 0), KVM_API_VERSION);
	for (unsigned int i = 0; i < ARRAY_SIZE(caps); i++)
		if (sys_cap(caps[i]) <= 0)
			FAIL("capability %d is not there", caps[i]);
}

static void set_routing(void)
{
	struct {
		struct kvm_irq_routing head;
		struct kvm_irq_routing_entry e[64];
	} r = { .head.nr = 0 };

	for (uint32_t i = 0; i < 24; i++) {
		if (i < 16 && i != 2)
			r.e[r.head.nr++] = (struct kvm_irq_routing_entry){
				.gsi = i, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { i < 8 ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE, i % 8 },
			};
		if (i != 2)
			r.e[r.head.nr++] = (struct kvm_irq_routing_entry){
				.gsi = i, .type = KVM_IRQ_ROUTING_IRQCHIP,
				.u.irqchip = { KVM_IRQCHIP_IOAPIC, i ? i : 2 },
			};
	}
	VM_IOCTL(vm, KVM_SET_GSI_ROUTING, &r);
}

static void make_vm(void)
{
	struct kvm_coalesced_mmio_zone vga = { .addr = VGA_GPA, .size = VGA_SIZE };
	struct kvm_pit_config pit = { 0 };

	vm = vm_create(VM_BARE);
	VM_IOCTL(vm, KVM_SET_TSS_ADDR, 0xfffbd000ul);
	VM_IOCTL(vm, KVM_CREATE_IRQCHIP, 0);
	VM_IOCTL(vm, KVM_CREATE_PIT2, &pit);
	ram = mmap_aligned(RAM_SIZE, HUGE_SIZE);
	vm_add_slot(vm, 0, 0, 0, RAM_SIZE, ram);
	VM_IOCTL(vm, KVM_REGISTER_COALESCED_MMIO, &vga);
	set_routing();
}

static void set_lapic(void)
{
	struct kvm_lapic_state lapic;

	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	*(uint32_t *)(lapic.regs + APIC_LVT0) = 0x700;		/* ExtINT */
	*(uint32_t *)(lapic.regs + APIC_LVT1) = ICR_NMI;
	VCPU_IOCTL(vcpu, KVM_SET_LAPIC, &lapic);
}

static void set_msrs(void)
{
	static const uint32_t zeroed[] = {
		0x174, 0x175, 0x176, 0xc0000081, 0xc0000083, 0xc0000102, 0xc0000084, 0xc0000082, 0x10,
	};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry e[ARRAY_SIZE(zeroed) + 1];
	} m = { .head.nmsrs = ARRAY_SIZE(m.e) };

	for (unsigned int i = 0; i < ARRAY_SIZE(zeroed); i++)
		m.e[i].index = zeroed[i];
	m.e[ARRAY_SIZE(zeroed)] = (struct kvm_msr_entry){ .index = 0x1a0, .data = 1 };	/* fast strings */
	ASSERT_EQ(VCPU_IOCTL(vcpu, KVM_SET_MSRS, &m), ARRAY_SIZE(m.e));
}

static void set_registers(void)
{
	struct kvm_regs regs = { .rip = 0x200, .rsp = SETUP_SP, .rbp = SETUP_SP, .rflags = RFLAGS_FIXED };
	struct kvm_fpu fpu = { .fcw = 0x37f, .mxcsr = 0x1f80 };
	struct kvm_segment *seg[6];
	struct kvm_sregs sregs;

	VCPU_IOCTL(vcpu, KVM_GET_SREGS, &sregs);
	memcpy(seg, (struct kvm_segment *[]){ &sregs.cs, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs, &sregs.ss }, sizeof(seg));
	for (unsigned int i = 0; i < ARRAY_SIZE(seg); i++) {
		seg[i]->selector = SETUP_SEG;
		seg[i]->base = SETUP_GPA;
	}
	VCPU_IOCTL(vcpu, KVM_SET_SREGS, &sregs);
	VCPU_IOCTL(vcpu, KVM_SET_REGS, &regs);
	VCPU_IOCTL(vcpu, KVM_SET_FPU, &fpu);
}

/* --- devices: a serial port; nothing else is there --- */

static void pio(void)
{
	struct kvm_run *run = vcpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		if (run->io.direction == KVM_EXIT_IO_OUT) {
			if (run->io.port == COM1 && said_len < sizeof(said) - 1)
				said[said_len++] = *data;
			continue;
		}
		memset(data, run->io.port == 0xcfc ? 0xff : 0, run->io.size);
		if (run->io.port == COM1 + 5)
			*data = LSR_READY;
	}
}

static void mmio(void)
{
	if (!vcpu->run->mmio.is_write)
		memset(vcpu->run->mmio.data, 0xff, sizeof(vcpu->run->mmio.data));
}

static void boot(const char *what)
{
	uint64_t end = now_ns() + 400000000000ull, exits = 0;

	for (;;) {
		vcpu_run(vcpu);
		exits++;
		switch (vcpu->run->exit_reason) {
		case KVM_EXIT_IO:
			pio();
			break;
		case KVM_EXIT_MMIO:
			mmio();
			break;
		default:
			tap_diag("%s", said);
			vcpu_diag(vcpu);
			FAIL("exit %s", exit_name(vcpu->run->exit_reason));
		}
		if (strstr(said, what))
			break;
		if (now_ns() > end) {
			tap_diag("%s", said);
			vcpu_diag(vcpu);
			FAIL("\"%s\" does not come", what);
		}
	}
	tap_diag("%llu exits to userspace", (unsigned long long)exits);
}

static void test_boot(void)
{
	const char *guests = getenv("PVHV_GUESTS");
	char path[4096];

	if (!guests)
		SKIP("PVHV_GUESTS names no directory with a kernel");
	snprintf(path, sizeof(path), "%s/vmlinuz-6.1", guests);
	require_caps();
	make_vm();
	load_bios();
	load_kernel(path);
	vcpu = vcpu_create(vm, 0);
	set_lapic();
	vcpu_set_cpuid(vcpu);
	set_registers();
	set_msrs();
	boot("Linux version 6.1");
	/* The memory map came through the BIOS */
	boot("BIOS-e820: [mem 0x0000000000100000-0x000000000bffffff] usable");
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST_TIMEOUT(boot, 500),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
