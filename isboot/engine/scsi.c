// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The SCSI of the I/O path: its commands, and what an answer to them leads to.  SBC-4, SPC-4.
 *
 * The errnos are those the block layer knows (errno_to_blk_status(), since 6.0): ENODATA is a medium error,
 * EREMOTEIO the target's, EBADE a reservation conflict, EOPNOTSUPP and ENOSPC say what they say; all others
 * become EIO.
 */

#include <errno.h>
#include <string.h>

#include "lane.h"

enum {
	SCSI_READ_16 = 0x88,
	SCSI_WRITE_16 = 0x8a,
	SCSI_SYNCHRONIZE_CACHE_16 = 0x91,
	SCSI_UNMAP = 0x42,
	SCSI_WRITE_SAME_16 = 0x93,
	CDB_FUA = 0x08,
	CDB_UNMAP = 0x08, /* of WRITE SAME(16) */

	STATUS_GOOD = 0x00,
	STATUS_CHECK_CONDITION = 0x02,
	STATUS_CONDITION_MET = 0x04,
	STATUS_BUSY = 0x08,
	STATUS_RESERVATION_CONFLICT = 0x18,
	STATUS_TASK_SET_FULL = 0x28,
	STATUS_ACA_ACTIVE = 0x30,
	STATUS_TASK_ABORTED = 0x40,

	NO_SENSE = 0x0,
	RECOVERED_ERROR = 0x1,
	NOT_READY = 0x2,
	MEDIUM_ERROR = 0x3,
	HARDWARE_ERROR = 0x4,
	ILLEGAL_REQUEST = 0x5,
	UNIT_ATTENTION = 0x6,
	DATA_PROTECT = 0x7,
	ABORTED_COMMAND = 0xb,
	MISCOMPARE = 0xe,

	ANY = -1,
};

static const struct {
	uint8_t opcode;
	bool has_blocks; /* LBA and length stand in it */
} commands[] = {
	[ISBOOT_READ] = { SCSI_READ_16, true },
	[ISBOOT_WRITE] = { SCSI_WRITE_16, true },
	[ISBOOT_FLUSH] = { SCSI_SYNCHRONIZE_CACHE_16, false }, /* LBA 0, 0 blocks: the whole medium */
	[ISBOOT_DISCARD] = { SCSI_WRITE_SAME_16, true },       /* unless it is UNMAP */
	[ISBOOT_WRITE_ZEROES] = { SCSI_WRITE_SAME_16, true },
};

static void put_bytes(uint8_t *bytes, uint64_t value, uint32_t count)
{
	while (count--) {
		bytes[count] = (uint8_t)value;
		value >>= 8;
	}
}

static bool is_unmap(const struct isboot_lane *lane, const struct command *command)
{
	return command->operation == ISBOOT_DISCARD && lane->setup.discard == ISBOOT_DISCARD_UNMAP;
}

static void put_unmap_list(const struct isboot_lane *lane, struct command *command)
{
	uint8_t *list = command->unmap_list;

	memset(list, 0, UNMAP_LIST_BYTES);
	put_bytes(list, UNMAP_LIST_BYTES - 2, 2);     /* UNMAP DATA LENGTH: of what follows it */
	put_bytes(list + 2, UNMAP_LIST_BYTES - 8, 2); /* UNMAP BLOCK DESCRIPTOR DATA LENGTH */
	put_bytes(list + 8, command->offset_bytes / lane->setup.block_size_bytes, 8);
	put_bytes(list + 16, command->length_bytes / lane->setup.block_size_bytes, 4);
}

bool isboot_scsi_prepare(const struct isboot_lane *lane, struct command *command)
{
	/* the one block WRITE SAME repeats; no kernel takes larger ones */
	static const uint8_t zeroes[4096];

	command->is_read = command->operation == ISBOOT_READ;
	command->is_write = command->operation != ISBOOT_READ && command->operation != ISBOOT_FLUSH;
	command->payload_bytes = command->length_bytes;
	command->outgoing = command->buffer;
	if (command->operation == ISBOOT_DISCARD && lane->setup.discard == ISBOOT_DISCARD_NONE)
		return false;
	if (command->operation == ISBOOT_WRITE_ZEROES && !lane->setup.has_write_same)
		return false;
	if (is_unmap(lane, command)) {
		put_unmap_list(lane, command);
		command->outgoing = command->unmap_list;
		command->payload_bytes = UNMAP_LIST_BYTES;
	} else if (commands[command->operation].opcode == SCSI_WRITE_SAME_16) {
		command->outgoing = zeroes;
		command->payload_bytes = lane->setup.block_size_bytes;
		if (command->payload_bytes > sizeof(zeroes))
			return false;
	}
	return true;
}

void isboot_scsi_build(const struct isboot_lane *lane, const struct command *command, uint8_t cdb[16])
{
	memset(cdb, 0, 16);
	if (is_unmap(lane, command)) {
		cdb[0] = SCSI_UNMAP;
		put_bytes(cdb + 7, UNMAP_LIST_BYTES, 2);
		return;
	}
	cdb[0] = commands[command->operation].opcode;
	if (!commands[command->operation].has_blocks)
		return;
	if (command->operation == ISBOOT_DISCARD)
		cdb[1] = CDB_UNMAP;
	else if (command->operation <= ISBOOT_WRITE && command->fua && lane->setup.has_fua)
		cdb[1] = CDB_FUA;
	put_bytes(cdb + 2, command->offset_bytes / lane->setup.block_size_bytes, 8);
	put_bytes(cdb + 10, command->length_bytes / lane->setup.block_size_bytes, 4);
}

/*
 * What an answer leads to: the first row that matches.  I/O to a root waits rather than fails: what can pass by
 * itself is tried again, BUSY for as long as it takes.
 */
static const struct {
	int16_t status;
	int16_t key;
	int16_t code;      /* ASC */
	int16_t qualifier; /* ASCQ */
	int8_t operation;
	struct outcome outcome;
} rows[] = {
#define RETRY(limit, otherwise) { VERDICT_RETRY, .limit_ms = (limit), .code = (otherwise) }
#define AT_ONCE(limit, otherwise) { VERDICT_RETRY, .at_once = true, .limit_ms = (limit), .code = (otherwise) }
#define AFTER_RESET(limit, otherwise)                                                                        \
	{ VERDICT_RETRY, .at_once = true, .limit_ms = (limit), .code = (otherwise), .was_reset = true }
#define FAIL(otherwise) { VERDICT_FAIL, .code = (otherwise) }
#define CHECK STATUS_CHECK_CONDITION
	{ STATUS_GOOD, ANY, ANY, ANY, ANY, { .verdict = VERDICT_DONE } },
	{ STATUS_CONDITION_MET, ANY, ANY, ANY, ANY, { .verdict = VERDICT_DONE } },
	{ STATUS_BUSY, ANY, ANY, ANY, ANY, { VERDICT_RETRY, .code = -EIO, .shrinks_depth = true } },
	{ STATUS_TASK_SET_FULL, ANY, ANY, ANY, ANY, { VERDICT_RETRY, .code = -EIO, .shrinks_depth = true } },
	{ STATUS_RESERVATION_CONFLICT, ANY, ANY, ANY, ANY, FAIL(-EBADE) },
	{ STATUS_ACA_ACTIVE, ANY, ANY, ANY, ANY, RETRY(60000, -EIO) },
	{ STATUS_TASK_ABORTED, ANY, ANY, ANY, ANY, AT_ONCE(60000, -EIO) },

	{ CHECK, NO_SENSE, ANY, ANY, ANY, RETRY(10000, -EIO) },
	{ CHECK, RECOVERED_ERROR, ANY, ANY, ANY, { .verdict = VERDICT_DONE } },
	{ CHECK, NOT_READY, 0x04, 0x01, ANY, RETRY(60000, -EIO) }, /* becoming ready */
	{ CHECK, NOT_READY, 0x04, 0x0a, ANY, RETRY(60000, -EIO) }, /* ALUA transition */
	{ CHECK, NOT_READY, 0x04, ANY, ANY, RETRY(30000, -EIO) },
	{ CHECK, NOT_READY, ANY, ANY, ANY, FAIL(-EIO) }, /* 3A medium not present */
	{ CHECK, MEDIUM_ERROR, ANY, ANY, ANY, FAIL(-ENODATA) },
	{ CHECK, HARDWARE_ERROR, ANY, ANY, ANY, FAIL(-EREMOTEIO) },
	/* the LUN went away, or says that it is another: its identity has to be seen before more is written */
	{ CHECK, ILLEGAL_REQUEST, 0x25, ANY, ANY, { .verdict = VERDICT_LUN_CHANGED } },
	{ CHECK, UNIT_ATTENTION, 0x3f, 0x03, ANY, { .verdict = VERDICT_LUN_CHANGED } },
	{ CHECK, UNIT_ATTENTION, 0x3f, 0x0e, ANY, { .verdict = VERDICT_LUN_CHANGED } },
	/* its capacity: what is larger is passed on, what shrank is not to be written to; both rare */
	{ CHECK, UNIT_ATTENTION, 0x2a, 0x09, ANY, { .verdict = VERDICT_LUN_CHANGED } },
	/* a target that does not know the command has no cache to write back */
	{ CHECK, ILLEGAL_REQUEST, 0x20, ANY, ISBOOT_FLUSH, { .verdict = VERDICT_DONE } },
	{ CHECK, ILLEGAL_REQUEST, 0x20, ANY, ANY, FAIL(-EOPNOTSUPP) },
	/* whatever else it does not like about a range: the block layer writes zeroes instead */
	{ CHECK, ILLEGAL_REQUEST, 0x21, ANY, ANY, FAIL(-EREMOTEIO) },
	{ CHECK, ILLEGAL_REQUEST, ANY, ANY, ISBOOT_DISCARD, FAIL(-EOPNOTSUPP) },
	{ CHECK, ILLEGAL_REQUEST, ANY, ANY, ISBOOT_WRITE_ZEROES, FAIL(-EOPNOTSUPP) },
	{ CHECK, ILLEGAL_REQUEST, ANY, ANY, ANY, FAIL(-EREMOTEIO) },
	{ CHECK, UNIT_ATTENTION, 0x29, ANY, ANY, AFTER_RESET(60000, -EIO) },
	{ CHECK, UNIT_ATTENTION, ANY, ANY, ANY, AT_ONCE(60000, -EIO) },
	{ CHECK, DATA_PROTECT, 0x27, 0x07, ANY, FAIL(-ENOSPC) }, /* thin pool full */
	{ CHECK, DATA_PROTECT, ANY, ANY, ANY, FAIL(-EROFS) },
	{ CHECK, ABORTED_COMMAND, 0x10, ANY, ANY, FAIL(-EILSEQ) }, /* protection information */
	{ CHECK, ABORTED_COMMAND, ANY, ANY, ANY, AT_ONCE(60000, -EIO) },
	{ CHECK, MISCOMPARE, ANY, ANY, ANY, FAIL(-EREMOTEIO) },
	{ ANY, ANY, ANY, ANY, ANY, FAIL(-EIO) },
};

static bool fits(int wanted, int found)
{
	return wanted == ANY || wanted == found;
}

static struct outcome look_up(uint32_t operation, uint8_t status, int key, int code, int qualifier)
{
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]) - 1; i++)
		if (fits(rows[i].status, status) && fits(rows[i].key, key) && fits(rows[i].code, code) &&
		    fits(rows[i].qualifier, qualifier) && fits(rows[i].operation, (int)operation))
			break;
	return rows[i].outcome;
}

/*
 * SPC-4 §4.5.7: sense of a command that ended with good status before.  The one it came with was not carried
 * out.  What ended before can only have been a write into a cache: unless it was recovered, it is lost.
 */
static struct outcome judge_deferred(int key, int code, int qualifier)
{
	struct outcome outcome = AT_ONCE(60000, -EIO);

	if (key != RECOVERED_ERROR) {
		outcome.lost_write = look_up(ISBOOT_WRITE, STATUS_CHECK_CONDITION, key, code, qualifier).code;
		if (!outcome.lost_write)
			outcome.lost_write = -EIO;
	}
	return outcome;
}

struct outcome isboot_scsi_judge(uint32_t operation, uint8_t status, const uint8_t *sense,
				 uint32_t sense_bytes)
{
	uint8_t response = sense_bytes ? sense[0] & 0x7f : 0;
	int key = NO_SENSE, code = 0, qualifier = 0;

	/* SPC-4 §4.5: fixed format 70/71, descriptor format 72/73; 71 and 73 are deferred */
	if (sense_bytes >= 3 && (response & 0x7e) == 0x70) {
		key = sense[2] & 0x0f;
		code = sense_bytes > 12 ? sense[12] : 0;
		qualifier = sense_bytes > 13 ? sense[13] : 0;
	} else if (sense_bytes >= 4 && (response & 0x7e) == 0x72) {
		key = sense[1] & 0x0f;
		code = sense[2];
		qualifier = sense[3];
	}
	if (status == STATUS_CHECK_CONDITION && (response == 0x71 || response == 0x73))
		return judge_deferred(key, code, qualifier);
	return look_up(operation, status, key, code, qualifier);
}
