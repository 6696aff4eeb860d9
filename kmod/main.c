// SPDX-License-Identifier: GPL-2.0
/*
 * main.c - the module's life:
 *  1. choose the backend, register /dev/pvhv, and the reverse,
 *  2. virtualization on and off on the host's CPUs: on with the first VM,
 *     off with the last, through CPU hotplug, suspend and reboot.
 */
#define pr_fmt(fmt) "pvhv: " fmt

#include <linux/cpu.h>
#include <linux/cpuhotplug.h>
#include <linux/module.h>
#include <linux/reboot.h>

#include "pvhv.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

#include "svm/svm.h"
#include "vmx/vmx.h"

static const struct pvhv_backend *const backends[] = {
	&pvhv_svm_backend,
	&pvhv_vmx_backend,
};

const struct pvhv_backend *pvhv_be;
LIST_HEAD(pvhv_vms);
DEFINE_MUTEX(pvhv_vms_lock);

/*
 * True while this CPU may enter a guest. Written on the CPU itself with
 * interrupts off; the run loop reads it with interrupts off.
 */
DEFINE_PER_CPU(bool, pvhv_virt_on);

static DEFINE_MUTEX(hardware_lock);	/* inside cpus_read_lock() */
static unsigned int hardware_users;	/* VMs */
static enum cpuhp_state cpuhp_state;

static DEFINE_MUTEX(notice_lock);	/* outside cpus_read_lock() */
static bool notified_of_switches;	/* by preempt notifiers */
static bool notified_of_crashes;

static void cpu_off(void *unused);

/* In an NMI, perhaps, and this CPU runs no vCPU any more. */
static void emergency(void)
{
	cpu_off(NULL);
}

/*
 * There is one callback for crashes. Where the stock KVM is loaded it is
 * KVM's, which leaves VMX operation for us, too.
 */
static void want_notice_of_crashes(void)
{
	if (__symbol_get("kvm_rebooting")) {
		__symbol_put("kvm_rebooting");
		return;
	}
	cpu_emergency_register_virt_callback(emergency);
	notified_of_crashes = true;
}

static int cpu_on(void)
{
	unsigned long flags;
	int r = 0;

	local_irq_save(flags);
	if (!this_cpu_read(pvhv_virt_on)) {
		r = pvhv_be->cpu_enable();
		if (!r)
			this_cpu_write(pvhv_virt_on, true);
	}
	local_irq_restore(flags);
	return r;
}

static void cpu_off(void *unused)
{
	unsigned long flags;

	local_irq_save(flags);
	if (this_cpu_read(pvhv_virt_on)) {
		this_cpu_write(pvhv_virt_on, false);
		pvhv_be->cpu_disable();
	}
	local_irq_restore(flags);
}

static void cpu_on_ipi(void *failed)
{
	if (cpu_on())
		atomic_inc(failed);
}

/*
 * From the first VM until the module goes, not for each VM: it patches the
 * scheduler's code on all CPUs, and taking it back waits for all CPUs. Nobody
 * pays for a module without VMs.
 */
static void want_notices(void)
{
	mutex_lock(&notice_lock);
	if (!notified_of_switches) {
		preempt_notifier_inc();
		notified_of_switches = true;
		want_notice_of_crashes();
	}
	mutex_unlock(&notice_lock);
}

int pvhv_hardware_get(void)
{
	atomic_t failed = ATOMIC_INIT(0);
	int r = 0;

	want_notices();
	cpus_read_lock();
	mutex_lock(&hardware_lock);
	if (!hardware_users) {
		on_each_cpu(cpu_on_ipi, &failed, 1);
		if (atomic_read(&failed)) {
			on_each_cpu(cpu_off, NULL, 1);
			pr_warn("%s is in use by another hypervisor\n", pvhv_be->name);
			r = -EBUSY;
		}
	}
	if (!r)
		hardware_users++;
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
	return r;
}

void pvhv_hardware_put(void)
{
	cpus_read_lock();
	mutex_lock(&hardware_lock);
	if (!--hardware_users)
		on_each_cpu(cpu_off, NULL, 1);
	mutex_unlock(&hardware_lock);
	cpus_read_unlock();
}

/*
 * Hotplug callbacks run on the CPU concerned; hardware_users cannot change
 * meanwhile, since its writers hold cpus_read_lock().
 */
static int pvhv_cpu_online(unsigned int cpu)
{
	return hardware_users ? cpu_on() : 0;
}

static int pvhv_cpu_offline(unsigned int cpu)
{
	/* vCPU threads still here find pvhv_virt_on false until they move. */
	cpu_off(NULL);
	return 0;
}

static int pvhv_suspend(void)
{
	cpu_off(NULL);
	return 0;
}

static void pvhv_resume(void)
{
	if (hardware_users && cpu_on())
		pr_err("virtualization did not come back after suspend\n");
}

PVHV_SYSCORE(pvhv_syscore, pvhv_suspend, pvhv_resume);

/* Reboot and kexec: the next kernel finds the CPUs as firmware left them. */
static int pvhv_reboot(struct notifier_block *nb, unsigned long event, void *unused)
{
	on_each_cpu(cpu_off, NULL, 1);
	return NOTIFY_OK;
}

static struct notifier_block reboot_notifier = { .notifier_call = pvhv_reboot };

static int __init choose_backend(void)
{
	unsigned int i;
	int r = -ENODEV;

	for (i = 0; i < ARRAY_SIZE(backends); i++) {
		r = backends[i]->probe();
		if (!r) {
			pvhv_be = backends[i];
			return 0;
		}
		if (r != -ENODEV)
			break;
	}
	pr_err("no usable virtualization hardware (%d)\n", r);
	return r;
}

static int __init pvhv_init(void)
{
	int r;

	r = choose_backend();
	if (r)
		return r;
	pvhv_run_init();
	r = pvhv_cpuid_init();
	if (r)
		goto err_backend;
	r = pvhv_clock_module_init();
	if (r)
		goto err_backend;
	r = pvhv_eventfd_module_init();
	if (r)
		goto err_clock;
	r = cpuhp_setup_state(CPUHP_AP_ONLINE_DYN, "pvhv:online",
			      pvhv_cpu_online, pvhv_cpu_offline);
	if (r < 0)
		goto err_eventfd;
	cpuhp_state = r;
	pvhv_syscore_register(&pvhv_syscore);
	register_reboot_notifier(&reboot_notifier);
	pvhv_stats_init();
	r = pvhv_chardev_init();
	if (r)
		goto err_stats;
	pr_info("backend %s\n", pvhv_be->name);
	return 0;

err_stats:
	pvhv_stats_exit();
	unregister_reboot_notifier(&reboot_notifier);
	pvhv_syscore_unregister(&pvhv_syscore);
	cpuhp_remove_state(cpuhp_state);
err_eventfd:
	pvhv_eventfd_module_exit();
err_clock:
	pvhv_clock_module_exit();
err_backend:
	pvhv_be->remove();
	return r;
}

static void __exit pvhv_exit(void)
{
	pvhv_chardev_exit();
	if (notified_of_switches)
		preempt_notifier_dec();
	if (notified_of_crashes)
		cpu_emergency_unregister_virt_callback(emergency);
	pvhv_stats_exit();
	unregister_reboot_notifier(&reboot_notifier);
	pvhv_syscore_unregister(&pvhv_syscore);
	cpuhp_remove_state(cpuhp_state);
	pvhv_eventfd_module_exit();
	pvhv_clock_module_exit();
	/* No VM is left (each holds the module); their RCU callbacks may be. */
	rcu_barrier();
	pvhv_be->remove();
}

module_init(pvhv_init);
module_exit(pvhv_exit);

MODULE_DESCRIPTION("pvhv hypervisor: the KVM API on /dev/pvhv");
MODULE_LICENSE("GPL");
