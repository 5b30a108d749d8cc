# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest that the hypervisors run: Debian's cloud kernel and a busybox initrd, also as a bootable ISO."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
from pathlib import Path

from . import machine
from .process import LabError, locked, run, say
from .topology import CACHE_ROOT

FILES = Path(__file__).parent / "guest_files"
TOOLS = {"xorriso": "xorriso", "cpio": "cpio", "depmod": "kmod"}
# Network, disks and channels; the power button with its event device, which busybox's acpid reads; the way to tell of a
# panic.
MODULES = "virtio_pci virtio_net virtio_blk virtio_console button evdev pvpanic-mmio".split()
BIOS = Path("usr/lib/syslinux/modules/bios/ldlinux.c32")
LOADER = Path("usr/lib/ISOLINUX/isolinux.bin")


def image() -> Path:
    """The directory with `vmlinuz`, `initrd` and `guest.iso`, built if it is not in the cache."""
    recipe = b"\0".join([Path(__file__).read_bytes(), *(path.read_bytes() for path in sorted(FILES.iterdir()))])
    directory = CACHE_ROOT / f"guest-{hashlib.sha256(recipe).hexdigest()[:12]}"
    with locked(CACHE_ROOT / "lock"):
        if not directory.exists():
            say("building the guest (half a minute, once)")
            machine.need(TOOLS)
            partial = directory.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            _build(partial)
            shutil.rmtree(partial / "work")
            os.rename(partial, directory)
    return directory


def install(shared: Path) -> None:
    """Put the guest where the hypervisors see it as /vm/guest/{vmlinuz,initrd} and /vm/iso/guest.iso."""
    source = image()
    for name in ("guest/vmlinuz", "guest/initrd", "iso/guest.iso"):
        target = shared / name
        if not target.exists() or not filecmp.cmp(source / target.name, target, shallow=False):
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_suffix(".partial")
            shutil.copyfile(source / target.name, partial)
            os.rename(partial, target)


def _build(target: Path) -> None:
    debian = target / "work" / "debian"
    debian.mkdir(parents=True)
    for package in (_kernel_package(), "busybox-static", "isolinux", "syslinux-common"):
        _extract(package, debian)
    (kernel,) = (debian / "boot").glob("vmlinuz-*")
    shutil.copyfile(kernel, target / "vmlinuz")
    _initrd(debian, kernel.name.partition("-")[2], target)
    _iso(debian, target)


def _kernel_package() -> str:
    """The package that the metapackage linux-image-cloud-amd64 depends on."""
    for line in run(["apt-cache", "depends", "linux-image-cloud-amd64"]).splitlines():
        name = line.partition("Depends: ")[2]
        if name.startswith("linux-image-"):
            return name
    raise LabError("apt on this machine knows no linux-image-cloud-amd64")


def _extract(package: str, root: Path) -> None:
    """Download a Debian package and unpack it, without installing anything on this machine."""
    run(["sh", "-c", 'cd "$1" && apt-get download -q "$2"', "sh", root.parent, package])
    (archive,) = root.parent.glob(f"{package}_*.deb")
    run(["dpkg-deb", "-x", archive, root])


def _initrd(debian: Path, release: str, target: Path) -> None:
    root = target / "work" / "initrd"
    for directory in ("bin", "proc", "sys", "dev", "modules", "etc/acpi/PWRF"):
        (root / directory).mkdir(parents=True)
    shutil.copy(debian / "bin/busybox", root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    for source, place in (("init", "init"), ("power-button", "etc/acpi/PWRF/00000080")):
        shutil.copyfile(FILES / source, root / place)
        (root / place).chmod(0o755)
    run(["depmod", "-b", debian, release])
    order = run(["modprobe", "--dirname", debian, "--set-version", release, "--show-depends", "--all", *MODULES])
    paths = dict.fromkeys(line.split()[1] for line in order.splitlines() if line.startswith("insmod"))
    for number, path in enumerate(paths):
        shutil.copy(path, root / "modules" / f"{number:02}-{Path(path).name}")
    run(["sh", "-c", 'cd "$1" && find . | cpio --quiet -o -H newc | gzip > "$2"', "sh", root, target / "initrd"])


def _iso(debian: Path, target: Path) -> None:
    tree = target / "work" / "iso"
    (tree / "isolinux").mkdir(parents=True)
    for source in (debian / LOADER, debian / BIOS, FILES / "isolinux.cfg"):
        shutil.copy(source, tree / "isolinux")
    for name in ("vmlinuz", "initrd"):
        shutil.copy(target / name, tree)
    boot = "-b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table".split()
    run(["xorriso", "-as", "mkisofs", "-quiet", "-V", "GUEST", "-J", "-R", *boot, "-o", target / "guest.iso", tree])
