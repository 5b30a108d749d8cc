# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""All that a plan has to know of libvirt's domains, in one call: functions that run in Libvirt.call()."""

from __future__ import annotations

import typing as t

from . import domains
from .domains import Machine
from .libvirt_facade import libvirt


class Snapshot(t.NamedTuple):
    """What libvirt has at one moment: machines with their definitions, by UUID, and whose a name is."""

    machines: dict[str, Machine]
    owners: dict[str, str]  # UUID by name


def survey(connection: libvirt.virConnect, wanted: t.Mapping[str, str], with_autostart: bool = True) -> Snapshot:
    """The machines ``wanted`` (names by UUID), and the owners of at least these names."""
    found = domains.survey(connection, lambda uuid, name: True, wanted, with_autostart=with_autostart)
    machines = {one.uuid: one for one in found}
    if len(wanted) > domains.FEW:
        return Snapshot(machines, {one.name: one.uuid for one in domains.identities(connection)})
    owners = {one.name: one.uuid for one in machines.values()}
    for name in wanted.values():
        owner = owners.get(name) or domains.uuid_of(connection, name)
        if owner is not None:
            owners[name] = owner
    return Snapshot(machines, owners)


def look(connection: libvirt.virConnect, uuid: str, name: str, with_autostart: bool = True) -> Snapshot:
    """The same of one machine."""
    return survey(connection, {uuid: name}, with_autostart)
