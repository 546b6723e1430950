/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

#include <stdbool.h>

/*
 * isboot-boot: the little program around the boot that must need nothing from any disk.  One static binary:
 *
 *   isboot-boot world TREE PROGRAM [ARGUMENT ...]   make a mount namespace rooted in a ramfs that holds a copy
 *                                                   of TREE, and run PROGRAM there
 *   isboot-boot start TREE PROGRAM [ARGUMENT ...]   the same in the background, until PROGRAM says that it is ready
 *   isboot-boot join FILE PROGRAM [ARGUMENT ...]    run PROGRAM in the namespace of the process whose pid is in FILE
 *   isboot-boot keep FILE PROGRAM [ARGUMENT ...]    for a unit: the living launcher is the unit's, else as join
 *   isboot-boot tell WORD                           say WORD (arm, disarm, flush, finish) to every launcher
 *   /shutdown VERB ...                              systemd-shutdown's last step: unmount the root, have isboot
 *                                                   flush and log out, then reboot(2)
 */

#define CONTROL_DIRECTORY "/run/isboot/control"
/* the '@' tells systemd's killing spree that this is a storage daemon of the root */
#define PROCESS_NAME "@isboot"

/* One line to the kernel's log, "isboot: ..."; works when nothing else does. */
__attribute__((format(printf, 1, 2))) void say(const char *format, ...);

int world(int count, char **arguments);
int start(int count, char **arguments);
int join_world(int count, char **arguments);
int keep(int count, char **arguments);
int tell(const char *word, int timeout_ms);
int shut_down(const char *verb);

/* Whether two processes, by the names of their directories in /proc, see the same mounts. */
bool share_mounts(const char *one, const char *other);

/* Says which processes hold the file system mounted there, and by what. */
void say_holders(const char *point);

/* Copies a tree: directories, files, symbolic links; modes kept, everything owned by root. */
int copy_tree(const char *from, const char *to);
