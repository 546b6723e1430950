// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The last step of a shutdown.
 *
 * systemd-shutdown has pivoted to /run/initramfs and runs /shutdown there; the root is on /oldroot, and isboot
 * still serves it.  Unmount it, let isboot flush and log out, then do what was asked.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"

#define OLD_ROOT "/oldroot"
enum { UNMOUNT_ROUNDS = 100, PATIENT_ROUNDS = 10, ROUND_MS = 100, FINISH_TIMEOUT_MS = 60 * 1000 };

static const struct {
	const char *verb;
	unsigned int command;
} verbs[] = {
	{ "poweroff", LINUX_REBOOT_CMD_POWER_OFF },
	{ "reboot", LINUX_REBOOT_CMD_RESTART },
	{ "halt", LINUX_REBOOT_CMD_HALT },
	{ "kexec", LINUX_REBOOT_CMD_KEXEC },
};

/*
 * Unmounts what it can under /oldroot, the deepest first; gives what is left.
 *
 * systemd leaves the old /dev there, which any process that was started with /dev/null as its input keeps busy:
 * what is not the root itself may be detached, it holds no data.
 */
static int unmount_all(bool is_patient, char *last, size_t size)
{
	static char points[128][PATH_MAX];
	FILE *mounts = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t length = 0;
	int count = 0;
	int left = 0;

	while (mounts && count < 128 && getline(&line, &length, mounts) > 0)
		if (sscanf(line, "%*d %*d %*s %*s %4095s", points[count]) == 1 &&
		    strncmp(points[count], OLD_ROOT, strlen(OLD_ROOT)) == 0)
			count++;
	free(line);
	if (mounts)
		(void)fclose(mounts);
	while (count-- > 0) {
		bool is_root = strcmp(points[count], OLD_ROOT) == 0;

		if (umount2(points[count], is_root || is_patient ? 0 : MNT_DETACH) != 0) {
			(void)snprintf(last, size, "%s: %s", points[count], strerror(errno));
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
		say_holders(OLD_ROOT);
		if (mount(NULL, OLD_ROOT, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0)
			say("shutdown: remounting " OLD_ROOT " read-only: %s", strerror(errno));
		sync();
	}
	if (tell(is_unmounted ? "finish" : "flush", FINISH_TIMEOUT_MS) != 0)
		say("shutdown: isboot did not finish cleanly");
	(void)syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, command, NULL);
	say("shutdown: reboot(%s): %s", verb, strerror(errno));
	(void)reboot(RB_POWER_OFF);
	for (;;)
		(void)pause(); /* PID 1 must not return */
}
