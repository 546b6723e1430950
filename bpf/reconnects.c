// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * isboot trace reconnects: every loss of a connection or of a worker, and how I/O went on.
 *
 * What      a record for each event of a connection, and for the end of a process that served a device
 * Unit      nanoseconds of CLOCK_MONOTONIC
 * Probes    connection_lost, reconnect_attempt, connection_resumed, io_resumed, lane_started of the engine;
 *           the tracepoint sched:sched_process_exit, because a worker killed with -9 says nothing
 * Overhead  none on an I/O; 3 to 5 us an event of a connection in an emulated guest (6.12.107, bcc 0.31; a loop
 *           of 500 probes, three times, by the clock before and after); a look-up when a process ends.  While
 *           it compiles, 140 MiB and 12 s of processor there.
 * Options   -DEVENTS=...: the structs and kinds of isboot/trace/events.py; -DDEVICE=N: that device only
 */

#include <uapi/linux/ptrace.h>

EVENTS /* struct lane_started, ...; enum { KIND_lane_started, ... } */

#ifndef DEVICE
#define DEVICE device /* any */
#endif

BPF_RINGBUF_OUTPUT(events, 16);
BPF_ARRAY(dropped, u64, 1);
BPF_HASH(workers, u32, u32, 256); /* process -> device; those that serve already are put in from outside */

static inline void tell(void *event, u64 length_bytes)
{
	u32 zero = 0;

	if (events.ringbuf_output(event, length_bytes, 0))
		dropped.atomic_increment(zero);
}

static inline u32 process(void)
{
	return bpf_get_current_pid_tgid() >> 32;
}

int on_lane_started(struct pt_regs *ctx)
{
	struct lane_started event = { .kind = KIND_lane_started, .pid = process() };
	u32 device = 0;

	bpf_usdt_readarg(1, ctx, &device);
	if (device != DEVICE)
		return 0;
	event.device = device;
	bpf_usdt_readarg(2, ctx, &event.lane);
	bpf_usdt_readarg(3, ctx, &event.worker_generation);
	bpf_usdt_readarg(4, ctx, &event.ns);
	workers.update(&event.pid, &device);
	tell(&event, sizeof(event));
	return 0;
}

int on_connection_lost(struct pt_regs *ctx)
{
	struct connection_lost event = { .kind = KIND_connection_lost, .pid = process() };
	u32 device = 0;

	bpf_usdt_readarg(1, ctx, &device);
	if (device != DEVICE)
		return 0;
	event.device = device;
	bpf_usdt_readarg(2, ctx, &event.lane);
	bpf_usdt_readarg(3, ctx, &event.cause);
	bpf_usdt_readarg(4, ctx, &event.code);
	bpf_usdt_readarg(5, ctx, &event.in_flight);
	bpf_usdt_readarg(6, ctx, &event.ns);
	tell(&event, sizeof(event));
	return 0;
}

int on_reconnect_attempt(struct pt_regs *ctx)
{
	struct reconnect_attempt event = { .kind = KIND_reconnect_attempt, .pid = process() };
	u32 device = 0;

	bpf_usdt_readarg(1, ctx, &device);
	if (device != DEVICE)
		return 0;
	event.device = device;
	bpf_usdt_readarg(2, ctx, &event.lane);
	bpf_usdt_readarg(3, ctx, &event.attempt);
	bpf_usdt_readarg(4, ctx, &event.code);
	bpf_usdt_readarg(5, ctx, &event.ns);
	workers.update(&event.pid, &device);
	tell(&event, sizeof(event));
	return 0;
}

int on_connection_resumed(struct pt_regs *ctx)
{
	struct connection_resumed event = { .kind = KIND_connection_resumed, .pid = process() };
	u32 device = 0;

	bpf_usdt_readarg(1, ctx, &device);
	if (device != DEVICE)
		return 0;
	event.device = device;
	bpf_usdt_readarg(2, ctx, &event.lane);
	bpf_usdt_readarg(3, ctx, &event.reissued);
	bpf_usdt_readarg(4, ctx, &event.ns);
	workers.update(&event.pid, &device);
	tell(&event, sizeof(event));
	return 0;
}

int on_io_resumed(struct pt_regs *ctx)
{
	struct io_resumed event = { .kind = KIND_io_resumed, .pid = process() };
	u32 device = 0;

	bpf_usdt_readarg(1, ctx, &device);
	if (device != DEVICE)
		return 0;
	event.device = device;
	bpf_usdt_readarg(2, ctx, &event.lane);
	bpf_usdt_readarg(3, ctx, &event.ns);
	tell(&event, sizeof(event));
	return 0;
}

TRACEPOINT_PROBE(sched, sched_process_exit)
{
	struct worker_ended event = { .kind = KIND_worker_ended, .pid = process(), .ns = bpf_ktime_get_ns() };
	u32 *device = workers.lookup(&event.pid);

	/* once a process, not once a thread */
	if (!device || (u32)bpf_get_current_pid_tgid() != event.pid)
		return 0;
	event.device = *device;
	workers.delete(&event.pid);
	tell(&event, sizeof(event));
	return 0;
}
