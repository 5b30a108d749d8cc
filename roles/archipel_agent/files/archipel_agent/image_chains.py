# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands behind the images of a machine, judged for who lacks ``host_access``.

QEMU opens the file that an image names, and who can write an image can name any file of the host there. So images are
looked at when they are put into a definition, again before each start that somebody asks for, and by a move's target.
"""

from __future__ import annotations

import posixpath
import re
import typing as t

from archipel_protocol import errors

from . import domain_xml, domains, host_access, installed, own_files, permissions, qcow2, volumes
from .dispatch import Request
from .domain_xml import Element, attribute_of
from .host_access import is_inside
from .libvirt_facade import libvirt

if t.TYPE_CHECKING:
    from .agent import Agent

_DEEPEST_CHAIN = 32
# As QEMU tells a protocol from a path (path_has_protocol() in block.c).
_PROTOCOL = re.compile(r"[^:/]*:")


async def refuse_start(agent: Agent, request: Request, uuid: str) -> None:
    """Raises PermissionDenied where the start of a machine needs ``host_access`` and the sender has it not."""
    if request.permits(permissions.HOST_ACCESS):
        return
    refuse(await agent.libvirt.call(at_start, uuid))


def refuse(reasons: list[str]) -> None:
    """Raises PermissionDenied where there are reasons not to start a machine."""
    if reasons:
        raise errors.PermissionDenied(f"the start needs the permission 'host_access': {'; '.join(reasons)}")


# In a thread


def at_start(connection: libvirt.virConnect, uuid: str) -> list[str]:
    """Reasons why the start of a machine needs ``host_access`` by what its images name by now.

    A file outside of the allowed folders is there because somebody with ``host_access`` has put it there.
    """
    domain = connection.lookupByUUIDString(uuid)
    if not domain.isPersistent():
        return []
    return images_outside(connection, domain_xml.parse_domain(domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)))


def images_outside(connection: libvirt.virConnect, definition: Element) -> list[str]:
    """The same of a definition that is to run here, wherever it is from."""
    return _images(connection, definition, is_inside)


def reaching_out(
    connection: libvirt.virConnect, definition: Element, to_make: t.Container[str], harmless: t.Container[str]
) -> list[str]:
    """Reasons why a definition, as libvirt dumps it, needs ``host_access``; ``to_make`` as for outside().

    ``harmless``: what host_access.harmless() has just told of its devices.
    """
    board = (attribute_of(definition, "os/type", name) or None for name in ("arch", "machine"))
    emulator = installed.asked(connection, domains.emulator, *board, definition.get("type"))
    return host_access.check(definition, {emulator}, known=harmless) or outside(connection, definition, to_make)


def outside(connection: libvirt.virConnect, definition: Element, to_make: t.Container[str] = ()) -> list[str]:
    """Reasons why a definition needs ``host_access`` by what its images name, and by which files are another machine's.

    Files ``to_make`` do not exist yet and refer to nothing.
    """
    reasons = _images(connection, definition, lambda path: path not in to_make)
    shared = own_files.shared(definition, domains.others(connection, definition))
    return reasons + [f"{path} belongs to the virtual machine '{name}'" for path, name in shared.items()]


def chains_outside(connection: libvirt.virConnect, paths: t.Iterable[str]) -> list[str]:
    """Reasons why volumes that others are made from, in the format that libvirt finds, need ``host_access``."""
    reasons: list[str] = []
    refreshed: set[str] = set()
    for path in paths:
        volume = volumes.fresh(connection, path, refreshed)
        form = "raw" if volume is None else volumes.format_of(volumes.describe(volume))
        if volume is not None and form not in ("raw", "qcow2"):
            reasons.append(f"{path}: it has the format {form}, which can refer to other files")
        elif volume is None or form == "qcow2":
            reasons += [f"{path}: {reason}" for reason in _chain(connection, path)]
    return reasons


def _images(connection: libvirt.virConnect, definition: Element, judged: t.Callable[[str], bool]) -> list[str]:
    reasons: list[str] = []
    for disk in definition.findall("devices/disk"):
        label = f"disk[{attribute_of(disk, 'target', 'dev')}]"
        # Where a definition states the backing files, QEMU opens these instead of those that the images name.
        for place in (disk, *disk.iter("backingStore")):
            path = attribute_of(place, "source", "file")
            if path and host_access.format_of(place) == "qcow2" and judged(path):
                reasons += [f"{label}: {reason}" for reason in _chain(connection, path)]
    return reasons


def _chain(connection: libvirt.virConnect, path: str) -> t.Iterator[str]:
    """Reasons of one image, and of those behind it. An image is read, because a pool may know an older one."""
    for dummy in range(_DEEPEST_CHAIN):
        volume = volumes.by_path(connection, path)
        if volume is None:
            yield f"{path} is in no active pool, so nothing is known of its backing files"
            return
        image = qcow2.read(lambda offset, length, volume=volume: _part(connection, volume, offset, length))
        if image is None:
            return  # QEMU takes it for none either
        if image.has_data_file:
            yield f"{path} keeps its data in another file"
            return
        if not image.backing:
            return
        if _PROTOCOL.match(image.backing):
            yield f"its backing file {image.backing} is no plain file"
            return
        backing = posixpath.join(posixpath.dirname(path), image.backing)
        if image.form not in ("", "raw", "qcow2"):
            yield f"its backing file {backing} is taken for {image.form}, which can refer to other files"
            return
        if not is_inside(backing):
            yield f"its backing file {backing} is outside of the allowed folders"
            return
        if image.form == "raw":
            return
        path = backing
    yield f"its chain of backing files is longer than {_DEEPEST_CHAIN}"


def _part(connection: libvirt.virConnect, volume: libvirt.virStorageVol, offset: int, length: int) -> bytes:
    """Bytes of a volume; fewer at its end."""
    stream, found = connection.newStream(), b""
    try:
        volume.download(stream, offset, length)
        while len(found) < length:
            piece = stream.recv(length - len(found))
            if not piece:
                break
            found += piece
        stream.finish()
    except libvirt.libvirtError as fault:
        # A driver without streams, as libvirt's for tests, has no QEMU that would read the image.
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return b""
    return found
