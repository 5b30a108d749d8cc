# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage volumes of disks: found, made, grown, and checked for what stands behind them.

The functions that take a connection run in Libvirt.call().
"""

from __future__ import annotations

import os.path
import time
import typing as t

from lxml import etree

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import domain_xml, host_access
from .domain_xml import Element, attribute_of, text_of
from .libvirt_facade import libvirt
from .storage import Found, origin

# Pools whose volumes are files in one folder (https://libvirt.org/storage.html).
_FOLDERS = frozenset(("dir", "fs", "netfs"))
# Formats of volumes that QEMU's block layer knows under another name.
_RAW = frozenset(("iso", "unknown", "dir", ""))
_DEEPEST_CHAIN = 32
# Of a qcow2 image: how it begins, the bytes that are read of it, and the bit of one that has its data elsewhere.
_QCOW2 = b"QFI\xfb"
_HEADER = 80
_DATA_FILE = 1 << 2
# Seconds to wait for a pool in which a volume is being made, and between two looks; libvirt has no event for it.
_BUSY = 20.0
_PAUSE = 0.05


def look_up(
    connection: libvirt.virConnect, references: t.Iterable[tuple[str, str]], paths: t.Iterable[str]
) -> tuple[dict[tuple[str, str], Found], dict[str, str]]:
    """(volumes by pool and name, formats by path); a path that no pool holds is left out.

    Raises ArchipelError with all pools that are not there, or not active.
    """
    formats = {}
    for path in paths:
        volume = _by_path(connection, path)
        if volume is not None:
            formats[path] = _format(_describe(volume))
    found, problems = {}, []
    for reference in references:
        try:
            found[reference] = _find(connection, *reference)
        except ArchipelError as exc:
            problems.append(exc.message)
    if problems:
        raise ArchipelError("; ".join(dict.fromkeys(problems)), CODE_DECLARATION)
    return found, formats


def make(connection: libvirt.virConnect, volume: Volume) -> None:
    """Create a volume; one that exists is left as it is."""
    if _find(connection, volume["pool"], volume["name"]).exists:
        return
    source = _find(connection, volume["pool"], origin(volume)) if origin(volume) else None
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = volume["name"]
    capacity = volume["capacity"] or (source.capacity if source else 0)
    etree.SubElement(root, "capacity", {"unit": "bytes"}).text = str(capacity)
    etree.SubElement(root, "allocation", {"unit": "bytes"}).text = "0"
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", {"type": volume["format"]})
    owner = _qemu_user(connection)
    if owner:
        permissions = etree.SubElement(target, "permissions")
        for name, value in (("mode", "0600"), ("owner", owner[0]), ("group", owner[1])):
            etree.SubElement(permissions, name).text = value
    pool = connection.storagePoolLookupByName(volume["pool"])
    if "clone" in volume:
        made = pool.createXMLFrom(domain_xml.serialise(root), pool.storageVolLookupByName(volume["clone"]))
        if made.info()[1] < capacity:
            made.resize(capacity)
        return
    if source is not None:
        backing = etree.SubElement(root, "backingStore")
        etree.SubElement(backing, "path").text = source.path
        etree.SubElement(backing, "format", {"type": source.format})
    pool.createXML(domain_xml.serialise(root))


class Place(t.NamedTuple):
    """Where a file is: the folder of its pool, and the volume."""

    folder: str
    volume: Volume


def place(connection: libvirt.virConnect, path: str) -> Place | None:
    """The place of a file; None where no active pool has it."""
    volume = _by_path(connection, path)
    if volume is None:
        return None
    pool, description = volume.storagePoolLookupByVolume(), _describe(volume)
    folder = text_of(domain_xml.parse(pool.XMLDesc(), "the storage pool"), "target/path")
    capacity = int(text_of(description, "capacity", "0"))
    return Place(folder, Volume(pool=pool.name(), name=volume.name(), capacity=capacity, format=_format(description)))


def remove(connection: libvirt.virConnect, pool_name: str, name: str) -> None:
    """Delete a volume; none there is no error. libvirt refuses while it is being written."""
    volume = _in_pool(connection.storagePoolLookupByName(pool_name), name)
    if volume is not None:
        volume.delete()


def grow(connection: libvirt.virConnect, uuid: str, path: str, volume: Volume) -> None:
    """Grow a volume, through the guest that has it open where one does."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        if domain.isActive():
            live = domain_xml.parse_domain(domain.XMLDesc())
            if any(attribute_of(disk, "source", "file") == path for disk in live.findall("devices/disk")):
                domain.blockResize(path, volume["capacity"], libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
                return
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    place = connection.storagePoolLookupByName(volume["pool"]).storageVolLookupByName(volume["name"])
    if place.info()[1] < volume["capacity"]:
        place.resize(volume["capacity"])


def removable(connection: libvirt.virConnect, uuid: str, owned: t.Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of the volumes ``owned`` by the machine ``uuid`` that exist and that nothing else here uses."""
    if not owned:
        return []
    used = set()
    for domain in connection.listAllDomains():
        if domain.UUIDString() != uuid:
            for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
                tree = domain_xml.parse_domain(domain.XMLDesc(flags))
                used |= {source.get("file") or source.get("dev") for source in tree.iterfind("devices/disk//source")}
    found = []
    for pool_name, name in owned:
        try:
            place = _find(connection, pool_name, name)
        except ArchipelError:
            continue  # a pool that is gone has nothing to remove
        pool = connection.storagePoolLookupByName(pool_name)
        backing = {text_of(_describe(volume), "backingStore/path") for volume in pool.listAllVolumes()}
        if place.exists and place.path not in used | backing:
            found.append((pool_name, name))
    return found


def delete(connection: libvirt.virConnect, pool_name: str, name: str) -> None:
    """Delete a volume; nothing happens where there is none."""
    volume = _in_pool(connection.storagePoolLookupByName(pool_name), name)
    if volume is not None:
        volume.delete()


def outside(connection: libvirt.virConnect, xml: str, allowed_root: str, to_make: t.Container[str] = ()) -> list[str]:
    """Reasons why disks of a definition need ``host_access`` by what their files refer to.

    QEMU opens the backing file that an image names, and who can write an image can name any file there. Files
    ``to_make`` do not exist yet and refer to nothing.
    """
    reasons: list[str] = []
    refreshed: set[str] = set()
    for disk in domain_xml.parse_domain(xml).findall("devices/disk"):
        label = f"disk[{attribute_of(disk, 'target', 'dev')}]"
        # Where a definition states the backing files, QEMU opens these instead of those that the images name.
        for place in (disk, *disk.iter("backingStore")):
            path = attribute_of(place, "source", "file")
            if path and host_access.format_of(place) != "raw" and path not in to_make:
                reasons += [f"{label}: {reason}" for reason in _chain(connection, path, allowed_root, refreshed)]
    return reasons


def chains_outside(connection: libvirt.virConnect, paths: t.Iterable[str], allowed_root: str) -> list[str]:
    """Reasons why files need ``host_access`` by what they refer to."""
    refreshed: set[str] = set()
    return [f"{path}: {reason}" for path in paths for reason in _chain(connection, path, allowed_root, refreshed)]


def _chain(connection: libvirt.virConnect, path: str, allowed_root: str, refreshed: set[str]) -> t.Iterator[str]:
    for dummy in range(_DEEPEST_CHAIN):
        volume = _fresh(connection, path, refreshed)
        if volume is None:
            yield f"{path} is in no active pool, so nothing is known of its backing files"
            return
        description = _describe(volume)
        form, backing = _format(description), text_of(description, "backingStore/path")
        if form == "raw":
            return
        if form != "qcow2":
            yield f"{path} has the format {form}, which can refer to other files"
            return
        if _has_data_file(connection, volume):
            yield f"{path} keeps its data in another file"
            return
        if not backing:
            return
        form = _format(description, "backingStore/format")
        if form not in ("raw", "qcow2"):
            yield f"its backing file {backing} is taken for {form}, which can refer to other files"
            return
        if not os.path.realpath(backing).startswith(allowed_root + "/"):
            yield f"its backing file {backing} is outside of the allowed folders"
            return
        path = backing
    yield f"its chain of backing files is longer than {_DEEPEST_CHAIN}"


def _has_data_file(connection: libvirt.virConnect, volume: libvirt.virStorageVol) -> bool:
    """Whether a qcow2 image names a file with its data, which libvirt does not tell before 10.10.

    https://www.qemu.org/docs/master/interop/qcow2.html#header: the version in bytes 4 to 7, and from version 3 on
    incompatible features in bytes 72 to 79.
    """
    stream, header = connection.newStream(), b""
    try:
        volume.download(stream, 0, _HEADER)
        while len(header) < _HEADER:
            piece = stream.recv(_HEADER - len(header))
            if not piece:
                break
            header += piece
        stream.finish()
    except libvirt.libvirtError as fault:
        # A driver without streams, as libvirt's for tests, has no QEMU that would read the image.
        if fault.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
            raise
        return False
    if not header.startswith(_QCOW2) or int.from_bytes(header[4:8], "big") < 3:
        return False
    return bool(int.from_bytes(header[72:80], "big") & _DATA_FILE)


def _fresh(connection: libvirt.virConnect, path: str, refreshed: set[str]) -> libvirt.virStorageVol | None:
    """The volume as it is: a pool knows what a file refers to only since it last looked, and guests write into it."""
    volume = _by_path(connection, path)
    if volume is None:
        return None
    pool = volume.storagePoolLookupByVolume()
    if pool.name() not in refreshed:
        _refresh(pool)
        refreshed.add(pool.name())
        volume = _by_path(connection, path)
    return volume


def _find(connection: libvirt.virConnect, pool_name: str, name: str) -> Found:
    try:
        pool = connection.storagePoolLookupByName(pool_name)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        known = ", ".join(sorted(pool.name() for pool in connection.listAllStoragePools()))
        message = f"there is no storage pool '{pool_name}' here; there are: {known}"
        raise ArchipelError(message, CODE_DECLARATION) from None
    if not pool.isActive():
        raise ArchipelError(f"the storage pool '{pool_name}' is not active", CODE_DECLARATION)
    description = domain_xml.parse(pool.XMLDesc(), "the storage pool")
    volume = _in_pool(pool, name)
    folder = text_of(description, "target/path") if description.get("type") in _FOLDERS else ""
    if volume is None:
        return Found(os.path.join(folder, name) if folder else "", "", False)
    described = _describe(volume)
    path = volume.path() if folder else ""
    return Found(path, _format(described), True, int(text_of(described, "capacity", "0")))


def _in_pool(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol | None:
    """The volume; a pool on shared storage learns by a refresh only what another host made or removed."""
    for refresh in (True, False):
        try:
            volume = pool.storageVolLookupByName(name)
            volume.info()  # or one whose file is gone would be found
            return volume
        except libvirt.libvirtError as fault:
            if fault.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
                raise
        if refresh:
            _refresh(pool)
    return None


def _refresh(pool: libvirt.virStoragePool) -> None:
    """Have the pool look at its folder; libvirt refuses while somebody makes a volume in it."""
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            pool.refresh()
            return
        except libvirt.libvirtError as fault:
            # The error has no number of its own.
            busy = "asynchronous jobs" in (fault.get_error_message() or "")
            if not busy:
                raise
            if time.monotonic() > deadline:
                message = f"in the storage pool '{pool.name()}' somebody has been writing for {_BUSY:g} s; try again"
                raise ArchipelError(message, CODE_DECLARATION) from None
        time.sleep(_PAUSE)


def _by_path(connection: libvirt.virConnect, path: str) -> libvirt.virStorageVol | None:
    """The volume; a pool learns of a file that was put into its folder by a refresh only."""
    try:
        return connection.storageVolLookupByPath(path)
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_VOL:
            raise
    try:
        pool = connection.storagePoolLookupByTargetPath(os.path.dirname(path))
        return _in_pool(pool, os.path.basename(path)) if pool.isActive() else None
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        return None


def _describe(volume: libvirt.virStorageVol) -> Element:
    return domain_xml.parse(volume.XMLDesc(), "the volume")


def _format(description: Element, place: str = "target/format") -> str:
    form = attribute_of(description, place, "type")
    return "raw" if form in _RAW else form


def _qemu_user(connection: libvirt.virConnect) -> tuple[str, str] | None:
    """(uid, gid) that QEMU runs as, from the baselabel of the DAC driver (formatcaps.html); None for other drivers."""
    capabilities = domain_xml.parse(connection.getCapabilities(), "the capabilities")
    for model in capabilities.findall("host/secmodel"):
        label = text_of(model, "baselabel")
        if text_of(model, "model") == "dac" and label.startswith("+") and ":+" in label:
            uid, gid = label[1:].split(":+")
            return uid, gid
    return None
