// SPDX-License-Identifier: GPL-2.0-or-later
/* CRC32C by ISA-L, which picks the instructions of the machine at run time. */

#include <isa-l.h>

#include "lane.h"

enum { CRC_CHUNK_BYTES = 1 << 30 }; /* crc32_iscsi() takes an int */

uint32_t isboot_sum(uint32_t sum, const void *data, uint64_t length_bytes)
{
	/* the declaration lacks const; it only reads */
	unsigned char *bytes = (unsigned char *)(uintptr_t)data;

	while (length_bytes > CRC_CHUNK_BYTES) {
		sum = crc32_iscsi(bytes, CRC_CHUNK_BYTES, sum);
		bytes += CRC_CHUNK_BYTES;
		length_bytes -= CRC_CHUNK_BYTES;
	}
	return crc32_iscsi(bytes, (int)length_bytes, sum);
}

uint32_t isboot_crc32c(const void *data, uint64_t length_bytes)
{
	return ~isboot_sum(SUM_START, data, length_bytes);
}

#define TEXT(x) #x
#define VERSION(major, minor, patch) "ISA-L " TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *isboot_crc_library(void)
{
	return VERSION(ISAL_MAJOR_VERSION, ISAL_MINOR_VERSION, ISAL_PATCH_VERSION);
}
