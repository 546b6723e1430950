/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * iSCSI PDUs as they stand on the wire: RFC 7143 §11.  Multi-byte fields are big-endian and get a type of
 * their own, so that the compiler refuses one that was not converted; everything is bytes, so nothing is
 * aligned and nothing needs to be packed.
 */

#include <stdbool.h>
#include <stdint.h>

typedef struct {
	uint8_t bytes[4];
} be32;

static inline uint32_t get32(be32 field)
{
	return (uint32_t)field.bytes[0] << 24 | (uint32_t)field.bytes[1] << 16 |
	       (uint32_t)field.bytes[2] << 8 | field.bytes[3];
}

static inline be32 put32(uint32_t value)
{
	return (be32){ { (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8),
			 (uint8_t)value } };
}

static inline uint32_t get16(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 8 | bytes[1];
}

static inline uint32_t get24(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] << 16 | (uint32_t)bytes[1] << 8 | bytes[2];
}

static inline void put24(uint8_t *bytes, uint32_t value)
{
	bytes[0] = (uint8_t)(value >> 16);
	bytes[1] = (uint8_t)(value >> 8);
	bytes[2] = (uint8_t)value;
}

/* Serial number arithmetic, RFC 1982: is `a` before or at `b`? */
static inline bool serial_reached(uint32_t a, uint32_t b)
{
	return (int32_t)(b - a) >= 0;
}

enum opcode {
	OPCODE_NOP_OUT = 0x00,
	OPCODE_SCSI_COMMAND = 0x01,
	OPCODE_TASK_MANAGEMENT_REQUEST = 0x02,
	OPCODE_DATA_OUT = 0x05,
	OPCODE_LOGOUT_REQUEST = 0x06,
	OPCODE_NOP_IN = 0x20,
	OPCODE_SCSI_RESPONSE = 0x21,
	OPCODE_TASK_MANAGEMENT_RESPONSE = 0x22,
	OPCODE_DATA_IN = 0x25,
	OPCODE_LOGOUT_RESPONSE = 0x26,
	OPCODE_R2T = 0x31,
	OPCODE_ASYNC_MESSAGE = 0x32,
	OPCODE_REJECT = 0x3f,

	OPCODE_MASK = 0x3f,
	OPCODE_IMMEDIATE = 0x40,
};

enum {
	FLAG_FINAL = 0x80,

	/* SCSI Command */
	FLAG_READ = 0x40,
	FLAG_WRITE = 0x20,
	TASK_ATTRIBUTE_SIMPLE = 1,

	/* SCSI Response and Data-In */
	FLAG_OVERFLOW = 0x04,
	FLAG_UNDERFLOW = 0x02,
	FLAG_STATUS = 0x01, /* Data-In: it carries the status */

	RESERVED_TAG = 0xffffffff,
	HEADER_BYTES = 48,
	DIGEST_BYTES = 4,
	AHS_BYTES_MAX = 255 * 4,

	TASK_ABORT = 1, /* Task Management: ABORT TASK */

	/* Reject reasons that do not end the connection, RFC 7143 §11.17.1 */
	REJECT_DATA_DIGEST = 0x02,
};

/* What every PDU has in common. */
struct pdu_basic {
	uint8_t opcode;
	uint8_t flags;
	uint8_t specific[2];
	uint8_t total_ahs_length; /* in words of 4 bytes */
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 initiator_task_tag;
	be32 rest[7];
};

struct pdu_scsi_command {
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 initiator_task_tag;
	be32 expected_data_transfer_length;
	be32 cmd_sn;
	be32 exp_stat_sn;
	uint8_t cdb[16];
};

/* The fields all answers share; the words between differ. */
struct pdu_answer {
	uint8_t opcode;
	uint8_t flags;
	uint8_t response;
	uint8_t status;
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 initiator_task_tag;
	be32 target_transfer_tag;
	be32 stat_sn;
	be32 exp_cmd_sn;
	be32 max_cmd_sn;
	be32 data_sn;        /* Data-In: DataSN; R2T: R2TSN; SCSI Response: ExpDataSN */
	be32 buffer_offset;  /* Data-In, R2T */
	be32 residual_count; /* SCSI Response, Data-In; R2T: Desired Data Transfer Length */
};

struct pdu_async {
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 reserved_tag;
	be32 reserved2;
	be32 stat_sn;
	be32 exp_cmd_sn;
	be32 max_cmd_sn;
	uint8_t event;
	uint8_t vendor_code;
	uint8_t parameter1[2];
	uint8_t parameter2[2];
	uint8_t parameter3[2];
	be32 reserved3;
};

struct pdu_logout_response {
	uint8_t opcode;
	uint8_t flags;
	uint8_t response;
	uint8_t reserved;
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t reserved2[8];
	be32 initiator_task_tag;
	be32 reserved3;
	be32 stat_sn;
	be32 exp_cmd_sn;
	be32 max_cmd_sn;
	be32 reserved4;
	uint8_t time2wait[2];
	uint8_t time2retain[2];
	be32 reserved5;
};

struct pdu_data_out {
	uint8_t opcode;
	uint8_t flags;
	uint8_t reserved[2];
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 initiator_task_tag;
	be32 target_transfer_tag;
	be32 reserved2;
	be32 exp_stat_sn;
	be32 reserved3;
	be32 data_sn;
	be32 buffer_offset;
	be32 reserved4;
};

/* NOP-Out, Task Management and Logout requests: immediate, and alike but for a word. */
struct pdu_request {
	uint8_t opcode;
	uint8_t flags; /* F, and the function or the reason */
	uint8_t reserved[2];
	uint8_t total_ahs_length;
	uint8_t data_segment_length[3];
	uint8_t lun[8];
	be32 initiator_task_tag;
	be32 word20; /* NOP-Out: Target Transfer Tag; TMF: Referenced Task Tag; Logout: CID in the upper half */
	be32 cmd_sn;
	be32 exp_stat_sn;
	be32 ref_cmd_sn; /* TMF */
	be32 exp_data_sn;
	be32 reserved2[2];
};

union pdu {
	struct pdu_basic basic;
	struct pdu_scsi_command scsi_command;
	struct pdu_answer answer;
	struct pdu_async async;
	struct pdu_logout_response logout_response;
	struct pdu_data_out data_out;
	struct pdu_request request;
	uint8_t bytes[HEADER_BYTES];
};

_Static_assert(sizeof(union pdu) == HEADER_BYTES, "a basic header segment is 48 bytes");
_Static_assert(sizeof(struct pdu_scsi_command) == HEADER_BYTES, "SCSI Command");
_Static_assert(sizeof(struct pdu_answer) == HEADER_BYTES, "answers");
_Static_assert(sizeof(struct pdu_async) == HEADER_BYTES, "Asynchronous Message");
_Static_assert(sizeof(struct pdu_logout_response) == HEADER_BYTES, "Logout Response");
_Static_assert(sizeof(struct pdu_data_out) == HEADER_BYTES, "Data-Out");
_Static_assert(sizeof(struct pdu_request) == HEADER_BYTES, "NOP-Out, Task Management, Logout");
