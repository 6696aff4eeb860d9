// SPDX-License-Identifier: GPL-2.0
/*
 * The state of a machine but for its memory, as one buffer of sections.
 *  1. What all vCPUs share in the kernel: interrupt chips, PIT, clock.
 *  2. vm_save(): of a machine that is frozen (freeze.c).
 *  3. vm_load(): into a machine of the same devices that has not run.  The
 *     chips come first, then the clock, which vCPUs' MSRs refer to.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vmm.h"

#define CHIPS_VERSION	1
#define NS		1000000000ULL

static const struct {
	const char *name;
	u32 id;
} chips[] = {
	{ "pic0", KVM_IRQCHIP_PIC_MASTER },
	{ "pic1", KVM_IRQCHIP_PIC_SLAVE },
	{ "ioapic", KVM_IRQCHIP_IOAPIC },
};

static bool has_pit(const struct vm *vm)
{
	return ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_PIT_STATE2) > 0;
}

static int save_chips(struct vm *vm, struct state *st)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(chips); i++) {
		memset(&chip, 0, sizeof(chip));
		chip.chip_id = chips[i].id;
		if (ioctl(vm->fd, KVM_GET_IRQCHIP, &chip))
			return fail(-errno, "cannot save %s: %s", chips[i].name,
				    strerror(errno));
		state_put(st, chips[i].name, &chip, sizeof(chip));
	}
	if (!has_pit(vm))
		return 0;
	memset(&pit, 0, sizeof(pit));
	if (ioctl(vm->fd, KVM_GET_PIT2, &pit))
		return fail(-errno, "cannot save pit: %s", strerror(errno));
	state_put(st, "pit", &pit, sizeof(pit));
	return 0;
}

static int save_clock(struct vm *vm, struct state *st)
{
	struct kvm_clock_data clock = { 0 };
	struct timespec now;

	if (ioctl(vm->fd, KVM_GET_CLOCK, &clock))
		return fail(-errno, "cannot save the clock: %s",
			    strerror(errno));
	clock_gettime(CLOCK_REALTIME, &now);
	state_put_u64(st, "clock", clock.clock);
	state_put_u64(st, "realtime", now.tv_sec * NS + now.tv_nsec);
	state_put_u64(st, "held", vm->pause.owners & PAUSE_USER);
	return 0;
}

int vm_save(struct vm *vm, struct state *st)
{
	int ret;
	u32 i;

	state_begin(st, "chips", CHIPS_VERSION);
	ret = save_chips(vm, st);
	if (!ret)
		ret = save_clock(vm, st);
	state_end(st);
	for (i = 0; i < vm->nr_vcpus && !ret; i++)
		ret = vcpu_save(&vm->vcpus[i], st);
	if (!ret)
		ret = devices_save(&vm->devices, st);
	return ret ? ret : st->err;
}

static int damaged(const char *name)
{
	return fail(-EBADMSG, "state: '%s' of section 'chips' is damaged", name);
}

static int load_chips(struct vm *vm, const struct state_section *sec)
{
	struct kvm_irqchip chip;
	struct kvm_pit_state2 pit;
	unsigned int i;
	size_t got;

	for (i = 0; i < ARRAY_SIZE(chips); i++) {
		if (state_get(sec, chips[i].name, &chip, sizeof(chip), &got) ||
		    got != sizeof(chip) || chip.chip_id != chips[i].id)
			return damaged(chips[i].name);
		if (ioctl(vm->fd, KVM_SET_IRQCHIP, &chip))
			return fail(-errno, "state: this host refuses '%s': %s",
				    chips[i].name, strerror(errno));
	}
	if (!has_pit(vm))
		return 0;
	if (state_get(sec, "pit", &pit, sizeof(pit), &got) || got != sizeof(pit))
		return damaged("pit");
	if (ioctl(vm->fd, KVM_SET_PIT2, &pit))
		return fail(-errno, "state: this host refuses 'pit': %s",
			    strerror(errno));
	return 0;
}

/*
 * A guest that moves sees its clocks go on while it was stopped; one that was
 * put away goes on where it was.
 */
static int load_clock(struct vm *vm, const struct state_section *sec,
		      bool moved, u64 *late_ns)
{
	struct kvm_clock_data clock = { 0 };
	u64 value, then, now_ns;
	struct timespec now;

	if (state_get_u64(sec, "clock", UINT64_MAX, &value) ||
	    state_get_u64(sec, "realtime", UINT64_MAX, &then))
		return damaged("clock");
	clock_gettime(CLOCK_REALTIME, &now);
	now_ns = now.tv_sec * NS + now.tv_nsec;
	*late_ns = moved && now_ns > then ? now_ns - then : 0;
	clock.clock = value + *late_ns;
	if (ioctl(vm->fd, KVM_SET_CLOCK, &clock))
		return fail(-errno, "state: this host refuses the clock: %s",
			    strerror(errno));
	return 0;
}

/*
 * @moved: it goes on at once, unless it was held by command; else it was put
 * away, and whoever takes it out wants it to run.
 */
int vm_load(struct vm *vm, const void *data, size_t len, bool moved)
{
	struct state_section sec;
	u64 late_ns = 0, held;
	int ret;
	u32 i;

	ret = state_find(data, len, "chips", &sec);
	if (ret || sec.version > CHIPS_VERSION)
		return fail(ret ? ret : -EPROTONOSUPPORT, "state: no usable section 'chips': the state is damaged or too new");
	ret = load_chips(vm, &sec);
	if (!ret)
		ret = load_clock(vm, &sec, moved, &late_ns);
	for (i = 0; i < vm->nr_vcpus && !ret; i++)
		ret = vcpu_load(&vm->vcpus[i], data, len, late_ns);
	if (!ret)
		ret = devices_load(&vm->devices, data, len);
	if (!ret && moved && !state_get_u64(&sec, "held", UINT32_MAX, &held) &&
	    held & PAUSE_USER)
		vm_pause(vm, PAUSE_USER);
	/* Its watchdogs shall not count the time; without kvmclock they must. */
	for (i = 0; i < vm->nr_vcpus && !ret; i++)
		if (ioctl(vm->vcpus[i].fd, KVM_KVMCLOCK_CTRL, 0))
			break;
	return ret;
}
