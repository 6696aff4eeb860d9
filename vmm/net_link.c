// SPDX-License-Identifier: GPL-2.0
/*
 * The host's network interfaces by netlink.
 *  1. net_link_get(): what an interface is, and its counters.
 *  2. net_link_set(): size, address, bridge, up.
 *
 * libnl-3 carries the messages.  Its link objects (libnl-route-3) are not
 * used: they would add 700 KiB to every process for these two messages.
 */
#include <errno.h>
#include <string.h>
#include <net/if.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include "net.h"

static int to_errno(int nle)
{
	switch (-nle) {
	case 0:
		return 0;
	case NLE_NODEV:
	case NLE_OBJ_NOTFOUND:
		return -ENODEV;
	case NLE_PERM:
	case NLE_NOACCESS:
		return -EPERM;
	case NLE_BUSY:
		return -EBUSY;
	case NLE_INVAL:
	case NLE_RANGE:
		return -EINVAL;
	case NLE_NOMEM:
		return -ENOMEM;
	case NLE_OPNOTSUPP:
		return -EOPNOTSUPP;
	default:
		return -EIO;
	}
}

static void parse_tap(struct net_link *link, struct nlattr *data)
{
	struct nlattr *tb[IFLA_TUN_MAX + 1];

	if (nla_parse_nested(tb, IFLA_TUN_MAX, data, NULL))
		return;
	if (tb[IFLA_TUN_MULTI_QUEUE])
		link->tap_multi = nla_get_u8(tb[IFLA_TUN_MULTI_QUEUE]);
	if (tb[IFLA_TUN_NUM_QUEUES])
		link->tap_queues = nla_get_u32(tb[IFLA_TUN_NUM_QUEUES]);
}

static void parse_info(struct net_link *link, struct nlattr *info)
{
	struct nlattr *tb[IFLA_INFO_MAX + 1];

	if (nla_parse_nested(tb, IFLA_INFO_MAX, info, NULL))
		return;
	if (tb[IFLA_INFO_KIND])
		nla_strlcpy(link->kind, tb[IFLA_INFO_KIND],
			    sizeof(link->kind));
	if (tb[IFLA_INFO_DATA] && !strcmp(link->kind, "tun"))
		parse_tap(link, tb[IFLA_INFO_DATA]);
}

/* The host's receive direction is the guest's transmit direction. */
static void parse_stats(struct net_link *link, const struct nlattr *attr)
{
	struct rtnl_link_stats64 st;
	size_t len = nla_len(attr);

	memset(&st, 0, sizeof(st));
	memcpy(&st, nla_data(attr), len < sizeof(st) ? len : sizeof(st));
	link->stats.rx_frames = st.tx_packets;
	link->stats.rx_bytes = st.tx_bytes;
	link->stats.rx_dropped = st.tx_dropped;
	link->stats.tx_frames = st.rx_packets;
	link->stats.tx_bytes = st.rx_bytes;
	link->stats.tx_dropped = st.rx_dropped;
	link->stats.tx_errors = st.rx_errors;
}

static int parse_link(struct nl_msg *msg, void *arg)
{
	struct nlmsghdr *hdr = nlmsg_hdr(msg);
	struct nlattr *tb[IFLA_MAX + 1];
	struct net_link *link = arg;
	struct ifinfomsg *ifi;

	if (!link || hdr->nlmsg_type != RTM_NEWLINK ||
	    nlmsg_parse(hdr, sizeof(*ifi), tb, IFLA_MAX, NULL))
		return NL_SKIP;
	ifi = nlmsg_data(hdr);
	link->index = ifi->ifi_index;
	link->flags = ifi->ifi_flags;
	if (tb[IFLA_MTU])
		link->mtu = nla_get_u32(tb[IFLA_MTU]);
	if (tb[IFLA_MASTER])
		link->master = nla_get_u32(tb[IFLA_MASTER]);
	if (tb[IFLA_LINKINFO])
		parse_info(link, tb[IFLA_LINKINFO]);
	if (tb[IFLA_STATS64])
		parse_stats(link, tb[IFLA_STATS64]);
	return NL_OK;
}

/* One for all, and kept: a sandboxed process may not make new ones. */
static struct nl_sock *sock;

static int open_sock(void)
{
	int ret;

	if (sock)
		return 0;
	sock = nl_socket_alloc();
	if (!sock)
		return -NLE_NOMEM;
	/* It counts acknowledgements, which not every message asks for. */
	nl_socket_disable_seq_check(sock);
	ret = nl_connect(sock, NETLINK_ROUTE);
	if (ret < 0)
		net_link_close();
	return ret;
}

void net_link_close(void)
{
	nl_socket_free(sock);
	sock = NULL;
}

/*
 * Sends @msg, which it frees, and waits for the one message that comes of it:
 * what was asked for, or an acknowledgement where nothing was.
 */
static int talk(struct nl_msg *msg, struct net_link *link)
{
	int ret = open_sock();

	if (ret < 0) {
		nlmsg_free(msg);
		return to_errno(ret);
	}
	nl_socket_modify_cb(sock, NL_CB_VALID, NL_CB_CUSTOM, parse_link, link);
	if (link)
		nl_socket_disable_auto_ack(sock);
	else
		nl_socket_enable_auto_ack(sock);
	ret = nl_send_auto(sock, msg);
	nlmsg_free(msg);
	if (ret >= 0)
		ret = nl_recvmsgs_default(sock);
	/* Answers that still come are for nobody. */
	if (ret < 0)
		net_link_close();
	return to_errno(ret < 0 ? ret : 0);
}

int net_link_get(const char *name, struct net_link *link)
{
	struct ifinfomsg ifi = { .ifi_family = AF_UNSPEC };
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_GETLINK, NLM_F_REQUEST);
	int ret;

	memset(link, 0, sizeof(*link));
	if (!msg)
		return -ENOMEM;
	if (nlmsg_append(msg, &ifi, sizeof(ifi), NLMSG_ALIGNTO) ||
	    nla_put_string(msg, IFLA_IFNAME, name)) {
		nlmsg_free(msg);
		return -ENOMEM;
	}
	ret = talk(msg, link);
	return ret ? ret : link->index ? 0 : -ENODEV;
}

int net_link_set(int index, const struct net_link_change *change)
{
	struct ifinfomsg ifi = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = index,
		.ifi_flags = change->up ? IFF_UP : 0,
		.ifi_change = change->up ? IFF_UP : 0,
	};
	struct nl_msg *msg = nlmsg_alloc_simple(RTM_NEWLINK, NLM_F_REQUEST);
	int ret = 0;

	if (!msg)
		return -ENOMEM;
	ret = nlmsg_append(msg, &ifi, sizeof(ifi), NLMSG_ALIGNTO);
	if (!ret && change->mtu)
		ret = nla_put_u32(msg, IFLA_MTU, change->mtu);
	if (!ret && change->set_mac)
		ret = nla_put(msg, IFLA_ADDRESS, ETH_ALEN, change->mac);
	if (!ret && change->master)
		ret = nla_put_u32(msg, IFLA_MASTER, change->master);
	if (ret) {
		nlmsg_free(msg);
		return to_errno(ret);
	}
	return talk(msg, NULL);
}
