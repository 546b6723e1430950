/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * USDT probes of the engine, provider "isboot".  No semaphores: attaching by path fails with them.  Off, a
 * probe is one nop (3-4 ns with its arguments at hand); arguments are integers the engine keeps anyway.
 *
 * ISBOOT_PROBES is the list: one line a probe, (name, arguments).  isboot_probe_count() counts it.
 * Times are CLOCK_MONOTONIC nanoseconds.
 *
 * A probe stands at one place of the program: bcc finds the arguments of a probe with several places in a
 * shared library only per process, and a trace has to outlive the process.  So whoever fires one is not
 * inlined into several callers.  Widths are fixed here by casts: bcc reads nothing where they differ.
 *
 * A worker that replaces a dead one has lost no connection itself, but whoever traces saw one end.  Hence
 *   lane_started        the lane takes requests from now on (not: its ring was made, ahead of need);
 *   connection_resumed  a session was attached, the first of a lane included;
 *   io_resumed          the first I/O done on a session, the first of a lane included.
 */

#include <sys/sdt.h>

#define ISBOOT_PROBES(X)                                                                                     \
	X(io_done, "device, lane, tag, operation, offset_bytes, length_bytes, result, in, sent, answered, "  \
		   "committed")                                                                              \
	X(connection_lost, "device, lane, cause, code, in_flight, ns")                                       \
	X(reconnect_attempt, "device, lane, attempt, code, ns")                                              \
	X(connection_resumed, "device, lane, reissued, ns")                                                  \
	X(io_resumed, "device, lane, ns")                                                                    \
	X(lane_started, "device, lane, worker_generation, ns")

#define ISBOOT_PROBE_IO_DONE(device, lane, tag, operation, offset_bytes, length_bytes, result, in, sent,     \
			     answered, committed)                                                            \
	STAP_PROBE11(isboot, io_done, (uint32_t)(device), (uint32_t)(lane), (uint32_t)(tag),                 \
		     (uint32_t)(operation), (uint64_t)(offset_bytes), (uint32_t)(length_bytes),              \
		     (int32_t)(result), (uint64_t)(in), (uint64_t)(sent), (uint64_t)(answered),              \
		     (uint64_t)(committed))
#define ISBOOT_PROBE_CONNECTION_LOST(device, lane, cause, code, in_flight, ns)                               \
	STAP_PROBE6(isboot, connection_lost, (uint32_t)(device), (uint32_t)(lane), (uint32_t)(cause),        \
		    (int32_t)(code), (uint32_t)(in_flight), (uint64_t)(ns))
#define ISBOOT_PROBE_RECONNECT_ATTEMPT(device, lane, attempt, code, ns)                                      \
	STAP_PROBE5(isboot, reconnect_attempt, (uint32_t)(device), (uint32_t)(lane), (uint32_t)(attempt),    \
		    (int32_t)(code), (uint64_t)(ns))
#define ISBOOT_PROBE_CONNECTION_RESUMED(device, lane, reissued, ns)                                          \
	STAP_PROBE4(isboot, connection_resumed, (uint32_t)(device), (uint32_t)(lane), (uint32_t)(reissued),  \
		    (uint64_t)(ns))
#define ISBOOT_PROBE_IO_RESUMED(device, lane, ns)                                                            \
	STAP_PROBE3(isboot, io_resumed, (uint32_t)(device), (uint32_t)(lane), (uint64_t)(ns))
#define ISBOOT_PROBE_LANE_STARTED(device, lane, worker_generation, ns)                                       \
	STAP_PROBE4(isboot, lane_started, (uint32_t)(device), (uint32_t)(lane),                              \
		    (uint32_t)(worker_generation), (uint64_t)(ns))
