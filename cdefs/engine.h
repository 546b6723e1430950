/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * The border between Python and the engine.  This file is read by cffi and by the compiler: no guards, no
 * includes, no packed attributes; wire formats are private to C.
 *
 * The story.  A device has lanes.  A lane is one thread, one ring, one TCP connection, one iSCSI session; it
 * serves one or more ublk queues (or, without ublk, requests given by this process).  A Python thread per lane
 * calls isboot_lane_run(), which blocks without the GIL and comes back only for policy: the connection was
 * lost, everything asked for is done, somebody wants it to stop.  Python connects and logs in again, attaches
 * the new session to the same lane on the same thread, and runs it again: what was unfinished is issued anew.
 *
 * Calls that set up return 0 or a negative errno and fill struct isboot_error; calls on the I/O path format
 * no text.
 */

#define ISBOOT_ERROR_TEXT_BYTES 256
#define ISBOOT_MAX_LANES 8
#define ISBOOT_HISTOGRAM_BUCKETS 488 /* 8 per power of two of nanoseconds, see isboot_histogram_bucket() */
#define ISBOOT_EXCHANGE_DATA_BYTES 4096
#define ISBOOT_SENSE_BYTES 96

struct isboot_error {
	int32_t code;                       /* negative errno */
	char text[ISBOOT_ERROR_TEXT_BYTES]; /* what was being done and what came back */
};

/* ---- shared memory: one block for all processes of a device, made before the first fork ---- */

enum isboot_lane_state {
	ISBOOT_LANE_NEW = 0,
	ISBOOT_LANE_LIVE = 1,
	ISBOOT_LANE_RECONNECTING = 2,
	ISBOOT_LANE_STOPPED = 3,
};

/* One writer, the lane's thread; readers need no lock.  All count since the device started, over all workers. */
struct isboot_lane_counters {
	uint32_t state; /* enum isboot_lane_state */
	uint32_t in_flight;
	uint64_t reads;
	uint64_t writes;
	uint64_t flushes;
	uint64_t discards; /* and zeroes written by WRITE SAME */
	uint64_t read_bytes;
	uint64_t written_bytes;
	uint64_t discarded_bytes;
	uint64_t wire_sent_bytes; /* TCP payload, headers and digests included */
	uint64_t wire_received_bytes;
	uint64_t reconnects;
	uint64_t reissued;  /* commands issued again after a lost connection */
	uint64_t retries;   /* BUSY, TASK SET FULL, unit attention: issued again on the same session */
	uint64_t io_errors; /* requests completed with an error */
	uint64_t digest_errors;
	uint64_t protocol_errors;
	uint64_t rejects; /* Reject PDUs */
	uint64_t stale;   /* answers whose task tag is no longer, or never was, in use: dropped */
	uint64_t latency_ns[ISBOOT_HISTOGRAM_BUCKETS]; /* reads and writes, in -> committed */
};

struct isboot_shared {
	uint32_t written_since_flush; /* 1: data may sit in the target's volatile cache only */
	uint32_t worker_generation;
	int32_t lost_write_code; /* negative errno: a cached write was lost; the next FLUSH ends with it */
	struct isboot_lane_counters lanes[ISBOOT_MAX_LANES];
};

/* An anonymous MAP_SHARED mapping, populated: counters or I/O buffers, inherited by fork. */
void *isboot_shared_map(uint64_t length_bytes, struct isboot_error *error);
void isboot_shared_unmap(void *mapping, uint64_t length_bytes);

/* The lower bound in nanoseconds of a bucket of latency_ns; buckets grow by 1/8 of a power of two. */
uint64_t isboot_histogram_bucket_ns(uint32_t bucket);
uint32_t isboot_histogram_bucket(uint64_t latency_ns);

/* ---- a lane ---- */

typedef struct isboot_lane isboot_lane;

/* The command that serves ISBOOT_DISCARD. */
enum isboot_discard {
	ISBOOT_DISCARD_NONE = 0,       /* -EOPNOTSUPP */
	ISBOOT_DISCARD_UNMAP = 1,      /* UNMAP */
	ISBOOT_DISCARD_WRITE_SAME = 2, /* WRITE SAME(16) with its UNMAP bit */
};

struct isboot_lane_setup {
	uint32_t index;
	uint32_t device_id; /* N of ublkbN; for messages and probes */
	uint32_t depth;     /* tags of all queues of this lane together, <= 4096 */
	uint32_t max_io_bytes;
	uint32_t block_size_bytes;
	uint32_t command_timeout_ms; /* no answer for so long: ABORT TASK, then the connection is given up */
	uint32_t nop_interval_ms;    /* silence on the connection before a NOP-Out asks */
	uint32_t nop_timeout_ms;     /* and how long its answer may take */
	bool has_fua;                /* DPOFUA: set FUA on writes that ask for it */
	bool has_write_same;         /* WRITE SAME(16) serves ISBOOT_WRITE_ZEROES, else -EOPNOTSUPP */
	uint32_t discard;            /* enum isboot_discard */
	void *buffers; /* depth * max_io_bytes, page aligned, mapped; NULL for the local front end */
	struct isboot_shared *shared;
};

/* A session in full feature phase; see NegotiatedSession in isboot/values.py. */
struct isboot_session {
	int32_t fd;
	uint8_t lun[8];
	uint32_t cmd_sn; /* of the next command */
	uint32_t exp_stat_sn;
	uint32_t max_cmd_sn;
	bool header_digest;
	bool data_digest;
	bool initial_r2t;
	bool immediate_data;
	uint32_t max_recv_data_segment_length_bytes;
	uint32_t max_send_data_segment_length_bytes;
	uint32_t first_burst_length_bytes;
	uint32_t max_burst_length_bytes;
	uint32_t max_outstanding_r2t;
	uint16_t cid;
};

/* Why isboot_lane_run() came back. */
enum isboot_reason {
	ISBOOT_REASON_IDLE = 1,       /* local: every request of the list is done */
	ISBOOT_REASON_LOST = 2,       /* the connection: see struct isboot_loss */
	ISBOOT_REASON_LOGGED_OUT = 3, /* a LOGOUT exchange was answered */
	ISBOOT_REASON_STOPPED = 4,    /* isboot_lane_stop(): nothing of ours is in flight on the socket */
	ISBOOT_REASON_ABANDONED = 5,  /* ublk: the device is gone, every tag was given back (-ENODEV) */
};

/* What ended the connection. */
enum isboot_cause {
	ISBOOT_CAUSE_NONE = 0,
	ISBOOT_CAUSE_CLOSED = 1,      /* the target closed it */
	ISBOOT_CAUSE_SOCKET = 2,      /* an errno of the socket */
	ISBOOT_CAUSE_NOP_TIMEOUT = 3, /* a NOP-Out was not answered */
	ISBOOT_CAUSE_COMMAND_TIMEOUT = 4,
	ISBOOT_CAUSE_HEADER_DIGEST = 5,
	ISBOOT_CAUSE_DATA_DIGEST = 6,
	ISBOOT_CAUSE_PROTOCOL = 7,     /* a PDU that breaks the standard; `detail` says which rule */
	ISBOOT_CAUSE_ASYNC_LOGOUT = 8, /* async message 1: the target asks for a Logout */
	ISBOOT_CAUSE_ASYNC_DROP = 9,   /* 2 and 3: it will drop the connection, Time2Wait is to be kept */
	ISBOOT_CAUSE_REJECT = 10,
	ISBOOT_CAUSE_LUN_CHANGED = 11, /* 05/25, 06/2A/09, 06/3F/03, 06/3F/0E: the LUN is to be seen again */
};

struct isboot_loss {
	uint32_t cause; /* enum isboot_cause */
	int32_t code;   /* negative errno of the socket, or 0 */
	uint32_t time2wait_s;
	uint32_t in_flight; /* commands that wait to be issued again */
	uint64_t lost_ns;   /* CLOCK_MONOTONIC */
	char detail[128];
};

/* Allocates everything the lane will ever need.  Any thread. */
isboot_lane *isboot_lane_create(const struct isboot_lane_setup *setup, struct isboot_error *error);
void isboot_lane_destroy(isboot_lane *lane);

/* Makes the ring; from here on all calls but isboot_lane_stop and _exchange_* belong to this thread. */
int isboot_lane_start(isboot_lane *lane, struct isboot_error *error);

/*
 * Front end ublk: maps the descriptors of queues [first_queue, first_queue + queues) of depth `queue_depth`
 * of an open /dev/ublkcN and fetches every tag.  Returns once all FETCHes are submitted.
 */
int isboot_lane_open_ublk(isboot_lane *lane, int32_t ublkc_fd, uint32_t first_queue, uint32_t queues,
			  uint32_t queue_depth, struct isboot_error *error);
/* Unmaps the descriptors, so that the kernel can release the device. */
void isboot_lane_close_ublk(isboot_lane *lane);

enum isboot_operation {
	ISBOOT_READ = 0,
	ISBOOT_WRITE = 1,
	ISBOOT_FLUSH = 2,
	ISBOOT_DISCARD = 3, /* the blocks are no longer needed; what they read as is the target's choice */
	ISBOOT_WRITE_ZEROES = 4,
};

/* Front end local: requests of this process, issued in this order, up to `depth` at once. */
struct isboot_request {
	uint32_t operation; /* enum isboot_operation */
	uint32_t fua;
	uint64_t offset_bytes; /* a multiple of the block size, as length_bytes */
	uint32_t length_bytes;
	int32_t result;        /* length (0 where nothing was moved) or negative errno, once done */
	void *buffer;          /* of READ and WRITE */
	uint64_t in_ns;        /* CLOCK_MONOTONIC: taken up by the lane */
	uint64_t sent_ns;      /* its last PDU was handed to the socket */
	uint64_t answered_ns;  /* its SCSI Response, or status in Data-In, was received */
	uint64_t committed_ns; /* given back to whom it came from */
};
int isboot_lane_open_local(isboot_lane *lane, struct isboot_request *requests, uint32_t count,
			   struct isboot_error *error);

/* Takes the session; what was unfinished on the one before is issued again by the next run. */
int isboot_lane_attach(isboot_lane *lane, const struct isboot_session *session, struct isboot_error *error);

/*
 * The way back of attach, after STOPPED or ABANDONED: fills `session` with the numbers to go on with, and the
 * caller may use the socket.  -EBUSY while commands are under way or a PDU has been received in part.
 */
int isboot_lane_detach(isboot_lane *lane, struct isboot_session *session);

/*
 * Moves blocks until there is a reason not to.  When it returns, no operation on the session's socket is left
 * in the kernel; after LOST, LOGGED_OUT the caller closes the socket.  Without an attached session it serves
 * nothing and returns -ENOTCONN.
 *
 * After ABANDONED and isboot_lane_close_ublk() it may be run again on the same session: it then serves only
 * exchanges (the last SYNCHRONIZE CACHE, the LOGOUT).
 *
 * Returns enum isboot_reason, or a negative errno if the ring itself fails.
 */
int isboot_lane_run(isboot_lane *lane, struct isboot_loss *loss);

/*
 * No session and no hope of one (the give-up time is over, or the machine shuts down with every path down):
 * completes what is unfinished with `code` (a negative errno), and everything that still comes, until
 * isboot_lane_stop() or, ublk, ABANDONED: the reason is returned.  On the lane's thread, instead of
 * isboot_lane_run(); -EBUSY while a session is attached.
 */
int isboot_lane_fail(isboot_lane *lane, int32_t code);

/* Any thread: makes isboot_lane_run() return STOPPED after what is in flight is done (`drain`) or at once. */
int isboot_lane_stop(isboot_lane *lane, bool drain);

/*
 * Control commands beside the I/O: any thread may submit one; the lane sends it and writes to `done_fd`, an
 * eventfd, when it is finished.  One at a time per lane.  A lost connection ends it with -ENOLINK.
 */
enum isboot_exchange_kind {
	ISBOOT_EXCHANGE_SCSI = 1,
	ISBOOT_EXCHANGE_TASK_MANAGEMENT = 2, /* `function`, with `referenced_tag` if it has one */
	ISBOOT_EXCHANGE_LOGOUT = 3,          /* close the session */
	ISBOOT_EXCHANGE_PING = 4,            /* NOP-Out and its answer */
};

struct isboot_exchange {
	uint32_t kind;
	uint8_t cdb[16];
	bool is_write;         /* data goes to the target */
	uint32_t length_bytes; /* of data: how much to send, or how much may come */
	uint8_t data[ISBOOT_EXCHANGE_DATA_BYTES];
	uint8_t function; /* RFC 7143 §11.5.1 */
	uint32_t referenced_tag;
	int32_t done_fd;
	int32_t result;   /* 0 answered, negative errno not */
	uint8_t response; /* iSCSI response, TMF response or Logout response */
	uint8_t status;   /* SCSI status */
	uint32_t received_bytes;
	uint32_t sense_bytes;
	uint8_t sense[ISBOOT_SENSE_BYTES];
};
int isboot_lane_exchange(isboot_lane *lane, struct isboot_exchange *exchange);

/* What Python did between two runs, told to the tracers (probe reconnect_attempt; see isboot/engine/probes.h). */
void isboot_lane_probe_attempt(isboot_lane *lane, uint32_t attempt, int32_t code);

/* ---- CRC32C (RFC 7143 §13.1): initial value all ones, result inverted ---- */
uint32_t isboot_crc32c(const void *data, uint64_t length_bytes);
/* "ISA-L 2.31.1": the library and its version. */
const char *isboot_crc_library(void);
uint32_t isboot_probe_count(void);

/* ---- ublk control commands: a ring of its own with 128-byte SQEs, used from one thread at a time ---- */

typedef struct isboot_control isboot_control;

struct isboot_control_command {
	uint32_t operation;    /* UBLK_U_CMD_*, ioctl-encoded */
	uint32_t device_id;    /* 0xffffffff: let the kernel pick (ADD_DEV) */
	uint16_t queue_id;     /* 0xffff: none */
	uint16_t length_bytes; /* of the buffer */
	void *buffer;
	uint64_t data;
};

/* Opens /dev/ublk-control. */
isboot_control *isboot_control_create(struct isboot_error *error);
void isboot_control_destroy(isboot_control *control);
/* 0 or the kernel's negative errno; blocks until the command is done (the GIL is free meanwhile). */
int isboot_control_run(isboot_control *control, const struct isboot_control_command *command);

/* ---- what a process does to survive ---- */

/* PR_SET_IO_FLUSHER, mlockall, malloc without trimming or mmap, `reserve_bytes` of heap grown ahead. */
int isboot_process_harden(uint64_t reserve_bytes, struct isboot_error *error);
/* SCHED_FIFO for the calling thread. */
int isboot_thread_realtime(int32_t priority, struct isboot_error *error);

/*
 * The guard against SIGSTOP: a POSIX timer that sends SIGCONT to this process every 200 ms while armed.
 * Installs handlers: SIGUSR1 arms, SIGUSR2 disarms, SIGCONT is harmless.  Timers do not survive a fork: a
 * child calls this again.
 */
int isboot_guard_install(bool armed, struct isboot_error *error);
bool isboot_guard_is_armed(void);
