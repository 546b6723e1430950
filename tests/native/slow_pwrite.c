// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * LD_PRELOAD for a target: a slow disk on demand.  While the file $SLOW_PWRITE exists, the next pwrite64(2) takes
 * it away and is carried out $SLOW_PWRITE_MS later, by the thread that called it; others are as fast as ever.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	static ssize_t (*real)(int, const void *, size_t, off64_t);
	const char *trigger = getenv("SLOW_PWRITE"), *wait_ms = getenv("SLOW_PWRITE_MS");

	if (!real)
		real = (ssize_t (*)(int, const void *, size_t, off64_t))dlsym(RTLD_NEXT, "pwrite64");
	if (trigger && wait_ms && unlink(trigger) == 0) {
		long left_ms = atol(wait_ms);
		struct timespec wait = { left_ms / 1000, left_ms % 1000 * 1000000 };

		while (nanosleep(&wait, &wait) != 0)
			;
	}
	return real(fd, data, length, offset);
}
