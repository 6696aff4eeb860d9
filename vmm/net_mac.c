// SPDX-License-Identifier: GPL-2.0
/*
 * Addresses of network interfaces.
 *  1. As text.
 *  2. The address that an interface has when none is given: the same at every
 *     start of a machine of that name, and hardly another machine's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <linux/if_ether.h>

#include "net.h"

#define MAC_MULTICAST	0x01
#define MAC_LOCAL	0x02

/* 64-bit FNV-1a. */
#define FNV_BASIS	0xcbf29ce484222325ULL
#define FNV_PRIME	0x100000001b3ULL

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* -EINVAL: no address; -EADDRNOTAVAIL: one that no interface can have. */
int net_mac_parse(const char *text, u8 mac[ETH_ALEN])
{
	unsigned int i, any = 0;

	for (i = 0; i < ETH_ALEN; i++, text += 3) {
		int high = hex_digit(text[0]);
		int low = high < 0 ? -1 : hex_digit(text[1]);

		if (low < 0 || text[2] != (i < ETH_ALEN - 1 ? ':' : 0))
			return -EINVAL;
		mac[i] = high << 4 | low;
		any |= mac[i];
	}
	return net_mac_valid(mac) && any ? 0 : -EADDRNOTAVAIL;
}

bool net_mac_valid(const u8 mac[ETH_ALEN])
{
	static const u8 zero[ETH_ALEN];

	return !(mac[0] & MAC_MULTICAST) && memcmp(mac, zero, ETH_ALEN);
}

void net_mac_text(const u8 mac[ETH_ALEN], char text[NET_MAC_TEXT])
{
	snprintf(text, NET_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0],
		 mac[1], mac[2], mac[3], mac[4], mac[5]);
}

static u64 fnv(u64 hash, const void *data, size_t len)
{
	const u8 *p = data;

	while (len--)
		hash = (hash ^ *p++) * FNV_PRIME;
	return hash;
}

/* Part of the ABI: a machine's leases and firewall rules hang on it. */
static u64 hash_name(const char *name, unsigned int index)
{
	const u8 nth = index;
	u64 hash;

	hash = fnv(FNV_BASIS, name, strlen(name) + 1);
	hash = fnv(hash, &nth, sizeof(nth));
	/* The low bits of the last byte's product mix badly into the high. */
	hash ^= hash >> 32;
	hash *= FNV_PRIME;
	return hash ^ hash >> 29;
}

/* The @index-th interface of the machine @name, or of one without a name. */
int net_mac_choose(const char *name, unsigned int index, u8 mac[ETH_ALEN])
{
	u64 bits;

	if (name)
		bits = hash_name(name, index);
	else if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits))
		return fail(-EIO, "--net: no random numbers: %s", strerror(errno));
	memcpy(mac, &bits, ETH_ALEN);
	mac[0] = (mac[0] & ~MAC_MULTICAST) | MAC_LOCAL;
	return 0;
}
