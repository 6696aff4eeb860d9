// SPDX-License-Identifier: GPL-2.0
/*
 * A network as clients of the control socket see it: its settings and state,
 * its counters, and what can be changed while the machine runs.  Directions
 * are the guest's.
 */
#include <errno.h>
#include <stdlib.h>

#include "control.h"
#include "net.h"

static json_t *net_status(void *arg)
{
	const struct net *net = arg;
	char mac[NET_MAC_TEXT];
	json_t *status;

	net_mac_text(net->mac, mac);
	status = json_pack("{s:s, s:s, s:b, s:i, s:i, s:I, s:b}",
			   "type", net->opt->user ? "user" : "tap",
			   "mac", mac,
			   "link", net_link_up(net),
			   "queues", (int)net->nr_queues,
			   "queues_active", (int)net->nr_active,
			   "bps", (json_int_t)net->tx_limit.rate,
			   "vhost", net->foreign);
	if (status && net->ifname[0])
		json_object_set_new(status, "tap", json_string(net->ifname));
	if (status && net->opt->bridge)
		json_object_set_new(status, "bridge",
				    json_string(net->opt->bridge));
	if (status && net->mtu)
		json_object_set_new(status, "mtu", json_integer(net->mtu));
	return status;
}

static void net_metrics(void *arg, struct metric_set *set)
{
	struct net_stats st;

	net_get_stats(arg, &st);
	metric_counter(set, "receive_bytes_total",
		       "Bytes of frames to the guest", st.rx_bytes);
	metric_counter(set, "receive_frames_total",
		       "Frames to the guest", st.rx_frames);
	metric_counter(set, "receive_dropped_total",
		       "Frames for which the guest had no room", st.rx_dropped);
	metric_counter(set, "transmit_bytes_total",
		       "Bytes of frames from the guest", st.tx_bytes);
	metric_counter(set, "transmit_frames_total",
		       "Frames from the guest", st.tx_frames);
	metric_counter(set, "transmit_dropped_total",
		       "Frames from the guest that the host did not take",
		       st.tx_dropped);
	metric_counter(set, "transmit_errors_total",
		       "Frames from the guest that were none", st.tx_errors);
	metric_gauge(set, "link_up", "Whether the guest's link is up",
		     net_link_up(arg));
}

static void run_link(void *arg, json_t *params, struct control_call *call)
{
	struct net *net = arg;
	bool up = json_is_true(json_object_get(params, "up"));

	if (up && net->gone) {
		control_fail(call, -ENOLINK, "the host's side of this network is gone");
		return;
	}
	net_set_link(net, up);
	control_done(call, NULL);
}

static void run_limit(void *arg, json_t *params, struct control_call *call)
{
	struct net *net = arg;

	if (net->foreign) {
		control_fail(call, -EOPNOTSUPP, "vhost moves this network's frames: start the machine with vhost=off");
		return;
	}
	net_set_limit(net, json_integer_value(json_object_get(params, "bps")));
	control_done(call, NULL);
}

static void run_announce(void *arg, json_t *params, struct control_call *call)
{
	(void)params;
	net_announce(arg);
	control_done(call, NULL);
}

static const struct control_command commands[] = {
	{ "link", run_link, { { "up", CONTROL_BOOL, true } } },
	{ "limit", run_limit, { { "bps", CONTROL_U64, true } } },
	{ "announce", run_announce, { { NULL } } },
	{ NULL }
};

/* NULL when out of memory. */
struct control_source *net_control_add(struct net *net)
{
	struct control_source *src = calloc(1, sizeof(*src));

	if (!src)
		return NULL;
	*src = (struct control_source){
		.kind = "net",
		.name = net->label,
		.arg = net,
		.status = net_status,
		.metrics = net_metrics,
		.commands = commands,
	};
	control_add(src);
	return src;
}

void net_control_remove(struct control_source *src)
{
	if (src)
		control_remove(src);
	free(src);
}
