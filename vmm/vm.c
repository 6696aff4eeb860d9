// SPDX-License-Identifier: GPL-2.0
/*
 * The virtual machine as a whole.
 *  1. vm_open(): the device of the KVM API and what it must be able to do.
 *  2. vm_create(): VM, interrupt chip, memory, devices, console;
 *     vm_add_vcpus(): its CPUs, which need the loaded kernel's entry.
 *  3. vm_run(): starts the vCPUs, runs the event loop until the machine
 *     stops and its output is delivered; vm_stop() from any thread.
 *  4. vm_destroy(): everything, from any state of construction.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "control.h"
#include "move.h"
#include "net.h"
#include "virtio.h"
#include "virtio_balloon.h"
#include "virtio_bus.h"
#include "virtio_guest.h"

static const struct {
	int cap;
	int least;
	const char *name;
} needed[] = {
	{ KVM_CAP_IRQCHIP, 1, "IRQCHIP" },
	{ KVM_CAP_USER_MEMORY, 1, "USER_MEMORY" },
	{ KVM_CAP_NR_MEMSLOTS, 2, "NR_MEMSLOTS" },
	{ KVM_CAP_EXT_CPUID, 1, "EXT_CPUID" },
	{ KVM_CAP_MP_STATE, 1, "MP_STATE" },
	{ KVM_CAP_IMMEDIATE_EXIT, 1, "IMMEDIATE_EXIT" },
};

void vm_init(struct vm *vm, const struct options *opt)
{
	memset(vm, 0, sizeof(*vm));
	vm->opt = opt;
	vm->dev_fd = -1;
	vm->fd = -1;
	vm->mem.fd = -1;
	atomic_init(&vm->status, -1);
	atomic_init(&vm->running, 0);
	atomic_init(&vm->nap_us, 0);
	devices_init(&vm->devices);
	pause_init(vm);
}

/* AMD-V or VT-x, as the kernel found it. */
static bool cpu_can_virtualize(void)
{
	char line[8192];
	bool found = false;
	FILE *f = fopen("/proc/cpuinfo", "re");

	if (!f)
		return true;	/* unknown: do not accuse the CPU */
	while (!found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "flags", 5) &&
			(strstr(line, " svm ") || strstr(line, " svm\n") ||
			 strstr(line, " vmx ") || strstr(line, " vmx\n"));
	fclose(f);
	return found;
}

static int explain_open(const char *path, int err)
{
	switch (err) {
	case ENOENT:
	case ENXIO:
	case ENODEV:
		if (!cpu_can_virtualize())
			return fail(-err, "%s: not there, and this CPU has neither AMD-V nor VT-x (or the firmware turned it off): turn it on, or try an emulated host with 'make demo'",
				    path);
		return fail(-err, "%s: not there: load the module with 'modprobe pvhv', or name another device with --dev",
			    path);
	case EACCES:
	case EPERM:
		return fail(-err, "%s: permission denied: join the group 'kvm' (usermod -aG kvm USER) and log in again",
			    path);
	default:
		return fail(-err, "%s: %s: name another device with --dev",
			    path, strerror(err));
	}
}

u32 vm_address_bits(const struct vm *vm)
{
	return vm->opt->memory > 512 * GIB ? CPU_MODEL_ADDRESS_BITS_LARGE :
					     CPU_MODEL_ADDRESS_BITS;
}

static int check_cpu_model(struct vm *vm)
{
	const struct cpu_model *model = cpu_model_find(vm->opt->cpu_model);
	struct kvm_cpuid2 *host;
	int ret;

	if (!model)
		return 0;
	host = cpuid_supported(vm->dev_fd);
	if (!host)
		return fail(-errno, "%s: cannot read the supported CPUID: %s",
			    vm->opt->dev, strerror(errno));
	ret = cpu_model_check(model, host, vm_address_bits(vm));
	free(host);
	return ret;
}

int vm_open(struct vm *vm)
{
	const char *path = vm->opt->dev;
	unsigned int i;
	int value;

	vm->dev_fd = open(path, O_RDWR | O_CLOEXEC);
	if (vm->dev_fd < 0)
		return explain_open(path, errno);
	value = ioctl(vm->dev_fd, KVM_GET_API_VERSION, 0);
	if (value < 0)
		return fail(-errno, "%s: not a device of the KVM API: name another with --dev",
			    path);
	if (value != KVM_API_VERSION)
		return fail(-EPROTONOSUPPORT, "%s: version %d of the KVM API, needed is %d: update the module",
			    path, value, KVM_API_VERSION);
	for (i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, needed[i].cap) <
		    needed[i].least)
			return fail(-EOPNOTSUPP, "%s: lacks KVM_CAP_%s: update the module",
				    path, needed[i].name);

	value = ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);
	vm->max_cpus = value > 0 ? value : 4;
	if (vm->opt->cpus > vm->max_cpus)
		return fail(-EINVAL, "--cpus: %u is more than the %u that %s can run: give fewer",
			    vm->opt->cpus, vm->max_cpus, path);
	value = ioctl(vm->dev_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (value < (int)sizeof(struct kvm_run))
		return fail(-EPROTONOSUPPORT, "%s: a vCPU's shared page is too small: update the module",
			    path);
	vm->run_size = value;
	return check_cpu_model(vm);
}

static int create_vm(struct vm *vm)
{
	u64 identity = KVM_IDENTITY_MAP;

	do {
		vm->fd = ioctl(vm->dev_fd, KVM_CREATE_VM, 0);
	} while (vm->fd < 0 && errno == EINTR);
	if (vm->fd < 0 && errno == EBUSY)
		return fail(-EBUSY, "%s: another hypervisor uses this CPU: stop its machines or unload it, as with 'modprobe -r kvm_amd' or kvm_intel",
			    vm->opt->dev);
	if (vm->fd < 0)
		return fail(-errno, "%s: cannot create a VM: %s: see the kernel's log",
			    vm->opt->dev, strerror(errno));

	/* Intel CPUs without unrestricted guest keep pages here. */
	if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION,
		  KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0 &&
	    ioctl(vm->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return fail(-errno, "%s: cannot set the identity map: %s",
			    vm->opt->dev, strerror(errno));
	if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0 &&
	    ioctl(vm->fd, KVM_SET_TSS_ADDR, (unsigned long)KVM_TSS))
		return fail(-errno, "%s: cannot set the task state: %s",
			    vm->opt->dev, strerror(errno));
	return 0;
}

/* APIC IDs beyond eight bits need the wider form in routing and IPIs. */
static int widen_apic_ids(struct vm *vm)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_X2APIC_API,
		.args[0] = KVM_X2APIC_API_USE_32BIT_IDS,
	};

	if (vm->opt->cpus > 255 && ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		return fail(-errno, "--cpus: %s cannot run more than 255: give fewer",
			    vm->opt->dev);
	return 0;
}

static int set_slot(struct vm *vm, u32 slot, u64 gpa, u64 len, u8 *host,
		    u32 flags)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = len,
		.userspace_addr = (uintptr_t)host,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		return fail(-errno, "%s: cannot give the guest %llu MiB: %s",
			    vm->opt->dev, (unsigned long long)(len / MIB),
			    strerror(errno));
	return 0;
}

static int set_slots(struct vm *vm, u32 flags)
{
	struct mem *mem = &vm->mem;
	int ret;

	ret = set_slot(vm, 0, 0, mem->low, mem->host, flags);
	if (ret || !mem->high)
		return ret;
	return set_slot(vm, 1, HIGH_RAM_BASE, mem->high, mem->host + mem->low,
			flags);
}

/*
 * The log of pages that the guest writes, by KVM_GET_DIRTY_LOG of slots 0 and
 * 1.  Where it can be, a page is only watched once it was cleared in the log,
 * so that starting it costs a large guest nothing.
 */
int vm_log_writes(struct vm *vm, bool log)
{
	return set_slots(vm, log ? KVM_MEM_LOG_DIRTY_PAGES : 0);
}

static void choose_log(struct vm *vm)
{
	int can = ioctl(vm->dev_fd, KVM_CHECK_EXTENSION,
			KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2);
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args[0] = can & (KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
				  KVM_DIRTY_LOG_INITIALLY_SET),
	};

	vm->manual_log = can > 0 && !ioctl(vm->fd, KVM_ENABLE_CAP, &cap);
}

static int create_memory(struct vm *vm)
{
	int ret = mem_init(&vm->mem, vm->opt->memory, vm->opt->pages);

	choose_log(vm);
	return ret ? ret : set_slots(vm, 0);
}

/* What the devices tell the machine. */

static void serial_transmit(void *arg, u8 byte)
{
	struct vm *vm = arg;

	console_put(vm->console, byte);
}

static void serial_room(void *arg)
{
	struct vm *vm = arg;

	console_room(vm->console);
}

static void serial_irq(void *arg, bool level)
{
	irq_line(arg, GSI_COM1, level);
}

static void power_stop(void *arg, int status)
{
	vm_stop(arg, status);
}

static void power_irq(void *arg, bool level)
{
	irq_line(arg, GSI_GED, level);
}

/* What the console tells the machine, all on the main thread. */

static size_t console_receive(void *arg, const u8 *data, size_t len)
{
	struct vm *vm = arg;

	return serial_receive(vm->serial, data, len);
}

static bool console_break(void *arg)
{
	struct vm *vm = arg;

	return serial_break(vm->serial);
}

static void console_quit(void *arg)
{
	vm_stop(arg, STATUS_POWEROFF);
}

/* The machine has stopped when no vCPU runs and all output is delivered. */
static void check_stop(struct vm *vm)
{
	u32 i;

	if (!vm_stopping(vm))
		return;
	if (!vm->kicked) {
		vm->kicked = true;
		control_vm_stopping(vm);
		for (i = 0; i < vm->nr_vcpus; i++)
			vcpu_kick(&vm->vcpus[i]);
		pause_release(vm);
	}
	if (!atomic_load(&vm->running) && console_drained(vm->console))
		loop_quit();
}

static void console_is_drained(void *arg)
{
	check_stop(arg);
}

static void console_waits(void *arg, bool waits)
{
	pause_waiting(arg, waits);
}

static void woken(void *arg)
{
	struct vm *vm = arg;

	console_service(vm->console);
	vm_virtio_service(vm);
	pause_service(vm);
	freeze_service(vm);
	mailbox_service();
	check_stop(vm);
}

static void got_signal(void *arg, int number)
{
	struct vm *vm = arg;

	switch (number) {
	case SIGPWR:
		power_button(vm->power);
		break;
	case SIGCONT:
		tty_continue();
		break;
	default:
		vm_quit(vm, STATUS_SIGNAL + number);
		break;
	}
}

static s64 wall_clock(void)
{
	return time(NULL);
}

static int create_devices(struct vm *vm)
{
	const struct serial_host serial = {
		serial_transmit, serial_room, serial_irq, vm
	};
	const struct power_host power = { power_stop, power_irq, vm };
	struct iobus_region com1 = {
		PORT_COM1, 8, serial_read, serial_write, NULL
	};
	struct iobus_region clock = { PORT_RTC, 2, rtc_read, rtc_write, NULL };
	struct rtc *rtc;

	vm->serial = serial_create(&serial);
	if (!vm->serial)
		goto no_memory;
	devices_add(&vm->devices, serial_device(vm->serial),
		    serial_device_ops());
	com1.arg = vm->serial;

	rtc = rtc_create(wall_clock);
	if (!rtc)
		goto no_memory;
	devices_add(&vm->devices, rtc_device(rtc), rtc_device_ops());
	clock.arg = rtc;

	vm->power = power_create(&power);
	if (!vm->power)
		goto no_memory;
	devices_add(&vm->devices, vm->power, power_device_ops());

	if (iobus_add(&vm->pio, &com1) || iobus_add(&vm->pio, &clock) ||
	    power_attach(vm->power, &vm->pio, vm->opt->exit_port))
		return fail(-EEXIST, "two devices claim one port");
	return 0;
no_memory:
	return fail(-ENOMEM, "out of memory");
}

static int create_rng(struct vm *vm)
{
	struct virtio *v;

	if (!vm->opt->rng)
		return 0;
	v = virtio_rng_create(&vm->mem, "rng", vm->opt->rng_bps);
	return v ? vm_add_virtio(vm, v) : -ENOMEM;
}

/* No stock kernel has a driver for it: it is where pvdrivers/ are. */
static int create_guest_device(struct vm *vm)
{
	struct virtio *v;

	if (vm->opt->bus != BUS_PVHV)
		return 0;
	v = virtio_guest_create(vm);
	return v ? vm_add_virtio(vm, v) : -ENOMEM;
}

static int create_balloon(struct vm *vm)
{
	if (!vm->opt->balloon)
		return 0;
	vm->balloon = virtio_balloon_create(&vm->mem, "balloon",
					    &vm->opt->balloon_opt);
	if (!vm->balloon)
		return -ENOMEM;
	balloon_control_add(vm->balloon);
	return vm_add_virtio(vm, vm->balloon);
}

static int create_console(struct vm *vm)
{
	const struct console_guest guest = {
		console_receive, console_break, console_quit,
		console_is_drained, console_waits, vm
	};

	vm->console = console_create(&guest);
	return vm->console ? 0 : fail(-ENOMEM, "out of memory");
}

int vm_create(struct vm *vm)
{
	int ret;

	ret = create_vm(vm);
	if (!ret)
		ret = widen_apic_ids(vm);
	if (!ret)
		ret = irq_init(vm);
	if (!ret)
		ret = create_memory(vm);
	if (!ret)
		ret = create_console(vm);
	if (!ret)
		ret = create_devices(vm);
	if (!ret)
		ret = disks_create(vm);
	if (!ret)
		ret = ports_create(vm);
	if (!ret)
		ret = create_balloon(vm);
	if (!ret)
		ret = create_guest_device(vm);
	if (!ret)
		ret = create_rng(vm);
	if (!ret)
		ret = nets_create(vm);
	return ret;
}

int vm_add_vcpus(struct vm *vm)
{
	int ret = 0;

	vm->vcpus = calloc(vm->opt->cpus, sizeof(vm->vcpus[0]));
	if (!vm->vcpus)
		return fail(-ENOMEM, "out of memory");
	while (!ret && vm->nr_vcpus < vm->opt->cpus) {
		struct vcpu *vcpu = &vm->vcpus[vm->nr_vcpus];

		ret = vcpu_create(vm, vcpu, vm->nr_vcpus);
		if (ret)
			break;
		vm->nr_vcpus++;
		if (!vm->opt->restore && !vm->opt->incoming)
			ret = vcpu_init(vcpu, &vm->boot);
	}
	return ret;
}

bool vm_stopping(const struct vm *vm)
{
	return atomic_load(&vm->status) >= 0;
}

/* The first reason given is the one that counts. */
void vm_stop(struct vm *vm, int status)
{
	int running = -1;

	if (atomic_compare_exchange_strong(&vm->status, &running, status))
		loop_wake();
}

/* The same at once: output that nobody takes does not hold up the end. */
void vm_quit(struct vm *vm, int status)
{
	/* First: a vCPU that waits for room in the console goes on, perhaps to power off. */
	vm_stop(vm, status);
	console_abandon(vm->console);
	check_stop(vm);
}

/* No vCPU runs before all threads are locked in. */
static int start_vcpus(struct vm *vm)
{
	int ret;
	u32 i;

	ret = sandbox_enter(vm->opt);
	vm_pause(vm, PAUSE_START);
	for (i = 0; i < vm->nr_vcpus && !ret; i++)
		ret = vcpu_start(&vm->vcpus[i]);
	if (!ret)
		ret = sandbox_lock_main();
	if (ret)
		return ret;
	if (vm->opt->incoming) {
		vm_pause(vm, PAUSE_MOVE);
		move_receive_ready(vm);
	}
	vm_resume(vm, PAUSE_START);
	return 0;
}

/*
 * Reserved huge pages are not paged, so that pinning them takes nothing away,
 * unless a balloon gives some back: the ring would go on with the old ones.
 */
static bool may_pin(const struct options *opt)
{
	return opt->nr_disks && !opt->balloon &&
	       (opt->pages == MEM_PAGES_2M || opt->pages == MEM_PAGES_1G);
}

/* Returns the exit status, or -errno if the machine could not be started. */
int vm_run(struct vm *vm)
{
	int ret;
	u32 i;

	if (may_pin(vm->opt))
		loop_memory(vm->mem.host, vm->mem.size);
	else if (vm->opt->nr_disks)
		loop_pins(&vm->mem);
	ret = loop_init(woken, vm);
	if (ret)
		return ret;
	patience_init();
	ret = signals_start(got_signal, vm);
	if (ret)
		goto loop;
	ret = console_open(vm->console, vm->opt->console,
			   vm->opt->console_path);
	if (ret)
		goto signals;
	disks_attach(vm);
	ret = ports_open(vm);
	if (vm->opt->incoming)
		vm_virtio_pause(vm);
	vm_virtio_open(vm);
	notify_open();
	if (!ret)
		ret = move_open(vm);
	if (!ret)
		ret = control_vm_start(vm);
	if (!ret)
		ret = start_vcpus(vm);
	if (ret)
		vm_stop(vm, STATUS_ERROR);
	else
		notify_state("READY=1");
	if (loop_run() && !ret)
		ret = -EIO;
	notify_state("STOPPING=1");

	/* Only after a failed loop do vCPUs still run here. */
	vm_stop(vm, STATUS_ERROR);
	console_abandon(vm->console);
	for (i = 0; i < vm->nr_vcpus; i++) {
		vcpu_kick(&vm->vcpus[i]);
		pause_release(vm);
		vcpu_join(&vm->vcpus[i]);
	}
	move_close(vm);
	vm_throttle_end(vm);
	control_close();
	vm_virtio_close(vm);
	disks_detach(vm);
	ports_close(vm);
	console_close(vm->console);
	notify_close();
signals:
	signals_fini();
loop:
	loop_fini();
	return ret ? ret : atomic_load(&vm->status);
}

void vm_destroy(struct vm *vm)
{
	while (vm->nr_vcpus)
		vcpu_destroy(&vm->vcpus[--vm->nr_vcpus]);
	free(vm->vcpus);
	vm->vcpus = NULL;
	nets_close(vm);
	ports_destroy(vm);
	if (vm->balloon)
		balloon_control_remove();
	devices_destroy(&vm->devices);
	virtio_bus_destroy(vm->bus);
	vm->bus = NULL;
	disks_close(vm);
	control_vm_end();
	if (vm->console)
		console_destroy(vm->console);
	vm->console = NULL;
	if (vm->fd >= 0)
		close(vm->fd);
	vm->fd = -1;
	irq_fini(vm);
	mem_fini(&vm->mem);
	iobus_fini(&vm->pio);
	iobus_fini(&vm->mmio);
	if (vm->dev_fd >= 0)
		close(vm->dev_fd);
	vm->dev_fd = -1;
	pause_fini(vm);
	sandbox_end();
}
