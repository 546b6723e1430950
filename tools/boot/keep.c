// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The unit's program after switch_root.
 *
 * Where the initramfs had systemd, the unit knows the launcher from there.  Where it had none (initramfs-tools), the
 * launcher is a child of PID 1 that systemd moved to init.scope with all it found: then it becomes the unit's main
 * process, and it and its children move to the unit's control group, as if systemd had started them.  Where no
 * launcher lives, another one is run, which adopts the worker.
 */

#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "boot.h"

#define CONTROL_GROUPS "/sys/fs/cgroup"

static int read_pid(const char *file, const char *format)
{
	FILE *stream = fopen(file, "re");
	int pid = 0;

	if (!stream)
		return 0;
	if (fscanf(stream, format, &pid) != 1)
		pid = 0;
	(void)fclose(stream);
	return pid;
}

/* The launcher, if it lives: the parent of a worker; PID 1 is the parent of one whose launcher died. */
static int launcher_of(int worker)
{
	char path[64], name[16] = "";
	int parent;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/stat", worker);
	/* the second field is a name in parentheses; ours has none of its own */
	parent = read_pid(path, "%*d (%*[^)]) %*c %d");
	if (parent <= 1)
		return 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", parent);
	file = fopen(path, "re");
	if (file) {
		if (!fgets(name, sizeof(name), file))
			name[0] = '\0';
		(void)fclose(file);
	}
	return strcmp(name, PROCESS_NAME) == 0 ? parent : 0;
}

/* Moves one process to the control group of this one; elsewhere than under cgroup v2 it stays where it is. */
static void take_in(int pid)
{
	char line[512], path[600];
	FILE *file = fopen("/proc/self/cgroup", "re");
	bool found = false;

	while (file && !found && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::/", 4) == 0;
	}
	if (file)
		(void)fclose(file);
	if (!found)
		return;
	(void)snprintf(path, sizeof(path), CONTROL_GROUPS "%s/cgroup.procs", line + 3);
	file = fopen(path, "we");
	if (!file)
		return;
	(void)fprintf(file, "%d\n", pid);
	if (fclose(file) != 0 && errno != ESRCH)
		say("keeping: moving process %d to %s: %s", pid, path, strerror(errno));
}

static void take_all_in(int launcher)
{
	DIR *directory = opendir("/proc");
	struct dirent *entry;
	char name[16];

	/* the launcher first: what it forks from then on is where it is */
	take_in(launcher);
	(void)snprintf(name, sizeof(name), "%d", launcher);
	while (directory && (entry = readdir(directory)) != NULL)
		if (isdigit((unsigned char)entry->d_name[0]) && share_mounts(entry->d_name, name))
			take_in(atoi(entry->d_name));
	if (directory)
		(void)closedir(directory);
}

static int notify(const char *words)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	size_t length = path ? strlen(path) : 0;
	int code = -1;
	int fd;

	if (!length || length >= sizeof(address.sun_path)) {
		errno = EDESTADDRREQ;
		return -1;
	}
	memcpy(address.sun_path, path, length);
	if (path[0] == '@')
		address.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (sendto(fd, words, strlen(words), 0, (struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) == (ssize_t)strlen(words))
		code = 0;
	(void)close(fd);
	return code;
}

int keep(int count, char **arguments)
{
	int worker = read_pid(arguments[0], "%d");
	int launcher = worker > 0 ? launcher_of(worker) : 0;
	char words[64];

	if (!launcher)
		return join_world(count, arguments);
	take_all_in(launcher);
	(void)snprintf(words, sizeof(words), "MAINPID=%d\nREADY=1\n", launcher);
	if (notify(words) != 0) {
		say("keeping: telling the service manager of launcher %d: %s", launcher, strerror(errno));
		return 1;
	}
	return 0;
}
