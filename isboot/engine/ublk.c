// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Front end of the kernel's block device: linux/ublk_cmd.h, copy mode.
 *
 * A tag is fetched once, then every COMMIT_AND_FETCH gives a result back and waits for the next request.  The
 * payload of a WRITE is copied into the tag's buffer before the completion, that of a READ out of it within
 * the io_uring_enter that submits the commit: both on this thread.
 */

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lane.h"

enum { SECTOR_BYTES = 512, OPERATION_MASK = 0xff };

/* uapi struct ublksrv_io_cmd: fits the command area of a 64-byte SQE */
struct ublk_payload {
	uint16_t queue_id;
	uint16_t tag;
	int32_t result;
	uint64_t address;
};
_Static_assert(sizeof(struct ublk_payload) == 16, "struct ublksrv_io_cmd is 16 bytes");
_Static_assert(sizeof(struct isboot_ublk_descriptor) == 24, "struct ublksrv_io_desc is 24 bytes");

static int submit_command(struct isboot_lane *lane, uint32_t slot, uint32_t operation, int32_t result)
{
	const struct ublk *ublk = &lane->ublk;
	struct io_uring_sqe *sqe = isboot_lane_sqe(lane);
	struct ublk_payload payload = {
		.queue_id = (uint16_t)(ublk->first_queue + slot / ublk->queue_depth),
		.tag = (uint16_t)(slot % ublk->queue_depth),
		.result = result,
		.address = (uint64_t)(uintptr_t)lane->commands[slot].buffer,
	};

	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = ublk->fd;
	sqe->cmd_op = operation;
	memcpy((uint8_t *)sqe + offsetof(struct io_uring_sqe, addr3), &payload, sizeof(payload));
	io_uring_sqe_set_data64(sqe, completion_data(COMPLETION_UBLK, slot));
	return 0;
}

static void give_back(struct isboot_lane *lane, uint32_t slot, int32_t result)
{
	int code = submit_command(lane, slot, ISBOOT_UBLK_IO_COMMIT_AND_FETCH_REQ, result);

	if (code < 0)
		lane->ring_code = code;
}

static void commit(struct isboot_lane *lane, struct command *command)
{
	give_back(lane, command->slot, command->result);
}

/* UBLK_IO_OP_*, and what it is to us. */
static const struct {
	bool is_known;
	bool has_payload; /* in the tag's buffer, or to go there */
	uint8_t operation;
} operations[] = {
	[ISBOOT_UBLK_OP_READ] = { true, true, ISBOOT_READ },
	[ISBOOT_UBLK_OP_WRITE] = { true, true, ISBOOT_WRITE },
	[ISBOOT_UBLK_OP_FLUSH] = { true, false, ISBOOT_FLUSH },
	[ISBOOT_UBLK_OP_DISCARD] = { true, false, ISBOOT_DISCARD },
	[ISBOOT_UBLK_OP_WRITE_ZEROES] = { true, false, ISBOOT_WRITE_ZEROES },
};

/* A request stands in the descriptor of its tag. */
static void take_up(struct isboot_lane *lane, uint32_t slot)
{
	const struct ublk *ublk = &lane->ublk;
	const struct isboot_ublk_descriptor *descriptor =
		&ublk->map[slot / ublk->queue_depth].descriptors[slot % ublk->queue_depth];
	struct command *command = &lane->commands[slot];
	uint64_t length = (uint64_t)descriptor->nr_sectors * SECTOR_BYTES;
	uint64_t offset = descriptor->start_sector * SECTOR_BYTES;
	uint32_t operation = descriptor->op_flags & OPERATION_MASK;

	if (operation >= sizeof(operations) / sizeof(operations[0]) || !operations[operation].is_known) {
		give_back(lane, slot, -EOPNOTSUPP);
		return;
	}
	command->operation = operations[operation].operation;
	if (command->operation == ISBOOT_FLUSH)
		length = offset = 0; /* the block layer gives a flush no place: its sector may be -1 */
	if (length > (operations[operation].has_payload ? lane->setup.max_io_bytes : UINT32_MAX) ||
	    length % lane->setup.block_size_bytes || offset % lane->setup.block_size_bytes ||
	    /* SBC-3 §5.43: no blocks are all blocks up to the last */
	    (!length && command->operation != ISBOOT_FLUSH)) {
		give_back(lane, slot, -EINVAL);
		return;
	}
	command->fua = descriptor->op_flags & ISBOOT_UBLK_IO_F_FUA;
	command->offset_bytes = offset;
	command->length_bytes = (uint32_t)length;
	isboot_command_arrive(lane, command);
}

void isboot_ublk_completed(struct isboot_lane *lane, uint32_t slot, int result)
{
	if (result == ISBOOT_UBLK_IO_RES_OK)
		take_up(lane, slot);
	else if (result == ISBOOT_UBLK_IO_RES_ABORT)
		lane->ublk.aborted++; /* final: the tag is not fetched again */
	else
		lane->ring_code = result;
}

static void take(struct isboot_lane *lane)
{
	(void)lane; /* requests come as completions */
}

static int finished(struct isboot_lane *lane)
{
	struct ublk *ublk = &lane->ublk;

	if (ublk->was_reported || ublk->aborted < ublk->queues * ublk->queue_depth)
		return 0;
	ublk->was_reported = true; /* once; a later run still serves exchanges, such as a Logout */
	return ISBOOT_REASON_ABANDONED;
}

static const struct front_end ublk_front_end = { take, commit, finished };

static int map_descriptors(struct ublk *ublk)
{
	uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE), mask = page_bytes - 1;
	/* the stride is that of the largest depth a device may have, not of this one's */
	uint64_t stride = (ISBOOT_UBLK_MAX_QUEUE_DEPTH * sizeof(struct isboot_ublk_descriptor) + mask) &
			  ~mask;

	ublk->map_bytes = (ublk->queue_depth * sizeof(struct isboot_ublk_descriptor) + mask) & ~mask;
	for (uint32_t i = 0; i < ublk->queues; i++) {
		void *map = mmap(NULL, ublk->map_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, ublk->fd,
				 (off_t)((ublk->first_queue + i) * stride));

		if (map == MAP_FAILED)
			return -errno;
		ublk->map[i].descriptors = map;
	}
	return 0;
}

/* What failed at once stands in the ring already; a request that came already is left for the run. */
static int find_failed_fetch(struct isboot_lane *lane)
{
	struct io_uring_cqe *cqe;
	uint32_t head;
	int code = 0;

	io_uring_for_each_cqe (&lane->ring, head, cqe)
		if (io_uring_cqe_get_data64(cqe) >> 32 == COMPLETION_UBLK && cqe->res < 0 &&
		    cqe->res != ISBOOT_UBLK_IO_RES_ABORT)
			code = cqe->res;
	return code;
}

int isboot_lane_open_ublk(struct isboot_lane *lane, int32_t ublkc_fd, uint32_t first_queue, uint32_t queues,
			  uint32_t queue_depth, struct isboot_error *error)
{
	struct ublk *ublk = &lane->ublk;
	int code;

	if (!lane->has_ring || lane->front_end || !lane->setup.buffers)
		return isboot_fail(error, -EINVAL,
				   "opening a ublk front end: no ring, no buffers, or one is open");
	if (!queues || queues > sizeof(ublk->map) / sizeof(ublk->map[0]) || !queue_depth ||
	    queues * queue_depth != lane->setup.depth)
		return isboot_fail(error, -EINVAL,
				   "opening a ublk front end: queues times depth is not the lane's depth");
	memset(ublk, 0, sizeof(*ublk));
	ublk->fd = ublkc_fd;
	ublk->first_queue = first_queue;
	ublk->queues = queues;
	ublk->queue_depth = queue_depth;
	code = map_descriptors(ublk);
	if (code < 0) {
		isboot_lane_close_ublk(lane);
		return isboot_fail(error, code, "mapping the descriptors of a ublk queue");
	}
	lane->front_end = &ublk_front_end;
	lane->counters->in_flight = 0; /* what a worker before this one left there is fetched again */
	for (uint32_t slot = 0; slot < lane->setup.depth; slot++) {
		lane->commands[slot].buffer = (uint8_t *)lane->setup.buffers +
					      (uint64_t)slot * lane->setup.max_io_bytes;
		code = submit_command(lane, slot, ISBOOT_UBLK_IO_FETCH_REQ, 0);
		if (code < 0)
			return isboot_fail(error, code, "fetching the tags of a ublk queue");
	}
	code = io_uring_submit(&lane->ring);
	if (code >= 0)
		code = find_failed_fetch(lane);
	if (code >= 0)
		isboot_lane_serves(lane);
	return code < 0 ? isboot_fail(error, code, "fetching the tags of a ublk queue") : 0;
}

void isboot_lane_close_ublk(struct isboot_lane *lane)
{
	struct ublk *ublk = &lane->ublk;

	for (uint32_t i = 0; i < ublk->queues; i++) {
		if (ublk->map[i].descriptors)
			(void)munmap((void *)(uintptr_t)ublk->map[i].descriptors, ublk->map_bytes);
		ublk->map[i].descriptors = NULL;
	}
}
