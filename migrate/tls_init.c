// SPDX-License-Identifier: GPL-2.0
/*
 * A set of certificates to begin with: a CA whose key is thrown away, so that
 * nobody can add to the set, and a pair of certificate and key for either side.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mig.h"
#include "tls_lib.h"

#define VALID_S		(10 * 365 * 24 * 3600L)
#define CLOCK_SKEW_S	(24 * 3600L)
#define CURVE		GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1)

struct pair {
	gnutls_x509_crt_t crt;
	gnutls_x509_privkey_t key;
};

static void pair_fini(const struct tls_lib *lib, struct pair *p)
{
	if (p->crt)
		lib->x509_crt_deinit(p->crt);
	if (p->key)
		lib->x509_privkey_deinit(p->key);
}

/* @ca NULL: it is the CA itself */
static int pair_make(const struct tls_lib *lib, struct pair *p, const char *name,
		     const struct pair *ca)
{
	char dn[128];
	u8 serial[16];
	time_t now = time(NULL);
	int ret;

	snprintf(dn, sizeof(dn), "CN=%s", name);
	if (getrandom(serial, sizeof(serial), 0) != sizeof(serial))
		return GNUTLS_E_RANDOM_FAILED;
	serial[0] &= 0x7f;
	ret = lib->x509_privkey_init(&p->key);
	if (!ret)
		ret = lib->x509_privkey_generate(p->key, GNUTLS_PK_ECDSA, CURVE, 0);
	if (!ret)
		ret = lib->x509_crt_init(&p->crt);
	if (!ret)
		ret = lib->x509_crt_set_version(p->crt, 3);
	if (!ret)
		ret = lib->x509_crt_set_dn(p->crt, dn, NULL);
	if (!ret)
		ret = lib->x509_crt_set_serial(p->crt, serial, sizeof(serial));
	if (!ret)
		ret = lib->x509_crt_set_activation_time(p->crt, now - CLOCK_SKEW_S);
	if (!ret)
		ret = lib->x509_crt_set_expiration_time(p->crt, now + VALID_S);
	if (!ret)
		ret = lib->x509_crt_set_key(p->crt, p->key);
	if (!ret)
		ret = lib->x509_crt_set_basic_constraints(p->crt, !ca, -1);
	if (!ret)
		ret = lib->x509_crt_set_key_usage(p->crt, ca ? GNUTLS_KEY_DIGITAL_SIGNATURE :
							     GNUTLS_KEY_KEY_CERT_SIGN);
	if (!ret && ca)
		ret = lib->x509_crt_set_subject_alt_name(p->crt, GNUTLS_SAN_DNSNAME, name,
							 strlen(name), GNUTLS_FSAN_SET);
	if (!ret)
		ret = lib->x509_crt_sign2(p->crt, ca ? ca->crt : p->crt, ca ? ca->key : p->key,
					  GNUTLS_DIG_SHA256, 0);
	return ret;
}

static int put_file(const char *dir, const char *name, mode_t mode, const gnutls_datum_t *text,
		    char *why)
{
	char path[4096];
	int fd, err = 0;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		err = -errno;
	else if (write(fd, text->data, text->size) != (ssize_t)text->size)
		err = -EIO;
	if (fd >= 0 && close(fd) && !err)
		err = -errno;
	if (err)
		snprintf(why, MIGRATE_WHY_MAX, "'%.300s': %s", path, strerror(-err));
	return err;
}

static int put_pair(const struct tls_lib *lib, const struct pair *p, const char *dir,
		    const char *crt_name, const char *key_name, char *why)
{
	gnutls_datum_t text = { NULL, 0 };
	int err;

	if (lib->x509_crt_export2(p->crt, GNUTLS_X509_FMT_PEM, &text))
		return -ENOMEM;
	err = put_file(dir, crt_name, 0644, &text, why);
	(*lib->free)(text.data);
	if (err || !key_name)
		return err;
	if (lib->x509_privkey_export2(p->key, GNUTLS_X509_FMT_PEM, &text))
		return -ENOMEM;
	err = put_file(dir, key_name, 0600, &text, why);
	(*lib->free)(text.data);
	return err;
}

int migrate_tls_init(const char *dir, char why[MIGRATE_WHY_MAX])
{
	const struct tls_lib *lib = tls_lib_load(why);
	struct pair ca = { NULL, NULL }, server = ca, client = ca;
	int ret, err;

	if (!lib)
		return -ENOENT;
	if (mkdir(dir, 0700) && errno != EEXIST) {
		err = -errno;
		snprintf(why, MIGRATE_WHY_MAX, "'%.300s': %s", dir, strerror(errno));
		return err;
	}
	snprintf(why, MIGRATE_WHY_MAX, "no memory for certificates");
	ret = pair_make(lib, &ca, "pvhv CA", NULL);
	if (!ret)
		ret = pair_make(lib, &server, "pvhv", &ca);
	if (!ret)
		ret = pair_make(lib, &client, "pvhv", &ca);
	if (ret) {
		snprintf(why, MIGRATE_WHY_MAX, "certificates: %s", lib->strerror(ret));
		err = -EIO;
		goto out;
	}
	err = put_pair(lib, &ca, dir, "ca-cert.pem", NULL, why);
	if (!err)
		err = put_pair(lib, &server, dir, "server-cert.pem", "server-key.pem", why);
	if (!err)
		err = put_pair(lib, &client, dir, "client-cert.pem", "client-key.pem", why);
out:
	pair_fini(lib, &ca);
	pair_fini(lib, &server);
	pair_fini(lib, &client);
	return err;
}
