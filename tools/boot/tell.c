// SPDX-License-Identifier: GPL-2.0-or-later
/* One word to every launcher, by its control socket; the answer is awaited. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "boot.h"

enum { GONE = 1, TRY_AGAIN = 2, PAUSE_MS = 100 };

/* Asks once. :return: 0, GONE, TRY_AGAIN with what was answered in `text`, or -1 */
static int ask_once(const char *path, const char *word, int timeout_ms, char *text, size_t text_size)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	ssize_t length = 0;
	int code = -1;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	if ((size_t)snprintf(address.sun_path, sizeof(address.sun_path), "%s", path) >=
	    sizeof(address.sun_path))
		goto out;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
		/* a launcher that is gone leaves its socket behind: nobody to tell there */
		code = errno == ECONNREFUSED || errno == ENOENT ? GONE : -1;
		goto out;
	}
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0 || peer.uid != 0)
		goto out;
	length = snprintf(text, text_size, "{\"do\": \"%s\"}\n", word);
	if (write(fd, text, (size_t)length) != length)
		goto out;
	struct pollfd wait = { .fd = fd, .events = POLLIN };
	int ready;

	do
		ready = poll(&wait, 1, timeout_ms);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0) {
		say("%s: no answer from %s within %d s", word, path, timeout_ms / 1000);
		goto out;
	}
	length = read(fd, text, text_size - 1);
	if (length > 0) {
		text[length] = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, "\"ok\": true"))
			code = 0;
		else if (strstr(text, "\"exit_status\": 75"))
			code = TRY_AGAIN;
		else
			say("%s: %s answered %s", word, path, text);
	}
out:
	(void)close(fd);
	return code;
}

static long now_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/*
 * Asks until the time is over: a worker that died as it was told to finish is replaced within a second, and what
 * was written is flushed by its successor.
 */
static int ask(const char *path, const char *word, int timeout_ms)
{
	const struct timespec pause = { .tv_nsec = PAUSE_MS * 1000L * 1000L };
	const long end = now_ms() + timeout_ms;
	char text[512] = "";
	bool was_refused = false;

	for (;;) {
		long left = end - now_ms();
		int code = ask_once(path, word, left > 0 ? (int)left : 0, text, sizeof(text));

		if (code != TRY_AGAIN)
			/* one that was asked to try again and ended instead did not do it */
			return was_refused && code == GONE ? -1 : code;
		if (!was_refused || left <= PAUSE_MS)
			say("%s: %s answered %s", word, path, text);
		if (left <= PAUSE_MS)
			return -1;
		was_refused = true;
		(void)nanosleep(&pause, NULL);
	}
}

int tell(const char *word, int timeout_ms)
{
	DIR *directory = opendir(CONTROL_DIRECTORY);
	struct dirent *entry;
	int code = 0, told = 0, gone = 0;

	if (!directory)
		return errno == ENOENT ? 0 : 1;
	while ((entry = readdir(directory)) != NULL) {
		char path[sizeof(CONTROL_DIRECTORY) + NAME_MAX + 2];

		if (entry->d_name[0] == '.')
			continue;
		(void)snprintf(path, sizeof(path), CONTROL_DIRECTORY "/%s", entry->d_name);
		switch (ask(path, word, timeout_ms)) {
		case 0:
			told++;
			break;
		case GONE:
			gone++;
			break;
		default:
			code = 1;
		}
	}
	(void)closedir(directory);
	if (gone && !told) {
		say("%s: no launcher is there to be told", word);
		code = 1;
	}
	return code;
}
