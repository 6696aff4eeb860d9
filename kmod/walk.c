// SPDX-License-Identifier: GPL-2.0
/*
 * walk.c: the guest's own address translation, a pure function of its control registers and tables:
 *  1. the shape of the tables in each paging mode, and which bits are reserved there;
 *  2. the walk;
 *  3. the verdict on the access: paging permissions, CR0.WP, NXE, SMEP, SMAP, protection keys; the #PF error code;
 *  4. accessed and dirty bits.
 *
 * PAE's four top entries are read from memory at CR3 like any other level. A CPU without nested paging caches them when
 * CR3 is loaded, but with nested paging AMD-V reads them as part of each table walk (APM volume 2, "Nested Paging",
 * legacy PAE mode), reserved bits included.
 *
 * Backends without NRIPS fetch instruction bytes through here on every exit: nothing is cleared or copied that the walk
 * does not need.
 */
#include "walk.h"

#define CR0_WP		(1ull << 16)
#define CR0_PG		(1ull << 31)
#define CR4_PSE		(1ull << 4)
#define CR4_PAE		(1ull << 5)
#define CR4_LA57	(1ull << 12)
#define CR4_SMEP	(1ull << 20)
#define CR4_SMAP	(1ull << 21)
#define CR4_PKE		(1ull << 22)
#define EFER_LMA	(1ull << 10)
#define EFER_NXE	(1ull << 11)
#define RFLAGS_AC	(1ull << 18)

#define PTE_P		(1ull << 0)
#define PTE_W		(1ull << 1)
#define PTE_U		(1ull << 2)
#define PTE_A		(1ull << 5)
#define PTE_D		(1ull << 6)
#define PTE_PS		(1ull << 7)
#define PTE_NX		(1ull << 63)
#define PTE_ADDRESS	0x000ffffffffff000ull
#define PTE_KEY_SHIFT	59

#define MAX_LEVELS 5
#define MAX_RESTARTS 8

/* Bits low to high, both included. */
static inline u64 bits(unsigned int low, unsigned int high)
{
	return ~0ull >> (63 - (high - low)) << low;
}

/* The tables of a mode. The level counts down to 1, the level of 4 KiB pages. */
struct shape {
	u8 levels;
	u8 index_bits;
	u8 entry_bytes;
	bool pae;		/* three levels, the top one without permissions */
	u64 root;
	u64 reserved;		/* in an entry of any level */
};

/* What a walk has found. */
struct path {
	u8 level;			/* of the leaf */
	u64 gpa[MAX_LEVELS + 1];	/* by level, where the entries lie */
	u64 entry[MAX_LEVELS + 1];
	u64 all;			/* AND of the entries that have permissions */
	u64 any;			/* OR of the same */
};

/* Returns false if the address is not canonical. */
static bool get_shape(const struct pvhv_walk_env *env, u64 *gva, struct shape *s)
{
	if (env->efer & EFER_LMA) {
		unsigned int unused;

		s->levels = env->cr4 & CR4_LA57 ? 5 : 4;
		unused = 64 - (12 + 9 * s->levels);
		if ((u64)((s64)(*gva << unused) >> unused) != *gva)
			return false;
		s->pae = false;
		s->root = env->cr3 & PTE_ADDRESS;
		s->reserved = 0;
	} else {
		*gva = (u32)*gva;
		if (!(env->cr4 & CR4_PAE)) {
			s->levels = 2;
			s->index_bits = 10;
			s->entry_bytes = 4;
			s->pae = false;
			s->root = env->cr3 & 0xfffff000;
			s->reserved = 0;
			return true;
		}
		s->levels = 3;
		s->pae = true;
		s->root = env->cr3 & 0xffffffe0;
		s->reserved = bits(52, 62);
	}
	s->index_bits = 9;
	s->entry_bytes = 8;
	if (env->maxphyaddr < 52)
		s->reserved |= bits(env->maxphyaddr, 51);
	if (!(env->efer & EFER_NXE))
		s->reserved |= PTE_NX;
	return true;
}

/* May an entry of this level map a page? */
static bool can_be_large(const struct pvhv_walk_env *env, const struct shape *s, unsigned int level)
{
	if (level == 2)
		return s->levels > 2 || (env->cr4 & CR4_PSE);
	return level == 3 && s->levels > 3 && env->gbpages;
}

/*
 * Reserved bits of an entry. Bit 8 above the last level, which AMD reserves and Intel ignores, is ignored: the vendor
 * the guest sees is not known here.
 */
static u64 reserved_bits(const struct pvhv_walk_env *env, const struct shape *s, unsigned int level, u64 entry)
{
	u64 reserved = s->reserved;

	if (level == 1)
		return reserved;
	/* Bit 5 is reserved too, but some processors (QEMU's among them) use it as an accessed bit here as elsewhere. */
	if (s->pae && level == 3)
		return reserved | PTE_NX | bits(6, 8) | bits(1, 2);
	if (!(entry & PTE_PS))
		return reserved;
	if (s->levels == 2) {
		/* PSE-36: bits 13 to 20 are address bits 32 to 39, as far as there are that many. */
		if (!can_be_large(env, s, level))
			return 0;
		if (env->maxphyaddr >= 40)
			return bits(21, 21);
		return bits(env->maxphyaddr > 32 ? env->maxphyaddr - 19 : 13, 21);
	}
	if (!can_be_large(env, s, level))
		return reserved | PTE_PS;
	return reserved | bits(13, 11 + 9 * (level - 1));
}

/*
 * Walks to the leaf. Returns a pvhv_walk_status; PVHV_WALK_FAULT with the error code 0 or present and reserved.
 *
 * An entry without any bit of suspect, which is nearly every one, is neither reserved nor large. index_bits and pae are
 * constants where this is called, so that the walk of 64-bit tables carries nothing of the others.
 */
static inline __attribute__((always_inline)) int
find_leaf(const struct pvhv_walk_env *env, const struct shape *s, unsigned int index_bits, bool pae, u64 gva,
	  struct path *p, struct pvhv_walk_result *res)
{
	unsigned int level = s->levels, shift = 12 + index_bits * (level - 1);
	const unsigned int entry_bytes = index_bits == 9 ? 8 : 4;
	u64 table = s->root, suspect = s->reserved | PTE_PS, all = ~0ull, any = 0;

	if (pae)
		suspect = ~(PTE_P | PTE_ADDRESS) | s->reserved;
	for (;;) {
		u64 gpa = table + (gva >> shift & ((1u << index_bits) - 1)) * entry_bytes;
		u64 entry = 0;
		int ret;

		res->table_gpa = gpa;
		ret = env->read_pte(env->opaque, gpa, &entry, entry_bytes);
		if (ret)
			return ret;
		if (!(entry & PTE_P)) {
			res->error_code = 0;
			return PVHV_WALK_FAULT;
		}
		p->gpa[level] = gpa;
		p->entry[level] = entry;
		if (!(pae && level == 3)) {
			all &= entry;
			any |= entry;
		}
		if (entry & suspect) {
			if (entry & reserved_bits(env, s, level, entry)) {
				res->error_code = PVHV_PF_PRESENT | PVHV_PF_RSVD;
				return PVHV_WALK_FAULT;
			}
			if (level > 1 && (entry & PTE_PS) && can_be_large(env, s, level))
				break;
		}
		if (level == 1)
			break;
		table = entry & PTE_ADDRESS;
		shift -= index_bits;
		suspect = --level > 1 ? s->reserved | PTE_PS : s->reserved;
	}
	p->level = level;
	p->all = all;
	p->any = any;
	return PVHV_WALK_OK;
}

/*
 * Does the protection key of a user page forbid the access? Fetches are not subject to keys, and supervisor writes
 * heed the write-disable bit only under CR0.WP.
 */
static bool key_forbids(const struct pvhv_walk_env *env, u64 leaf, u32 access)
{
	unsigned int key = leaf >> PTE_KEY_SHIFT & 15;
	u32 rights = env->pkru >> (2 * key) & 3;

	if (!(env->cr4 & CR4_PKE) || !(env->efer & EFER_LMA) || (access & PVHV_WALK_FETCH))
		return false;
	return (rights & 1) ||
	       ((rights & 2) && (access & PVHV_WALK_WRITE) && ((access & PVHV_WALK_USER) || (env->cr0 & CR0_WP)));
}

/* The rules of user pages, for accesses that the rights themselves permit or not. */
static u32 judge_user_page(const struct pvhv_walk_env *env, const struct path *p, u32 access, bool denied)
{
	bool user = access & PVHV_WALK_USER;

	if (!user && (access & PVHV_WALK_FETCH) && (env->cr4 & CR4_SMEP))
		denied = true;
	/* At CPL 3 a supervisor access is an implicit one, whoever forgot to say so. */
	if (!user && !(access & PVHV_WALK_FETCH) && (env->cr4 & CR4_SMAP) &&
	    ((access & PVHV_WALK_IMPLICIT) || env->cpl == 3 || !(env->rflags & RFLAGS_AC)))
		denied = true;
	if (key_forbids(env, p->entry[p->level], access))
		return PVHV_PF_PRESENT | PVHV_PF_PK;
	return denied ? PVHV_PF_PRESENT : 0;
}

/* Judges the access by the leaf's combined rights. Returns 0 or the bits that the error code has beyond the access. */
static inline u32 judge(const struct pvhv_walk_env *env, const struct path *p, u32 access)
{
	/* The rights have the bits of the access that needs them. Supervisor writes need theirs only under CR0.WP. */
	u64 need = access & (PTE_W | PTE_U);
	bool denied;

	if (!(need & PTE_U) && !(env->cr0 & CR0_WP))
		need = 0;
	denied = ~p->all & need;
	if ((access & PVHV_WALK_FETCH) && (p->any & PTE_NX))	/* without NXE, NX was a reserved bit */
		denied = true;
	if ((p->all & PTE_U) && (env->cr4 & (CR4_SMEP | CR4_SMAP | CR4_PKE)))
		return judge_user_page(env, p, access, denied);
	return denied ? PVHV_PF_PRESENT : 0;
}

/* The part of the error code that describes the access. Fetches are told apart only where fetches can be forbidden. */
static u32 access_bits(const struct pvhv_walk_env *env, u32 access)
{
	u32 code = access & (PVHV_WALK_WRITE | PVHV_WALK_USER);
	bool nx = (env->efer & EFER_NXE) && (env->cr4 & CR4_PAE);

	if ((access & PVHV_WALK_FETCH) && (nx || (env->cr4 & CR4_SMEP)))
		code |= PVHV_PF_FETCH;
	return code;
}

/* Sets accessed bits from the root down, and the leaf's dirty bit for a write. */
static int set_accessed_dirty(const struct pvhv_walk_env *env, const struct shape *s, const struct path *p, u32 access)
{
	unsigned int level;

	for (level = s->levels; level >= p->level; level--) {
		u64 old = p->entry[level], new = old | PTE_A;
		int ret;

		if (s->pae && level == 3)
			continue;
		if (level == p->level && (access & PVHV_WALK_WRITE))
			new |= PTE_D;
		if (new == old)
			continue;
		ret = env->set_ad(env->opaque, p->gpa[level], old, new, s->entry_bytes);
		if (ret)
			return ret;
	}
	return 0;
}

static void translate(const struct shape *s, const struct path *p, u64 gva, struct pvhv_walk_result *res)
{
	u64 entry = p->entry[p->level];
	u64 size = 1ull << (12 + s->index_bits * (p->level - 1));
	u64 base = entry & PTE_ADDRESS;

	if (s->levels == 2 && p->level == 2)
		base |= (entry >> 13 & 0xff) << 32;
	res->gpa = (base & ~(size - 1)) | (gva & (size - 1));
	res->page_size = size;
}

/*
 * Translates gva for an access (PVHV_WALK_WRITE, _USER, _FETCH, _IMPLICIT). Returns a pvhv_walk_status, or what a
 * callback returned below 0. Accessed and dirty bits are set only if the access is permitted.
 */
int pvhv_walk(const struct pvhv_walk_env *env, u64 gva, u32 access, struct pvhv_walk_result *res)
{
	unsigned int restarts;
	struct shape s;
	struct path p;

	if (!(env->cr0 & CR0_PG)) {
		res->gpa = (u32)gva;
		res->page_size = 4096;
		res->writable = true;
		res->dirty = true;
		return PVHV_WALK_OK;
	}
	if (!get_shape(env, &gva, &s))
		return PVHV_WALK_NONCANONICAL;

	for (restarts = 0; restarts < MAX_RESTARTS; restarts++) {
		int ret;

		if (s.levels > 3)
			ret = find_leaf(env, &s, 9, false, gva, &p, res);
		else if (s.pae)
			ret = find_leaf(env, &s, 9, true, gva, &p, res);
		else
			ret = find_leaf(env, &s, 10, false, gva, &p, res);

		if (ret == PVHV_WALK_OK) {
			res->error_code = judge(env, &p, access);
			if (res->error_code)
				ret = PVHV_WALK_FAULT;
		}
		if (ret == PVHV_WALK_FAULT) {
			res->error_code |= access_bits(env, access);
			res->cr2 = gva;
		}
		if (ret)
			return ret;

		if (env->set_ad) {
			ret = 0;
			if (!(p.all & PTE_A) || ((access & PVHV_WALK_WRITE) && !(p.entry[p.level] & PTE_D)))
				ret = set_accessed_dirty(env, &s, &p, access);
			if (ret < 0)
				return ret;
			if (ret)
				continue;
		}
		translate(&s, &p, gva, res);
		res->writable = (access & PVHV_WALK_WRITE) || !judge(env, &p, access | PVHV_WALK_WRITE);
		res->dirty = (p.entry[p.level] & PTE_D) || (env->set_ad && (access & PVHV_WALK_WRITE));
		return PVHV_WALK_OK;
	}
	return PVHV_WALK_RACE;
}
