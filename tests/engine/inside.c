// SPDX-License-Identifier: GPL-2.0-or-later
/* What a test cannot bring about from outside of a lane: linked to the engine, called by test_inside.py. */

#include "lane.h"

void hold_receive(struct isboot_lane *lane, bool is_held)
{
	lane->receive.is_armed = is_held;
}

uint32_t count_sqes(const struct isboot_lane *lane)
{
	return __atomic_load_n(lane->ring.sq.ktail, __ATOMIC_ACQUIRE);
}

/* Every command looks as if its first retry had been so long ago. */
void age_retries(struct isboot_lane *lane, uint32_t age_ms)
{
	for (uint32_t slot = 0; slot < lane->setup.depth; slot++)
		if (lane->commands[slot].first_retry_ns)
			lane->commands[slot].first_retry_ns -= age_ms * NS_PER_MS;
}

static const struct front_end *real;
static struct front_end front_end;

/* As ublk does: a commit is an SQE, whose completion comes with the next request. */
static void commit(struct isboot_lane *lane, struct command *command)
{
	struct io_uring_sqe *sqe = isboot_lane_sqe(lane);

	io_uring_prep_nop(sqe);
	io_uring_sqe_set_flags(sqe, IOSQE_CQE_SKIP_SUCCESS);
	real->commit(lane, command);
}

void commit_by_sqe(struct isboot_lane *lane)
{
	real = lane->front_end;
	front_end = *real;
	front_end.commit = commit;
	lane->front_end = &front_end;
}

/* As ublk's, of a device that is gone; the first time the connection ends in the same turn. */
static int finished(struct isboot_lane *lane)
{
	if (lane->ublk.was_reported)
		return 0;
	lane->ublk.was_reported = true;
	if (!lane->ublk.aborted++)
		isboot_lane_lose(lane, ISBOOT_CAUSE_CLOSED, 0, "by a test");
	return ISBOOT_REASON_ABANDONED;
}

void abandon_and_lose(struct isboot_lane *lane)
{
	front_end = *lane->front_end;
	front_end.finished = finished;
	lane->front_end = &front_end;
}
