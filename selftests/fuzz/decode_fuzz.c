// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for kmod/decode.c, kmod/decode_exec.c and kmod/walk.c.
 *
 *   libFuzzer: clang -g -O1 -fsanitize=fuzzer,address,undefined fuzz/decode_fuzz.c ../kmod/decode*.c ../kmod/walk.c
 *   replay:    gcc -g -fsanitize=address,undefined -DREPLAY ... ; ./a.out FILE...
 *              ./a.out -n COUNT replays COUNT pseudo-random inputs instead
 *
 * Input: one byte of mode, one of access limit, up to 15 instruction bytes; the rest fills registers and memory. What
 * must hold: no access outside the given bytes (they lie in an allocation of exactly their size), lengths and fields in
 * range, the same result for the same bytes, no state change before an unfinished instruction, walks that end.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kmod/decode.h"
#include "../../kmod/walk.h"

int LLVMFuzzerTestOneInput(const u8 *input, size_t size);

static const u8 *pool;		/* the input behind the instruction: registers, memory, page tables */
static size_t pool_bytes;
static unsigned int access_limit;

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

static u64 from_pool(u64 at)
{
	u64 v = 0;
	unsigned int i;

	for (i = 0; i < 8 && pool_bytes; i++)
		v |= (u64)pool[(at + i) % pool_bytes] << (8 * i);
	return v;
}

static int access_result(struct pvhv_insn_ctx *ctx, unsigned int bytes)
{
	CHECK(bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
	CHECK(ctx->access_no < 2 && ctx->access_seg < PVHV_SEG_NR);
	return ctx->access_no < access_limit ? 0 : access_limit & 1 ? PVHV_EXEC_EXIT : -14;
}

static int fuzz_read(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes)
{
	u64 v = from_pool(linear);

	memcpy(val, &v, bytes);
	return access_result(ctx, bytes);
}

static int fuzz_write(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes)
{
	u64 v = linear;

	memcpy(&v, val, bytes);
	return access_result(ctx, bytes);
}

static int fuzz_cmpxchg(struct pvhv_insn_ctx *ctx, u64 linear, const void *old, const void *new, unsigned int bytes)
{
	u64 v = linear;

	memcpy(&v, old, bytes);
	memcpy(&v, new, bytes);
	return access_limit & 4 ? PVHV_EXEC_RETRY : access_result(ctx, bytes);
}

static void fuzz_execute(const struct pvhv_insn *insn)
{
	u64 gpr[17], before[17];
	struct pvhv_insn_ctx ctx = {
		.gpr = gpr, .rflags = &gpr[16], .rip = from_pool(1), .read = fuzz_read, .write = fuzz_write,
		.cmpxchg = access_limit & 8 ? fuzz_cmpxchg : NULL,
	};
	u64 rip = ctx.rip;
	unsigned int i;
	int ret;

	for (i = 0; i < 17; i++)
		gpr[i] = from_pool(8 * i);
	for (i = 0; i < PVHV_SEG_NR; i++)
		ctx.seg_base[i] = from_pool(200 + i);
	memcpy(before, gpr, sizeof(gpr));
	if (insn->mode != PVHV_MODE_64 && (insn->flags & PVHV_INSN_MEM))
		CHECK(pvhv_insn_linear(insn, &ctx) >> 32 == 0);
	ret = pvhv_insn_execute(insn, &ctx);
	if (ret == PVHV_EXEC_DONE)
		CHECK(ctx.rip == pvhv_insn_next_rip(insn, rip));
	else if (ret == PVHV_EXEC_REPEAT)
		CHECK(ctx.rip == rip && insn->form == PVHV_FORM_STRING);
	else
		CHECK(ctx.rip == rip && !memcmp(before, gpr, sizeof(gpr)));
	CHECK((ret == PVHV_EXEC_UNKNOWN) == (insn->op > PVHV_OP_EXECUTABLE));
	CHECK(!((before[16] ^ gpr[16]) & ~0x8d5ull));
}

static int fuzz_read_pte(void *opaque, u64 gpa, void *pte, unsigned int bytes)
{
	u64 v = from_pool(gpa >> 3);

	CHECK(!opaque && (bytes == 4 || bytes == 8) && !(gpa % bytes) && gpa >> 52 == 0);
	memcpy(pte, &v, bytes);
	return 0;
}

static int fuzz_set_ad(void *opaque, u64 gpa, u64 old, u64 new, unsigned int bytes)
{
	CHECK(!opaque && old != new && !((old ^ new) & ~0x60ull) && !(gpa % bytes));
	return from_pool(gpa) & 1;
}

static void fuzz_walk(void)
{
	u64 gva = from_pool(24);
	struct pvhv_walk_env env = {
		.cr0 = from_pool(0), .cr3 = from_pool(8), .cr4 = from_pool(16), .efer = from_pool(32),
		.rflags = from_pool(40), .pkru = from_pool(48), .cpl = from_pool(56) & 3,
		.maxphyaddr = 32 + from_pool(57) % 21, .gbpages = from_pool(58) & 1,
		.read_pte = fuzz_read_pte, .set_ad = from_pool(59) & 1 ? fuzz_set_ad : NULL,
	};
	struct pvhv_walk_result res;
	u32 access = from_pool(60) & (PVHV_WALK_WRITE | PVHV_WALK_USER | PVHV_WALK_FETCH | PVHV_WALK_IMPLICIT);
	int ret = pvhv_walk(&env, gva, access, &res);

	CHECK(ret >= PVHV_WALK_OK && ret <= PVHV_WALK_RACE);
	if (ret == PVHV_WALK_OK) {
		CHECK(res.gpa >> 52 == 0 && !((res.gpa ^ gva) & 0xfff));
		if ((access & PVHV_WALK_WRITE) && (env.cr0 & 1u << 31))
			CHECK(res.writable);
	}
	if (ret == PVHV_WALK_FAULT)
		CHECK(!(res.error_code & ~0x3fu) && !(res.error_code & PVHV_PF_WRITE) == !(access & PVHV_WALK_WRITE));
}

int LLVMFuzzerTestOneInput(const u8 *input, size_t size)
{
	static const enum pvhv_cpu_mode modes[] = { PVHV_MODE_16, PVHV_MODE_32, PVHV_MODE_64, PVHV_MODE_64 };
	enum pvhv_cpu_mode mode;
	struct pvhv_insn insn = { 0 }, again = { 0 };
	size_t n;
	u8 *bytes;
	int ret;

	if (size < 2)
		return 0;
	mode = modes[input[0] & 3];
	access_limit = input[1];
	input += 2;
	size -= 2;
	n = size < 16 ? size : 16;
	pool = input + n;
	pool_bytes = size - n;
	bytes = malloc(n ? n : 1);
	CHECK(bytes);
	memcpy(bytes, input, n);
	ret = pvhv_decode(&insn, bytes, n, mode);
	CHECK(ret == PVHV_DECODE_OK || ret == PVHV_DECODE_UNKNOWN || (ret == PVHV_DECODE_MORE && n < PVHV_INSN_MAX));
	if (ret == PVHV_DECODE_OK) {
		CHECK(insn.length >= 1 && insn.length <= n && insn.length <= PVHV_INSN_MAX);
		CHECK(insn.op != PVHV_OP_NONE && insn.op < PVHV_OP_NR && insn.seg < PVHV_SEG_NR && insn.mode == mode);
		CHECK(insn.base < 16 || insn.base == PVHV_NOREG);
		CHECK(insn.index < 16 || insn.index == PVHV_NOREG);
		CHECK(insn.scale < 4 && insn.reg < 16 && insn.rm < 16);
		CHECK(pvhv_decode(&again, bytes, insn.length, mode) == PVHV_DECODE_OK);
		CHECK(!memcmp(&insn, &again, sizeof(insn)));
		CHECK(pvhv_decode(&again, bytes, insn.length - 1, mode) == PVHV_DECODE_MORE);
		fuzz_execute(&insn);
	}
	free(bytes);
	if (pool_bytes >= 64)
		fuzz_walk();
	return 0;
}

#ifdef REPLAY
static void replay_random(unsigned long count)
{
	u64 x = 88172645463325252;
	u8 buf[320];

	while (count--) {
		size_t i;

		for (i = 0; i < sizeof(buf); i++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			buf[i] = x >> 24;
		}
		LLVMFuzzerTestOneInput(buf, buf[0] % 3 ? sizeof(buf) : buf[2] % 24);
	}
}

#include "replay.h"
#endif
