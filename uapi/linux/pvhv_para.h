/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * linux/pvhv_para.h - what a guest of pvhv can ask of its host: an ABI.
 *
 * It may be included from kernel, userspace and C++.
 *
 * Kicks: the hypercall PVHV_HC_KICK (VMMCALL on AMD processors, VMCALL on
 * Intel's) rings a doorbell, which wakes whoever serves a queue: RAX =
 * PVHV_HC_KICK, RBX = the doorbell's number, which the VMM tells the guest.
 * RAX is then 0, -KVM_EINVAL (there is no such doorbell) or -KVM_EPERM (not in
 * ring 0); no other register changes. The instruction is the three bytes that
 * the manual gives, without a prefix.
 */
#ifndef _UAPI_LINUX_PVHV_PARA_H
#define _UAPI_LINUX_PVHV_PARA_H

/* Hypercalls, beside KVM's. */
#define PVHV_HC_KICK		0x70760001
#define PVHV_HC_KICK_BYTES	3

#endif /* _UAPI_LINUX_PVHV_PARA_H */
