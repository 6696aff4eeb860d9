// SPDX-License-Identifier: GPL-2.0
/*
 * tar2ext4: fills an empty ext4 file system in an image with what a tar holds.
 *  1. Without a mount and without privileges: owners, devices and extended
 *     attributes are only numbers here.
 *  2. The same tar makes the same bytes: what is written depends on nothing
 *     but the tar and the empty file system.
 *  3. Members that match a pattern are also copied to files, such as a kernel
 *     to boot the image with.
 */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define EXTRACTS_MAX	8

struct extract {
	const char *pattern;	/* "boot/vmlinuz-*" */
	const char *path;
	int fd;
	unsigned int found;
};

static const char *image;
static ext2_filsys fs;
static struct extract extracts[EXTRACTS_MAX];
static unsigned int nr_extracts;

static void die(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

static void die(const char *fmt, ...)
{
	va_list ap;

	fputs("tar2ext4: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

static void check(errcode_t err, const char *path)
{
	if (err == EXT2_ET_BLOCK_ALLOC_FAIL || err == EXT2_ET_INODE_ALLOC_FAIL)
		die("%s: no room for %s: give a larger size", image, path);
	if (err)
		die("%s: %s: %s", image, path, error_message(err));
}

/* Directories. */

/* ext2fs_link(), and what makes new entries, does not make room by itself. */
static errcode_t grow_on(errcode_t err, ext2_ino_t dir)
{
	return err == EXT2_ET_DIR_NO_SPACE ? ext2fs_expand_dir(fs, dir) : err;
}

static void link_name(ext2_ino_t dir, const char *name, ext2_ino_t ino,
		      int type, const char *path)
{
	errcode_t err = ext2fs_link(fs, dir, name, ino, type);

	if (err == EXT2_ET_DIR_NO_SPACE) {
		check(ext2fs_expand_dir(fs, dir), path);
		err = ext2fs_link(fs, dir, name, ino, type);
	}
	check(err, path);
}

static ext2_ino_t lookup(const char *path)
{
	ext2_ino_t ino;

	if (!*path)
		return EXT2_ROOT_INO;
	return ext2fs_namei(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) ?
	       0 : ino;
}

static ext2_ino_t make_dir(ext2_ino_t dir, const char *name, const char *path)
{
	errcode_t err = ext2fs_mkdir(fs, dir, 0, name);
	ext2_ino_t ino;

	if (err) {
		check(grow_on(err, dir), path);
		check(ext2fs_mkdir(fs, dir, 0, name), path);
	}
	check(ext2fs_lookup(fs, dir, name, strlen(name), NULL, &ino), path);
	return ino;
}

/* The directory that holds @path, which is cut at its last slash. */
static ext2_ino_t parent_of(char *path, char **name)
{
	char *slash = strrchr(path, '/');
	ext2_ino_t dir;

	*name = slash ? slash + 1 : path;
	if (!slash)
		return EXT2_ROOT_INO;
	*slash = 0;
	dir = lookup(path);
	if (!dir)
		die("%s comes before its directory", path);
	return dir;
}

/* Inodes. */

static void set_meta(struct ext2_inode_large *inode, struct archive_entry *e)
{
	__u32 uid = archive_entry_uid(e), gid = archive_entry_gid(e);
	__u32 time = archive_entry_mtime(e);

	inode->i_mode = (inode->i_mode & LINUX_S_IFMT) |
			(archive_entry_mode(e) & ~LINUX_S_IFMT);
	inode->i_uid = uid;
	inode->osd2.linux2.l_i_uid_high = uid >> 16;
	inode->i_gid = gid;
	inode->osd2.linux2.l_i_gid_high = gid >> 16;
	inode->i_mtime = time;
	inode->i_atime = time;
	inode->i_ctime = time;
	inode->i_crtime = time;
	inode->i_mtime_extra = 0;
	inode->i_atime_extra = 0;
	inode->i_ctime_extra = 0;
	inode->i_crtime_extra = 0;
	inode->i_dtime = 0;
}

static void write_meta(ext2_ino_t ino, struct archive_entry *e,
		       const char *path)
{
	struct ext2_inode_large inode;

	check(ext2fs_read_inode_full(fs, ino, (struct ext2_inode *)&inode,
				     sizeof(inode)), path);
	set_meta(&inode, e);
	check(ext2fs_write_inode_full(fs, ino, (struct ext2_inode *)&inode,
				      sizeof(inode)), path);
}

static void write_xattrs(ext2_ino_t ino, struct archive_entry *e,
			 const char *path)
{
	struct ext2_xattr_handle *xh;
	const char *name;
	const void *value;
	size_t len;

	if (!archive_entry_xattr_reset(e))
		return;
	check(ext2fs_xattrs_open(fs, ino, &xh), path);
	check(ext2fs_xattrs_read(xh), path);
	while (!archive_entry_xattr_next(e, &name, &value, &len))
		check(ext2fs_xattr_set(xh, name, value, len), path);
	check(ext2fs_xattrs_close(&xh), path);
}

static ext2_ino_t new_inode(ext2_ino_t dir, struct archive_entry *e, mode_t type,
			    const char *path)
{
	struct ext2_inode_large inode = { .i_links_count = 1 };
	dev_t dev = archive_entry_rdev(e);
	ext2_extent_handle_t eh;
	ext2_ino_t ino;

	check(ext2fs_new_inode(fs, dir, type, NULL, &ino), path);
	ext2fs_inode_alloc_stats2(fs, ino, 1, 0);
	inode.i_mode = type;
	inode.i_extra_isize = sizeof(inode) - EXT2_GOOD_OLD_INODE_SIZE;
	set_meta(&inode, e);
	if (type == LINUX_S_IFREG)
		check(ext2fs_inode_size_set(fs, (struct ext2_inode *)&inode,
					    archive_entry_size(e)), path);
	/* Small device numbers have a place of their own. */
	if ((type == LINUX_S_IFCHR || type == LINUX_S_IFBLK) &&
	    major(dev) < 256 && minor(dev) < 256)
		inode.i_block[0] = major(dev) << 8 | minor(dev);
	else if (type == LINUX_S_IFCHR || type == LINUX_S_IFBLK)
		inode.i_block[1] = (minor(dev) & 0xff) | major(dev) << 8 |
				   (minor(dev) & ~0xffU) << 12;
	if (type == LINUX_S_IFREG) {
		check(ext2fs_extent_open2(fs, ino, (struct ext2_inode *)&inode,
					  &eh), path);
		ext2fs_extent_free(eh);
	}
	check(ext2fs_write_new_inode(fs, ino, (struct ext2_inode *)&inode),
	      path);
	/* That one writes the times of now. */
	write_meta(ino, e, path);
	return ino;
}

/* What a member's content goes to: the image, and files beside it. */

static void write_extracts(const char *path, const void *data, size_t len,
			   int64_t at)
{
	unsigned int i;

	for (i = 0; i < nr_extracts; i++) {
		struct extract *x = &extracts[i];

		if (fnmatch(x->pattern, path, FNM_PATHNAME))
			continue;
		if (pwrite(x->fd, data, len, at) != (ssize_t)len)
			die("%s: %s", x->path, strerror(errno));
	}
}

static void open_extracts(const char *path)
{
	unsigned int i;

	for (i = 0; i < nr_extracts; i++) {
		struct extract *x = &extracts[i];

		if (fnmatch(x->pattern, path, FNM_PATHNAME))
			continue;
		if (x->found++)
			die("more than one member matches %s", x->pattern);
		x->fd = open(x->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC,
			     0644);
		if (x->fd < 0)
			die("%s: %s", x->path, strerror(errno));
	}
}

static void write_content(ext2_ino_t ino, struct archive *tar, const char *path)
{
	const void *data;
	ext2_file_t file;
	unsigned int n;
	int64_t at;
	size_t len;
	int ret;

	open_extracts(path);
	check(ext2fs_file_open(fs, ino, EXT2_FILE_WRITE, &file), path);
	while (!(ret = archive_read_data_block(tar, &data, &len, &at))) {
		if (!len)
			continue;
		check(ext2fs_file_llseek(file, at, EXT2_SEEK_SET, NULL), path);
		check(ext2fs_file_write(file, data, len, &n), path);
		if (n != len)
			die("%s: %s: short write", image, path);
		write_extracts(path, data, len, at);
	}
	if (ret != ARCHIVE_EOF)
		die("standard input: %s", archive_error_string(tar));
	check(ext2fs_file_close(file), path);
}

/* Members. */

static void add_hardlink(ext2_ino_t dir, const char *name,
			 struct archive_entry *e, const char *path)
{
	const char *target = archive_entry_hardlink(e);
	struct ext2_inode inode;
	ext2_ino_t ino;

	while (!strncmp(target, "./", 2))
		target += 2;
	ino = lookup(target);
	if (!ino)
		die("%s: a link to %s, which has not come", path, target);
	check(ext2fs_read_inode(fs, ino, &inode), path);
	inode.i_links_count++;
	check(ext2fs_write_inode(fs, ino, &inode), path);
	link_name(dir, name, ino, EXT2_FT_REG_FILE, path);
}

static void add_symlink(ext2_ino_t dir, const char *name,
			struct archive_entry *e, const char *path)
{
	const char *target = archive_entry_symlink(e);
	errcode_t err = ext2fs_symlink(fs, dir, 0, name, target);
	ext2_ino_t ino;

	if (err) {
		check(grow_on(err, dir), path);
		check(ext2fs_symlink(fs, dir, 0, name, target), path);
	}
	check(ext2fs_lookup(fs, dir, name, strlen(name), NULL, &ino), path);
	write_meta(ino, e, path);
}

static void add_directory(const char *path, struct archive_entry *e)
{
	ext2_ino_t ino = lookup(path), dir;
	char *copy = strdup(path), *name;

	if (!copy)
		die("out of memory");
	if (!ino) {
		dir = parent_of(copy, &name);
		ino = make_dir(dir, name, path);
	}
	write_meta(ino, e, path);
	write_xattrs(ino, e, path);
	free(copy);
}

static void add_other(ext2_ino_t dir, const char *name, struct archive *tar,
		      struct archive_entry *e, const char *path)
{
	static const struct {
		mode_t type;
		int link;
	} types[] = {
		{ LINUX_S_IFREG, EXT2_FT_REG_FILE },
		{ LINUX_S_IFCHR, EXT2_FT_CHRDEV },
		{ LINUX_S_IFBLK, EXT2_FT_BLKDEV },
		{ LINUX_S_IFIFO, EXT2_FT_FIFO },
	};
	mode_t type = archive_entry_filetype(e);
	ext2_ino_t ino;
	unsigned int i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].type == type)
			break;
	if (i == sizeof(types) / sizeof(types[0]))
		die("%s: of unknown type 0%o", path, type);
	ino = new_inode(dir, e, type, path);
	link_name(dir, name, ino, types[i].link, path);
	if (type == LINUX_S_IFREG)
		write_content(ino, tar, path);
	write_xattrs(ino, e, path);
	/* Writing has touched the times. */
	write_meta(ino, e, path);
}

static void add_member(struct archive *tar, struct archive_entry *e)
{
	const char *path = archive_entry_pathname(e);
	char *copy, *name;
	ext2_ino_t dir;
	size_t len;

	while (!strncmp(path, "./", 2))
		path += 2;
	if (!strcmp(path, "."))
		path = "";
	copy = strdup(path);
	if (!copy)
		die("out of memory");
	len = strlen(copy);
	while (len && copy[len - 1] == '/')
		copy[--len] = 0;
	if (*copy == '/' || !strcmp(copy, "..") || !strncmp(copy, "../", 3) ||
	    strstr(copy, "/../"))
		die("%s: not below the root directory", path);
	if (archive_entry_filetype(e) == AE_IFDIR &&
	    !archive_entry_hardlink(e)) {
		add_directory(copy, e);
		free(copy);
		return;
	}
	path = strdup(copy);
	dir = parent_of(copy, &name);
	if (archive_entry_hardlink(e))
		add_hardlink(dir, name, e, path);
	else if (archive_entry_filetype(e) == AE_IFLNK)
		add_symlink(dir, name, e, path);
	else
		add_other(dir, name, tar, e, path);
	free((char *)path);
	free(copy);
}

static void fill(void)
{
	struct archive *tar = archive_read_new();
	struct archive_entry *e;
	int ret;

	archive_read_support_format_tar(tar);
	archive_read_support_filter_all(tar);
	if (archive_read_open_fd(tar, STDIN_FILENO, 1 << 20))
		die("standard input: %s", archive_error_string(tar));
	while (!(ret = archive_read_next_header(tar, &e)))
		add_member(tar, e);
	if (ret != ARCHIVE_EOF)
		die("standard input: %s", archive_error_string(tar));
	archive_read_free(tar);
}

static void finish(void)
{
	unsigned int i;

	check(ext2fs_close_free(&fs), "the end");
	for (i = 0; i < nr_extracts; i++) {
		if (!extracts[i].found)
			die("no member matches %s", extracts[i].pattern);
		if (close(extracts[i].fd))
			die("%s: %s", extracts[i].path, strerror(errno));
	}
}

int main(int argc, char **argv)
{
	const char *epoch = getenv("SOURCE_DATE_EPOCH");
	char *equals;
	int i;

	if (argc < 2 || argv[1][0] == '-')
		die("usage: tar2ext4 IMAGE [PATTERN=FILE]... <TAR");
	image = argv[1];
	for (i = 2; i < argc; i++) {
		equals = strchr(argv[i], '=');
		if (!equals || nr_extracts == EXTRACTS_MAX)
			die("'%s' is no PATTERN=FILE, or one too many", argv[i]);
		*equals = 0;
		extracts[nr_extracts].pattern = argv[i];
		extracts[nr_extracts++].path = equals + 1;
	}
	add_error_table(&et_ext2_error_table);
	check(ext2fs_open(image, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0,
			  unix_io_manager, &fs), "opening it");
	if (epoch)
		fs->now = strtoll(epoch, NULL, 10);
	check(ext2fs_read_bitmaps(fs), "its bitmaps");
	fill();
	finish();
	return 0;
}
