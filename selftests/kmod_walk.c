// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies kmod/walk.c on page tables built here:
 *  1. translation and page sizes in every paging mode, including what is not there (not present, not canonical);
 *  2. reserved bits, mode by mode;
 *  3. permissions: every combination of rights, of the access and of the control bits, against rules written down anew;
 *  4. protection keys;
 *  5. accessed and dirty bits: which, in which order, only when permitted, races, failures;
 *  6. failing reads.
 */
#include <string.h>

#include "../kmod/walk.h"
#include "tap.h"

#define P 0x1ull
#define W 0x2ull
#define U 0x4ull
#define A 0x20ull
#define D 0x40ull
#define PS 0x80ull
#define NX (1ull << 63)

#define PG_WP 0x80010000ull
#define PG 0x80000000ull
#define PSE 0x10ull
#define PAE 0x20ull
#define LA57 0x1000ull
#define SMEP 0x100000ull
#define SMAP 0x200000ull
#define PKE 0x400000ull
#define LMA 0x500ull
#define NXE 0x800ull
#define AC 0x40000ull

#define READ 0u
#define WRITE PVHV_WALK_WRITE
#define USER PVHV_WALK_USER
#define FETCH PVHV_WALK_FETCH
#define IMPLICIT PVHV_WALK_IMPLICIT

static u8 mem[16 * 4096];		/* guest-physical memory from 0 */
static unsigned int reads, sets, races;
static int fail_read, fail_set;
static u64 set_gpa[8];
static struct pvhv_walk_env env;
static struct pvhv_walk_result res;

static int read_pte(void *opaque, u64 gpa, void *pte, unsigned int bytes)
{
	ASSERT(opaque == mem && !(gpa % bytes) && (bytes == 4 || bytes == 8));
	reads++;
	if (fail_read || gpa + bytes > sizeof(mem))
		return -14;
	memcpy(pte, mem + gpa, bytes);
	return 0;
}

static int set_ad(void *opaque, u64 gpa, u64 old, u64 new, unsigned int bytes)
{
	ASSERT(opaque == mem && sets < ARRAY_SIZE(set_gpa));
	if (fail_set)
		return fail_set;
	if (races) {
		races--;
		return 1;
	}
	ASSERT(!memcmp(mem + gpa, &old, bytes));
	memcpy(mem + gpa, &new, bytes);
	set_gpa[sets++] = gpa;
	return 0;
}

static void put(u64 gpa, u64 entry)
{
	memcpy(mem + gpa, &entry, 8);
}

static void put4(u64 gpa, u32 entry)
{
	memcpy(mem + gpa, &entry, 4);
}

static u64 get(u64 gpa)
{
	u64 v;

	memcpy(&v, mem + gpa, 8);
	return v;
}

static void start(u64 cr0, u64 cr4, u64 efer)
{
	memset(mem, 0, sizeof(mem));
	reads = sets = races = 0;
	fail_read = fail_set = 0;
	env = (struct pvhv_walk_env) {
		.cr0 = cr0, .cr3 = 0x1000, .cr4 = cr4, .efer = efer, .rflags = 2, .maxphyaddr = 40, .gbpages = true,
		.opaque = mem, .read_pte = read_pte, .set_ad = set_ad,
	};
}

static int walk(u64 gva, u32 access)
{
	memset(&res, 0xaa, sizeof(res));
	reads = sets = 0;
	return pvhv_walk(&env, gva, access, &res);
}

static void expect_ok(u64 gva, u32 access, u64 gpa, u64 size)
{
	ASSERT_EQ(walk(gva, access), PVHV_WALK_OK);
	ASSERT_EQ(res.gpa, gpa);
	ASSERT_EQ(res.page_size, size);
}

static void expect_fault(u64 gva, u32 access, u32 code)
{
	ASSERT_EQ(walk(gva, access), PVHV_WALK_FAULT);
	ASSERT_EQ(res.error_code, code);
	ASSERT_EQ(res.cr2, gva);
	ASSERT_EQ(sets, 0);
}

#define K4 0x1000ull
#define M2 0x200000ull
#define M4 0x400000ull
#define G1 0x40000000ull

static void no_paging(void)
{
	start(0, 0, 0);
	expect_ok(0x12345678, WRITE | USER, 0x12345678, K4);
	expect_ok(0xabc12345678, FETCH, 0x12345678, K4);
	ASSERT(!reads && res.writable && res.dirty);
}

static void two_level(void)
{
	start(PG_WP, 0, 0);
	env.cr3 = 0x1018;
	put4(0x1000 + 0x300 * 4, 0x2000 | P | W | U);
	put4(0x2000 + 0x123 * 4, 0xfedcb000 | P | U);
	expect_ok(0xc0123abc, USER, 0xfedcbabc, K4);
	ASSERT(reads == 2 && !res.writable && !res.dirty && sets == 2);
	expect_fault(0xc0123abc, USER | WRITE, 7);
	expect_fault(0xc0124000, READ, 0);
	expect_fault(0x1000, WRITE | USER, 6);
	expect_fault(0x1000, FETCH, 0);			/* no NX, no SMEP: not told apart */
	ASSERT_EQ(walk(0xffffffffc0124000, READ), PVHV_WALK_FAULT);
	ASSERT_EQ(res.cr2, 0xc0124000);
	env.cr4 = SMEP;
	expect_fault(0x1000, FETCH, 0x10);

	/* PS counts only with CR4.PSE; PSE-36 as far as the address bits go. */
	start(PG_WP, PSE, 0);
	put4(0x1000, 0x01400000 | 0x5a << 13 | P | W | PS);
	expect_ok(0x00345678, WRITE, 0x5a01400000 + 0x345678, M4);
	ASSERT(reads == 1 && res.writable && res.dirty);
	env.maxphyaddr = 39;
	expect_ok(0x00345678, WRITE, 0x5a01400000 + 0x345678, M4);
	env.maxphyaddr = 36;
	expect_fault(0x00345678, WRITE, 11);
	put4(0x1000, 0x01400000 | 0x0a << 13 | P | PS);
	expect_ok(0x345678, READ, 0xa01745678, M4);
	env.maxphyaddr = 32;
	expect_fault(0x345678, READ, 9);
	env.maxphyaddr = 40;
	put4(0x1000, 0x01600000 | P | PS);		/* bit 21 */
	expect_fault(0x345678, READ, 9);
	env.cr4 = 0;
	put4(0x1000, 0x2000 | P | PS);
	put4(0x2000 + 0x345 * 4, 0x7000 | P);
	expect_ok(0x345678, READ, 0x7678, K4);
}

static void pae(void)
{
	start(PG_WP, PAE, NXE);
	env.cr3 = 0x1fe0 | 0x18;			/* bits 3 and 4 are PWT and PCD */
	put(0x1fe0 + 3 * 8, 0x3000 | P);
	put(0x3000 + 0x1ff * 8, 0x4000 | P | W | U);
	put(0x4000 + 0x1fe * 8, 0x2345678000 | P | W | U | NX);
	expect_ok(0xffffe123, WRITE | USER, 0x2345678123, K4);
	ASSERT(reads == 3 && sets == 2);		/* the top entry has no accessed bit */
	ASSERT_EQ(get(0x1fe0 + 3 * 8), 0x3000 | P);
	expect_fault(0xffffe123, FETCH | USER, 0x15);
	expect_fault(0xffffe123, FETCH, 0x11);
	expect_fault(0x3fffffff, USER, 4);
	put(0x3000 + 0x1ff * 8, 0x2345600000 | P | W | PS);
	expect_ok(0xffffe123, WRITE, 0x23457fe123, M2);

	/* Reserved: everything but P, PWT, PCD, AVL and the address in the top entry ... */
	put(0x1fe0, 0x5000 | P | 0x18 | 0xe00);
	put(0x5000, 0x400000 | P | PS);
	expect_ok(0x1000, READ, 0x401000, M2);
	for (unsigned int bit = 1; bit < 64; bit++) {
		bool reserved = bit == 1 || bit == 2 || (bit >= 6 && bit <= 8) || bit >= 40;

		put(0x1fe0, 0x5000 | P | 1ull << bit);
		ASSERT_EQ(walk(0x1000, READ) == PVHV_WALK_FAULT && res.error_code == 9, reserved);
	}
	/* ... and in the others the unused address bits, 52 to 62, and NX without NXE. */
	put(0x1fe0, 0x5000 | P);
	for (unsigned int bit = 1; bit < 64; bit++) {
		bool reserved = (bit >= 13 && bit <= 20) || (bit >= 40 && bit <= 62);

		put(0x5000, 0x400000 | P | PS | 1ull << bit);
		ASSERT_EQ(walk(0x1000, READ) == PVHV_WALK_FAULT && res.error_code == 9, reserved);
	}
	env.efer = 0;
	put(0x5000, 0x400000 | P | PS | NX);
	expect_fault(0x1000, FETCH | USER, 13);		/* and I/D is not reported then */
}

static void four_level(void)
{
	u64 gva = 0xffff888012345678;
	unsigned int bit;

	start(PG_WP, PAE, LMA | NXE);
	env.cr3 = 0x1fff;				/* a PCID */
	put(0x1000 + 0x111 * 8, 0x2000 | P | W);
	put(0x2000, 0x3000 | P | W);
	put(0x3000 + 0x91 * 8, 0x4000 | P | W);
	put(0x4000 + 0x145 * 8, 0xabcdef7000 | P | W);
	expect_ok(gva, WRITE, 0xabcdef7678, K4);
	ASSERT(reads == 4 && res.writable && res.dirty && res.table_gpa == 0x4000 + 0x145 * 8);
	put(0x3000 + 0x91 * 8, 0xabcde00000 | P | W | PS);
	expect_ok(gva, READ, 0xabcdf45678, M2);
	ASSERT(res.writable && !res.dirty);
	put(0x2000, 0xab80000000 | P | W | PS);
	expect_ok(gva, READ, 0xab92345678, G1);
	for (bit = 8; bit < 64; bit++) {
		put(0x2000, 0xab80000000 | P | W | PS | 1ull << bit);
		ASSERT_EQ(walk(gva, READ) == PVHV_WALK_FAULT && res.error_code == 9,
			  (bit >= 13 && bit <= 29) || (bit >= 40 && bit <= 51));
	}
	put(0x2000, 0xab80000000 | P | W | PS);
	env.gbpages = false;
	expect_fault(gva, WRITE, 11);
	put(0x2000, 0x3000 | P | W | NX);
	env.efer = LMA;
	expect_fault(gva, READ, 9);
	env.efer = LMA | NXE;
	expect_ok(gva, READ, 0xabcdf45678, M2);
	expect_fault(gva, FETCH, 0x11);			/* NX counts at every level */
	put(0x1000 + 0x111 * 8, 0x2000 | P | W | PS);
	expect_fault(gva, READ, 9);
	put(0x1000 + 0x111 * 8, 0);
	expect_fault(gva, FETCH | USER, 0x14);
	env.maxphyaddr = 52;
	put(0x1000 + 0x111 * 8, 0x2000 | P | 0x7ffull << 52);
	expect_ok(gva, READ, 0xabcdf45678, M2);

	ASSERT_EQ(walk(0x800000000000, READ), PVHV_WALK_NONCANONICAL);
	ASSERT_EQ(walk(0xffff7fffffffffff, READ), PVHV_WALK_NONCANONICAL);
	expect_fault(0x7fffffffffff, READ, 0);
	expect_fault(0xffffffffffffffff, READ, 0);
}

static void five_level(void)
{
	u64 gva = 0x00ff888012345678;

	start(PG_WP, PAE | LA57, LMA | NXE);
	put(0x1000 + 0xff * 8, 0x5000 | P | W | U);
	put(0x5000 + 0x111 * 8, 0x2000 | P | W | U);
	put(0x2000, 0x3000 | P | W | U);
	put(0x3000 + 0x91 * 8, 0x4000 | P | W | U);
	put(0x4000 + 0x145 * 8, 0xabcdef7000 | P | W | U);
	expect_ok(gva, WRITE | USER, 0xabcdef7678, K4);
	ASSERT(reads == 5 && sets == 5);
	put(0x1000 + 0xff * 8, 0x5000 | P | W | U | PS);
	expect_fault(gva, READ, 9);
	ASSERT_EQ(walk(0x0100000000000000, READ), PVHV_WALK_NONCANONICAL);
	expect_fault(0xff00000000000000, READ, 0);
}

/* What the manuals say, once more and in other words; the entries are present and without reserved bits. */
static u32 expected(u64 pde, u64 pte, u32 access, bool wp, bool smep, bool smap, bool ac, bool nxe)
{
	bool user_page = (pde & U) && (pte & U), write_page = (pde & W) && (pte & W);
	bool ok;

	if (access & USER) {
		ok = user_page && (!(access & WRITE) || write_page);
	} else {
		ok = !(access & WRITE) || write_page || !wp;
		if (user_page && (access & FETCH))
			ok = ok && !smep;
		if (user_page && !(access & FETCH) && smap)
			ok = ok && ac && !(access & IMPLICIT);
	}
	if ((access & FETCH) && ((pde | pte) & NX))
		ok = false;
	if (ok)
		return 0;
	return P | (access & (WRITE | USER)) | (access & FETCH && (nxe || smep) ? FETCH : 0);
}

static void permissions(void)
{
	static const u32 accesses[] = { READ, WRITE, FETCH, USER, USER | WRITE, USER | FETCH, IMPLICIT, IMPLICIT | WRITE };
	unsigned int n, i, checked = 0;

	for (n = 0; n < 1 << 10; n++) {
		bool wp = n & 1, smep = n & 2, smap = n & 4, ac = n & 8, nxe = n & 16;
		u64 pde = 0x2000 | P | (n & 32 ? W : 0) | (n & 64 ? U : 0);
		u64 pte = 0x7000 | P | (n & 128 ? W : 0) | (n & 256 ? U : 0) | (nxe && (n & 512) ? NX : 0);

		start(wp ? PG_WP : PG, PAE | (smep ? SMEP : 0) | (smap ? SMAP : 0), nxe ? NXE : 0);
		env.rflags |= ac ? AC : 0;
		put(0x1000, 0x3000 | P);
		for (i = 0; i < ARRAY_SIZE(accesses); i++) {
			u32 access = accesses[i], code;
			int ret;

			put(0x3000, pde);
			put(0x2000 + 8, pte);
			env.cpl = access & USER ? 3 : 0;
			code = expected(pde, pte, access, wp, smep, smap, ac, nxe);
			ret = walk(0x1234, access);
			ASSERT_MSG(ret == (code ? PVHV_WALK_FAULT : PVHV_WALK_OK) && (!code || res.error_code == code),
				   "case %x access %x: result %d code %x, not %x", n, access, ret, res.error_code, code);
			if (!ret && !(access & FETCH))
				ASSERT_EQ(res.writable, !expected(pde, pte, access | WRITE, wp, smep, smap, ac, nxe));
			/* At CPL 3 a supervisor access is implicit even if it does not say so. */
			if (access == IMPLICIT) {
				env.cpl = 3;
				ASSERT_EQ(walk(0x1234, READ), ret);
			}
			checked++;
		}
	}
	tap_diag("%u cases", checked);
}

static void protection_keys(void)
{
	u64 leaf = 0x7000 | P | W | U | 5ull << 59;
	u32 ad = 1 << 10, wd = 2 << 10;

	start(PG_WP, PAE | PKE, LMA | NXE);
	put(0x1000, 0x2000 | P | W | U);
	put(0x2000, 0x3000 | P | W | U);
	put(0x3000, 0x4000 | P | W | U);
	put(0x4000, leaf);
	env.pkru = ~(ad | wd);
	expect_ok(0, USER | WRITE, 0x7000, K4);
	env.pkru = ad;
	expect_fault(0, USER, 0x25);
	expect_fault(0, USER | WRITE, 0x27);
	expect_fault(0, READ, 0x21);			/* by the page, not by the access */
	expect_ok(0, USER | FETCH, 0x7000, K4);
	env.pkru = wd;
	expect_ok(0, USER, 0x7000, K4);
	ASSERT(!res.writable);
	expect_fault(0, USER | WRITE, 0x27);
	expect_fault(0, WRITE, 0x23);
	env.cr0 = PG;
	expect_ok(0, WRITE, 0x7000, K4);
	expect_fault(0, USER | WRITE, 0x27);
	env.pkru = ad;
	put(0x4000, leaf & ~U);
	expect_ok(0, READ, 0x7000, K4);			/* a supervisor page has no key */
	expect_fault(0, USER, 5);
	put(0x4000, leaf & ~W);
	expect_fault(0, USER | WRITE, 0x27);
	env.cr4 = PAE;
	expect_ok(0, USER, 0x7000, K4);
}

static void accessed_dirty(void)
{
	start(PG_WP, PAE, LMA | NXE);
	put(0x1000, 0x2000 | P | W);
	put(0x2000, 0x3000 | P | W);
	put(0x3000, 0x4000 | P | W);
	put(0x4000, 0x7000 | P | W);
	expect_ok(0, READ, 0x7000, K4);
	ASSERT(sets == 4 && set_gpa[0] == 0x1000 && set_gpa[3] == 0x4000 && !res.dirty);
	ASSERT(get(0x1000) == (0x2000 | P | W | A) && get(0x4000) == (0x7000 | P | W | A));
	expect_ok(0, READ, 0x7000, K4);
	ASSERT_EQ(sets, 0);
	expect_ok(0, WRITE, 0x7000, K4);
	ASSERT(sets == 1 && res.dirty && get(0x4000) == (0x7000 | P | W | A | D));
	ASSERT_EQ(get(0x3000), 0x4000 | P | W | A);
	expect_ok(0, WRITE, 0x7000, K4);
	ASSERT_EQ(sets, 0);

	/* Nothing is set for an access that is not permitted, or without the callback. */
	put(0x4000, 0x7000 | P);
	expect_fault(0, WRITE, 3);
	env.set_ad = NULL;
	expect_ok(0, READ, 0x7000, K4);
	ASSERT(get(0x4000) == (0x7000 | P) && !res.dirty);
	env.set_ad = set_ad;

	put(0x4000, 0x7000 | P | W);
	races = 3;
	expect_ok(0, WRITE, 0x7000, K4);
	ASSERT(reads == 16 && sets == 1);
	put(0x4000, 0x7000 | P | W);
	races = 1000;
	ASSERT_EQ(walk(0, WRITE), PVHV_WALK_RACE);
	races = 0;
	fail_set = -14;
	ASSERT_EQ(walk(0, WRITE), -14);

	/* Large pages carry D in the entry that maps them; two-level entries are half as wide. */
	start(PG_WP, PSE, 0);
	put4(0x1000, 0x400000 | P | W | PS);
	put4(0x1004, 0xdeadbeef);
	expect_ok(0, WRITE, 0x400000, M4);
	ASSERT(sets == 1 && get(0x1000) == (0xdeadbeef00000000 | 0x400000 | P | W | PS | A | D));
}

static void failing_reads(void)
{
	start(PG_WP, PAE, LMA);
	put(0x1000, 0x2000 | P);
	put(0x2000, 0xfffff000 | P);
	ASSERT_EQ(walk(0x123000, READ), -14);
	ASSERT_EQ(res.table_gpa, 0xfffff000);
	fail_read = 1;
	ASSERT_EQ(walk(0x123000, READ), -14);
	ASSERT_EQ(res.table_gpa, 0x1000);
}

static const struct tap_test tests[] = {
	{ "no_paging", no_paging, 0 },
	{ "two_level", two_level, 0 },
	{ "pae", pae, 0 },
	{ "four_level", four_level, 0 },
	{ "five_level", five_level, 0 },
	{ "permissions", permissions, 0 },
	{ "protection_keys", protection_keys, 0 },
	{ "accessed_dirty", accessed_dirty, 0 },
	{ "failing_reads", failing_reads, 0 },
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
