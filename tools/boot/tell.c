// SPDX-License-Identifier: GPL-2.0-or-later
/* One word to every launcher, by its control socket; the answer is awaited. */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "boot.h"

enum { GONE = 1 };

static int ask(const char *path, const char *word, int timeout_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct ucred peer;
	socklen_t size = sizeof(peer);
	char text[512];
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
	length = snprintf(text, sizeof(text), "{\"do\": \"%s\"}\n", word);
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
	length = read(fd, text, sizeof(text) - 1);
	if (length > 0) {
		text[length] = '\0';
		text[strcspn(text, "\n")] = '\0';
		if (strstr(text, "\"ok\": true"))
			code = 0;
		else
			say("%s: %s answered %s", word, path, text);
	}
out:
	(void)close(fd);
	return code;
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
