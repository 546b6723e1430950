/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * USDT probes of the engine, provider "isboot".  No semaphores: attaching by path fails with them.  Off, a
 * probe is one nop (3-4 ns with its arguments at hand); arguments are integers the engine keeps anyway.
 *
 * ISBOOT_PROBES is the list: one line a probe, (name, arguments).  isboot_probe_count() counts it.
 * Times are CLOCK_MONOTONIC nanoseconds.
 */

#include <sys/sdt.h>

#define ISBOOT_PROBES(X)                                                                                     \
	X(io_done, "device, lane, tag, operation, offset_bytes, length_bytes, result, in, sent, answered, "  \
		   "committed")                                                                              \
	X(connection_lost, "device, lane, cause, code, in_flight, ns")                                       \
	X(reconnect_attempt, "device, lane, attempt, code, ns")                                              \
	X(connection_resumed, "device, lane, reissued, ns")                                                  \
	X(io_resumed, "device, lane, ns: the first I/O done after a loss")                                   \
	X(lane_started, "device, lane, worker_generation, ns")

#define ISBOOT_PROBE_IO_DONE(device, lane, tag, operation, offset_bytes, length_bytes, result, in, sent,     \
			     answered, committed)                                                            \
	STAP_PROBE11(isboot, io_done, device, lane, tag, operation, offset_bytes, length_bytes, result, in,  \
		     sent, answered, committed)
#define ISBOOT_PROBE_CONNECTION_LOST(device, lane, cause, code, in_flight, ns)                               \
	STAP_PROBE6(isboot, connection_lost, device, lane, cause, code, in_flight, ns)
#define ISBOOT_PROBE_RECONNECT_ATTEMPT(device, lane, attempt, code, ns)                                      \
	STAP_PROBE5(isboot, reconnect_attempt, device, lane, attempt, code, ns)
#define ISBOOT_PROBE_CONNECTION_RESUMED(device, lane, reissued, ns)                                          \
	STAP_PROBE4(isboot, connection_resumed, device, lane, reissued, ns)
#define ISBOOT_PROBE_IO_RESUMED(device, lane, ns) STAP_PROBE3(isboot, io_resumed, device, lane, ns)
#define ISBOOT_PROBE_LANE_STARTED(device, lane, worker_generation, ns)                                       \
	STAP_PROBE4(isboot, lane_started, device, lane, worker_generation, ns)
