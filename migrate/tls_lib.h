/* SPDX-License-Identifier: GPL-2.0 */
/* libgnutls, loaded at the first need: it is large (tls_lib.c). */
#ifndef PVHV_MIGRATE_TLS_LIB_H
#define PVHV_MIGRATE_TLS_LIB_H

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#define TLS_FUNCTIONS(F)						\
	F(bye) F(certificate_allocate_credentials)			\
	F(certificate_free_credentials)					\
	F(certificate_server_set_request)				\
	F(certificate_set_x509_key_file)				\
	F(certificate_set_x509_trust_file)				\
	F(certificate_verification_status_print)			\
	F(credentials_set) F(deinit) F(error_is_fatal) F(handshake)	\
	F(init) F(priority_set_direct) F(record_get_direction)		\
	F(record_recv) F(record_send) F(session_get_verify_cert_status)	\
	F(session_set_verify_cert) F(strerror)				\
	F(transport_set_int2) F(x509_crt_deinit) F(x509_crt_export2)	\
	F(x509_crt_init) F(x509_crt_set_activation_time)		\
	F(x509_crt_set_basic_constraints)				\
	F(x509_crt_set_dn) F(x509_crt_set_expiration_time)		\
	F(x509_crt_set_key) F(x509_crt_set_key_usage)			\
	F(x509_crt_set_serial) F(x509_crt_set_subject_alt_name)	\
	F(x509_crt_set_version) F(x509_crt_sign2) F(x509_privkey_deinit)\
	F(x509_privkey_export2) F(x509_privkey_generate)		\
	F(x509_privkey_init)

struct tls_lib {
#define F(name) __typeof__(&gnutls_##name) name;
	TLS_FUNCTIONS(F)
#undef F
	gnutls_free_function *free;
};

/* NULL, and why, where it is not installed */
const struct tls_lib *tls_lib_load(char *why);

#endif /* PVHV_MIGRATE_TLS_LIB_H */
