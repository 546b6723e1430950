// SPDX-License-Identifier: GPL-2.0-or-later
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "boot.h"

enum { TELL_TIMEOUT_MS = 10 * 1000 };

void say(const char *format, ...)
{
	char line[1024] = "<5>isboot: ";
	size_t used = strlen(line);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	va_list values;
	int length;

	va_start(values, format);
	length = vsnprintf(line + used, sizeof(line) - used - 1, format, values);
	va_end(values);
	if (length < 0)
		length = 0;
	used = used + (size_t)length < sizeof(line) - 1 ? used + (size_t)length : sizeof(line) - 2;
	line[used++] = '\n';
	if (fd < 0)
		fd = STDERR_FILENO;
	(void)!write(fd, line, used);
	if (fd != STDERR_FILENO)
		(void)close(fd);
}

int main(int count, char **arguments)
{
	const char *name = strrchr(arguments[0], '/');

	name = name ? name + 1 : arguments[0];
	if (strcmp(name, "shutdown") == 0)
		return shut_down(count > 1 ? arguments[1] : "poweroff");
	if (count > 2 && strcmp(arguments[1], "world") == 0)
		return world(count - 2, arguments + 2);
	if (count > 2 && strcmp(arguments[1], "start") == 0)
		return start(count - 2, arguments + 2);
	if (count > 2 && strcmp(arguments[1], "join") == 0)
		return join_world(count - 2, arguments + 2);
	if (count > 2 && strcmp(arguments[1], "keep") == 0)
		return keep(count - 2, arguments + 2);
	if (count > 2 && strcmp(arguments[1], "tell") == 0)
		return tell(arguments[2], TELL_TIMEOUT_MS);
	(void)fprintf(
		stderr,
		"usage: isboot-boot world|start TREE PROGRAM ... | join|keep FILE PROGRAM ... | tell WORD\n");
	return 2;
}
