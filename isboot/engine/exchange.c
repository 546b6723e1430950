// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control slot: one command of another thread at a time, beside the I/O.
 *
 * The other thread puts a pointer down and rings the lane's eventfd; the lane takes it up, leaving TAKEN in its
 * place, and rings the exchange's eventfd when it is done.  Between two runs nobody would take it up: then it
 * is refused.  Whoever changes the place from the pointer to something else owns the exchange: only so may the
 * other thread take it back without the lane finishing it as well.
 */

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lane.h"

#define TAKEN ((struct isboot_exchange *)1)

static void ring_bell(int fd)
{
	const uint64_t one = 1;

	/* an eventfd takes 8 bytes or, at 2^64 - 1, none: both wake */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

int isboot_lane_exchange(struct isboot_lane *lane, struct isboot_exchange *exchange)
{
	struct isboot_exchange *expected = NULL;

	if (exchange->length_bytes > ISBOOT_EXCHANGE_DATA_BYTES)
		return -EINVAL;
	if (!__atomic_load_n(&lane->is_running, __ATOMIC_SEQ_CST))
		return -ENOTCONN;
	if (!__atomic_compare_exchange_n(&lane->exchange, &expected, exchange, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return -EBUSY;
	if (!__atomic_load_n(&lane->is_running, __ATOMIC_SEQ_CST)) {
		/* the run ended in between: take it back, unless the lane has it */
		expected = exchange;
		if (__atomic_compare_exchange_n(&lane->exchange, &expected, NULL, false, __ATOMIC_SEQ_CST,
						__ATOMIC_SEQ_CST))
			return -ENOTCONN;
		return 0;
	}
	ring_bell(lane->wake_fd);
	return 0;
}

int isboot_lane_stop(struct isboot_lane *lane, bool drain)
{
	__atomic_store_n(&lane->stop, drain ? STOP_DRAIN : STOP_NOW, __ATOMIC_SEQ_CST);
	ring_bell(lane->wake_fd);
	return 0;
}

static struct isboot_exchange *claim(struct isboot_lane *lane)
{
	struct isboot_exchange *exchange = __atomic_load_n(&lane->exchange, __ATOMIC_SEQ_CST);

	if (!exchange || exchange == TAKEN ||
	    !__atomic_compare_exchange_n(&lane->exchange, &exchange, TAKEN, false, __ATOMIC_SEQ_CST,
					 __ATOMIC_SEQ_CST))
		return NULL;
	return exchange;
}

void isboot_exchange_take(struct isboot_lane *lane)
{
	struct isboot_exchange *exchange = claim(lane);
	struct command *command = &lane->commands[lane->setup.depth];

	if (!exchange)
		return;
	lane->current = exchange;
	/* a SCSI command has the deadline of a command, with ABORT TASK; this one is behind it */
	lane->exchange_deadline_ns = lane->now_ns +
				     (2ULL * lane->setup.command_timeout_ms + lane->setup.nop_timeout_ms) *
					     NS_PER_MS;
	if (!lane->is_attached || lane->logout != LOGOUT_NONE) {
		isboot_exchange_finish(lane, -ENOTCONN);
		return;
	}
	switch (exchange->kind) {
	case ISBOOT_EXCHANGE_SCSI:
		command->operation = OPERATION_EXCHANGE;
		command->buffer = exchange->data;
		command->outgoing = exchange->data;
		command->payload_bytes = exchange->length_bytes;
		command->is_write = exchange->is_write && exchange->length_bytes;
		command->is_read = !exchange->is_write && exchange->length_bytes;
		command->was_aborted = false;
		command->batch = 0;
		command->state = COMMAND_WAITING;
		command->deadline_ns = lane->now_ns + lane->setup.command_timeout_ms * NS_PER_MS;
		list_prepend(&lane->waiting, &command->queue);
		break;
	case ISBOOT_EXCHANGE_TASK_MANAGEMENT:
		command->generation++;
		command->initiator_task_tag = command->slot | command->generation << SLOT_BITS;
		lane->urgent |= URGENT_TASK_MANAGEMENT;
		lane->exchange_deadline_ns = lane->now_ns + lane->setup.command_timeout_ms * NS_PER_MS;
		break;
	case ISBOOT_EXCHANGE_LOGOUT:
		lane->logout = LOGOUT_WANTED;
		lane->logout_cause = ISBOOT_CAUSE_NONE;
		lane->logout_deadline_ns = lane->now_ns + lane->setup.command_timeout_ms * NS_PER_MS;
		break;
	case ISBOOT_EXCHANGE_PING:
		if (!lane->ping_is_out) {
			lane->ping_is_out = true;
			lane->ping_tag = isboot_output_tag(lane, SLOT_PING);
			lane->ping_deadline_ns = lane->now_ns + lane->setup.nop_timeout_ms * NS_PER_MS;
			lane->urgent |= URGENT_PING;
		}
		break;
	default:
		isboot_exchange_finish(lane, -EINVAL);
	}
}

void isboot_exchange_finish(struct isboot_lane *lane, int32_t result)
{
	struct isboot_exchange *exchange = lane->current;
	int done_fd = exchange->done_fd;

	lane->current = NULL;
	exchange->result = result;
	/* from here on the slot may be used again, and `exchange` belongs to the other thread */
	__atomic_store_n(&lane->exchange, NULL, __ATOMIC_SEQ_CST);
	ring_bell(done_fd);
}

/* The end of a run: what was not finished will not be. */
void isboot_exchange_refuse(struct isboot_lane *lane)
{
	struct command *command = &lane->commands[lane->setup.depth];

	if (!lane->current)
		lane->current = claim(lane);
	if (!lane->current)
		return;
	if (command->state == COMMAND_FREE)
		isboot_exchange_finish(lane, -ENOLINK);
	else
		isboot_command_finish(lane, command, -ENOLINK);
}
