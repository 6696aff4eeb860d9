/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The internal header of pvhvctl: what crosses its files, grouped by the file
 * that owns it.  What it shares with pvhv-run is in vmm.h.
 */
#ifndef PVHV_CTL_H
#define PVHV_CTL_H

#include <limits.h>
#include <signal.h>

#include <jansson.h>

#include "vmm.h"

/* How the process ends; pvhvctl(1) documents the same numbers. */
#define CTL_OK		0
#define CTL_ERROR	1	/* wrong usage, or this host cannot do it */
#define CTL_NO_MACHINE	2	/* none of that name runs */
#define CTL_REFUSED	3	/* the machine says no, and why */
#define CTL_LOST	4	/* no answer in time, or none at all */

struct ctl_command {
	const char *name;
	const char *args;	/* for the usage line */
	const char *help;
	int least, most;	/* number of arguments; -1: any */
	int (*run)(int argc, char **argv);
};

/* pvhvctl.c */
extern bool ctl_json;		/* --json */
extern const char *ctl_usage;	/* "pvhvctl disk resize MACHINE DISK SIZE" */
int ctl_wrong_usage(void);
int ctl_dispatch(const struct ctl_command *table, const char *before, int argc,
		 char **argv);

/* ctl_client.c: HTTP over a machine's control socket. */
#define CTL_TIMEOUT_S		120

extern char ctl_errno[32];	/* of the last CTL_REFUSED: "EBUSY", or "" */

struct ctl_stream {
	int fd;
	int status;		/* of the answer */
	char buf[16 * 1024 + 1];
	size_t len;		/* what has come in behind the head */
};

bool ctl_socket_path(const char *machine, char *path, size_t len);
/* @body may be NULL and is taken over; *@answer may be NULL for "not JSON". */
int ctl_request(const char *machine, const char *method, const char *path,
		json_t *body, json_t **answer);
int ctl_get(const char *machine, const char *path, json_t **answer);
int ctl_get_text(const char *machine, const char *path, char **text);
/* Like ctl_get(), but silent and quick: for looking around. */
int ctl_probe(const char *socket_path, json_t **answer);
/* An answer that does not end, or another protocol: 0 and an open stream. */
int ctl_stream(const char *machine, const char *path, const char *fields,
	       int expect, struct ctl_stream *st);
/* "/api/v1/disks/NAME/resize", encoded; static storage. */
const char *ctl_path(const char *kind, const char *name, const char *what);

/* ctl_print.c: JSON for people. */
void ctl_print(const json_t *value);
int ctl_show(json_t *value);
void ctl_size(char *buf, size_t len, u64 bytes);
void ctl_duration(char *buf, size_t len, double seconds);

/* ctl_copy.c: a second file with what a disk holds at one moment. */
struct ctl_copy {
	const char *machine;
	const char *disk;
	const char *what;		/* "snapshot", "clone": also the command */
	mode_t mode;			/* of the copy */
	char path[PATH_MAX];
	char overlay_path[PATH_MAX];	/* "": the file system shares blocks */
	/* Its own. */
	char socket[RUNDIR_MAX];
	char base[PATH_MAX];		/* the disk's present file */
	json_int_t size;
	json_int_t frozen;		/* which of the disk's freezes it is */
	bool stands;
	bool made_copy;
	bool made_overlay;
	pid_t server;			/* qemu-nbd, 0 when it is not ours to end */
};

int ctl_absolute(char *out, size_t len, const char *path);
int ctl_copy_prepare(struct ctl_copy *c);
int ctl_copy_freeze(struct ctl_copy *c);
int ctl_copy_take(struct ctl_copy *c);
int ctl_copy_go_on(struct ctl_copy *c);
void ctl_copy_thaw(struct ctl_copy *c);
void ctl_copy_undo(struct ctl_copy *c);

/* ctl_machine.c, ctl_device.c, ctl_console.c, ctl_copy.c, ctl_image.c */
int ctl_list(int argc, char **argv);
int ctl_status(int argc, char **argv);
int ctl_pause(int argc, char **argv);
int ctl_resume(int argc, char **argv);
int ctl_powerbutton(int argc, char **argv);
int ctl_reset(int argc, char **argv);
int ctl_stop(int argc, char **argv);
int ctl_stats(int argc, char **argv);
int ctl_metrics(int argc, char **argv);
int ctl_events(int argc, char **argv);
int ctl_balloon(int argc, char **argv);
int ctl_guest(int argc, char **argv);
int ctl_disk(int argc, char **argv);
int ctl_net(int argc, char **argv);
int ctl_console(int argc, char **argv);
int ctl_snapshot_disk(int argc, char **argv);
int ctl_clone_disk(int argc, char **argv);
int ctl_image(int argc, char **argv);

/* ctl_move.c: machines that are saved, and what one says while it moves. */
#define CTL_MOVE_PATH		"/api/v1/move"
#define CTL_MOVE_PROTOCOL	"Connection: Upgrade\r\nUpgrade: pvhv-move\r\n"

struct ctl_follow {
	const char *machine;
	const char *what;	/* "saved" */
	int sock;
	bool lines;		/* events as they come, and no bar */
	/* Optional. */
	void (*connect)(const struct ctl_follow *how);
	void (*woken)(const struct ctl_follow *how);
	void (*resumed)(const struct ctl_follow *how);
	void (*done)(const struct ctl_follow *how, const json_t *event);
};

int ctl_follow(const struct ctl_follow *how);
/* Ctrl-C: ctl_cancel() is for how->woken, and tells the machine. */
extern volatile sig_atomic_t ctl_interrupted;
void ctl_catch_interrupt(void);
void ctl_cancel(const struct ctl_follow *how);
/* -errno: the machine cannot be told. */
int ctl_send_order(int sock, const json_t *order, int fd);
void ctl_say(int sock, const char *order);
/* @order is taken over; @how has the machine, and who is to be called. */
int ctl_save(struct ctl_follow *how, json_t *order, const char *path);
int ctl_suspend(int argc, char **argv);

/* ctl_snapshot.c: the same of one that runs on, perhaps with its disks. */
int ctl_snapshot(int argc, char **argv);

/* ctl_clone.c: many machines of a saved one. */
int ctl_clone(int argc, char **argv);

/* ctl_migrate.c: a machine goes to another host. */
int ctl_migrate(int argc, char **argv);
/* The value of "--bandwidth"; NULL: there is none. */
int ctl_bandwidth(const char *text, u64 *rate);
int ctl_tls(int argc, char **argv);

/* ctl_evacuate.c: all of them do. */
int ctl_evacuate(int argc, char **argv);
int ctl_estimate(int argc, char **argv);

#endif /* PVHV_CTL_H */
