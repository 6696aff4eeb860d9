/* SPDX-License-Identifier: GPL-2.0 */
/* virtio-console, a front half of port.h. */
#ifndef PVHV_VIRTIO_CONSOLE_H
#define PVHV_VIRTIO_CONSOLE_H

#include "virtio.h"

struct port;

/*
 * All of a machine's consoles and ports are one device; they are opened with
 * it.  @opts lives as long as it does.
 */
struct virtio *virtio_console_create(const struct mem *mem, const char *label,
				     const struct port_options *opts, u32 nr);
/* The loop runs; before virtio_open(). */
int virtio_console_attach(struct virtio *v);
/* After virtio_close(). */
void virtio_console_detach(struct virtio *v);
struct port *virtio_console_port(struct virtio *v, u32 index);
/* A console has another size; -EINVAL: it is no console. */
int virtio_console_resize(struct virtio *v, u32 index, u16 columns, u16 rows);
/* Has the guest opened it? */
bool virtio_console_opened(struct virtio *v, u32 index);

#endif /* PVHV_VIRTIO_CONSOLE_H */
