/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the files of pvhv_guest.ko share.
 */
#ifndef PVHV_GUEST_H
#define PVHV_GUEST_H

/* freeze.c: how many file systems, or -errno; not at the same time. */
int pvhv_freeze_all(void);
int pvhv_thaw_all(void);

/* address.c: networks' addresses, as the host has them now. */
void pvhv_take_addresses(void);

#endif /* PVHV_GUEST_H */
