// SPDX-License-Identifier: GPL-2.0
/*
 * The networks of a machine: each --net becomes a host half, a virtio device
 * before it and something to see and command on the control socket.
 */
#include <errno.h>

#include "control.h"
#include "net.h"
#include "virtio.h"

static int add(struct vm *vm, u32 i)
{
	const struct options *opt = vm->opt;
	struct virtio *v;
	struct net *net;

	net = net_create(&opt->nets[i], opt->name, i);
	if (!net)
		return -ENODEV;
	v = virtio_net_create(&vm->mem, net, net->label);
	if (!v)
		return -ENODEV;
	vm->net_sources[i] = net_control_add(net);
	return vm_add_virtio(vm, v);
}

int nets_create(struct vm *vm)
{
	int ret = 0;
	u32 i;

	for (i = 0; !ret && i < vm->opt->nr_nets; i++)
		ret = add(vm, i);
	return ret;
}

/* The machine is somewhere else than it was. */
void nets_announce(struct vm *vm)
{
	u32 i;

	for (i = 0; i < NETS_MAX; i++)
		if (vm->net_sources[i])
			net_announce(vm->net_sources[i]->arg);
}

void nets_renumber(struct vm *vm)
{
	struct virtio *v;

	for (v = vm->virtios; v; v = v->next)
		if (v->ops->id == VIRTIO_ID_NET)
			virtio_net_renumber(v);
}

/* Before the devices go, which own the host halves. */
void nets_close(struct vm *vm)
{
	u32 i;

	for (i = 0; i < NETS_MAX; i++) {
		net_control_remove(vm->net_sources[i]);
		vm->net_sources[i] = NULL;
	}
	net_link_close();
}
