"""The rig: guests under QEMU that boot from a real iSCSI target, and the parts they are made of."""
