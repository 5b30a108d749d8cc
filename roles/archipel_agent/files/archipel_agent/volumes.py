# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage volumes of disks: found, made, grown, removed.

The functions that take a connection run in Libvirt.call().
"""

from __future__ import annotations

import contextlib
import os.path
import time
import typing as t

from lxml import etree

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import domain_xml
from .domain_xml import Element, attribute_of, text_of
from .libvirt_facade import has_gone, ignoring_what_went, libvirt
from .storage import Found, origin, place_of

# Pools whose volumes are files in one folder (https://libvirt.org/storage.html).
_FOLDERS = frozenset(("dir", "fs", "netfs"))
# Pools that take room for all of a volume when it is made.
_THICK = frozenset(("logical", "disk", "zfs"))
# Formats of volumes that QEMU's block layer knows under another name.
_RAW = frozenset(("iso", "unknown", "dir", ""))
# Seconds to wait for a pool in which a volume is being made, and between two looks; libvirt has no event for it.
_BUSY = 20.0
_PAUSE = 0.05
# A volume of this name lies beside one that is being copied, so that whoever comes upon half a copy takes it for none:
# libvirt has no way to rename a volume when it is whole, and others who share the storage know only what lies there.
MARK = ".copying"
# Seconds between two looks at a copy that libvirt goes on with for a run that broke off.
_COPIES = 1.0


def look_up(
    connection: libvirt.virConnect, references: t.Iterable[tuple[str, str]], paths: t.Iterable[str]
) -> tuple[dict[tuple[str, str], Found], dict[str, str]]:
    """(volumes by pool and name, formats by path); a path that no pool holds is left out.

    Raises ArchipelError with all pools that are not there, or not active.
    """
    formats = {}
    for path in paths:
        volume = by_path(connection, path)
        if volume is not None:
            formats[path] = format_of(describe(volume))
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
    """Create a volume; one that exists is left as it is, and half a copy made anew."""
    place = _find(connection, volume["pool"], volume["name"])
    if place.exists:
        return
    source = _find(connection, volume["pool"], origin(volume)) if origin(volume) else None
    pool = connection.storagePoolLookupByName(volume["pool"])
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = volume["name"]
    capacity = volume["capacity"] or (source.capacity if source else 0)
    etree.SubElement(root, "capacity", {"unit": "bytes"}).text = str(capacity)
    if _type_of(pool) not in _THICK:
        etree.SubElement(root, "allocation", {"unit": "bytes"}).text = "0"
    target = etree.SubElement(root, "target")
    etree.SubElement(target, "format", {"type": volume["format"]})
    owner = _qemu_user(connection)
    if owner:
        permissions = etree.SubElement(target, "permissions")
        for name, value in (("mode", "0600"), ("owner", owner[0]), ("group", owner[1])):
            etree.SubElement(permissions, name).text = value
    if place.half:
        _remove_half(pool, volume["name"])
    if "clone" in volume:
        _copy(pool, root, volume, capacity)
        return
    mark = _in_pool(pool, volume["name"] + MARK, look=False)
    if mark is not None:
        mark.delete()
    if source is not None:
        backing = etree.SubElement(root, "backingStore")
        etree.SubElement(backing, "path").text = source.path
        etree.SubElement(backing, "format", {"type": source.format})
    pool.createXML(domain_xml.serialise(root))


def _copy(pool: libvirt.virStoragePool, root: Element, volume: Volume, capacity: int) -> None:
    mark = _in_pool(pool, volume["name"] + MARK, look=False) or _mark(pool, volume["name"])
    try:
        made = pool.createXMLFrom(domain_xml.serialise(root), pool.storageVolLookupByName(volume["clone"]))
        try:
            if made.info()[1] < capacity:
                made.resize(capacity)
        except libvirt.libvirtError:
            made.delete()
            raise
    except libvirt.libvirtError:
        # libvirt has removed what it could not copy. Where it is gone itself, the mark stays too.
        with contextlib.suppress(libvirt.libvirtError):
            mark.delete()
        raise
    mark.delete()


def _mark(pool: libvirt.virStoragePool, name: str) -> libvirt.virStorageVol:
    root = etree.Element("volume")
    etree.SubElement(root, "name").text = name + MARK
    etree.SubElement(root, "capacity", {"unit": "bytes"}).text = "1"
    return pool.createXML(domain_xml.serialise(root))


def _remove_half(pool: libvirt.virStoragePool, name: str) -> None:
    """Remove half a copy, but not its mark; libvirt refuses while it goes on with it, as when only the agent died."""
    while True:
        volume = _in_pool(pool, name)
        if volume is None:
            return
        try:
            volume.delete()
            return
        except libvirt.libvirtError as fault:
            # The error has no number of its own.
            if "still being allocated" not in (fault.get_error_message() or ""):
                raise
        time.sleep(_COPIES)


class Place(t.NamedTuple):
    """Where a file is: the folder of its pool, and the volume."""

    folder: str
    volume: Volume


def place(connection: libvirt.virConnect, path: str) -> Place | None:
    """The place of a file; None where no active pool has it."""
    volume = by_path(connection, path)
    if volume is None:
        return None
    pool, description = volume.storagePoolLookupByVolume(), describe(volume)
    folder = text_of(domain_xml.parse(pool.XMLDesc(), "the storage pool"), "target/path")
    capacity = int(text_of(description, "capacity", "0"))
    return Place(folder, Volume(pool=pool.name(), name=volume.name(), capacity=capacity, format=format_of(description)))


def remove(connection: libvirt.virConnect, pool_name: str, name: str) -> None:
    """Delete a volume, and the mark of a copy; none there is no error. libvirt refuses while it is being written."""
    pool = connection.storagePoolLookupByName(pool_name)
    for one in (name, name + MARK):
        volume = _in_pool(pool, one, look=one == name)
        if volume is not None:
            volume.delete()


def grow(connection: libvirt.virConnect, uuid: str, path: str, volume: Volume) -> None:
    """Grow a volume, through the guest that has it open where one does."""
    try:
        domain = connection.lookupByUUIDString(uuid)
        if domain.isActive():
            live = domain_xml.parse_domain(domain.XMLDesc())
            for disk in live.findall("devices/disk"):
                if place_of(disk) in (path, f"{volume['pool']}/{volume['name']}"):
                    target = attribute_of(disk, "target", "dev")
                    domain.blockResize(target, volume["capacity"], libvirt.VIR_DOMAIN_BLOCK_RESIZE_BYTES)
                    return
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
            raise
    place = connection.storagePoolLookupByName(volume["pool"]).storageVolLookupByName(volume["name"])
    if place.info()[1] < volume["capacity"]:
        place.resize(volume["capacity"])


def removable(
    connection: libvirt.virConnect, uuid: str, owned: t.Iterable[tuple[str, str]]
) -> dict[tuple[str, str], str]:
    """The paths of the volumes ``owned`` by the machine ``uuid`` that exist and that nothing else here uses."""
    found = {}
    for pool_name, name in owned:
        try:
            place = _find(connection, pool_name, name)
        except ArchipelError:
            continue  # a pool that is gone has nothing to remove
        if place.exists or place.half:
            found[(pool_name, name)] = place.path
    taken = used(connection, uuid, found.values())
    return {volume: path for volume, path in found.items() if path not in taken}


def used(connection: libvirt.virConnect, uuid: str, paths: t.Iterable[str]) -> set[str]:
    """Those of ``paths`` that another machine than ``uuid`` uses here, or a volume of any pool lies over."""
    taken = _of_machines(connection, uuid)
    for path in filter(os.path.isabs, taken):
        # A pool tells what lies behind a file only once it knows the file.
        by_path(connection, path)
    taken |= _backing(connection)
    taken |= {os.path.realpath(path) for path in taken}
    return {path for path in paths if not taken.isdisjoint((path, os.path.realpath(path)))}


def _of_machines(connection: libvirt.virConnect, uuid: str) -> set[str]:
    """What the disks of all machines but one are on: paths, and names of what is on a network."""
    found = set()
    for domain in connection.listAllDomains():
        if domain.UUIDString() == uuid:
            continue
        with ignoring_what_went():
            # What runs may be on others than its definition says.
            for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE) if domain.ID() >= 0 else (0,):
                tree = domain_xml.parse_domain(domain.XMLDesc(flags))
                for source in tree.iterfind("devices/disk//source"):
                    found.update(source.get(key) for key in ("file", "dev", "name"))
                    if source.get("volume"):
                        found.add(_path_of(connection, source.get("pool", ""), source.get("volume", "")))
    return found - {None, ""}


def _path_of(connection: libvirt.virConnect, pool_name: str, name: str) -> str:
    """Where a volume is, or would be: its pool may not be active. Empty where there is no such pool."""
    try:
        pool = connection.storagePoolLookupByName(pool_name)
        volume = _in_pool(pool, name) if pool.isActive() else None
    except libvirt.libvirtError as fault:
        if fault.get_error_code() != libvirt.VIR_ERR_NO_STORAGE_POOL:
            raise
        return ""
    if volume is not None:
        return str(volume.path())
    return os.path.join(text_of(domain_xml.parse(pool.XMLDesc(), "the storage pool"), "target/path"), name)


def _backing(connection: libvirt.virConnect) -> set[str]:
    """The paths that the volumes of all pools are based on."""
    found = set()
    for pool in connection.listAllStoragePools(libvirt.VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE):
        with ignoring_what_went():
            for volume in pool.listAllVolumes():
                with ignoring_what_went():
                    found.add(text_of(describe(volume), "backingStore/path"))
    return found - {""}


def fresh(connection: libvirt.virConnect, path: str, refreshed: set[str]) -> libvirt.virStorageVol | None:
    """The volume as it is: a pool knows what a file refers to only since it last looked, and guests write into it."""
    volume = by_path(connection, path)
    if volume is None:
        return None
    pool = volume.storagePoolLookupByVolume()
    if pool.name() not in refreshed:
        _refresh(pool)
        refreshed.add(pool.name())
        volume = by_path(connection, path)
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
    folder, volume = _folder(pool), _in_pool(pool, name)
    if volume is None or _is_half(pool, folder, name):
        return Found(
            os.path.join(folder or pool_name, name),
            "",
            False,
            room=pool.info()[3],
            half=volume is not None,
            is_file=bool(folder),
            thick=_type_of(pool) in _THICK,
        )
    described = describe(volume)
    capacity, allocation = (int(text_of(described, size, "0")) for size in ("capacity", "allocation"))
    return Found(volume.path(), format_of(described), True, capacity, allocation, is_file=bool(folder))


def _folder(pool: libvirt.virStoragePool) -> str:
    """The folder of a pool of files; empty for other pools."""
    description = domain_xml.parse(pool.XMLDesc(), "the storage pool")
    return text_of(description, "target/path") if description.get("type") in _FOLDERS else ""


def _type_of(pool: libvirt.virStoragePool) -> str:
    return str(domain_xml.parse(pool.XMLDesc(), "the storage pool").get("type"))


def _is_half(pool: libvirt.virStoragePool, folder: str, name: str) -> bool:
    """Whether a volume is a copy that is not at its end, or never will be."""
    there = _has_file(folder, name + MARK)
    return there is not False and _in_pool(pool, name + MARK, look=there is True) is not None


def _in_pool(pool: libvirt.virStoragePool, name: str, look: bool = True) -> libvirt.virStorageVol | None:
    """The volume; a pool on shared storage learns by a refresh only what another host made or removed."""
    for refresh in (look, False):
        try:
            volume = pool.storageVolLookupByName(name)
            volume.info()  # or one whose file is gone would be found
            return volume
        except libvirt.libvirtError as fault:
            if not has_gone(fault):
                raise
        if refresh and not _refresh(pool, name):
            return None
    return None


def _refresh(pool: libvirt.virStoragePool, name: str = "") -> bool:
    """Have the pool look at its folder; libvirt refuses while somebody makes a volume in it, be it for hours.

    False where it need not look, because there is no file ``name``: many disks may be copied at the same time.
    """
    deadline = time.monotonic() + _BUSY
    while True:
        try:
            pool.refresh()
            return True
        except libvirt.libvirtError as fault:
            # The error has no number of its own.
            busy = "asynchronous jobs" in (fault.get_error_message() or "")
            if not busy:
                raise
            if name and _has_file(_folder(pool), name) is False:
                return False
            if time.monotonic() > deadline:
                message = f"in the storage pool '{pool.name()}' somebody has been writing for {_BUSY:g} s; try again"
                raise ArchipelError(message, CODE_DECLARATION) from None
        time.sleep(_PAUSE)


def _has_file(folder: str, name: str) -> bool | None:
    """Whether the folder of a pool has such a file, over which libvirt makes no volume; None: who cannot look."""
    if not os.path.isdir(folder):
        return None
    try:
        os.lstat(os.path.join(folder, name))
    except FileNotFoundError:
        return False
    except OSError:
        return None  # who may not look does not know
    return True


def by_path(connection: libvirt.virConnect, path: str) -> libvirt.virStorageVol | None:
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


def describe(volume: libvirt.virStorageVol) -> Element:
    return domain_xml.parse(volume.XMLDesc(), "the volume")


def format_of(description: Element, place: str = "target/format") -> str:
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
