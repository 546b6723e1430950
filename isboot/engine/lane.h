/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * What a lane is made of.  The files that work on it, in the order a request meets them:
 *
 *     ublk.c, local.c   front ends: a request comes in, its result goes back
 *     command.c         the life of a command: waiting -> sent -> (delayed ->) done
 *     send.c, output.c  CmdSN window, PDUs built, one gathered sendmsg
 *     receive.c         bytes of the socket cut into PDUs; long payloads go straight into the request's buffer
 *     input.c, event.c  what a received PDU means
 *     scsi.c            CDBs, and what status and sense lead to
 *     timer.c           deadlines
 *     exchange.c        control commands of other threads
 *     lane.c            the loop that ties them together
 *
 * All of it belongs to the lane's thread.  Fields other threads touch are marked so.
 */

#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine.h"
#include "list.h"
#include "ublk.h"
#include "wire.h"

enum {
	/* An Initiator Task Tag is slot | generation << SLOT_BITS: a late answer to a reused slot is recognised. */
	SLOT_BITS = 13,
	SLOT_MASK = (1 << SLOT_BITS) - 1,
	/* after the `depth` slots of requests */
	SLOT_EXCHANGE = 0,
	SLOT_PING = 1,
	SLOT_ABORT = 2,
	SLOT_LOGOUT = 3,

	BURSTS_MAX =
		8, /* sequences of Data-Out a command may owe: MaxOutstandingR2T and the unsolicited one */
	DELAY_LEVELS = 9, /* level n waits DELAY_UNIT_MS << n: 5 ms to 1.28 s */
	DELAY_UNIT_MS = 5,

	SEND_VECTORS = 512,
	SEND_HEADER_BYTES = 32 * 1024,
	SEND_BYTES_MAX = 1024 * 1024, /* a batch beyond this is closed, so that a ping never waits for long */
	SLOW_BATCHES = 64,
	NOP_REPLIES = 64,

	RECEIVE_AREA_BYTES = 128 * 1024,
	RECEIVE_DIRECT_BYTES = 16 * 1024, /* tails of a payload from here on are received in place */
	RECEIVE_HEADER_AHEAD_BYTES = 512, /* while payloads are long: do not gulp what could go in place */
	/*
	 * So much is received in place at once.  After 128 wake-ups (APOLL_MAX_RETRY) io_uring hands an operation
	 * to a kernel thread, which is no SCHED_FIFO and may have to be made: 91 segments of 1448 bytes do not.
	 * And a data digest is summed while the bytes are hot.
	 */
	RECEIVE_DIRECT_BYTES_MAX = 128 * 1024,
};

#define NS_PER_MS 1000000ULL
#define NEVER_NS UINT64_MAX

enum command_state {
	COMMAND_FREE = 0,
	COMMAND_WAITING,
	COMMAND_SENT,
	COMMAND_DELAYED,
	COMMAND_FINISHING, /* its result is known; its data is still in a sendmsg under way */
};

/* enum isboot_operation, and what only the control slot has */
enum { OPERATION_EXCHANGE = 5 };

enum { UNMAP_LIST_BYTES = 24 }; /* SBC-3 §5.28.2: a header and one block descriptor */

/* A sequence of Data-Out owed: unsolicited after the command, or asked for by an R2T. */
struct burst {
	uint32_t offset;
	uint32_t end;
	uint32_t target_transfer_tag;
	uint32_t data_sn;
};

struct command {
	struct link queue;    /* waiting, sent, delayed[] or finishing */
	struct link arrival;  /* in the order requests came; the exchange is not in it */
	struct link transfer; /* those that owe Data-Out */
	enum command_state state;
	uint32_t slot;
	uint32_t operation;
	uint32_t generation;
	uint32_t initiator_task_tag;
	uint32_t cmd_sn;

	uint8_t *buffer;
	uint64_t offset_bytes; /* on the LUN */
	uint32_t length_bytes;
	bool is_read;            /* data comes from the target */
	bool is_write;           /* data goes to the target */
	uint32_t payload_bytes;  /* of that data: not the length where one block or a list says it all */
	const uint8_t *outgoing; /* that data, if it goes to the target */
	uint8_t unmap_list[UNMAP_LIST_BYTES];
	bool fua;
	bool was_aborted;
	bool is_late; /* a range that was not done in a command's time: it is not issued again */

	uint32_t received_bytes;
	uint32_t data_sn;         /* expected: of the next Data-In or R2T */
	uint32_t solicited_bytes; /* where the next R2T has to begin */
	struct burst bursts[BURSTS_MAX];
	uint32_t first_burst;
	uint32_t burst_count;
	uint64_t batch; /* the last one that carries bytes of it */

	uint32_t retries;
	uint64_t first_retry_ns; /* on this session, of the cause that has this limit */
	uint32_t retry_limit_ms;
	uint64_t deadline_ns;   /* sent: of the answer; delayed: of the next try */
	uint64_t writes_before; /* FLUSH: writes completed when it was issued */

	int32_t result;
	uint64_t in_ns;
	uint64_t sent_ns;
	uint64_t answered_ns;
	struct isboot_request *request; /* local front end */
};

struct send {
	struct iovec vectors[SEND_VECTORS];
	struct msghdr message;
	uint8_t *headers; /* SEND_HEADER_BYTES: basic headers, digests, padding of one batch */
	uint32_t header_bytes;
	uint32_t vector_count;
	uint64_t bytes; /* of the batch not yet taken by the socket */
	uint64_t batch; /* number of the batch being built or sent */
	bool is_in_flight;
	bool was_tried; /* without waiting; what is left waits for room in the socket */
	/* when a batch the socket did not take at once was gone; see isboot_send_time() */
	struct {
		uint64_t batch;
		uint64_t ns;
	} slow[SLOW_BATCHES];
};

enum receive_stage { RECEIVE_HEADER, RECEIVE_SEGMENT, RECEIVE_TRAILER };

struct receive {
	uint8_t *area;
	uint32_t start;
	uint32_t end;
	bool is_armed;
	bool is_drained; /* the last receive took all there was: wait before trying */
	bool expects_long;
	enum receive_stage stage;
	union pdu header;
	struct command *command; /* the segment belongs to it */
	uint8_t *destination;    /* of the next byte of the segment; NULL: what exceeds `room` is dropped */
	uint32_t room;
	uint32_t segment_left;
	uint32_t sum;          /* CRC32C of the segment so far, not inverted */
	uint32_t direct_bytes; /* how much of the receive under way goes to `destination` */
	struct iovec vectors[2];
	struct msghdr message;
	uint8_t kept
		[ISBOOT_EXCHANGE_DATA_BYTES]; /* segments that are no payload: sense, rejected headers, text */
};

struct nop_reply {
	uint8_t lun[8];
	uint32_t target_transfer_tag;
};

/* Immediate requests that wait to be built. */
enum urgent {
	URGENT_PING = 1 << 0,
	URGENT_ABORT = 1 << 1,
	URGENT_TASK_MANAGEMENT = 1 << 2,
	URGENT_LOGOUT = 1 << 3,
};

enum logout_state { LOGOUT_NONE, LOGOUT_WANTED, LOGOUT_SENT, LOGOUT_ANSWERED };

struct front_end {
	/* Takes up what has come, if coming is not told by a completion. */
	void (*take)(struct isboot_lane *lane);
	/* Gives command->result back; the command is free afterwards. */
	void (*commit)(struct isboot_lane *lane, struct command *command);
	/* An enum isboot_reason when there is nothing left to serve, else 0. */
	int (*finished)(struct isboot_lane *lane);
};

struct ublk_queue {
	const struct isboot_ublk_descriptor *descriptors;
};

struct ublk {
	int fd;
	uint32_t first_queue;
	uint32_t queues;
	uint32_t queue_depth;
	uint64_t map_bytes; /* of one queue's descriptors */
	struct ublk_queue map[64];
	uint32_t aborted; /* tags given back for good */
	bool was_reported;
};

struct local {
	struct isboot_request *requests;
	uint32_t count;
	uint32_t next;
	uint32_t done;
	uint32_t *free_slots;
	uint32_t free_count;
};

struct isboot_lane {
	struct isboot_lane_setup setup;
	struct isboot_lane_counters *counters;
	struct io_uring ring;
	bool has_ring;
	int ring_code; /* what a command of the ring itself failed with */
	int wake_fd;
	uint64_t wake_value;
	bool wake_is_armed;

	const struct front_end *front_end;
	struct ublk ublk;
	struct local local;

	struct command *commands; /* depth + 1: the last is the control slot */
	struct link arrivals;
	struct link waiting;
	struct link sent;
	struct link finishing;
	struct link transfers;
	struct link delayed[DELAY_LEVELS];
	uint32_t in_flight; /* taken up and not given back; the counter of it outlives this process */
	uint32_t sent_count;
	uint32_t sent_limit; /* shrinks on TASK SET FULL, grows again */
	uint32_t grown;
	uint64_t now_ns;

	struct isboot_session session;
	bool is_attached;
	uint32_t cmd_sn;
	uint32_t exp_cmd_sn;
	uint32_t max_cmd_sn;
	uint32_t exp_stat_sn;
	uint32_t special_generation;
	struct send send;
	struct receive receive;
	uint32_t urgent; /* enum urgent */
	struct nop_reply nop_replies[NOP_REPLIES];
	uint32_t nop_first;
	uint32_t nop_count;

	uint64_t received_ns; /* last bytes from the target */
	uint64_t reset_ns;    /* last unit attention that told of a reset; 0: none on this session */
	bool ping_is_out;
	uint32_t ping_tag;
	uint64_t ping_deadline_ns;
	struct command *aborting;
	uint32_t abort_tag; /* 0: no ABORT TASK is out */
	uint64_t abort_deadline_ns;
	enum logout_state logout;
	uint32_t logout_tag;
	uint64_t logout_deadline_ns;
	enum isboot_cause logout_cause; /* NONE: asked for by us; else what to report */
	uint32_t time2wait_s;

	enum isboot_cause lost; /* NONE: the connection stands */
	int lost_code;
	const char *lost_detail;
	uint64_t lost_ns;
	bool expects_io_resumed;
	int32_t give_up_code; /* negative errno: requests are answered with it */

	/* Touched by other threads. */
	struct isboot_exchange *exchange; /* atomic: NULL: none */
	uint32_t stop;                    /* atomic: enum stop */
	uint32_t is_running;              /* atomic */

	struct isboot_exchange *current; /* the exchange under way, ours */
	uint64_t exchange_deadline_ns;
};

enum stop { STOP_NONE, STOP_DRAIN, STOP_NOW };

/* What a completion is of: user_data is kind << 32 | index. */
enum completion { COMPLETION_UBLK, COMPLETION_SEND, COMPLETION_RECEIVE, COMPLETION_WAKE, COMPLETION_CANCEL };

static inline uint64_t completion_data(enum completion kind, uint32_t index)
{
	return (uint64_t)kind << 32 | index;
}

/* ublk.c */
void isboot_ublk_completed(struct isboot_lane *lane, uint32_t slot, int result);

/* lane.c */
int isboot_fail(struct isboot_error *error, int code, const char *what);
uint64_t isboot_now_ns(void);
/* A front end is open: requests come from now on. */
void isboot_lane_serves(struct isboot_lane *lane);
struct io_uring_sqe *isboot_lane_sqe(struct isboot_lane *lane);
/* The connection cannot go on.  `detail` is a literal; the first reason stays. */
void isboot_lane_lose(struct isboot_lane *lane, enum isboot_cause cause, int code, const char *detail);
void isboot_lane_violation(struct isboot_lane *lane, const char *rule);

/* command.c */
void isboot_command_arrive(struct isboot_lane *lane, struct command *command);
void isboot_command_wake(struct isboot_lane *lane, struct command *command);
void isboot_command_sent(struct isboot_lane *lane, struct command *command);
void isboot_command_answer(struct isboot_lane *lane, struct command *command, uint8_t response,
			   uint8_t status, uint8_t flags, uint32_t residual, const uint8_t *segment,
			   uint32_t segment_bytes);
void isboot_command_finish(struct isboot_lane *lane, struct command *command, int32_t result);
void isboot_command_retry(struct isboot_lane *lane, struct command *command, bool at_once, uint32_t limit_ms,
			  int32_t otherwise);
bool isboot_command_is_range(const struct command *command);
void isboot_command_requeue_all(struct isboot_lane *lane);
void isboot_command_fail_all(struct isboot_lane *lane, int32_t code);
struct command *isboot_command_find(struct isboot_lane *lane, uint32_t initiator_task_tag);
void isboot_commands_sendmsg_done(struct isboot_lane *lane);

/* send.c */
void isboot_send_reset(struct isboot_lane *lane);
bool isboot_send_has_room(const struct isboot_lane *lane);
void isboot_send_append(struct isboot_lane *lane, union pdu *pdu, const uint8_t *segment,
			uint32_t segment_bytes);
/* True if a send was prepared that is over when this io_uring_enter has submitted it. */
bool isboot_send_start(struct isboot_lane *lane);
void isboot_send_settle(struct isboot_lane *lane);
void isboot_send_completed(struct isboot_lane *lane, int result);
uint64_t isboot_send_time(const struct isboot_lane *lane, const struct command *command);

/* output.c */
void isboot_output_gather(struct isboot_lane *lane);
/* There is more than went into the batch. */
bool isboot_output_has_more(const struct isboot_lane *lane);
uint32_t isboot_output_tag(struct isboot_lane *lane, uint32_t special_slot);

/* receive.c */
void isboot_receive_reset(struct isboot_lane *lane);
void isboot_receive_start(struct isboot_lane *lane);
void isboot_receive_completed(struct isboot_lane *lane, int result, uint32_t flags);
void isboot_receive_parse(struct isboot_lane *lane);

/* input.c: called when a header is complete, and when the whole PDU is */
void isboot_input_begin(struct isboot_lane *lane);
void isboot_input_end(struct isboot_lane *lane);
/* An answer that counts: checks StatSN and acknowledges it. */
bool isboot_input_stat_sn(struct isboot_lane *lane, uint32_t stat_sn);

/* event.c */
void isboot_event_nop_in(struct isboot_lane *lane);
void isboot_event_async(struct isboot_lane *lane);
void isboot_event_reject(struct isboot_lane *lane);
void isboot_event_task_management(struct isboot_lane *lane);
void isboot_event_logout(struct isboot_lane *lane);

/* timer.c */
void isboot_timer_run(struct isboot_lane *lane);
uint64_t isboot_timer_next_ns(const struct isboot_lane *lane);

/* exchange.c */
void isboot_exchange_take(struct isboot_lane *lane);
void isboot_exchange_finish(struct isboot_lane *lane, int32_t result);
void isboot_exchange_refuse(struct isboot_lane *lane);

/* scsi.c */
enum verdict { VERDICT_DONE, VERDICT_RETRY, VERDICT_FAIL, VERDICT_LUN_CHANGED };
struct outcome {
	enum verdict verdict;
	bool at_once;       /* RETRY: without a delay the first times */
	uint32_t limit_ms;  /* RETRY: for so long, 0: for ever; then `code` */
	int32_t code;       /* negative errno */
	bool shrinks_depth; /* the target has too much of us */
	int32_t lost_write; /* negative errno: of a write that was reported done before */
	bool was_reset;     /* what else was under way may have ended without an answer */
};
/* Decides what data goes which way.  False: the target has no command for it. */
bool isboot_scsi_prepare(const struct isboot_lane *lane, struct command *command);
void isboot_scsi_build(const struct isboot_lane *lane, const struct command *command, uint8_t cdb[16]);
struct outcome isboot_scsi_judge(uint32_t operation, uint8_t status, const uint8_t *sense,
				 uint32_t sense_bytes);

/* crc.c */
enum { SUM_START = 0xffffffff };
uint32_t isboot_sum(uint32_t sum, const void *data, uint64_t length_bytes);
static inline void put_digest(uint8_t *bytes, uint32_t sum)
{
	/* RFC 7143 §13.1: the inverted remainder, its bytes in the order little-endian machines hold it */
	sum = ~sum;
	bytes[0] = (uint8_t)sum;
	bytes[1] = (uint8_t)(sum >> 8);
	bytes[2] = (uint8_t)(sum >> 16);
	bytes[3] = (uint8_t)(sum >> 24);
}
static inline bool digest_matches(const uint8_t *bytes, uint32_t sum)
{
	uint8_t wanted[DIGEST_BYTES];

	put_digest(wanted, sum);
	return __builtin_memcmp(bytes, wanted, DIGEST_BYTES) == 0;
}
