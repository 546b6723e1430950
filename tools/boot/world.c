// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A world of its own.
 *
 * A process of the initramfs that lives on after switch_root loses its files: on 6.12 its "/" is an emptied
 * rootfs (/dev/ublkcN is gone, and with it every recovery), on 7.2 it stands on the disk it serves.  So isboot
 * runs in a mount namespace rooted in a ramfs (never swapped, never written back) with a copy of all it needs.
 *
 * rootfs cannot be pivoted away on 6.12, so the ramfs is moved over it: MS_MOVE.  This happens before /sysroot
 * is mounted: a namespace that holds the root's mount would keep it from being unmounted at the end.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "boot.h"

#define WORLD "/run/isboot/world"
#define RUN_TEMPLATE "/usr/lib/isboot/run"
#define AT_SHUTDOWN "/run/initramfs"
enum { MAX_MOUNTS = 256 };

static int fail(const char *doing, const char *what)
{
	say("making a world in memory: %s %s: %s", doing, what, strerror(errno));
	return 1;
}

/* Programs find Python's library by argv[0]; ours is "@isboot", which would lead it to the root disk. */
static int become(char **arguments)
{
	static char home[] = "PYTHONHOME=/usr";
	static char path[] = "PYTHONPATH=/usr/lib/python3/dist-packages";
	static char heap[] = "PYTHONMALLOC=malloc"; /* one heap, which isboot_process_harden() keeps */
	static char bytecode[] = "PYTHONDONTWRITEBYTECODE=1";
	static char programs[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	static char language[] = "LC_ALL=C.UTF-8";
	static char name[] = PROCESS_NAME;
	char notify[PATH_MAX] = "NOTIFY_SOCKET=";
	char *environment[] = { home, path, heap, bytecode, programs, language, NULL, NULL };
	const char *socket = getenv("NOTIFY_SOCKET");
	char *program = arguments[0];

	/* what we were given lies on the host's /dev, which would keep the root from being unmounted */
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int messages = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (null >= 0)
		(void)dup2(null, STDIN_FILENO);
	if (messages >= 0) {
		(void)dup2(messages, STDOUT_FILENO);
		(void)dup2(messages, STDERR_FILENO);
	}
	if (socket) {
		(void)strncat(notify, socket, sizeof(notify) - strlen(notify) - 1);
		environment[6] = notify;
	}
	arguments[0] = name;
	(void)execve(program, arguments, environment);
	return fail("running", program);
}

/* Detaches every mount but "/", the one that holds the world, and what is beneath the world. */
static void detach_others(void)
{
	static char points[MAX_MOUNTS][PATH_MAX];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t size = 0;
	int count = 0;

	while (mounts && count < MAX_MOUNTS && getline(&line, &size, mounts) > 0) {
		char point[PATH_MAX];

		if (sscanf(line, "%*d %*d %*s %*s %4095s", point) != 1)
			continue;
		if (strcmp(point, "/") == 0 || strcmp(point, "/run") == 0 ||
		    strncmp(point, WORLD, strlen(WORLD)) == 0)
			continue;
		(void)snprintf(points[count++], PATH_MAX, "%s", point);
	}
	free(line);
	if (mounts)
		(void)fclose(mounts);
	while (count-- > 0)
		(void)umount2(points[count], MNT_DETACH); /* children come later in the list, so go first */
}

/*
 * Makes programs under a directory of /run executable.  initramfs-tools mounts /run noexec, and the host keeps it
 * so: systemd-shutdown would ask access(2) for /run/initramfs/shutdown, be told no, and leave the root unflushed.
 */
static int allow_programs(const char *directory)
{
	(void)mkdir(directory, 0755);
	if (mount(directory, directory, NULL, MS_BIND, NULL) != 0 ||
	    mount(NULL, directory, NULL, MS_BIND | MS_REMOUNT | MS_NOSUID | MS_NODEV, NULL) != 0)
		return fail("making programs executable under", directory);
	return 0;
}

static int enter(void)
{
	if (chdir(WORLD) != 0)
		return fail("entering", WORLD);
	if (mount(".", "/", NULL, MS_MOVE, NULL) != 0)
		return fail("moving it over", "/");
	if (chroot(".") != 0 || chdir("/") != 0)
		return fail("changing root to", WORLD);
	return 0;
}

int world(int count, char **arguments)
{
	static const char *const directories[] = { WORLD "/dev", WORLD "/proc", WORLD "/sys", WORLD "/run",
						   WORLD "/tmp" };

	if (count < 2) {
		say("usage: isboot-boot world TREE PROGRAM [ARGUMENT ...]");
		return 2;
	}
	/* what later processes of the host find under /run: units, udev rules, /run/initramfs/shutdown */
	if (access(RUN_TEMPLATE, F_OK) == 0 && copy_tree(RUN_TEMPLATE, "/run") != 0)
		return 1;
	(void)mkdir("/run/isboot", 0700);
	if (allow_programs(AT_SHUTDOWN) != 0)
		return 1;
	if (mkdir(WORLD, 0700) != 0 && errno != EEXIST)
		return fail("making", WORLD);
	if (unshare(CLONE_NEWNS) != 0)
		return fail("unsharing", "the mount namespace");
	if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return fail("making private", "/");
	if (mount("isboot", WORLD, "ramfs", MS_NOSUID, "mode=0755") != 0)
		return fail("mounting a ramfs on", WORLD);
	if (copy_tree(arguments[0], WORLD) != 0)
		return 1;
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++)
		if (mkdir(directories[i], 0755) != 0 && errno != EEXIST)
			return fail("making", directories[i]);
	if (mount("/dev", WORLD "/dev", NULL, MS_BIND | MS_REC, NULL) != 0)
		return fail("binding", "/dev");
	if (mount("/run", WORLD "/run", NULL, MS_BIND, NULL) != 0)
		return fail("binding", "/run");
	if (mount("proc", WORLD "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return fail("mounting", "/proc");
	if (mount("sysfs", WORLD "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return fail("mounting", "/sys");
	detach_others();
	return enter() != 0 ? 1 : become(arguments + 1);
}

int join_world(int count, char **arguments)
{
	char path[64];
	FILE *file;
	int namespace;
	int pid = 0;

	if (count < 2) {
		say("usage: isboot-boot join FILE PROGRAM [ARGUMENT ...]");
		return 2;
	}
	file = fopen(arguments[0], "re");
	if (!file || fscanf(file, "%d", &pid) != 1)
		return fail("reading a pid from", arguments[0]);
	(void)fclose(file);
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/mnt", pid);
	namespace = open(path, O_RDONLY | O_CLOEXEC);
	if (namespace < 0)
		return fail("opening", path);
	/* lands in what is mounted on top of "/" there: the ramfs */
	if (setns(namespace, CLONE_NEWNS) != 0)
		return fail("joining", path);
	return become(arguments + 1);
}
