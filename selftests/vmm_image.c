// SPDX-License-Identifier: GPL-2.0
/*
 * Verifies how disk images are made, without making a Debian: tar2ext4's file systems hold what the tar does (types, owners,
 * modes, times, content, links, devices, extended attributes), pass e2fsck and are the same each time; its refusals; members that
 * are copied out; and what pvhvctl image debian refuses before it starts.
 *
 * Environment: PVHVCTL (the program).
 */
#include <archive.h>
#include <archive_entry.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

#define UUID	"11111111-2222-4333-8444-555555555555"
#define EPOCH	1700000000
#define LARGE	(3 << 20)

static char vmm[PATH_MAX - 64];		/* the folder of the programs */
static char dir[64];
static char out[16 * 1024];

static int run(const char *format, ...)
{
	char command[2 * PATH_MAX];
	va_list ap;
	ssize_t n;
	int len, fd, status;

	len = snprintf(command, sizeof(command), "cd %s && { ", dir);
	va_start(ap, format);
	len += vsnprintf(command + len, sizeof(command) - len, format, ap);
	va_end(ap);
	snprintf(command + len, sizeof(command) - len, "; } >out 2>&1 </dev/null");
	status = system(command);
	snprintf(command, sizeof(command), "%s/out", dir);
	fd = ASSERT_OK(open(command, O_RDONLY | O_CLOEXEC));
	n = ASSERT_OK(read(fd, out, sizeof(out) - 1));
	out[n] = 0;
	close(fd);
	ASSERT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static const char *file(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void start(void)
{
	strcpy(dir, "/tmp/pvhv-image.XXXXXX");
	ASSERT(mkdtemp(dir));
	setenv("SOURCE_DATE_EPOCH", "1700000000", 1);
	setenv("E2FSPROGS_FAKE_TIME", "1700000000", 1);
}

static void end(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ASSERT_EQ(system(command), 0);
}

/* --- tars --------------------------------------------------------------------------------------------------------- */

struct member {
	const char *path;
	mode_t mode;
	unsigned int uid, gid;
	const char *link;		/* of a symbolic link; of a hard link if mode is 0 */
	size_t size;			/* content: its own pattern */
	dev_t dev;
	const char *xattr;
};

static char long_target[300];

static const struct member members[] = {
	{ "./", S_IFDIR | 0755, 0, 0 },
	{ "./bin", S_IFLNK | 0777, 0, 0, .link = "usr/bin" },
	{ "./dev/", S_IFDIR | 0755, 0, 0 },
	{ "./dev/null", S_IFCHR | 0666, 0, 0, .dev = 0x103 },
	{ "./dev/big", S_IFBLK | 0660, 0, 6, .dev = (259ULL << 8 | 0x12) | (dev_t)0x345 << 20 },
	{ "./dev/pipe", S_IFIFO | 0600, 0, 0 },
	{ "./usr/", S_IFDIR | 0755, 0, 0 },
	{ "./usr/bin/", S_IFDIR | 0755, 0, 0 },
	{ "./usr/bin/su", S_IFREG | 04755, 0, 0, .size = 12345 },
	{ "./usr/bin/ping", S_IFREG | 0755, 0, 0, .size = 100, .xattr = "\1\0\0\2\0\40\0" },
	{ "./usr/bin/su2", 0, 0, 0, .link = "./usr/bin/su" },
	{ "./home/", S_IFDIR | 02775, 100000, 4000000000u },
	{ "./home/empty", S_IFREG | 0600, 65536, 65537 },
	{ "./home/large", S_IFREG | 0644, 1, 2, .size = LARGE },
	{ "./home/odd name \"\xc3\xa4\\", S_IFREG | 0644, 0, 0, .size = 1 },
	{ "./home/far", S_IFLNK | 0777, 7, 8, .link = long_target },
	{ "./boot/", S_IFDIR | 0755, 0, 0 },
	{ "./boot/vmlinuz-1", S_IFREG | 0644, 0, 0, .size = 70000 },
};

static u_int8_t pattern(size_t i)
{
	return i * 7 + (i >> 8) * 13 + (i >> 16);
}

static struct archive *new_tar(const char *name)
{
	struct archive *tar = archive_write_new();

	ASSERT_EQ(archive_write_set_format_pax(tar), 0);
	/* Names are bytes here, whatever the locale */
	ASSERT_EQ(archive_write_set_options(tar, "hdrcharset=BINARY"), 0);
	ASSERT_EQ(archive_write_open_filename(tar, file(name)), 0);
	return tar;
}

static void add(struct archive *tar, const struct member *m, time_t mtime)
{
	struct archive_entry *e = archive_entry_new();
	u_int8_t buf[4096];
	size_t at, i, n;

	archive_entry_set_pathname(e, m->path);
	archive_entry_set_mode(e, m->mode ? m->mode : S_IFREG | 0644);
	archive_entry_set_uid(e, m->uid);
	archive_entry_set_gid(e, m->gid);
	archive_entry_set_mtime(e, mtime, 0);
	archive_entry_set_size(e, m->size);
	if (m->link && m->mode)
		archive_entry_set_symlink(e, m->link);
	else if (m->link)
		archive_entry_set_hardlink(e, m->link);
	archive_entry_set_rdev(e, m->dev);
	if (m->xattr)
		archive_entry_xattr_add_entry(e, "security.capability", m->xattr, 8);
	ASSERT_EQ(archive_write_header(tar, e), 0);
	for (at = 0; at < m->size; at += n) {
		n = m->size - at < sizeof(buf) ? m->size - at : sizeof(buf);
		for (i = 0; i < n; i++)
			buf[i] = pattern(at + i);
		ASSERT_EQ(archive_write_data(tar, buf, n), n);
	}
	archive_entry_free(e);
}

static void finish_tar(struct archive *tar)
{
	ASSERT_EQ(archive_write_close(tar), 0);
	archive_write_free(tar);
}

/* All of the above, and more names than fit into a block */
static void make_tar(const char *name)
{
	struct archive *tar = new_tar(name);
	struct member m = { .mode = S_IFREG | 0644 };
	char path[80];
	unsigned int i;

	memset(long_target, 'x', sizeof(long_target) - 1);
	for (i = 0; i < ARRAY_SIZE(members); i++)
		add(tar, &members[i], EPOCH - 1000 - i);
	for (i = 0; i < 600; i++) {
		snprintf(path, sizeof(path), "./usr/bin/some-program-with-a-long-name-%u", i);
		m.path = path;
		add(tar, &m, EPOCH);
	}
	finish_tar(tar);
}

static int make_image(const char *tar, const char *image, const char *size, const char *args)
{
	ASSERT_EQ(run("rm -f %s && truncate -s %s %s && mke2fs -q -t ext4 -F -U " UUID " -E hash_seed=" UUID ",lazy_itable_init=1 %s",
		      image, size, image, image), 0);
	return run("%s/image/tar2ext4 %s %s <%s", vmm, image, args, tar);
}

/* --- what is in the image ------------------------------------------------------------------------------------------ */

static ext2_filsys fs;

static void check_content(ext2_ino_t ino, const struct member *m)
{
	u_int8_t buf[4096];
	ext2_file_t f;
	unsigned int n, i;
	size_t at = 0;

	ASSERT_EQ(ext2fs_file_open(fs, ino, 0, &f), 0);
	do {
		ASSERT_EQ(ext2fs_file_read(f, buf, sizeof(buf), &n), 0);
		for (i = 0; i < n; i++)
			ASSERT_EQ(buf[i], pattern(at + i));
		at += n;
	} while (n);
	ASSERT_EQ(at, m->size);
	ext2fs_file_close(f);
}

static void check_xattr(ext2_ino_t ino, const struct member *m)
{
	struct ext2_xattr_handle *xh;
	size_t len;
	void *value;

	ASSERT_EQ(ext2fs_xattrs_open(fs, ino, &xh), 0);
	ASSERT_EQ(ext2fs_xattrs_read(xh), 0);
	ASSERT_EQ(ext2fs_xattr_get(xh, "security.capability", &value, &len), 0);
	ASSERT(len == 8 && !memcmp(value, m->xattr, 8));
	ext2fs_free_mem(&value);
	ext2fs_xattrs_close(&xh);
}

static void check_member(const struct member *m, u_int32_t mtime)
{
	char *path = strdup(m->path + 1), target[400] = "";
	struct ext2_inode_large inode;
	ext2_ino_t ino;
	size_t len = strlen(path);

	if (len > 1 && path[len - 1] == '/')
		path[len - 1] = 0;
	ASSERT_MSG(!ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino), "no %s", path);
	ASSERT_EQ(ext2fs_read_inode_full(fs, ino, (struct ext2_inode *)&inode, sizeof(inode)), 0);
	if (!m->mode) {
		ASSERT_EQ(inode.i_links_count, 2);
		return;
	}
	ASSERT_MSG(inode.i_mode == m->mode, "%s: mode 0%o", path, inode.i_mode);
	ASSERT_EQ(inode_uid(inode), m->uid);
	ASSERT_EQ(inode_gid(inode), m->gid);
	ASSERT_EQ(inode.i_mtime, mtime);
	ASSERT_EQ(inode.i_atime, mtime);
	ASSERT_EQ(inode.i_ctime, mtime);
	ASSERT_EQ(inode.i_crtime, mtime);
	if (S_ISREG(m->mode)) {
		ASSERT(inode.i_flags & EXT4_EXTENTS_FL);
		check_content(ino, m);
	}
	if (S_ISLNK(m->mode)) {
		ASSERT_EQ(EXT2_I_SIZE(&inode), strlen(m->link));
		if (strlen(m->link) < sizeof(inode.i_block)) {
			ASSERT(!strcmp((char *)inode.i_block, m->link));
		} else {
			ext2_file_t f;

			ASSERT_EQ(ext2fs_file_open(fs, ino, 0, &f), 0);
			ASSERT_EQ(ext2fs_file_read(f, target, sizeof(target) - 1, NULL), 0);
			ASSERT(!strcmp(target, m->link));
			ext2fs_file_close(f);
		}
	}
	if (m->dev)
		ASSERT_EQ(major(m->dev) < 256 && minor(m->dev) < 256 ? inode.i_block[0] : inode.i_block[1],
			  (minor(m->dev) & 0xff) | major(m->dev) << 8 | (minor(m->dev) & ~0xffu) << 12);
	if (m->xattr)
		check_xattr(ino, m);
	free(path);
}

static void test_content(void)
{
	struct stat st;
	unsigned int i;

	start();
	make_tar("a.tar");
	ASSERT_MSG(make_image("a.tar", "a.img", "64M", "'boot/vmlinuz-*=kernel'") == 0, "%s", out);
	ASSERT_MSG(run("e2fsck -fn a.img") == 0, "%s", out);
	ASSERT_EQ(ext2fs_open(file("a.img"), EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs), 0);
	for (i = 0; i < ARRAY_SIZE(members); i++)
		check_member(&members[i], EPOCH - 1000 - i);
	ext2fs_close_free(&fs);
	ASSERT_EQ(run("debugfs -R 'ls -l /usr/bin' a.img 2>/dev/null | grep -c some-program"), 0);
	ASSERT(atoi(out) == 600);
	ASSERT_OK(stat(file("kernel"), &st));
	ASSERT_EQ(st.st_size, 70000);
	ASSERT_EQ(run("debugfs -R 'dump /boot/vmlinuz-1 again' a.img; cmp kernel again"), 0);
	end();
}

static void test_same(void)
{
	start();
	make_tar("a.tar");
	ASSERT_EQ(make_image("a.tar", "a.img", "64M", ""), 0);
	sleep(2);
	ASSERT_EQ(make_image("a.tar", "b.img", "64M", ""), 0);
	ASSERT_MSG(run("cmp a.img b.img") == 0, "%s", out);
	/* Compressed, as mmdebstrap's may be */
	ASSERT_EQ(run("gzip -n a.tar"), 0);
	ASSERT_EQ(make_image("a.tar.gz", "c.img", "64M", ""), 0);
	ASSERT_MSG(run("cmp a.img c.img") == 0, "%s", out);
	end();
}

static void one_member_tar(const char *name, const struct member *m)
{
	struct archive *tar = new_tar(name);

	add(tar, m, EPOCH);
	finish_tar(tar);
}

static void refused(const char *tar, const char *size, const char *args, const char *what)
{
	ASSERT_EQ(make_image(tar, "bad.img", size, args), 1);
	ASSERT_MSG(strstr(out, what) && !strncmp(out, "tar2ext4: ", 10) && strchr(out, '\n') == out + strlen(out) - 1, "%s", out);
}

static void test_refused(void)
{
	static const struct {
		struct member m;
		const char *what;
	} bad[] = {
		{ { "../up", S_IFREG | 0644 }, "not below the root directory" },
		{ { "/abs", S_IFREG | 0644 }, "not below the root directory" },
		{ { "a/../../up", S_IFREG | 0644 }, "not below the root directory" },
		{ { "no/dir", S_IFREG | 0644 }, "comes before its directory" },
		{ { "hard", 0, .link = "nowhere" }, "a link to nowhere, which has not come" },
	};
	unsigned int i;

	start();
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		one_member_tar("bad.tar", &bad[i].m);
		refused("bad.tar", "16M", "", bad[i].what);
	}
	make_tar("a.tar");
	refused("a.tar", "64M", "'boot/initrd-*=initrd'", "no member matches boot/initrd-*");
	refused("a.tar", "64M", "'usr/bin/*=programs'", "more than one member matches usr/bin/*");
	refused("a.tar", "64M", "nonsense", "'nonsense' is no PATTERN=FILE");
	refused("a.tar", "3M", "", "give a larger size");
	ASSERT_EQ(run("head -c 1000000 a.tar >short.tar"), 0);
	refused("short.tar", "64M", "", "standard input: ");
	ASSERT_EQ(run("head -c 100000 /dev/zero | tr '\\0' x >random.tar"), 0);
	refused("random.tar", "64M", "", "standard input: ");
	ASSERT_EQ(run("%s/image/tar2ext4 random.tar <a.tar", vmm), 1);
	ASSERT(strstr(out, "random.tar: opening it: "));
	ASSERT_EQ(run("%s/image/tar2ext4", vmm), 1);
	ASSERT(strstr(out, "usage: "));
	end();
}

static void test_debian_refused(void)
{
	static const struct {
		const char *args, *what;
	} bad[] = {
		{ "", "no name for the image" },
		{ "--bogus x", "unknown option '--bogus'" },
		{ "--suite", "--suite: no value" },
		{ "a b", "'b': a second image" },
		{ "there", "'there' exists" },
		{ "kernel-there", "'kernel-there.vmlinuz' exists" },
		{ "nowhere/x", "its directory cannot be written" },
		{ "--suite 'book worm' x", "--suite: 'book worm' is no name" },
		{ "--packages 'a;b' x", "--packages: 'a;b' is no list" },
		{ "--kernel '' x", "--kernel: '' is no package" },
		{ "--size 0G x", "--size: '0G' is no size" },
		{ "--hostname -x x", "--hostname: '-x' cannot be one" },
		{ "--uuid 123 x", "--uuid: '123' is none" },
		{ "--address 10.0.0.1 x", "--address: '10.0.0.1' is none" },
		{ "--ssh-key there x", "--ssh-key: 'there': no public key" },
		{ "--ssh-key nowhere x", "--ssh-key: 'nowhere': no public key" },
		{ "--mirror nowhere x", "--mirror: 'nowhere': no file that can be read" },
	};
	unsigned int i;

	start();
	ASSERT_EQ(run("touch there kernel-there.vmlinuz; command -v mmdebstrap && command -v mke2fs"), 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_MSG(run("%s/pvhvctl image debian %s", vmm, bad[i].args) == 1, "%s: %s", bad[i].args, out);
		ASSERT_MSG(!strncmp(out, "pvhvctl: image debian: ", 23) && strstr(out, bad[i].what) &&
			   strchr(out, '\n') == out + strlen(out) - 1, "%s: %s", bad[i].args, out);
	}
	/* Nothing is left, also where the suite is one that nobody has */
	ASSERT_EQ(run("echo 'deb file:/nowhere none main' >list; %s/pvhvctl image debian --suite none --mirror ./list x", vmm), 1);
	ASSERT_MSG(strstr(out, "pvhvctl: image debian: mmdebstrap failed"), "%s", out);
	ASSERT_EQ(run("ls -A"), 0);
	ASSERT_MSG(!strcmp(out, "kernel-there.vmlinuz\nlist\nout\nthere\n"), "%s", out);
	ASSERT_EQ(run("%s/pvhvctl image debian --help", vmm), 0);
	ASSERT(!strncmp(out, "usage: pvhvctl image debian", 27));
	end();
}

static const struct tap_test tests[] = {
	TEST(content),
	TEST(same),
	TEST(refused),
	TEST(debian_refused),
};

int main(int argc, char **argv)
{
	ssize_t n = readlink("/proc/self/exe", vmm, sizeof(vmm) - 32);
	char probe[PATH_MAX];

	ASSERT_GT(n, 0);
	strcpy(strrchr(vmm, '/'), "/../vmm");
	snprintf(probe, sizeof(probe), "%s/image/tar2ext4", vmm);
	if (access(probe, X_OK)) {
		printf("1..0 # SKIP no %s\n", probe);
		return KSFT_SKIP;
	}
	return tap_main(argc, argv, tests, ARRAY_SIZE(tests));
}
