// SPDX-License-Identifier: GPL-2.0
/*
 * Which life of a machine this is: 128 random bits, the generation ID.
 *  1. A new machine has one; it travels with the memory that it is in.
 *  2. One that goes on from what was saved, maybe not for the first time, gets
 *     another and is told: by ACPI's device for it (acpi.c; stock kernels then
 *     make new entropy), and by the guest device where there is one.
 */
#include <errno.h>
#include <sys/random.h>
#include <linux/pvhv_para.h>

#include "virtio.h"
#include "virtio_guest.h"

static int new_id(struct vm *vm, u8 id[IDENTITY_LEN])
{
	if (getrandom(id, IDENTITY_LEN, 0) != IDENTITY_LEN)
		return fail(-EIO, "no random numbers for the machine's identity");
	return mem_write(&vm->mem, IDENTITY_GPA, id, IDENTITY_LEN);
}

int identity_make(struct vm *vm)
{
	u8 id[IDENTITY_LEN];

	return new_id(vm, id);
}

int identity_get(const struct vm *vm, u8 id[IDENTITY_LEN])
{
	return mem_read(&vm->mem, IDENTITY_GPA, id, IDENTITY_LEN);
}

int identity_renew(struct vm *vm)
{
	u8 id[IDENTITY_LEN];
	struct virtio *v;
	int ret;

	ret = new_id(vm, id);
	if (ret)
		return ret;
	power_generation(vm->power);
	for (v = vm->virtios; v; v = v->next)
		if (v->ops->id == PVHV_GUEST_DEVICE)
			guest_renew(v, id);
	return 0;
}
