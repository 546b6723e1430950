// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Latency buckets: values below 8 ns have one each, from there on a power of two is cut into eight.  A bucket
 * is at most 1/8 wider than its lower bound, so a quantile read from them is right within 12.5 %.
 */

#include <stdbool.h>
#include <stdint.h>

#include "engine.h"

enum { SUB_BITS = 3, SUB_BUCKETS = 1 << SUB_BITS };

uint32_t isboot_histogram_bucket(uint64_t latency_ns)
{
	uint32_t exponent, bucket;

	if (latency_ns < SUB_BUCKETS)
		return (uint32_t)latency_ns;
	exponent = 63 - (uint32_t)__builtin_clzll(latency_ns);
	bucket = (exponent - SUB_BITS + 1) * SUB_BUCKETS +
		 (uint32_t)((latency_ns >> (exponent - SUB_BITS)) & (SUB_BUCKETS - 1));
	return bucket < ISBOOT_HISTOGRAM_BUCKETS ? bucket : ISBOOT_HISTOGRAM_BUCKETS - 1;
}

uint64_t isboot_histogram_bucket_ns(uint32_t bucket)
{
	if (bucket < SUB_BUCKETS)
		return bucket;
	return (uint64_t)(SUB_BUCKETS + bucket % SUB_BUCKETS) << (bucket / SUB_BUCKETS - 1);
}
