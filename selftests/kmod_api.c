// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies the ioctls of the device itself, with good and bad arguments, and the device file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm.h"

static void test_version(void)
{
	ASSERT_EQ(ioctl(sys_fd(), KVM_GET_API_VERSION, 0), 12);
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_API_VERSION, 1), EINVAL);
}

static void test_create_vm(void)
{
	int fd = SYS_IOCTL(KVM_CREATE_VM, 0), fd2;

	ASSERT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	fd2 = SYS_IOCTL(KVM_CREATE_VM, 0);
	ASSERT_NE(fd, fd2);
	ASSERT_ERR(ioctl(sys_fd(), KVM_CREATE_VM, 0xdead0000ul), EINVAL);
	ASSERT_ERR(ioctl(sys_fd(), KVM_CREATE_VM, ~0ul), EINVAL);
	close(fd);
	close(fd2);
}

static void test_check_extension(void)
{
	int vm = SYS_IOCTL(KVM_CREATE_VM, 0);

	ASSERT_EQ(sys_cap(100000), 0);
	ASSERT_EQ(ioctl(sys_fd(), KVM_CHECK_EXTENSION, ~0ul), 0);
	ASSERT_EQ(ioctl(sys_fd(), KVM_CHECK_EXTENSION, 1ul << 40), 0);
	/* Never an error, on the device and on VMs */
	for (int cap = 0; cap < 300; cap++) {
		ASSERT_GE(sys_cap(cap), 0);
		ASSERT_GE(ioctl(vm, KVM_CHECK_EXTENSION, cap), 0);
	}
}

static void test_mmap_size(void)
{
	int size = SYS_IOCTL(KVM_GET_VCPU_MMAP_SIZE, 0);

	ASSERT_GE(size, sizeof(struct kvm_run));
	ASSERT_EQ(size % PAGE_SIZE, 0);
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_VCPU_MMAP_SIZE, 1), EINVAL);
}

/* The protocol of lists: too small says E2BIG and how many there are */
static void msr_list(unsigned long cmd)
{
	struct kvm_msr_list head = { .nmsrs = 0 }, *list;
	unsigned int nr;
	int ret;

	ret = ioctl(sys_fd(), cmd, &head);
	ASSERT(ret == 0 || errno == E2BIG);
	nr = head.nmsrs;
	ASSERT(ret == 0 ? nr == 0 : nr > 0);
	ASSERT_LT(nr, 1000);
	list = calloc(1, sizeof(*list) + (nr + 2) * 4);
	if (nr) {
		list->nmsrs = nr - 1;
		ASSERT_ERR(ioctl(sys_fd(), cmd, list), E2BIG);
		ASSERT_EQ(list->nmsrs, nr);
	}
	list->nmsrs = nr + 1;
	list->indices[nr] = 0xa5a5a5a5;
	list->indices[nr + 1] = 0xa5a5a5a5;
	ASSERT_OK(ioctl(sys_fd(), cmd, list));
	ASSERT_EQ(list->nmsrs, nr);
	ASSERT_EQ(list->indices[nr], 0xa5a5a5a5);
	/* no duplicates */
	for (unsigned int i = 0; i < nr; i++)
		for (unsigned int j = 0; j < i; j++)
			ASSERT_NE(list->indices[i], list->indices[j]);
	ASSERT_ERR(ioctl(sys_fd(), cmd, NULL), EFAULT);
	free(list);
}

static void test_msr_lists(void)
{
	msr_list(KVM_GET_MSR_INDEX_LIST);
	if (sys_cap(KVM_CAP_GET_MSR_FEATURES) > 0)
		msr_list(KVM_GET_MSR_FEATURE_INDEX_LIST);
}

/* What the device lists as feature MSRs, it reads */
static void test_feature_msrs(void)
{
	struct kvm_msr_list head = { .nmsrs = 0 }, *list;
	struct kvm_msrs *msrs;

	REQUIRE_CAP(KVM_CAP_GET_MSR_FEATURES);
	ioctl(sys_fd(), KVM_GET_MSR_FEATURE_INDEX_LIST, &head);
	list = calloc(1, sizeof(*list) + head.nmsrs * 4);
	list->nmsrs = head.nmsrs;
	SYS_IOCTL(KVM_GET_MSR_FEATURE_INDEX_LIST, list);
	for (unsigned int i = 0; i < list->nmsrs; i++) {
		msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));
		msrs->nmsrs = 1;
		msrs->entries[0].index = list->indices[i];
		ASSERT_EQ(ioctl(sys_fd(), KVM_GET_MSRS, msrs), 1);
		free(msrs);
	}
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_MSRS, NULL), EFAULT);
}

static void test_supported_cpuid(void)
{
	struct kvm_cpuid2 *full = sys_supported_cpuid(), *c;
	const size_t size = sizeof(*c) + 512 * sizeof(c->entries[0]);

	c = calloc(1, size);
	for (unsigned int n = 0; n < full->nent; n += n < 2 ? 1 : 5) {
		c->nent = n;
		ASSERT_ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, c), E2BIG);
	}
	c->nent = full->nent;
	ASSERT_OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, c));
	ASSERT_EQ(c->nent, full->nent);
	c->nent = 500;
	ASSERT_OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, c));
	ASSERT_EQ(c->nent, full->nent);
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, NULL), EFAULT);
	/* A number that no memory could hold is no reason to allocate it */
	c->nent = 0xffffffff;
	ASSERT_OK(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, c));
	ASSERT_EQ(c->nent, full->nent);
}

/* Not readable to the end: the header lies at the end of a page */
static void test_edge_of_memory(void)
{
	char *page = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kvm_cpuid2 *c = (void *)(page + PAGE_SIZE - sizeof(*c));
	struct kvm_msr_list *l = (void *)(page + PAGE_SIZE - sizeof(*l));

	ASSERT(page != MAP_FAILED);
	munmap(page + PAGE_SIZE, PAGE_SIZE);
	c->nent = 200;
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_SUPPORTED_CPUID, c), EFAULT);
	l->nmsrs = 500;
	ASSERT_ERR(ioctl(sys_fd(), KVM_GET_MSR_INDEX_LIST, l), EFAULT);
}

static void test_unknown(void)
{
	static const unsigned long cmds[] = {
		_IO(KVMIO, 0x0f), _IO(KVMIO, 0xfe), _IO(0x12, 1), 0, ~0u, KVM_RUN, KVM_CREATE_VCPU,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cmds); i++) {
		ASSERT_EQ(ioctl(sys_fd(), cmds[i], 0), -1);
		ASSERT(errno == EINVAL || errno == ENOTTY);
	}
}

static void test_file(void)
{
	char c = 0;
	int fd;

	ASSERT_ERR(read(sys_fd(), &c, 1), EINVAL);
	ASSERT_ERR(write(sys_fd(), &c, 1), EINVAL);
	ASSERT(mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, sys_fd(), 0) == MAP_FAILED);
	fd = open(dev_path(), O_RDONLY);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ioctl(fd, KVM_GET_API_VERSION, 0), 12);
	close(fd);
}

int main(int argc, char **argv)
{
	static const struct tap_test tests[] = {
		TEST(version),
		TEST(create_vm),
		TEST(check_extension),
		TEST(mmap_size),
		TEST(msr_lists),
		TEST(feature_msrs),
		TEST(supported_cpuid),
		TEST(edge_of_memory),
		TEST(unknown),
		TEST(file),
	};

	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
