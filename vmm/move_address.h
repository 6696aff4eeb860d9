/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a machine moves to, as pvhv-run --incoming and pvhvctl migrate take
 * it, and what carries it there.
 *
 *   tcp:ADDRESS:PORT[,tls=off][,tls_dir=DIR][,peer=NAME]
 *   unix:PATH
 *
 * TLS belongs to processes beside the machine's own: pvhvctl where it leaves,
 * the door (move_door.c) where it comes in.  They relay what the machine says
 * over a socket pair, so that no key and no certificate ever is in a machine's
 * process, and its sandbox needs no file, no library and no connection.
 */
#ifndef PVHV_MOVE_ADDRESS_H
#define PVHV_MOVE_ADDRESS_H

#include "../migrate/migrate.h"
#include "vmm.h"

#define MOVE_TLS_DIR	"/etc/pvhv/tls"

struct move_address {
	char *text;		/* all of these lie in it */
	const char *shown;	/* "tcp:ADDRESS:PORT", for messages */
	const char *host;
	const char *port;
	const char *path;	/* unix: */
	const char *tls_dir;	/* NULL: no TLS */
	const char *peer;	/* what its certificate is for, or NULL: any */
};

/* move_address.c: @option stands before failures' lines. */
int move_address_parse(struct move_address *at, const char *option,
		       const char *text);
void move_address_free(struct move_address *at);
/* A connection, or -errno with a reason. */
int move_address_connect(const struct move_address *at, int timeout_ms,
			 char why[MIGRATE_WHY_MAX]);
/* A connection by TCP, made or accepted: for a stream whose stalls are watched */
void move_tune(int fd);

/* move_relay.c: until both have said all, or either is gone; closes both. */
void move_relay(struct migrate_io *a, struct migrate_io *b);
/*
 * What the machine's process is given for @fd, which is taken: with TLS an end
 * of a relay, made after the handshake.  -errno with a reason.
 */
struct migrate_tls;
int move_relay_start(struct migrate_tls *tls, int fd, const char *peer,
		     int timeout_ms, char why[MIGRATE_WHY_MAX]);
/* Those that are on their way; true if none is left. */
bool move_relay_wait(int timeout_ms);

/* move_door.c: connections that come in are received from a descriptor. */
int move_door_open(const struct options *opt, const struct move_address *at);
/* -ETIMEDOUT; -ENOTCONN: nobody opens it any more. */
int move_door_next(int door, int timeout_ms);

/* A descriptor over a socket: with @text, which is at least a byte. */
int move_send_fd(int sock, const char *text, size_t len, int fd);
/* Bytes received, *@fd is -1 if none came with them. */
ssize_t move_receive_fd(int sock, char *text, size_t len, int *fd);

#endif /* PVHV_MOVE_ADDRESS_H */
