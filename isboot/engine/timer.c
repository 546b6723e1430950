// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Deadlines, looked at once a turn.  Each list is in the order of its deadlines, so only heads are looked at.
 * Nothing here makes an idle lane wake up but the NOP interval.
 */

#include "lane.h"

/* DEFER_TASKRUN has lost wake-ups in the past (ioutgt); with I/O under way somebody would wait for it. */
enum { BACKSTOP_MS = 1000 };

/*
 * A reset ends the tasks of every initiator, and only the one that asked for it is told at once: for what was
 * sent before we heard of it the full time-out would be waiting for nothing.
 */
enum { AFTER_RESET_MS = 3000 };

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static struct command *first_of(const struct link *list)
{
	return list_is_empty(list) ? NULL : container_of(list->next, struct command, queue);
}

static uint64_t ping_deadline_ns(const struct isboot_lane *lane)
{
	uint64_t after_bytes_ns = lane->received_ns + lane->setup.nop_timeout_ms * NS_PER_MS;

	/* a target that sends is alive, even if its answer queues behind megabytes */
	return after_bytes_ns > lane->ping_deadline_ns ? after_bytes_ns : lane->ping_deadline_ns;
}

static uint64_t answer_deadline_ns(const struct isboot_lane *lane, const struct command *command)
{
	if (lane->reset_ns && command->sent_ns < lane->reset_ns)
		return earlier(command->deadline_ns, lane->reset_ns + AFTER_RESET_MS * NS_PER_MS);
	return command->deadline_ns;
}

static void check_ping(struct isboot_lane *lane)
{
	if (!lane->ping_is_out) {
		if (lane->now_ns < lane->received_ns + lane->setup.nop_interval_ms * NS_PER_MS)
			return;
		lane->ping_is_out = true;
		lane->ping_tag = isboot_output_tag(lane, SLOT_PING);
		lane->ping_deadline_ns = lane->now_ns + lane->setup.nop_timeout_ms * NS_PER_MS;
		lane->urgent |= URGENT_PING;
	} else if (lane->now_ns >= ping_deadline_ns(lane)) {
		isboot_lane_lose(lane, ISBOOT_CAUSE_NOP_TIMEOUT, 0, "a NOP-Out was not answered");
	}
}

static void check_commands(struct isboot_lane *lane)
{
	struct command *oldest = first_of(&lane->sent), *next = first_of(&lane->waiting);

	if (lane->abort_tag) {
		if (lane->now_ns < lane->abort_deadline_ns)
			return;
		lane->abort_tag = 0;
		if (lane->aborting)
			isboot_lane_lose(lane, ISBOOT_CAUSE_COMMAND_TIMEOUT, 0,
					 "ABORT TASK was not answered");
		return;
	}
	if (oldest && lane->now_ns >= answer_deadline_ns(lane, oldest)) {
		if (oldest->was_aborted) {
			isboot_lane_lose(lane, ISBOOT_CAUSE_COMMAND_TIMEOUT, 0,
					 "a command was aborted, issued again, and not answered either");
			return;
		}
		oldest->is_late = isboot_command_is_range(oldest);
		lane->aborting = oldest;
		lane->abort_tag = isboot_output_tag(lane, SLOT_ABORT);
		lane->abort_deadline_ns = lane->now_ns + lane->setup.nop_timeout_ms * NS_PER_MS;
		lane->urgent |= URGENT_ABORT;
	} else if (!oldest && next && lane->now_ns >= next->deadline_ns &&
		   !serial_reached(lane->cmd_sn, lane->max_cmd_sn)) {
		isboot_lane_lose(lane, ISBOOT_CAUSE_COMMAND_TIMEOUT, 0,
				 "the target keeps its command window closed");
	}
}

static void check_logout(struct isboot_lane *lane)
{
	if (lane->logout == LOGOUT_WANTED) {
		if (lane->sent_count && lane->now_ns < lane->logout_deadline_ns)
			return;
		lane->logout = LOGOUT_SENT;
		lane->logout_tag = isboot_output_tag(lane, SLOT_LOGOUT);
		lane->logout_deadline_ns = lane->now_ns + lane->setup.nop_timeout_ms * NS_PER_MS;
		lane->urgent |= URGENT_LOGOUT;
	} else if (lane->logout == LOGOUT_SENT && lane->now_ns >= lane->logout_deadline_ns) {
		isboot_lane_lose(lane, lane->logout_cause ? lane->logout_cause : ISBOOT_CAUSE_COMMAND_TIMEOUT,
				 0, "a Logout was not answered");
	}
}

void isboot_timer_run(struct isboot_lane *lane)
{
	for (uint32_t level = 0; level < DELAY_LEVELS; level++) {
		struct command *command;

		while ((command = first_of(&lane->delayed[level])) && command->deadline_ns <= lane->now_ns)
			isboot_command_wake(lane, command);
	}
	if (!lane->is_attached || lane->lost)
		return;
	check_ping(lane);
	check_commands(lane);
	check_logout(lane);
	if (lane->current && lane->exchange_deadline_ns <= lane->now_ns)
		isboot_lane_lose(lane, ISBOOT_CAUSE_COMMAND_TIMEOUT, 0, "a control command was not answered");
}

uint64_t isboot_timer_next_ns(const struct isboot_lane *lane)
{
	const struct command *command;
	uint64_t next_ns = NEVER_NS;

	for (uint32_t level = 0; level < DELAY_LEVELS; level++) {
		command = first_of(&lane->delayed[level]);
		if (command)
			next_ns = earlier(next_ns, command->deadline_ns);
	}
	if (!lane->is_attached)
		return next_ns;
	if (lane->ping_is_out)
		next_ns = earlier(next_ns, ping_deadline_ns(lane));
	else
		next_ns = earlier(next_ns, lane->received_ns + lane->setup.nop_interval_ms * NS_PER_MS);
	if (lane->abort_tag)
		next_ns = earlier(next_ns, lane->abort_deadline_ns);
	else if ((command = first_of(&lane->sent)))
		next_ns = earlier(next_ns, answer_deadline_ns(lane, command));
	/* as check_commands() does: nothing else is looked at while an ABORT TASK is out */
	if (!lane->abort_tag && !lane->sent_count && (command = first_of(&lane->waiting)) &&
	    !serial_reached(lane->cmd_sn, lane->max_cmd_sn))
		next_ns = earlier(next_ns, command->deadline_ns);
	if (lane->logout != LOGOUT_NONE)
		next_ns = earlier(next_ns, lane->logout_deadline_ns);
	if (lane->current)
		next_ns = earlier(next_ns, lane->exchange_deadline_ns);
	if (lane->in_flight)
		next_ns = earlier(next_ns, lane->now_ns + BACKSTOP_MS * NS_PER_MS);
	return next_ns;
}
