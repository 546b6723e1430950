// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * isboot trace latency: where the time of an I/O goes.
 *
 * What      per device, lane and operation: how many, bytes, errors; sum, maximum and distribution of the whole
 *           I/O and of its phases in -> sent -> answered -> committed
 * Unit      nanoseconds; buckets in units of 125 ns, see isboot/trace/histogram.py
 * Probe     io_done of the engine, which carries every time stamp of an I/O
 * Overhead  5 to 7 us an I/O in an emulated guest (6.12.107, bcc 0.31; a loop of 200,000 probes, three times, by
 *           the clock before and after), 15 ns untraced, the call included.  While it compiles, 140 MiB and
 *           10 s of processor there.
 * Options   -DDEVICE=N: that device only
 *
 * A lane is one thread, and its number is in every key: nothing here has two writers.
 */

#include <uapi/linux/ptrace.h>

enum { WHOLE, WAITING, TARGET, COMMIT, PHASES };
enum { SUB_BITS = 3, SUB_BUCKETS = 1 << SUB_BITS, UNIT_NS = 125, BUCKETS = SUB_BUCKETS * 40 };

struct totals_key {
	u32 device;
	u32 lane;
	u32 operation;
};

struct total {
	u64 count;
	u64 errors;
	u64 unanswered;
	u64 length_bytes;
	u64 sum_ns[PHASES];
	u64 maximum_ns[PHASES];
};

struct buckets_key {
	u32 device;
	u32 lane;
	u16 operation;
	u16 phase;
	u32 bucket;
};

BPF_HASH(totals, struct totals_key, struct total, 256);
BPF_HASH(buckets, struct buckets_key, u64, 32768);

static inline u32 bucket_of(u64 duration_ns)
{
	u64 units = duration_ns / UNIT_NS, rest = units;
	u32 exponent = 0, bucket;

	if (units < SUB_BUCKETS)
		return units;
	if (rest >> 32) {
		rest >>= 32;
		exponent += 32;
	}
	if (rest >> 16) {
		rest >>= 16;
		exponent += 16;
	}
	if (rest >> 8) {
		rest >>= 8;
		exponent += 8;
	}
	if (rest >> 4) {
		rest >>= 4;
		exponent += 4;
	}
	if (rest >> 2) {
		rest >>= 2;
		exponent += 2;
	}
	exponent += rest >> 1;
	bucket = (exponent - SUB_BITS + 1) * SUB_BUCKETS + ((units >> (exponent - SUB_BITS)) & (SUB_BUCKETS - 1));
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static inline void add(struct total *total, struct buckets_key *key, u32 phase, u64 duration_ns)
{
	u64 zero = 0, *count;

	total->sum_ns[phase] += duration_ns;
	if (duration_ns > total->maximum_ns[phase])
		total->maximum_ns[phase] = duration_ns;
	key->phase = phase;
	key->bucket = bucket_of(duration_ns);
	count = buckets.lookup_or_try_init(key, &zero);
	if (count)
		*count += 1;
}

int on_io_done(struct pt_regs *ctx)
{
	u32 device = 0, lane = 0, operation = 0, length_bytes = 0;
	u64 in_ns = 0, sent_ns = 0, answered_ns = 0, committed_ns = 0;
	s32 result = 0;
	struct totals_key key = {};
	struct buckets_key bucket = {};
	struct total zero = {}, *total;

	bpf_usdt_readarg(1, ctx, &device);
#ifdef DEVICE
	if (device != DEVICE)
		return 0;
#endif
	bpf_usdt_readarg(2, ctx, &lane);
	bpf_usdt_readarg(4, ctx, &operation);
	bpf_usdt_readarg(6, ctx, &length_bytes);
	bpf_usdt_readarg(7, ctx, &result);
	bpf_usdt_readarg(8, ctx, &in_ns);
	bpf_usdt_readarg(9, ctx, &sent_ns);
	bpf_usdt_readarg(10, ctx, &answered_ns);
	bpf_usdt_readarg(11, ctx, &committed_ns);

	key.device = device;
	key.lane = lane;
	key.operation = operation;
	total = totals.lookup_or_try_init(&key, &zero);
	if (!total)
		return 0;
	total->count++;
	if (result < 0)
		total->errors++;
	else
		total->length_bytes += length_bytes;
	bucket.device = device;
	bucket.lane = lane;
	bucket.operation = operation;
	add(total, &bucket, WHOLE, committed_ns - in_ns);
	/* failed without a connection, or answered before all of its data was sent: there are no phases */
	if (sent_ns < in_ns || answered_ns < sent_ns || committed_ns < answered_ns) {
		total->unanswered++;
		return 0;
	}
	add(total, &bucket, WAITING, sent_ns - in_ns);
	add(total, &bucket, TARGET, answered_ns - sent_ns);
	add(total, &bucket, COMMIT, committed_ns - answered_ns);
	return 0;
}
