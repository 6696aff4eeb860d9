/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host half of a network interface: what frames come from and go to (a
 * tap, passt), whatever rings a front half has with its guest.
 *
 * Every frame is preceded, both ways, by a header of NET_HEADER_LEN bytes that
 * says what is left to do to it: struct net_header, the tap's own.  A host
 * half that cannot do such things takes and gives headers of zeros.
 *
 * Everything here runs on the main thread.  Sending and receiving are plain
 * non-blocking calls, made when the loop says that there is something to do: a
 * frame passes in fewer instructions than a request of its own in the loop's
 * ring would take.
 */
#ifndef PVHV_NET_H
#define PVHV_NET_H

#include <sys/uio.h>
#include <linux/if_ether.h>

#include "vmm.h"

#define NET_QUEUES_MAX		8
#define NET_MAC_TEXT		18	/* "52:54:00:12:34:56" */
#define NET_HEADER_LEN		sizeof(struct net_header)
/* An IP packet of 64 KiB in a tagged frame. */
#define NET_FRAME_MAX		(UINT16_MAX + ETH_HLEN + 4)
#define NET_FILTER_MAX		64
#define NET_PIECES_MAX		1024	/* what a system call takes */
#define NET_BATCH_MAX		32	/* frames that are sent at once */

struct net_header {
	u8 flags;
	u8 gso_type;
	u16 header_len;
	u16 gso_size;
	u16 csum_start;
	u16 csum_offset;
	u16 buffers;		/* not the host half's */
};

enum {
	NET_NEEDS_CSUM = 1,	/* flags: sum from csum_start on is to be done */
	NET_GSO_NONE = 0, NET_GSO_TCP4 = 1, NET_GSO_TCP6 = 4,
	NET_GSO_ECN = 0x80,	/* or'ed to the type */
};

/* What the reader of received frames does itself; bits. */
enum {
	NET_OFFLOAD_CSUM = 1, NET_OFFLOAD_TSO4 = 2, NET_OFFLOAD_TSO6 = 4,
	NET_OFFLOAD_ECN = 8,
};

/* net_mac.c: addresses. */
int net_mac_parse(const char *text, u8 mac[ETH_ALEN]);
bool net_mac_valid(const u8 mac[ETH_ALEN]);
void net_mac_text(const u8 mac[ETH_ALEN], char text[NET_MAC_TEXT]);
int net_mac_choose(const char *name, unsigned int index, u8 mac[ETH_ALEN]);

struct net_stats {
	u64 rx_frames, rx_bytes;	/* to the guest */
	u64 tx_frames, tx_bytes;	/* from the guest */
	u64 rx_dropped;			/* the guest had no room */
	u64 tx_dropped;			/* the host had none, or the link was down */
	u64 tx_errors;			/* nonsense from the guest */
};

/* net_link.c: the host's interfaces by netlink. */
struct net_link {
	int index;
	u32 mtu;
	u32 flags;		/* IFF_ */
	int master;		/* index, or 0 */
	char kind[16];		/* "tun", "bridge", or empty */
	bool tap_multi;		/* of a tap: it may have several queues */
	u32 tap_queues;		/* of such a tap: that are in use */
	struct net_stats stats;	/* of a tap, as its guest sees them */
};

/* Zero in a field leaves it as it is. */
struct net_link_change {
	u32 mtu;
	int master;
	bool up;
	bool set_mac;
	u8 mac[ETH_ALEN];
};

int net_link_get(const char *name, struct net_link *link);
int net_link_set(int index, const struct net_link_change *change);
void net_link_close(void);

/* net.c: what all of them share. */
struct net;

/* Which frames the guest wants: more may come, fewer must not. */
struct net_filter {
	bool all;		/* every frame passes */
	bool all_multicast;
	unsigned int nr;	/* addresses, unicast first */
	u8 mac[NET_FILTER_MAX][ETH_ALEN];
};

/* What a front half is called for; may send and receive from within. */
struct net_front {
	void (*readable)(void *arg, unsigned int queue);
	void (*writable)(void *arg, unsigned int queue);
	/* net_link_up() has changed. */
	void (*link)(void *arg);
	/* The guest may announce itself: true if it will. */
	bool (*announce)(void *arg);
	void *arg;
};

/* Its header is a piece of its own, and counts in its length. */
struct net_frame {
	const struct iovec *iov;
	unsigned int nr;
	size_t len;
};

struct net_ops {
	/*
	 * The header is a piece of its own.  -EAGAIN: later; else the frame is
	 * gone, whatever became of it.
	 */
	int (*send)(struct net *net, unsigned int queue,
		    const struct iovec *iov, unsigned int nr);
	/*
	 * Optional: up to NET_BATCH_MAX frames, none of which has to wait; how
	 * many were refused.  Negative: one at a time, now and from here on.
	 */
	int (*send_many)(struct net *net, unsigned int queue,
			 const struct net_frame *frames, unsigned int nr);
	/* Optional: what send() has kept of a frame. */
	int (*flush)(struct net *net, unsigned int queue);
	/* Bytes with the header; -EAGAIN: none there; what does not fit is lost. */
	ssize_t (*receive)(struct net *net, unsigned int queue,
			   const struct iovec *iov, unsigned int nr);
	int (*set_offload)(struct net *net, u32 offload);
	int (*set_queues)(struct net *net, unsigned int nr);
	void (*set_filter)(struct net *net, const struct net_filter *filter);
	void (*close)(struct net *net);
};

struct net_queue {
	struct net *net;		/* [c] */
	int fd;				/* [c] */
	struct loop_op in_op;		/* [m] a watch: frames to receive */
	struct loop_op out_op;		/* [m] room to send again */
	bool kept;			/* [m] part of a frame waits for room */
};

struct net {
	const struct net_ops *ops;	/* [c] */
	void *backend;			/* [c] the host half's own */
	const struct net_options *opt;	/* [c] */
	char label[16];			/* [c] "net0", in messages */
	char ifname[16];		/* [c] the tap's, or empty */
	u8 mac[ETH_ALEN];		/* [m] */
	u8 given_mac[ETH_ALEN];		/* [c] of its options, or its machine's name */
	u32 mtu;			/* [c] 0: not known */
	u32 offload_max;		/* [c] what set_offload() can do */
	bool header_used;		/* [c] does what headers ask for */
	bool many;			/* [m] ops->send_many() is of use */
	bool up;			/* [m] as the machine's owner set it */
	bool gone;			/* [m] the host's side went away */
	bool alien;			/* [m] the guest has another machine's address */
	bool foreign;			/* [m] the host's kernel moves the frames */
	unsigned int nr_queues;		/* [c] */
	unsigned int nr_active;		/* [m] 0: stopped */
	struct net_queue queue[NET_QUEUES_MAX];
	struct net_front front;		/* [m] */
	struct limit rx_limit;		/* [m] */
	struct limit tx_limit;		/* [m] */
	struct loop_op rx_timer;	/* [m] the limits' */
	struct loop_op tx_timer;	/* [m] */
	struct net_stats stats;		/* [m] */
};

int net_check(const struct net_options *opt);
struct net *net_new(const struct net_options *opt, const char *vm_name,
		    unsigned int index);
struct net *net_create(const struct net_options *opt, const char *vm_name,
		       unsigned int index);
void net_destroy(struct net *net);

/* Between loop_init() and loop_fini(). */
int net_start(struct net *net, const struct net_front *front,
	      unsigned int queues, u32 offload, bool foreign);
void net_stop(struct net *net);
int net_set_queues(struct net *net, unsigned int nr);
int net_set_offload(struct net *net, u32 offload);
void net_set_filter(struct net *net, const struct net_filter *filter);
void net_set_link(struct net *net, bool up);
void net_set_limit(struct net *net, u64 bps);
static inline bool net_link_up(const struct net *net)
{
	return net->up && !net->gone && !net->alien;
}
/* The guest of a clone has taken the address that is its own. */
void net_settle(struct net *net);

/* One frame behind its header; 0 and -EAGAIN as in struct net_ops. */
int net_send(struct net *net, unsigned int queue, const struct iovec *iov,
	     unsigned int nr, size_t len);
/* As many, one after the other; how many are gone: for the next, later. */
unsigned int net_send_many(struct net *net, unsigned int queue,
			   const struct net_frame *frames, unsigned int nr);
ssize_t net_receive(struct net *net, unsigned int queue,
		    const struct iovec *iov, unsigned int nr);
/* The host half has lost its other side. */
void net_lost(struct net *net, const char *why);
/* Tells the network's switches where the guest is now. */
void net_announce(struct net *net);
void net_get_stats(const struct net *net, struct net_stats *stats);

/* net_tap.c, net_passt.c, net_stream.c: what is opened; each fills in ops. */
int net_tap_check(const struct net_options *opt);
int net_tap_open(struct net *net);
int net_passt_check(void);
int net_passt_open(struct net *net);
int net_stream_open(struct net *net, int fd);

/* net_batch.c: frames into taps, many by one system call. */
struct net_batch;

struct net_batch *net_batch_create(void);
void net_batch_destroy(struct net_batch *b);
int net_batch_write(struct net_batch *b, int fd, const struct net_frame *frames,
		    unsigned int nr);

/* net_control.c: what clients of the control socket see of it. */
struct control_source;

struct control_source *net_control_add(struct net *net);
void net_control_remove(struct control_source *src);

/* nets.c: all of a machine's. */
int nets_create(struct vm *vm);
void nets_announce(struct vm *vm);
void nets_renumber(struct vm *vm);	/* of a clone, that has been loaded */
void nets_close(struct vm *vm);

#endif /* PVHV_NET_H */
