// SPDX-License-Identifier: GPL-2.0
/*
 * What a machine tells of itself before it moves, as names and values:
 *   program     "pvhv-run 0.1"
 *   arg0 ...    the options that it was made of
 *   cpu         vendor and family, and cpu.0x7.0:EBX ... features,
 *   cpu.model   what --cpu-model named, if it did,
 *   cpu.addresses, cpu.xstate2 ...  bits of an address, and where the parts
 *               of an XSAVE area lie
 *   tsc_khz     how fast its time stamp counter counts
 *   devices     the names of their states' sections
 *   disk0.path, disk0.size ...   where they are now, and how large
 * and the ranges of its memory.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "move.h"

#define NAME_LEN	32

/* Of a vCPU that runs nothing can be asked: before it does. */
int move_know_cpu(struct vm *vm, struct move_cpu *cpu)
{
	struct kvm_cpuid2 *cpuid = vcpu_cpuid(&vm->vcpus[0]);
	int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

	if (!cpuid)
		return fail(-EIO, "%s: cannot read a vCPU's CPUID", vm->opt->dev);
	cpuid_sum_up(cpuid, &cpu->features);
	free(cpuid);
	if (cpu_model_find(vm->opt->cpu_model))
		snprintf(cpu->features.model, CPU_MODEL_NAME_MAX, "%s",
			 vm->opt->cpu_model);
	cpu->tsc_khz = khz > 0 ? khz : 0;
	return 0;
}

static int describe_cpu(const struct move_cpu *cpu, struct migrate_facts *facts)
{
	const struct cpuid_summary *sum = &cpu->features;
	char name[NAME_LEN];
	unsigned int i;
	int ret;

	ret = migrate_fact(facts, "cpu", "%s", sum->identity);
	for (i = 0; i < CPUID_WORDS && !ret; i++) {
		memcpy(name, "cpu.", 4);
		cpuid_word_name(i, name + 4, sizeof(name) - 4);
		ret = migrate_fact(facts, name, "%08x", sum->word[i]);
	}
	for (i = 2; i < CPUID_XSTATES && !ret; i++) {
		snprintf(name, sizeof(name), "cpu.xstate%u", i);
		if (sum->xstate[i])
			ret = migrate_fact(facts, name, "%08x", sum->xstate[i]);
	}
	if (!ret && sum->model[0])
		ret = migrate_fact(facts, "cpu.model", "%s", sum->model);
	if (!ret)
		ret = migrate_fact(facts, "cpu.addresses", "%x",
				   sum->address_bits);
	if (!ret)
		ret = migrate_fact(facts, "tsc_khz", "%u", cpu->tsc_khz);
	return ret;
}

static int describe_devices(struct vm *vm, struct migrate_facts *facts)
{
	char *list = strdup("");
	struct device *dev;
	int ret = 0;
	char *more;

	for (dev = vm->devices.head; list && dev; dev = dev->next) {
		if (asprintf(&more, "%s%s%s", list, *list ? " " : "",
			     dev->name) < 0)
			more = NULL;
		free(list);
		list = more;
	}
	ret = list ? migrate_fact(facts, "devices", "%s", list) : -ENOMEM;
	free(list);
	return ret;
}

static int describe_disks(struct vm *vm, struct migrate_facts *facts)
{
	char name[NAME_LEN];
	int ret = 0;
	u32 i;

	for (i = 0; i < vm->opt->nr_disks && !ret; i++) {
		snprintf(name, sizeof(name), "disk%u.path", i);
		ret = migrate_fact(facts, name, "%s", disks_path(vm, i));
		snprintf(name, sizeof(name), "disk%u.size", i);
		if (!ret)
			ret = migrate_fact(facts, name, "%llu",
					   (unsigned long long)disks_size(vm, i));
	}
	return ret;
}

int move_describe(struct vm *vm, const struct move_cpu *cpu,
		  struct migrate_facts *facts)
{
	const struct option_args *args = &vm->opt->args;
	char name[NAME_LEN];
	int ret;
	u32 i;

	ret = migrate_fact(facts, "program", "pvhv-run " VMM_VERSION);
	for (i = 0; i < args->nr && !ret; i++) {
		snprintf(name, sizeof(name), "arg%u", i);
		ret = migrate_fact(facts, name, "%s", args->text[i]);
	}
	if (!ret)
		ret = describe_devices(vm, facts);
	if (!ret)
		ret = describe_disks(vm, facts);
	return ret ? ret : describe_cpu(cpu, facts);
}

int move_args(const struct migrate_facts *facts, struct option_args *args)
{
	char name[NAME_LEN];
	const char *text;
	u32 i;

	for (i = 0; i < OPTION_ARGS_MAX; i++) {
		snprintf(name, sizeof(name), "arg%u", i);
		text = migrate_fact_get(facts, name);
		if (!text)
			return 0;
		args->text[i] = strdup(text);
		if (!args->text[i])
			return fail(-ENOMEM, "out of memory");
		args->nr++;
	}
	return 0;
}

/* One that an older program did not look at: no such features. */
static int read_hex(const struct migrate_facts *facts, const char *name,
		    u32 *value)
{
	const char *text = migrate_fact_get(facts, name);
	char rest;

	*value = 0;
	return text && sscanf(text, "%x%c", value, &rest) != 1 ? -EBADMSG : 0;
}

static int read_summary(const struct migrate_facts *facts,
			struct cpuid_summary *sum)
{
	const char *text = migrate_fact_get(facts, "cpu");
	const char *model = migrate_fact_get(facts, "cpu.model");
	char name[NAME_LEN];
	unsigned int i;
	int ret = 0;

	memset(sum, 0, sizeof(*sum));
	if (!text)
		return -EBADMSG;
	snprintf(sum->identity, sizeof(sum->identity), "%s", text);
	/* What its name promises is not believed: features are compared. */
	if (model)
		snprintf(sum->model, sizeof(sum->model), "%s", model);
	for (i = 0; i < CPUID_WORDS && !ret; i++) {
		memcpy(name, "cpu.", 4);
		cpuid_word_name(i, name + 4, sizeof(name) - 4);
		ret = read_hex(facts, name, &sum->word[i]);
	}
	for (i = 2; i < CPUID_XSTATES && !ret; i++) {
		snprintf(name, sizeof(name), "cpu.xstate%u", i);
		ret = read_hex(facts, name, &sum->xstate[i]);
	}
	return ret ? ret : read_hex(facts, "cpu.addresses", &sum->address_bits);
}

/* Would what the guest was told of its CPU be true here? */
int move_check_cpu(struct vm *vm, const struct migrate_facts *facts, char *why)
{
	struct cpuid_summary theirs, ours;
	struct kvm_cpuid2 *host;

	if (read_summary(facts, &theirs)) {
		snprintf(why, MIGRATE_WHY_MAX, "what is said of its CPU makes no sense");
		return -EBADMSG;
	}
	host = cpuid_supported(vm->dev_fd);
	if (!host) {
		snprintf(why, MIGRATE_WHY_MAX, "cannot read the CPUID that this host supports");
		return -EIO;
	}
	cpuid_sum_up(host, &ours);
	free(host);
	return cpuid_match(&theirs, &ours, why, MIGRATE_WHY_MAX);
}

/*
 * Counters that agree within this are one rate to the kernel; other rates need
 * a CPU that scales.
 */
#define TSC_TOLERANCE_PPM	250

int move_check_tsc(struct vm *vm, const struct migrate_facts *facts, char *why)
{
	const char *text = migrate_fact_get(facts, "tsc_khz");
	u64 theirs = text ? strtoull(text, NULL, 10) : 0, apart;
	int khz = ioctl(vm->vcpus[0].fd, KVM_GET_TSC_KHZ, 0);

	if (!theirs || khz <= 0 ||
	    ioctl(vm->fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_CONTROL) > 0)
		return 0;
	apart = theirs > (u64)khz ? theirs - khz : khz - theirs;
	if (apart <= (u64)khz * TSC_TOLERANCE_PPM / 1000000)
		return 0;
	snprintf(why, MIGRATE_WHY_MAX, "the guest's TSC counts at %llu kHz, this host's at %d, and this host cannot scale it",
		 (unsigned long long)theirs, khz);
	return -EOPNOTSUPP;
}

/* A word of a list of words. */
static bool has_word(const char *list, const char *word, size_t len)
{
	for (; *list; list += strspn(list, " ")) {
		if (strcspn(list, " ") == len && !strncmp(list, word, len))
			return true;
		list += strcspn(list, " ");
	}
	return false;
}

/* The first word of @list that is not in @other. */
static const char *missing(const char *list, const char *other, int *len)
{
	for (; *list; list += strspn(list, " ")) {
		*len = strcspn(list, " ");
		if (!has_word(other, list, *len))
			return list;
		list += *len;
	}
	return NULL;
}

static int compare_disks(struct vm *vm, const struct migrate_facts *facts,
			 char *why)
{
	char name[NAME_LEN];
	const char *text;
	u64 size;
	u32 i;

	for (i = 0; i < vm->opt->nr_disks; i++) {
		snprintf(name, sizeof(name), "disk%u.size", i);
		text = migrate_fact_get(facts, name);
		size = text ? strtoull(text, NULL, 10) : disks_size(vm, i);
		if (size == disks_size(vm, i))
			continue;
		snprintf(why, MIGRATE_WHY_MAX, "disk%u is of %llu bytes there, '%.200s' here of %llu: name the same disk",
			 i, (unsigned long long)size, disks_path(vm, i),
			 (unsigned long long)disks_size(vm, i));
		return -EINVAL;
	}
	return 0;
}

int move_check_devices(struct vm *vm, const struct migrate_facts *facts,
		       char *why)
{
	const char *theirs = migrate_fact_get(facts, "devices"), *ours, *name;
	struct migrate_facts *own = migrate_facts_new();
	int ret, len;

	ret = own ? describe_devices(vm, own) : -ENOMEM;
	ours = ret ? NULL : migrate_fact_get(own, "devices");
	if (ours && theirs) {
		name = missing(theirs, ours, &len);
		if (name)
			snprintf(why, MIGRATE_WHY_MAX, "the machine there has '%.*s', the one here has not: give the same devices",
				 len, name);
		else if ((name = missing(ours, theirs, &len)))
			snprintf(why, MIGRATE_WHY_MAX, "the machine here has '%.*s', the one there has not: give the same devices",
				 len, name);
		ret = name ? -EINVAL : 0;
	}
	migrate_facts_free(own);
	return ret ? ret : compare_disks(vm, facts, why);
}

int move_blocks(struct vm *vm, struct migrate_block *list, unsigned int max)
{
	const struct mem *mem = &vm->mem;

	if (max < 2)
		return -E2BIG;
	list[0] = (struct migrate_block){
		.name = "low", .gpa = 0, .size = mem->low, .host = mem->host,
	};
	if (!mem->high)
		return 1;
	list[1] = (struct migrate_block){
		.name = "high", .gpa = HIGH_RAM_BASE, .size = mem->high,
		.host = mem->host + mem->low,
	};
	return 2;
}

int move_blocks_fresh(void *vm, struct migrate_block *list, unsigned int max)
{
	int nr = move_blocks(vm, list, max), i;

	for (i = 0; i < nr; i++)
		list[i].fresh = true;
	return nr;
}
