// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What goes out in a turn, in this order: immediate requests and replies, Data-Out that is owed, new commands
 * as far as the target's window reaches (RFC 7143 §4.2.2.1).
 */

#include <string.h>

#include "lane.h"

static const uint8_t no_lun[8];

uint32_t isboot_output_tag(struct isboot_lane *lane, uint32_t special_slot)
{
	return (lane->setup.depth + special_slot) | ++lane->special_generation << SLOT_BITS;
}

static void append_request(struct isboot_lane *lane, enum opcode opcode, uint8_t flags, const uint8_t lun[8],
			   uint32_t initiator_task_tag, uint32_t word20, uint32_t ref_cmd_sn)
{
	union pdu pdu;

	pdu.request = (struct pdu_request){
		.opcode = (uint8_t)(opcode | OPCODE_IMMEDIATE),
		.flags = FLAG_FINAL | flags,
		.initiator_task_tag = put32(initiator_task_tag),
		.word20 = put32(word20),
		.cmd_sn = put32(lane->cmd_sn), /* immediate: carried, not consumed */
		.exp_stat_sn = put32(lane->exp_stat_sn),
		.ref_cmd_sn = put32(ref_cmd_sn),
	};
	memcpy(pdu.request.lun, lun, 8);
	isboot_send_append(lane, &pdu, NULL, 0);
}

static void gather_nop_replies(struct isboot_lane *lane)
{
	while (lane->nop_count && isboot_send_has_room(lane)) {
		const struct nop_reply *reply = &lane->nop_replies[lane->nop_first];

		append_request(lane, OPCODE_NOP_OUT, 0, reply->lun, RESERVED_TAG, reply->target_transfer_tag,
			       0);
		lane->nop_first = (lane->nop_first + 1) % NOP_REPLIES;
		lane->nop_count--;
	}
}

static void gather_urgent(struct isboot_lane *lane)
{
	if (lane->urgent & URGENT_PING)
		append_request(lane, OPCODE_NOP_OUT, 0, no_lun, lane->ping_tag, RESERVED_TAG, 0);
	if (lane->urgent & URGENT_ABORT && lane->aborting)
		append_request(lane, OPCODE_TASK_MANAGEMENT_REQUEST, TASK_ABORT, lane->session.lun,
			       lane->abort_tag, lane->aborting->initiator_task_tag, lane->aborting->cmd_sn);
	if (lane->urgent & URGENT_TASK_MANAGEMENT && lane->current) {
		const struct command *slot = &lane->commands[lane->setup.depth];
		uint32_t referenced = lane->current->referenced_tag;

		append_request(lane, OPCODE_TASK_MANAGEMENT_REQUEST, lane->current->function & 0x7f,
			       lane->session.lun, slot->initiator_task_tag,
			       referenced ? referenced : RESERVED_TAG, 0);
	}
	if (lane->urgent & URGENT_LOGOUT) {
		/* reason 0: close the session */
		append_request(lane, OPCODE_LOGOUT_REQUEST, 0, no_lun, lane->logout_tag,
			       (uint32_t)lane->session.cid << 16, 0);
		lane->logout = LOGOUT_SENT;
	}
	lane->urgent = 0;
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* One sequence of Data-Out, as far as there is room; true when all of it is in the batch. */
static bool gather_burst(struct isboot_lane *lane, struct command *command, struct burst *burst,
			 uint64_t bytes_max)
{
	while (burst->offset < burst->end) {
		uint32_t limit = lane->session.max_send_data_segment_length_bytes;
		uint32_t length = smaller(burst->end - burst->offset, limit);
		union pdu pdu;

		if (!isboot_send_has_room(lane) || lane->send.bytes >= bytes_max)
			return false;
		pdu.data_out = (struct pdu_data_out){
			.opcode = OPCODE_DATA_OUT,
			.flags = burst->offset + length == burst->end ? FLAG_FINAL : 0,
			.initiator_task_tag = put32(command->initiator_task_tag),
			.target_transfer_tag = put32(burst->target_transfer_tag),
			.exp_stat_sn = put32(lane->exp_stat_sn),
			.data_sn = put32(burst->data_sn),
			.buffer_offset = put32(burst->offset),
		};
		memcpy(pdu.data_out.lun, lane->session.lun, 8);
		isboot_send_append(lane, &pdu, command->outgoing + burst->offset, length);
		command->batch = lane->send.batch;
		command->sent_ns = lane->now_ns;
		burst->offset += length;
		burst->data_sn++;
	}
	return true;
}

/* First in, first out: unsolicited data has to follow the order of its commands (RFC 7143 §4.2.5.2). */
static void gather_transfers(struct isboot_lane *lane, uint64_t bytes_max)
{
	while (!list_is_empty(&lane->transfers)) {
		struct command *command = container_of(lane->transfers.next, struct command, transfer);

		while (command->burst_count) {
			if (!gather_burst(lane, command, &command->bursts[command->first_burst], bytes_max))
				return;
			command->first_burst = (command->first_burst + 1) % BURSTS_MAX;
			command->burst_count--;
		}
		list_remove(&command->transfer);
	}
}

/* How much goes in the command itself, and how much unasked after it.  RFC 7143 §13.10-13.14. */
static void gather_command(struct isboot_lane *lane, struct command *command)
{
	const struct isboot_session *session = &lane->session;
	uint32_t immediate = 0, unsolicited = 0;
	union pdu pdu = { .scsi_command = { .opcode = OPCODE_SCSI_COMMAND, .flags = TASK_ATTRIBUTE_SIMPLE } };
	struct pdu_scsi_command *header = &pdu.scsi_command;

	isboot_command_sent(lane, command);
	if (command->is_write) {
		uint32_t first = smaller(command->payload_bytes, session->first_burst_length_bytes);

		if (session->immediate_data)
			immediate = smaller(first, session->max_send_data_segment_length_bytes);
		unsolicited = session->initial_r2t ? immediate : first;
		header->flags |= FLAG_WRITE;
	} else if (command->is_read) {
		header->flags |= FLAG_READ;
	}
	if (unsolicited == immediate)
		header->flags |= FLAG_FINAL;
	memcpy(header->lun, session->lun, 8);
	header->initiator_task_tag = put32(command->initiator_task_tag);
	if (command->is_read || command->is_write)
		header->expected_data_transfer_length = put32(command->payload_bytes);
	header->cmd_sn = put32(command->cmd_sn);
	header->exp_stat_sn = put32(lane->exp_stat_sn);
	if (command->operation == OPERATION_EXCHANGE)
		memcpy(header->cdb, lane->current->cdb, 16);
	else
		isboot_scsi_build(lane, command, header->cdb);

	isboot_send_append(lane, &pdu, command->outgoing, immediate);
	command->batch = lane->send.batch;
	command->solicited_bytes = unsolicited;
	if (unsolicited > immediate) {
		command->bursts[0] = (struct burst){ immediate, unsolicited, RESERVED_TAG, 0 };
		command->burst_count = 1;
		list_append(&lane->transfers, &command->transfer);
	}
}

static bool may_issue(const struct isboot_lane *lane)
{
	return !list_is_empty(&lane->waiting) && serial_reached(lane->cmd_sn, lane->max_cmd_sn) &&
	       lane->sent_count < lane->sent_limit && lane->logout == LOGOUT_NONE &&
	       __atomic_load_n(&lane->stop, __ATOMIC_RELAXED) == STOP_NONE;
}

bool isboot_output_has_more(const struct isboot_lane *lane)
{
	return lane->nop_count || lane->urgent || !list_is_empty(&lane->transfers) || may_issue(lane);
}

void isboot_output_gather(struct isboot_lane *lane)
{
	/* a batch the socket has not taken yet is finished first; what is ready meanwhile gathers in the lists */
	if (lane->send.bytes)
		return;
	gather_nop_replies(lane);
	if (lane->urgent && isboot_send_has_room(lane))
		gather_urgent(lane);
	/* half a batch at most, so that reads do not queue behind a flood of writes */
	gather_transfers(lane, SEND_BYTES_MAX / 2);
	while (may_issue(lane) && isboot_send_has_room(lane)) {
		struct command *command = container_of(lane->waiting.next, struct command, queue);

		gather_command(lane, command);
		if (lane->transfers.next == &command->transfer)
			gather_transfers(lane, SEND_BYTES_MAX);
	}
}
