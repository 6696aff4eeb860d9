// SPDX-License-Identifier: GPL-2.0
/*
 * The CPUs that --cpu-model knows, as tables of features.
 *  1. Levels that CPUs of all vendors reach, as the x86-64 psABI defines them.
 *  2. Server CPUs by the names that QEMU and libvirt use.
 *
 * A model has what every CPU of its kind has with a microcode of 2019 or newer,
 * less what pvhv does not virtualize (VME, PMU, MONITOR, MPX, nesting, AMX).  The
 * counter is told as not invariant: another host's may count at another rate,
 * and kvmclock knows.  IA32_ARCH_CAPABILITIES would differ from host to host:
 * such a guest mitigates what its model's family suffers from.
 */
#include <string.h>

#include "vmm.h"

static const struct cpu_model models[] = {
	/* 1.  Family and so on: see cpuid_model.c. */
	{ .name = "x86-64-v2", .brand = "x86-64-v2 CPU",
	  .features = "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 "
		      "syscall nx lm x2apic sse3 ssse3 cx16 sse4_1 sse4_2 popcnt lahf_lm" },
	{ .name = "x86-64-v3", .base = "x86-64-v2", .brand = "x86-64-v3 CPU",
	  .features = "xsave avx avx2 bmi1 bmi2 f16c fma abm movbe" },
	{ .name = "x86-64-v4", .base = "x86-64-v3", .brand = "x86-64-v4 CPU",
	  .features = "avx512f avx512bw avx512cd avx512dq avx512vl" },

	/* 2. */
	{ "EPYC", "x86-64-v3", CPU_VENDOR_AMD, 23, 1, 2, "AMD EPYC Processor",
	  "pclmulqdq aes rdrand fsgsbase smep rdseed adx smap clflushopt sha_ni xsaveopt xsavec xgetbv1 cr8_legacy sse4a "
	  "misalignsse 3dnowprefetch osvw topoext mmxext fxsr_opt pdpe1gb rdtscp clzero xsaveerptr ibpb" },
	{ "EPYC-Rome", "EPYC", CPU_VENDOR_AMD, 23, 49, 0, "AMD EPYC-Rome Processor",
	  "umip rdpid clwb wbnoinvd ibrs stibp amd_ssbd" },
	{ "EPYC-Milan", "EPYC-Rome", CPU_VENDOR_AMD, 25, 1, 1, "AMD EPYC-Milan Processor",
	  "pcid invpcid erms fsrm pku vaes vpclmulqdq xsaves" },
	{ "EPYC-Genoa", "EPYC-Milan", CPU_VENDOR_AMD, 25, 17, 0, "AMD EPYC-Genoa Processor",
	  "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512vbmi avx512_vbmi2 gfni avx512_vnni avx512_bitalg "
	  "avx512_vpopcntdq avx512_bf16 la57 stibp_always_on psfd no_nested_data_bp lfence_serializing null_sel_clr_base "
	  "autoibrs" },
	{ "EPYC-Turin", "EPYC-Genoa", CPU_VENDOR_AMD, 26, 0, 0, "AMD EPYC-Turin Processor",
	  "avx_vnni avx512_vp2intersect movdiri movdir64b prefetchi" },

	{ "Nehalem", "x86-64-v2", CPU_VENDOR_INTEL, 6, 26, 3, "Intel Core i7 9xx (Nehalem Class Core i7)",
	  "spec_ctrl intel_stibp" },
	{ "Westmere", "Nehalem", CPU_VENDOR_INTEL, 6, 44, 1, "Westmere E56xx/L56xx/X56xx (Nehalem-C)",
	  "aes pclmulqdq" },
	{ "SandyBridge", "Westmere", CPU_VENDOR_INTEL, 6, 42, 1, "Intel Xeon E312xx (Sandy Bridge)",
	  "xsave avx xsaveopt rdtscp md_clear spec_ctrl_ssbd" },
	{ "IvyBridge", "SandyBridge", CPU_VENDOR_INTEL, 6, 58, 9, "Intel Xeon E3-12xx v2 (Ivy Bridge)",
	  "f16c rdrand fsgsbase smep erms" },
	{ "Haswell-noTSX", "IvyBridge", CPU_VENDOR_INTEL, 6, 60, 1, "Intel Core Processor (Haswell, no TSX)",
	  "fma movbe pcid bmi1 avx2 bmi2 invpcid abm" },
	{ "Haswell", "Haswell-noTSX", CPU_VENDOR_INTEL, 6, 60, 4, "Intel Core Processor (Haswell)",
	  "hle rtm" },
	{ "Broadwell-noTSX", "Haswell-noTSX", CPU_VENDOR_INTEL, 6, 61, 2, "Intel Core Processor (Broadwell, no TSX)",
	  "rdseed adx smap 3dnowprefetch" },
	{ "Broadwell", "Broadwell-noTSX", CPU_VENDOR_INTEL, 6, 61, 2, "Intel Core Processor (Broadwell)",
	  "hle rtm" },
	{ "Skylake-Server-noTSX", "Broadwell-noTSX", CPU_VENDOR_INTEL, 6, 85, 4, "Intel Xeon Processor (Skylake, no TSX)",
	  "avx512f avx512dq avx512cd avx512bw avx512vl clflushopt clwb pku xsavec xgetbv1 pdpe1gb" },
	{ "Skylake-Server", "Skylake-Server-noTSX", CPU_VENDOR_INTEL, 6, 85, 4, "Intel Xeon Processor (Skylake)",
	  "hle rtm" },
	{ "Cascadelake-Server-noTSX", "Skylake-Server-noTSX", CPU_VENDOR_INTEL, 6, 85, 6, "Intel Xeon Processor (Cascadelake, no TSX)",
	  "avx512_vnni" },
	{ "Cascadelake-Server", "Cascadelake-Server-noTSX", CPU_VENDOR_INTEL, 6, 85, 6, "Intel Xeon Processor (Cascadelake)",
	  "hle rtm" },
	{ "Icelake-Server-noTSX", "Cascadelake-Server-noTSX", CPU_VENDOR_INTEL, 6, 106, 6, "Intel Xeon Processor (Icelake, no TSX)",
	  "avx512ifma sha_ni avx512vbmi umip avx512_vbmi2 gfni vaes vpclmulqdq avx512_bitalg avx512_vpopcntdq la57 rdpid fsrm "
	  "wbnoinvd xsaves" },
	{ "Icelake-Server", "Icelake-Server-noTSX", CPU_VENDOR_INTEL, 6, 106, 6, "Intel Xeon Processor (Icelake)",
	  "hle rtm" },
	{ "SapphireRapids", "Icelake-Server-noTSX", CPU_VENDOR_INTEL, 6, 143, 4, "Intel Xeon Processor (SapphireRapids)",
	  "avx_vnni avx512_bf16 avx512_fp16 serialize cldemote movdiri movdir64b fzrm fsrs fsrc" },
};

const struct cpu_model *cpu_model_at(unsigned int nr)
{
	return nr < ARRAY_SIZE(models) ? &models[nr] : NULL;
}

const struct cpu_model *cpu_model_find(const char *name)
{
	unsigned int i;

	for (i = 0; name && i < ARRAY_SIZE(models); i++)
		if (!strcmp(models[i].name, name))
			return &models[i];
	return NULL;
}
