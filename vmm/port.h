/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host half of a byte stream that a guest sees as a console or a port: a
 * socket for one client at a time, the control socket's clients, a
 * pseudo-terminal, a file (port.c).  Fronts are virtio_console.c and, later,
 * Xen's ring.  Main thread only.
 */
#ifndef PVHV_PORT_H
#define PVHV_PORT_H

#include "vmm.h"

#define PORT_IN_SIZE	(16 * 1024)
#define PORT_OUT_SIZE	(64 * 1024)

struct port_stats {
	u64 in_bytes;		/* to the guest */
	u64 out_bytes;		/* from it */
	u64 dropped_bytes;	/* from it, and nobody got them */
};

/* What the front is told; each may come from within a port_*() call. */
struct port_front {
	void (*connected)(void *arg, bool on);
	void (*readable)(void *arg);	/* port_peek() has something */
	void (*room)(void *arg);	/* port_write() would take more */
	void *arg;
};

struct port {
	const struct port_options *opt;	/* [c] */
	struct port_front front;	/* [c] */
	struct console_host host;	/* [m] */
	struct port_stats stats;	/* [m] */
	bool connected;			/* [m] somebody is there */
	bool wanted;			/* [m] the front takes input */
	bool short_of_room;		/* [m] a write was not taken whole */
	bool closing;			/* [m] */
	bool failed;			/* [m] output goes nowhere */
	struct loop_op read_op;		/* [m] */
	struct loop_op write_op;	/* [m] */
	struct loop_op accept_op;	/* [m] */
	struct loop_op timer_op;	/* [m] */
	u32 in_pos, in_len;		/* [m] */
	u32 head, tail;			/* [m] of @out; free-running */
	u32 writing;			/* [m] bytes behind @tail in flight */
	u8 in[PORT_IN_SIZE];		/* [m] */
	u8 out[PORT_OUT_SIZE];		/* [m] */
};

/* port.c */
void port_init(struct port *p, const struct port_options *opt);
int port_open(struct port *p, const struct port_front *front);
/* A client of the control socket; -1: would it be taken? */
int port_attach(struct port *p, int fd);
void port_close(struct port *p);
/*
 * From the guest; returns how much was taken.  A console takes all: a guest
 * spins while its console does not.  What nobody reads then is the newest
 * PORT_OUT_SIZE bytes while no client is there, or lost if one is too slow.
 */
size_t port_write(struct port *p, const void *data, size_t len);
/* Input that waits; port_take() is how much of it the guest has got. */
const u8 *port_peek(const struct port *p, size_t *len);
void port_take(struct port *p, size_t len);
/* Whether the front can take input: nothing is read before. */
void port_want(struct port *p, bool wanted);
void port_save(const struct port *p, struct state *st, const char *prefix);
int port_load(struct port *p, const struct state_section *sec,
	      const char *prefix);

/* options_port.c: the value of --port. */
int port_options_parse(struct port_options *port, char *text);
void port_options_print(const struct port_options *port);
const char *port_kind_name(enum console_kind kind);

#endif /* PVHV_PORT_H */
