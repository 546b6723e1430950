// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Bytes of the socket cut into PDUs: the hybrid receive.
 *
 * One receive is outstanding.  It fills an area that stays in the L2 cache; headers and short payloads are
 * taken from there.  A payload with RECEIVE_DIRECT_BYTES or more still to come is received where it belongs,
 * by an operation that takes the digest and, when another PDU is certain to follow, its header too.  A big
 * area alone would copy every long payload once more; exact receives alone would cost two operations a PDU.
 */

#include <errno.h>
#include <string.h>

#include "lane.h"

void isboot_receive_reset(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;

	receive->start = 0;
	receive->end = 0;
	receive->stage = RECEIVE_HEADER;
	receive->command = NULL;
	receive->segment_left = 0;
	receive->direct_bytes = 0;
	receive->expects_long = false;
	receive->is_drained = false;
}

static uint32_t trailer_bytes(const struct isboot_lane *lane)
{
	uint32_t length = get24(lane->receive.header.basic.data_segment_length);

	return (-length & 3) + (lane->session.data_digest ? DIGEST_BYTES : 0);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* The rest of a long payload, in place. */
static void prepare_direct(struct isboot_lane *lane, struct io_uring_sqe *sqe)
{
	struct receive *receive = &lane->receive;
	uint32_t length = receive->segment_left, behind = trailer_bytes(lane);

	if (length > RECEIVE_DIRECT_BYTES_MAX) {
		length = RECEIVE_DIRECT_BYTES_MAX;
		behind = 0;
	} else if (!(receive->header.basic.flags & FLAG_STATUS)) {
		/* without a status in it another PDU is certain to come, so waiting for its header costs nothing */
		behind += HEADER_BYTES;
	}
	receive->direct_bytes = length;
	receive->vectors[0] = (struct iovec){ receive->destination, length };
	receive->vectors[1] = (struct iovec){ receive->area, behind };
	receive->message = (struct msghdr){ .msg_iov = receive->vectors, .msg_iovlen = behind ? 2 : 1 };
	io_uring_prep_recvmsg(sqe, lane->session.fd, &receive->message, MSG_WAITALL);
	receive->expects_long = true;
}

void isboot_receive_start(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	struct io_uring_sqe *sqe;
	uint32_t left = receive->end - receive->start;

	/* with a PDU in the area that could not be taken yet, the target has to wait */
	if (receive->is_armed || lane->nop_count == NOP_REPLIES)
		return;
	sqe = isboot_lane_sqe(lane);
	if (!sqe)
		return;
	if (left && receive->start)
		memmove(receive->area, receive->area + receive->start, left);
	receive->start = 0;
	receive->end = left;
	receive->direct_bytes = 0;
	if (receive->stage == RECEIVE_SEGMENT && receive->room >= receive->segment_left && !left &&
	    receive->segment_left >= RECEIVE_DIRECT_BYTES) {
		prepare_direct(lane, sqe);
	} else {
		uint32_t room = RECEIVE_AREA_BYTES - receive->end;

		if (receive->expects_long)
			room = smaller(room, receive->segment_left + RECEIVE_HEADER_AHEAD_BYTES);
		io_uring_prep_recv(sqe, lane->session.fd, receive->area + receive->end, room, 0);
	}
	if (receive->is_drained)
		sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
	io_uring_sqe_set_data64(sqe, completion_data(COMPLETION_RECEIVE, 0));
	receive->is_armed = true;
}

void isboot_receive_completed(struct isboot_lane *lane, int result, uint32_t flags)
{
	struct receive *receive = &lane->receive;
	uint32_t direct;

	receive->is_armed = false;
	if (lane->lost)
		return; /* whatever it brought belongs to a connection given up */
	if (result <= 0) {
		if (result == 0)
			isboot_lane_lose(lane, ISBOOT_CAUSE_CLOSED, 0, "the target closed the connection");
		else if (result != -EINTR && result != -EAGAIN &&
			 result != -ECANCELED) /* ours, see quiesce() */
			isboot_lane_lose(lane, ISBOOT_CAUSE_SOCKET, result, "receiving");
		return;
	}
	lane->received_ns = lane->now_ns;
	lane->counters->wire_received_bytes += (uint32_t)result;
	receive->is_drained = !(flags & IORING_CQE_F_SOCK_NONEMPTY);
	direct = smaller((uint32_t)result, receive->direct_bytes);
	if (direct) {
		if (lane->session.data_digest)
			receive->sum = isboot_sum(receive->sum, receive->destination, direct);
		receive->destination += direct;
		receive->room -= direct;
		receive->segment_left -= direct;
	}
	receive->end += (uint32_t)result - direct;
	isboot_receive_parse(lane);
}

/* Each step returns false when it needs more bytes than there are. */

static bool take_header(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const uint8_t *bytes = receive->area + receive->start;
	uint32_t available = receive->end - receive->start, header_bytes, length;

	if (available < HEADER_BYTES || lane->nop_count == NOP_REPLIES)
		return false;
	/* RFC 7143 §11.2.2: additional header segments; none concerns us, but they are part of the digest */
	header_bytes = HEADER_BYTES + bytes[4] * 4U;
	if (available < header_bytes + (lane->session.header_digest ? DIGEST_BYTES : 0))
		return false;
	receive->start += header_bytes;
	if (lane->session.header_digest) {
		if (!digest_matches(bytes + header_bytes, isboot_sum(SUM_START, bytes, header_bytes))) {
			lane->counters->digest_errors++;
			isboot_lane_lose(lane, ISBOOT_CAUSE_HEADER_DIGEST, 0,
					 "a header digest does not match");
			return false;
		}
		receive->start += DIGEST_BYTES;
	}
	memcpy(receive->header.bytes, bytes, HEADER_BYTES);
	length = get24(receive->header.basic.data_segment_length);
	if (length > lane->session.max_recv_data_segment_length_bytes) {
		isboot_lane_violation(lane, "a data segment is longer than our MaxRecvDataSegmentLength");
		return false;
	}
	receive->segment_left = length;
	receive->sum = SUM_START;
	receive->command = NULL;
	receive->destination = receive->kept;
	receive->room = sizeof(receive->kept);
	isboot_input_begin(lane);
	receive->stage = length ? RECEIVE_SEGMENT : RECEIVE_HEADER;
	if (!length && !lane->lost)
		isboot_input_end(lane);
	return true;
}

static bool take_segment(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const uint8_t *bytes = receive->area + receive->start;
	uint32_t length = smaller(receive->end - receive->start, receive->segment_left);
	uint32_t copied = smaller(length, receive->room);

	if (copied) {
		memcpy(receive->destination, bytes, copied);
		receive->destination += copied;
		receive->room -= copied;
	}
	if (lane->session.data_digest)
		receive->sum = isboot_sum(receive->sum, bytes, length);
	receive->start += length;
	receive->segment_left -= length;
	if (receive->segment_left)
		return false;
	receive->stage = RECEIVE_TRAILER;
	return true;
}

static bool take_trailer(struct isboot_lane *lane)
{
	struct receive *receive = &lane->receive;
	const uint8_t *bytes = receive->area + receive->start;
	uint32_t wanted = trailer_bytes(lane),
		 padding = -get24(receive->header.basic.data_segment_length) & 3;

	if (receive->end - receive->start < wanted)
		return false;
	receive->start += wanted;
	if (lane->session.data_digest &&
	    !digest_matches(bytes + padding, isboot_sum(receive->sum, bytes, padding))) {
		lane->counters->digest_errors++;
		isboot_lane_lose(lane, ISBOOT_CAUSE_DATA_DIGEST, 0, "a data digest does not match");
		return false;
	}
	receive->stage = RECEIVE_HEADER;
	if (get24(receive->header.basic.data_segment_length) < RECEIVE_DIRECT_BYTES)
		receive->expects_long = false;
	isboot_input_end(lane);
	return true;
}

void isboot_receive_parse(struct isboot_lane *lane)
{
	static bool (*const steps[])(struct isboot_lane *) = {
		[RECEIVE_HEADER] = take_header,
		[RECEIVE_SEGMENT] = take_segment,
		[RECEIVE_TRAILER] = take_trailer,
	};

	while (!lane->lost && steps[lane->receive.stage](lane))
		;
}
