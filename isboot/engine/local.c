// SPDX-License-Identifier: GPL-2.0-or-later
/* Front end of this process: a list of requests, taken up in order as slots become free. */

#include <errno.h>
#include <string.h>

#include "lane.h"

static void take(struct isboot_lane *lane)
{
	struct local *local = &lane->local;

	while (local->next < local->count && local->free_count) {
		struct isboot_request *request = &local->requests[local->next++];
		struct command *command = &lane->commands[local->free_slots[--local->free_count]];

		command->operation = request->operation;
		command->fua = request->fua;
		command->offset_bytes = request->offset_bytes;
		command->length_bytes = request->operation == ISBOOT_FLUSH ? 0 : request->length_bytes;
		command->buffer = request->buffer;
		command->request = request;
		isboot_command_arrive(lane, command);
	}
}

static void commit(struct isboot_lane *lane, struct command *command)
{
	struct local *local = &lane->local;
	struct isboot_request *request = command->request;

	request->result = command->result;
	request->in_ns = command->in_ns;
	request->sent_ns = command->sent_ns;
	request->answered_ns = command->answered_ns;
	command->request = NULL;
	local->free_slots[local->free_count++] = command->slot;
	local->done++;
}

static int finished(struct isboot_lane *lane)
{
	return lane->local.done == lane->local.count ? ISBOOT_REASON_IDLE : 0;
}

static const struct front_end local_front_end = { take, commit, finished };

/* May be called again after IDLE, with the next list. */
int isboot_lane_open_local(struct isboot_lane *lane, struct isboot_request *requests, uint32_t count,
			   struct isboot_error *error)
{
	struct local *local = &lane->local;

	if (!lane->has_ring)
		return isboot_fail(error, -EINVAL, "opening a local front end: the lane is not started");
	if (lane->front_end && (lane->front_end != &local_front_end || local->done != local->count))
		return isboot_fail(error, -EBUSY, "opening a local front end: one is open");
	for (uint32_t i = 0; i < count; i++) {
		const struct isboot_request *request = &requests[i];

		if (request->operation > ISBOOT_WRITE_ZEROES ||
		    (request->operation <= ISBOOT_WRITE && !request->buffer) ||
		    (request->operation != ISBOOT_FLUSH &&
		     (!request->length_bytes || request->length_bytes > INT32_MAX ||
		      request->length_bytes % lane->setup.block_size_bytes ||
		      request->offset_bytes % lane->setup.block_size_bytes)))
			return isboot_fail(error, -EINVAL, "a request of the list is not in blocks");
	}
	local->requests = requests;
	local->count = count;
	local->next = 0;
	local->done = 0;
	local->free_count = 0;
	for (uint32_t slot = lane->setup.depth; slot-- > 0;)
		local->free_slots[local->free_count++] = slot;
	lane->front_end = &local_front_end;
	isboot_lane_serves(lane);
	return 0;
}
