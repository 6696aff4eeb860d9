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

/* The device node. */
#define PVHV_DEVICE	"/dev/pvhv"

/*
 * Types of VM, the argument of KVM_CREATE_VM. KVM's own types are small
 * numbers; 0 is its default on x86 and ours. An unknown type, or one that
 * this host cannot run, is refused with EINVAL.
 */
#define PVHV_VM_DEFAULT	0UL		/* what the host does best */
#define PVHV_VM_HVM	0x100UL		/* hardware-assisted: AMD-V */

#endif /* _UAPI_LINUX_PVHV_H */
