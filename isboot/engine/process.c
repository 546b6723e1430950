// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a process does to survive beneath the root it serves.
 *
 * It must never wait for its own disk: no page of it may be reclaimed (mlockall), its allocations may not
 * start I/O (PR_SET_IO_FLUSHER), its heap is grown ahead and never given back.  And it must not stay stopped:
 * systemd-shutdown stops every process before it reads /proc, whose pages may have to come from the very disk
 * the stopped process serves.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#include "engine.h"

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57 /* Linux 5.6 */
#endif

enum { GUARD_INTERVAL_NS = 200 * 1000 * 1000 };

static int fail(struct isboot_error *error, const char *what)
{
	int code = -errno;

	error->code = code;
	(void)snprintf(error->text, sizeof(error->text), "%s: %s", what, strerror(-code));
	return code;
}

int isboot_process_harden(uint64_t reserve_bytes, struct isboot_error *error)
{
	void *reserve;

	/*
	 * One heap for all threads, grown by brk only, never trimmed: a page once locked stays ours.  The cast
	 * is safe: mallopt() compares with size_t, so -1 is "never".
	 */
	mallopt(M_ARENA_MAX, 1);
	mallopt(M_MMAP_MAX, 0);
	mallopt(M_TRIM_THRESHOLD, -1);
	reserve = malloc(reserve_bytes);
	if (!reserve)
		return fail(error, "growing the heap ahead");
	memset(reserve, 1, reserve_bytes);
	/* the compiler may not drop the write */
	__asm__ volatile("" : : "r"(reserve) : "memory");
	free(reserve);
	/*
	 * No core: the kernel would run its handler from the root, while the disk beneath it has no server, and
	 * wait for it before this process is dead enough to be replaced.  A core would hold secrets, too.
	 */
	if (prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL) != 0)
		return fail(error, "prctl(PR_SET_DUMPABLE)");
	if (prctl(PR_SET_IO_FLUSHER, 1UL, 0UL, 0UL, 0UL) != 0)
		return fail(error, "prctl(PR_SET_IO_FLUSHER)");
	if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
		return fail(error, "mlockall(MCL_CURRENT | MCL_FUTURE)");
	return 0;
}

int isboot_thread_realtime(int32_t priority, struct isboot_error *error)
{
	struct sched_param parameters = { .sched_priority = priority };

	if (sched_setscheduler(0, priority > 0 ? SCHED_FIFO : SCHED_OTHER, &parameters) != 0)
		return fail(error, "sched_setscheduler(SCHED_FIFO)");
	return 0;
}

void *isboot_shared_map(uint64_t length_bytes, struct isboot_error *error)
{
	void *mapping = mmap(NULL, length_bytes, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (mapping == MAP_FAILED) {
		(void)fail(error, "mapping shared memory");
		return NULL;
	}
	return mapping;
}

void isboot_shared_unmap(void *mapping, uint64_t length_bytes)
{
	if (mapping)
		(void)munmap(mapping, length_bytes);
}

/*
 * The guard.  Handlers are process-wide by nature, and what they touch has to be reachable from them: the only
 * static state of the engine.
 */
static timer_t guard_timer;
static volatile sig_atomic_t guard_is_made;
static volatile sig_atomic_t guard_armed;

static void guard_set(bool armed)
{
	struct itimerspec when = { 0 };

	guard_armed = armed;
	if (!guard_is_made)
		return;
	if (armed) {
		when.it_value.tv_nsec = GUARD_INTERVAL_NS;
		when.it_interval.tv_nsec = GUARD_INTERVAL_NS;
	}
	(void)timer_settime(guard_timer, 0, &when, NULL); /* async-signal-safe, POSIX.1-2008 */
}

static void on_signal(int number)
{
	int saved = errno;

	if (number == SIGUSR1)
		guard_set(true);
	else if (number == SIGUSR2)
		guard_set(false);
	errno = saved;
}

int isboot_guard_install(bool armed, struct isboot_error *error)
{
	static const int numbers[] = { SIGUSR1, SIGUSR2, SIGCONT };
	struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGCONT };

	guard_is_made = false; /* after a fork the parent's timer is not ours */
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (sigaction(numbers[i], &action, NULL) != 0)
			return fail(error, "sigaction");
	if (timer_create(CLOCK_MONOTONIC, &event, &guard_timer) != 0)
		return fail(error, "timer_create(CLOCK_MONOTONIC)");
	guard_is_made = true;
	guard_set(armed);
	return 0;
}

bool isboot_guard_is_armed(void)
{
	return guard_armed;
}
