// SPDX-License-Identifier: GPL-2.0
/*
 * tsc.c - the guest's time stamp counter, host TSC * tsc_ratio + tsc_offset:
 *  1. reading it, writing it (MSR TSC) and moving it (MSR TSC_ADJUST),
 *  2. keeping the vCPUs of a VM in step when a VMM writes them one by one,
 *  3. its frequency: the host's, where the CPU scales it any.
 *
 * Offsets change under vm->clock_lock, since kvmclock compares them.
 */
#include <linux/math64.h>
#include <linux/uaccess.h>
#include <asm/tsc.h>

#include "pvhv.h"

#define TOLERANCE_PPM	250	/* a frequency as good as the host's */
/* Ratios from 1/256 to 256, so that the longest time is one still when divided. */
#define RATIO_RANGE	8
#define LONGEST_TICKS	(BIT_ULL(64 - 1 - RATIO_RANGE))

u64 pvhv_scale_tsc(u64 host_tsc, u64 ratio)
{
	return likely(!ratio) ? host_tsc : mul_u64_u64_shr(host_tsc, ratio, PVHV_TSC_RATIO_SHIFT);
}

u64 pvhv_guest_tsc(const struct pvhv_vcpu *vcpu, u64 host_tsc)
{
	return pvhv_scale_tsc(host_tsc, vcpu->tsc_ratio) + vcpu->tsc_offset;
}

u64 pvhv_read_tsc(struct pvhv_vcpu *vcpu)
{
	return pvhv_guest_tsc(vcpu, rdtsc());
}

u64 pvhv_tsc_host_ticks(const struct pvhv_vcpu *vcpu, u64 guest_ticks)
{
	if (likely(!vcpu->tsc_ratio))
		return guest_ticks;
	return mul_u64_u64_div_u64(min(guest_ticks, LONGEST_TICKS), BIT_ULL(PVHV_TSC_RATIO_SHIFT),
				   vcpu->tsc_ratio);
}

static u64 ns_to_cycles(struct pvhv_vcpu *vcpu, u64 ns)
{
	return mul_u64_u32_div(ns, vcpu->tsc_khz, USEC_PER_SEC);
}

/* Own thread, lock not held. */
static void offset_changed(struct pvhv_vcpu *vcpu)
{
	vcpu->be->sync(vcpu, PVHV_SYNC_TSC);
	pvhv_clock_refresh(vcpu->vm, false);
	pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
	if (vcpu->lapic)
		pvhv_lapic_tsc_changed(vcpu);
}

static void add_offset(struct pvhv_vcpu *vcpu, u64 delta)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&vcpu->vm->clock_lock, flags);
	vcpu->tsc_offset += delta;
	raw_spin_unlock_irqrestore(&vcpu->vm->clock_lock, flags);
	offset_changed(vcpu);
}

/*
 * Lock held. A VMM restores the vCPUs one after the other, each with the value
 * saved; a reset writes 0 to each. Both mean "as the others": within a second
 * of what the last one written shows by now is taken for that.
 */
static void synchronize(struct pvhv_vcpu *vcpu, u64 value, bool user)
{
	struct pvhv_vm *vm = vcpu->vm;
	u64 tsc, boot, real, elapsed;
	bool alike;

	pvhv_host_clock(&tsc, &boot, &real);
	tsc = pvhv_scale_tsc(tsc, vcpu->tsc_ratio);
	elapsed = ns_to_cycles(vcpu, boot - vm->tsc_sync_ns);
	if (!vm->tsc_sync_ns) {
		alike = false;
	} else if (!value) {
		alike = true;
	} else if (user && !vm->tsc_user_set) {
		/* The values from creation are nobody's wish. */
		alike = false;
	} else {
		u64 second = vcpu->tsc_khz * 1000ULL;
		u64 expected = vm->tsc_sync_value + elapsed;

		alike = value < expected + second && value + second > expected;
	}
	if (user && value)
		vm->tsc_user_set = true;

	if (alike && vm->tsc_sync_ratio == vcpu->tsc_ratio && !check_tsc_unstable()) {
		vcpu->tsc_offset = vm->tsc_sync_offset;
		return;
	}
	if (alike)
		value = vm->tsc_sync_value + elapsed;
	vcpu->tsc_offset = value - tsc;
	vm->tsc_sync_offset = vcpu->tsc_offset;
	vm->tsc_sync_ratio = vcpu->tsc_ratio;
	vm->tsc_sync_value = value;
	vm->tsc_sync_ns = boot;
}

void pvhv_write_tsc(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	unsigned long flags;

	if (!host) {
		u64 delta = value - pvhv_read_tsc(vcpu);

		/* The SDM: writing the TSC moves TSC_ADJUST alike. */
		vcpu->tsc_adjust += delta;
		add_offset(vcpu, delta);
		return;
	}
	raw_spin_lock_irqsave(&vcpu->vm->clock_lock, flags);
	synchronize(vcpu, value, true);
	raw_spin_unlock_irqrestore(&vcpu->vm->clock_lock, flags);
	offset_changed(vcpu);
}

/* KVM_VCPU_TSC_OFFSET: the offset itself, which the others' TSCs then agree with or not. */
static void set_offset(struct pvhv_vcpu *vcpu, u64 offset)
{
	struct pvhv_vm *vm = vcpu->vm;
	u64 tsc, boot, real;
	unsigned long flags;

	raw_spin_lock_irqsave(&vm->clock_lock, flags);
	pvhv_host_clock(&tsc, &boot, &real);
	vcpu->tsc_offset = offset;
	vm->tsc_user_set = true;
	vm->tsc_sync_offset = offset;
	vm->tsc_sync_ratio = vcpu->tsc_ratio;
	vm->tsc_sync_value = pvhv_guest_tsc(vcpu, tsc);
	vm->tsc_sync_ns = boot;
	raw_spin_unlock_irqrestore(&vm->clock_lock, flags);
	offset_changed(vcpu);
}

long pvhv_ioctl_has_vcpu_attr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;

	return attr->group == KVM_VCPU_TSC_CTRL && attr->attr == KVM_VCPU_TSC_OFFSET ? 0 : -ENXIO;
}

long pvhv_ioctl_get_vcpu_attr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;
	struct pvhv_vcpu *vcpu = obj;
	long r = pvhv_ioctl_has_vcpu_attr(obj, data, arg);

	return r ?: put_user(vcpu->tsc_offset, (u64 __user *)attr->addr);
}

long pvhv_ioctl_set_vcpu_attr(void *obj, void *data, unsigned long arg)
{
	const struct kvm_device_attr *attr = data;
	long r = pvhv_ioctl_has_vcpu_attr(obj, data, arg);
	u64 offset;

	if (r)
		return r;
	if (get_user(offset, (u64 __user *)attr->addr))
		return -EFAULT;
	set_offset(obj, offset);
	return 0;
}

void pvhv_write_tsc_adjust(struct pvhv_vcpu *vcpu, u64 value, bool host)
{
	u64 delta = value - vcpu->tsc_adjust;

	vcpu->tsc_adjust = value;
	/* A VMM restores the TSC itself; the adjustment is in it already. */
	if (!host && delta)
		add_offset(vcpu, delta);
}

static bool like_host(unsigned long khz)
{
	unsigned long slack = div_u64((u64)tsc_khz * TOLERANCE_PPM, USEC_PER_SEC);

	return khz >= tsc_khz - slack && khz <= tsc_khz + slack;
}

/* 0: none is needed */
static u64 ratio_of(u32 khz)
{
	if (like_host(khz))
		return 0;
	return mul_u64_u64_div_u64(khz, BIT_ULL(PVHV_TSC_RATIO_SHIFT), tsc_khz);
}

bool pvhv_tsc_scales(void)
{
	return pvhv_be->scales_tsc && pvhv_be->scales_tsc();
}

static bool khz_acceptable(unsigned long khz)
{
	if (like_host(khz))
		return true;
	return pvhv_tsc_scales() && khz >= DIV_ROUND_UP(tsc_khz, 1 << RATIO_RANGE) && khz <= U32_MAX &&
	       khz <= (u64)tsc_khz << RATIO_RANGE;
}

void pvhv_tsc_vcpu_init(struct pvhv_vcpu *vcpu)
{
	unsigned long flags;

	vcpu->tsc_khz = vcpu->vm->default_tsc_khz;
	vcpu->tsc_ratio = ratio_of(vcpu->tsc_khz);
	raw_spin_lock_irqsave(&vcpu->vm->clock_lock, flags);
	synchronize(vcpu, 0, false);
	raw_spin_unlock_irqrestore(&vcpu->vm->clock_lock, flags);
}

/* Where CPUs disagree about the TSC, the guest's goes on from where it left. */
void pvhv_tsc_vcpu_load(struct pvhv_vcpu *vcpu)
{
	unsigned long flags;
	u64 now;

	if (!vcpu->pv.left_tsc)
		return;
	raw_spin_lock_irqsave(&vcpu->vm->clock_lock, flags);
	now = pvhv_read_tsc(vcpu);
	if ((s64)(now - vcpu->pv.left_tsc) < 0)
		vcpu->tsc_offset += vcpu->pv.left_tsc - now;
	raw_spin_unlock_irqrestore(&vcpu->vm->clock_lock, flags);
	vcpu->be->sync(vcpu, PVHV_SYNC_TSC);
}

/* -------------------------------------------------------- the frequency -- */

long pvhv_ioctl_set_tsc_khz(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	unsigned long khz = arg ? arg : tsc_khz, flags;
	u64 old = vcpu->tsc_ratio;

	if (!khz_acceptable(khz))
		return -EINVAL;
	raw_spin_lock_irqsave(&vcpu->vm->clock_lock, flags);
	vcpu->tsc_khz = khz;
	vcpu->tsc_ratio = ratio_of(khz);
	/* Another rate is a new beginning: as the others, if they have it already. */
	if (vcpu->tsc_ratio != old)
		synchronize(vcpu, 0, false);
	raw_spin_unlock_irqrestore(&vcpu->vm->clock_lock, flags);
	if (vcpu->tsc_ratio != old)
		offset_changed(vcpu);
	pvhv_set_request(vcpu, PVHV_REQ_CLOCK_UPDATE);
	return 0;
}

long pvhv_ioctl_get_tsc_khz(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;

	return vcpu->tsc_khz;
}

long pvhv_ioctl_vm_set_tsc_khz(void *obj, void *data, unsigned long arg)
{
	unsigned long khz = arg ? arg : tsc_khz;
	struct pvhv_vm *vm = obj;

	if (!khz_acceptable(khz))
		return -EINVAL;
	WRITE_ONCE(vm->default_tsc_khz, khz);
	return 0;
}

long pvhv_ioctl_vm_get_tsc_khz(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vm *vm = obj;

	return READ_ONCE(vm->default_tsc_khz);
}

u32 pvhv_tsc_clock_khz(const struct pvhv_vm *vm)
{
	u32 khz = READ_ONCE(vm->default_tsc_khz);

	return like_host(khz) ? khz : tsc_khz;
}
