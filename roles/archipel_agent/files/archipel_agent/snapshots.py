# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a plan has to know of libvirt's domains, in one call.

What runs comes a moment later than the rest: plans begin with the definitions.
"""

from __future__ import annotations

import asyncio
import typing as t

from . import domains
from .domains import Machine, Running
from .libvirt_facade import Libvirt, libvirt
from .threads import settle

# To ask for so many one by one costs less than a listing of all.
_FEW = 2
# What active machines have, by UUID; of one that has gone nothing.
Runs = t.Mapping[str, Running]


class Snapshot(t.NamedTuple):
    """What libvirt has at one moment: machines with their definitions, by UUID, whose a name is, and what runs."""

    machines: dict[str, Machine]
    owners: dict[str, str]  # UUID by name
    runs: asyncio.Future[Runs]


async def take(facade: Libvirt, wanted: t.Mapping[str, str], with_autostart: bool = True) -> Snapshot:
    """The machines ``wanted`` (names by UUID), and the owners of at least these names."""
    loop = asyncio.get_running_loop()
    first: asyncio.Future[tuple[dict[str, Machine], dict[str, str]]] = loop.create_future()

    def tell(machines: dict[str, Machine], owners: dict[str, str]) -> None:
        loop.call_soon_threadsafe(settle, first, (machines, owners), None)

    def end(done: asyncio.Future[Runs]) -> None:
        """Nobody may want to know what runs."""
        fault = asyncio.CancelledError() if done.cancelled() else done.exception()
        if not first.done():
            settle(first, None, fault)

    runs = asyncio.ensure_future(facade.call(_survey, wanted, with_autostart, tell))
    runs.add_done_callback(end)
    try:
        return Snapshot(*await first, runs)
    except asyncio.CancelledError:
        runs.cancel()
        raise


async def look(facade: Libvirt, uuid: str, name: str, with_autostart: bool = True) -> Snapshot:
    """The same of one machine."""
    return await take(facade, {uuid: name}, with_autostart)


def _survey(
    connection: libvirt.virConnect,
    wanted: t.Mapping[str, str],
    with_autostart: bool,
    tell: t.Callable[[dict[str, Machine], dict[str, str]], None],
) -> Runs:
    handles: dict[str, libvirt.virDomain] = {}
    # One listing says of several at once which are there, and whose names are.
    known = domains.identities(connection) if len(wanted) > _FEW else None
    here = wanted if known is None else {one.uuid for one in known if one.uuid in wanted}
    found = domains.survey(connection, lambda uuid, name: True, here, with_autostart=with_autostart, handles=handles)
    machines = {one.uuid: one for one in found}
    owners = _owners(connection, wanted, machines) if known is None else {one.name: one.uuid for one in known}
    tell(machines, owners)
    runs = {one.uuid: domains.running(handles[one.uuid]) for one in found if one.active}
    return {uuid: running for uuid, running in runs.items() if running is not None}


def _owners(
    connection: libvirt.virConnect, wanted: t.Mapping[str, str], machines: t.Mapping[str, Machine]
) -> dict[str, str]:
    owners = {one.name: one.uuid for one in machines.values()}
    for name in wanted.values():
        owner = owners.get(name) or domains.uuid_of(connection, name)
        if owner is not None:
            owners[name] = owner
    return owners
