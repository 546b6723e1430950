// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The last step of a shutdown.
 *
 * systemd-shutdown has pivoted to /run/initramfs and runs /shutdown there; the root is on /oldroot, and isboot
 * still serves it.  Unmount it, let isboot flush and log out, then do what was asked.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"

#define OLD_ROOT "/oldroot"
enum { UNMOUNT_ROUNDS = 100, PATIENT_ROUNDS = 10, ROUND_MS = 100, FINISH_TIMEOUT_MS = 60 * 1000 };
/* what others' servers may never answer, in milliseconds */
enum { REMOTE_TIMEOUT_MS = 2000, HOLDERS_TIMEOUT_MS = 2000, SYNC_TIMEOUT_MS = 10 * 1000, LOOK_MS = 1 };

static const struct {
	const char *verb;
	unsigned int command;
} verbs[] = {
	{ "poweroff", LINUX_REBOOT_CMD_POWER_OFF },
	{ "reboot", LINUX_REBOOT_CMD_RESTART },
	{ "halt", LINUX_REBOOT_CMD_HALT },
	{ "kexec", LINUX_REBOOT_CMD_KEXEC },
};

/* File systems of servers that may be gone; what of them is not written is not on our disk. */
static const char *const remote[] = { "nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "afs", "fuse" };

static bool is_remote(const char *line)
{
	const char *type = strstr(line, " - ");
	size_t length = type ? strcspn(type + 3, " .") : 0; /* "fuse.sshfs" is one of fuse */

	for (size_t i = 0; length && i < sizeof(remote) / sizeof(remote[0]); i++)
		if (strlen(remote[i]) == length && strncmp(type + 3, remote[i], length) == 0)
			return true;
	return false;
}

/*
 * Does something in a child, and waits so long at most: whatever a dead NFS or FUSE server has a part in may never
 * return, and the disk is still to be flushed.  Gives 0 or the errno of it, ETIMEDOUT if it was not over in time.
 */
static int aside(int (*what)(const char *point), const char *point, int timeout_ms)
{
	const struct timespec look = { .tv_nsec = LOOK_MS * 1000L * 1000L };
	struct timespec begin, now;
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		return errno;
	if (child == 0)
		_exit(what(point) & 0xff);
	(void)clock_gettime(CLOCK_MONOTONIC, &begin);
	do {
		pid_t ended = waitpid(child, &status, WNOHANG);

		if (ended == child)
			return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
		if (ended < 0)
			return errno;
		(void)nanosleep(&look, NULL);
		(void)clock_gettime(CLOCK_MONOTONIC, &now);
	} while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < timeout_ms);
	(void)kill(child, SIGKILL);
	return ETIMEDOUT;
}

static int detach(const char *point)
{
	return umount2(point, MNT_DETACH) == 0 ? 0 : errno;
}

static int sync_others(const char *point)
{
	(void)point;
	sync();
	return 0;
}

static int tell_holders(const char *point)
{
	say_holders(point);
	return 0;
}

/* Writes the root itself: sync() may wait for a server before it comes to the root. */
static void sync_root(void)
{
	int root = open(OLD_ROOT, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (root < 0 || syncfs(root) != 0)
		say("shutdown: writing " OLD_ROOT ": %s", strerror(errno));
	if (root >= 0)
		(void)close(root);
}

/*
 * Unmounts what it can under /oldroot, the deepest first; gives what is left.
 *
 * systemd leaves the old /dev there, which any process that was started with /dev/null as its input keeps busy:
 * what is not the root itself may be detached, it holds no data.
 */
static int unmount_all(bool is_patient, char *last, size_t size)
{
	static char points[128][PATH_MAX];
	static bool is_far[128];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t length = 0;
	int count = 0;
	int left = 0;

	while (mounts && count < 128 && getline(&line, &length, mounts) > 0)
		if (sscanf(line, "%*d %*d %*s %*s %4095s", points[count]) == 1 &&
		    strncmp(points[count], OLD_ROOT, strlen(OLD_ROOT)) == 0)
			is_far[count++] = is_remote(line);
	free(line);
	if (mounts)
		(void)fclose(mounts);
	while (count-- > 0) {
		bool is_root = strcmp(points[count], OLD_ROOT) == 0;
		int code = 0;

		if (is_far[count])
			code = aside(detach, points[count], REMOTE_TIMEOUT_MS);
		else if (umount2(points[count], is_root || is_patient ? 0 : MNT_DETACH) != 0)
			code = errno;
		if (code) {
			(void)snprintf(last, size, "%s: %s", points[count], strerror(code));
			left++;
		}
	}
	return left;
}

int shut_down(const char *verb)
{
	const struct timespec round = { .tv_nsec = ROUND_MS * 1000L * 1000L };
	unsigned int command = LINUX_REBOOT_CMD_POWER_OFF;
	char last[PATH_MAX + 64] = "";
	bool is_unmounted = false;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verb, verbs[i].verb) == 0)
			command = verbs[i].command;
	/* processes killed a moment ago may still be on their way out: their files close when they end */
	for (int i = 0; i < UNMOUNT_ROUNDS && !is_unmounted; i++) {
		is_unmounted = unmount_all(i < PATIENT_ROUNDS, last, sizeof(last)) == 0;
		if (!is_unmounted)
			(void)nanosleep(&round, NULL);
	}
	if (is_unmounted) {
		say("shutdown: root unmounted");
	} else {
		say("shutdown: unmounting %s; remounting it read-only", last);
		if (mount(NULL, OLD_ROOT, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
			say("shutdown: remounting " OLD_ROOT " read-only: %s", strerror(errno));
		sync_root();
		(void)aside(sync_others, OLD_ROOT, SYNC_TIMEOUT_MS);
	}
	if (tell(is_unmounted ? "finish" : "flush", FINISH_TIMEOUT_MS) != 0)
		say("shutdown: isboot did not finish cleanly");
	/* after the flush: to look at what a process has open may take for ever */
	if (!is_unmounted && aside(tell_holders, OLD_ROOT, HOLDERS_TIMEOUT_MS) == ETIMEDOUT)
		say("shutdown: who holds it cannot be told: a server does not answer");
	(void)syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, NULL);
	say("shutdown: reboot(%s): %s", verb, strerror(errno));
	(void)reboot(RB_POWER_OFF);
	for (;;)
		(void)pause(); /* PID 1 must not return */
}
