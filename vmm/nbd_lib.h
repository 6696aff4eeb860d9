/* SPDX-License-Identifier: GPL-2.0 */
/* libnbd, loaded when the first disk needs it (nbd_lib.c). */
#ifndef PVHV_NBD_LIB_H
#define PVHV_NBD_LIB_H

#include <libnbd.h>

#define NBD_FUNCTIONS(F)						\
	F(create) F(close) F(get_error) F(get_errno)			\
	F(set_pread_initialize) F(get_size) F(is_read_only)		\
	F(can_flush) F(can_fua) F(can_trim) F(can_zero)			\
	F(can_multi_conn) F(get_block_size) F(aio_connect_uri)		\
	F(aio_is_ready) F(aio_is_dead) F(aio_is_closed)			\
	F(aio_is_connecting) F(aio_get_fd) F(aio_get_direction)		\
	F(aio_notify_read) F(aio_notify_write) F(aio_pread)		\
	F(aio_pwrite) F(aio_flush) F(aio_trim) F(aio_zero)

struct nbd_lib {
#define F(name) __typeof__(&nbd_##name) name;
	NBD_FUNCTIONS(F)
#undef F
};

/* NULL, and one line said, where it is not installed. */
const struct nbd_lib *nbd_lib_load(const char *path);

#endif /* PVHV_NBD_LIB_H */
