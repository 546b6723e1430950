"""python3 -m isboot: for the initramfs, where there is no entry point script."""

from isboot.cli import main

raise SystemExit(main())
