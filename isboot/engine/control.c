// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * ublk's control commands: IORING_OP_URING_CMD on /dev/ublk-control, one at a time.
 *
 * The 32 bytes of struct ublksrv_ctrl_cmd stand in the second half of a 128-byte SQE.  The ring has nothing to
 * do with those of the lanes: START_DEV scans partitions before it returns (until 6.19), and those reads are
 * served by a lane while this ring's owner waits.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine.h"

/* uapi linux/ublk_cmd.h, struct ublksrv_ctrl_cmd */
struct control_payload {
	uint32_t dev_id;
	uint16_t queue_id;
	uint16_t len;
	uint64_t addr;
	uint64_t data[1];
	uint16_t dev_path_len;
	uint16_t pad;
	uint32_t reserved;
};
_Static_assert(sizeof(struct control_payload) == 32, "struct ublksrv_ctrl_cmd is 32 bytes");

struct isboot_control {
	struct io_uring ring;
	int fd;
};

enum { CONTROL_RING_ENTRIES = 4 };

isboot_control *isboot_control_create(struct isboot_error *error)
{
	struct io_uring_params parameters = { .flags = IORING_SETUP_SQE128 };
	struct isboot_control *control = calloc(1, sizeof(*control));
	int code;

	if (!control) {
		error->code = -ENOMEM;
		(void)snprintf(error->text, sizeof(error->text),
			       "allocating the control ring: out of memory");
		return NULL;
	}
	control->fd = open("/dev/ublk-control", O_RDWR | O_CLOEXEC);
	if (control->fd < 0) {
		code = -errno;
		(void)snprintf(error->text, sizeof(error->text), "opening /dev/ublk-control: %s",
			       strerror(-code));
		goto failed;
	}
	code = io_uring_queue_init_params(CONTROL_RING_ENTRIES, &control->ring, &parameters);
	if (code < 0) {
		(void)snprintf(error->text, sizeof(error->text), "making the control ring: %s",
			       strerror(-code));
		(void)close(control->fd);
		goto failed;
	}
	return control;

failed:
	error->code = code;
	free(control);
	return NULL;
}

void isboot_control_destroy(isboot_control *control)
{
	if (!control)
		return;
	io_uring_queue_exit(&control->ring);
	(void)close(control->fd);
	free(control);
}

int isboot_control_run(isboot_control *control, const struct isboot_control_command *command)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&control->ring);
	struct control_payload payload = {
		.dev_id = command->device_id,
		.queue_id = command->queue_id,
		.len = command->length_bytes,
		.addr = (uint64_t)(uintptr_t)command->buffer,
		.data = { command->data },
	};
	struct io_uring_cqe *cqe;
	int code;

	if (!sqe)
		return -EBUSY;
	memset(sqe, 0, 2 * sizeof(*sqe));
	sqe->opcode = IORING_OP_URING_CMD;
	sqe->fd = control->fd;
	sqe->cmd_op = command->operation;
	memcpy(sqe->cmd, &payload, sizeof(payload));

	/* Signals (the guard's) interrupt both calls; the command itself goes on. */
	do
		code = io_uring_submit(&control->ring);
	while (code == -EINTR);
	if (code < 0)
		return code;
	do
		code = io_uring_wait_cqe(&control->ring, &cqe);
	while (code == -EINTR);
	if (code < 0)
		return code;
	code = cqe->res;
	io_uring_cqe_seen(&control->ring, cqe);
	return code;
}
