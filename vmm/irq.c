// SPDX-License-Identifier: GPL-2.0
/*
 * Interrupt lines of the in-kernel interrupt chip.
 *  1. irq_init(): the chip (LAPICs, IOAPIC, PICs) and the PIT, which stock
 *     kernels do not touch with hardware-reduced ACPI but need with acpi=off.
 *  2. irq_line(): a device raises or lowers its line; devices call it on
 *     changes only, each call is one ioctl.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm.h"

int irq_init(struct vm *vm)
{
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };

	if (ioctl(vm->fd, KVM_CREATE_IRQCHIP, 0))
		return fail(-errno, "%s: cannot create the interrupt chip: %s",
			    vm->opt->dev, strerror(errno));
	if (ioctl(vm->dev_fd, KVM_CHECK_EXTENSION, KVM_CAP_PIT2) > 0 &&
	    ioctl(vm->fd, KVM_CREATE_PIT2, &pit))
		return fail(-errno, "%s: cannot create the timer chip: %s",
			    vm->opt->dev, strerror(errno));
	return 0;
}

void irq_line(struct vm *vm, u32 gsi, bool level)
{
	struct kvm_irq_level line = { .irq = gsi, .level = level };

	if (ioctl(vm->fd, KVM_IRQ_LINE, &line)) {
		fail(-errno, "%s: cannot set interrupt line %u: %s",
		     vm->opt->dev, gsi, strerror(errno));
		vm_stop(vm, STATUS_INTERNAL);
	}
}
