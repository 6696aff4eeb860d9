/* SPDX-License-Identifier: GPL-2.0 */
/*
 * compat_asm.h - compat.h's half for assembly: 6.4 split the untraining of
 * return predictions after #VMEXIT from the one at kernel entry.
 */
#ifndef PVHV_COMPAT_ASM_H
#define PVHV_COMPAT_ASM_H

#include <linux/version.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define PVHV_UNTRAIN_RET_VM	UNTRAIN_RET
#else
#define PVHV_UNTRAIN_RET_VM	UNTRAIN_RET_VM
#endif

/* The NMI handler that may be called, and does not want a stack of its own. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 4, 0)
#define PVHV_NMI_ENTRY	asm_exc_nmi_noist
#else
#define PVHV_NMI_ENTRY	asm_exc_nmi_kvm_vmx
#endif

#endif /* PVHV_COMPAT_ASM_H */
