# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Seeds of cloud-init as storage volumes: read, written. The functions that take a connection run in Libvirt.call()."""

from __future__ import annotations

import dataclasses
import typing as t

from archipel_protocol.declaration import Volume
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import cloud_init, devices, in_use, metadata, volumes
from .domain_xml import Element
from .libvirt_facade import libvirt
from .storage import Changes, Found
from .wanted import Desired

# The most that a seed has, in bytes; a request has 4 MiB.
_LARGEST = 16 * 1024 * 1024
# Volumes have a multiple of that many bytes: while a guest has one open it cannot grow, and most seeds fit into this.
_STEP = 1024 * 1024


async def resolve(
    agent: t.Any, desired: Desired, stated: Element, existing: Element | None, changes: Changes
) -> Changes:
    """``changes`` with what it takes to have the declared seed, or none; ``stated`` then names it."""
    if desired.cloud_init is None:
        return changes
    owned = [] if existing is None else metadata.owned(existing)
    seeds = [one for one in owned if one[1].endswith(devices.SEED_SUFFIX)]
    wanted = desired.cloud_init
    if not wanted["files"]:
        gone = await in_use.removable(agent, desired, seeds)
        return dataclasses.replace(changes, gone=tuple(gone))
    name = (wanted["pool"], cloud_init.volume_name(desired.name))
    place, image = await agent.libvirt.call(read, *name)
    volume = Volume(pool=name[0], name=name[1], capacity=0, format="raw")
    try:
        seed = cloud_init.seed(volume, place.path, wanted["files"], image)
    except ArchipelError as exc:
        raise ArchipelError(f"the volume {'/'.join(name)} {exc.message}", exc.code) from exc
    gone = await in_use.removable(agent, desired, [one for one in seeds if one != name])
    cloud_init.lay(stated, existing, place.path, wanted.get("bus", ""))
    make = dict(changes.make)
    if seed.image is not None:
        volume["capacity"] = _room(seed.image)
        if not place.exists:
            make[place.path] = volume
    return dataclasses.replace(changes, make=make, seed=seed, gone=tuple(gone))


def _room(image: bytes) -> int:
    """The capacity, in bytes, of a volume for ``image``."""
    return -(-len(image) // _STEP) * _STEP


def read(connection: libvirt.virConnect, pool: str, name: str) -> tuple[Found, bytes | None]:
    """(place, image) of a seed; without an image where there is no such volume."""
    place = volumes.look_up(connection, [(pool, name)], [])[0][(pool, name)]
    if not place.is_file:
        raise ArchipelError(f"the pool '{pool}' is no folder, and cannot hold a seed of cloud-init", CODE_DECLARATION)
    if not place.exists:
        return place, None
    if place.capacity > _LARGEST:
        raise ArchipelError(f"the volume {pool}/{name} is too large for a seed of cloud-init", CODE_DECLARATION)
    stream = connection.newStream()
    volume = connection.storagePoolLookupByName(pool).storageVolLookupByName(name)
    volume.download(stream, 0, place.capacity)
    content = bytearray()
    stream.recvAll(lambda dummy, piece, into: into.extend(piece), content)
    stream.finish()
    return place, bytes(content)


def write(connection: libvirt.virConnect, seed: cloud_init.Seed) -> None:
    """Write the image of a seed to its volume, which exists."""
    volume = connection.storagePoolLookupByName(seed.volume["pool"]).storageVolLookupByName(seed.volume["name"])
    image = seed.image or b""
    capacity = volume.info()[1]
    if capacity < len(image):
        try:
            volume.resize(_room(image))
        except libvirt.libvirtError as fault:
            raise ArchipelError(
                f"cloud_init needs {len(image)} bytes, and its volume of {capacity} bytes does not grow, as when a "
                f"guest has it open; stop the virtual machine first: {fault}",
                CODE_DECLARATION,
            ) from fault
    # Over all of what was there: it may have been longer, and is a secret.
    left = memoryview(image.ljust(capacity, b"\0"))
    stream = connection.newStream()
    volume.upload(stream, 0, len(left))
    try:
        while left:
            left = left[stream.send(bytes(left[: 64 * 1024])) :]
        stream.finish()
    except libvirt.libvirtError:
        stream.abort()
        raise
