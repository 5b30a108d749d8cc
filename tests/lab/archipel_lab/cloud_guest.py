# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest as clouds have them, built of Debian's packages: systemd, cloud-init, QEMU's guest agent."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from . import debian, machine
from .process import locked, run, say
from .topology import CACHE_ROOT

TOOLS = {"mmdebstrap": "mmdebstrap", "mke2fs": "e2fsprogs"}
PACKAGES = (
    "systemd-sysv udev dbus iproute2 sudo ca-certificates cloud-init qemu-guest-agent linux-image-cloud-amd64 "
    "initramfs-tools e2fsprogs"
).split()
# Runs in the new root as mmdebstrap's customize-hook; $1 is the root. Under emulation each unit that starts takes its
# time, so those that have no part in this stay away.
CUSTOMIZE = """
set -eu
printf '/dev/vda / ext4 rw 0 1\\n' > "$1"/etc/fstab
rm -f "$1"/etc/machine-id "$1"/etc/hostname
: > "$1"/etc/machine-id
printf 'virtio_pci\\nvirtio_blk\\nvirtio_scsi\\nsr_mod\\nisofs\\nvirtio_console\\n' >> "$1"/etc/initramfs-tools/modules
chroot "$1" update-initramfs -u -k all
chroot "$1" systemctl enable systemd-networkd
chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer fstrim.timer e2scrub_all.timer dpkg-db-backup.timer \
    systemd-networkd-wait-online.service getty@tty1.service
rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/usr/share/locale
"""
SIZE = "1500M"


def image() -> Path:
    """The directory with `vmlinuz`, `initrd` and `disk.raw`, built if it is not in the cache."""
    release = machine.codename()
    recipe = "\0".join([release, SIZE, *PACKAGES, CUSTOMIZE, machine.sources(release)])
    directory = CACHE_ROOT / f"cloud-guest-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    with locked(CACHE_ROOT / "lock"):
        if not directory.exists():
            say("building the guest with cloud-init (about three minutes, once)")
            machine.need(TOOLS)
            partial = directory.with_suffix(".partial")
            run(["rm", "-rf", "--one-file-system", partial])
            _build(partial, release)
            os.rename(partial, directory)
    return directory


def install(shared: Path) -> None:
    """Put the guest where the hypervisors see it as /vm/guest/cloud-{vmlinuz,initrd} and /vm/drives/cloud-guest.raw."""
    source = image()
    places = {"vmlinuz": "guest/cloud-vmlinuz", "initrd": "guest/cloud-initrd", "disk.raw": "drives/cloud-guest.raw"}
    for name, place in places.items():
        (shared / place).parent.mkdir(parents=True, exist_ok=True)
        partial = shared / f"{place}.partial"
        run(["cp", "--sparse=always", source / name, partial])
        os.rename(partial, shared / place)


def _build(target: Path, release: str) -> None:
    root = target / "root"
    target.mkdir(parents=True)
    debian.install(root, release, PACKAGES, CUSTOMIZE)
    for name in ("vmlinuz", "initrd"):
        (found,) = (root / "boot").glob(f"{name}*-*")
        shutil.copyfile(found, target / name)
    run(["mke2fs", "-q", "-t", "ext4", "-d", root, target / "disk.raw", SIZE])
    run(["rm", "-rf", "--one-file-system", root])
