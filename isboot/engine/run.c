// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Turns of the loop, and the coming and going of sessions.
 *
 * No command leaves a dead connection before the last completion of every operation on its socket: a late one
 * would land in a buffer that is in use again.
 */

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lane.h"
#include "probes.h"

int isboot_lane_attach(isboot_lane *lane, const struct isboot_session *session, struct isboot_error *error)
{
	uint64_t reissued;

	if (!lane->has_ring)
		return isboot_fail(error, -EINVAL, "attaching a session: the lane is not started");
	if (lane->is_attached)
		return isboot_fail(error, -EBUSY, "attaching a session: the lane has one");
	if (session->fd < 0 || session->max_outstanding_r2t >= BURSTS_MAX ||
	    !session->first_burst_length_bytes || !session->max_burst_length_bytes ||
	    !session->max_send_data_segment_length_bytes || !session->max_recv_data_segment_length_bytes)
		return isboot_fail(error, -EINVAL, "attaching a session: a limit is out of range");
	lane->session = *session;
	lane->cmd_sn = session->cmd_sn;
	lane->exp_cmd_sn = session->cmd_sn;
	lane->max_cmd_sn = session->max_cmd_sn;
	lane->exp_stat_sn = session->exp_stat_sn;
	lane->sent_limit = lane->setup.depth + 1;
	lane->urgent = 0;
	lane->nop_count = 0;
	lane->ping_is_out = false;
	lane->reset_ns = 0;
	lane->aborting = NULL;
	lane->abort_tag = 0;
	lane->logout = LOGOUT_NONE;
	lane->logout_cause = ISBOOT_CAUSE_NONE;
	lane->time2wait_s = 0;
	lane->lost = ISBOOT_CAUSE_NONE;
	isboot_send_reset(lane);
	isboot_receive_reset(lane);
	lane->now_ns = isboot_now_ns();
	lane->received_ns = lane->now_ns;
	lane->is_attached = true;
	reissued = lane->counters->reissued;
	if (lane->lost_ns) {
		lane->counters->reconnects++;
		isboot_command_requeue_all(lane);
		lane->lost_ns = 0;
	}
	ISBOOT_PROBE_CONNECTION_RESUMED(lane->setup.device_id, lane->setup.index,
					lane->counters->reissued - reissued, lane->now_ns);
	lane->expects_io_resumed = true;
	return 0;
}

int isboot_lane_detach(isboot_lane *lane, struct isboot_session *session)
{
	if (!lane->is_attached)
		return -ENOTCONN;
	if (lane->sent_count || !list_is_empty(&lane->finishing) || lane->send.bytes ||
	    lane->send.is_in_flight || lane->receive.is_armed || lane->receive.stage != RECEIVE_HEADER ||
	    lane->receive.start != lane->receive.end)
		return -EBUSY;
	*session = lane->session;
	session->cmd_sn = lane->cmd_sn;
	session->exp_stat_sn = lane->exp_stat_sn;
	session->max_cmd_sn = lane->max_cmd_sn;
	lane->is_attached = false;
	return 0;
}

static void arm_wake(struct isboot_lane *lane)
{
	struct io_uring_sqe *sqe;

	if (lane->wake_is_armed)
		return;
	sqe = isboot_lane_sqe(lane);
	if (!sqe)
		return;
	io_uring_prep_read(sqe, lane->wake_fd, &lane->wake_value, sizeof(lane->wake_value), 0);
	io_uring_sqe_set_data64(sqe, completion_data(COMPLETION_WAKE, 0));
	lane->wake_is_armed = true;
}

static void dispatch(struct isboot_lane *lane, const struct io_uring_cqe *cqe)
{
	uint64_t data = io_uring_cqe_get_data64(cqe);

	switch ((enum completion)(data >> 32)) {
	case COMPLETION_UBLK:
		isboot_ublk_completed(lane, (uint32_t)data, cqe->res);
		break;
	case COMPLETION_SEND:
		isboot_send_completed(lane, cqe->res);
		break;
	case COMPLETION_RECEIVE:
		isboot_receive_completed(lane, cqe->res, cqe->flags);
		break;
	case COMPLETION_WAKE:
		lane->wake_is_armed = false;
		isboot_exchange_take(lane);
		break;
	case COMPLETION_CANCEL:
		break; /* whether it found anything shows in the completion of what it cancelled */
	}
}

/* Submits what is prepared, sleeps until `wanted` completions are there or a deadline is due, handles them. */
static void wait_and_dispatch(struct isboot_lane *lane, uint32_t wanted, uint64_t deadline_ns)
{
	struct __kernel_timespec timeout, *bound = NULL;
	struct io_uring_cqe *cqe;
	uint32_t head, handled = 0;
	bool all_taken;
	int code;

	if (deadline_ns != NEVER_NS) {
		uint64_t now_ns = isboot_now_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;

		timeout.tv_sec = (int64_t)(left_ns / 1000000000ULL);
		timeout.tv_nsec = (long long)(left_ns % 1000000000ULL);
		bound = &timeout;
	}
	code = io_uring_submit_and_wait_timeout(&lane->ring, &cqe, wanted, bound, NULL);
	/* EINTR: the guard's SIGCONT; EBUSY: completions have to be taken first */
	if (code < 0 && code != -ETIME && code != -EINTR && code != -EAGAIN && code != -EBUSY)
		lane->ring_code = code;
	lane->now_ns = isboot_now_ns();
	all_taken = !io_uring_sq_ready(
		&lane->ring); /* asked now: commits below prepare SQEs for the next enter */
	io_uring_for_each_cqe (&lane->ring, head, cqe) {
		dispatch(lane, cqe);
		handled++;
	}
	io_uring_cq_advance(&lane->ring, handled);
	if (all_taken)
		isboot_send_settle(lane);
}

static void cancel(struct isboot_lane *lane, enum completion kind)
{
	struct io_uring_sqe *sqe = isboot_lane_sqe(lane);

	if (!sqe)
		return; /* the loop of quiesce() asks again */
	io_uring_prep_cancel64(sqe, completion_data(kind, 0), 0);
	io_uring_sqe_set_data64(sqe, completion_data(COMPLETION_CANCEL, 0));
}

/* Waits until no operation on the socket is left in the kernel. */
static void quiesce(struct isboot_lane *lane)
{
	enum { AGAIN_MS = 100 };
	uint64_t again_ns = 0;

	while ((lane->receive.is_armed || lane->send.is_in_flight) && !lane->ring_code) {
		/*
		 * Once per AGAIN_MS: the answer to a cancel wakes us.  To ask again at once would be a busy loop,
		 * which as SCHED_FIFO keeps off the CPU the kernel thread that is to end the operation.
		 */
		if (isboot_now_ns() >= again_ns) {
			if (lane->receive.is_armed)
				cancel(lane, COMPLETION_RECEIVE);
			if (lane->send.is_in_flight)
				cancel(lane, COMPLETION_SEND);
			again_ns = isboot_now_ns() + AGAIN_MS * NS_PER_MS;
		}
		wait_and_dispatch(lane, 1, again_ns);
	}
}

static int end_connection(struct isboot_lane *lane, struct isboot_loss *loss)
{
	(void)shutdown(lane->session.fd, SHUT_RDWR);
	quiesce(lane);
	isboot_send_reset(lane);
	isboot_commands_sendmsg_done(lane);
	isboot_receive_reset(lane);
	lane->is_attached = false;
	lane->urgent = 0;
	__atomic_store_n(&lane->counters->state, ISBOOT_LANE_RECONNECTING, __ATOMIC_RELAXED);
	loss->cause = lane->lost;
	loss->code = lane->lost_code;
	loss->time2wait_s = lane->time2wait_s;
	loss->in_flight = lane->in_flight;
	loss->lost_ns = lane->lost_ns;
	(void)snprintf(loss->detail, sizeof(loss->detail), "%s", lane->lost_detail);
	ISBOOT_PROBE_CONNECTION_LOST(lane->setup.device_id, lane->setup.index, loss->cause, loss->code,
				     loss->in_flight, loss->lost_ns);
	lane->lost = ISBOOT_CAUSE_NONE;
	return ISBOOT_REASON_LOST;
}

static int end_logged_out(struct isboot_lane *lane, struct isboot_loss *loss)
{
	quiesce(lane);
	lane->is_attached = false;
	lane->lost_ns = lane->now_ns; /* what is unfinished is issued again on the next session */
	isboot_send_reset(lane);
	isboot_commands_sendmsg_done(lane);
	loss->time2wait_s = lane->time2wait_s;
	__atomic_store_n(&lane->counters->state, ISBOOT_LANE_STOPPED, __ATOMIC_RELAXED);
	return ISBOOT_REASON_LOGGED_OUT;
}

static bool is_drained(const struct isboot_lane *lane)
{
	return !lane->sent_count && list_is_empty(&lane->finishing) && !lane->send.bytes && !lane->current;
}

/* An enum isboot_reason to come back for, or 0. */
static int find_reason(struct isboot_lane *lane, struct isboot_loss *loss)
{
	uint32_t stop = __atomic_load_n(&lane->stop, __ATOMIC_SEQ_CST);
	int reason = 0;

	if (lane->ring_code) {
		reason = lane->ring_code;
		lane->ring_code = 0;
		quiesce(lane);
		return reason;
	}
	if (lane->lost)
		return end_connection(lane, loss);
	if (lane->logout == LOGOUT_ANSWERED)
		return end_logged_out(lane, loss);
	if (stop == STOP_NOW || (stop == STOP_DRAIN && is_drained(lane))) {
		__atomic_store_n(&lane->stop, STOP_NONE, __ATOMIC_SEQ_CST);
		reason = ISBOOT_REASON_STOPPED;
	} else if (!lane->send.bytes) {
		reason = lane->front_end->finished(lane);
	}
	if (!reason)
		return 0;
	quiesce(lane);
	if (lane->lost) {
		lane->ublk.was_reported = false; /* this reason comes first; the next run tells the other */
		return end_connection(lane, loss);
	}
	return lane->ring_code ? lane->ring_code : reason;
}

static int turn(struct isboot_lane *lane, struct isboot_loss *loss)
{
	uint32_t wanted = 1;
	bool is_quiet;
	int reason;

	arm_wake(lane);
	lane->front_end->take(lane);
	isboot_timer_run(lane);
	if (lane->is_attached && !lane->lost) {
		isboot_output_gather(lane);
		is_quiet = isboot_send_start(lane);
		/* what had to wait for a place among the NOP replies */
		if (!lane->receive.is_armed)
			isboot_receive_parse(lane);
		isboot_receive_start(lane);
		if (is_quiet && isboot_output_has_more(lane))
			wanted = 0; /* the next batch is ready as soon as this one is gone */
	}
	reason = find_reason(lane, loss);
	if (!reason)
		wait_and_dispatch(lane, wanted, isboot_timer_next_ns(lane));
	return reason;
}

static int run(struct isboot_lane *lane, struct isboot_loss *loss)
{
	int reason;

	memset(loss, 0, sizeof(*loss));
	lane->now_ns = isboot_now_ns();
	__atomic_store_n(&lane->is_running, 1, __ATOMIC_SEQ_CST);
	isboot_exchange_take(lane);
	do
		reason = turn(lane, loss);
	while (!reason);
	__atomic_store_n(&lane->is_running, 0, __ATOMIC_SEQ_CST);
	isboot_exchange_refuse(lane);
	(void)io_uring_submit(&lane->ring); /* commits of the last turn */
	return reason;
}

int isboot_lane_run(isboot_lane *lane, struct isboot_loss *loss)
{
	if (!lane->has_ring || !lane->front_end)
		return -EINVAL;
	if (!lane->is_attached)
		return -ENOTCONN;
	__atomic_store_n(&lane->counters->state, ISBOOT_LANE_LIVE, __ATOMIC_RELAXED);
	return run(lane, loss);
}

int isboot_lane_fail(isboot_lane *lane, int32_t code)
{
	struct isboot_loss loss;
	int reason;

	if (!lane->has_ring || !lane->front_end || code >= 0)
		return -EINVAL;
	if (lane->is_attached)
		return -EBUSY;
	lane->give_up_code = code;
	lane->now_ns = isboot_now_ns();
	isboot_command_fail_all(lane, code);
	__atomic_store_n(&lane->counters->state, ISBOOT_LANE_STOPPED, __ATOMIC_RELAXED);
	reason = run(lane, &loss);
	lane->give_up_code = 0;
	return reason;
}
