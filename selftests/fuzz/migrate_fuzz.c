// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzz target for what reads streams of machines: the destination's side of a live migration and the restoring of files (migrate/),
 * with machines of memory and a disk.
 *
 *   libFuzzer, replay and sources: see migrate-fuzz.sh
 *
 * Input: a byte that says how it is read (bit 0: as a file; bit 1: checksums are made right first, so that what lies behind them is
 * reached; bit 2: the machine has two pages), then the stream. What must hold: nothing is written but the machine's memory, a
 * failure has a reason, a machine that is not ours does not run.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../migrate/mig.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size);

#define LOW_PAGES	3
#define HIGH_PAGES	130
#define FUZZ_DISK_LEN	(3 * MIGRATE_CHUNK + 512)

#define CHECK(cond)									\
	do {										\
		if (!(cond)) {								\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);	\
			abort();							\
		}									\
	} while (0)

struct machine {
	u8 *ram[2];
	u64 pages[2];
	const u8 *stream;
	size_t len;
	u8 *disk;
	bool connected, running, loaded, unflushed;
};

/* A carrier that is the input, in pieces */
struct input_io {
	struct migrate_io io;
	struct machine *vm;
};

static long input_read(struct migrate_io *io, void *data, size_t len)
{
	struct machine *vm = ((struct input_io *)io)->vm;

	len = MIN(len, vm->len);
	memcpy(data, vm->stream, len);
	vm->stream += len;
	vm->len -= len;
	return len;
}

static long input_write(struct migrate_io *io, const void *data, size_t len)
{
	(void)io;
	(void)data;
	return len;
}

static int input_poll(struct migrate_io *io, bool writing, short *events)
{
	(void)io;
	(void)writing;
	*events = 0;
	return -1;
}

static void input_close(struct migrate_io *io)
{
	free(io);
}

static const struct migrate_io_ops input_ops = {
	.read = input_read, .write = input_write, .poll = input_poll, .close = input_close,
};

static int connection(void *arg, struct migrate_io **io, int timeout_ms)
{
	struct machine *vm = arg;
	struct input_io *in;

	(void)timeout_ms;
	if (vm->connected)
		return -ECONNREFUSED;
	vm->connected = true;
	in = calloc(1, sizeof(*in));
	in->io.ops = &input_ops;
	in->vm = vm;
	*io = &in->io;
	return 0;
}

static int blocks(void *arg, struct migrate_block *list, unsigned int max)
{
	struct machine *vm = arg;
	unsigned int i;

	for (i = 0; i < 2 && i < max; i++) {
		memset(&list[i], 0, sizeof(list[i]));
		strcpy(list[i].name, i ? "high" : "low");
		list[i].gpa = (u64)i << 32;
		list[i].size = vm->pages[i] * PAGE_SIZE;
		list[i].host = vm->ram[i];
		list[i].fresh = i;
	}
	return 2;
}

static int check_facts(void *arg, const struct migrate_facts *theirs, char *why)
{
	struct migrate_facts *ours = migrate_facts_new();

	(void)arg;
	migrate_fact(ours, "cpu", "a");
	migrate_facts_compare(theirs, ours, why);
	CHECK(strlen(why) < MIGRATE_WHY_MAX);
	migrate_facts_free(ours);
	return 0;
}

static int disks(void *arg, struct migrate_disk *list, unsigned int max)
{
	(void)arg;
	(void)max;
	memset(list, 0, sizeof(*list));
	strcpy(list->name, "disk0");
	list->size = FUZZ_DISK_LEN;
	return 1;
}

static int disk_write(void *arg, unsigned int disk, uint64_t offset, const void *data, uint64_t len)
{
	struct machine *vm = arg;

	CHECK(!disk && len && offset <= FUZZ_DISK_LEN && len <= FUZZ_DISK_LEN - offset && !vm->loaded);
	if (data)
		memcpy(vm->disk + offset, data, len);
	else
		memset(vm->disk + offset, 0, len);
	vm->unflushed = true;
	return 0;
}

static int disk_flush(void *arg)
{
	((struct machine *)arg)->unflushed = false;
	return 0;
}

static int load(void *arg, const void *data, size_t len, char *why)
{
	static u8 sum;
	const u8 *p = data;

	(void)why;
	CHECK(!((struct machine *)arg)->unflushed);
	((struct machine *)arg)->loaded = true;
	while (len--)
		sum += *p++;
	return 0;
}

static int resume(void *arg)
{
	struct machine *vm = arg;

	CHECK(vm->loaded);
	vm->running = true;
	return 0;
}

static const struct migrate_ops ops = {
	.blocks = blocks, .check = check_facts, .load = load, .resume = resume, .connection = connection,
	.disks = disks, .disk_write = disk_write, .disk_flush = disk_flush,
};

/* Each header and section that is recognisable gets right checksums and numbers */
static void make_right(u8 *data, size_t size)
{
	size_t at = HDR_LEN;
	u64 len, number = 0;

	if (size < HDR_LEN)
		return;
	memcpy(data, FMT_MAGIC, FMT_MAGIC_LEN);
	put32(data + HDR_VERSION, FMT_VERSION);
	put32(data + HDR_PAGE_SIZE, PAGE_SIZE);
	put32(data + HDR_CRC, crc32c(0, data, HDR_CRC));
	while (size - at >= SEC_LEN) {
		len = get64(data + at + SEC_LENGTH);
		put32(data + at, SEC_MAGIC);
		put64(data + at + SEC_NUMBER, number++);
		if (len <= size - at - SEC_LEN)
			put32(data + at + SEC_PAYLOAD_CRC, crc32c(0, data + at + SEC_LEN, len));
		put32(data + at + SEC_CRC, crc32c(0, data + at, SEC_CRC));
		if (len > size - at - SEC_LEN)
			return;
		len = (len + 7) & ~7ull;
		if (len > size - at - SEC_LEN)
			return;
		at += SEC_LEN + len;
	}
}

static void as_file(struct machine *vm)
{
	char why[MIGRATE_WHY_MAX];
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, vm->stream, vm->len) == (ssize_t)vm->len && !lseek(fd, 0, SEEK_SET));
	/* Not mapped: the sanitizers watch what is written to. */
	CHECK(!migrate_restore(&ops, vm, fd, false, why) == !*why);
	CHECK(!vm->running);
	close(fd);
}

static void as_migration(struct machine *vm)
{
	struct migrate_params params;
	struct migrate_result result;
	struct migrate *m;

	migrate_params_init(&params);
	params.stall_ms = 1;
	CHECK(!migrate_receive(&m, &ops, vm, &params));
	migrate_wait(m, &result);
	CHECK(!result.err == !*result.why);
	CHECK(vm->running == (result.owner == MIGRATE_HERE));
	CHECK(!vm->running || !result.err);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
	struct machine vm = { .len = size ? size - 1 : 0 };
	u8 *stream;

	if (!size)
		return 0;
	stream = malloc(vm.len);
	CHECK(stream || !vm.len);
	if (vm.len)
		memcpy(stream, input + 1, vm.len);
	if (input[0] & 2)
		make_right(stream, vm.len);
	vm.stream = stream;
	vm.pages[0] = input[0] & 4 ? 1 : LOW_PAGES;
	vm.pages[1] = input[0] & 4 ? 1 : HIGH_PAGES;
	vm.ram[0] = calloc(vm.pages[0], PAGE_SIZE);
	vm.ram[1] = calloc(vm.pages[1], PAGE_SIZE);
	vm.disk = malloc(FUZZ_DISK_LEN);
	CHECK(vm.ram[0] && vm.ram[1] && vm.disk);
	if (input[0] & 1)
		as_file(&vm);
	else
		as_migration(&vm);
	free(vm.ram[0]);
	free(vm.ram[1]);
	free(vm.disk);
	free(stream);
	return 0;
}

#ifdef REPLAY
static size_t put_section(u8 *at, u32 type, const u8 *payload, size_t len)
{
	put16(at + SEC_TYPE, type);
	put16(at + SEC_FLAGS, type == TYPE_MEMORY ? SEC_REQUIRED | SEC_UNSUMMED : SEC_REQUIRED);
	put64(at + SEC_LENGTH, len);
	memcpy(at + SEC_LEN, payload, len);
	return SEC_LEN + ((len + 7) & ~7ull);
}

/* A stream that is right but for what is random in it */
static size_t random_stream(u8 *buf, unsigned int *seed)
{
	static const u8 types[] = {
		TYPE_PAGES, TYPE_PAGES, TYPE_PAGES, TYPE_DISK, TYPE_DISK, TYPE_DISK, TYPE_ROUND, TYPE_STATE, TYPE_END, TYPE_YOURS,
		TYPE_SUMS,
	};
	u8 payload[640];
	size_t at = 1 + HDR_LEN, len, i;
	unsigned int n, type;

	memset(buf, 0, 8192);
	buf[0] = rand_r(seed) % 4 ? 2 | rand_r(seed) % 2 : rand_r(seed);
	put32(buf + 1 + HDR_FLAGS, rand_r(seed) % 4 ? HDR_ONEWAY : rand_r(seed) % 8u);
	put32(buf + 1 + HDR_CONNECTIONS, 1);
	memset(payload, 0, sizeof(payload));
	at += put_section(buf + at, TYPE_FACTS, payload, 8);
	if (rand_r(seed) % 4) {
		put32(payload, 1 + rand_r(seed) % 2);
		strcpy((char *)payload + 8, "disk0");
		put64(payload + 40, FUZZ_DISK_LEN);
		strcpy((char *)payload + 48, "disk1");
		put64(payload + 80, rand_r(seed) % 4 * 512);
		at += put_section(buf + at, TYPE_DISKS, payload, 8 + get32(payload) * 40);
		memset(payload, 0, sizeof(payload));
	}
	put32(payload, 2);
	strcpy((char *)payload + 8, "low");
	put64(payload + 8 + BLOCK_SIZE, LOW_PAGES * PAGE_SIZE);
	strcpy((char *)payload + 64, "high");
	put64(payload + 64 + BLOCK_GPA, 1ull << 32);
	put64(payload + 64 + BLOCK_SIZE, HIGH_PAGES * PAGE_SIZE);
	at += put_section(buf + at, TYPE_BLOCKS, payload, 120);
	for (n = rand_r(seed) % 8; n; n--) {
		type = types[rand_r(seed) % sizeof(types)];
		len = type == TYPE_PAGES ? 16 + rand_r(seed) % 500 : type == TYPE_DISK ? 24 + rand_r(seed) % 3 * 256 : type == TYPE_ROUND ? 8 : rand_r(seed) % 40;
		for (i = 0; i < len; i++)
			payload[i] = rand_r(seed) % 4 ? 0 : rand_r(seed);
		if (type == TYPE_PAGES) {
			put32(payload, rand_r(seed) % 3);
			put32(payload + 4, 1 + rand_r(seed) % 4);
			put32(payload + 8, rand_r(seed) % 8 == 0);
			put32(payload + 12, len - 16 - 8 * get32(payload + 4));
		}
		if (type == TYPE_DISK) {
			put32(payload, rand_r(seed) % 8 == 0);
			put32(payload + 4, rand_r(seed) % 4);
			put64(payload + 8, (u64)(rand_r(seed) % 5) * MIGRATE_CHUNK);
			put64(payload + 16, rand_r(seed) % 4 ? len - 24 :
			      (u64)(rand_r(seed) % 5) * MIGRATE_CHUNK + rand_r(seed) % 2 * 512);
		}
		at += put_section(buf + at, type, payload, len);
	}
	for (n = rand_r(seed) % 4; n; n--)
		buf[rand_r(seed) % at] = rand_r(seed);
	return at;
}

static void replay_random(unsigned long count)
{
	static u8 buf[8192];
	unsigned int seed = 1;

	while (count--)
		LLVMFuzzerTestOneInput(buf, random_stream(buf, &seed));
}

#include "replay.h"
#endif
