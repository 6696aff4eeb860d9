// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: the memory functions the compiler calls on its own, in a form that guests can run (libc's pick vector code that
 * the guest may not have enabled). They replace libc's in the static link.
 */
#include <stddef.h>
#include <string.h>

void *memcpy(void *dst, const void *src, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
	return dst;
}

void *memmove(void *dst, const void *src, size_t n)
{
	if ((size_t)dst - (size_t)src >= n)
		return memcpy(dst, src, n);

	for (unsigned char *d = dst; n--;)
		d[n] = ((const unsigned char *)src)[n];
	return dst;
}

void *memset(void *dst, int c, size_t n)
{
	void *d = dst;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return dst;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const unsigned char *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}
