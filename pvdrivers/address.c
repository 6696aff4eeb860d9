// SPDX-License-Identifier: GPL-2.0
/*
 * A clone's networks have other addresses than those of the machine that it was
 * made of: virtio-net has them in its configuration, which its driver reads
 * once. What differs is set as by "ip link set address", and the host turns the
 * link on when it hears of it. In the first network namespace, where devices
 * begin.
 */
#include <linux/etherdevice.h>
#include <linux/netdevice.h>
#include <linux/rtnetlink.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <net/net_namespace.h>

#include "pvhv_guest.h"

/* NULL: it is something else. */
static struct virtio_device *virtio_below(struct net_device *dev)
{
	struct device *parent = dev->dev.parent;
	struct virtio_device *vdev;

	if (!parent || !parent->bus || strcmp(parent->bus->name, "virtio"))
		return NULL;
	vdev = dev_to_virtio(parent);
	return vdev->id.device == VIRTIO_ID_NET &&
	       virtio_has_feature(vdev, VIRTIO_NET_F_MAC) ? vdev : NULL;
}

static void take_address(struct net_device *dev, struct virtio_device *vdev)
{
	struct sockaddr address = { .sa_family = dev->type };
	int ret;

	virtio_cread_bytes(vdev, offsetof(struct virtio_net_config, mac),
			   address.sa_data, ETH_ALEN);
	if (ether_addr_equal_unaligned(address.sa_data, dev->dev_addr))
		return;
	ret = dev_set_mac_address(dev, &address, NULL);
	if (ret)
		netdev_err(dev, "pvhv_guest: the address %pM cannot be set: %d\n",
			   address.sa_data, ret);
	else
		netdev_info(dev, "pvhv_guest: the address is %pM now\n", address.sa_data);
}

void pvhv_take_addresses(void)
{
	struct virtio_device *vdev;
	struct net_device *dev;

	rtnl_lock();
	for_each_netdev(&init_net, dev) {
		vdev = virtio_below(dev);
		if (vdev)
			take_address(dev, vdev);
	}
	rtnl_unlock();
}
