/* SPDX-License-Identifier: GPL-2.0 */
/*
 * main() of a fuzz target without libFuzzer: files, or with "-n COUNT" so many pseudo-random inputs from replay_random(): the
 * target's own, or random.h's.
 */
#ifndef PVHV_FUZZ_REPLAY_H
#define PVHV_FUZZ_REPLAY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv)
{
	int i;

	if (argc == 3 && !strcmp(argv[1], "-n")) {
		replay_random(strtoul(argv[2], NULL, 0));
		return 0;
	}
	for (i = 1; i < argc; i++) {
		static uint8_t buf[65536];
		FILE *f = fopen(argv[i], "rb");
		size_t n;

		if (!f) {
			perror(argv[i]);
			return 1;
		}
		n = fread(buf, 1, sizeof(buf), f);
		fclose(f);
		LLVMFuzzerTestOneInput(buf, n);
	}
	return 0;
}

#endif
