#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154 # dracut sets the variables in lower case
# dracut module: a root disk from the firmware's iBFT.
#
# isboot's world (interpreter, libraries, isboot itself) stands in the initramfs as one tree, /usr/lib/isboot/world,
# which isboot-boot copies into a ramfs of its own. Nothing of it is needed from the root file system, ever.

check() {
    require_binaries python3 || return 1
    [[ -x /usr/lib/isboot/isboot-boot ]] || return 1
    # wherever the package is installed, the next boot may be from a table
    return 0
}

depends() {
    echo systemd udev-rules
}

installkernel() {
    # whatever NIC firmware boots from; dracut's own module for this is in a Debian package of its own, with much else
    hostonly='' instmods ublk_drv iscsi_ibft "=drivers/net/ethernet" "=drivers/net/mdio" "=drivers/net/phy" \
        virtio_net vmxnet3 hv_netvsc xen-netfront 8021q
}

install() {
    local world="/usr/lib/isboot/world"
    local run="/usr/lib/isboot/run"
    local path

    # what the boot needs of Python, found by importing it; bytecode only: it starts faster and is smaller
    # as the boot runs it: Debian's modules only, whatever pip put into /usr/local. dracut ignores what a module
    # returns, so a failure ends it: better no new image than one that cannot boot
    local python=(env -i PATH=/usr/sbin:/usr/bin PYTHONHOME=/usr PYTHONPATH=/usr/lib/python3/dist-packages)
    "${python[@]}" /usr/bin/python3 -S "$moddir/collect-world.py" "$initdir$world" || {
        dfatal "isboot: collecting the Python files of the boot failed"
        exit 1
    }
    "${python[@]}" chroot "$initdir$world" /usr/bin/python3 -S -m isboot --version >/dev/null || {
        dfatal "isboot: what was collected does not run"
        exit 1
    }

    inst_binary /usr/lib/isboot/isboot-boot
    inst_multiple modprobe
    inst_rules 61-isboot.rules
    inst_simple "$moddir/isboot" /usr/bin/isboot
    chmod 0755 "$initdir/usr/bin/isboot"
    inst_simple "$moddir/isboot.service" "$systemdsystemunitdir/isboot.service"
    inst_simple "$systemdsystemunitdir/modprobe@.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd-root-device.target isboot.service

    # copied to /run before switch_root: what the host's systemd and udev must know, and the last step of a shutdown
    mkdir -p "$initdir$run"/{systemd/system/{multi-user.target.wants,dracut-shutdown.service.d},udev/rules.d,isboot/bin} \
        "$initdir$run"/initramfs/{oldroot,dev,proc,sys,run,etc}
    inst_simple "$moddir/isboot-host.service" "$run/systemd/system/isboot.service"
    inst_simple "$moddir/isboot-guard.service" "$run/systemd/system/isboot-guard.service"
    inst_simple "$moddir/dracut-shutdown.conf" "$run/systemd/system/dracut-shutdown.service.d/isboot.conf"
    ln -sfn ../isboot-guard.service "$initdir$run/systemd/system/multi-user.target.wants/isboot-guard.service"
    for path in /usr/lib/udev/rules.d/61-isboot.rules /lib/udev/rules.d/61-isboot.rules; do
        [[ -e $path ]] && inst_simple "$path" "$run/udev/rules.d/61-isboot.rules" && break
    done
    inst_simple /usr/lib/isboot/isboot-boot "$run/isboot/bin/isboot-boot"
    inst_simple /usr/lib/isboot/isboot-boot "$run/initramfs/shutdown"
    chmod 0700 "$initdir$run/isboot"
}
