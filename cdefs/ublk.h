/*
 * SPDX-License-Identifier: GPL-2.0-or-later
 *
 * Declarations of ours for the kernel's ublk driver (drivers/block/ublk_drv.c, uapi linux/ublk_cmd.h), with
 * the version each came in.  Debian 12's headers lack the ioctl-encoded commands, Debian 13's what came after
 * 6.12; tests/block compares with the installed header where it has them.  Names carry our prefix so that both
 * can be included.
 */

#define ISBOOT_UBLK_CMD_GET_QUEUE_AFFINITY 0x80207501
#define ISBOOT_UBLK_CMD_GET_DEV_INFO 0x80207502
#define ISBOOT_UBLK_CMD_ADD_DEV 0xc0207504
#define ISBOOT_UBLK_CMD_DEL_DEV 0xc0207505
#define ISBOOT_UBLK_CMD_START_DEV 0xc0207506
#define ISBOOT_UBLK_CMD_STOP_DEV 0xc0207507
#define ISBOOT_UBLK_CMD_SET_PARAMS 0xc0207508
#define ISBOOT_UBLK_CMD_GET_PARAMS 0x80207509
#define ISBOOT_UBLK_CMD_START_USER_RECOVERY 0xc0207510
#define ISBOOT_UBLK_CMD_END_USER_RECOVERY 0xc0207511
#define ISBOOT_UBLK_CMD_GET_FEATURES 0x80207513 /* 6.5 */
#define ISBOOT_UBLK_CMD_UPDATE_SIZE 0xc0207515  /* 6.16 */
#define ISBOOT_UBLK_CMD_QUIESCE_DEV 0xc0207516  /* 6.16 */
#define ISBOOT_UBLK_CMD_TRY_STOP_DEV 0xc0207517 /* 7.0 */

#define ISBOOT_UBLK_IO_FETCH_REQ 0xc0107520
#define ISBOOT_UBLK_IO_COMMIT_AND_FETCH_REQ 0xc0107521
#define ISBOOT_UBLK_IO_RES_OK 0
#define ISBOOT_UBLK_IO_RES_ABORT -19 /* -ENODEV: final, do not fetch again */

#define ISBOOT_UBLK_OP_READ 0
#define ISBOOT_UBLK_OP_WRITE 1
#define ISBOOT_UBLK_OP_FLUSH 2
#define ISBOOT_UBLK_OP_DISCARD 3
#define ISBOOT_UBLK_OP_WRITE_ZEROES 5
#define ISBOOT_UBLK_IO_F_FUA 0x2000 /* bit 13 of op_flags */

#define ISBOOT_UBLK_MAX_QUEUE_DEPTH 4096

enum isboot_ublk_feature {
	ISBOOT_UBLK_F_SUPPORT_ZERO_COPY = 1,
	ISBOOT_UBLK_F_URING_CMD_COMP_IN_TASK = 2,
	ISBOOT_UBLK_F_NEED_GET_DATA = 4,
	ISBOOT_UBLK_F_USER_RECOVERY = 8,
	ISBOOT_UBLK_F_USER_RECOVERY_REISSUE = 16,
	ISBOOT_UBLK_F_UNPRIVILEGED_DEV = 32,
	ISBOOT_UBLK_F_CMD_IOCTL_ENCODE = 64,
	ISBOOT_UBLK_F_USER_COPY = 128,     /* 6.5 */
	ISBOOT_UBLK_F_ZONED = 256,         /* 6.6 */
	ISBOOT_UBLK_F_UPDATE_SIZE = 1024,  /* 6.16 */
	ISBOOT_UBLK_F_AUTO_BUF_REG = 2048, /* 6.16 */
	ISBOOT_UBLK_F_QUIESCE = 4096,      /* 6.16 */
};

enum isboot_ublk_state {
	ISBOOT_UBLK_S_DEV_DEAD = 0,
	ISBOOT_UBLK_S_DEV_LIVE = 1,
	ISBOOT_UBLK_S_DEV_QUIESCED = 2,
	ISBOOT_UBLK_S_DEV_FAIL_IO = 3,
};

enum isboot_ublk_attribute {
	ISBOOT_UBLK_ATTR_READ_ONLY = 1,
	ISBOOT_UBLK_ATTR_ROTATIONAL = 2,
	ISBOOT_UBLK_ATTR_VOLATILE_CACHE = 4,
	ISBOOT_UBLK_ATTR_FUA = 8,
};

enum isboot_ublk_parameter_type {
	ISBOOT_UBLK_PARAM_TYPE_BASIC = 1,
	ISBOOT_UBLK_PARAM_TYPE_DISCARD = 2,
};

/* ublksrv_ctrl_dev_info, 64 bytes */
struct isboot_ublk_device_info {
	uint16_t nr_hw_queues;
	uint16_t queue_depth;
	uint16_t state;
	uint16_t pad0;
	uint32_t max_io_buf_bytes;
	uint32_t dev_id;
	int32_t ublksrv_pid;
	uint32_t pad1;
	uint64_t flags;
	uint64_t ublksrv_flags;
	uint32_t owner_uid;
	uint32_t owner_gid;
	uint64_t reserved1;
	uint64_t reserved2;
};

/* ublk_params up to the discard part: `len` tells the kernel how much of it there is */
struct isboot_ublk_parameters {
	uint32_t len;
	uint32_t types;
	uint32_t attrs;
	uint8_t logical_bs_shift;
	uint8_t physical_bs_shift;
	uint8_t io_opt_shift;
	uint8_t io_min_shift;
	uint32_t max_sectors;
	uint32_t chunk_sectors;
	uint64_t dev_sectors;
	uint64_t virt_boundary_mask;
	uint32_t discard_alignment;
	uint32_t discard_granularity;
	uint32_t max_discard_sectors;
	uint32_t max_write_zeroes_sectors;
	uint16_t max_discard_segments;
	uint16_t reserved0;
};

/* ublksrv_io_desc, 24 bytes; sectors of 512 bytes whatever the block size */
struct isboot_ublk_descriptor {
	uint32_t op_flags;
	uint32_t nr_sectors;
	uint64_t start_sector;
	uint64_t addr;
};
