# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a declaration of a virtual machine is made true, and whether at all: decided where all hypervisors are seen.

Private to this collection; it may change without notice. decide() is pure; tests/unit/plugins/test_decision.py has its
table.
"""

from __future__ import annotations

import typing as t

from . import _spec
from ._agents import Agents
from ._errors import AgentOffline, Conflict, HypervisorUnknown, InvalidSpec
from ._spec import Spec
from .archipel_protocol import jids
from .archipel_protocol.declaration import Facts
from .archipel_protocol.errors import ArchipelError


class Decision(t.NamedTuple):
    """Where a declaration is made true: ``host`` None: nowhere, nothing is to be done. ``target``: it moves there."""

    name: str
    uuid: str
    host: str | None
    existing: Facts | None = None
    target: str | None = None


def decisions(agents: Agents, specs: t.Sequence[Spec]) -> list[Decision | ArchipelError]:
    """What is decided of each of ``specs``, or why it cannot be; their order."""
    names = {spec["name"] for spec in specs if spec["name"] is not None}
    uuids = {
        spec["uuid"].lower() if spec["uuid"] is not None else jids.vm_uuid(spec["name"], agents.domain)
        for spec in specs
    }
    inventory = agents.inventory(sorted(names), sorted(uuids))
    silent = {node: error.message for node, error in inventory.silent.items()}
    found: list[Decision | ArchipelError] = []
    for spec in specs:
        try:
            found.append(decide(spec, inventory.vms, agents.known, silent, agents.domain))
        except ArchipelError as exc:
            found.append(exc)
    return found


def decide(
    spec: Spec, vms: t.Sequence[Facts], known: t.Sequence[str], silent: t.Mapping[str, str], domain: str
) -> Decision:
    """Where ``spec`` is made true, given all machines found (``vms``), and why some hypervisors were ``silent``.

    Raises Conflict, HypervisorUnknown, AgentOffline or InvalidSpec where it cannot be, or must not.
    """
    name, wanted_host = spec["name"], spec["hypervisor"]
    if wanted_host is not None and wanted_host not in known:
        raise HypervisorUnknown(
            "hypervisor: '{}' is not a hypervisor of this platform; there are {}".format(wanted_host, ", ".join(known))
        )
    uuid = spec["uuid"].lower() if spec["uuid"] is not None else jids.vm_uuid(name, domain)
    found = _found(spec, uuid, vms)
    if found is None:
        return _decide_new(spec, uuid, known, silent)
    if spec["state"] == "absent" or wanted_host in (None, found["hypervisor"]):
        return Decision(found["name"], found["uuid"], found["hypervisor"], found)
    if wanted_host in silent:
        raise AgentOffline(
            "'{}' is on {} and cannot move to {}: {}".format(
                found["name"], found["hypervisor"], wanted_host, silent[wanted_host]
            )
        )
    return Decision(found["name"], found["uuid"], found["hypervisor"], found, wanted_host)


def _found(spec: Spec, uuid: str, vms: t.Sequence[Facts]) -> Facts | None:
    """The one machine that ``spec`` declares; None if there is none. ``uuid`` is the one given, or derived."""
    by_name = [vm for vm in vms if spec["name"] is not None and vm["name"] == spec["name"]]
    by_uuid = [vm for vm in vms if vm["uuid"] == uuid]
    found = by_uuid if spec["uuid"] is not None else by_name
    if len(found) > 1:
        raise Conflict(
            "'{}' exists more than once: {}; remove or rename all but one".format(
                _spec.label(spec), " and ".join(map(_place, sorted(found, key=_place)))
            )
        )
    for other in by_name if spec["uuid"] is not None else []:
        if other["uuid"] != uuid:
            raise Conflict("name: '{}' is already that of {}".format(spec["name"], _place(other)))
    for other in by_uuid:
        if spec["name"] is not None and other["name"] != spec["name"]:
            raise Conflict(
                "'{}' cannot have the UUID {}, which is that of '{}' on {}; a virtual machine is not renamed".format(
                    spec["name"], uuid, other["name"], other["hypervisor"]
                )
            )
    if not found:
        return None
    if not found[0]["managed"]:
        raise Conflict(
            "'{}' is used by a domain on {} that is not managed; archipel_import brings it under management".format(
                _spec.label(spec), found[0]["hypervisor"]
            )
        )
    return found[0]


def _decide_new(spec: Spec, uuid: str, known: t.Sequence[str], silent: t.Mapping[str, str]) -> Decision:
    """The decision about a machine that was found nowhere."""
    name, host = _spec.label(spec), spec["hypervisor"]
    if silent:
        raise AgentOffline(
            "'{}' was found nowhere, but may be on {}, so nothing is done: {}".format(
                name, " or ".join(sorted(silent)), "; ".join(silent[node] for node in sorted(silent))
            )
        )
    if spec["state"] == "absent":
        return Decision(name, uuid, None)
    if spec["name"] is None:
        raise Conflict(f"uuid: {uuid} was found on no hypervisor, and a new virtual machine needs a name")
    if host is None and len(known) > 1:
        raise InvalidSpec(["hypervisor: '{}' is new, so say where: {}".format(name, ", ".join(known))])
    if spec["memory"] is None and spec["xml"] is None:
        raise InvalidSpec([f"memory: '{name}' is new, so say how much, such as 2GiB"])
    return Decision(name, uuid, host or known[0])


def _place(vm: Facts) -> str:
    return "{} on {}".format(vm["uuid"], vm["hypervisor"])
