// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies what an administrator can watch of the module: the counters in debugfs, which count, vanish with their VM and
 * may be read while it goes; and the tracepoints, each of which shows what the guest does.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

#define DEBUGFS		"/sys/kernel/debug"
#define TRACEFS		"/sys/kernel/tracing"
#define INSTANCE	TRACEFS "/instances/pvhv-selftest"
#define VEC		0x61

static struct vm *vm;
static struct vcpu *vcpu;

static void guest_exits(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		guest_cpuid(0, 0);
}

static void need_pvhv(void)
{
	if (!strstr(dev_path(), "pvhv"))
		SKIP("%s is not pvhv's device", dev_path());
}

static ssize_t read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = 0, r;

	if (fd < 0)
		return -1;
	while ((size_t)n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) > 0)
		n += r;
	close(fd);
	buf[n] = '\0';
	return n;
}

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

/* The directory of this process's VM: <pid>-<fd>; false if there is none */
static bool vm_dir(char *path, size_t size)
{
	char prefix[32];
	struct dirent *e;
	bool found = false;
	DIR *dir = opendir(DEBUGFS "/pvhv");

	if (!dir)
		return false;
	snprintf(prefix, sizeof(prefix), "%d-", getpid());
	while (!found && (e = readdir(dir))) {
		found = !strncmp(e->d_name, prefix, strlen(prefix));
		if (found)
			snprintf(path, size, DEBUGFS "/pvhv/%s", e->d_name);
	}
	closedir(dir);
	return found;
}

static void need_debugfs(void)
{
	need_pvhv();
	sys_fd();
	if (access(DEBUGFS "/pvhv", F_OK))
		mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(DEBUGFS "/pvhv", F_OK))
		SKIP("no debugfs");
}

static uint64_t counter(const char *dir, const char *file, const char *name)
{
	char path[300], buf[8192], *line, *save;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	ASSERT_GT(read_file(path, buf, sizeof(buf)), 0);
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char word[64];
		long long value;

		/* every line is a name and a number */
		ASSERT_MSG(sscanf(line, "%63s %lld", word, &value) == 2, "%s: '%s'", path, line);
		if (!strcmp(word, name))
			return value;
	}
	FAIL("%s has no %s", path, name);
}

static void test_debugfs(void)
{
	char dir[280];
	uint64_t before;

	need_debugfs();
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_exits, 100);
	ASSERT(vm_dir(dir, sizeof(dir)));
	before = counter(dir, "vcpu0", "exits");
	vcpu_run_done(vcpu);
	ASSERT_GE(counter(dir, "vcpu0", "exits"), before + 100);
	vcpu_create(vm, 1);
	ASSERT_EQ(counter(dir, "vcpu1", "exits"), 0);
	vm_destroy(vm);
	ASSERT(WAIT_FOR(!vm_dir(dir, sizeof(dir)), 10000));
}

/* Readers that come while the VM goes */
static volatile bool end;

static void *reader(void *arg)
{
	char dir[280], path[300], buf[4096];

	while (!end) {
		if (!vm_dir(dir, sizeof(dir)))
			continue;
		snprintf(path, sizeof(path), "%s/vm", dir);
		read_file(path, buf, sizeof(buf));
		snprintf(path, sizeof(path), "%s/vcpu0", dir);
		read_file(path, buf, sizeof(buf));
	}
	return NULL;
}

static void test_debugfs_race(void)
{
	pthread_t t[2];

	need_debugfs();
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_create(&t[i], NULL, reader, NULL);
	for (int i = 0; i < 20; i++) {
		vm = vm_create(0);
		vcpu = vcpu_add(vm, 0, guest_exits, 3);
		vcpu_run_done(vcpu);
		vm_destroy(vm);
	}
	end = true;
	for (unsigned int i = 0; i < ARRAY_SIZE(t); i++)
		pthread_join(t[i], NULL);
}

/* Something for every tracepoint, also where hardware delivers interrupts and ends those that nobody waits for */
static void on_irq(struct guest_regs *regs)
{
	outb(0x2f0, 2);		/* the line is lowered */
	apic_eoi();
}

static void guest_everything(uint64_t arg)
{
	guest_handlers[VEC] = on_irq;
	apic_enable();
	apic_icr(ICR_ASSERT | VEC, 0);
	sti_nop_cli();
	guest_cpuid(0, 0);
	outb(0x2f0, 1);
	*(volatile uint32_t *)MMIO_HOLE = 1;
	hypercall4(12345, 0, 0, 0, 0);
	wrmsr(MSR_TSC_DEADLINE, 0);
	ioapic_set_redir(20, IOAPIC_LEVEL | VEC);
	GUEST_SYNC(1);
	sti_hlt_cli();
}

static void set_line(int level)
{
	struct kvm_irq_level irq = { .irq = 20, .level = level };

	VM_IOCTL(vm, KVM_IRQ_LINE, &irq);
}

static bool any_io(struct vcpu *v)
{
	set_line(0);
	return v->run->exit_reason == KVM_EXIT_IO || v->run->exit_reason == KVM_EXIT_MMIO;
}

static void raise_line(struct vcpu *v, struct ucall *uc)
{
	set_line(1);
}

static void test_tracepoints(void)
{
	static const char *const names[] = {
		"pvhv_entry", "pvhv_exit", "pvhv_cpuid", "pvhv_pio", "pvhv_mmio", "pvhv_hypercall", "pvhv_msr",
		"pvhv_tdp_fault", "pvhv_inj_irq", "pvhv_set_irq", "pvhv_apic_ipi", "pvhv_apic_accept", "pvhv_eoi",
	};
	const size_t size = 4 << 20;
	char *buf = malloc(size);
	bool good = true;

	need_pvhv();
	sys_fd();
	if (access(TRACEFS "/instances", F_OK))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (access(TRACEFS "/events/pvhv", F_OK))
		SKIP("no tracefs");
	rmdir(INSTANCE);
	if (mkdir(INSTANCE, 0700))
		SKIP("no trace instance: %s", strerror(errno));
	ASSERT(write_file(INSTANCE "/events/pvhv/enable", "1"));
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_everything, 0);
	vcpu->on_exit = any_io;
	vcpu->on_sync = raise_line;
	vcpu_start(vcpu);
	vcpu_join(vcpu);
	write_file(INSTANCE "/events/pvhv/enable", "0");
	ASSERT_GT(read_file(INSTANCE "/trace", buf, size), 0);
	rmdir(INSTANCE);
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		char word[40];

		snprintf(word, sizeof(word), "%s:", names[i]);
		if (!strstr(buf, word)) {
			tap_diag("nothing of %s", names[i]);
			good = false;
		}
	}
	ASSERT(good);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(debugfs),
		TEST(debugfs_race),
		TEST(tracepoints),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
