/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Jobs: TAP 13 output, assertions and skips for the test programs.
 *
 * A test program has a table of tests and calls tap_main(). Every test runs in a child process of its own, so that a
 * crash, a leak or a hang in one cannot reach the next. A failed assertion prints a diagnostic and ends the child.
 */
#ifndef PVHV_SELFTESTS_TAP_H
#define PVHV_SELFTESTS_TAP_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#define KSFT_PASS	0
#define KSFT_FAIL	1
#define KSFT_SKIP	4

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

struct tap_test {
	const char *name;
	void (*fn)(void);
	unsigned int timeout_s;		/* 0: the default */
};

#define TEST(name)			{ #name, test_##name, 0 }
#define TEST_TIMEOUT(name, seconds)	{ #name, test_##name, seconds }

/*
 * Runs the tests; returns the exit status. With arguments, runs only the tests named there; "-l" lists them.
 * "-a" separates the program's own arguments, found in tap_args, from that.
 */
int tap_main(int argc, char **argv, const struct tap_test *tests, unsigned int nr);

extern char **tap_args;			/* what follows "-a", NULL-terminated */

void tap_diag(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* A test calls these from any thread; both end the child process */
void tap_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
void tap_skip(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

#define FAIL(...)	tap_fail(__FILE__, __LINE__, __VA_ARGS__)
#define SKIP(...)	tap_skip(__VA_ARGS__)

#define ASSERT(cond)							\
	do {								\
		if (!(cond))						\
			FAIL("%s (errno %d)", #cond, errno);		\
	} while (0)

/* With a message of its own */
#define ASSERT_MSG(cond, ...)						\
	do {								\
		if (!(cond))						\
			FAIL(__VA_ARGS__);				\
	} while (0)

/* Values are compared as signed 64-bit numbers */
#define ASSERT_OP(a, op, b)						\
	do {								\
		long long a_ = (long long)(a);				\
		long long b_ = (long long)(b);				\
		if (!(a_ op b_))					\
			FAIL("%s %s %s: %lld (0x%llx) %s %lld (0x%llx)", #a, #op, #b,	\
			     a_, (unsigned long long)a_, #op, b_, (unsigned long long)b_);	\
	} while (0)

#define ASSERT_EQ(a, b)	ASSERT_OP(a, ==, b)
#define ASSERT_NE(a, b)	ASSERT_OP(a, !=, b)
#define ASSERT_GE(a, b)	ASSERT_OP(a, >=, b)
#define ASSERT_LE(a, b)	ASSERT_OP(a, <=, b)
#define ASSERT_LT(a, b)	ASSERT_OP(a, <, b)
#define ASSERT_GT(a, b)	ASSERT_OP(a, >, b)

/* A system call that must fail with this errno */
#define ASSERT_ERR(call, err)						\
	do {								\
		long r_;						\
		errno = 0;						\
		r_ = (call);						\
		if (r_ != -1 || errno != (err))				\
			FAIL("%s: returned %ld, errno %d, not errno %d (%s)", #call, r_, errno, (err), #err); \
	} while (0)

/* A system call that must not fail */
#define ASSERT_OK(call)							\
	({								\
		long r_;						\
		errno = 0;						\
		r_ = (call);						\
		if (r_ < 0)						\
			FAIL("%s: returned %ld, errno %d", #call, r_, errno);	\
		r_;							\
	})

#endif
