// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a service manager does where there is none: the initramfs of initramfs-tools.
 *
 * The process is started in a session of its own and told by NOTIFY_SOCKET where to say READY=1 (sd_notify(3));
 * until then, or until it ends, the boot waits here.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "boot.h"

#define NOTIFY_PATH "/run/isboot/notify"

static int fail(const char *doing)
{
	say("starting: %s: %s", doing, strerror(errno));
	return 1;
}

static int listen_for_ready(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = NOTIFY_PATH };
	int fd;

	(void)mkdir("/run/isboot", 0700);
	(void)unlink(NOTIFY_PATH);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		return -1;
	return fd;
}

static bool says_ready(int fd)
{
	char text[1024];
	ssize_t length = recv(fd, text, sizeof(text) - 1, MSG_DONTWAIT);
	char *rest = text;
	char *line;

	text[length > 0 ? length : 0] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL)
		if (strcmp(line, "READY=1") == 0)
			return true;
	return false;
}

/* Gives 0 once it is ready, else how it ended. */
static int wait_for(pid_t child, int fd)
{
	int pidfd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd waiting[] = { { .fd = fd, .events = POLLIN }, { .fd = pidfd, .events = POLLIN } };
	int status;

	if (pidfd < 0)
		return fail("watching the process");
	for (;;) {
		if (poll(waiting, 2, -1) < 0 && errno != EINTR)
			return fail("waiting for the process");
		/* what it said comes before the news of its end */
		if (waiting[0].revents && says_ready(fd))
			return 0;
		if (waiting[1].revents && !waiting[0].revents)
			break;
	}
	if (waitpid(child, &status, 0) != child)
		return fail("asking how it ended");
	if (WIFEXITED(status))
		say("starting: it ended before its disk was there, exit status %d", WEXITSTATUS(status));
	else
		say("starting: it ended before its disk was there, by signal %d", WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : 1;
}

int start(int count, char **arguments)
{
	int fd = listen_for_ready();
	int code;
	pid_t child;

	if (fd < 0)
		return fail("listening on " NOTIFY_PATH);
	if (setenv("NOTIFY_SOCKET", NOTIFY_PATH, 1) != 0)
		return fail("setting NOTIFY_SOCKET");
	child = fork();
	if (child < 0)
		return fail("forking");
	if (child == 0) {
		/* nothing of the shell that boots this machine: neither its terminal nor its files */
		(void)setsid();
		(void)close_range(STDERR_FILENO + 1, ~0U, 0);
		_exit(world(count, arguments));
	}
	code = wait_for(child, fd);
	(void)unlink(NOTIFY_PATH);
	return code;
}
