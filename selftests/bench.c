// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: 1. measure what single operations of a guest or VMM cost on one or more devices that speak the KVM API;
 * 2. print the figures side by side, with ratios to the first device and their geometric mean.
 *
 * Costs inside a guest are differences of its TSC around one operation, the median of many after a warm-up, less the cost
 * of an empty measurement, converted to nanoseconds. In an emulated host under -icount shift=0, one nanosecond is one
 * instruction, so the figures are path lengths and repeat to a fraction of a percent.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/pvhv.h>
#include <linux/pvhv_para.h>

#include "apic.h"
#include "vm.h"

#define MAX_SAMPLES	1024
#define MAX_DEVS	4
#define PORT		0x2f0
#define VEC		0x61
#define MEM_GPA		0x40000000ul
#define BELL		130	/* the second device's third queue */

static unsigned int samples = 256;
static volatile uint64_t deltas[MAX_SAMPLES];
static bool ticks;

/* One measurement loop around an operation; runs in the guest */
#define MEASURE(n, op)							\
	do {								\
		for (unsigned int i_ = 0; i_ < (n); i_++) {		\
			uint64_t t_ = rdtsc();				\
			op;						\
			deltas[i_] = rdtsc() - t_;			\
		}							\
	} while (0)

static void guest_empty(uint64_t n)
{
	MEASURE(n, barrier());
}

static void guest_cpuid_exit(uint64_t n)
{
	MEASURE(n, guest_cpuid(0, 0));
}

static void guest_hypercall(uint64_t n)
{
	MEASURE(n, hypercall4(0xffff, 0, 0, 0, 0));
}

static void guest_bus_kick(uint64_t n)
{
	MEASURE(n, hypercall4(PVHV_HC_KICK, BELL, 0, 0, 0));
}

static void guest_pio_out(uint64_t n)
{
	MEASURE(n, outb(PORT, 1));
}

static void guest_pio_in(uint64_t n)
{
	MEASURE(n, inb(PORT));
}

static void guest_mmio_write(uint64_t n)
{
	MEASURE(n, *(volatile uint32_t *)MMIO_HOLE = 1);
}

static void guest_mmio_read(uint64_t n)
{
	MEASURE(n, *(volatile uint32_t *)MMIO_HOLE);
}

static void guest_eoi(uint64_t n)
{
	x2apic_enable();
	apic_enable();
	MEASURE(n, wrmsr(X2APIC_MSR(APIC_EOI), 0));
}

static void guest_xapic_eoi(uint64_t n)
{
	apic_enable();
	MEASURE(n, xapic_write(APIC_EOI, 0));
}

static void guest_deadline(uint64_t n)
{
	x2apic_enable();
	apic_enable();
	wrmsr(X2APIC_MSR(APIC_LVTT), APIC_LVTT_DEADLINE | VEC);
	MEASURE(n, wrmsr(MSR_TSC_DEADLINE, t_ + 10000000000ull));
	wrmsr(MSR_TSC_DEADLINE, 0);
}

static volatile uint64_t irqs;

/* The shortest handler there is: count, EOI, return */
void bench_irq_entry(void);
__asm__(".pushsection .text\n"
	"bench_irq_entry:\n"
	"	push %rax\n"
	"	push %rcx\n"
	"	push %rdx\n"
	"	incq irqs(%rip)\n"
	"	mov $0x80b, %ecx\n"
	"	xor %eax, %eax\n"
	"	xor %edx, %edx\n"
	"	wrmsr\n"
	"	pop %rdx\n"
	"	pop %rcx\n"
	"	pop %rax\n"
	"	iretq\n"
	".popsection");

static void guest_ipi(uint64_t n)
{
	struct { uint16_t limit; uint64_t base; } __attribute__((packed)) idtr;
	uint64_t *gate, entry = (uintptr_t)bench_irq_entry;

	__asm__ volatile("sidt %0" : "=m"(idtr));
	gate = (uint64_t *)idtr.base + 2 * VEC;
	gate[0] = (entry & 0xffff) | SEL_CODE64 << 16 | 0x8eull << 40 | (entry >> 16 & 0xffff) << 48;
	gate[1] = entry >> 32;
	x2apic_enable();
	apic_enable();
	sti();
	MEASURE(n, {
		uint64_t seen = irqs;

		wrmsr(X2APIC_MSR(APIC_ICR), ICR_ASSERT | ICR_SELF | VEC);
		while (irqs == seen)
			barrier();
	});
	cli();
}

/* Pages touched for the first time: one sample a page, so no more than there are */
static void guest_touch_read(uint64_t n)
{
	MEASURE(n, *(volatile uint64_t *)(MEM_GPA + i_ * PAGE_SIZE));
}

static void guest_touch_write(uint64_t n)
{
	MEASURE(n, *(volatile uint64_t *)(MEM_GPA + i_ * PAGE_SIZE) = 1);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t median(uint64_t *v, unsigned int n)
{
	qsort(v, n, sizeof(*v), compare);
	return v[n / 2];
}

/* The median of what the guest left in deltas, in ns, without the warm-up (the first quarter) */
static double guest_median(unsigned int n)
{
	static uint64_t v[MAX_SAMPLES];
	unsigned int skip = n / 4;

	for (unsigned int i = skip; i < n; i++)
		v[i - skip] = deltas[i];
	return (double)median(v, n - skip) * 1e6 / guest_tsc_khz;
}

static void run_to_end(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;

	/* Exits of the operation itself: nothing to do but going on */
	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, 0))
			FAIL("KVM_RUN: %s", strerror(errno));
		if (run->exit_reason == KVM_EXIT_MMIO || (run->exit_reason == KVM_EXIT_IO && run->io.port == PORT))
			continue;
		break;
	}
	if (run->exit_reason != KVM_EXIT_IO || run->io.port != UCALL_PORT)
		FAIL("exit %u (%s)", run->exit_reason, exit_name(run->exit_reason));
}

static double empty_cost;

static double measure(struct vcpu *vcpu, void (*fn)(uint64_t))
{
	vcpu_restart(vcpu, guest_empty, samples);
	run_to_end(vcpu);
	empty_cost = guest_median(samples);
	vcpu_restart(vcpu, fn, samples);
	run_to_end(vcpu);
	return guest_median(samples) - empty_cost;
}

struct bench {
	const char *name;
	double (*run)(const struct bench *b);
	void (*guest)(uint64_t n);
	bool no_mean;		/* not in the mean, not checked: no path length, or much like another */
};

static double bench_exit(const struct bench *b)
{
	struct vm *vm = vm_create(VM_IRQCHIP);

	return measure(vcpu_add(vm, 0, b->guest, 0), b->guest);
}

static double bench_ioeventfd(const struct bench *b)
{
	bool pio = b->guest == guest_pio_out;
	struct vm *vm = vm_create(VM_IRQCHIP);
	struct kvm_ioeventfd io = {
		.addr = pio ? PORT : MMIO_HOLE,
		.len = pio ? 1 : 4,
		.fd = eventfd(0, EFD_NONBLOCK),
		.flags = pio ? KVM_IOEVENTFD_FLAG_PIO : 0,
	};
	uint64_t count;
	double cost;

	VM_IOCTL(vm, KVM_IOEVENTFD, &io);
	cost = measure(vcpu_add(vm, 0, b->guest, 0), b->guest);
	ASSERT_EQ(read(io.fd, &count, 8), 8);
	ASSERT_EQ(count, samples);
	return cost;
}

/* Where there are no doorbells, a driver's way is the memory one */
static double bench_bus_kick(const struct bench *b)
{
	static const struct bench memory = { "", bench_ioeventfd, guest_mmio_write, true };
	struct pvhv_doorbell bell = { .id = BELL };
	struct vm *vm = vm_create(VM_IRQCHIP);
	uint64_t count;
	double cost;

	if (VM_IOCTL(vm, KVM_CHECK_EXTENSION, PVHV_CAP_DOORBELL) <= 0)
		return bench_ioeventfd(&memory);
	bell.fd = eventfd(0, EFD_NONBLOCK);
	VM_IOCTL(vm, PVHV_SET_DOORBELL, &bell);
	cost = measure(vcpu_add(vm, 0, b->guest, 0), b->guest);
	ASSERT_EQ(read(bell.fd, &count, 8), 8);
	ASSERT_EQ(count, samples);
	return cost;
}

/* Memory the process has, in small pages, but the VM has not seen */
static double bench_touch(const struct bench *b)
{
	struct vm *vm = vm_create(0);
	struct vcpu *vcpu = vcpu_add(vm, 0, b->guest, 0);
	void *mem = mmap_aligned(MAX_SAMPLES * PAGE_SIZE, HUGE_SIZE);

	madvise(mem, MAX_SAMPLES * PAGE_SIZE, MADV_NOHUGEPAGE);
	memset(mem, 1, MAX_SAMPLES * PAGE_SIZE);
	vm_add_slot(vm, 3, 0, MEM_GPA, MAX_SAMPLES * PAGE_SIZE, mem);
	return measure(vcpu, b->guest);
}

#define DIRTY_PAGES	MAX_SAMPLES
#define DIRTY_ROUNDS	8

/* A slot whose pages are all mapped; then logging goes on. Times are for one page. */
static void dirty_set_up(struct vm **vmp, struct vcpu **vcpup, void **mem)
{
	struct vm *vm = *vmp = vm_create(0);

	*vcpup = vcpu_add(vm, 0, guest_touch_write, 0);
	*mem = mmap_aligned(DIRTY_PAGES * PAGE_SIZE, HUGE_SIZE);
	madvise(*mem, DIRTY_PAGES * PAGE_SIZE, MADV_NOHUGEPAGE);
	memset(*mem, 1, DIRTY_PAGES * PAGE_SIZE);
	vm_add_slot(vm, 3, 0, MEM_GPA, DIRTY_PAGES * PAGE_SIZE, *mem);
	samples = DIRTY_PAGES;
	measure(*vcpup, guest_touch_write);
}

static double bench_dirty_protect(const struct bench *b)
{
	uint64_t t, v[DIRTY_ROUNDS];
	struct vcpu *vcpu;
	struct vm *vm;
	void *mem;

	dirty_set_up(&vm, &vcpu, &mem);
	for (unsigned int i = 0; i < DIRTY_ROUNDS; i++) {
		t = now_ns();
		ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, MEM_GPA, DIRTY_PAGES * PAGE_SIZE, mem));
		v[i] = now_ns() - t;
		ASSERT_OK(vm_set_slot(vm, 3, 0, MEM_GPA, DIRTY_PAGES * PAGE_SIZE, mem));
		measure(vcpu, guest_touch_write);
	}
	return (double)median(v, DIRTY_ROUNDS) / DIRTY_PAGES;
}

static double bench_dirty_fault(const struct bench *b)
{
	struct vcpu *vcpu;
	struct vm *vm;
	void *mem;

	dirty_set_up(&vm, &vcpu, &mem);
	ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, MEM_GPA, DIRTY_PAGES * PAGE_SIZE, mem));
	return measure(vcpu, guest_touch_write);
}

static double bench_dirty_harvest(const struct bench *b)
{
	static uint64_t bitmap[DIRTY_PAGES / 64];
	struct kvm_dirty_log log = { .slot = 3, .dirty_bitmap = bitmap };
	uint64_t t, v[DIRTY_ROUNDS];
	struct vcpu *vcpu;
	struct vm *vm;
	void *mem;

	dirty_set_up(&vm, &vcpu, &mem);
	ASSERT_OK(vm_set_slot(vm, 3, KVM_MEM_LOG_DIRTY_PAGES, MEM_GPA, DIRTY_PAGES * PAGE_SIZE, mem));
	for (unsigned int i = 0; i < DIRTY_ROUNDS; i++) {
		measure(vcpu, guest_touch_write);
		t = now_ns();
		VM_IOCTL(vm, KVM_GET_DIRTY_LOG, &log);
		v[i] = now_ns() - t;
		for (unsigned int w = 0; w < DIRTY_PAGES / 64; w++)
			ASSERT_EQ(bitmap[w], ~0ull);
	}
	return (double)median(v, DIRTY_ROUNDS) / DIRTY_PAGES;
}

static uint64_t thread_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000ull + ts.tv_nsec;
}

/* A VM with an interrupt chip, some memory and one vCPU: CPU time, and time on the wall (which may be waiting) */
static double bench_vm(const struct bench *b)
{
	uint64_t t, v[24];
	uint64_t (*clock)(void) = b->no_mean ? now_ns : thread_ns;

	image_own();
	for (unsigned int i = 0; i < ARRAY_SIZE(v); i++) {
		void *mem = mmap_aligned(LOW_MEM_SIZE, HUGE_SIZE);
		struct vm vm = { 0 };
		int vcpu;

		t = clock();
		vm.fd = SYS_IOCTL(KVM_CREATE_VM, 0);
		VM_IOCTL(&vm, KVM_CREATE_IRQCHIP, 0);
		ASSERT_OK(vm_set_slot(&vm, 0, 0, 0, LOW_MEM_SIZE, mem));
		vcpu = VM_IOCTL(&vm, KVM_CREATE_VCPU, 0);
		if (!guest_tsc_khz)	/* in the warm-up */
			guest_tsc_khz = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
		close(vcpu);
		close(vm.fd);
		v[i] = clock() - t;
		munmap(mem, LOW_MEM_SIZE);
	}
	return median(v, ARRAY_SIZE(v));
}

static const struct bench benches[] = {
	{ "cpuid", bench_exit, guest_cpuid_exit, false },
	{ "hypercall", bench_exit, guest_hypercall, false },
	{ "pio-out", bench_exit, guest_pio_out, false },
	{ "pio-in", bench_exit, guest_pio_in, false },
	{ "mmio-write", bench_exit, guest_mmio_write, false },
	{ "mmio-read", bench_exit, guest_mmio_read, false },
	{ "x2apic-eoi", bench_exit, guest_eoi, false },
	{ "xapic-eoi", bench_exit, guest_xapic_eoi, true },
	{ "tsc-deadline", bench_exit, guest_deadline, false },
	{ "ipi-self", bench_exit, guest_ipi, false },
	{ "ioeventfd-pio", bench_ioeventfd, guest_pio_out, false },
	{ "ioeventfd-mmio", bench_ioeventfd, guest_mmio_write, false },
	{ "bus-kick", bench_bus_kick, guest_bus_kick, true },
	{ "touch-read", bench_touch, guest_touch_read, false },
	{ "touch-write", bench_touch, guest_touch_write, false },
	{ "dirty-protect", bench_dirty_protect, NULL, false },
	{ "dirty-fault", bench_dirty_fault, NULL, false },
	{ "dirty-harvest", bench_dirty_harvest, NULL, false },
	{ "vm-create", bench_vm, NULL, false },
	{ "vm-create-wall", bench_vm, NULL, true },
};

#define NR_BENCHES	ARRAY_SIZE(benches)

/* What costs no more than the instruction itself on the first device (a write that hardware logs) has no ratio to it */
static bool has_ratio(double first)
{
	return first > 1;
}

/* In a child of its own, so that devices and operations do not see each other */
static bool run_one(const char *dev, const struct bench *b, double *result)
{
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return false;
	if (!pid) {
		setenv("PVHV_DEV", dev, 1);
		*result = b->run(b);
		if (ticks)
			*result *= guest_tsc_khz / 1e6;
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) && !WEXITSTATUS(status);
}

static void usage(FILE *out)
{
	fputs("usage: bench [--dev PATH]... [--json] [--check] [--ticks] [--samples N] [OPERATION]...\n\n"
	      "Measures OPERATIONs (all by default) on each device (by default those of /dev/kvm, /dev/pvhv that exist).\n"
	      "Figures are nanoseconds; in an emulated host under -icount, instructions. Ratios are to the first device.\n"
	      "--ticks: of the TSC instead, which are Bochs' instructions.\n"
	      "--check: status 1 unless the last device's geometric mean is at most 0.5, no ratio above 0.8, what costs\n"
	      "nothing on the first does so there, and its bus-kick costs at most half of its ioeventfd-mmio.\n\n"
	      "operations:", out);
	for (unsigned int i = 0; i < NR_BENCHES; i++)
		fprintf(out, " %s", benches[i].name);
	fputc('\n', out);
}

static bool chosen(const char *name, char **names)
{
	if (!*names)
		return true;
	for (; *names; names++)
		if (!strcmp(*names, name))
			return true;
	return false;
}

static unsigned int row(const char *name)
{
	unsigned int i = 0;

	while (strcmp(benches[i].name, name))
		i++;
	return i;
}

/* A kick of the pvhv bus beside one of a PCI device, on the same device; NAN: not both were measured */
static double kick_ratio(const double *res)
{
	return res[row("bus-kick")] / res[row("ioeventfd-mmio")];
}

static void print_table(const char **devs, unsigned int nr, double (*res)[NR_BENCHES], const double *mean)
{
	printf("%-16s", ticks ? "operation [tick]" : "operation [ns]");
	for (unsigned int d = 0; d < nr; d++)
		printf("%14s%s", devs[d], d ? "   ratio" : "");
	putchar('\n');
	for (unsigned int i = 0; i < NR_BENCHES; i++) {
		if (isnan(res[0][i]))
			continue;
		printf("%-16s", benches[i].name);
		for (unsigned int d = 0; d < nr; d++) {
			printf("%14.1f", res[d][i]);
			if (d && has_ratio(res[0][i]))
				printf("%8.3f", res[d][i] / res[0][i]);
			else if (d)
				printf("%8s", "-");
		}
		putchar('\n');
	}
	if (!isnan(kick_ratio(res[nr - 1])))
		printf("bus-kick / ioeventfd-mmio on %s: %.3f\n", devs[nr - 1], kick_ratio(res[nr - 1]));
	if (nr < 2)
		return;
	printf("%-16s%14s", "geometric mean", "");
	for (unsigned int d = 1; d < nr; d++)
		printf("%14s%8.3f", "", mean[d]);
	putchar('\n');
}

static void print_json(const char **devs, unsigned int nr, double (*res)[NR_BENCHES], const double *mean)
{
	bool first = true;

	printf("{\n  \"unit\": \"%s\",\n  \"operations\": {", ticks ? "tick" : "ns");
	for (unsigned int i = 0; i < NR_BENCHES; i++) {
		if (isnan(res[0][i]))
			continue;
		printf("%s\n    \"%s\": {", first ? "" : ",", benches[i].name);
		for (unsigned int d = 0; d < nr; d++)
			printf("%s\"%s\": %.1f", d ? ", " : "", devs[d], res[d][i]);
		putchar('}');
		first = false;
	}
	printf("\n  },\n  \"geometric_mean_ratio\": {");
	for (unsigned int d = 1; d < nr; d++)
		printf("%s\"%s\": %.4f", d > 1 ? ", " : "", devs[d], mean[d]);
	printf("}\n}\n");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "dev", required_argument, NULL, 'd' },
		{ "json", no_argument, NULL, 'j' },
		{ "check", no_argument, NULL, 'c' },
		{ "ticks", no_argument, NULL, 't' },
		{ "samples", required_argument, NULL, 'n' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	static const char *const defaults[] = { "/dev/kvm", "/dev/pvhv" };
	const char *devs[MAX_DEVS];
	unsigned int nr = 0, counted = 0;
	bool json = false, check = false, good = true;
	double (*res)[NR_BENCHES], mean[MAX_DEVS] = { 0 };
	int opt;

	while ((opt = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (opt) {
		case 'd':
			if (nr < MAX_DEVS)
				devs[nr++] = optarg;
			break;
		case 'j':
			json = true;
			break;
		case 'c':
			check = true;
			break;
		case 't':
			ticks = true;
			break;
		case 'n':
			samples = atoi(optarg);
			break;
		case 'h':
			usage(stdout);
			return 0;
		default:
			usage(stderr);
			return 1;
		}
	}
	if (!nr) {
		for (unsigned int i = 0; i < ARRAY_SIZE(defaults); i++)
			if (!access(defaults[i], F_OK))
				devs[nr++] = defaults[i];
	}
	if (!nr || samples < 8 || samples > MAX_SAMPLES) {
		fprintf(stderr, "bench: %s\n", nr ? "--samples: 8 to 1024" : "no device: load a module or name one by --dev");
		return 1;
	}

	res = mmap(NULL, MAX_DEVS * sizeof(*res), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (res == MAP_FAILED)
		return 1;
	for (unsigned int i = 0; i < NR_BENCHES; i++) {
		for (unsigned int d = 0; d < nr; d++)
			res[d][i] = NAN;
		if (!chosen(benches[i].name, argv + optind))
			continue;
		for (unsigned int d = 0; d < nr; d++) {
			if (!run_one(devs[d], &benches[i], &res[d][i])) {
				fprintf(stderr, "bench: %s failed on %s\n", benches[i].name, devs[d]);
				good = false;
				res[0][i] = NAN;
				break;
			}
		}
		if (isnan(res[0][i]) || benches[i].no_mean)
			continue;
		if (!has_ratio(res[0][i])) {
			if (check && has_ratio(res[nr - 1][i]))
				good = false;
			continue;
		}
		counted++;
		for (unsigned int d = 1; d < nr; d++) {
			double ratio = res[d][i] / res[0][i];

			mean[d] += log(ratio);
			if (check && d == nr - 1 && ratio > 0.8)
				good = false;
		}
	}
	for (unsigned int d = 1; d < nr && counted; d++)
		mean[d] = exp(mean[d] / counted);
	(json ? print_json : print_table)(devs, nr, res, mean);
	if (check && nr > 1 && (mean[nr - 1] > 0.5 || kick_ratio(res[nr - 1]) > 0.5))
		good = false;
	return good ? 0 : 1;
}
