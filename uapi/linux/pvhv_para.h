/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * linux/pvhv_para.h - what a guest of pvhv can ask of its host: an ABI.
 *
 * It may be included from kernel, userspace and C++. All numbers are little
 * endian, all addresses guest-physical and in bytes. Fields and bits that are
 * not named here are 0; a guest ignores those that a host sets.
 *
 * 1. Discovery
 *
 * CPUID leaves 0x40000000, 0x40000100, ... 0x4000ff00 are each the possible
 * base of an interface; KVM's, which stock kernels use, is beside this one.
 * The base whose EBX, ECX, EDX hold PVHV_CPUID_SIGNATURE (12 characters, as
 * other interfaces have them) is pvhv's; its EAX is the highest leaf of it.
 *
 *   base + PVHV_CPUID_ABI:  EAX  PVHV_PARA_VERSION; another means another ABI
 *                           EBX  PVHV_PARA_* bits: what there is
 *   base + PVHV_CPUID_BUS:  EAX  the bus's first port
 *                           EBX  how many slots it has, at most
 *                                PVHV_BUS_SLOTS_MAX
 *
 * 2. The bus (PVHV_PARA_BUS)
 *
 * Each slot has a virtio 1.x device. Slot n has two registers, at the bus's
 * first port + PVHV_BUS_PORTS * n. They are read and written by 32-bit IN and
 * OUT; any other access does nothing and reads as ones.
 *
 *   + PVHV_BUS_FRAME    the page (a number, its address >> 12) that guest and
 *                       host share for this device; 0 is none. A write names
 *                       a page of the guest's memory, which the host fills in
 *                       before the OUT ends, and which it may write to until
 *                       another one, or none, is named. A page that is not
 *                       all memory is refused: the register becomes 0.
 *   + PVHV_BUS_COMMAND  a write does PVHV_BUS_CMD_*, with the arguments in the
 *                       page's @arg. @result is set when the OUT ends: 0, or
 *                       one of PVHV_BUS_E*. Reads give 0.
 *
 * The page is struct pvhv_bus_page: the host's part changes under the guest's
 * eyes, so that reading it costs no exit. The host reads nothing from it but
 * @arg, once, during a command. One command at a time is given for a slot.
 *
 * @generation is odd while the host changes @config. Whoever reads more than
 * one byte of @config reads @generation before and after it, and again if it
 * was odd or is not the same.
 *
 * Status, features, queues and configuration mean what virtio 1.x says; a
 * device needs no page to keep its state. A reset (status 0) is complete when
 * @status reads 0, which may be after the command; it also forgets vectors.
 *
 * 3. Kicks
 *
 * Queue q of a device is kicked by the hypercall PVHV_HC_KICK (VMMCALL on AMD
 * processors, VMCALL on Intel's): RAX = PVHV_HC_KICK, RBX = @bell + q. RAX is
 * then 0, -KVM_EINVAL (there is no such doorbell) or -KVM_EPERM (not in ring
 * 0); no other register changes. The instruction is the three bytes that the
 * manual gives, without a prefix. @bell stays while the machine exists.
 *
 * 4. Interrupts
 *
 * A device has @nr_vectors vectors. A vector is on while it has a message:
 * the address and data of an MSI as the guest's local APICs take them (which
 * @nr_vectors does not limit to one CPU). What is signalled while it is off
 * is not lost, it comes when the vector is turned on. Changing a message is
 * one step. Queues and the device's configuration are each given one vector,
 * or PVHV_BUS_NO_VECTOR; several may have the same. There is nothing to
 * acknowledge beyond the APIC's EOI.
 *
 * 5. The guest device
 *
 * A device of virtio's kind (ID PVHV_GUEST_DEVICE) without queues or features
 * of its own; all is in its configuration, struct pvhv_guest_config.
 *
 * Panic: the guest writes @message, then @panics, any other number than 0.
 *
 * A new life: when @renewals changes, the machine was restored or cloned. What
 * the guest thought secret may be known to another, and @clock_ns is the time.
 * Networks whose configuration has another address than the guest uses have no
 * link until the guest has set that one.
 *
 * Freeze: when @freeze changes, the guest makes all file systems on block
 * devices consistent and writes to none until @freeze changes again, but no
 * longer than @freeze_ms; with @freeze_ms 0 it goes on. In one write it answers
 * with @freeze's number, a PVHV_GUEST_* state and how many file systems there
 * are; again if it went on by itself (PVHV_GUEST_OVERDUE).
 */
#ifndef _UAPI_LINUX_PVHV_PARA_H
#define _UAPI_LINUX_PVHV_PARA_H

#include <linux/types.h>

#define PVHV_CPUID_SIGNATURE	"pvhvpvhvpvhv"
#define PVHV_CPUID_ABI		1
#define PVHV_CPUID_BUS		2

#define PVHV_PARA_VERSION	1
#define PVHV_PARA_BUS		(1U << 0)

/* Hypercalls, beside KVM's. */
#define PVHV_HC_KICK		0x70760001
#define PVHV_HC_KICK_BYTES	3

#define PVHV_BUS_SLOTS_MAX	64
#define PVHV_BUS_PORTS		8
#define PVHV_BUS_PAGE_SHIFT	12
#define PVHV_BUS_FRAME		0
#define PVHV_BUS_COMMAND	4

#define PVHV_BUS_QUEUES_MAX	128
#define PVHV_BUS_CONFIG_MAX	256
#define PVHV_BUS_NO_VECTOR	0xffff

/* Commands, each with its member of struct pvhv_bus_page's @arg. */
#define PVHV_BUS_CMD_STATUS	1	/* status: bits to add; 0 resets */
#define PVHV_BUS_CMD_FEATURES	2	/* features: those the driver takes */
#define PVHV_BUS_CMD_QUEUE	3	/* queue: described and enabled */
#define PVHV_BUS_CMD_VECTOR	4	/* vector: its message, or off */
#define PVHV_BUS_CMD_NOTICES	5	/* notices: the configuration's vector */
#define PVHV_BUS_CMD_CONFIG	6	/* config: written */

/* Results. */
#define PVHV_BUS_OK		0
#define PVHV_BUS_EINVAL		1	/* no such thing, or a value outside */
#define PVHV_BUS_EBUSY		2	/* not in the device's present status */
#define PVHV_BUS_EFAIL		3	/* the host could not; its log has why */

struct pvhv_bus_queue {
	__u32 index;
	__u32 size;		/* entries: a power of two, at most queue_max */
	__u64 desc;		/* addresses of the ring's parts */
	__u64 avail;
	__u64 used;
	__u32 vector;		/* or PVHV_BUS_NO_VECTOR */
	__u32 pad;
};

struct pvhv_bus_vector {
	__u32 index;
	__u32 on;		/* 1: the message below; 0: off */
	__u64 address;
	__u32 data;
	__u32 pad;
};

struct pvhv_bus_config {
	__u32 offset;
	__u32 len;		/* at most sizeof(data) */
	__u8 data[32];
};

struct pvhv_bus_page {
	/* The host's. */
	__u32 device;		/* virtio's device ID; 0: none in this slot */
	__u32 vendor;
	__u32 status;
	__u32 generation;
	__u64 features;		/* those offered */
	__u32 nr_queues;
	__u32 nr_vectors;
	__u32 bell;		/* doorbell of queue 0 */
	__u32 config_len;
	__u32 result;
	__u32 reserved[5];
	/* The guest's. */
	union {
		__u32 status;
		__u64 features;
		__u32 notices;
		struct pvhv_bus_queue queue;
		struct pvhv_bus_vector vector;
		struct pvhv_bus_config config;
		__u8 bytes[64];
	} arg;
	/* The host's. */
	__u16 queue_max[PVHV_BUS_QUEUES_MAX];	/* entries; 0: no queue */
	__u8 config[PVHV_BUS_CONFIG_MAX];
	__u8 rest[3456];
};

#define PVHV_GUEST_DEVICE	0x7067
#define PVHV_GUEST_MESSAGE	128

/* @freeze_state */
#define PVHV_GUEST_RUNS		0
#define PVHV_GUEST_FROZEN	1
#define PVHV_GUEST_REFUSED	2	/* it could not, and runs */
#define PVHV_GUEST_OVERDUE	3	/* it was frozen too long, and runs */

struct pvhv_guest_config {
	/* The host's. */
	__u8 identity[16];
	__u64 clock_ns;		/* since 1970, UTC */
	__u32 renewals;
	__u32 freeze;
	__u32 freeze_ms;
	__u32 reserved;
	/* The guest's. */
	__u32 freeze_done;
	__u32 freeze_state;
	__u32 freeze_count;
	__u32 panics;
	__u8 message[PVHV_GUEST_MESSAGE];	/* ends by 0, or is full */
};

#endif /* _UAPI_LINUX_PVHV_PARA_H */
