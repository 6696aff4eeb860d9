// SPDX-License-Identifier: GPL-2.0
/* pvhv-stream: looks at saved machines. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "verify.h"

#define EXIT_BROKEN	1
#define EXIT_USAGE	2

static const char usage[] =
	"usage: pvhv-stream verify [--quiet] FILE\n"
	"\n"
	"Checks a saved machine (docs/stream.md) from its first byte to\n"
	"its last and lists its sections; --quiet: lists nothing.\n"
	"Status: 0 it is whole, 1 it is not, 2 it could not be looked at.\n";

static int fail_usage(const char *what, const char *arg)
{
	fprintf(stderr, "pvhv-stream: %s%s: see pvhv-stream --help\n", what, arg);
	return EXIT_USAGE;
}

static int verify_file(const char *path, bool quiet)
{
	struct input in = { .fd = -1 };
	struct verify v;
	struct stat st;
	int ret;

	in.fd = open(path, O_RDONLY | O_CLOEXEC);
	if (in.fd < 0 || fstat(in.fd, &st)) {
		fprintf(stderr, "pvhv-stream: '%s': %s\n", path, strerror(errno));
		ret = EXIT_USAGE;
		goto close;
	}
	if (!S_ISREG(st.st_mode)) {
		fprintf(stderr, "pvhv-stream: '%s' is no file: store the stream in one\n", path);
		ret = EXIT_USAGE;
		goto close;
	}
	in.len = st.st_size;
	ret = verify(&v, &in, quiet ? NULL : stdout) ? EXIT_BROKEN : 0;
	fflush(stdout);
	if (ret)
		fprintf(stderr, "pvhv-stream: '%s': broken at byte %llu: %s\n", path,
			(unsigned long long)v.at, v.why);
	else if (!quiet)
		printf("%12llu  end        whole\n", (unsigned long long)in.len);
	verify_fini(&v);
close:
	if (in.fd >= 0)
		close(in.fd);
	return ret;
}

int main(int argc, char **argv)
{
	bool quiet = argc == 4 && !strcmp(argv[2], "--quiet");

	if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc < 2)
		return fail_usage("no command", "");
	if (strcmp(argv[1], "verify"))
		return fail_usage("no such command: ", argv[1]);
	if (argc != 3 + quiet)
		return fail_usage("verify needs one file", "");
	return verify_file(argv[argc - 1], quiet);
}
