// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies kmod/decode.c and kmod/decode_exec.c against the CPU this test runs on:
 *  1. random instructions of every executable kind, with random prefixes, operands, registers, flags and memory, run
 *     on the CPU and in the executor, in 64-bit, 32-bit and 16-bit code; registers, flags and memory must be the same;
 *  2. each of them also the way userspace exits make it run: stopped at every memory access and started again. Nothing
 *     may have changed at a stop, and no access may differ between the runs.
 *
 * The CPU runs the bytes in a page of its own, between code that loads and stores all registers; 32 and 16-bit code
 * gets there through segments of a local descriptor table. TCG, on which emulated hosts run, can only do 64-bit code.
 */
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <cpuid.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../kmod/decode.h"
#include "tap.h"

#define ITERATIONS 60000

/* Offsets in the block. */
#define ENTRY		0x0000
#define COMPAT		0x0200
#define INSN		0x0400
#define STORE		0x0500
#define LEAVE		0x0800
#define STATE		0x1000
#define DATA		0x4000
#define DATA_BYTES	0x0800
#define TARGET		(DATA + DATA_BYTES / 2)
#define BLOCK_BYTES	0x5000

#define LDT_DATA	0x07
#define LDT_CODE32	0x0f
#define LDT_CODE16	0x17
#define FLAT_DATA	0x2b

#define SIGNATURE_TCG 0x54474354	/* "TCGT" in EBX of CPUID leaf 40000000 */

#define CF 0x001
#define PF 0x004
#define AF 0x010
#define ZF 0x040
#define SF 0x080
#define DF 0x400
#define OF 0x800
#define TESTED_FLAGS (CF | PF | AF | ZF | SF | DF | OF)

struct state {
	u64 in[16], out[16];
	u64 flags_in, flags_out;
	u64 host_rsp;
	u32 compat_offset;	/* a far pointer */
	u16 compat_cs;
};

static u8 *block;
static u32 base;		/* its address */
static struct state *state;
static u8 *data;
static u8 shadow[DATA_BYTES];	/* the executor's copy of data */
static enum pvhv_cpu_mode mode;
static u8 code[32];		/* the instruction under test */
static struct pvhv_insn insn;
static bool has_movbe;

static u64 rnd(void)
{
	static u64 x = 0x9e3779b97f4a7c15;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x * 0x2545f4914f6cdd1d;
}

static u64 below(u64 n)
{
	return (rnd() >> 20) % n;
}

/* Numbers near which carries and signs change, as often as any others. */
static u64 number(void)
{
	u64 v = 1ull << below(64);

	switch (below(6)) {
	case 0:
		return v;
	case 1:
		return v - 1;
	case 2:
		return ~v;
	case 3:
		return below(3) - 1;
	default:
		return rnd();
	}
}

static const char *text(void)
{
	static char buf[64];
	int i, n = 0;

	for (i = 0; i < 15; i++)
		n += sprintf(buf + n, "%02x ", code[i]);
	return buf;
}

static void on_crash(int sig)
{
	dprintf(1, "# signal %d in mode %d at length %u of %s\n", sig, mode * 8, insn.length, text());
	_exit(KSFT_FAIL);
}

/* The code around the instruction */

static u8 *emit_at;

static void emit(const char *bytes, unsigned int n)
{
	memcpy(emit_at, bytes, n);
	emit_at += n;
}

#define EMIT(s) emit(s, sizeof(s) - 1)

static void emit32(u32 v)
{
	emit((char *)&v, 4);
}

/* The operand [rip + ...] of 64-bit code. */
static void emit_rip(const void *target)
{
	emit32((u8 *)target - (emit_at + 4));
}

/* Moves all registers from or to memory: opcode 8b loads, 89 stores. */
static void emit_moves(u8 opcode, u64 *mem)
{
	unsigned int i;

	for (i = 0; i < (mode == PVHV_MODE_64 ? 16 : 8); i++) {
		u8 modrm = (i & 7) << 3 | 5;

		if (mode == PVHV_MODE_64)
			emit(i < 8 ? "\x48" : "\x4c", 1);
		else if (mode == PVHV_MODE_32)
			EMIT("\x65");
		else
			EMIT("\x65\x66\x67");
		emit((char *)&opcode, 1);
		emit((char *)&modrm, 1);
		if (mode == PVHV_MODE_64)
			emit_rip(&mem[i]);
		else
			emit32((u64)&mem[i]);
	}
}

static void emit_frame(void)
{
	emit_at = block + ENTRY;
	EMIT("\x53\x55\x41\x54\x41\x55\x41\x56\x41\x57");	/* push rbx, rbp, r12-r15 */
	EMIT("\x48\x89\x25");					/* mov %rsp,host_rsp */
	emit_rip(&state->host_rsp);
	EMIT("\xff\x35");					/* push flags_in; popf */
	emit_rip(&state->flags_in);
	EMIT("\x9d");
	if (mode != PVHV_MODE_64) {
		EMIT("\xb8");
		emit32(FLAT_DATA);
		EMIT("\x8e\xe8");				/* mov %eax,%gs */
		EMIT("\xb8");
		emit32(LDT_DATA);
		EMIT("\x8e\xd8\x8e\xc0");			/* mov %eax,%ds; mov %eax,%es */
		state->compat_offset = COMPAT;
		state->compat_cs = mode == PVHV_MODE_32 ? LDT_CODE32 : LDT_CODE16;
		/* A far jump: TCG's far return reads the user's stack as the kernel would, which SMAP forbids. */
		EMIT("\xff\x2d");
		emit_rip(&state->compat_offset);
		emit_at = block + COMPAT;
	}
	emit_moves(0x8b, state->in);
	EMIT("\xe9");						/* jmp INSN */
	if (mode == PVHV_MODE_16) {
		u16 rel = INSN - (emit_at + 2 - block);

		emit((char *)&rel, 2);
	} else {
		emit_rip(block + INSN);
	}

	emit_at = block + STORE;
	emit_moves(0x89, state->out);
	if (mode == PVHV_MODE_16)
		EMIT("\x66");
	if (mode != PVHV_MODE_64) {
		EMIT("\xea");					/* ljmp $0x33,LEAVE */
		emit32(base + LEAVE);
		EMIT("\x33\x00");
		emit_at = block + LEAVE;
	}
	EMIT("\x48\x8b\x25");					/* mov host_rsp,%rsp */
	emit_rip(&state->host_rsp);
	EMIT("\x9c\x8f\x05");					/* pushf; pop flags_out */
	emit_rip(&state->flags_out);
	EMIT("\xfc\x41\x5f\x41\x5e\x41\x5d\x41\x5c\x5d\x5b\xc3");	/* cld; pop...; ret */
}

static void run_on_cpu(void)
{
	memset(block + INSN, 0xcc, 32);
	memcpy(block + INSN, code, insn.length);
	emit_at = block + INSN + insn.length;
	EMIT("\xe9");
	if (mode == PVHV_MODE_16) {
		u16 rel = STORE - (emit_at + 2 - block);

		emit((char *)&rel, 2);
	} else {
		emit_rip(block + STORE);
	}
	((void (*)(void))(block + ENTRY))();
}

static void set_up(enum pvhv_cpu_mode m)
{
	static u8 stack[65536];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct sigaction sa = { .sa_handler = on_crash, .sa_flags = SA_ONSTACK };
	int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE };
	unsigned int i, eax, ebx, ecx, edx;

	mode = m;
	__cpuid(1, eax, ebx, ecx, edx);
	has_movbe = ecx & bit_MOVBE;
	sigaltstack(&ss, NULL);
	for (i = 0; i < ARRAY_SIZE(sigs); i++)
		sigaction(sigs[i], &sa, NULL);
	block = mmap(NULL, BLOCK_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	ASSERT(block != MAP_FAILED);
	base = (u64)block;
	state = (struct state *)(block + STATE);
	data = block + DATA;
	if (m == PVHV_MODE_64) {
		ASSERT_OK(syscall(SYS_arch_prctl, ARCH_SET_GS, (u64)base));
	} else {
		struct user_desc d = { .base_addr = base, .limit = 0xfffff, .limit_in_pages = 1, .seg_32bit = 1,
				       .useable = 1 };

		__cpuid(0x40000000, eax, ebx, ecx, edx);
		if (ebx == SIGNATURE_TCG)
			SKIP("TCG adds the bases of DS and ES to the 64-bit kernel's addresses, which kills it");
		if (syscall(SYS_modify_ldt, 1, &d, sizeof(d)))
			SKIP("modify_ldt: errno %d", errno);
		d.entry_number = LDT_CODE32 >> 3;
		d.contents = MODIFY_LDT_CONTENTS_CODE;
		ASSERT_OK(syscall(SYS_modify_ldt, 1, &d, sizeof(d)));
		d.entry_number = LDT_CODE16 >> 3;
		d.seg_32bit = 0;
		ASSERT_OK(syscall(SYS_modify_ldt, 1, &d, sizeof(d)));
	}
	emit_frame();
	for (i = 0; i < DATA_BYTES; i++)
		shadow[i] = data[i] = rnd();
}

/* The instruction */

/* Opcodes with ModRM: below 0x100 one byte, 0xfxx two, 0x38xx three. The second byte of a pair is bit 0. */
static const u16 modrm_opcodes[] = {
	0x00, 0x01, 0x02, 0x03, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12, 0x13, 0x18, 0x19, 0x1a, 0x1b,
	0x20, 0x21, 0x22, 0x23, 0x28, 0x29, 0x2a, 0x2b, 0x30, 0x31, 0x32, 0x33, 0x38, 0x39, 0x3a, 0x3b,
	0x63, 0x80, 0x81, 0x83, 0x80, 0x81, 0x83, 0x80, 0x81, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b,
	0xc6, 0xc7, 0xf6, 0xf7, 0xf6, 0xf7, 0xfe, 0xff, 0xfa3, 0xfab, 0xfb0, 0xfb1, 0xfb3, 0xfb6, 0xfb7, 0xfba, 0xfbb,
	0xfbe, 0xfbf, 0xfc0, 0xfc1, 0xfc3, 0x38f0, 0x38f1,
};

static const u8 plain_opcodes[] = {
	0x04, 0x05, 0x0c, 0x0d, 0x14, 0x15, 0x1c, 0x1d, 0x24, 0x25, 0x2c, 0x2d, 0x34, 0x35, 0x3c, 0x3d, 0xa8, 0xa9,
	0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
	0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf,
};

static unsigned int modrm_at;	/* index of the ModRM byte, or of the address of a moffs */

static void make_bytes(void)
{
	static const u8 segs64[] = { 0x26, 0x2e, 0x36, 0x3e, 0x65 }, segs[] = { 0x26, 0x36, 0x3e, 0x65 };
	unsigned int n = 0, i;

	for (i = 0; i < sizeof(code); i++)
		code[i] = rnd();
	if (!below(4))
		code[n++] = 0x66;
	if (!below(4))
		code[n++] = 0x67;
	if (!below(4))
		code[n++] = 0xf2 + below(2);
	if (!below(4))
		code[n++] = mode == PVHV_MODE_64 ? segs64[below(5)] : segs[below(4)];
	if (!below(4))
		code[n++] = 0xf0;
	if (mode == PVHV_MODE_64 && below(2))
		code[n++] = 0x40 + below(16);
	if (!below(5)) {
		code[n++] = plain_opcodes[below(sizeof(plain_opcodes))];
	} else {
		u16 op = modrm_opcodes[below(ARRAY_SIZE(modrm_opcodes))];

		if (op > 0xff)
			code[n++] = 0x0f;
		if (op > 0xfff)
			code[n++] = 0x38;
		code[n++] = op;
		if (below(4))
			code[n] &= 0x3f | below(3) << 6;	/* memory more often than 3 in 4 */
		if ((op & 0xfffe) == 0xf6 && (code[n] & 0x38) == 8)
			code[n] &= ~8;	/* TCG does not know TEST's second encoding, F6 /1 */
	}
	modrm_at = n;
}

/*
 * Segment bases: in 64-bit code GS has the block's; else all have it but GS and SS, which are flat (the
 * code around the instruction uses GS; an SS from the local table would send the kernel's returns through espfix).
 */
static u64 seg_base(u8 seg)
{
	if (mode == PVHV_MODE_64)
		return seg == PVHV_SEG_GS ? base : 0;
	return seg == PVHV_SEG_GS || seg == PVHV_SEG_SS ? 0 : base;
}

/* Registers and displacement such that a memory operand lies at target. Returns false where that cannot be. */
static bool aim(u32 target)
{
	u64 *r = state->in, bits = 0;
	u64 want = base + target - seg_base(insn.seg), garbage = 0;

	if (insn.adsize == 2 && want > 0xffff)
		return false;
	if (insn.adsize < 8 && mode == PVHV_MODE_64)
		garbage = rnd() << 32;
	else if (insn.adsize == 2)
		garbage = rnd() << 16 & 0xffffffff;
	if (insn.form == PVHV_FORM_STRING) {
		garbage = insn.adsize == 2 ? garbage : 0;
		r[6] = want | garbage;
		r[7] = base + target - seg_base(PVHV_SEG_ES) + below(64) - 32;
		r[1] = below(8) | garbage;
		return true;
	}
	if (insn.op >= PVHV_OP_BT && insn.op <= PVHV_OP_BTC && insn.form == PVHV_FORM_RM_R) {
		if (insn.reg == insn.base || insn.reg == insn.index)
			return false;
		r[insn.reg] = below(4096) - 2048;
		if (mode != PVHV_MODE_64)
			r[insn.reg] = (u32)r[insn.reg];
		bits = (s64)r[insn.reg] >> 3 & -(u64)insn.opsize;
		if (mode != PVHV_MODE_64)
			bits = (s32)(u32)r[insn.reg] >> 3 & -(u64)insn.opsize;
	}
	want -= bits;
	if (insn.base == PVHV_NOREG && insn.index == PVHV_NOREG) {
		/* The displacement is the address: write it behind ModRM and SIB. */
		bool moffs = (code[modrm_at - 1] & 0xfc) == 0xa0 && (modrm_at < 2 || code[modrm_at - 2] != 0x0f);
		unsigned int at = modrm_at + (moffs ? 0 : insn.adsize > 2 && (code[modrm_at] & 7) == 4 ? 2 : 1);

		if (insn.flags & PVHV_INSN_RIPREL)
			want -= base + INSN + insn.length;
		memcpy(code + at, &want, insn.adsize == 8 && !moffs ? 4 : insn.adsize);
		if (insn.adsize == 8 && !moffs && (s64)want != (s32)want)
			return false;
		return pvhv_decode(&insn, code, sizeof(code), mode) == PVHV_DECODE_OK;
	}
	want -= insn.disp;
	if (insn.base == insn.index || insn.base == PVHV_NOREG) {
		/* v * factor = want; odd factors have an inverse, the others need luck. */
		u64 factor = (1ull << insn.scale) + (insn.base != PVHV_NOREG), inv = factor;
		int i;

		if (factor & 1) {
			for (i = 0; i < 6; i++)
				inv *= 2 - factor * inv;
			r[insn.index] = want * inv;
		} else if (want % factor) {
			return false;
		} else {
			r[insn.index] = want / factor;
		}
	} else if (insn.index != PVHV_NOREG) {
		r[insn.base] = want - (r[insn.index] << insn.scale);
	} else {
		r[insn.base] = want;
	}
	if (insn.base != PVHV_NOREG) {
		if (insn.adsize == 4)
			r[insn.base] = (u32)r[insn.base];
		if (insn.adsize == 2)
			r[insn.base] = (u16)r[insn.base];
		if (insn.base != insn.index)
			r[insn.base] |= garbage;
	}
	return true;
}

/* Makes an instruction with its registers, flags and memory; tries until one is valid. */
static void make_case(void)
{
	unsigned int i, tries;

	for (tries = 0; tries < 1000; tries++) {
		make_bytes();
		if (pvhv_decode(&insn, code, sizeof(code), mode))
			continue;
		/* CPUs differ about the upper half of a register that a failed CMPXCHG does not write. */
		if (insn.op == PVHV_OP_CMPXCHG && !(insn.flags & PVHV_INSN_MEM) && insn.opsize == 4)
			continue;
		if (insn.op == PVHV_OP_MOVBE && !has_movbe)
			continue;
		/* TCG prefers 66 to REX.W here. */
		if (insn.op == PVHV_OP_MOVBE && insn.opsize == 8 && memchr(code, 0x66, modrm_at))
			continue;
		for (i = 0; i < 16; i++)
			state->in[i] = mode == PVHV_MODE_64 ? number() : (u32)number();
		state->flags_in = (rnd() & TESTED_FLAGS) | 0x202;
		if ((insn.flags & PVHV_INSN_MEM) || insn.form == PVHV_FORM_STRING) {
			u32 target = TARGET + below(64);

			if (!aim(target))
				continue;
			if (insn.op == PVHV_OP_CMPXCHG && below(2))
				memcpy(data + target - DATA, &state->in[0], 8);
			memcpy(shadow + target - DATA, data + target - DATA, 8);
		}
		if (mode != PVHV_MODE_64)
			for (i = 0; i < 8; i++)
				state->in[i] = (u32)state->in[i];
		if (insn.length <= PVHV_INSN_MAX)
			return;
	}
	FAIL("no instruction found in %u tries", tries);
}

/* The executor's memory: stops at the access that is the limit, keeps the results of the ones before. */

static struct access {
	u64 linear;
	u64 val;
	unsigned int bytes;
	bool done;
} accesses[4];
static unsigned int access_limit, changes;

static int access_memory(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes, bool write)
{
	struct access *a = &accesses[ctx->access_no];
	u64 at = linear - base - DATA;

	ASSERT_MSG(ctx->access_no < 2, "access %u of %s", ctx->access_no, text());
	ASSERT_MSG(at < DATA_BYTES && at + bytes <= DATA_BYTES, "access to %llx by %s",
		   (unsigned long long)(linear - base), text());
	if (a->done) {
		ASSERT_EQ(a->linear, linear);
		ASSERT_EQ(a->bytes, bytes);
		if (!write)
			memcpy(val, &a->val, bytes);
		return 0;
	}
	if (ctx->access_no >= access_limit)
		return PVHV_EXEC_EXIT;
	*a = (struct access) { .linear = linear, .bytes = bytes, .done = true };
	if (write) {
		memcpy(shadow + at, val, bytes);
		changes++;
	} else {
		memcpy(&a->val, shadow + at, bytes);
		memcpy(val, shadow + at, bytes);
	}
	return 0;
}

static int read_shadow(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes)
{
	return access_memory(ctx, linear, val, bytes, false);
}

static int write_shadow(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes)
{
	return access_memory(ctx, linear, (void *)val, bytes, true);
}

static void run_in_executor(u64 *gpr, u64 *flags)
{
	u64 rip = INSN + (mode == PVHV_MODE_64 ? base : 0);
	struct pvhv_insn_ctx ctx = {
		.gpr = gpr, .rflags = flags, .rip = rip, .read = read_shadow, .write = write_shadow,
	};
	unsigned int i, rounds = 0;
	int ret;

	for (i = 0; i < PVHV_SEG_NR; i++)
		ctx.seg_base[i] = seg_base(i);
	access_limit = 0;
	memset(accesses, 0, sizeof(accesses));
	do {
		u64 before[17];

		memcpy(before, gpr, sizeof(u64) * 16);
		before[16] = *flags;
		ret = pvhv_insn_execute(&insn, &ctx);
		switch (ret) {
		case PVHV_EXEC_EXIT:
			ASSERT_MSG(!memcmp(before, gpr, sizeof(u64) * 16) && before[16] == *flags && ctx.rip == rip,
				   "a stopped %s changed something", text());
			access_limit++;
			break;
		case PVHV_EXEC_REPEAT:
			ASSERT_EQ(ctx.rip, rip);
			access_limit = below(3);
			memset(accesses, 0, sizeof(accesses));
			break;
		case PVHV_EXEC_DONE:
			ASSERT_EQ(ctx.rip, rip + insn.length);
			break;
		default:
			FAIL("result %d of %s", ret, text());
		}
		ASSERT_LT(rounds++, 100);
	} while (ret);
}

static u64 undefined_flags(void)
{
	switch (insn.op) {
	case PVHV_OP_AND:
	case PVHV_OP_OR:
	case PVHV_OP_XOR:
	case PVHV_OP_TEST:
		return AF;
	case PVHV_OP_BT:
	case PVHV_OP_BTS:
	case PVHV_OP_BTR:
	case PVHV_OP_BTC:
		return OF | SF | AF | PF;
	default:
		return 0;
	}
}

static void compare(const u64 *gpr, u64 flags)
{
	u64 mask = mode == PVHV_MODE_64 ? ~0ull : 0xffffffff;
	unsigned int i;

	for (i = 0; i < (mode == PVHV_MODE_64 ? 16 : 8); i++)
		ASSERT_MSG(!((gpr[i] ^ state->out[i]) & mask), "%s (length %u): r%u was %llx, CPU %llx, executor %llx",
			   text(), insn.length, i, (long long)state->in[i], (long long)state->out[i], (long long)gpr[i]);
	ASSERT_MSG(!((flags ^ state->flags_out) & TESTED_FLAGS & ~undefined_flags()),
		   "%s (length %u): flags were %llx, CPU %llx, executor %llx", text(), insn.length,
		   (long long)state->flags_in, (long long)state->flags_out, (long long)flags);
	for (i = 0; i < DATA_BYTES; i++)
		ASSERT_MSG(data[i] == shadow[i], "%s (length %u): memory at %x, CPU %02x, executor %02x", text(),
			   insn.length, i + DATA, data[i], shadow[i]);
}

static void test_mode(enum pvhv_cpu_mode m)
{
	unsigned int iterations = tap_args[0] ? atoi(tap_args[0]) : ITERATIONS, n, seen = 0;
	u64 kinds[PVHV_OP_NR] = { 0 };

	set_up(m);
	for (n = 0; n < iterations; n++) {
		u64 gpr[16], flags;

		make_case();
		memcpy(gpr, state->in, sizeof(gpr));
		flags = state->flags_in;
		run_in_executor(gpr, &flags);
		run_on_cpu();
		compare(gpr, flags);
		kinds[insn.op]++;
	}
	for (n = 1; n <= PVHV_OP_EXECUTABLE; n++)
		seen += !!kinds[n];
	tap_diag("%u instructions of %u kinds, %u writes", iterations, seen, changes);
	ASSERT_EQ(seen, PVHV_OP_EXECUTABLE - !has_movbe);
}

static void cpu_64(void)
{
	test_mode(PVHV_MODE_64);
}

static void cpu_32(void)
{
	test_mode(PVHV_MODE_32);
}

static void cpu_16(void)
{
	test_mode(PVHV_MODE_16);
}

static const struct tap_test tests[] = {
	{ "cpu_64", cpu_64, 0 },
	{ "cpu_32", cpu_32, 0 },
	{ "cpu_16", cpu_16, 0 },
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
