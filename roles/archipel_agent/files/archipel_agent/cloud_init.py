# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""The seed of a machine's cloud-init: an image with files that its guest reads at its first boot. Pure; no libvirt.

https://docs.cloud-init.io/en/latest/reference/datasources/nocloud.html: an ISO 9660 volume called ``cidata``. User data
is a secret: it is in the image and in a request, and nowhere else; no file of the agent's own, no process has it.
"""

from __future__ import annotations

import dataclasses
import io
import json
import struct
import typing as t

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import devices, domain_xml
from .domain_xml import Element, attribute_of

LABEL = "cidata"
USER_DATA = "user-data"
# Its files, and what the options call them.
TERMS = {USER_DATA: "user_data", "meta-data": "meta_data", "network-config": "network_config"}
# The smallest kernels for clouds, such as Debian's, have a driver for VirtIO only.
DEFAULT_BUS = "scsi"
# A guest that reboots sees the size that the image had when it was started, so it seldom changes.
_STEP = 256 * 1024
# Where ISO 9660 has its first descriptor, and of it type, "CD001", version, a zero, the system's name and the volume's.
_DESCRIPTOR = 32768
_VOLUME_NAME = slice(_DESCRIPTOR + 40, _DESCRIPTOR + 72)
_PARTS = slice(_DESCRIPTOR, _DESCRIPTOR + 72)

Terms = t.Dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Seed:
    """The seed that a machine is to have. ``image`` is written to ``volume``; None: it stays as it is.

    ``before`` and ``after`` tell what that changes, in the terms of the options.
    """

    volume: Volume
    path: str
    image: bytes | None = dataclasses.field(default=None, repr=False)
    before: Terms = dataclasses.field(default_factory=dict)
    after: Terms = dataclasses.field(default_factory=dict)


def volume_name(machine: str) -> str:
    """The volume of a machine's seed."""
    return machine + devices.SEED_SUFFIX


def image(files: t.Mapping[str, str]) -> bytes:
    """The seed with these files."""
    pycdlib = _library()
    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    for number, (name, text) in enumerate(sorted(files.items())):
        content = text.encode()
        iso.add_fp(io.BytesIO(content), len(content), f"/FILE{number}.;1", rr_name=name, joliet_path=f"/{name}")
    made = io.BytesIO()
    iso.write_fp(made)
    iso.close()
    found = made.getvalue()
    return found.ljust(-(-len(found) // _STEP) * _STEP, b"\0")


def files_of(found: bytes) -> dict[str, str]:
    """The files of a seed; none of one that was never written, or not to its end. ArchipelError if it is no seed."""
    if not any(found[_PARTS]):
        return {}
    if found[_DESCRIPTOR + 1 : _DESCRIPTOR + 6] != b"CD001" or found[_VOLUME_NAME].rstrip() != LABEL.encode():
        raise ArchipelError("is something else than a seed of cloud-init, and is not overwritten", CODE_DECLARATION)
    pycdlib = _library()
    iso, files = pycdlib.PyCdlib(), {}
    try:
        iso.open_fp(io.BytesIO(found))
        for name in TERMS:
            content = io.BytesIO()
            try:
                iso.get_file_from_iso_fp(content, joliet_path=f"/{name}")
            except pycdlib.pycdlibexception.PyCdlibInvalidInput:
                continue
            files[name] = content.getvalue().decode(errors="replace")
    except (pycdlib.pycdlibexception.PyCdlibException, struct.error, IndexError, ValueError):
        return {}
    return files


def seed(volume: Volume, path: str, files: t.Mapping[str, str], found: bytes | None) -> Seed:
    """What it takes to have a seed with these files, where there is the image ``found``; None: there is none."""
    old = {} if found is None else files_of(found)
    if old == files:
        return Seed(volume, path)
    names = [name for name in TERMS if old.get(name) != files.get(name)]
    before = {TERMS[name]: _shown(name, old[name]) for name in names if name in old}
    after = {TERMS[name]: _shown(name, files[name]) for name in names if name in files}
    if USER_DATA in names and USER_DATA in old and USER_DATA in files:
        after[TERMS[USER_DATA]] = domain_xml.SECRET_CHANGED
    return Seed(volume, path, image(files), before, after)


def lay(stated: Element, existing: Element | None, path: str, bus: str) -> None:
    """Have the definition ``stated`` say that there is a drive with the seed at ``path``, in place.

    ``bus`` empty: that of the drive that there is, or the default.
    """
    old = None if existing is None else drive(existing)
    container = stated.find("devices")
    if container is None:
        container = stated.makeelement("devices")
        stated.append(container)
    disk = container.makeelement("disk", {"type": "file", "device": "cdrom"})
    bus = bus or ("" if old is not None else DEFAULT_BUS)
    parts = [("driver", {"name": "qemu", "type": "raw"}), ("source", {"file": path}), ("readonly", {})]
    for tag, attributes in [*parts, *([("target", {"bus": bus})] if bus else [])]:
        disk.append(disk.makeelement(tag, attributes))
    container.append(disk)
    there = [domain.find("devices/controller[@type='scsi']") for domain in (stated, existing) if domain is not None]
    if bus == "scsi" and all(controller is None for controller in there):
        attributes = {"type": "scsi", "index": "0", "model": "virtio-scsi"}
        container.append(container.makeelement("controller", attributes))


def drive(domain: Element) -> Element | None:
    """The drive of a definition that holds a seed; None if there is none."""
    return next((disk for disk in domain.findall("devices/disk") if devices.is_seed(disk)), None)


def holds(domain: Element, name: str) -> bool:
    """Whether a drive of the definition holds the volume ``name``."""
    return any(attribute_of(disk, "source", "file").endswith(f"/{name}") for disk in domain.findall("devices/disk"))


def _shown(name: str, text: str) -> t.Any:
    """A file for people."""
    if name == USER_DATA:
        return domain_xml.SECRET_SET
    try:
        return json.loads(text)
    except ValueError:
        return text


def _library() -> t.Any:
    """pycdlib, which an agent without such machines gets on without."""
    try:
        import pycdlib
    except ImportError:
        message = "cloud_init needs the package python3-pycdlib on the hypervisor"
        raise ArchipelError(message, CODE_DECLARATION) from None
    return pycdlib
