// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a received PDU means.  begin() sees the header before its data segment, and decides where the segment
 * goes; end() sees the whole PDU, its digest checked.  The target is not trusted: nothing is written outside a
 * request's buffer, nothing outside of it is sent, and what breaks the standard ends the connection.
 */

#include <string.h>

#include "lane.h"

/* RFC 7143 §4.2.2.1: serial arithmetic; stale values, and pairs that contradict themselves, are ignored. */
static void update_window(struct isboot_lane *lane, const struct pdu_answer *answer)
{
	uint32_t exp_cmd_sn = get32(answer->exp_cmd_sn), max_cmd_sn = get32(answer->max_cmd_sn);

	if (!serial_reached(exp_cmd_sn - 1, max_cmd_sn))
		return;
	if (serial_reached(lane->max_cmd_sn, max_cmd_sn))
		lane->max_cmd_sn = max_cmd_sn;
	if (serial_reached(lane->exp_cmd_sn, exp_cmd_sn))
		lane->exp_cmd_sn = exp_cmd_sn;
}

/* RFC 7143 §4.2.2.2: a gap is a status that was lost, and TCP does not lose. */
bool isboot_input_stat_sn(struct isboot_lane *lane, uint32_t stat_sn)
{
	if (stat_sn != lane->exp_stat_sn) {
		isboot_lane_violation(lane, "StatSN is not the one expected (RFC 7143 §4.2.2.2)");
		return false;
	}
	lane->exp_stat_sn++;
	return true;
}

static bool has_status(const struct isboot_lane *lane)
{
	return lane->receive.header.basic.flags & FLAG_STATUS;
}

static void begin_data_in(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const struct pdu_answer *header = &receive->header.answer;
	struct command *command = isboot_command_find(lane, get32(header->initiator_task_tag));
	uint32_t length = get24(header->data_segment_length);

	receive->command = command;
	receive->destination = NULL;
	receive->room = 0;
	if (!command)
		return; /* late, after an abort: its data is dropped */
	if (!command->is_read)
		isboot_lane_violation(lane, "Data-In for a command that reads nothing");
	else if (get32(header->data_sn) != command->data_sn)
		isboot_lane_violation(lane, "DataSN of Data-In is not the next one (RFC 7143 §4.2.2.4)");
	else if (get32(header->buffer_offset) != command->received_bytes)
		isboot_lane_violation(lane, "Data-In is out of order (DataPDUInOrder, DataSequenceInOrder)");
	else if (length > command->payload_bytes - command->received_bytes)
		isboot_lane_violation(lane, "Data-In reaches beyond the expected length");
	else if (has_status(lane) && !(header->flags & FLAG_FINAL))
		isboot_lane_violation(lane, "Data-In with status but not final (RFC 7143 §11.7.1)");
	if (lane->lost)
		return;
	command->data_sn++;
	receive->destination = command->buffer + command->received_bytes;
	receive->room = length;
}

static void end_data_in(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const struct pdu_answer *header = &receive->header.answer;

	/* an unacknowledged status is counted even if nobody waits for it */
	if (has_status(lane) && !isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	if (!receive->command) {
		lane->counters->stale++;
		return;
	}
	receive->command->received_bytes += get24(header->data_segment_length);
	if (has_status(lane))
		isboot_command_answer(lane, receive->command, 0, header->status, header->flags,
				      get32(header->residual_count), receive->kept, 0);
}

static void end_scsi_response(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const struct pdu_answer *header = &receive->header.answer;
	struct command *command = isboot_command_find(lane, get32(header->initiator_task_tag));
	uint32_t kept = (uint32_t)sizeof(receive->kept) - receive->room;

	if (!isboot_input_stat_sn(lane, get32(header->stat_sn)))
		return;
	if (!command) {
		lane->counters->stale++;
		return;
	}
	isboot_command_answer(lane, command, header->response, header->status, header->flags,
			      get32(header->residual_count), receive->kept, kept);
}

static void end_r2t(struct isboot_lane *lane)
{
	const struct pdu_answer *header = &lane->receive.header.answer;
	struct command *command = isboot_command_find(lane, get32(header->initiator_task_tag));
	uint32_t offset = get32(header->buffer_offset), length = get32(header->residual_count);
	uint32_t outstanding_max = lane->session.max_outstanding_r2t + 1; /* and the unsolicited sequence */

	if (!command) {
		lane->counters->stale++;
		return;
	}
	if (!command->is_write)
		isboot_lane_violation(lane, "R2T for a command that writes nothing");
	else if (get32(header->target_transfer_tag) == RESERVED_TAG)
		isboot_lane_violation(lane, "R2T without a Target Transfer Tag");
	else if (get32(header->data_sn) != command->data_sn)
		isboot_lane_violation(lane, "R2TSN is not the next one (RFC 7143 §4.2.2.4)");
	else if (offset != command->solicited_bytes)
		isboot_lane_violation(lane, "R2T is out of order (DataSequenceInOrder)");
	else if (!length || length > command->payload_bytes - offset)
		isboot_lane_violation(lane, "R2T reaches beyond the expected length");
	else if (length > lane->session.max_burst_length_bytes)
		isboot_lane_violation(lane, "R2T asks for more than MaxBurstLength");
	else if (command->burst_count >= outstanding_max)
		isboot_lane_violation(lane, "more R2Ts than MaxOutstandingR2T");
	if (lane->lost)
		return;
	command->bursts[(command->first_burst + command->burst_count) % BURSTS_MAX] = (struct burst){
		offset, offset + length, get32(header->target_transfer_tag), 0
	};
	if (!command->burst_count++)
		list_append(&lane->transfers, &command->transfer);
	command->data_sn++;
	command->solicited_bytes += length;
}

/* Keyed by opcode; what is not here is no PDU a target may send. */
static const struct {
	uint8_t opcode;
	void (*begin)(struct isboot_lane *lane);
	void (*end)(struct isboot_lane *lane);
} rows[] = {
	{ OPCODE_DATA_IN, begin_data_in, end_data_in },
	{ OPCODE_SCSI_RESPONSE, NULL, end_scsi_response },
	{ OPCODE_R2T, NULL, end_r2t },
	{ OPCODE_NOP_IN, NULL, isboot_event_nop_in },
	{ OPCODE_TASK_MANAGEMENT_RESPONSE, NULL, isboot_event_task_management },
	{ OPCODE_LOGOUT_RESPONSE, NULL, isboot_event_logout },
	{ OPCODE_ASYNC_MESSAGE, NULL, isboot_event_async },
	{ OPCODE_REJECT, NULL, isboot_event_reject },
};

static int find_row(uint8_t opcode)
{
	for (int i = 0; i < (int)(sizeof(rows) / sizeof(rows[0])); i++)
		if (rows[i].opcode == (opcode & OPCODE_MASK))
			return i;
	return -1;
}

void isboot_input_begin(struct isboot_lane *lane)
{
	int row = find_row(lane->receive.header.basic.opcode);

	if (row < 0) {
		isboot_lane_violation(lane, "a PDU with an opcode no target sends");
		return;
	}
	if (rows[row].begin)
		rows[row].begin(lane);
}

void isboot_input_end(struct isboot_lane *lane)
{
	/* ExpCmdSN and MaxCmdSN stand at one place in all of them (RFC 7143 §11) */
	update_window(lane, &lane->receive.header.answer);
	rows[find_row(lane->receive.header.basic.opcode)].end(lane);
}
