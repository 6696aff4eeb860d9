// SPDX-License-Identifier: GPL-2.0
/*
 * clock.c - the paravirtual clock (kvmclock):
 *  1. the host's TSC and clocks read at one moment,
 *  2. the VM's time base, and whether all its vCPUs share it,
 *  3. the page a vCPU reads its time from, and the wall clock at time zero,
 *  4. the paravirtual MSRs,
 *  5. KVM_GET_CLOCK, KVM_SET_CLOCK, KVM_KVMCLOCK_CTRL,
 *  6. what changes under it: the host's clock source, suspend, CPU changes.
 *
 * kvmclock counts as the host's raw monotonic clock does, plus the time spent
 * suspended. The guest extrapolates with the TSC's nominal frequency, as the
 * raw clock does, so that a new base moves the guest's time by next to nothing.
 *
 * With the host's clock running by a stable TSC and all vCPUs having one TSC
 * offset the clock is "stable": there is one base, every page is the same, and
 * the guest reads it on any CPU. Otherwise each vCPU gets a base of its own,
 * often, and no stable bit: the guest then sees to monotonicity itself.
 */
#define pr_fmt(fmt) "pvhv: " fmt

#include <linux/clocksource.h>
#include <linux/irq_work.h>
#include <linux/ktime.h>
#include <linux/math64.h>
#include <linux/pvclock_gtod.h>
#include <linux/seqlock.h>
#include <linux/timekeeper_internal.h>
#include <linux/timekeeping.h>
#include <linux/workqueue.h>
#include <asm/pvclock.h>
#include <asm/tsc.h>

#include "pvhv.h"

#define UNSTABLE_REFRESH_NS	NSEC_PER_SEC	/* age of a page without stable bit */

/* ------------------------------------------------------ the host's clock -- */

struct tsc_clock {
	u64 last, mask;		/* TSC at the last update of the timekeeper */
	u32 mult, shift;
	u64 fraction;		/* shifted ns at that moment ... */
	u64 base;		/* ... and whole ones, offset to the clock we want */
};

static struct {
	seqcount_t seq;		/* written under the timekeeper's lock */
	bool by_tsc;
	u64 offs_boot;
	struct tsc_clock boot, real;
} host;

static void copy_clock(struct tsc_clock *to, const struct tk_read_base *from,
		       ktime_t offset)
{
	to->last = from->cycle_last;
	to->mask = from->mask;
	to->mult = from->mult;
	to->shift = from->shift;
	to->fraction = from->xtime_nsec;
	to->base = ktime_to_ns(ktime_add(from->base, offset));
}

static u64 clock_at(const struct tsc_clock *clock, u64 tsc)
{
	u64 delta = (tsc - clock->last) & clock->mask;

	/* The TSCs of two CPUs may differ by less than an update's distance. */
	if ((s64)(tsc - clock->last) < 0)
		delta = 0;
	return clock->base +
	       mul_u64_u32_shr(delta, clock->mult, clock->shift) +
	       (clock->fraction >> clock->shift);
}

bool pvhv_host_clock(u64 *tsc, u64 *boot_ns, u64 *real_ns)
{
	unsigned int seq;
	bool by_tsc;

	do {
		seq = read_seqcount_begin(&host.seq);
		by_tsc = host.by_tsc;
		*tsc = rdtsc_ordered();
		if (by_tsc) {
			*boot_ns = clock_at(&host.boot, *tsc);
			*real_ns = clock_at(&host.real, *tsc);
		} else {
			*boot_ns = host.offs_boot;
		}
	} while (read_seqcount_retry(&host.seq, seq));

	/* Not inside: these wait for the timekeeper's own sequence. */
	if (!by_tsc) {
		*boot_ns += ktime_to_ns(ktime_get_raw());
		*real_ns = ktime_get_real_ns();
	}
	return by_tsc && !check_tsc_unstable();
}

/* --------------------------------------------------------- the time base -- */

static bool all_tscs_equal(struct pvhv_vm *vm, u64 *offset)
{
	struct pvhv_vcpu *vcpu;
	unsigned int i;
	u64 ratio = 0;

	*offset = vm->tsc_sync_offset;
	pvhv_for_each_vcpu(i, vcpu, vm) {
		if (!i) {
			*offset = vcpu->tsc_offset;
			ratio = vcpu->tsc_ratio;
		} else if (vcpu->tsc_offset != *offset || vcpu->tsc_ratio != ratio) {
			return false;
		}
	}
	return true;
}

/* Lock held. A base that is good stays: a new one could step back by some ns. */
static bool choose_base(struct pvhv_vm *vm, bool force)
{
	bool was_stable = vm->clock_stable;
	u64 tsc, boot, real, offset;
	bool stable;

	stable = pvhv_host_clock(&tsc, &boot, &real);
	stable = all_tscs_equal(vm, &offset) && stable;
	vm->clock_stable = stable;
	if (stable && (!was_stable || force)) {
		vm->clock_master_tsc = tsc;
		vm->clock_master_ns = boot;
	}
	if (stable == was_stable && !force &&
	    (!stable || vm->clock_tsc_offset == offset))
		return false;
	vm->clock_tsc_offset = offset;
	return true;
}

void pvhv_clock_refresh(struct pvhv_vm *vm, bool force)
{
	unsigned long flags;
	bool changed;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	changed = choose_base(vm, force);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	if (changed)
		pvhv_make_all_request(vm, PVHV_REQ_CLOCK_UPDATE, false);
}

/* The TSC's cycles in ns: factor = mul / 2^32 after shifting by shift. */
static void tsc_factor(u32 khz, u32 *mul, s8 *shift)
{
	u64 hz = (u64)khz * 1000;

	/* 1 to 2 GHz after the shift: the factor has all its 32 bits. */
	*shift = 0;
	while (hz > 2 * NSEC_PER_SEC) {
		hz >>= 1;
		--*shift;
	}
	while (hz <= NSEC_PER_SEC) {
		hz <<= 1;
		++*shift;
	}
	*mul = div64_u64((u64)NSEC_PER_SEC << 32, hz);
}

struct reading {
	u64 tsc;		/* host's */
	u64 kvmclock;
	u64 real;
	bool stable;
};

/* Lock held. As the guest would read it from a page made of this base. */
static void read_clock(struct pvhv_vm *vm, struct reading *r)
{
	u64 boot;
	u32 mul;
	s8 shift;

	pvhv_host_clock(&r->tsc, &boot, &r->real);
	r->stable = vm->clock_stable;
	if (r->stable) {
		tsc_factor(pvhv_tsc_clock_khz(vm), &mul, &shift);
		boot = vm->clock_master_ns +
		       pvclock_scale_delta(r->tsc - vm->clock_master_tsc, mul, shift);
	}
	r->kvmclock = boot + vm->kvmclock_offset;
}

static void read_clock_locked(struct pvhv_vm *vm, struct reading *r)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	read_clock(vm, r);
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
}

/* ------------------------------------------------------ the guest's pages -- */

/*
 * Readers retry while the version is odd or changes. What the guest finds
 * there already counts: after a migration the version must not repeat.
 */
static void write_page(struct pvhv_vcpu *vcpu, u64 gpa,
		       struct pvclock_vcpu_time_info *info)
{
	struct pvclock_vcpu_time_info old;
	struct pvhv_vm *vm = vcpu->vm;

	if (pvhv_read_guest(vm, gpa, &old, sizeof(old)))
		return;
	/* The guest clears this one itself when it has seen it. */
	info->flags |= old.flags & PVCLOCK_GUEST_STOPPED;
	if (vcpu->pv.clock_stopped_by_host) {
		info->flags |= PVCLOCK_GUEST_STOPPED;
		vcpu->pv.clock_stopped_by_host = false;
	}

	info->version = (old.version + 1) | 1;
	if (pvhv_write_guest(vm, gpa, &info->version, sizeof(info->version)))
		return;
	smp_wmb();	/* odd version, then the data */
	if (pvhv_write_guest(vm, gpa, info, sizeof(*info)))
		return;
	smp_wmb();	/* the data, then the even version */
	info->version++;
	if (pvhv_write_guest(vm, gpa, &info->version, sizeof(info->version)))
		return;
	vcpu->pv.clock_version = info->version;
}

void pvhv_clock_update(struct pvhv_vcpu *vcpu)
{
	struct pvclock_vcpu_time_info info = { };
	struct pvhv_vm *vm = vcpu->vm;
	unsigned long flags;
	u64 boot, real;

	/* Somebody else may have moved the offset (resume from suspend). */
	vcpu->be->sync(vcpu, PVHV_SYNC_TSC);
	if (!(vcpu->pv.system_time_msr & KVM_MSR_ENABLED))
		return;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	if (vm->clock_stable) {
		info.tsc_timestamp = vm->clock_master_tsc;
		boot = vm->clock_master_ns;
		info.flags = PVCLOCK_TSC_STABLE_BIT;
	} else {
		pvhv_host_clock(&info.tsc_timestamp, &boot, &real);
		vcpu->pv.clock_ns = boot;
	}
	info.tsc_timestamp = pvhv_guest_tsc(vcpu, info.tsc_timestamp);
	info.system_time = boot + vm->kvmclock_offset;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);

	tsc_factor(vcpu->tsc_khz, &info.tsc_to_system_mul, &info.tsc_shift);
	write_page(vcpu, vcpu->pv.system_time_msr & ~1ULL, &info);
}

static void write_wall_clock(struct pvhv_vm *vm, u64 gpa)
{
	struct pvclock_wall_clock wc;
	struct reading now;
	u32 version;

	if (!gpa || pvhv_read_guest(vm, gpa, &version, sizeof(version)))
		return;
	read_clock_locked(vm, &now);
	now.real -= now.kvmclock;
	wc.sec = div_u64_rem(now.real, NSEC_PER_SEC, &wc.nsec);
	wc.version = (version + 1) | 1;
	if (pvhv_write_guest(vm, gpa, &wc.version, sizeof(wc.version)))
		return;
	smp_wmb();
	if (pvhv_write_guest(vm, gpa, &wc, sizeof(wc)))
		return;
	smp_wmb();
	wc.version++;
	if (pvhv_write_guest(vm, gpa, &wc.version, sizeof(wc.version)))
		return;
}

/* -------------------------------------------------------------- the MSRs -- */

static bool pv_has(const struct pvhv_vcpu *vcpu, unsigned int feature)
{
	return !vcpu->pv_enforce || (vcpu->pv_features & BIT(feature));
}

/* The feature that an MSR belongs to; -1: none of these. */
static int feature_of(u32 index)
{
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_SYSTEM_TIME:
		return KVM_FEATURE_CLOCKSOURCE;
	case MSR_KVM_WALL_CLOCK_NEW:
	case MSR_KVM_SYSTEM_TIME_NEW:
		return KVM_FEATURE_CLOCKSOURCE2;
	case MSR_KVM_STEAL_TIME:
		return KVM_FEATURE_STEAL_TIME;
	case MSR_KVM_PV_EOI_EN:
		return KVM_FEATURE_PV_EOI;
	case MSR_KVM_POLL_CONTROL:
		return KVM_FEATURE_POLL_CONTROL;
	default:
		return -1;
	}
}

int pvhv_clock_msr_get(struct pvhv_vcpu *vcpu, u32 index, u64 *value)
{
	int feature = feature_of(index);

	if (feature < 0 || !pv_has(vcpu, feature))
		return 1;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		*value = vcpu->vm->wall_clock_msr;
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		*value = vcpu->pv.system_time_msr;
		return 0;
	case MSR_KVM_STEAL_TIME:
		*value = vcpu->pv.steal_msr;
		return 0;
	case MSR_KVM_PV_EOI_EN:
		*value = vcpu->pv.pv_eoi_msr;
		return 0;
	default:
		*value = vcpu->pv.poll_msr;
		return 0;
	}
}

int pvhv_clock_msr_set(struct pvhv_vcpu *vcpu, u32 index, u64 value)
{
	int feature = feature_of(index);

	if (feature < 0 || !pv_has(vcpu, feature))
		return 1;
	switch (index) {
	case MSR_KVM_WALL_CLOCK:
	case MSR_KVM_WALL_CLOCK_NEW:
		vcpu->vm->wall_clock_msr = value;
		write_wall_clock(vcpu->vm, value);
		return 0;
	case MSR_KVM_SYSTEM_TIME:
	case MSR_KVM_SYSTEM_TIME_NEW:
		vcpu->pv.system_time_msr = value;
		vcpu->pv.clock_stopped_by_host = false;
		/* Now this vCPU's offset counts, too. */
		pvhv_clock_refresh(vcpu->vm, false);
		pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
		return 0;
	case MSR_KVM_STEAL_TIME:
		return pvhv_steal_set_msr(vcpu, value);
	case MSR_KVM_PV_EOI_EN:
		return pvhv_lapic_set_pv_eoi(vcpu, value);
	default:
		if (value & ~1ULL)
			return 1;
		vcpu->pv.poll_msr = value;
		return 0;
	}
}

/* ------------------------------------------------------------- the ioctls -- */

long pvhv_ioctl_get_clock(void *obj, void *data, unsigned long arg)
{
	struct kvm_clock_data *clock = data;
	struct pvhv_vm *vm = obj;
	struct reading now;

	pvhv_clock_refresh(vm, false);
	read_clock_locked(vm, &now);
	memset(clock, 0, sizeof(*clock));
	clock->clock = now.kvmclock;
	if (now.stable) {
		clock->flags = KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME |
			       KVM_CLOCK_HOST_TSC;
		clock->realtime = now.real;
		clock->host_tsc = now.tsc;
	}
	return 0;
}

long pvhv_ioctl_set_clock(void *obj, void *data, unsigned long arg)
{
	const struct kvm_clock_data *clock = data;
	struct pvhv_vm *vm = obj;
	u64 value = clock->clock;
	u64 tsc, boot, real;
	unsigned long flags;

	if (clock->flags & ~(KVM_CLOCK_TSC_STABLE | KVM_CLOCK_REALTIME |
			     KVM_CLOCK_HOST_TSC))
		return -EINVAL;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	choose_base(vm, true);
	pvhv_host_clock(&tsc, &boot, &real);
	/* Time that passed between saving and restoring; never backwards. */
	if ((clock->flags & KVM_CLOCK_REALTIME) && real > clock->realtime)
		value += real - clock->realtime;
	/* Relative to the base: no page may ever begin below zero. */
	if (vm->clock_stable)
		boot = vm->clock_master_ns;
	vm->kvmclock_offset = value - boot;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);

	pvhv_make_all_request(vm, PVHV_REQ_CLOCK_UPDATE, true);
	return 0;
}

/* The VMM had the guest stopped: its watchdogs shall not count that. */
long pvhv_ioctl_kvmclock_ctrl(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;

	if (!(vcpu->pv.system_time_msr & KVM_MSR_ENABLED))
		return -EINVAL;
	vcpu->pv.clock_stopped_by_host = true;
	pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
	return 0;
}

/* --------------------------------------------------------------- life -- */

void pvhv_clock_vm_init(struct pvhv_vm *vm)
{
	u64 tsc, boot, real;

	raw_spin_lock_init(&vm->clock_lock);
	vm->default_tsc_khz = tsc_khz;
	pvhv_host_clock(&tsc, &boot, &real);
	vm->kvmclock_offset = -boot;	/* kvmclock begins at 0 */
}

void pvhv_clock_vcpu_init(struct pvhv_vcpu *vcpu)
{
	pvhv_tsc_vcpu_init(vcpu);
	pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
}

void pvhv_clock_vcpu_load(struct pvhv_vcpu *vcpu, int cpu, int last_cpu)
{
	pvhv_steal_vcpu_load(vcpu);
	if (likely(READ_ONCE(vcpu->vm->clock_stable)))
		return;
	if (cpu != last_cpu && check_tsc_unstable())
		pvhv_tsc_vcpu_load(vcpu);
	if (vcpu->pv.system_time_msr & KVM_MSR_ENABLED &&
	    (cpu != last_cpu || ktime_get_raw_fast_ns() + host.offs_boot -
				vcpu->pv.clock_ns > UNSTABLE_REFRESH_NS))
		pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
}

void pvhv_clock_vcpu_put(struct pvhv_vcpu *vcpu)
{
	if (unlikely(check_tsc_unstable()))
		vcpu->pv.left_tsc = pvhv_read_tsc(vcpu);
}

static void refresh_all(struct work_struct *work)
{
	struct pvhv_vm *vm;

	mutex_lock(&pvhv_vms_lock);
	list_for_each_entry(vm, &pvhv_vms, link)
		pvhv_clock_refresh(vm, true);
	mutex_unlock(&pvhv_vms_lock);
}

static DECLARE_WORK(refresh_work, refresh_all);

static void queue_refresh(struct irq_work *unused)
{
	schedule_work(&refresh_work);
}

static struct irq_work refresh_irq_work = IRQ_WORK_INIT(queue_refresh);

/* Under the timekeeper's lock: wakes nobody here, irq_work does. */
static int timekeeper_changed(struct notifier_block *nb, unsigned long stepped,
			      void *data)
{
	const struct timekeeper *tk = data;
	bool by_tsc, changed;

	by_tsc = tk->tkr_mono.clock->vdso_clock_mode == VDSO_CLOCKMODE_TSC;
	changed = by_tsc != host.by_tsc ||
		  host.offs_boot != ktime_to_ns(tk->offs_boot);

	write_seqcount_begin(&host.seq);
	host.by_tsc = by_tsc;
	host.offs_boot = ktime_to_ns(tk->offs_boot);
	copy_clock(&host.boot, &tk->tkr_raw, tk->offs_boot);
	copy_clock(&host.real, &tk->tkr_mono, tk->offs_real);
	write_seqcount_end(&host.seq);

	if (changed)
		irq_work_queue(&refresh_irq_work);
	return 0;
}

static struct notifier_block timekeeper_notifier = {
	.notifier_call = timekeeper_changed,
};

/*
 * The TSC may begin again at 0 in a suspend; guests' must not. One CPU, no
 * interrupts, all user threads frozen: the list of VMs does not change.
 */
static u64 suspend_tsc;

static int clock_suspend(void)
{
	suspend_tsc = rdtsc();
	return 0;
}

static void clock_resume(void)
{
	u64 now = rdtsc();
	struct pvhv_vcpu *vcpu;
	struct pvhv_vm *vm;
	unsigned int i;

	if (now >= suspend_tsc)
		return;		/* the timekeeper's notifier sees the rest */
	list_for_each_entry(vm, &pvhv_vms, link) {
		pvhv_for_each_vcpu(i, vcpu, vm) {
			vcpu->tsc_offset += pvhv_guest_tsc(vcpu, suspend_tsc) - pvhv_guest_tsc(vcpu, now);
			pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
		}
		vm->tsc_sync_offset += pvhv_scale_tsc(suspend_tsc, vm->tsc_sync_ratio) -
				       pvhv_scale_tsc(now, vm->tsc_sync_ratio);
		choose_base(vm, true);
	}
}

PVHV_SYSCORE(clock_syscore, clock_suspend, clock_resume);

int pvhv_clock_module_init(void)
{
	if (!tsc_khz) {
		pr_err("the host does not know its TSC's frequency\n");
		return -ENODEV;
	}
	seqcount_init(&host.seq);
	pvhv_syscore_register(&clock_syscore);
	return pvclock_gtod_register_notifier(&timekeeper_notifier);
}

void pvhv_clock_module_exit(void)
{
	pvclock_gtod_unregister_notifier(&timekeeper_notifier);
	pvhv_syscore_unregister(&clock_syscore);
	irq_work_sync(&refresh_irq_work);
	cancel_work_sync(&refresh_work);
}
