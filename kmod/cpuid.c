// SPDX-License-Identifier: GPL-2.0
/*
 * cpuid.c - what CPU a guest sees:
 *  1. finding a leaf in what the guest was given,
 *  2. what follows from that: control register bits, XCR0, address width,
 *     paravirtual features,
 *  3. KVM_SET_CPUID2, KVM_GET_CPUID2,
 *  4. the CPUID instruction.
 *
 * The guest's entries stay in the order userspace gave them; a small hash
 * over the leaf number finds them. Bits that depend on the vCPU's state
 * (OSXSAVE, OSPKE, APIC, the XSAVE area's size) are written into the entries
 * when that state changes, so that the instruction itself is a look-up.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <asm/apicdef.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>

#include "cpuid.h"
#include "pvhv.h"

#define CPUID_SLOTS	512

struct pvhv_cpuid_map {
	u16 slot[CPUID_SLOTS];		/* by leaf: entry number + 1, 0: none */
	u16 next[PVHV_MAX_CPUID];	/* same leaf, next index; + 1, 0: none */
};

static u32 slot_of(u32 fn)
{
	/* Basic, hypervisor and extended leaves in their own quarters. */
	return (fn + (fn >> 23)) % CPUID_SLOTS;
}

static struct kvm_cpuid_entry2 *find(struct pvhv_vcpu *vcpu, u32 fn, u32 index)
{
	const struct pvhv_cpuid_map *map = vcpu->cpuid_map;
	struct kvm_cpuid_entry2 *e;
	u32 slot = slot_of(fn);
	u16 n;

	if (unlikely(!map))
		return NULL;
	for (; (n = map->slot[slot]); slot = (slot + 1) % CPUID_SLOTS) {
		e = &vcpu->cpuid[n - 1];
		if (e->function != fn)
			continue;
		for (;;) {
			if (!(e->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
			    e->index == index)
				return e;
			n = map->next[n - 1];
			if (!n)
				return NULL;
			e = &vcpu->cpuid[n - 1];
		}
	}
	return NULL;
}

const struct kvm_cpuid_entry2 *pvhv_find_cpuid(struct pvhv_vcpu *vcpu, u32 fn,
					       u32 index)
{
	return find(vcpu, fn, index);
}

static struct pvhv_cpuid_map *make_map(const struct kvm_cpuid_entry2 *entries,
				       unsigned int nr)
{
	struct pvhv_cpuid_map *map = kzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!map)
		return NULL;
	/* Backwards, so that the chains end up in the order given. */
	for (i = nr; i--;) {
		u32 slot = slot_of(entries[i].function);

		while (map->slot[slot] &&
		       entries[map->slot[slot] - 1].function != entries[i].function)
			slot = (slot + 1) % CPUID_SLOTS;
		map->next[i] = map->slot[slot];
		map->slot[slot] = i + 1;
	}
	return map;
}

bool pvhv_guest_has(struct pvhv_vcpu *vcpu, unsigned int feature)
{
	const struct kvm_cpuid_entry2 *e;
	int row = pvhv_cpuid_row(feature);

	if (row < 0)
		return false;
	e = find(vcpu, pvhv_cpuid_rows[row].fn, pvhv_cpuid_rows[row].index);
	return e && (pvhv_cpuid_reg(e, pvhv_cpuid_rows[row].reg) & BIT(feature & 31));
}

static u32 set_bits(u32 reg, u32 bits, bool on)
{
	return on ? reg | bits : reg & ~bits;
}

void pvhv_cpuid_cr4_changed(struct pvhv_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *e;

	e = find(vcpu, 1, 0);
	if (e) {
		e->ecx = set_bits(e->ecx, F(OSXSAVE), vcpu->cr4 & X86_CR4_OSXSAVE);
		e->edx = set_bits(e->edx, F(APIC),
				  vcpu->apic_base & MSR_IA32_APICBASE_ENABLE);
		if (vcpu->vm->disabled_quirks & KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT)
			e->ecx = set_bits(e->ecx, F(MWAIT),
					  vcpu->misc_enable & MSR_IA32_MISC_ENABLE_MWAIT);
	}
	e = find(vcpu, 7, 0);
	if (e)
		e->ecx = set_bits(e->ecx, F(OSPKE), vcpu->cr4 & X86_CR4_PKE);
	e = find(vcpu, 0xd, 0);
	if (e)
		e->ebx = pvhv_xstate_size(vcpu->xcr0, false);
	e = find(vcpu, 0xd, 1);
	if (e && (e->eax & (F(XSAVES) | F(XSAVEC))))
		e->ebx = pvhv_xstate_size(vcpu->xcr0 | vcpu->xss, true);
}

/*
 * A feature's control bit is the guest's if both host and guest have it. A
 * VMM may set registers before the CPUID: until then the host alone decides.
 */
static bool usable(struct pvhv_vcpu *vcpu, unsigned int feature)
{
	return pvhv_cpuid_offers(feature) &&
	       (!vcpu->cpuid_map || pvhv_guest_has(vcpu, feature));
}

static u64 usable_cr4(struct pvhv_vcpu *vcpu)
{
	static const struct {
		u64 bit;
		unsigned int feature;
	} conditional[] = {
		{ X86_CR4_OSXSAVE, X86_FEATURE_XSAVE },
		{ X86_CR4_SMEP, X86_FEATURE_SMEP },
		{ X86_CR4_SMAP, X86_FEATURE_SMAP },
		{ X86_CR4_FSGSBASE, X86_FEATURE_FSGSBASE },
		{ X86_CR4_PKE, X86_FEATURE_PKU },
		{ X86_CR4_LA57, X86_FEATURE_LA57 },
		{ X86_CR4_UMIP, X86_FEATURE_UMIP },
		{ X86_CR4_PCIDE, X86_FEATURE_PCID },
	};
	u64 bits = X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE |
		   X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE |
		   X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(conditional); i++)
		if (usable(vcpu, conditional[i].feature))
			bits |= conditional[i].bit;
	return bits;
}

static u64 usable_efer(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e = find(vcpu, 0x80000021, 0);
	u64 bits = EFER_SCE;

	if (usable(vcpu, X86_FEATURE_LM))
		bits |= EFER_LME | EFER_LMA;
	if (usable(vcpu, X86_FEATURE_NX))
		bits |= EFER_NX;
	if (usable(vcpu, X86_FEATURE_FXSR_OPT))
		bits |= EFER_FFXSR;
	if (e && (e->eax & pvhv_cpuid_caps[R_EXT21_EAX] & EXT21_AUTOIBRS))
		bits |= BIT_ULL(21);
	return bits;
}

/* Where KVM's paravirtual leaves begin, 0: nowhere. */
static u32 pv_base(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e;
	u32 base, signature[3];

	memcpy(signature, KVM_SIGNATURE, sizeof(signature));
	/* The leaves of several hypervisor interfaces lie 0x100 apart. */
	for (base = 0x40000000; base < 0x40010000; base += 0x100) {
		e = find(vcpu, base, 0);
		if (e && e->ebx == signature[0] && e->ecx == signature[1] &&
		    e->edx == signature[2])
			return base;
	}
	return 0;
}

static struct kvm_cpuid_entry2 *pv_features_leaf(struct pvhv_vcpu *vcpu)
{
	u32 base = pv_base(vcpu);

	return base ? find(vcpu, base | (KVM_CPUID_FEATURES & 0xff), 0) : NULL;
}

static void find_pv_leaf(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e = pv_features_leaf(vcpu);

	vcpu->pv_leaf = pv_base(vcpu);
	vcpu->pv_features = e ? e->eax : 0;
}

static u64 allowed_spec_ctrl(struct pvhv_vcpu *vcpu)
{
	u64 bits = 0;

	if (usable(vcpu, X86_FEATURE_SPEC_CTRL) ||
	    usable(vcpu, X86_FEATURE_AMD_IBRS))
		bits |= SPEC_CTRL_IBRS;
	if (usable(vcpu, X86_FEATURE_INTEL_STIBP) ||
	    usable(vcpu, X86_FEATURE_AMD_STIBP))
		bits |= SPEC_CTRL_STIBP;
	if (usable(vcpu, X86_FEATURE_SPEC_CTRL_SSBD) ||
	    usable(vcpu, X86_FEATURE_AMD_SSBD))
		bits |= SPEC_CTRL_SSBD;
	if (usable(vcpu, CPUID_8000_0008_EBX * 32 + 28))
		bits |= BIT_ULL(7);	/* PSFD */
	return bits;
}

static u64 allowed_pred_cmd(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e = find(vcpu, 0x80000021, 0);
	u64 bits = 0;

	if (usable(vcpu, X86_FEATURE_SPEC_CTRL) ||
	    usable(vcpu, X86_FEATURE_AMD_IBPB))
		bits |= PRED_CMD_IBPB;
	if (e && (e->eax & pvhv_cpuid_caps[R_EXT21_EAX] & EXT21_SBPB))
		bits |= BIT_ULL(7);	/* SBPB */
	return bits;
}

/* Everything that is derived from the guest's CPUID; also with none set. */
void pvhv_cpuid_derive(struct pvhv_vcpu *vcpu)
{
	const struct kvm_cpuid_entry2 *e;

	vcpu->cr4_reserved = ~usable_cr4(vcpu);
	vcpu->efer_allowed = usable_efer(vcpu);
	vcpu->spec_ctrl_allowed = allowed_spec_ctrl(vcpu);
	vcpu->pred_cmd_allowed = allowed_pred_cmd(vcpu);

	e = find(vcpu, 0xd, 0);
	vcpu->guest_xcr0 = e ? (e->eax | (u64)e->edx << 32) & pvhv_supported_xcr0() : 0;
	vcpu->guest_xss = 0;
	vcpu->guest_has_xsave = usable(vcpu, X86_FEATURE_XSAVE);
	vcpu->guest_has_rdtscp = usable(vcpu, X86_FEATURE_RDTSCP) ||
				 usable(vcpu, X86_FEATURE_RDPID);
	vcpu->guest_has_x2apic = usable(vcpu, X86_FEATURE_X2APIC);

	e = find(vcpu, 0x80000008, 0);
	if (e)
		vcpu->maxphyaddr = clamp(e->eax & 0xff, 32U, 52U);
	else
		vcpu->maxphyaddr = vcpu->cpuid_map ? 36 : boot_cpu_data.x86_phys_bits;

	e = find(vcpu, 0, 0);
	vcpu->guest_is_amd = e && (e->ebx == 0x68747541 /* Auth */ ||
				   e->ebx == 0x6f677948 /* Hygo */);
	find_pv_leaf(vcpu);
}

static int check_entries(const struct kvm_cpuid_entry2 *entries, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		u32 virt = (entries[i].eax >> 8) & 0xff;

		if (entries[i].function == 0x80000008 &&
		    virt != 48 && virt != 57 && virt)
			return -EINVAL;
	}
	return 0;
}

/* Who halts without an exit is not there to be kicked. */
static void no_unhalt_without_exit(struct pvhv_vcpu *vcpu)
{
	struct kvm_cpuid_entry2 *e = pv_features_leaf(vcpu);

	if (e && (vcpu->vm->disabled_exits & KVM_X86_DISABLE_EXITS_HLT))
		e->eax &= ~BIT(KVM_FEATURE_PV_UNHALT);
}

/*
 * A CPU does not change under a running kernel: after the first KVM_RUN only
 * the same CPUID is accepted. Swaps the new one in, returns the old one.
 */
static void swap_cpuid(struct pvhv_vcpu *vcpu, struct kvm_cpuid_entry2 **entries,
		       unsigned int *nr, struct pvhv_cpuid_map **map)
{
	swap(vcpu->cpuid, *entries);
	swap(vcpu->nr_cpuid, *nr);
	swap(vcpu->cpuid_map, *map);
	pvhv_cpuid_cr4_changed(vcpu);
	no_unhalt_without_exit(vcpu);
}

long pvhv_ioctl_set_cpuid2(void *obj, void *data, unsigned long arg)
{
	struct pvhv_vcpu *vcpu = obj;
	struct kvm_cpuid2 __user *user = (void __user *)arg;
	struct kvm_cpuid_entry2 *entries = NULL;
	struct pvhv_cpuid_map *map;
	unsigned int nr;
	long r;

	if (get_user(nr, &user->nent))
		return -EFAULT;
	if (nr > PVHV_MAX_CPUID)
		return -E2BIG;
	if (nr) {
		entries = kvmalloc_array(nr, sizeof(*entries), GFP_KERNEL_ACCOUNT);
		if (!entries)
			return -ENOMEM;
		r = -EFAULT;
		if (copy_from_user(entries, user->entries, nr * sizeof(*entries)))
			goto out_entries;
	}
	r = check_entries(entries, nr);
	if (r)
		goto out_entries;
	r = -ENOMEM;
	map = make_map(entries, nr);
	if (!map)
		goto out_entries;

	swap_cpuid(vcpu, &entries, &nr, &map);
	r = 0;
	if (rcu_access_pointer(vcpu->pid)) {
		if (nr != vcpu->nr_cpuid ||
		    memcmp(entries, vcpu->cpuid, nr * sizeof(*entries))) {
			swap_cpuid(vcpu, &entries, &nr, &map);
			r = -EINVAL;
		}
		goto out_map;
	}
	pvhv_cpuid_derive(vcpu);
	vcpu->be->sync(vcpu, PVHV_SYNC_CPUID);
	if (vcpu->lapic)
		pvhv_lapic_cpuid_changed(vcpu);
out_map:
	kfree(map);
out_entries:
	kvfree(entries);
	return r;
}

long pvhv_ioctl_get_cpuid2(void *obj, void *data, unsigned long arg)
{
	struct kvm_cpuid2 __user *user = (void __user *)arg;
	struct pvhv_vcpu *vcpu = obj;
	u32 n;

	if (get_user(n, &user->nent))
		return -EFAULT;
	if (n < vcpu->nr_cpuid)
		return -E2BIG;
	if (copy_to_user(user->entries, vcpu->cpuid,
			 vcpu->nr_cpuid * sizeof(*vcpu->cpuid)) ||
	    put_user(vcpu->nr_cpuid, &user->nent))
		return -EFAULT;
	return 0;
}

void pvhv_cpuid_free(struct pvhv_vcpu *vcpu)
{
	kfree(vcpu->cpuid_map);
	kvfree(vcpu->cpuid);
	vcpu->cpuid_map = NULL;
	vcpu->cpuid = NULL;
	vcpu->nr_cpuid = 0;
}

/* ----------------------------------------------------- the instruction -- */

/* A leaf beyond the last: AMD gives zeros, Intel the data of the last basic. */
static const struct kvm_cpuid_entry2 *out_of_range(struct pvhv_vcpu *vcpu,
						   u32 fn, u32 index)
{
	const struct kvm_cpuid_entry2 *basic = find(vcpu, 0, 0), *class;

	if (!basic || vcpu->guest_is_amd)
		return NULL;
	if (fn >= 0x40000000 && fn <= 0x4fffffff)
		class = find(vcpu, fn & 0xffffff00, 0);
	else if (fn >= 0xc0000000)
		class = find(vcpu, 0xc0000000, 0);
	else
		class = find(vcpu, fn & 0x80000000, 0);
	if (class && fn <= class->eax)
		return NULL;
	return find(vcpu, basic->eax, index);
}

void pvhv_cpuid(struct pvhv_vcpu *vcpu, u32 *eax, u32 *ebx, u32 *ecx, u32 *edx)
{
	const struct kvm_cpuid_entry2 *e;
	u32 fn = *eax, index = *ecx;

	e = find(vcpu, fn, index);
	if (unlikely(!e))
		e = out_of_range(vcpu, fn, index);
	if (likely(e)) {
		*eax = e->eax;
		*ebx = e->ebx;
		*ecx = e->ecx;
		*edx = e->edx;
	} else {
		*eax = 0;
		*ebx = 0;
		*ecx = 0;
		*edx = 0;
		/* Beyond the last level: the level asked and the x2APIC ID. */
		e = fn == 0xb || fn == 0x1f ? find(vcpu, fn, 1) : NULL;
		if (e) {
			*ecx = index & 0xff;
			*edx = e->edx;
		}
	}
}
