// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One sendmsg at a time, gathered from every PDU that is ready.
 *
 * A batch is first tried with MSG_DONTWAIT, MSG_WAITALL and CQE_SKIP_SUCCESS: when io_uring_enter has taken
 * the SQE, the send is over; a completion comes only if the socket did not take all of it.  So the same system
 * call may go on and sleep until something happens.  With a completion for every send it would return at
 * once, and an I/O at depth 1 take 3 enters in place of 2.  What the socket did not take goes out with a
 * second send, which waits for room and completes when it completes.
 */

#include <errno.h>
#include <string.h>

#include "lane.h"

enum { PDU_OVERHEAD_BYTES = HEADER_BYTES + DIGEST_BYTES + 3 + DIGEST_BYTES, PDU_VECTORS = 3 };

void isboot_send_reset(struct isboot_lane *lane)
{
	struct send *send = &lane->send;

	send->header_bytes = 0;
	send->vector_count = 0;
	send->bytes = 0;
	send->was_tried = false;
	send->batch++;
}

bool isboot_send_has_room(const struct isboot_lane *lane)
{
	const struct send *send = &lane->send;

	return send->vector_count + PDU_VECTORS <= SEND_VECTORS &&
	       send->header_bytes + PDU_OVERHEAD_BYTES <= SEND_HEADER_BYTES && send->bytes < SEND_BYTES_MAX;
}

static void append_vector(struct send *send, const void *base, uint32_t length)
{
	struct iovec *last = send->vector_count ? &send->vectors[send->vector_count - 1] : NULL;

	send->bytes += length;
	/* headers without data stand side by side: one vector for all */
	if (last && (const uint8_t *)last->iov_base + last->iov_len == base) {
		last->iov_len += length;
		return;
	}
	send->vectors[send->vector_count++] = (struct iovec){ (void *)(uintptr_t)base, length };
}

static uint8_t *append_bytes(struct send *send, uint32_t length)
{
	uint8_t *bytes = send->headers + send->header_bytes;

	send->header_bytes += length;
	append_vector(send, bytes, length);
	return bytes;
}

/* The caller has asked isboot_send_has_room(). */
void isboot_send_append(struct isboot_lane *lane, union pdu *pdu, const uint8_t *segment,
			uint32_t segment_bytes)
{
	static const uint8_t padding[3];
	struct send *send = &lane->send;
	uint32_t padding_bytes = -segment_bytes & 3;
	uint8_t *bytes;

	put24(pdu->basic.data_segment_length, segment_bytes);
	bytes = append_bytes(send, HEADER_BYTES);
	memcpy(bytes, pdu->bytes, HEADER_BYTES);
	if (lane->session.header_digest)
		put_digest(append_bytes(send, DIGEST_BYTES), isboot_sum(SUM_START, bytes, HEADER_BYTES));
	if (!segment_bytes)
		return;
	append_vector(send, segment, segment_bytes);
	if (padding_bytes)
		memset(append_bytes(send, padding_bytes), 0, padding_bytes);
	if (lane->session.data_digest) {
		uint32_t sum = isboot_sum(SUM_START, segment, segment_bytes);

		put_digest(append_bytes(send, DIGEST_BYTES), isboot_sum(sum, padding, padding_bytes));
	}
}

bool isboot_send_start(struct isboot_lane *lane)
{
	struct send *send = &lane->send;
	struct io_uring_sqe *sqe;

	if (send->is_in_flight || !send->bytes)
		return false;
	sqe = isboot_lane_sqe(lane);
	if (!sqe)
		return false;
	send->message = (struct msghdr){ .msg_iov = send->vectors, .msg_iovlen = send->vector_count };
	io_uring_prep_sendmsg(sqe, lane->session.fd, &send->message,
			      MSG_NOSIGNAL | MSG_WAITALL | (send->was_tried ? 0 : MSG_DONTWAIT));
	io_uring_sqe_set_data64(sqe, completion_data(COMPLETION_SEND, 0));
	if (!send->was_tried)
		io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	send->is_in_flight = true;
	return !send->was_tried;
}

/* After an io_uring_enter that has taken every SQE, its completions handled: silence is success. */
void isboot_send_settle(struct isboot_lane *lane)
{
	if (lane->send.is_in_flight && !lane->send.was_tried)
		isboot_send_completed(lane, (int)lane->send.bytes);
}

/* Drops what the socket has taken from the front of the vectors. */
static void advance(struct send *send, uint64_t taken)
{
	uint32_t first = 0;

	send->bytes -= taken;
	while (taken && taken >= send->vectors[first].iov_len) {
		taken -= send->vectors[first].iov_len;
		first++;
	}
	send->vector_count -= first;
	memmove(send->vectors, send->vectors + first, send->vector_count * sizeof(send->vectors[0]));
	if (taken) {
		send->vectors[0].iov_base = (uint8_t *)send->vectors[0].iov_base + taken;
		send->vectors[0].iov_len -= taken;
	}
}

void isboot_send_completed(struct isboot_lane *lane, int result)
{
	struct send *send = &lane->send;

	send->is_in_flight = false;
	if (result > 0) {
		lane->counters->wire_sent_bytes += (uint32_t)result;
		if ((uint32_t)result >= send->bytes) {
			if (send->was_tried) {
				send->slow[send->batch % SLOW_BATCHES].batch = send->batch;
				send->slow[send->batch % SLOW_BATCHES].ns = lane->now_ns;
			}
			isboot_send_reset(lane);
			isboot_commands_sendmsg_done(lane);
			return;
		}
		advance(send, (uint32_t)result);
		send->was_tried = true;
	} else if (result == -EAGAIN) {
		send->was_tried = true;
	} else if (result != -EINTR && result != -ECANCELED) {
		isboot_lane_lose(lane, ISBOOT_CAUSE_SOCKET, result, "sending");
	}
}

/* When the last byte of a command was handed to the socket. */
uint64_t isboot_send_time(const struct isboot_lane *lane, const struct command *command)
{
	uint64_t batch = command->batch;

	if (batch && lane->send.slow[batch % SLOW_BATCHES].batch == batch)
		return lane->send.slow[batch % SLOW_BATCHES].ns;
	return command->sent_ns;
}
