// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies kmod/decode.c by tables, and the parts of kmod/decode_exec.c that a CPU in user mode cannot be asked about:
 *  1. kind, sizes, operands and length of instructions in 16, 32 and 64-bit code;
 *  2. every truncation of each of them asks for more bytes, and no byte behind the given ones is read;
 *  3. what must be unknown is;
 *  4. random bytes end in a known result with a sane length;
 *  5. addresses, repetition, locked writes, failing callbacks.
 *
 * kmod_decode_cpu compares the executor with the CPU; decode-objdump.sh the decoder with a disassembler.
 */
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "../kmod/decode.h"
#include "tap.h"

#define M16 PVHV_MODE_16
#define M32 PVHV_MODE_32
#define M64 PVHV_MODE_64

static const char *const op_names[PVHV_OP_NR] = {
#define N(op) [PVHV_OP_##op] = #op
	N(ADD), N(OR), N(ADC), N(SBB), N(AND), N(SUB), N(XOR), N(CMP), N(TEST), N(NOT), N(NEG), N(INC), N(DEC), N(MOV),
	N(MOVZX), N(MOVSX), N(MOVBE), N(XCHG), N(XADD), N(CMPXCHG), N(BT), N(BTS), N(BTR), N(BTC), N(MOVS), N(CMPS),
	N(STOS), N(LODS), N(SCAS), N(IN), N(OUT), N(INS), N(OUTS), N(MOV_FROM_CR), N(MOV_TO_CR), N(MOV_FROM_DR),
	N(MOV_TO_DR), N(CLTS), N(LMSW), N(SMSW), N(LGDT), N(LIDT), N(SGDT), N(SIDT), N(LLDT), N(LTR), N(SLDT), N(STR),
	N(VERR), N(VERW), N(CPUID), N(RDMSR), N(WRMSR), N(RDTSC), N(RDTSCP), N(RDPMC), N(RDPRU), N(HLT), N(PAUSE),
	N(MONITOR), N(MWAIT), N(MONITORX), N(MWAITX), N(INVD), N(WBINVD), N(WBNOINVD), N(CLZERO), N(INVLPG), N(INVLPGA),
	N(INVLPGB), N(TLBSYNC), N(INVPCID), N(XGETBV), N(XSETBV), N(CLAC), N(STAC), N(SWAPGS), N(VMCALL), N(VMMCALL),
	N(VMRUN), N(VMLOAD), N(VMSAVE), N(STGI), N(CLGI), N(SKINIT), N(INT3), N(INTO), N(INT), N(ICEBP), N(IRET),
	N(RSM), N(PUSHF), N(POPF), N(CLI), N(STI),
#undef N
};

/* Text: OP.opsize operands; rN registers, {seg:base+index*scale+disp/adsize} memory, $ immediate, then flags. */
static const struct {
	enum pvhv_cpu_mode mode;
	const char *bytes;
	const char *text;
} known[] = {
	/* MOV in all its forms */
	{ M64, "88 07", "MOV.1 {ds:r7/8}, r0" },
	{ M64, "88 27", "MOV.1 {ds:r7/8}, r4" },
	{ M64, "40 88 27", "MOV.1 {ds:r7/8}, r4 rex" },
	{ M64, "89 07", "MOV.4 {ds:r7/8}, r0" },
	{ M64, "66 89 07", "MOV.2 {ds:r7/8}, r0" },
	{ M64, "48 89 07", "MOV.8 {ds:r7/8}, r0 rex" },
	{ M64, "66 48 89 07", "MOV.8 {ds:r7/8}, r0 rex" },
	{ M64, "48 66 89 07", "MOV.2 {ds:r7/8}, r0" },
	{ M64, "67 89 07", "MOV.4 {ds:r7/4}, r0" },
	{ M64, "45 89 07", "MOV.4 {ds:r15/8}, r8 rex" },
	{ M64, "8b 43 f0", "MOV.4 r0, {ds:r3-10/8}" },
	{ M64, "8b 83 78 56 34 12", "MOV.4 r0, {ds:r3+12345678/8}" },
	{ M64, "8b 05 10 00 00 00", "MOV.4 r0, {ds:rip+10/8}" },
	{ M64, "67 8b 05 10 00 00 00", "MOV.4 r0, {ds:rip+10/4}" },
	{ M64, "41 8b 05 10 00 00 00", "MOV.4 r0, {ds:rip+10/8} rex" },
	{ M64, "8b 04 25 00 00 e0 fe", "MOV.4 r0, {ds:-1200000/8}" },
	{ M64, "8b 04 24", "MOV.4 r0, {ss:r4/8}" },
	{ M64, "8b 45 00", "MOV.4 r0, {ss:r5/8}" },
	{ M64, "41 8b 45 00", "MOV.4 r0, {ds:r13/8} rex" },
	{ M64, "41 8b 04 24", "MOV.4 r0, {ds:r12/8} rex" },
	{ M64, "8b 44 8b 20", "MOV.4 r0, {ds:r3+r1*4+20/8}" },
	{ M64, "42 8b 04 e3", "MOV.4 r0, {ds:r3+r12*8/8} rex" },
	{ M64, "8b 04 e3", "MOV.4 r0, {ds:r3/8}" },
	{ M64, "8b 04 c5 10 00 00 00", "MOV.4 r0, {ds:r0*8+10/8}" },
	{ M64, "41 8b 04 c5 10 00 00 00", "MOV.4 r0, {ds:r0*8+10/8} rex" },
	{ M64, "65 48 8b 04 25 28 00 00 00", "MOV.8 r0, {gs:28/8} rex" },
	{ M64, "65 3e 8b 07", "MOV.4 r0, {gs:r7/8}" },
	{ M64, "2e 8b 07", "MOV.4 r0, {ds:r7/8}" },
	{ M64, "64 8b 45 08", "MOV.4 r0, {fs:r5+8/8}" },
	{ M64, "89 c8", "MOV.4 r0, r1" },
	{ M64, "a1 88 77 66 55 44 33 22 11", "MOV.4 r0, {ds:1122334455667788/8}" },
	{ M64, "67 a1 88 77 66 55", "MOV.4 r0, {ds:55667788/4}" },
	{ M64, "48 a3 88 77 66 55 44 33 22 11", "MOV.8 {ds:1122334455667788/8}, r0 rex" },
	{ M32, "a2 88 77 66 55", "MOV.1 {ds:55667788/4}, r0" },
	{ M32, "67 a0 88 77", "MOV.1 r0, {ds:7788/2}" },
	{ M16, "26 a0 88 77", "MOV.1 r0, {es:7788/2}" },
	{ M64, "c6 07 ff", "MOV.1 {ds:r7/8}, $-1" },
	{ M64, "c7 07 78 56 34 12", "MOV.4 {ds:r7/8}, $12345678" },
	{ M64, "66 c7 07 34 12", "MOV.2 {ds:r7/8}, $1234" },
	{ M64, "48 c7 07 ff ff ff ff", "MOV.8 {ds:r7/8}, $-1 rex" },
	{ M64, "c7 05 10 00 00 00 78 56 34 12", "MOV.4 {ds:rip+10/8}, $12345678" },
	{ M64, "0f b6 47 01", "MOVZX.4 r0, {ds:r7+1/8}.1" },
	{ M64, "48 0f b7 07", "MOVZX.8 r0, {ds:r7/8}.2 rex" },
	{ M64, "0f be 07", "MOVSX.4 r0, {ds:r7/8}.1" },
	{ M64, "66 0f be 07", "MOVSX.2 r0, {ds:r7/8}.1" },
	{ M64, "48 63 07", "MOVSX.8 r0, {ds:r7/8}.4 rex" },
	{ M64, "63 07", "MOVSX.4 r0, {ds:r7/8}" },
	{ M64, "0f c3 07", "MOV.4 {ds:r7/8}, r0" },
	{ M64, "48 0f c3 07", "MOV.8 {ds:r7/8}, r0 rex" },
	{ M16, "0f c3 07", "MOV.4 {ds:r3/2}, r0" },
	{ M64, "0f 38 f0 07", "MOVBE.4 r0, {ds:r7/8}" },
	{ M64, "66 0f 38 f1 07", "MOVBE.2 {ds:r7/8}, r0" },
	/* 16 and 32-bit addressing */
	{ M16, "8b 00", "MOV.2 r0, {ds:r3+r6/2}" },
	{ M16, "8b 01", "MOV.2 r0, {ds:r3+r7/2}" },
	{ M16, "8b 02", "MOV.2 r0, {ss:r5+r6/2}" },
	{ M16, "8b 03", "MOV.2 r0, {ss:r5+r7/2}" },
	{ M16, "8b 04", "MOV.2 r0, {ds:r6/2}" },
	{ M16, "8b 05", "MOV.2 r0, {ds:r7/2}" },
	{ M16, "8b 06 34 12", "MOV.2 r0, {ds:1234/2}" },
	{ M16, "8b 07", "MOV.2 r0, {ds:r3/2}" },
	{ M16, "8b 46 ff", "MOV.2 r0, {ss:r5-1/2}" },
	{ M16, "8b 87 00 80", "MOV.2 r0, {ds:r3-8000/2}" },
	{ M16, "66 67 8b 04 24", "MOV.4 r0, {ss:r4/4}" },
	{ M32, "67 8b 46 02", "MOV.4 r0, {ss:r5+2/2}" },
	{ M32, "36 8b 07", "MOV.4 r0, {ss:r7/4}" },
	{ M32, "8b 05 78 56 34 12", "MOV.4 r0, {ds:12345678/4}" },
	{ M32, "66 a3 78 56 34 12", "MOV.2 {ds:12345678/4}, r0" },
	/* ALU */
	{ M64, "00 07", "ADD.1 {ds:r7/8}, r0" },
	{ M64, "f0 01 07", "ADD.4 {ds:r7/8}, r0 lock" },
	{ M64, "0a 07", "OR.1 r0, {ds:r7/8}" },
	{ M64, "13 07", "ADC.4 r0, {ds:r7/8}" },
	{ M64, "1c 80", "SBB.1 r0, $-80" },
	{ M64, "48 25 00 00 00 80", "AND.8 r0, $-80000000 rex" },
	{ M64, "80 2f 80", "SUB.1 {ds:r7/8}, $-80" },
	{ M32, "82 37 01", "XOR.1 {ds:r7/4}, $1" },
	{ M64, "81 3f 78 56 34 12", "CMP.4 {ds:r7/8}, $12345678" },
	{ M64, "66 83 3f ff", "CMP.2 {ds:r7/8}, $-1" },
	{ M64, "f0 48 83 0f 01", "OR.8 {ds:r7/8}, $1 lock rex" },
	{ M64, "84 07", "TEST.1 {ds:r7/8}, r0" },
	{ M64, "a9 01 00 00 00", "TEST.4 r0, $1" },
	{ M64, "f6 07 01", "TEST.1 {ds:r7/8}, $1" },
	{ M64, "f7 0f 01 00 00 00", "TEST.4 {ds:r7/8}, $1" },
	{ M64, "f0 f7 17", "NOT.4 {ds:r7/8} lock" },
	{ M64, "f6 1f", "NEG.1 {ds:r7/8}" },
	{ M64, "fe 07", "INC.1 {ds:r7/8}" },
	{ M64, "f0 ff 0f", "DEC.4 {ds:r7/8} lock" },
	{ M64, "87 07", "XCHG.4 {ds:r7/8}, r0 lock" },
	{ M64, "87 c1", "XCHG.4 r1, r0" },
	{ M64, "f0 0f c1 07", "XADD.4 {ds:r7/8}, r0 lock" },
	{ M64, "f0 0f b0 0f", "CMPXCHG.1 {ds:r7/8}, r1 lock" },
	{ M64, "48 0f a3 07", "BT.8 {ds:r7/8}, r0 rex" },
	{ M64, "f0 0f ab 07", "BTS.4 {ds:r7/8}, r0 lock" },
	{ M64, "0f b3 07", "BTR.4 {ds:r7/8}, r0" },
	{ M64, "0f bb 07", "BTC.4 {ds:r7/8}, r0" },
	{ M64, "0f ba 27 05", "BT.4 {ds:r7/8}, $5" },
	{ M64, "f0 0f ba 2f 05", "BTS.4 {ds:r7/8}, $5 lock" },
	/* Strings and ports */
	{ M64, "f3 aa", "STOS.1 rep" },
	{ M64, "48 ab", "STOS.8 rex" },
	{ M64, "f3 48 a5", "MOVS.8 {ds} rep rex" },
	{ M64, "65 a4", "MOVS.1 {gs}" },
	{ M32, "67 ad", "LODS.4 {ds}" },
	{ M64, "f2 ae", "SCAS.1 repne" },
	{ M16, "f3 a7", "CMPS.2 {ds} rep" },
	{ M64, "e4 60", "IN.1 $60" },
	{ M64, "66 e5 fe", "IN.2 $fe" },
	{ M64, "e7 fe", "OUT.4 $fe" },
	{ M64, "48 ed", "IN.4 rex" },
	{ M16, "ef", "OUT.2" },
	{ M16, "66 ef", "OUT.4" },
	{ M64, "ee", "OUT.1" },
	{ M64, "f3 6c", "INS.1 rep" },
	{ M64, "f3 66 6f", "OUTS.2 {ds} rep" },
	{ M64, "64 48 6f", "OUTS.4 {fs} rex" },
	/* System */
	{ M64, "0f 20 c0", "MOV_FROM_CR.8 r0, r0" },
	{ M64, "44 0f 22 c1", "MOV_TO_CR.8 r8, r1 rex" },
	{ M32, "0f 22 1f", "MOV_TO_CR.4 r3, r7" },
	{ M32, "f0 0f 20 c1", "MOV_FROM_CR.4 r1, r8" },
	{ M64, "41 0f 23 ff", "MOV_TO_DR.8 r7, r15 rex" },
	{ M16, "0f 21 f0", "MOV_FROM_DR.4 r0, r6" },
	{ M64, "0f 01 f0", "LMSW.4 r0" },
	{ M64, "0f 01 37", "LMSW.4 {ds:r7/8}" },
	{ M64, "0f 01 e1", "SMSW.4 r1" },
	{ M64, "0f 01 3f", "INVLPG.4 {ds:r7/8}" },
	{ M64, "65 0f 01 7c 25 10", "INVLPG.4 {gs:r5+10/8}" },
	{ M64, "0f 01 5c 24 02", "LIDT.4 {ss:r4+2/8}" },
	{ M16, "0f 01 16 34 12", "LGDT.2 {ds:1234/2}" },
	{ M64, "0f 01 07", "SGDT.4 {ds:r7/8}" },
	{ M64, "0f 01 0f", "SIDT.4 {ds:r7/8}" },
	{ M64, "0f 00 c7", "SLDT.4 r7" },
	{ M64, "0f 00 0f", "STR.4 {ds:r7/8}" },
	{ M64, "0f 00 e0", "VERR.4 r0" },
	{ M64, "0f 00 e8", "VERW.4 r0" },
	{ M64, "0f 00 d8", "LTR.4 r0" },
	{ M64, "0f 00 d0", "LLDT.4 r0" },
	{ M64, "66 0f 38 82 07", "INVPCID.2 r0, {ds:r7/8}" },
	{ M64, "0f a2", "CPUID.4" }, { M16, "66 0f a2", "CPUID.4" }, { M64, "0f 32", "RDMSR.4" }, { M64, "0f 30", "WRMSR.4" },
	{ M64, "0f 31", "RDTSC.4" }, { M64, "0f 01 f9", "RDTSCP.4" }, { M64, "0f 33", "RDPMC.4" },
	{ M64, "0f 01 fd", "RDPRU.4" }, { M64, "f4", "HLT.4" }, { M64, "f3 90", "PAUSE.4" },
	{ M64, "0f 01 c8", "MONITOR.4" }, { M64, "0f 01 c9", "MWAIT.4" }, { M64, "0f 01 fa", "MONITORX.4" },
	{ M64, "0f 01 fb", "MWAITX.4" }, { M64, "0f 08", "INVD.4" }, { M64, "0f 09", "WBINVD.4" },
	{ M64, "f3 0f 09", "WBNOINVD.4" }, { M64, "0f 01 fc", "CLZERO.4" }, { M64, "0f 01 df", "INVLPGA.4" },
	{ M64, "0f 01 fe", "INVLPGB.4" }, { M64, "0f 01 ff", "TLBSYNC.4" }, { M64, "0f 01 d0", "XGETBV.4" },
	{ M64, "0f 01 d1", "XSETBV.4" }, { M64, "0f 01 ca", "CLAC.4" }, { M64, "0f 01 cb", "STAC.4" },
	{ M64, "0f 01 f8", "SWAPGS.4" }, { M64, "0f 01 c1", "VMCALL.4" }, { M64, "0f 01 d9", "VMMCALL.4" },
	{ M64, "f3 0f 01 d9", "VMMCALL.4" }, { M64, "f2 0f 01 f9", "RDTSCP.4" }, { M64, "f3 0f 01 3f", "INVLPG.4 {ds:r7/8}" },
	{ M64, "0f 01 d8", "VMRUN.4" }, { M64, "0f 01 da", "VMLOAD.4" },
	{ M64, "0f 01 db", "VMSAVE.4" }, { M64, "0f 01 dc", "STGI.4" }, { M64, "0f 01 dd", "CLGI.4" },
	{ M64, "0f 01 de", "SKINIT.4" }, { M64, "0f 06", "CLTS.4" }, { M64, "cc", "INT3.4" }, { M32, "ce", "INTO.4" },
	{ M64, "cd 80", "INT.4 $80" }, { M64, "f1", "ICEBP.4" }, { M64, "48 cf", "IRET.8 rex" }, { M16, "cf", "IRET.2" },
	{ M64, "0f aa", "RSM.4" }, { M64, "9c", "PUSHF.8" }, { M64, "66 9d", "POPF.2" }, { M32, "9c", "PUSHF.4" },
	{ M64, "fa", "CLI.4" }, { M64, "fb", "STI.4" },
	/* Fifteen bytes are the most */
	{ M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 88 07", "MOV.1 {ds:r7/8}, r0" },
};

static const struct {
	enum pvhv_cpu_mode mode;
	const char *bytes;
} unknown[] = {
	{ M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 88 07" },
	{ M64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 66" },
	{ M64, "66 66 66 66 66 66 66 66 66 66 c7 05 10 00 00 00" },
	{ M64, "f0 89 07" }, { M64, "f0 8b 07" }, { M64, "f0 01 c0" }, { M64, "f0 03 07" }, { M64, "f0 39 07" },
	{ M64, "f0 83 3f 00" }, { M64, "f0 0f a3 07" }, { M64, "f0 0f ba 27 00" }, { M64, "f0 84 07" },
	{ M64, "f0 f6 07 00" }, { M64, "f0 a4" }, { M64, "f0 f4" }, { M64, "f0 c7 07 00 00 00 00" }, { M64, "f0 87 c1" },
	{ M64, "f0 0f 20 d8" },					/* MOV from CR3 with LOCK */
	{ M64, "c7 0f 00 00 00 00" }, { M64, "c6 f8 00" },	/* XABORT */
	{ M64, "f7 27" }, { M64, "fe 17" }, { M64, "ff 17" }, { M64, "ff 37" }, { M64, "8f 07" }, { M64, "0f ba 07 00" },
	{ M64, "82 07 01" }, { M64, "ce" }, { M32, "63 07" },
	{ M64, "0f c3 c0" }, { M64, "66 0f c3 07" }, { M64, "f3 0f c3 07" },
	{ M64, "0f 38 f0 c0" }, { M64, "f2 0f 38 f0 07" }, { M64, "f2 0f 38 f1 07" },	/* CRC32 */
	{ M64, "0f 38 82 07" }, { M64, "66 0f 38 82 c7" },
	{ M64, "90" }, { M64, "c5 fc 77" }, { M64, "62 f1 7c 48 10 07" }, { M64, "0f 0b" },
	{ M64, "f3 0f 01 fa" }, { M64, "f2 0f 01 ca" }, { M64, "f2 0f 01 ff" },
	{ M64, "0f 01 c0" }, { M64, "0f 01 2f" }, { M64, "0f 05" }, { M64, "0f 6f 07" }, { M64, "0f 10 07" },
	{ M64, "d9 07" }, { M64, "e8 00 00 00 00" }, { M64, "c3" }, { M64, "0f c7 0f" },
};

/* The last byte of guarded memory is right before a page that must not be touched. */
static u8 *guard_end(void)
{
	static u8 *end;

	if (!end) {
		u8 *p = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		ASSERT(p != MAP_FAILED);
		ASSERT_OK(mprotect(p + 4096, 4096, PROT_NONE));
		end = p + 4096;
	}
	return end;
}

static unsigned int parse(const char *hex, u8 *bytes)
{
	unsigned int n = 0, v;
	int used;

	while (sscanf(hex, "%2x%n", &v, &used) == 1) {
		bytes[n++] = v;
		hex += used;
	}
	return n;
}

static int decode_at_guard(struct pvhv_insn *insn, const u8 *bytes, unsigned int n, enum pvhv_cpu_mode mode)
{
	u8 *at = guard_end() - n;

	memcpy(at, bytes, n);
	return pvhv_decode(insn, at, n, mode);
}

static int print_number(char *out, const char *plus, s64 v)
{
	return sprintf(out, "%s%llx", v < 0 ? "-" : plus, v < 0 ? -(unsigned long long)v : (unsigned long long)v);
}

static int print_rm(const struct pvhv_insn *i, char *out)
{
	static const char *const segs[] = { "es", "cs", "ss", "ds", "fs", "gs" };
	const char *plus = "";
	int n;

	if (i->form == PVHV_FORM_STRING)
		return sprintf(out, "{%s}", segs[i->seg]);
	if (!(i->flags & PVHV_INSN_MEM))
		return sprintf(out, "r%u", i->rm);
	n = sprintf(out, "{%s:", segs[i->seg]);
	if (i->flags & PVHV_INSN_RIPREL) {
		n += sprintf(out + n, "rip");
		plus = "+";
	}
	if (i->base != PVHV_NOREG) {
		n += sprintf(out + n, "r%u", i->base);
		plus = "+";
	}
	if (i->index != PVHV_NOREG) {
		n += sprintf(out + n, "%sr%u", plus, i->index);
		if (i->mode != M16 || i->adsize != 2)
			n += sprintf(out + n, "*%u", 1u << i->scale);
		plus = "+";
	}
	if (i->disp || !*plus)
		n += print_number(out + n, plus, i->disp);
	n += sprintf(out + n, "/%u}", i->adsize);
	if (i->srcsize != i->opsize)
		n += sprintf(out + n, ".%u", i->srcsize);
	return n;
}

static const char *print(const struct pvhv_insn *i)
{
	static char out[128];
	int n = sprintf(out, "%s.%u", op_names[i->op], i->opsize);
	bool source = i->op == PVHV_OP_MOVS || i->op == PVHV_OP_CMPS || i->op == PVHV_OP_LODS || i->op == PVHV_OP_OUTS;

	out[n] = 0;
	if (i->form == PVHV_FORM_R_RM)
		n += sprintf(out + n, " r%u,", i->reg);
	if ((i->form != PVHV_FORM_NONE && i->form != PVHV_FORM_STRING) || source) {
		out[n++] = ' ';
		n += print_rm(i, out + n);
	}
	if (i->form == PVHV_FORM_RM_R)
		n += sprintf(out + n, ", r%u", i->reg);
	if (i->flags & PVHV_INSN_IMM) {
		n += sprintf(out + n, i->form == PVHV_FORM_NONE ? " $" : ", $");
		n += print_number(out + n, "", i->imm);
	}
	sprintf(out + n, "%s%s%s%s", i->flags & PVHV_INSN_REP ? " rep" : "", i->flags & PVHV_INSN_REPNE ? " repne" : "",
		i->flags & PVHV_INSN_LOCK ? " lock" : "", i->flags & PVHV_INSN_REX ? " rex" : "");
	return out;
}

static void known_instructions(void)
{
	bool seen[PVHV_OP_NR] = { false };
	unsigned int i, fails = 0;

	for (i = 0; i < ARRAY_SIZE(known); i++) {
		struct pvhv_insn insn;
		u8 bytes[32];
		unsigned int n = parse(known[i].bytes, bytes);
		int ret = decode_at_guard(&insn, bytes, n, known[i].mode);

		if (ret || insn.length != n || insn.mode != known[i].mode || strcmp(print(&insn), known[i].text)) {
			tap_diag("mode %d, %s: result %d, length %u, %s; not %s", known[i].mode * 8, known[i].bytes, ret,
				 ret ? 0 : insn.length, ret ? "" : print(&insn), known[i].text);
			fails++;
		}
		seen[ret ? 0 : insn.op] = true;
	}
	ASSERT_EQ(fails, 0);
	for (i = 1; i < PVHV_OP_NR; i++)
		ASSERT_MSG(seen[i], "no row for %s", op_names[i]);
}

static void truncated_instructions(void)
{
	unsigned int i, n;

	for (i = 0; i < ARRAY_SIZE(known); i++) {
		struct pvhv_insn insn;
		u8 bytes[32];
		unsigned int whole = parse(known[i].bytes, bytes);

		for (n = 0; n < whole; n++)
			ASSERT_MSG(decode_at_guard(&insn, bytes, n, known[i].mode) == PVHV_DECODE_MORE,
				   "%u bytes of %s", n, known[i].bytes);
	}
}

static void unknown_instructions(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(unknown); i++) {
		struct pvhv_insn insn;
		u8 bytes[32];
		unsigned int n = parse(unknown[i].bytes, bytes);
		int ret = decode_at_guard(&insn, bytes, n, unknown[i].mode);

		ASSERT_MSG(ret == PVHV_DECODE_UNKNOWN, "%s: result %d", unknown[i].bytes, ret);
	}
}

static void random_bytes(void)
{
	static const enum pvhv_cpu_mode modes[] = { M16, M32, M64 };
	u64 x = 0x123456789abcdef;
	unsigned int i, m, ok = 0;

	for (i = 0; i < 1000000; i++) {
		struct pvhv_insn insn = { 0 }, again = { 0 };
		unsigned int n = i % 18, k;
		u8 bytes[18];
		int ret;

		for (k = 0; k < sizeof(bytes); k++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			bytes[k] = x >> 32;
		}
		m = i / 18 % 3;
		ret = decode_at_guard(&insn, bytes, n, modes[m]);
		ASSERT(ret == PVHV_DECODE_UNKNOWN || ret == PVHV_DECODE_OK || (ret == PVHV_DECODE_MORE && n < 15));
		if (ret)
			continue;
		ok++;
		ASSERT(insn.length >= 1 && insn.length <= n && insn.length <= 15);
		ASSERT(insn.op != PVHV_OP_NONE && insn.op < PVHV_OP_NR && insn.seg < PVHV_SEG_NR);
		/* The rest of the bytes must not matter. */
		ASSERT_EQ(decode_at_guard(&again, bytes, insn.length, modes[m]), PVHV_DECODE_OK);
		ASSERT(!memcmp(&insn, &again, sizeof(insn)));
		ASSERT_EQ(decode_at_guard(&again, bytes, insn.length - 1, modes[m]), PVHV_DECODE_MORE);
	}
	tap_diag("%u of %u were instructions", ok, i);
	ASSERT_GT(ok, 100000);
}

/* The executor against memory that records */

static struct {
	struct pvhv_insn_ctx ctx;
	u64 gpr[16], rflags;
	u64 linear[4];
	u8 seg[4];
	bool rmw[4];
	unsigned int n;
	u64 mem;		/* what every read gives and the last write left */
	int read_result, write_result, cmpxchg_result;
	unsigned int cmpxchgs;
} vm;

static void note(struct pvhv_insn_ctx *ctx, u64 linear)
{
	ASSERT_EQ(ctx->access_no, vm.n);
	ASSERT_LT(vm.n, 4);
	vm.seg[vm.n] = ctx->access_seg;
	vm.rmw[vm.n] = ctx->access_rmw;
	vm.linear[vm.n++] = linear;
}

static int vm_read(struct pvhv_insn_ctx *ctx, u64 linear, void *val, unsigned int bytes)
{
	note(ctx, linear);
	memcpy(val, &vm.mem, bytes);
	return vm.read_result;
}

static int vm_write(struct pvhv_insn_ctx *ctx, u64 linear, const void *val, unsigned int bytes)
{
	note(ctx, linear);
	if (!vm.write_result)
		memcpy(&vm.mem, val, bytes);
	return vm.write_result;
}

static int vm_cmpxchg(struct pvhv_insn_ctx *ctx, u64 linear, const void *old, const void *new, unsigned int bytes)
{
	vm.cmpxchgs++;
	ASSERT(!memcmp(&vm.mem, old, bytes));
	if (vm.cmpxchg_result)
		return vm.cmpxchg_result;
	return vm_write(ctx, linear, new, bytes);
}

static void reset(void)
{
	unsigned int i;

	memset(&vm, 0, sizeof(vm));
	vm.ctx = (struct pvhv_insn_ctx) {
		.gpr = vm.gpr, .rflags = &vm.rflags, .rip = 0x1000, .read = vm_read, .write = vm_write,
		.cmpxchg = vm_cmpxchg,
	};
	for (i = 0; i < PVHV_SEG_NR; i++)
		vm.ctx.seg_base[i] = (i + 1) * 0x10000000ull;
	vm.rflags = 2;
}

static int execute(enum pvhv_cpu_mode mode, const char *hex)
{
	struct pvhv_insn insn;
	u8 bytes[32];
	unsigned int n = parse(hex, bytes);

	ASSERT_EQ(pvhv_decode(&insn, bytes, n, mode), PVHV_DECODE_OK);
	vm.n = 0;
	return pvhv_insn_execute(&insn, &vm.ctx);
}

static u64 linear_of(enum pvhv_cpu_mode mode, const char *hex)
{
	struct pvhv_insn insn;
	u8 bytes[32];

	ASSERT_EQ(pvhv_decode(&insn, bytes, parse(hex, bytes), mode), PVHV_DECODE_OK);
	return pvhv_insn_linear(&insn, &vm.ctx);
}

static void addresses(void)
{
	unsigned int i;

	reset();
	for (i = 0; i < 16; i++)
		vm.gpr[i] = 0xffff888000000000 + i * 0x1000;
	ASSERT_EQ(linear_of(M64, "8b 43 10"), 0xffff888000003010);
	ASSERT_EQ(linear_of(M64, "67 8b 43 10"), 0x3010);
	ASSERT_EQ(linear_of(M64, "65 8b 43 10"), 0xffff888000003010 + 0x60000000);
	ASSERT_EQ(linear_of(M64, "65 67 8b 43 10"), 0x3010 + 0x60000000);
	ASSERT_EQ(linear_of(M64, "64 8b 04 25 f0 ff ff ff"), 0x50000000 - 0x10);
	ASSERT_EQ(linear_of(M64, "8b 05 00 01 00 00"), 0x1106);
	ASSERT_EQ(linear_of(M64, "c7 05 00 01 00 00 00 00 00 00"), 0x110a);
	ASSERT_EQ(linear_of(M64, "f0 0f ba 2d 00 01 00 00 05"), 0x1109);
	ASSERT_EQ(linear_of(M64, "0f 01 3b"), 0xffff888000003000);
	ASSERT_EQ(linear_of(M32, "8b 43 10"), 0x40003010);
	ASSERT_EQ(linear_of(M32, "8b 45 10"), 0x30005010);
	ASSERT_EQ(linear_of(M32, "67 8b 40 10"), 0x40000000 + 0x9010);
	vm.gpr[3] = 0xf0000000;
	ASSERT_EQ(linear_of(M32, "8b 43 10"), 0x30000010);	/* wraps at 4 GiB */
	vm.gpr[3] = 0xffff;
	ASSERT_EQ(linear_of(M16, "8b 40 03"), 0x40000000 + 0x6002);	/* wraps at 64 KiB */
	/* Bit operations count from the operand, in both directions, in units of the operand. */
	vm.gpr[7] = 0x2000;
	vm.gpr[0] = 64;
	ASSERT_EQ(linear_of(M64, "0f a3 07"), 0x2008);
	ASSERT_EQ(linear_of(M64, "48 0f a3 07"), 0x2008);
	vm.gpr[0] = 63;
	ASSERT_EQ(linear_of(M64, "66 0f a3 07"), 0x2006);
	ASSERT_EQ(linear_of(M64, "48 0f a3 07"), 0x2000);
	vm.gpr[0] = -1;
	ASSERT_EQ(linear_of(M64, "0f a3 07"), 0x1ffc);
	ASSERT_EQ(linear_of(M64, "0f ba 27 ff"), 0x2000);	/* by immediate they stay inside */
	/* String instructions */
	vm.gpr[6] = 0x300000100;
	vm.gpr[7] = 0x300000200;
	ASSERT_EQ(linear_of(M64, "a4"), 0x300000200);
	ASSERT_EQ(linear_of(M64, "67 65 ac"), 0x60000100);
	ASSERT_EQ(linear_of(M32, "a4"), 0x10000200);
	ASSERT_EQ(linear_of(M32, "6e"), 0x40000100);
	ASSERT_EQ(linear_of(M32, "26 6c"), 0x10000200);
}

static void repetition(void)
{
	reset();
	ASSERT_EQ(execute(M64, "f3 aa"), PVHV_EXEC_DONE);	/* count 0 */
	ASSERT_EQ(vm.n, 0);
	ASSERT_EQ(vm.ctx.rip, 0x1002);

	reset();
	vm.gpr[1] = 2;
	vm.gpr[6] = 0x100;
	vm.gpr[7] = 0x200;
	vm.rflags |= 0x400;
	ASSERT_EQ(execute(M32, "f3 64 a5"), PVHV_EXEC_REPEAT);
	ASSERT(vm.n == 2 && vm.seg[0] == PVHV_SEG_FS && vm.seg[1] == PVHV_SEG_ES);
	ASSERT(vm.linear[0] == 0x50000100 && vm.linear[1] == 0x10000200);
	ASSERT(vm.gpr[1] == 1 && vm.gpr[6] == 0xfc && vm.gpr[7] == 0x1fc && vm.ctx.rip == 0x1000);
	ASSERT_EQ(execute(M32, "f3 64 a5"), PVHV_EXEC_DONE);
	ASSERT(vm.gpr[1] == 0 && vm.ctx.rip == 0x1003);

	/* 16-bit counters and pointers wrap and leave the rest alone. */
	reset();
	vm.gpr[1] = 0x10000;
	ASSERT_EQ(execute(M16, "f3 aa"), PVHV_EXEC_DONE);
	ASSERT_EQ(vm.n, 0);
	vm.gpr[1] = 0xabcd0002;
	vm.gpr[7] = 0xabcdffff;
	ASSERT_EQ(execute(M16, "f3 aa"), PVHV_EXEC_REPEAT);
	ASSERT(vm.linear[0] == 0x1000ffff && vm.gpr[1] == 0xabcd0001 && vm.gpr[7] == 0xabcd0000);

	/* Compares stop on the flag. */
	reset();
	vm.gpr[1] = 10;
	vm.mem = 5;
	ASSERT_EQ(execute(M64, "f2 ae"), PVHV_EXEC_REPEAT);
	vm.gpr[0] = 5;
	ASSERT_EQ(execute(M64, "f2 ae"), PVHV_EXEC_DONE);
	ASSERT_EQ(vm.gpr[1], 8);
	ASSERT_EQ(execute(M64, "f3 a6"), PVHV_EXEC_REPEAT);
	vm.gpr[0] = 4;
	ASSERT_EQ(execute(M64, "f3 ae"), PVHV_EXEC_DONE);
	ASSERT_EQ(vm.gpr[1], 6);
}

static void locked_writes(void)
{
	reset();
	vm.mem = 7;
	vm.gpr[0] = 1;
	vm.cmpxchg_result = PVHV_EXEC_RETRY;
	ASSERT_EQ(execute(M64, "f0 01 07"), PVHV_EXEC_RETRY);
	ASSERT(vm.mem == 7 && vm.rflags == 2 && vm.ctx.rip == 0x1000 && vm.rmw[0]);
	vm.cmpxchg_result = 0;
	ASSERT_EQ(execute(M64, "f0 01 07"), PVHV_EXEC_DONE);
	ASSERT(vm.mem == 8 && vm.cmpxchgs == 2);
	ASSERT_EQ(execute(M64, "87 07"), PVHV_EXEC_DONE);	/* locks by itself */
	ASSERT(vm.mem == 1 && vm.gpr[0] == 8 && vm.cmpxchgs == 3);
	ASSERT_EQ(execute(M64, "01 07"), PVHV_EXEC_DONE);	/* does not */
	ASSERT(vm.mem == 9 && vm.cmpxchgs == 3);
	vm.ctx.cmpxchg = NULL;
	ASSERT_EQ(execute(M64, "f0 ff 07"), PVHV_EXEC_DONE);
	ASSERT(vm.mem == 10 && vm.cmpxchgs == 3);
	ASSERT_EQ(execute(M64, "3b 07"), PVHV_EXEC_DONE);
	ASSERT(vm.n == 1 && !vm.rmw[0]);
}

static void failing_callbacks(void)
{
	static const char *const rmw[] = { "01 07", "f0 0f b1 07", "87 07", "0f c1 07", "f7 1f", "a5", "f3 a5" };
	unsigned int i;
	u64 before[16];

	for (i = 0; i < ARRAY_SIZE(rmw); i++) {
		reset();
		vm.ctx.cmpxchg = NULL;
		vm.gpr[1] = 3;
		vm.mem = 0x55;
		memcpy(before, vm.gpr, sizeof(before));
		vm.read_result = -14;
		ASSERT_EQ(execute(M64, rmw[i]), -14);
		vm.read_result = 0;
		vm.write_result = PVHV_EXEC_EXIT;
		ASSERT_EQ(execute(M64, rmw[i]), PVHV_EXEC_EXIT);
		ASSERT(vm.n == 2 && !memcmp(before, vm.gpr, sizeof(before)) && vm.rflags == 2 && vm.ctx.rip == 0x1000);
	}
	ASSERT_EQ(execute(M64, "f4"), PVHV_EXEC_UNKNOWN);
	ASSERT_EQ(execute(M64, "0f 01 3f"), PVHV_EXEC_UNKNOWN);
	vm.ctx.rip = 0xfffffffe;
	vm.gpr[0] = 1;
	ASSERT_EQ(execute(M32, "01 c0"), PVHV_EXEC_DONE);
	ASSERT_EQ(vm.ctx.rip, 0);
}

static const struct tap_test tests[] = {
	{ "known_instructions", known_instructions, 0 },
	{ "truncated_instructions", truncated_instructions, 0 },
	{ "unknown_instructions", unknown_instructions, 0 },
	{ "random_bytes", random_bytes, 0 },
	{ "addresses", addresses, 0 },
	{ "repetition", repetition, 0 },
	{ "locked_writes", locked_writes, 0 },
	{ "failing_callbacks", failing_callbacks, 0 },
};

int main(int argc, char **argv)
{
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
