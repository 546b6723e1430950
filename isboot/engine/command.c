// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The life of a command.
 *
 *     arrive -> WAITING -> SENT -> answer -> FINISHING -> commit
 *                  ^         |        |
 *                  +-- lost -+        +-> DELAYED -> WAITING
 *
 * A command is in one of the lists waiting, sent, delayed[], finishing; and, until its commit, in `arrivals`,
 * whose order is that in which requests are issued again on a new session.
 */

#include <errno.h>
#include <string.h>

#include "lane.h"
#include "probes.h"

enum { AT_ONCE_RETRIES = 3, SHORT_DATA_LIMIT_MS = 10000, TARGET_FAILURE_LIMIT_MS = 10000 };

static void wait_for_turn(struct isboot_lane *lane, struct command *command)
{
	command->state = COMMAND_WAITING;
	command->deadline_ns = lane->now_ns + lane->setup.command_timeout_ms * NS_PER_MS;
	list_append(&lane->waiting, &command->queue);
}

/* Its delay is over. */
void isboot_command_wake(struct isboot_lane *lane, struct command *command)
{
	list_remove(&command->queue);
	wait_for_turn(lane, command);
}

void isboot_command_arrive(struct isboot_lane *lane, struct command *command)
{
	bool is_known = isboot_scsi_prepare(lane, command);

	command->was_aborted = false;
	command->is_late = false;
	command->retries = 0;
	command->first_retry_ns = 0;
	command->batch = 0;
	command->in_ns = lane->now_ns;
	command->sent_ns = 0;
	command->answered_ns = 0;
	list_append(&lane->arrivals, &command->arrival);
	lane->counters->in_flight = ++lane->in_flight;
	if (lane->give_up_code) {
		isboot_command_finish(lane, command, lane->give_up_code);
		return;
	}
	if (!is_known) {
		isboot_command_finish(lane, command, -EOPNOTSUPP);
		return;
	}
	wait_for_turn(lane, command);
}

static uint64_t count_writes(const struct isboot_shared *shared)
{
	uint64_t writes = 0;

	for (uint32_t i = 0; i < ISBOOT_MAX_LANES; i++)
		writes += __atomic_load_n(&shared->lanes[i].writes, __ATOMIC_SEQ_CST) +
			  __atomic_load_n(&shared->lanes[i].discards, __ATOMIC_SEQ_CST);
	return writes;
}

/* Issued: from here on an answer is expected. */
void isboot_command_sent(struct isboot_lane *lane, struct command *command)
{
	command->generation++;
	command->initiator_task_tag = command->slot | command->generation << SLOT_BITS;
	command->state = COMMAND_SENT;
	command->cmd_sn = lane->cmd_sn++;
	command->received_bytes = 0;
	command->data_sn = 0;
	command->solicited_bytes = 0;
	command->first_burst = 0;
	command->burst_count = 0;
	command->sent_ns = lane->now_ns;
	command->deadline_ns = lane->now_ns + lane->setup.command_timeout_ms * NS_PER_MS;
	if (command->operation == ISBOOT_FLUSH)
		command->writes_before = count_writes(lane->setup.shared);
	list_remove(&command->queue);
	list_append(&lane->sent, &command->queue);
	lane->sent_count++;
}

static void unlink_command(struct isboot_lane *lane, struct command *command)
{
	if (command->state == COMMAND_SENT)
		lane->sent_count--;
	list_remove(&command->queue);
	list_remove(&command->transfer);
	command->burst_count = 0;
	if (lane->aborting == command) {
		lane->aborting = NULL;
		if (lane->urgent & URGENT_ABORT) {
			lane->urgent &= ~(uint32_t)URGENT_ABORT;
			lane->abort_tag = 0;
		}
	}
}

/*
 * The bit "written since the last good flush".  A flush covers what was completed when it was issued; with
 * writes completed since, on any lane, the bit stays.  Clear first, look again after: the other order loses a
 * write that completes in between.
 */
static void note_flush(struct isboot_lane *lane, const struct command *command)
{
	struct isboot_shared *shared = lane->setup.shared;

	__atomic_store_n(&shared->written_since_flush, 0, __ATOMIC_SEQ_CST);
	if (count_writes(shared) != command->writes_before)
		__atomic_store_n(&shared->written_since_flush, 1, __ATOMIC_SEQ_CST);
}

static void note_cached_write(struct isboot_lane *lane)
{
	if (!lane->setup.shared->written_since_flush)
		__atomic_store_n(&lane->setup.shared->written_since_flush, 1, __ATOMIC_SEQ_CST);
}

static void count(struct isboot_lane *lane, struct command *command, uint64_t committed_ns)
{
	struct isboot_lane_counters *counters = lane->counters;
	bool is_durable = command->fua && lane->setup.has_fua && command->result >= 0;

	switch (command->operation) {
	case ISBOOT_READ:
		counters->reads++;
		if (command->result > 0)
			counters->read_bytes += (uint32_t)command->result;
		break;
	case ISBOOT_WRITE:
		counters->writes++;
		if (command->result > 0)
			counters->written_bytes += (uint32_t)command->result;
		if (!is_durable)
			note_cached_write(lane);
		break;
	case ISBOOT_DISCARD:
	case ISBOOT_WRITE_ZEROES:
		counters->discards++;
		if (command->result >= 0) {
			counters->discarded_bytes += command->length_bytes;
			note_cached_write(lane);
		}
		break;
	case ISBOOT_FLUSH:
		counters->flushes++;
		if (command->result >= 0)
			note_flush(lane, command);
		break;
	}
	if (command->result < 0)
		counters->io_errors++;
	if (command->operation <= ISBOOT_WRITE)
		counters->latency_ns[isboot_histogram_bucket(committed_ns - command->in_ns)]++;
}

static void commit(struct isboot_lane *lane, struct command *command)
{
	uint64_t committed_ns;

	list_remove(&command->queue);
	list_remove(&command->arrival);
	command->state = COMMAND_FREE;
	if (command->operation == OPERATION_EXCHANGE) {
		isboot_exchange_finish(lane, command->result);
		return;
	}
	command->sent_ns = isboot_send_time(lane, command);
	committed_ns = isboot_now_ns();
	lane->counters->in_flight = --lane->in_flight;
	count(lane, command, committed_ns);
	if (command->request)
		command->request->committed_ns = committed_ns;
	/*
	 * Fired before the io_uring_enter that carries the commit, not after: that enter also sleeps until the
	 * next event, and the tracer would see the I/O only then.
	 */
	ISBOOT_PROBE_IO_DONE(lane->setup.device_id, lane->setup.index, command->slot, command->operation,
			     command->offset_bytes, command->length_bytes, command->result, command->in_ns,
			     command->sent_ns, command->answered_ns, committed_ns);
	if (lane->expects_io_resumed && command->result >= 0) {
		lane->expects_io_resumed = false;
		ISBOOT_PROBE_IO_RESUMED(lane->setup.device_id, lane->setup.index, committed_ns);
	}
	lane->front_end->commit(lane, command);
}

/* The result is decided: the command is never issued again. */
void isboot_command_finish(struct isboot_lane *lane, struct command *command, int32_t result)
{
	unlink_command(lane, command);
	command->result = result;
	/* its buffer may not change hands while a batch that is not sent yet reads from it */
	if (command->is_write && command->batch && command->batch == lane->send.batch) {
		command->state = COMMAND_FINISHING;
		list_append(&lane->finishing, &command->queue);
		return;
	}
	commit(lane, command);
}

/* No sendmsg is under way any more. */
void isboot_commands_sendmsg_done(struct isboot_lane *lane)
{
	while (!list_is_empty(&lane->finishing))
		commit(lane, container_of(lane->finishing.next, struct command, queue));
}

void isboot_command_retry(struct isboot_lane *lane, struct command *command, bool at_once, uint32_t limit_ms,
			  int32_t otherwise)
{
	uint32_t level;

	/* the limit is of one cause: what it may be out of patience with is not what came before */
	if (!command->first_retry_ns || limit_ms != command->retry_limit_ms) {
		command->first_retry_ns = lane->now_ns;
		command->retry_limit_ms = limit_ms;
	}
	if (limit_ms && lane->now_ns - command->first_retry_ns > limit_ms * NS_PER_MS) {
		isboot_command_finish(lane, command, otherwise);
		return;
	}
	unlink_command(lane, command);
	lane->counters->retries++;
	command->retries++;
	if (at_once && command->retries <= AT_ONCE_RETRIES) {
		wait_for_turn(lane, command);
		return;
	}
	/* Each level has one delay, so its list is in the order of the deadlines. */
	level = command->retries < DELAY_LEVELS ? command->retries : DELAY_LEVELS - 1;
	command->state = COMMAND_DELAYED;
	command->deadline_ns = lane->now_ns + ((uint64_t)DELAY_UNIT_MS << level) * NS_PER_MS;
	list_append(&lane->delayed[level], &command->queue);
}

/* BUSY, TASK SET FULL: fewer at once; every good answer to a full window grows it again by a little. */
static void shrink_depth(struct isboot_lane *lane)
{
	uint32_t limit = lane->sent_count * 3 / 4;

	lane->sent_limit = limit ? limit : 1;
	lane->grown = 0;
}

static void regrow_depth(struct isboot_lane *lane)
{
	if (lane->sent_limit <= lane->setup.depth && ++lane->grown >= lane->sent_limit) {
		lane->sent_limit++;
		lane->grown = 0;
	}
}

/* Good status: is it true?  Data that is short is never a success. */
static void complete(struct isboot_lane *lane, struct command *command, uint8_t flags, uint32_t residual)
{
	uint32_t moved = command->is_read ? command->received_bytes : command->solicited_bytes;

	regrow_depth(lane);
	if (command->operation == ISBOOT_FLUSH) {
		/* the failure of a flush is how the block layer hears of a write it believes done */
		isboot_command_finish(
			lane, command,
			__atomic_exchange_n(&lane->setup.shared->lost_write_code, 0, __ATOMIC_SEQ_CST));
		return;
	}
	/* of a list or a block that stands for a range a residual says nothing: tgt calls all of it one */
	if ((flags & (FLAG_OVERFLOW | FLAG_UNDERFLOW)) && residual && command->operation <= ISBOOT_WRITE) {
		isboot_command_retry(lane, command, false, SHORT_DATA_LIMIT_MS, -EIO);
		return;
	}
	if (moved != command->payload_bytes || command->burst_count) {
		isboot_lane_violation(lane, "good status although data is missing (RFC 7143 §11.4.5)");
		return;
	}
	isboot_command_finish(lane, command,
			      command->operation <= ISBOOT_WRITE ? (int32_t)command->length_bytes : 0);
}

static void answer_exchange(struct isboot_lane *lane, struct command *command, uint8_t response,
			    uint8_t status, const uint8_t *sense, uint32_t sense_bytes)
{
	struct isboot_exchange *exchange = lane->current;

	exchange->response = response;
	exchange->status = status;
	exchange->received_bytes = command->received_bytes;
	if (sense_bytes > ISBOOT_SENSE_BYTES)
		sense_bytes = ISBOOT_SENSE_BYTES;
	exchange->sense_bytes = sense_bytes;
	memcpy(exchange->sense, sense, sense_bytes);
	isboot_command_finish(lane, command, 0);
}

/* SCSI Response, or status in Data-In.  RFC 7143 §11.4.7: the segment is SenseLength and sense. */
void isboot_command_answer(struct isboot_lane *lane, struct command *command, uint8_t response,
			   uint8_t status, uint8_t flags, uint32_t residual, const uint8_t *segment,
			   uint32_t segment_bytes)
{
	uint32_t sense_bytes = segment_bytes >= 2 ? get16(segment) : 0;
	const uint8_t *sense = segment + 2;
	struct outcome outcome;

	command->answered_ns = lane->now_ns;
	if (segment_bytes < 2)
		sense = segment;
	else if (sense_bytes > segment_bytes - 2)
		sense_bytes = segment_bytes - 2;
	if (command->operation == OPERATION_EXCHANGE) {
		answer_exchange(lane, command, response, status, sense, sense_bytes);
		return;
	}
	if (response != 0) {
		isboot_command_retry(lane, command, false, TARGET_FAILURE_LIMIT_MS, -EREMOTEIO);
		return;
	}
	outcome = isboot_scsi_judge(command->operation, status, sense, sense_bytes);
	if (outcome.shrinks_depth)
		shrink_depth(lane);
	if (outcome.was_reset)
		lane->reset_ns = lane->now_ns;
	if (outcome.lost_write)
		__atomic_store_n(&lane->setup.shared->lost_write_code, outcome.lost_write, __ATOMIC_SEQ_CST);
	switch (outcome.verdict) {
	case VERDICT_DONE:
		complete(lane, command, flags, residual);
		break;
	case VERDICT_RETRY:
		isboot_command_retry(lane, command, outcome.at_once, outcome.limit_ms, outcome.code);
		break;
	case VERDICT_FAIL:
		isboot_command_finish(lane, command, outcome.code);
		break;
	case VERDICT_LUN_CHANGED:
		isboot_lane_lose(lane, ISBOOT_CAUSE_LUN_CHANGED, 0,
				 "the LUN is gone or says that it changed");
		break;
	}
}

bool isboot_command_is_range(const struct command *command)
{
	return command->operation == ISBOOT_DISCARD || command->operation == ISBOOT_WRITE_ZEROES;
}

/*
 * A new session: everything unfinished is issued anew, in the order it came.
 *
 * But for a range the target was too slow for: again and again, it would take every other command of the LUN
 * with it at each loss.  The block layer can do without: it writes the zeroes itself.
 */
void isboot_command_requeue_all(struct isboot_lane *lane)
{
	struct link *at, *next;

	for (at = lane->arrivals.next; at != &lane->arrivals; at = next) {
		struct command *command = container_of(at, struct command, arrival);

		next = at->next;
		if (command->state == COMMAND_FINISHING)
			continue;
		if (command->is_late) {
			isboot_command_finish(lane, command, -EOPNOTSUPP);
			continue;
		}
		if (command->state == COMMAND_SENT)
			lane->counters->reissued++;
		unlink_command(lane, command);
		command->was_aborted = false;
		command->retries = 0;
		command->first_retry_ns = 0;
		wait_for_turn(lane, command);
	}
}

void isboot_command_fail_all(struct isboot_lane *lane, int32_t code)
{
	while (!list_is_empty(&lane->arrivals))
		isboot_command_finish(lane, container_of(lane->arrivals.next, struct command, arrival), code);
}

/* O(1): the slot is in the tag.  NULL for a stale or unknown one. */
struct command *isboot_command_find(struct isboot_lane *lane, uint32_t initiator_task_tag)
{
	uint32_t slot = initiator_task_tag & SLOT_MASK;
	struct command *command;

	if (slot > lane->setup.depth)
		return NULL;
	command = &lane->commands[slot];
	if (command->state != COMMAND_SENT || command->initiator_task_tag != initiator_task_tag)
		return NULL;
	return command;
}
