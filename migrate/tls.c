// SPDX-License-Identifier: GPL-2.0
/*
 * Connections by TLS 1.3, in which both sides show a certificate.
 *  1. A directory's certificates: ca-cert.pem, and server-cert.pem with
 *     server-key.pem for who accepts, client-cert.pem with client-key.pem for
 *     who connects.
 *  2. The handshake; a peer whose certificate the CA has not signed is refused.
 *  3. A carrier as any other.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mig.h"
#include "tls_lib.h"

#define PRIORITY	"NORMAL:-VERS-ALL:+VERS-TLS1.3"
#define PATH_LEN	4096

struct migrate_tls {
	const struct tls_lib *lib;
	bool connects;
	gnutls_certificate_credentials_t cred;
};

struct tls_io {
	struct migrate_io io;
	const struct tls_lib *lib;
	gnutls_session_t session;
	int fd;
};

static bool path_of(char path[PATH_LEN], const char *dir, const char *name, char *why)
{
	if (snprintf(path, PATH_LEN, "%s/%s", dir, name) >= PATH_LEN) {
		snprintf(why, MIGRATE_WHY_MAX, "the TLS directory's name is too long");
		return false;
	}
	if (!access(path, R_OK))
		return true;
	snprintf(why, MIGRATE_WHY_MAX, "'%.300s': %s: this side of TLS needs it", path,
		 strerror(errno));
	return false;
}

static int load_files(struct migrate_tls *tls, const char *dir, char *why)
{
	char ca[PATH_LEN], cert[PATH_LEN], key[PATH_LEN];
	int ret;

	if (!path_of(ca, dir, "ca-cert.pem", why) ||
	    !path_of(cert, dir, tls->connects ? "client-cert.pem" : "server-cert.pem", why) ||
	    !path_of(key, dir, tls->connects ? "client-key.pem" : "server-key.pem", why))
		return -ENOENT;
	ret = tls->lib->certificate_set_x509_trust_file(tls->cred, ca, GNUTLS_X509_FMT_PEM);
	if (ret <= 0) {
		snprintf(why, MIGRATE_WHY_MAX, "'%.300s': no certificate in it", ca);
		return -EINVAL;
	}
	ret = tls->lib->certificate_set_x509_key_file(tls->cred, cert, key, GNUTLS_X509_FMT_PEM);
	if (ret < 0) {
		snprintf(why, MIGRATE_WHY_MAX, "'%.300s' and its key: %s", cert,
			 tls->lib->strerror(ret));
		return -EINVAL;
	}
	return 0;
}

struct migrate_tls *migrate_tls_load(const char *dir, bool connects, char why[MIGRATE_WHY_MAX])
{
	const struct tls_lib *lib = tls_lib_load(why);
	struct migrate_tls *tls;

	if (!lib)
		return NULL;
	tls = calloc(1, sizeof(*tls));
	if (!tls || lib->certificate_allocate_credentials(&tls->cred)) {
		free(tls);
		snprintf(why, MIGRATE_WHY_MAX, "no memory for TLS");
		return NULL;
	}
	tls->lib = lib;
	tls->connects = connects;
	if (load_files(tls, dir, why)) {
		migrate_tls_free(tls);
		return NULL;
	}
	return tls;
}

void migrate_tls_free(struct migrate_tls *tls)
{
	if (!tls)
		return;
	tls->lib->certificate_free_credentials(tls->cred);
	free(tls);
}

static long result(const struct tls_io *t, long ret)
{
	if (ret >= 0)
		return ret;
	if (ret == GNUTLS_E_AGAIN)
		return -EAGAIN;
	if (ret == GNUTLS_E_INTERRUPTED || !t->lib->error_is_fatal(ret))
		return -EINTR;
	if (ret == GNUTLS_E_PREMATURE_TERMINATION || ret == GNUTLS_E_PULL_ERROR ||
	    ret == GNUTLS_E_PUSH_ERROR)
		return -ECONNRESET;
	return -EBADMSG;
}

static long tls_read(struct migrate_io *io, void *data, size_t len)
{
	struct tls_io *t = (struct tls_io *)io;

	return result(t, t->lib->record_recv(t->session, data, len));
}

static long tls_write(struct migrate_io *io, const void *data, size_t len)
{
	struct tls_io *t = (struct tls_io *)io;

	return result(t, t->lib->record_send(t->session, data, len));
}

static int tls_poll(struct migrate_io *io, bool writing, short *events)
{
	struct tls_io *t = (struct tls_io *)io;

	(void)writing;	/* either may need the other */
	*events = t->lib->record_get_direction(t->session) ? POLLOUT : POLLIN;
	return t->fd;
}

static void tls_finish(struct migrate_io *io)
{
	struct tls_io *t = (struct tls_io *)io;

	t->lib->bye(t->session, GNUTLS_SHUT_WR);
	shutdown(t->fd, SHUT_WR);
}

static void tls_close(struct migrate_io *io)
{
	struct tls_io *t = (struct tls_io *)io;

	t->lib->bye(t->session, GNUTLS_SHUT_WR);
	t->lib->deinit(t->session);
	close(t->fd);
	free(t);
}

static const struct migrate_io_ops tls_ops = {
	.read = tls_read,
	.write = tls_write,
	.poll = tls_poll,
	.finish = tls_finish,
	.close = tls_close,
};

static int failed(const struct tls_io *t, int ret, char *why)
{
	gnutls_datum_t text = { NULL, 0 };
	unsigned int status;

	if (ret != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
		snprintf(why, MIGRATE_WHY_MAX, "TLS: %s", t->lib->strerror(ret));
		return -EPROTO;
	}
	status = t->lib->session_get_verify_cert_status(t->session);
	if (t->lib->certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0))
		text.data = NULL;
	snprintf(why, MIGRATE_WHY_MAX, "TLS: the other side's certificate: %s",
		 text.data ? (char *)text.data : "refused");
	if (text.data)
		(*t->lib->free)(text.data);
	return -EACCES;
}

static int shake_hands(struct tls_io *t, int timeout_ms, char *why)
{
	u64 end = now_ns() + timeout_ms * NSEC_PER_MSEC, now;
	struct pollfd pfd = { .fd = t->fd };
	int ret;

	for (;;) {
		ret = t->lib->handshake(t->session);
		if (!ret)
			return 0;
		if (t->lib->error_is_fatal(ret))
			return failed(t, ret, why);
		now = now_ns();
		if (now >= end)
			break;
		if (ret == GNUTLS_E_AGAIN) {
			tls_poll(&t->io, false, &pfd.events);
			poll(&pfd, 1, (end - now) / NSEC_PER_MSEC + 1);
		}
	}
	snprintf(why, MIGRATE_WHY_MAX, "TLS: no handshake within %d ms: does the other side use it?",
		 timeout_ms);
	return -ETIMEDOUT;
}

static int start_session(struct tls_io *t, struct migrate_tls *tls, const char *name)
{
	const struct tls_lib *lib = tls->lib;
	int ret;

	ret = lib->init(&t->session, (tls->connects ? GNUTLS_CLIENT : GNUTLS_SERVER) |
			GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
	if (ret)
		return ret;
	ret = lib->priority_set_direct(t->session, PRIORITY, NULL);
	if (!ret)
		ret = lib->credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, tls->cred);
	if (!tls->connects)
		lib->certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
	lib->session_set_verify_cert(t->session, name, 0);
	lib->transport_set_int2(t->session, t->fd, t->fd);
	return ret;
}

int migrate_io_tls(struct migrate_io **io, struct migrate_tls *tls, int fd, const char *name,
		   int timeout_ms, char why[MIGRATE_WHY_MAX])
{
	struct tls_io *t = calloc(1, sizeof(*t));
	int err = -ENOMEM, ret;

	snprintf(why, MIGRATE_WHY_MAX, "no memory for TLS");
	if (!t)
		goto close;
	t->io.ops = &tls_ops;
	t->lib = tls->lib;
	t->fd = fd;
	err = fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) ? -errno : 0;
	ret = err ? 0 : start_session(t, tls, name);
	if (ret)
		err = failed(t, ret, why);
	if (!err)
		err = shake_hands(t, timeout_ms, why);
	if (!err) {
		*io = &t->io;
		return 0;
	}
	if (t->session)
		tls->lib->deinit(t->session);
	free(t);
close:
	close(fd);
	return err;
}
