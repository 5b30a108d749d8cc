# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which storage volumes a declaration means, and what it takes to have them. Pure; no libvirt."""

from __future__ import annotations

import dataclasses
import typing as t

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import describe
from .cloud_init import Seed
from .domain_xml import Element, attribute_of

# QEMU rounds the size of an image up to it.
_SECTOR = 512


@dataclasses.dataclass(frozen=True)
class Found:
    """A volume, or the place of one that is to be made.

    ``path`` is that of a file or device, and POOL/VOLUME of what will be no file: libvirt does not foretell devices.
    ``capacity``, ``allocation`` and ``room``, which the pool has left for one that is to be made, in bytes.
    ``half``: what is there is a copy that is not at its end, which counts for nothing.
    ``thick``: the pool takes room for all of a volume when it is made.
    """

    path: str
    format: str
    exists: bool
    capacity: int = 0
    allocation: int = 0
    room: int = 0
    half: bool = False
    is_file: bool = True
    thick: bool = False


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
    made = {(volume["pool"], volume["name"]): volume for volume in to_make}
    problems: list[str] = []
    for disk in wanted.findall("devices/disk"):
        form = formats.get(attribute_of(disk, "source", "file"), "")
        if disk.get("type") == "volume":
            reference = (attribute_of(disk, "source", "pool"), attribute_of(disk, "source", "volume"))
            volume = found[reference]
            if not volume.exists and reference not in made:
                problems.append(f"the volume {'/'.join(reference)} does not exist")
                continue
            form = volume.format if volume.exists else _format(made[reference], volume)
            form = known.get(place_of(disk), form)
            if volume.is_file:
                _point_at(disk, volume.path)
        form = known.get(place_of(disk), form)
        if form:
            _check_format(disk, form)
    if problems:
        raise ArchipelError("; ".join(problems), CODE_DECLARATION)


class Growth(t.NamedTuple):
    """A volume that is smaller than declared; ``capacity`` is what it has."""

    volume: Volume
    capacity: int


@dataclasses.dataclass(frozen=True)
class Changes:
    """What is to be done to volumes, by path, and the paths that those to be made are made from.

    ``seed`` is the declared one of cloud-init; ``gone`` are (pool, name) of seeds that nobody wants any more.
    """

    make: t.Mapping[str, Volume] = dataclasses.field(default_factory=dict)
    grow: t.Mapping[str, Growth] = dataclasses.field(default_factory=dict)
    origins: t.Sequence[str] = ()
    seed: Seed | None = None
    gone: t.Sequence[tuple[str, str]] = ()

    @property
    def owned(self) -> list[Volume]:
        """What goes with the machine when it goes: what is made for it, and its seed, which only it has a use for."""
        return [*self.make.values(), *([self.seed.volume] if self.seed else [])]


def changes(stated: t.Sequence[Volume], found: t.Mapping[tuple[str, str], Found]) -> Changes:
    """What it takes to have the volumes ``stated``; raises ArchipelError for what cannot be."""
    make = _missing(stated, found)
    changed = Changes(make, _growing(stated, found), _origins(make.values(), found))
    _refuse_too_much(make.values(), found)
    return changed


def _missing(to_make: t.Iterable[Volume], found: t.Mapping[tuple[str, str], Found]) -> dict[str, Volume]:
    """The volumes that do not exist yet, by path; raises ArchipelError for an overlay where there are no files."""
    missing = {}
    for volume in to_make:
        place = found[(volume["pool"], volume["name"])]
        if place.exists:
            continue
        if volume.get("backing") and not place.is_file:
            raise ArchipelError(
                f"backing: {volume['backing']}: the pool '{volume['pool']}' is no folder, and only a qcow2 file lies "
                "over another volume; state clone for a copy",
                CODE_DECLARATION,
            )
        missing[place.path] = t.cast(Volume, {**volume, "format": _format(volume, place)})
    return missing


def _format(volume: Volume, place: Found) -> str:
    """That of a volume that is to be made. One that is no file has none, whatever a file would have had."""
    return volume["format"] if place.is_file else "raw"


def _refuse_too_much(to_make: t.Iterable[Volume], found: t.Mapping[tuple[str, str], Found]) -> None:
    """Raises ArchipelError where a pool lacks the room for what is taken at once; most volumes take it as they fill."""
    taken: dict[str, list[tuple[str, int]]] = {}
    for volume in to_make:
        place, source = found[(volume["pool"], volume["name"])], found.get((volume["pool"], origin(volume)))
        if place.thick:
            size = max(volume["capacity"], source.capacity if source else 0)
        else:
            size = source.allocation if source and "clone" in volume else 0
        if size:
            taken.setdefault(volume["pool"], []).append((volume["name"], size))
    for pool, sizes in taken.items():
        needs, room = sum(size for dummy, size in sizes), found[(pool, sizes[0][0])].room
        if needs > room:
            raise ArchipelError(
                f"the storage pool '{pool}' has {describe.size(room >> 10)} left, and {describe.size(needs >> 10)} are "
                f"written at once for {', '.join(name for name, dummy in sizes)}; make room, or state another pool, or "
                "backing instead of clone",
                CODE_DECLARATION,
            )


def _growing(stated: t.Iterable[Volume], found: t.Mapping[tuple[str, str], Found]) -> dict[str, Growth]:
    """The volumes that exist and are smaller than stated, by path; raises ArchipelError for one that is larger."""
    grow = {}
    for volume in stated:
        place = found[(volume["pool"], volume["name"])]
        wanted = -(-volume["capacity"] // _SECTOR) * _SECTOR
        if not place.exists or not wanted or place.capacity == wanted:
            continue
        if place.capacity > wanted:
            raise ArchipelError(
                f"the volume {volume['pool']}/{volume['name']} has {place.capacity} bytes, more than the {wanted} that "
                "are declared; a volume is not shrunk",
                CODE_DECLARATION,
            )
        grow[place.path] = Growth(volume, place.capacity)
    return grow


def origin(volume: Volume) -> str:
    """The volume of the same pool that ``volume`` is made from; empty where it is made from none."""
    return volume.get("clone") or volume.get("backing") or ""


def refuse_half(found: t.Mapping[tuple[str, str], Found], begun: t.Container[tuple[str, str]], mark: str) -> None:
    """Raises ArchipelError for half copies, but for those ``begun`` here for this machine, which are made anew.

    Others may be somebody else's who is not done yet. ``mark`` ends the name of what lies beside them.
    """
    for (pool, name), place in found.items():
        if place.half and (pool, name) not in begun:
            message = (
                f"the volume {pool}/{name} is a copy that is not at its end, as {pool}/{name}{mark} beside it says; if "
                "nobody makes it any more, remove both"
            )
            raise ArchipelError(message, CODE_DECLARATION)


def references(stated: t.Iterable[Volume]) -> list[tuple[str, str]]:
    """(pool, volume) of volumes and of what they are made from."""
    names = [(volume["pool"], name) for volume in stated for name in (volume["name"], origin(volume)) if name]
    return list(dict.fromkeys(names))


def _origins(to_make: t.Iterable[Volume], found: t.Mapping[tuple[str, str], Found]) -> list[str]:
    """The paths that volumes ``to_make`` are made from; raises ArchipelError where one does not exist, or is larger."""
    paths = []
    for volume in to_make:
        if not origin(volume):
            continue
        place = found[(volume["pool"], origin(volume))]
        label = f"{volume['pool']}/{origin(volume)}"
        if not place.exists:
            raise ArchipelError(f"the volume {label} does not exist, so no other can be made from it", CODE_DECLARATION)
        if 0 < volume["capacity"] < place.capacity:
            message = f"{volume['pool']}/{volume['name']} is to be smaller than {label}, which it is made from"
            raise ArchipelError(message, CODE_DECLARATION)
        paths.append(place.path)
    return paths


def place_of(disk: Element) -> str:
    """The file or device that a disk is on, or POOL/VOLUME; empty where it is on neither."""
    if attribute_of(disk, "source", "volume"):
        return f"{attribute_of(disk, 'source', 'pool')}/{attribute_of(disk, 'source', 'volume')}"
    return attribute_of(disk, "source", "file") or attribute_of(disk, "source", "dev")


def _formats(existing: Element | None) -> dict[str, str]:
    """The formats of the disks that a machine has, by their places; a drive without a medium has none."""
    disks = [] if existing is None else existing.findall("devices/disk")
    return {place_of(disk): attribute_of(disk, "driver", "type", "raw") for disk in disks if place_of(disk)}


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
        message = f"the disk on {place_of(disk)} has the format {form}, not {stated} as stated; state format: {form}"
        raise ArchipelError(message, CODE_DECLARATION)
    driver.set("type", form)
