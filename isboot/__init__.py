"""isboot: a root file system on iSCSI, from the firmware's table to /dev/ublkb0."""

__version__ = "0.1.0"
