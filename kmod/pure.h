/* SPDX-License-Identifier: GPL-2.0 */
/*
 * pure.h: what the pure parts (decode, walk) need of the world, the same in the kernel and in the userspace tests:
 *  1. fixed-width types under the kernel's names,
 *  2. bool.
 */
#ifndef PVHV_PURE_H
#define PVHV_PURE_H

#include <linux/types.h>

#ifndef __KERNEL__
#include <stdbool.h>
#include <stddef.h>

typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s8 s8;
typedef __s16 s16;
typedef __s32 s32;
typedef __s64 s64;
#endif

#endif
