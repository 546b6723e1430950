// SPDX-License-Identifier: GPL-2.0-or-later
/* The loop: one io_uring_enter a turn carries block completions, a send and a receive.  See engine.h. */

#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lane.h"
#include "probes.h"

enum { RING_ENTRIES_SPARE = 16, RING_ENTRIES_MAX = 4096, AREA_ALIGNMENT = 4096 };

int isboot_fail(struct isboot_error *error, int code, const char *what)
{
	error->code = code;
	(void)snprintf(error->text, sizeof(error->text), "%s: %s", what, strerror(-code));
	return code;
}

uint64_t isboot_now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

struct io_uring_sqe *isboot_lane_sqe(struct isboot_lane *lane)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&lane->ring);

	if (sqe)
		return sqe;
	(void)io_uring_submit(&lane->ring);
	return io_uring_get_sqe(&lane->ring);
}

void isboot_lane_lose(struct isboot_lane *lane, enum isboot_cause cause, int code, const char *detail)
{
	if (lane->lost)
		return;
	lane->lost = cause;
	lane->lost_code = code;
	lane->lost_detail = detail;
	lane->lost_ns = lane->now_ns;
}

void isboot_lane_violation(struct isboot_lane *lane, const char *rule)
{
	lane->counters->protocol_errors++;
	isboot_lane_lose(lane, ISBOOT_CAUSE_PROTOCOL, 0, rule);
}

static void init_lists(struct isboot_lane *lane)
{
	list_init(&lane->arrivals);
	list_init(&lane->waiting);
	list_init(&lane->sent);
	list_init(&lane->finishing);
	list_init(&lane->transfers);
	for (uint32_t i = 0; i < DELAY_LEVELS; i++)
		list_init(&lane->delayed[i]);
	for (uint32_t slot = 0; slot <= lane->setup.depth; slot++) {
		struct command *command = &lane->commands[slot];

		command->slot = slot;
		list_init(&command->queue);
		list_init(&command->arrival);
		list_init(&command->transfer);
	}
}

static bool is_sound(const struct isboot_lane_setup *setup)
{
	return setup->depth && setup->depth <= ISBOOT_UBLK_MAX_QUEUE_DEPTH &&
	       setup->index < ISBOOT_MAX_LANES && setup->block_size_bytes &&
	       !(setup->block_size_bytes % 512) && setup->shared;
}

isboot_lane *isboot_lane_create(const struct isboot_lane_setup *setup, struct isboot_error *error)
{
	struct isboot_lane *lane;

	if (!is_sound(setup)) {
		(void)isboot_fail(error, -EINVAL, "making a lane: depth, index, block size or shared memory");
		return NULL;
	}
	lane = calloc(1, sizeof(*lane));
	if (!lane) {
		(void)isboot_fail(error, -ENOMEM, "making a lane");
		return NULL;
	}
	lane->setup = *setup;
	lane->counters = &setup->shared->lanes[setup->index];
	lane->sent_limit = setup->depth + 1;
	lane->wake_fd = eventfd(0, EFD_CLOEXEC);
	lane->commands = calloc(setup->depth + 1, sizeof(*lane->commands));
	lane->local.free_slots = calloc(setup->depth, sizeof(*lane->local.free_slots));
	lane->receive.area = aligned_alloc(AREA_ALIGNMENT, RECEIVE_AREA_BYTES);
	lane->send.headers = aligned_alloc(AREA_ALIGNMENT, SEND_HEADER_BYTES);
	if (lane->wake_fd < 0 || !lane->commands || !lane->local.free_slots || !lane->receive.area ||
	    !lane->send.headers) {
		(void)isboot_fail(error, lane->wake_fd < 0 ? -errno : -ENOMEM, "making a lane");
		isboot_lane_destroy(lane);
		return NULL;
	}
	/* touched now, so that the first I/O takes no page fault */
	memset(lane->receive.area, 0, RECEIVE_AREA_BYTES);
	memset(lane->send.headers, 0, SEND_HEADER_BYTES);
	init_lists(lane);
	return lane;
}

void isboot_lane_destroy(isboot_lane *lane)
{
	if (!lane)
		return;
	if (lane->has_ring)
		io_uring_queue_exit(&lane->ring);
	isboot_lane_close_ublk(lane);
	if (lane->wake_fd >= 0)
		(void)close(lane->wake_fd);
	free(lane->send.headers);
	free(lane->receive.area);
	free(lane->local.free_slots);
	free(lane->commands);
	free(lane);
}

int isboot_lane_start(isboot_lane *lane, struct isboot_error *error)
{
	/* the newest first: a kernel without a flag refuses it with EINVAL (NO_SQARRAY: 6.6, DEFER_TASKRUN: 6.1) */
	static const uint32_t flags[] = {
#ifdef IORING_SETUP_NO_SQARRAY
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_NO_SQARRAY,
#endif
		IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
		IORING_SETUP_COOP_TASKRUN,
		0,
	};
	uint32_t entries = lane->setup.depth + RING_ENTRIES_SPARE;
	int code = -EINVAL;

	if (lane->has_ring)
		return isboot_fail(error, -EBUSY, "starting a lane: it is started");
	if (entries > RING_ENTRIES_MAX)
		entries = RING_ENTRIES_MAX;
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]) && code == -EINVAL; i++) {
		struct io_uring_params parameters = { .flags = flags[i] | IORING_SETUP_CQSIZE,
						      .cq_entries = 4 * entries };

		code = io_uring_queue_init_params(entries, &lane->ring, &parameters);
	}
	if (code < 0)
		return isboot_fail(error, code, "making the ring of a lane");
	lane->has_ring = true;
	(void)io_uring_register_ring_fd(&lane->ring); /* saves a look-up per enter; refused before 5.18 */
	lane->now_ns = isboot_now_ns();
	return 0;
}

void isboot_lane_serves(struct isboot_lane *lane)
{
	ISBOOT_PROBE_LANE_STARTED(lane->setup.device_id, lane->setup.index,
				  lane->setup.shared->worker_generation, isboot_now_ns());
}

void isboot_lane_probe_attempt(isboot_lane *lane, uint32_t attempt, int32_t code)
{
	ISBOOT_PROBE_RECONNECT_ATTEMPT(lane->setup.device_id, lane->setup.index, attempt, code,
				       isboot_now_ns());
}

#define COUNT_PROBE(name, arguments) +1

uint32_t isboot_probe_count(void)
{
	return 0 ISBOOT_PROBES(COUNT_PROBE);
}
