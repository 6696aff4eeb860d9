// SPDX-License-Identifier: GPL-2.0
/*
 * A network for users without privileges: passt turns the guest's frames into
 * sockets of the user's own.  It is started with one end of a socket pair,
 * goes into the background when it is ready and ends when our end is closed,
 * however that comes about.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net.h"

#define PASST		"passt"
#define PASST_FD	3
#define WORDS_MAX	200
#define ARGS_MAX	(8 + 2 * NET_FORWARDS_MAX)

/* Its descriptors: the socket, errors to us, and nothing else of ours. */
static int child_files(posix_spawn_file_actions_t *files, int sock, int errors)
{
	int ret;

	ret = posix_spawn_file_actions_addopen(files, STDIN_FILENO,
					       "/dev/null", O_RDWR, 0);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(files, STDIN_FILENO,
						       STDOUT_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(files, errors,
						       STDERR_FILENO);
	if (!ret)
		ret = posix_spawn_file_actions_adddup2(files, sock, PASST_FD);
	if (!ret)
		ret = posix_spawn_file_actions_addclosefrom_np(files,
							       PASST_FD + 1);
	return ret;
}

/* Keys pressed for us are not for it, and it blocks no signal. */
static int child_signals(posix_spawnattr_t *attr)
{
	sigset_t none, pipes;

	sigemptyset(&none);
	sigemptyset(&pipes);
	sigaddset(&pipes, SIGPIPE);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &pipes);
	posix_spawnattr_setpgroup(attr, 0);
	return posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK |
					      POSIX_SPAWN_SETSIGDEF |
					      POSIX_SPAWN_SETPGROUP);
}

static void make_args(const struct net *net, char *fd, const char **args)
{
	const struct net_options *opt = net->opt;
	unsigned int i, n = 0;

	snprintf(fd, 4, "%d", PASST_FD);
	args[n++] = PASST;
	args[n++] = "--quiet";
	args[n++] = "--fd";
	args[n++] = fd;
	for (i = 0; i < opt->nr_forwards; i++) {
		args[n++] = opt->forwards[i].udp ? "--udp-ports" :
						   "--tcp-ports";
		args[n++] = opt->forwards[i].ports;
	}
	args[n] = NULL;
}

static int spawn(const struct net *net, int sock, int errors, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	const char *args[ARGS_MAX];
	posix_spawnattr_t attr;
	char fd[4];
	int ret;

	make_args(net, fd, args);
	ret = posix_spawn_file_actions_init(&files);
	if (ret)
		return -ret;
	ret = posix_spawnattr_init(&attr);
	if (ret)
		goto out;
	ret = child_files(&files, sock, errors);
	if (!ret)
		ret = child_signals(&attr);
	if (!ret)
		ret = posix_spawnp(pid, PASST, &files, &attr,
				   (char **)args, environ);
	posix_spawnattr_destroy(&attr);
out:
	posix_spawn_file_actions_destroy(&files);
	return -ret;
}

/* The last line that it said about itself, less what it says of syslog. */
static void last_words(int fd, char words[WORDS_MAX])
{
	char line[WORDS_MAX];
	FILE *f = fdopen(fd, "r");

	strcpy(words, "it gave no reason");
	if (!f) {
		close(fd);
		return;
	}
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (*line && !strstr(line, "syslog"))
			strcpy(words, line);
	}
	fclose(f);
}

/* It has ended here, or gone into the background. */
static int await(pid_t pid, int errors)
{
	char words[WORDS_MAX];
	pid_t ret;
	int status;

	last_words(errors, words);
	do {
		ret = waitpid(pid, &status, 0);
	} while (ret < 0 && errno == EINTR);
	/* ECHILD: whoever started us has children reaped by themselves. */
	if (ret < 0 ? errno == ECHILD : WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	return fail(-ECHILD, "--net: user: " PASST " does not start: %s", words);
}

static int explain_spawn(int err)
{
	if (err == -ENOENT)
		return fail(err, "--net: user: there is no program '" PASST "': install the package of that name");
	return fail(err, "--net: user: cannot start " PASST ": %s",
		    strerror(-err));
}

/* As posix_spawnp() will look for it. */
int net_passt_check(void)
{
	const char *path = getenv("PATH"), *end;
	char file[PATH_MAX];

	for (; path; path = *end ? end + 1 : NULL) {
		end = strchrnul(path, ':');
		snprintf(file, sizeof(file), "%.*s/" PASST, (int)(end - path),
			 path);
		if (!access(file, X_OK))
			return 0;
	}
	return explain_spawn(-ENOENT);
}

int net_passt_open(struct net *net)
{
	int pair[2], errors[2], ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return fail(-errno, "--net: user: no socket: %s",
			    strerror(errno));
	if (pipe2(errors, O_CLOEXEC)) {
		ret = fail(-errno, "--net: user: no pipe: %s", strerror(errno));
		close(pair[1]);
		goto err;
	}
	ret = spawn(net, pair[1], errors[1], &pid);
	close(pair[1]);
	close(errors[1]);
	if (ret) {
		close(errors[0]);
		ret = explain_spawn(ret);
		goto err;
	}
	ret = await(pid, errors[0]);
	if (ret)
		goto err;
	return net_stream_open(net, pair[0]);
err:
	close(pair[0]);
	return ret;
}
