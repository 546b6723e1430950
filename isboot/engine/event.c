// SPDX-License-Identifier: GPL-2.0-or-later
/* PDUs that are not about the data of a command: NOP-In, Asynchronous Message, Reject, and two responses. */

#include <errno.h>
#include <string.h>

#include "lane.h"

enum {
	ASYNC_LOGOUT = 1,
	ASYNC_DROP_CONNECTION = 2,
	ASYNC_DROP_ALL = 3,
	ASYNC_NEGOTIATE = 4,
	REJECT_LIMIT_MS = 10000,
	TASK_FUNCTION_COMPLETE = 0,
	TASK_DOES_NOT_EXIST = 1,
};

void isboot_event_nop_in(struct isboot_lane *lane)
{
	const struct pdu_answer *header = &lane->receive.header.answer;
	uint32_t tag = get32(header->initiator_task_tag), target_tag = get32(header->target_transfer_tag);

	if (tag == RESERVED_TAG) {
		/* RFC 7143 §11.19: not an answer, so its StatSN is not used up; a valid TTT asks for a reply */
		if (target_tag != RESERVED_TAG) {
			uint32_t last = (lane->nop_first + lane->nop_count++) % NOP_REPLIES;

			memcpy(lane->nop_replies[last].lun, header->lun, 8);
			lane->nop_replies[last].target_transfer_tag = target_tag;
		}
		return;
	}
	if (!isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	if (!lane->ping_is_out || tag != lane->ping_tag) {
		lane->counters->stale++;
		return;
	}
	lane->ping_is_out = false;
	if (lane->current && lane->current->kind == ISBOOT_EXCHANGE_PING)
		isboot_exchange_finish(lane, 0);
}

void isboot_event_async(struct isboot_lane *lane)
{
	const struct pdu_async *header = &lane->receive.header.async;

	if (!isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	switch (header->event) {
	case ASYNC_LOGOUT:
	case ASYNC_NEGOTIATE:
		/*
		 * Within Parameter3 seconds a Logout (or, for 4, a negotiation) is to begin: what is under way may
		 * end, nothing new is issued.  For both we log out and come back.
		 */
		if (lane->logout != LOGOUT_NONE)
			break;
		lane->logout = LOGOUT_WANTED;
		lane->logout_cause = ISBOOT_CAUSE_ASYNC_LOGOUT;
		lane->logout_deadline_ns = lane->now_ns + get16(header->parameter3) * 500 * NS_PER_MS;
		break;
	case ASYNC_DROP_CONNECTION:
	case ASYNC_DROP_ALL:
		lane->time2wait_s = get16(header->parameter2);
		isboot_lane_lose(lane, ISBOOT_CAUSE_ASYNC_DROP, 0,
				 "the target announced that it drops the connection");
		break;
	default: /* 0: a SCSI event, told again by a unit attention; 255: the vendor's own */
		break;
	}
}

static void reject_command(struct isboot_lane *lane, uint32_t tag)
{
	struct command *command = isboot_command_find(lane, tag);

	if (!command)
		lane->counters->stale++;
	else if (command->operation == OPERATION_EXCHANGE)
		isboot_command_finish(lane, command, -EREMOTEIO);
	else
		isboot_command_retry(lane, command, false, REJECT_LIMIT_MS, -EREMOTEIO);
}

/* RFC 7143 §11.17: the data segment is the header that was refused. */
void isboot_event_reject(struct isboot_lane *lane)
{
	const struct receive *receive = &lane->receive;
	uint8_t reason = receive->header.answer.response;
	union pdu refused;
	uint32_t tag;

	if (!isboot_input_stat_sn(lane, get32(receive->header.answer.stat_sn)))
		return;
	if (sizeof(receive->kept) - receive->room < HEADER_BYTES) {
		isboot_lane_violation(lane, "a Reject without the header it refuses");
		return;
	}
	memcpy(refused.bytes, receive->kept, HEADER_BYTES);
	tag = get32(refused.basic.initiator_task_tag);
	lane->counters->rejects++;
	switch (refused.basic.opcode & OPCODE_MASK) {
	case OPCODE_SCSI_COMMAND:
		reject_command(lane, tag);
		return;
	case OPCODE_DATA_OUT:
		/* §7.8: the target ends the task itself, with CHECK CONDITION 0B/47/05 */
		if (reason == REJECT_DATA_DIGEST) {
			lane->counters->digest_errors++;
			return;
		}
		break;
	case OPCODE_NOP_OUT:
		if (lane->ping_is_out && tag == lane->ping_tag)
			lane->ping_is_out = false; /* it lives */
		return;
	case OPCODE_TASK_MANAGEMENT_REQUEST:
		if (lane->current && lane->current->kind == ISBOOT_EXCHANGE_TASK_MANAGEMENT &&
		    tag == lane->commands[lane->setup.depth].initiator_task_tag) {
			isboot_exchange_finish(lane, -EREMOTEIO);
			return;
		}
		break;
	}
	isboot_lane_lose(lane, ISBOOT_CAUSE_REJECT, 0, "the target refused a PDU");
}

/* RFC 7143 §11.6.1; a reset that we were told of ends tasks without an answer: that one is gone is its answer. */
static bool has_ended(const struct isboot_lane *lane, const struct command *command, uint8_t response)
{
	return response == TASK_FUNCTION_COMPLETE ||
	       (response == TASK_DOES_NOT_EXIST && lane->reset_ns && command->sent_ns < lane->reset_ns);
}

void isboot_event_task_management(struct isboot_lane *lane)
{
	const struct pdu_answer *header = &lane->receive.header.answer;
	uint32_t tag = get32(header->initiator_task_tag);
	struct command *command = lane->aborting;

	if (!isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	if (lane->current && lane->current->kind == ISBOOT_EXCHANGE_TASK_MANAGEMENT &&
	    tag == lane->commands[lane->setup.depth].initiator_task_tag) {
		lane->current->response = header->response;
		isboot_exchange_finish(lane, 0);
		return;
	}
	if (!lane->abort_tag || tag != lane->abort_tag) {
		lane->counters->stale++;
		return;
	}
	lane->abort_tag = 0;
	lane->aborting = NULL;
	if (!command)
		return; /* it was answered after all */
	if (!has_ended(lane, command, header->response)) {
		isboot_lane_lose(lane, ISBOOT_CAUSE_COMMAND_TIMEOUT, 0,
				 "ABORT TASK of a command without answer failed");
		return;
	}
	if (command->operation == OPERATION_EXCHANGE) {
		isboot_command_finish(lane, command, -ETIMEDOUT);
		return;
	}
	if (command->is_late) {
		isboot_command_finish(lane, command, -EOPNOTSUPP);
		return;
	}
	command->was_aborted = true;
	isboot_command_retry(lane, command, true, 0, 0);
}

void isboot_event_logout(struct isboot_lane *lane)
{
	const struct pdu_logout_response *header = &lane->receive.header.logout_response;

	if (!isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	if (lane->logout != LOGOUT_SENT || get32(header->initiator_task_tag) != lane->logout_tag) {
		lane->counters->stale++;
		return;
	}
	lane->logout = LOGOUT_ANSWERED;
	lane->time2wait_s = get16(header->time2wait);
	if (lane->current && lane->current->kind == ISBOOT_EXCHANGE_LOGOUT) {
		lane->current->response = header->response;
		isboot_exchange_finish(lane, 0);
	}
	if (lane->logout_cause)
		isboot_lane_lose(lane, lane->logout_cause, 0, "the target asked for a Logout");
}
