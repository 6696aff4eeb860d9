// SPDX-License-Identifier: GPL-2.0
/*
 * The value of --net:
 *     user,tcp=PORTS,udp=PORTS,mac=ADDRESS,bps=RATE
 *     tap=NAME,bridge=NAME,mac=ADDRESS,bps=RATE,queues=N,vhost=on|off|auto
 * in any order; tcp= and udp= may be repeated.  Names and numbers are checked here; whether the host has the
 * tap and the bridge is net_tap.c's matter.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <net/if.h>

#include "net.h"

#define USAGE	"use user with tcp= and udp=, or tap=, bridge=, queues=, vhost=; and mac=, bps="

/* What the kernel accepts as the name of an interface, less its patterns. */
static int parse_name(const char *key, const char *text, const char **name)
{
	size_t len = strlen(text);

	if (!len || len >= IFNAMSIZ)
		return fail(-EINVAL, "--net: %s=%s is no name of an interface: it has 1 to %d letters",
			    key, text, IFNAMSIZ - 1);
	if (!strcmp(text, ".") || !strcmp(text, "..") ||
	    strpbrk(text, "/:% \t\n\v\f\r"))
		return fail(-EINVAL, "--net: %s=%s is no name of an interface: use letters, digits, '-', '_' and '.'",
			    key, text);
	*name = text;
	return 0;
}

static int parse_mac(struct net_options *net, const char *text)
{
	int ret = net_mac_parse(text, net->mac);

	if (ret == -EADDRNOTAVAIL)
		return fail(ret, "--net: mac=%s is no address of one station: the first byte must be even, and not all zero",
			    text);
	if (ret)
		return fail(ret, "--net: mac=%s is no address: give one like 52:54:00:12:34:56",
			    text);
	net->mac_given = true;
	return 0;
}

static int parse_vhost(struct net_options *net, const char *text)
{
	static const struct {
		const char *name;
		enum net_vhost_use use;
	} uses[] = {
		{ "auto", NET_VHOST_AUTO }, { "on", NET_VHOST_ON },
		{ "off", NET_VHOST_OFF },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(uses); i++)
		if (!strcmp(text, uses[i].name)) {
			net->vhost = uses[i].use;
			return 0;
		}
	return fail(-EINVAL, "--net: vhost=%s is unknown: use on, off or auto",
		    text);
}

static int parse_queues(struct net_options *net, const char *text)
{
	u64 value;

	if (options_number(text, 1, NET_QUEUES_MAX, &value))
		return fail(-EINVAL, "--net: queues=%s is not a number from 1 to %d: give one",
			    text, NET_QUEUES_MAX);
	net->queues = value;
	return 0;
}

/* passt has the last word on what they mean. */
static int parse_forward(struct net_options *net, const char *ports, bool udp)
{
	if (!*ports)
		return fail(-EINVAL, "--net: %s= names no ports: give HOST:GUEST, like 8080:80",
			    udp ? "udp" : "tcp");
	if (net->nr_forwards == NET_FORWARDS_MAX)
		return fail(-E2BIG, "--net: more than %d times tcp= and udp=: give ranges, like 8000-8009",
			    NET_FORWARDS_MAX);
	net->forwards[net->nr_forwards].udp = udp;
	net->forwards[net->nr_forwards++].ports = ports;
	return 0;
}

static int parse_pair(struct net_options *net, const char *key,
		      const char *value)
{
	if (!strcmp(key, "user") && !value) {
		net->user = true;
		return 0;
	}
	if (!value)
		return fail(-EINVAL, "--net: '%s' is no key=value: " USAGE,
			    key);
	if (!strcmp(key, "tap"))
		return parse_name(key, value, &net->tap);
	if (!strcmp(key, "bridge"))
		return parse_name(key, value, &net->bridge);
	if (!strcmp(key, "mac"))
		return parse_mac(net, value);
	if (!strcmp(key, "queues"))
		return parse_queues(net, value);
	if (!strcmp(key, "vhost"))
		return parse_vhost(net, value);
	if (!strcmp(key, "tcp") || !strcmp(key, "udp"))
		return parse_forward(net, value, *key == 'u');
	if (strcmp(key, "bps"))
		return fail(-EINVAL, "--net: unknown key '%s': " USAGE, key);
	if (options_rate(value, &net->bps))
		return fail(-EINVAL, "--net: bps=%s is no number of bytes in a second: give one like 10M",
			    value);
	return 0;
}

/* Combinations that cannot be. */
static int check(const struct net_options *net)
{
	if (!net->user && !net->tap && !net->bridge)
		return fail(-EINVAL, "--net: no network is named: use user, tap=NAME or bridge=NAME");
	if (net->user && (net->tap || net->bridge))
		return fail(-EINVAL, "--net: user has neither tap nor bridge: use one or the other");
	if (!net->user && net->nr_forwards)
		return fail(-EINVAL, "--net: tcp= and udp= are for user: the host reaches a tap's guest by its own address");
	if (net->user && net->queues > 1)
		return fail(-EINVAL, "--net: user has one queue: leave out queues=%u",
			    net->queues);
	if (net->user && net->vhost == NET_VHOST_ON)
		return fail(-EINVAL, "--net: vhost=on needs a tap: use tap=NAME instead of user");
	if (net->bps && net->vhost == NET_VHOST_ON)
		return fail(-EINVAL, "--net: vhost=on knows no limit: leave out bps= or vhost=on");
	return 0;
}

int net_options_parse(struct net_options *net, char *text)
{
	char *key, *value;
	int ret = 0;

	memset(net, 0, sizeof(*net));
	net->queues = 1;
	while (!ret && options_next(&text, &key, &value))
		ret = parse_pair(net, key, value);
	return ret ? ret : check(net);
}

void net_options_print(const struct net_options *net)
{
	static const char * const vhost[] = {
		[NET_VHOST_AUTO] = "auto", [NET_VHOST_ON] = "on",
		[NET_VHOST_OFF] = "off",
	};
	char mac[NET_MAC_TEXT];

	printf("net:      %s", net->user ? "user" : net->tap ? net->tap :
						    "a new tap");
	if (net->bridge)
		printf(" on bridge %s", net->bridge);
	if (net->mac_given) {
		net_mac_text(net->mac, mac);
		printf(", mac %s", mac);
	}
	if (net->queues > 1)
		printf(", %u queues", net->queues);
	if (net->bps)
		printf(", %llu bytes/s", (unsigned long long)net->bps);
	if (!net->user)
		printf(", vhost %s", vhost[net->vhost]);
	putchar('\n');
}
