/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * linux/pvhv.h - what /dev/pvhv adds to the KVM API.
 *
 * /dev/pvhv speaks the KVM API, version 12, with the ioctl numbers and the
 * structures of <linux/kvm.h>; docs/abi.md lists which. This header holds
 * the additions only. It may be included from kernel, userspace and C++.
 */
#ifndef _UAPI_LINUX_PVHV_H
#define _UAPI_LINUX_PVHV_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The device node. */
#define PVHV_DEVICE	"/dev/pvhv"

/*
 * Types of VM, the argument of KVM_CREATE_VM. KVM's own types are small
 * numbers; 0 is its default on x86 and ours. An unknown type, or one that
 * this host cannot run, is refused with EINVAL.
 */
#define PVHV_VM_DEFAULT	0UL		/* what the host does best */
#define PVHV_VM_HVM	0x100UL		/* hardware-assisted: AMD-V */

/*
 * Doorbells: the guest's hypercall PVHV_HC_KICK (linux/pvhv_para.h) with a
 * number signals an eventfd, without leaving the kernel.
 *
 * KVM_CHECK_EXTENSION(PVHV_CAP_DOORBELL) is how many there can be, 0 without.
 * The VM's ioctl PVHV_SET_DOORBELL binds number @id to eventfd @fd, or takes
 * it back with PVHV_DOORBELL_DEASSIGN, which names the same eventfd; no signal
 * comes after it has returned. @pad is 0. Errors: EINVAL (number or flags),
 * EBADF and EINVAL (no eventfd), EEXIST (the number has one), ENOENT (it does
 * not have that one), ENOMEM. All end with the VM.
 */
#define PVHV_CAP_DOORBELL	0x70760001
#define PVHV_DOORBELLS_MAX	8192

struct pvhv_doorbell {
	__u32 id;
	__s32 fd;
	__u32 flags;
	__u32 pad;
};

#define PVHV_DOORBELL_DEASSIGN	(1U << 0)

#define PVHV_IO			0xbd
#define PVHV_SET_DOORBELL	_IOW(PVHV_IO, 0x01, struct pvhv_doorbell)

#endif /* _UAPI_LINUX_PVHV_H */
