// SPDX-License-Identifier: GPL-2.0-or-later
/* Who keeps a file system from being unmounted: said at shutdown, when nobody can look any more. */

#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "boot.h"

static bool stands_on(const char *pid, const char *link, dev_t device)
{
	char path[300];
	struct stat facts;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/%.255s", pid, link);
	return stat(path, &facts) == 0 && facts.st_dev == device;
}

static bool has_open(const char *pid, dev_t device)
{
	char path[64];
	struct dirent *entry;
	DIR *directory;
	bool found = false;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/fd", pid);
	directory = opendir(path);
	while (directory && !found && (entry = readdir(directory)) != NULL) {
		char link[300];

		(void)snprintf(link, sizeof(link), "fd/%s", entry->d_name);
		found = isdigit((unsigned char)entry->d_name[0]) && stands_on(pid, link, device);
	}
	if (directory)
		(void)closedir(directory);
	return found;
}

/* A line of maps has "MAJOR:MINOR" in hex, one of mountinfo in decimal. */
static bool mentions(const char *pid, const char *name, const char *format, dev_t device)
{
	char path[64], wanted[32];
	char *line = NULL;
	size_t size = 0;
	bool found = false;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/%.16s", pid, name);
	(void)snprintf(wanted, sizeof(wanted), format[0] == 'x' ? " %02x:%02x " : " %u:%u ", major(device),
		       minor(device));
	file = fopen(path, "re");
	while (file && !found && getline(&line, &size, file) > 0)
		found = strstr(line, wanted) != NULL;
	free(line);
	if (file)
		(void)fclose(file);
	return found;
}

bool share_mounts(const char *one, const char *other)
{
	const char *const pids[] = { one, other };
	char path[64], links[2][64];
	ssize_t lengths[2];

	for (int i = 0; i < 2; i++) {
		(void)snprintf(path, sizeof(path), "/proc/%.20s/ns/mnt", pids[i]);
		lengths[i] = readlink(path, links[i], sizeof(links[i]));
	}
	return lengths[0] > 0 && lengths[0] == lengths[1] &&
	       memcmp(links[0], links[1], (size_t)lengths[0]) == 0;
}

static void say_holder(const char *pid, dev_t device)
{
	char path[64], name[32] = "?";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%.20s/comm", pid);
	file = fopen(path, "re");
	if (file) {
		if (fscanf(file, "%31s", name) != 1)
			name[0] = '\0';
		(void)fclose(file);
	}
	const char *by = stands_on(pid, "root", device)            ? "its root"
			 : stands_on(pid, "cwd", device)           ? "its directory"
			 : stands_on(pid, "exe", device)           ? "its program"
			 : has_open(pid, device)                   ? "an open file"
			 : mentions(pid, "maps", "x", device)      ? "a mapped file"
			 : mentions(pid, "mountinfo", "u", device) ? "its mount namespace"
								   : NULL;
	if (by && (strcmp(by, "its mount namespace") != 0 || !share_mounts(pid, "self")) &&
	    atoi(pid) != getpid())
		say("shutdown: process %s (%s) holds it by %s", pid, name, by);
}

void say_holders(const char *point)
{
	struct stat facts;
	struct dirent *entry;
	DIR *directory = opendir("/proc");

	if (stat(point, &facts) == 0)
		while (directory && (entry = readdir(directory)) != NULL)
			if (isdigit((unsigned char)entry->d_name[0]))
				say_holder(entry->d_name, facts.st_dev);
	if (directory)
		(void)closedir(directory);
}
