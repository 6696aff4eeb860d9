// SPDX-License-Identifier: GPL-2.0
/*
 * Migration by TLS (migrate/tls.c): a machine moves over it with several connections; certificates of another CA, none at all, a
 * peer that speaks no TLS, a wrong name and missing files are refused with a reason; what goes over the wire is not the memory.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fakevm.h"

#define MIB	(1ull << 20)

static char dir[2][64];		/* two sets of certificates that do not know each other */

static void make_sets(void)
{
	char why[MIGRATE_WHY_MAX];
	struct stat st;
	char path[256];
	int i;

	for (i = 0; i < 2; i++) {
		strcpy(dir[i], "/tmp/migrate_tls.XXXXXX");
		ASSERT(mkdtemp(dir[i]));
		ASSERT_MSG(!migrate_tls_init(dir[i], why), "%s", why);
		snprintf(path, sizeof(path), "%s/server-key.pem", dir[i]);
		ASSERT_OK(stat(path, &st));
		ASSERT_EQ(st.st_mode & 0777, 0600);
	}
	/* what is there is not overwritten */
	ASSERT_EQ(migrate_tls_init(dir[0], why), -EEXIST);
}

static void remove_sets(void)
{
	static const char *const names[] = { "ca-cert", "server-cert", "server-key", "client-cert", "client-key" };
	char path[256];
	unsigned int i, j;

	for (i = 0; i < 2; i++) {
		for (j = 0; j < ARRAY_SIZE(names); j++) {
			snprintf(path, sizeof(path), "%s/%s.pem", dir[i], names[j]);
			unlink(path);
		}
		rmdir(dir[i]);
	}
}

static struct migrate_tls *load(int set, bool connects)
{
	char why[MIGRATE_WHY_MAX];
	struct migrate_tls *tls = migrate_tls_load(dir[set], connects, why);

	ASSERT_MSG(tls, "%s", why);
	return tls;
}

/* One side of a handshake, in a thread */
struct side {
	struct migrate_tls *tls;
	const char *name;
	int fd, err;
	struct migrate_io *io;
	char why[MIGRATE_WHY_MAX];
};

static void *shake(void *arg)
{
	struct side *s = arg;

	s->err = migrate_io_tls(&s->io, s->tls, s->fd, s->name, 20000, s->why);
	return NULL;
}

static void shake_both(struct side *client, struct side *server)
{
	pthread_t thread;
	int pair[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	client->fd = pair[0];
	server->fd = pair[1];
	ASSERT_EQ(pthread_create(&thread, NULL, shake, server), 0);
	shake(client);
	pthread_join(thread, NULL);
}

static void done_with(struct side *s)
{
	if (!s->err)
		s->io->ops->close(s->io);
	migrate_tls_free(s->tls);
}

/* A client learns that its certificate is refused when it reads */
static long read_soon(struct side *s)
{
	uint8_t byte;
	long n;
	int i;

	for (i = 0; i < 2000; i++) {
		n = s->io->ops->read(s->io, &byte, 1);
		if (n != -EAGAIN && n != -EINTR)
			return n;
		usleep(1000);
	}
	return -EAGAIN;
}

static void test_good(void)
{
	struct side client = { .name = "pvhv" }, server = { .name = NULL };

	make_sets();
	client.tls = load(0, true);
	server.tls = load(0, false);
	shake_both(&client, &server);
	ASSERT_MSG(!client.err && !server.err, "%s / %s", client.why, server.why);
	done_with(&client);
	done_with(&server);
	remove_sets();
}

static void test_strangers(void)
{
	struct side client = { .name = NULL }, server = { .name = NULL };

	make_sets();
	/* both are of another CA: the client refuses */
	client.tls = load(0, true);
	server.tls = load(1, false);
	shake_both(&client, &server);
	ASSERT_EQ(client.err, -EACCES);
	ASSERT_MSG(strstr(client.why, "certificate"), "%s", client.why);
	ASSERT(server.err);
	done_with(&client);
	done_with(&server);
	/* the right CA and another name */
	client = (struct side){ .name = "elsewhere", .tls = load(0, true) };
	server = (struct side){ .name = NULL, .tls = load(0, false) };
	shake_both(&client, &server);
	ASSERT_EQ(client.err, -EACCES);
	done_with(&client);
	done_with(&server);
	remove_sets();
}

static void test_client_of_another_ca(void)
{
	struct side client = { .name = NULL }, server = { .name = NULL };
	char from[256], to[256];

	make_sets();
	/* it trusts the server's CA, but has a certificate of its own */
	snprintf(from, sizeof(from), "%s/ca-cert.pem", dir[0]);
	snprintf(to, sizeof(to), "%s/ca-cert.pem", dir[1]);
	ASSERT_OK(rename(from, to));
	client.tls = load(1, true);
	ASSERT_OK(rename(to, from));
	/* the server's side has set 0 with its own CA */
	server.tls = load(0, false);
	shake_both(&client, &server);
	ASSERT_EQ(server.err, -EACCES);
	ASSERT_MSG(strstr(server.why, "certificate"), "%s", server.why);
	ASSERT(client.err || read_soon(&client) < 0);
	done_with(&client);
	done_with(&server);
	remove_sets();
}

static void test_no_tls(void)
{
	struct side server = { .name = NULL };
	int pair[2];

	make_sets();
	server.tls = load(0, false);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	server.fd = pair[1];
	ASSERT_EQ(write(pair[0], "PVHVMIG\x1a and so on, no TLS at all, not a bit", 45), 45);
	shake(&server);
	ASSERT(server.err);
	ASSERT(strstr(server.why, "TLS: "));
	close(pair[0]);
	/* nor one who says nothing */
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	ASSERT_EQ(migrate_io_tls(&server.io, server.tls, pair[1], NULL, 100, server.why), -ETIMEDOUT);
	ASSERT(strstr(server.why, "no handshake within 100 ms"));
	close(pair[0]);
	done_with(&server);
	remove_sets();
}

static void test_missing_files(void)
{
	char why[MIGRATE_WHY_MAX];

	ASSERT(!migrate_tls_load("/nowhere", true, why));
	ASSERT(strstr(why, "'/nowhere/ca-cert.pem': No such file"));
}

/* Two machines, three connections */
static struct migrate_tls *tls_of[2];

static int tls_connection(void *arg, struct migrate_io **io, int timeout_ms)
{
	char why[MIGRATE_WHY_MAX];
	struct fakevm *vm = arg;
	struct fakewire *wire = vm->wire;
	int pair[2], fd = -1, i;

	pthread_mutex_lock(&wire->lock);
	if (vm->is_source) {
		ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
		wire->fd[wire->in++ % FAKE_SOCKETS] = pair[1];
		fd = pair[0];
	}
	pthread_mutex_unlock(&wire->lock);
	for (i = 0; fd < 0 && i < timeout_ms; i++) {
		usleep(1000);
		pthread_mutex_lock(&wire->lock);
		if (wire->out < wire->in)
			fd = wire->fd[wire->out++ % FAKE_SOCKETS];
		pthread_mutex_unlock(&wire->lock);
	}
	if (fd < 0)
		return -ETIMEDOUT;
	return migrate_io_tls(io, tls_of[vm->is_source], fd, vm->is_source ? "pvhv" : NULL, 20000, why);
}

static void test_move(void)
{
	struct migrate_result sent, received;
	struct migrate_params params;
	struct migrate_ops ops = fake_ops_clear();
	struct migrate *send, *recv;
	struct fakevm src, dst;
	struct fakewire wire;

	make_sets();
	tls_of[0] = load(0, false);
	tls_of[1] = load(0, true);
	fakewire_init(&wire);
	fakevm_init(&src, &wire, true, 24 * MIB, 8 * MIB);
	fakevm_init(&dst, &wire, false, 24 * MIB, 8 * MIB);
	fakevm_fill(&src);
	src.clears = true;
	fakevm_run(&src, 1000, 10);
	ops.connection = tls_connection;
	migrate_params_init(&params);
	params.connections = 3;
	params.stall_ms = 20000;
	ASSERT_EQ(migrate_receive(&recv, &ops, &dst, &params), 0);
	ASSERT_EQ(migrate_send(&send, &ops, &src, &params), 0);
	migrate_wait(send, &sent);
	migrate_wait(recv, &received);
	ASSERT_MSG(!sent.err && !received.err, "%s / %s", sent.why, received.why);
	ASSERT(dst.running && !src.running);
	ASSERT(fakevm_equal(&src, &dst));
	fakevm_fini(&src);
	fakevm_fini(&dst);
	fakewire_fini(&wire);
	migrate_tls_free(tls_of[0]);
	migrate_tls_free(tls_of[1]);
	remove_sets();
}

static const struct tap_test tests[] = {
	TEST(good),
	TEST(strangers),
	TEST(client_of_another_ca),
	TEST(no_tls),
	TEST(missing_files),
	TEST(move),
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
