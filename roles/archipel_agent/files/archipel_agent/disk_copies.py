# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Disks that are copied from others, and how far they are. libvirt has no event for it."""

from __future__ import annotations

import asyncio
import contextlib
import typing as t

from archipel_protocol.declaration import Volume

from . import volumes
from .libvirt_facade import Libvirt, libvirt


class Written(t.NamedTuple):
    """Bytes on the storage: of the copy, and of what is copied."""

    there: int
    whole: int


class DiskCopies:
    """What is being copied, by the UUID of the machine that it is for: one disk at a time."""

    def __init__(self, facade: Libvirt) -> None:
        self._libvirt = facade
        self._running: dict[str, Volume] = {}
        self._looking = 0
        self._change = asyncio.Condition()

    async def make(self, uuid: str, volume: Volume) -> None:
        """volumes.make() of a volume with an origin. It takes as long as it takes."""
        async with self._change:
            await self._change.wait_for(lambda: not self._looking)
            self._running[uuid] = volume
        try:
            await self._libvirt.call_apart(volumes.make, volume)
        finally:
            del self._running[uuid]
            async with self._change:
                self._change.notify_all()

    @contextlib.asynccontextmanager
    async def none(self) -> t.AsyncIterator[None]:
        """A time without copies: libvirt lets nobody have a pool look at its files while one is made in it."""
        async with self._change:
            await self._change.wait_for(lambda: not self._running)
            self._looking += 1
        try:
            yield
        finally:
            self._looking -= 1
            async with self._change:
                self._change.notify_all()

    async def written(self, uuid: str) -> Written | None:
        """How far the copy for a machine is; None where there is none. Raises ArchipelError."""
        volume = self._running.get(uuid)
        if volume is None or "clone" not in volume:
            return None
        return await self._libvirt.call(_written, volume["pool"], volume["name"], volume["clone"])


def _written(connection: libvirt.virConnect, pool_name: str, *names: str) -> Written:
    pool = connection.storagePoolLookupByName(pool_name)
    there, whole = (pool.storageVolLookupByName(name).info()[2] for name in names)
    return Written(there, whole)
