// SPDX-License-Identifier: GPL-2.0-or-later
/* Copies a tree of files into memory. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"

static int complain(const char *doing, const char *path)
{
	int code = -errno;

	say("copying into memory: %s %s: %s", doing, path, strerror(-code));
	return code;
}

static int copy_file(const char *from, const char *to, const struct stat *facts)
{
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = -1;
	int code = 0;
	off_t left = facts->st_size;

	if (in < 0)
		return complain("opening", from);
	(void)unlink(to);
	out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, facts->st_mode & 07777);
	if (out < 0)
		code = complain("making", to);
	while (!code && left > 0) {
		ssize_t moved = sendfile(out, in, NULL, (size_t)left);

		if (moved <= 0)
			code = complain("writing", to);
		else
			left -= moved;
	}
	if (out >= 0)
		(void)close(out);
	(void)close(in);
	return code;
}

static int copy_link(const char *from, const char *to)
{
	char target[PATH_MAX];
	ssize_t length = readlink(from, target, sizeof(target) - 1);

	if (length < 0)
		return complain("reading the link", from);
	target[length] = '\0';
	(void)unlink(to);
	return symlink(target, to) == 0 ? 0 : complain("linking", to);
}

int copy_tree(const char *from, const char *to)
{
	struct stat facts;
	struct dirent *entry;
	DIR *directory;
	int code = 0;

	if (lstat(from, &facts) != 0)
		return complain("looking at", from);
	if (S_ISLNK(facts.st_mode))
		return copy_link(from, to);
	if (S_ISREG(facts.st_mode))
		return copy_file(from, to, &facts);
	if (!S_ISDIR(facts.st_mode))
		return 0;
	if (mkdir(to, facts.st_mode & 07777) != 0 && errno != EEXIST)
		return complain("making the directory", to);
	directory = opendir(from);
	if (!directory)
		return complain("listing", from);
	while (!code && (entry = readdir(directory)) != NULL) {
		char source[PATH_MAX];
		char copy[PATH_MAX];

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (snprintf(source, sizeof(source), "%s/%s", from, entry->d_name) >= (int)sizeof(source) ||
		    snprintf(copy, sizeof(copy), "%s/%s", to, entry->d_name) >= (int)sizeof(copy)) {
			errno = ENAMETOOLONG;
			code = complain("naming", from);
		} else {
			code = copy_tree(source, copy);
		}
	}
	(void)closedir(directory);
	return code;
}
