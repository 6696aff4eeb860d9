// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies KVM_GET_STATS_FD of VMs and vCPUs: the binary format is what the KVM API says, counters count, the fd is
 * read-only and outlives its VM; and that what hardware does for a guest counts nothing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apic.h"
#include "vm.h"

static struct vm *vm;
static struct vcpu *vcpu;

static void guest_exits(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++)
		guest_cpuid(0, 0);
}

static void start(void)
{
	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_exits, 100);
}

struct stats {
	int fd;
	struct kvm_stats_header h;
	char *descs;
	size_t desc_size;
};

static void read_at(int fd, void *buf, size_t size, off_t offset)
{
	ASSERT_EQ(pread(fd, buf, size, offset), size);
}

static struct kvm_stats_desc *desc(struct stats *s, unsigned int i)
{
	return (void *)(s->descs + i * s->desc_size);
}

static struct stats open_stats(int owner)
{
	struct stats s;

	s.fd = ASSERT_OK(ioctl(owner, KVM_GET_STATS_FD, 0));
	read_at(s.fd, &s.h, sizeof(s.h), 0);
	ASSERT_GT(s.h.num_desc, 0);
	ASSERT_LT(s.h.num_desc, 1000);
	ASSERT_GT(s.h.name_size, 0);
	s.desc_size = sizeof(struct kvm_stats_desc) + s.h.name_size;
	s.descs = malloc(s.h.num_desc * s.desc_size);
	read_at(s.fd, s.descs, s.h.num_desc * s.desc_size, s.h.desc_offset);
	return s;
}

static void check_format(struct stats *s)
{
	char id[256] = "";
	size_t data_size = 0;
	uint64_t *data;

	ASSERT_EQ(s->h.flags, 0);
	ASSERT_GE(s->h.id_offset, sizeof(s->h));
	ASSERT_GE(s->h.desc_offset, sizeof(s->h));
	ASSERT_GE(s->h.data_offset, s->h.desc_offset + s->h.num_desc * s->desc_size);
	ASSERT_LT(s->h.name_size, sizeof(id));
	read_at(s->fd, id, s->h.name_size, s->h.id_offset);
	/* Clients know the kind of file by how its name begins */
	ASSERT(!strncmp(id, "kvm-", 4));
	for (unsigned int i = 0; i < s->h.num_desc; i++) {
		struct kvm_stats_desc *d = desc(s, i);

		ASSERT_GT(strnlen(d->name, s->h.name_size), 0);
		ASSERT_LT(strnlen(d->name, s->h.name_size), s->h.name_size);
		ASSERT_LE(d->flags & KVM_STATS_TYPE_MASK, KVM_STATS_TYPE_MAX);
		ASSERT_LE(d->flags & KVM_STATS_UNIT_MASK, KVM_STATS_UNIT_MAX);
		ASSERT_LE(d->flags & KVM_STATS_BASE_MASK, KVM_STATS_BASE_MAX);
		ASSERT_GT(d->size, 0);
		switch (d->flags & KVM_STATS_TYPE_MASK) {
		case KVM_STATS_TYPE_LINEAR_HIST:
			ASSERT_GT(d->bucket_size, 0);
			break;
		case KVM_STATS_TYPE_LOG_HIST:
			break;
		default:
			ASSERT_EQ(d->size, 1);
		}
		ASSERT_EQ(d->offset % 8, 0);
		if (d->offset + d->size * 8 > data_size)
			data_size = d->offset + d->size * 8;
		for (unsigned int j = 0; j < i; j++) {
			struct kvm_stats_desc *e = desc(s, j);

			ASSERT(strcmp(d->name, e->name));
			ASSERT(d->offset + d->size * 8 <= e->offset || e->offset + e->size * 8 <= d->offset);
		}
	}
	data = malloc(data_size);
	read_at(s->fd, data, data_size, s->h.data_offset);
	/* in pieces it is the same; beyond the end there is nothing */
	ASSERT_EQ(pread(s->fd, id, 3, s->h.data_offset + 1), 3);
	ASSERT_EQ(pread(s->fd, id, 8, s->h.data_offset + data_size + 4096), 0);
	ASSERT_EQ(write(s->fd, id, 1), -1);
}

static int64_t value(struct stats *s, const char *name)
{
	uint64_t v;

	for (unsigned int i = 0; i < s->h.num_desc; i++) {
		if (strcmp(desc(s, i)->name, name))
			continue;
		read_at(s->fd, &v, 8, s->h.data_offset + desc(s, i)->offset);
		return v;
	}
	return -1;
}

static void test_vm(void)
{
	struct stats s;

	start();
	s = open_stats(vm->fd);
	check_format(&s);
}

static void test_vcpu(void)
{
	struct stats s;

	start();
	s = open_stats(vcpu->fd);
	check_format(&s);
}

static void test_counts(void)
{
	struct stats s;
	int64_t before;

	start();
	s = open_stats(vcpu->fd);
	before = value(&s, "exits");
	ASSERT_GE(before, 0);
	vcpu_run_done(vcpu);
	ASSERT_GE(value(&s, "exits"), before + 100);
	ASSERT_LT(value(&s, "exits"), before + 100000);
}

#define CR8_ACCESSES	2000

static void guest_cr8(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		GUEST_WRREG(cr8, i % 16);
		GUEST_ASSERT_EQ(GUEST_RDREG(cr8), i % 16);
	}
	GUEST_WRREG(cr8, 9);
}

/* Hardware keeps a task priority that holds nothing back */
static void test_cr8_does_not_exit(void)
{
	struct kvm_lapic_state lapic;
	struct stats s;

	vm = vm_create(VM_IRQCHIP);
	vcpu = vcpu_add(vm, 0, guest_cr8, CR8_ACCESSES);
	s = open_stats(vcpu->fd);
	vcpu_run_done(vcpu);
	ASSERT_LT(value(&s, "exits"), CR8_ACCESSES / 4);
	VCPU_IOCTL(vcpu, KVM_GET_LAPIC, &lapic);
	ASSERT_EQ(lapic.regs[APIC_TPR] & 0xf0, 0x90);
}

/* A second fd shows the same; both outlive vCPU and VM */
static void test_lifetime(void)
{
	struct stats a, b, v;
	int64_t exits;

	start();
	a = open_stats(vcpu->fd);
	b = open_stats(vcpu->fd);
	v = open_stats(vm->fd);
	vcpu_run_done(vcpu);
	exits = value(&a, "exits");
	ASSERT_EQ(exits, value(&b, "exits"));
	close(a.fd);
	vm_destroy(vm);
	ASSERT_EQ(exits, value(&b, "exits"));
	check_format(&v);
	close(b.fd);
	close(v.fd);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(vm),
		TEST(vcpu),
		TEST(counts),
		TEST(cr8_does_not_exit),
		TEST(lifetime),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
