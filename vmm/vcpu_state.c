// SPDX-License-Identifier: GPL-2.0
/*
 * The state of one vCPU, out of the kernel and into it again.
 *  1. vcpu_save(): while the machine is paused.
 *  2. vcpu_load(): into a vCPU that has not run, in the order that the parts
 *     depend on each other: CPUID says which registers there are, the mode of
 *     the LAPIC (in SREGS) how its registers are laid out, the LAPIC's timer
 *     mode whether a deadline can be set.
 *  3. MSRs are named, so that one which the new host lacks is named in the
 *     error too; a few may be missing there without harm.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "vmm.h"

#define SECTION_VERSION		1
#define MSRS_AT_ONCE		64
#define MSRS_MAX		1024

#define XSAVE_PARTS		512	/* which are not in their initial state */
#define XSAVE_FP_SSE		3

#define MSR_TSC			0x10
#define MSR_TSC_DEADLINE	0x6e0
#define MSR_APICBASE		0x1b
#define MSR_MCG_STATUS		0x17a
#define MSR_MCG_CTL		0x17b
#define MSR_HWCR		0xc0010015

struct msr_batch {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[MSRS_AT_ONCE];
};

static void section_name(char *buf, size_t len, u32 id)
{
	snprintf(buf, len, "vcpu%u", id);
}

/* CPUID, as the guest sees it. */

/* NULL: no memory, or errno says why. */
struct kvm_cpuid2 *vcpu_cpuid(const struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;
	int err;

	cpuid = calloc(1, sizeof(*cpuid) +
			  CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return NULL;
	cpuid->nent = CPUID_ENTRIES_MAX;
	if (!ioctl(vcpu->fd, KVM_GET_CPUID2, cpuid))
		return cpuid;
	err = errno;
	free(cpuid);
	errno = err;
	return NULL;
}

static int save_cpuid(struct vcpu *vcpu, struct state *st)
{
	struct kvm_cpuid2 *cpuid = vcpu_cpuid(vcpu);

	if (!cpuid)
		return fail(-errno, "vCPU %u: cannot save cpuid: %s", vcpu->id,
			    strerror(errno));
	state_put(st, "cpuid", cpuid->entries,
		  cpuid->nent * sizeof(cpuid->entries[0]));
	free(cpuid);
	return 0;
}

static int read_cpuid(struct vcpu *vcpu, const struct state_section *sec,
		      struct kvm_cpuid2 *cpuid)
{
	size_t got;

	if (state_get(sec, "cpuid", cpuid->entries,
		      CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]), &got) ||
	    got % sizeof(cpuid->entries[0]))
		return fail(-EBADMSG, "state: 'cpuid' of vCPU %u is damaged",
			    vcpu->id);
	cpuid->nent = got / sizeof(cpuid->entries[0]);
	return 0;
}

static int load_cpuid(struct vcpu *vcpu, const struct state_section *sec)
{
	struct kvm_cpuid2 *cpuid;
	int ret;

	cpuid = calloc(1, sizeof(*cpuid) +
			  CPUID_ENTRIES_MAX * sizeof(cpuid->entries[0]));
	if (!cpuid)
		return fail(-ENOMEM, "out of memory");
	ret = read_cpuid(vcpu, sec, cpuid);
	if (!ret && ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		ret = fail(-errno, "state: this host refuses 'cpuid' of vCPU %u: %s",
			   vcpu->id, strerror(errno));
	free(cpuid);
	return ret;
}

/* What is one ioctl each way, and one structure. */
static const struct part {
	const char *name;
	unsigned long get, set;
	size_t size;
} sregs = { "sregs", KVM_GET_SREGS, KVM_SET_SREGS, sizeof(struct kvm_sregs) },
  xcrs = { "xcrs", KVM_GET_XCRS, KVM_SET_XCRS, sizeof(struct kvm_xcrs) },
  lapic = { "lapic", KVM_GET_LAPIC, KVM_SET_LAPIC,
	    sizeof(struct kvm_lapic_state) },
  regs = { "regs", KVM_GET_REGS, KVM_SET_REGS, sizeof(struct kvm_regs) },
  debugregs = { "debugregs", KVM_GET_DEBUGREGS, KVM_SET_DEBUGREGS,
		sizeof(struct kvm_debugregs) },
  events = { "events", KVM_GET_VCPU_EVENTS, KVM_SET_VCPU_EVENTS,
	     sizeof(struct kvm_vcpu_events) },
  mp_state = { "mp_state", KVM_GET_MP_STATE, KVM_SET_MP_STATE,
	       sizeof(struct kvm_mp_state) };

/* Large enough for any of them, and aligned. */
union part_data {
	struct kvm_sregs sregs;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_regs regs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp_state;
};

static int save_part(struct vcpu *vcpu, struct state *st,
		     const struct part *part)
{
	union part_data data;

	memset(&data, 0, sizeof(data));
	if (ioctl(vcpu->fd, part->get, &data))
		return fail(-errno, "vCPU %u: cannot save %s: %s", vcpu->id,
			    part->name, strerror(errno));
	state_put(st, part->name, &data, part->size);
	return 0;
}

static int load_part(struct vcpu *vcpu, const struct state_section *sec,
		     const struct part *part)
{
	union part_data data;
	size_t got;
	int ret;

	ret = state_get(sec, part->name, &data, part->size, &got);
	if (!ret && got != part->size)
		ret = -EBADMSG;
	if (ret)
		return fail(ret, "state: '%s' of vCPU %u is damaged", part->name,
			    vcpu->id);
	if (ioctl(vcpu->fd, part->set, &data))
		return fail(-errno, "state: this host refuses '%s' of vCPU %u: %s",
			    part->name, vcpu->id, strerror(errno));
	return 0;
}

/* A host without XSAVE has no XCR0, and no guest of it had or needs one. */

static bool has_xcrs(const struct vm *vm)
{
	return ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
}

static int save_xcrs(struct vcpu *vcpu, struct state *st)
{
	static const struct kvm_xcrs none;

	if (has_xcrs(vcpu->vm))
		return save_part(vcpu, st, &xcrs);
	state_put(st, xcrs.name, &none, sizeof(none));
	return 0;
}

static int load_xcrs(struct vcpu *vcpu, const struct state_section *sec)
{
	return has_xcrs(vcpu->vm) ? load_part(vcpu, sec, &xcrs) : 0;
}

/* Extended states: as many bytes as the kernel says. */

static size_t xsave_size(const struct vm *vm)
{
	int size = ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return size > (int)sizeof(struct kvm_xsave) ? (size_t)size :
						      sizeof(struct kvm_xsave);
}

static int save_xsave(struct vcpu *vcpu, struct state *st)
{
	size_t size = xsave_size(vcpu->vm);
	bool wide = size > sizeof(struct kvm_xsave);
	void *data = calloc(1, size);
	int ret = 0;

	if (!data)
		return fail(-ENOMEM, "out of memory");
	if (ioctl(vcpu->fd, wide ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, data))
		ret = fail(-errno, "vCPU %u: cannot save xsave: %s", vcpu->id,
			   strerror(errno));
	else
		state_put(st, "xsave", data, size);
	free(data);
	return ret;
}

/*
 * Parts that the other host had and the guest's CPUID has not are in their
 * initial state; this host may not know them.
 */
static void drop_foreign_parts(struct vcpu *vcpu, void *data)
{
	struct kvm_cpuid2 *cpuid = vcpu_cpuid(vcpu);
	const struct kvm_cpuid_entry2 *e = cpuid ? cpuid_find(cpuid, 0xd, 0) : NULL;
	u64 parts;

	if (e) {
		memcpy(&parts, (u8 *)data + XSAVE_PARTS, sizeof(parts));
		parts &= e->eax | (u64)e->edx << 32 | XSAVE_FP_SSE;
		memcpy((u8 *)data + XSAVE_PARTS, &parts, sizeof(parts));
	}
	free(cpuid);
}

static int load_xsave(struct vcpu *vcpu, const struct state_section *sec)
{
	size_t size = xsave_size(vcpu->vm), got;
	void *data = calloc(1, size);
	int ret;

	if (!data)
		return fail(-ENOMEM, "out of memory");
	ret = state_get(sec, "xsave", data, size, &got);
	if (!ret && got < sizeof(struct kvm_xsave))
		ret = -EBADMSG;
	if (ret)
		ret = fail(ret, "state: 'xsave' of vCPU %u is damaged, or larger than this host's",
			   vcpu->id);
	else
		drop_foreign_parts(vcpu, data);
	if (!ret && ioctl(vcpu->fd, KVM_SET_XSAVE, data))
		ret = fail(-errno, "state: this host refuses 'xsave' of vCPU %u: %s",
			   vcpu->id, strerror(errno));
	free(data);
	return ret;
}

/* MSRs. */

static struct kvm_msr_list *msr_list(const struct vm *vm)
{
	struct kvm_msr_list probe = { 0 }, *list;

	if (!ioctl(vm->dev_fd, KVM_GET_MSR_INDEX_LIST, &probe) ||
	    errno != E2BIG || probe.nmsrs > MSRS_MAX)
		return NULL;
	list = malloc(sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return NULL;
	list->nmsrs = probe.nmsrs;
	if (!ioctl(vm->dev_fd, KVM_GET_MSR_INDEX_LIST, list))
		return list;
	free(list);
	return NULL;
}

/* The list is of the host: what this guest has not, is passed over. */
static unsigned int read_msrs(struct vcpu *vcpu, const struct kvm_msr_list *list,
			      struct kvm_msr_entry *out)
{
	struct msr_batch batch;
	unsigned int at = 0, nr = 0, i;
	int done;

	while (at < list->nmsrs) {
		unsigned int n = list->nmsrs - at;

		if (n > MSRS_AT_ONCE)
			n = MSRS_AT_ONCE;
		memset(&batch, 0, sizeof(batch));
		batch.head.nmsrs = n;
		for (i = 0; i < n; i++)
			batch.entry[i].index = list->indices[at + i];
		done = ioctl(vcpu->fd, KVM_GET_MSRS, &batch);
		if (done < 0)
			done = 0;
		memcpy(out + nr, batch.entry, done * sizeof(out[0]));
		nr += done;
		at += done < (int)n ? done + 1 : done;
	}
	return nr;
}

static int save_msrs(struct vcpu *vcpu, struct state *st)
{
	struct kvm_msr_list *list = msr_list(vcpu->vm);
	struct kvm_msr_entry *entries;
	unsigned int nr;

	if (!list)
		return fail(-EIO, "vCPU %u: cannot save its MSRs: the kernel does not list them",
			    vcpu->id);
	entries = calloc(list->nmsrs + 1, sizeof(*entries));
	if (!entries) {
		free(list);
		return fail(-ENOMEM, "out of memory");
	}
	nr = read_msrs(vcpu, list, entries);
	state_put(st, "msrs", entries, nr * sizeof(entries[0]));
	free(entries);
	free(list);
	return 0;
}

/* What the host's kernel decides, or what only says how fast it counts. */
static bool may_miss(u32 index)
{
	switch (index) {
	case MSR_MCG_STATUS:
	case MSR_MCG_CTL:
	case MSR_HWCR:
		return true;
	default:
		return false;
	}
}

/* One of the other host's that the guest cannot have used. */
static bool foreign(struct vcpu *vcpu, const struct kvm_msr_entry *entry)
{
	struct msr_batch batch = { .head.nmsrs = 1 };

	batch.entry[0].index = entry->index;
	return !entry->data && ioctl(vcpu->fd, KVM_GET_MSRS, &batch) < 1;
}

static int set_msr(struct vcpu *vcpu, const struct kvm_msr_entry *entry)
{
	struct msr_batch batch = { .head.nmsrs = 1 };

	batch.entry[0] = *entry;
	if (ioctl(vcpu->fd, KVM_SET_MSRS, &batch) == 1 ||
	    may_miss(entry->index) || foreign(vcpu, entry))
		return 0;
	return fail(-EINVAL, "state: this host refuses MSR 0x%x = 0x%llx of vCPU %u",
		    entry->index, (unsigned long long)entry->data, vcpu->id);
}

/*
 * The counter first, which deadlines are compared with; those last.  The base
 * of the LAPIC came with SREGS.
 */
static int set_msrs(struct vcpu *vcpu, const struct kvm_msr_entry *entries,
		    unsigned int nr, u64 tsc_ahead)
{
	struct kvm_msr_entry entry;
	int ret = 0, pass;
	unsigned int i;

	for (pass = 0; pass < 3; pass++)
		for (i = 0; i < nr && !ret; i++) {
			entry = entries[i];
			if (entry.index == MSR_APICBASE ||
			    pass != (entry.index == MSR_TSC ? 0 :
				     entry.index == MSR_TSC_DEADLINE ? 2 : 1))
				continue;
			if (!pass)
				entry.data += tsc_ahead;
			ret = set_msr(vcpu, &entry);
		}
	return ret;
}

static int load_msrs(struct vcpu *vcpu, const struct state_section *sec,
		     u64 tsc_ahead)
{
	struct kvm_msr_entry *entries = calloc(MSRS_MAX, sizeof(*entries));
	size_t got;
	int ret;

	if (!entries)
		return fail(-ENOMEM, "out of memory");
	ret = state_get(sec, "msrs", entries, MSRS_MAX * sizeof(*entries), &got);
	if (!ret && got % sizeof(*entries))
		ret = -EBADMSG;
	if (ret)
		ret = fail(ret, "state: 'msrs' of vCPU %u is damaged", vcpu->id);
	else
		ret = set_msrs(vcpu, entries, got / sizeof(*entries), tsc_ahead);
	free(entries);
	return ret;
}

/* How fast its TSC counts: one that is as fast as the host's needs no help. */

static int load_tsc_khz(struct vcpu *vcpu, const struct state_section *sec,
			u64 *khz)
{
	if (state_get_u64(sec, "tsc_khz", UINT32_MAX, khz))
		return fail(-EBADMSG, "state: 'tsc_khz' of vCPU %u is damaged",
			    vcpu->id);
	if (*khz && ioctl(vcpu->fd, KVM_SET_TSC_KHZ, (unsigned long)*khz))
		return fail(-errno, "state: the guest's TSC counts at %llu kHz, which this host's CPU cannot do",
			    (unsigned long long)*khz);
	return 0;
}

/* Both, in the order of part 2 above. */

int vcpu_save(struct vcpu *vcpu, struct state *st)
{
	int khz = ioctl(vcpu->fd, KVM_GET_TSC_KHZ, 0);
	char name[16];
	int ret;

	section_name(name, sizeof(name), vcpu->id);
	state_begin(st, name, SECTION_VERSION);
	state_put_u64(st, "tsc_khz", khz > 0 ? khz : 0);
	ret = save_cpuid(vcpu, st);
	/* First of the registers: INIT and SIPI that wait act on them. */
	if (!ret)
		ret = save_part(vcpu, st, &mp_state);
	if (!ret)
		ret = save_part(vcpu, st, &regs);
	if (!ret)
		ret = save_part(vcpu, st, &sregs);
	if (!ret)
		ret = save_xcrs(vcpu, st);
	if (!ret)
		ret = save_xsave(vcpu, st);
	if (!ret)
		ret = save_msrs(vcpu, st);
	if (!ret)
		ret = save_part(vcpu, st, &lapic);
	if (!ret)
		ret = save_part(vcpu, st, &debugregs);
	if (!ret)
		ret = save_part(vcpu, st, &events);
	state_end(st);
	return ret ? ret : st->err;
}

/* @late_ns: how long ago it was saved, if the guest's clocks went on. */
int vcpu_load(struct vcpu *vcpu, const void *data, size_t len, u64 late_ns)
{
	struct state_section sec;
	char name[16];
	u64 khz;
	int ret;

	section_name(name, sizeof(name), vcpu->id);
	ret = state_find(data, len, name, &sec);
	if (ret || sec.version > SECTION_VERSION)
		return fail(ret ? ret : -EPROTONOSUPPORT, "state: no usable section '%s': the state is of another VM, damaged or too new",
			    name);
	ret = load_cpuid(vcpu, &sec);
	if (!ret)
		ret = load_tsc_khz(vcpu, &sec, &khz);
	if (!ret)
		ret = load_part(vcpu, &sec, &sregs);
	if (!ret)
		ret = load_xcrs(vcpu, &sec);
	if (!ret)
		ret = load_xsave(vcpu, &sec);
	if (!ret)
		ret = load_part(vcpu, &sec, &lapic);
	if (!ret)
		ret = load_msrs(vcpu, &sec, (u64)((unsigned __int128)late_ns *
						   khz / 1000000));
	if (!ret)
		ret = load_part(vcpu, &sec, &regs);
	if (!ret)
		ret = load_part(vcpu, &sec, &debugregs);
	if (!ret)
		ret = load_part(vcpu, &sec, &events);
	if (!ret)
		ret = load_part(vcpu, &sec, &mp_state);
	return ret;
}
