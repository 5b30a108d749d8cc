# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage volumes of disks: found, made, and checked for what stands behind them.

The functions that take a connection run in Libvirt.call().
"""

from __future__ import annotations

import dataclasses
import os.path
import time
import typing as t

from lxml import etree

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import domain_xml
from .domain_xml import Element, attribute_of, text_of
from .libvirt_facade import libvirt

# Pools whose volumes are files in one folder (https://libvirt.org/storage.html).
_FOLDERS = frozenset(("dir", "fs", "netfs"))
# Formats of volumes that QEMU's block layer knows under another name.
_RAW = frozenset(("iso", "unknown", "dir", ""))
_DEEPEST_CHAIN = 32
# Seconds to wait for a pool in which a volume is being made, and between two looks; libvirt has no event for it.
_BUSY = 20.0
_PAUSE = 0.05


@dataclasses.dataclass(frozen=True)
class Found:
    """A volume, or the place of one that is to be made. ``path`` is empty in pools that are no folder."""

    path: str
    format: str
    exists: bool


def needed(wanted: Element, existing: Element | None) -> tuple[list[tuple[str, str]], list[str]]:
    """((pool, volume) of disks, paths of disks whose format nobody states) that have to be looked up."""
    known = _formats(existing)
    references, paths = [], []
    for disk in wanted.findall("devices/disk"):
        if disk.get("type") == "volume":
            references.append((attribute_of(disk, "source", "pool"), attribute_of(disk, "source", "volume")))
        elif attribute_of(disk, "source", "file") and not attribute_of(disk, "driver", "type"):
            if disk.get("device", "disk") == "disk" and attribute_of(disk, "source", "file") not in known:
                paths.append(attribute_of(disk, "source", "file"))
    return references, paths


def look_up(
    connection: libvirt.virConnect, references: t.Iterable[tuple[str, str]], paths: t.Iterable[str]
) -> tuple[dict[tuple[str, str], Found], dict[str, str]]:
    """(volumes by pool and name, formats by path); a path that no pool holds is left out.

    Raises ArchipelError where there is no such pool, or it is not active.
    """
    formats = {}
    for path in paths:
        volume = _by_path(connection, path)
        if volume is not None:
            formats[path] = _format(_describe(volume))
    return {reference: _find(connection, *reference) for reference in references}, formats


def resolve(
    wanted: Element,
    existing: Element | None,
    found: t.Mapping[tuple[str, str], Found],
    formats: t.Mapping[str, str],
    to_make: t.Iterable[Volume],
) -> None:
    """Have the disks of ``wanted`` name files instead of volumes, in place; a migration's target knows only files.

    A disk that stays on its file keeps its format: a guest can write into its disk what looks like another one.
    """
    known = _formats(existing)
    made = {(volume["pool"], volume["name"]): volume["format"] for volume in to_make}
    for disk in wanted.findall("devices/disk"):
        form = formats.get(attribute_of(disk, "source", "file"), "")
        if disk.get("type") == "volume":
            reference = (attribute_of(disk, "source", "pool"), attribute_of(disk, "source", "volume"))
            volume = found[reference]
            if not volume.exists and reference not in made:
                raise ArchipelError(f"the volume {'/'.join(reference)} does not exist", CODE_DECLARATION)
            form = volume.format if volume.exists else made[reference]
            if volume.path:
                _point_at(disk, volume.path)
        path = attribute_of(disk, "source", "file")
        if path in known:
            driver = _driver(disk)
            driver.set("type", driver.get("type", known[path]))
        elif form:
            _check_format(disk, form)


def missing(to_make: t.Iterable[Volume], found: t.Mapping[tuple[str, str], Found]) -> dict[str, Volume]:
    """The volumes that do not exist yet, by path."""
    places = [(found[(volume["pool"], volume["name"])], volume) for volume in to_make]
    return {place.path or f"{volume['pool']}/{volume['name']}": volume for place, volume in places if not place.exists}


def make(connection: libvirt.virConnect, volume: Volume) -> None:
    """Create a volume; one that exists is left as it is."""
    if not _find(connection, volume["pool"], volume["name"]).exists:
        connection.storagePoolLookupByName(volume["pool"]).createXML(_new(connection, volume))


def _new(connection: libvirt.virConnect, volume: Volume) -> str:
    """The description of a volume to be made, for QEMU's user alone."""
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = volume["name"]
    etree.SubElement(root, "capacity", {"unit": "bytes"}).text = str(volume["capacity"])
    etree.SubElement(root, "allocation", {"unit": "bytes"}).text = "0"
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", {"type": volume["format"]})
    owner = _qemu_user(connection)
    if owner:
        permissions = etree.SubElement(target, "permissions")
        for name, value in (("mode", "0600"), ("owner", owner[0]), ("group", owner[1])):
            etree.SubElement(permissions, name).text = value
    return domain_xml.serialise(root)


def place(connection: libvirt.virConnect, path: str) -> tuple[str, Volume] | None:
    """(folder, volume) of a file; None where no active pool has it."""
    volume = _by_path(connection, path)
    if volume is None:
        return None
    pool, description = volume.storagePoolLookupByVolume(), _describe(volume)
    folder = text_of(domain_xml.parse(pool.XMLDesc(), "the storage pool"), "target/path")
    capacity = int(text_of(description, "capacity", "0"))
    return folder, Volume(pool=pool.name(), name=volume.name(), capacity=capacity, format=_format(description))


def copy(connection: libvirt.virConnect, path: str, volume: Volume) -> None:
    """Make ``volume`` with the content of the file ``path``, without what that has as its backing files."""
    source = _by_path(connection, path)
    if source is None:
        raise ArchipelError(f"{path} is in no active storage pool any more", CODE_DECLARATION)
    pool = connection.storagePoolLookupByName(volume["pool"])
    pool.createXMLFrom(_new(connection, volume), source)


def remove(connection: libvirt.virConnect, pool_name: str, name: str) -> None:
    """Delete a volume; none there is no error. libvirt refuses while it is being written."""
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
        path, form = attribute_of(disk, "source", "file"), attribute_of(disk, "driver", "type", "raw")
        label = f"disk[{attribute_of(disk, 'target', 'dev')}]"
        if path and form != "raw" and path not in to_make:
            reasons += [f"{label}: {reason}" for reason in _chain(connection, path, allowed_root, refreshed)]
    return reasons


def _chain(connection: libvirt.virConnect, path: str, allowed_root: str, refreshed: set[str]) -> t.Iterator[str]:
    for dummy in range(_DEEPEST_CHAIN):
        volume = _fresh(connection, path, refreshed)
        if volume is None:
            yield f"{path} is in no active pool, so nothing is known of its backing files"
            return
        description = _describe(volume)
        backing = text_of(description, "backingStore/path")
        if not backing or _format(description) == "raw":
            return
        if not os.path.realpath(backing).startswith(allowed_root + "/"):
            yield f"its backing file {backing} is outside of the allowed folders"
            return
        path = backing
    yield f"its chain of backing files is longer than {_DEEPEST_CHAIN}"


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


def _formats(existing: Element | None) -> dict[str, str]:
    """The formats of the disks that a machine has, by path."""
    disks = [] if existing is None else existing.findall("devices/disk")
    return {attribute_of(disk, "source", "file"): attribute_of(disk, "driver", "type", "raw") for disk in disks}


def _point_at(disk: Element, path: str) -> None:
    source = disk.find("source")
    for name in ("pool", "volume", "mode"):
        source.attrib.pop(name, None)
    source.set("file", path)
    disk.set("type", "file")


def _driver(disk: Element) -> Element:
    driver = disk.find("driver")
    if driver is None:
        driver = disk.makeelement("driver", {"name": "qemu"})
        disk.insert(0, driver)
    return driver


def _check_format(disk: Element, form: str) -> None:
    driver = _driver(disk)
    stated = driver.get("type", form)
    if stated != form:
        target, path = attribute_of(disk, "target", "dev"), attribute_of(disk, "source", "file")
        raise ArchipelError(f"the disk {target} is stated as {stated}, but {path} is {form}", CODE_DECLARATION)
    driver.set("type", form)


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
    return Found(volume.path() if folder else "", _format(_describe(volume)), True)


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


def _format(description: Element) -> str:
    form = attribute_of(description, "target/format", "type")
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
