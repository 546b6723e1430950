#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck disable=SC2154 # dracut sets the variables in lower case
# dracut module: a root disk from the firmware's iBFT. What every initramfs of isboot holds is put there by "fill".

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
    # which module drives what, also of those that are not in here: for the message when a NIC has no driver
    mkdir -p "$initdir/usr/lib/isboot"
    /usr/lib/isboot/initramfs/nic-modules "/lib/modules/$kernel" >"$initdir/usr/lib/isboot/nic-modules.alias" || :
}

install() {
    # dracut ignores what a module returns, so a failure ends it: better no new image than one that cannot boot
    /usr/lib/isboot/initramfs/fill "$initdir" || {
        dfatal "isboot: putting it into the initramfs failed"
        exit 1
    }
    inst_multiple modprobe
    inst_simple "$moddir/isboot.service" "$systemdsystemunitdir/isboot.service"
    inst_simple "$moddir/isboot-table.service" "$systemdsystemunitdir/isboot-table.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd-root-device.target isboot.service
}
