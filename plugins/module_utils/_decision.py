# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a declaration of a virtual machine is made true, and whether at all: decided where all hypervisors are seen.

Private to this collection; it may change without notice. decide() is pure; tests/unit/plugins/test_decision.py has its
table.
"""

from __future__ import annotations

import typing as t

from . import _spec
from ._agents import Agents, Inventory
from ._errors import AgentOffline, Conflict, HypervisorUnknown, InvalidSpec
from ._spec import Spec
from .archipel_protocol import jids
from .archipel_protocol.declaration import Facts
from .archipel_protocol.errors import ArchipelError

# Those in which a declaration may start what is off.
_STARTS = frozenset(("running", "paused", "saved", "restarted"))
_OFF = frozenset(("stopped", "saved"))


class Decision(t.NamedTuple):
    """Where a declaration is made true: ``host`` None: nowhere, nothing is to be done. ``target``: it moves there."""

    name: str
    uuid: str
    host: str | None
    existing: Facts | None = None
    target: str | None = None
    warning: str = ""


class Fleet(t.NamedTuple):
    """What is known of all hypervisors.

    ``vms`` are the machines found, ``known`` the nodes of all hypervisors, ``silent`` why some did not answer, and
    ``holders`` whose agents manage a machine that libvirt there does not have, by UUID. ``registered`` are the UUIDs
    that have an account, of the machines that were found nowhere.
    """

    vms: t.Sequence[Facts]
    known: t.Sequence[str]
    domain: str
    silent: t.Mapping[str, str] = {}
    holders: t.Mapping[str, t.Sequence[str]] = {}
    registered: t.Collection[str] = ()


def decisions(agents: Agents, specs: t.Sequence[Spec]) -> list[Decision | ArchipelError]:
    """What is decided of each of ``specs``, or why it cannot be; their order."""
    fleet = _survey(agents, specs)
    near = _Near(fleet.vms, specs)
    found: list[Decision | ArchipelError] = []
    declared: dict[str, str] = {}
    for spec in specs:
        label = _spec.label(spec)
        try:
            decision = decide(spec, fleet._replace(vms=near.machines(spec, agents.domain)))
            other = declared.setdefault(decision.uuid, label)
            if other != label:
                raise Conflict(f"'{other}' and '{label}' are declarations of one virtual machine, {decision.uuid}")
            found.append(decision)
        except ArchipelError as exc:
            found.append(exc)
    return found


class _Near:
    """The machines that have to do with one declaration: looking at all of them for each would take too long."""

    def __init__(self, vms: t.Iterable[Facts], specs: t.Iterable[Spec]) -> None:
        self._by_name: dict[str, list[Facts]] = {}
        self._by_uuid: dict[str, list[Facts]] = {}
        for vm in vms:
            self._by_name.setdefault(vm["name"], []).append(vm)
            self._by_uuid.setdefault(vm["uuid"], []).append(vm)
        # What is to be gone by its UUID leaves its name to another one.
        self._leaving = {str(one["uuid"]).lower() for one in specs if one["uuid"] and one["state"] == "absent"}

    def machines(self, spec: Spec, domain: str) -> list[Facts]:
        """Those with the name or the UUID of ``spec``, and those with the UUID of one of them."""
        uuid = identity(spec, domain)
        named = {vm["uuid"]: None for vm in self._by_name.get(spec["name"], ()) if vm["uuid"] not in self._leaving}
        return [vm for one in {uuid: None, **named} for vm in self._by_uuid.get(one, ())]


def _survey(agents: Agents, specs: t.Sequence[Spec]) -> Fleet:
    uuids = {identity(spec, agents.domain) for spec in specs}
    names = {spec["name"] for spec in specs if spec["name"] is not None}
    inventory = agents.inventory(sorted(names), sorted(uuids))
    missing = _missing(inventory, specs, agents.domain)
    registered = agents.registered(missing) if missing else ()
    if registered:
        # Of a machine that somebody else has made meanwhile?
        inventory = agents.inventory(sorted(names), sorted(uuids))
        registered = registered & set(_missing(inventory, specs, agents.domain))
    vms = list(inventory.vms)
    # One that was found by its name, has another UUID than the derived one and may be started: it must run nowhere
    # else, under whatever name.
    starting = {spec["name"] for spec in specs if spec["state"] in _STARTS}
    others = {vm["uuid"] for vm in vms if vm["name"] in starting and vm["state"] in _OFF} - uuids
    if others:
        answering = [node for node in agents.known if node not in inventory.silent]
        twins = agents.inventory(uuids=sorted(others), hypervisors=answering).vms
        vms += [vm for vm in twins if vm["name"] not in names]
    silent = {node: error.message for node, error in inventory.silent.items()}
    return Fleet(vms, agents.known, agents.domain, silent, inventory.holders, registered)


def _missing(inventory: Inventory, specs: t.Sequence[Spec], domain: str) -> list[str]:
    """The UUIDs of the machines that are to be there and were found nowhere."""
    seen = {vm[key] for vm in inventory.vms for key in ("name", "uuid")}
    holders = inventory.holders
    return [
        uuid
        for uuid, spec in ((identity(spec, domain), spec) for spec in specs)
        if spec["state"] != "absent" and not {uuid, spec["name"]} & seen and uuid not in holders
    ]


def identity(spec: Spec, domain: str) -> str:
    """The UUID that is declared, or that follows from the name."""
    return str(spec["uuid"]).lower() if spec["uuid"] is not None else jids.vm_uuid(spec["name"], domain)


def decide(spec: Spec, fleet: Fleet) -> Decision:
    """Where ``spec`` is made true. Raises Conflict, HypervisorUnknown, AgentOffline or InvalidSpec where it cannot be,
    or must not."""
    wanted_host = spec["hypervisor"]
    for option, node in [("hypervisor", wanted_host), *(("assume_lost", node) for node in spec["assume_lost"] or ())]:
        if node is not None and node not in fleet.known:
            raise HypervisorUnknown(
                "{}: '{}' is not a hypervisor of this platform; there are {}".format(
                    option, node, ", ".join(fleet.known)
                )
            )
    found = _found(spec, fleet)
    if found is None:
        return _decide_new(spec, fleet)
    if spec["state"] == "absent" or wanted_host in (None, found["hypervisor"]):
        return Decision(found["name"], found["uuid"], found["hypervisor"], found)
    if wanted_host in fleet.silent:
        raise AgentOffline(
            "'{}' is on {} and cannot move to {}: {}".format(
                found["name"], found["hypervisor"], wanted_host, fleet.silent[wanted_host]
            )
        )
    return Decision(found["name"], found["uuid"], found["hypervisor"], found, wanted_host)


def _found(spec: Spec, fleet: Fleet) -> Facts | None:
    """The one machine that ``spec`` declares; None if there is none."""
    uuid, vms = identity(spec, fleet.domain), fleet.vms
    by_name = [vm for vm in vms if spec["name"] is not None and vm["name"] == spec["name"]]
    by_uuid = [vm for vm in vms if vm["uuid"] == uuid]
    found = _without_arrivals(by_uuid if spec["uuid"] is not None else by_name)
    same = {vm["uuid"] for vm in found}
    copies = _without_arrivals([vm for vm in vms if vm in found or vm["uuid"] in same])
    if len(copies) > 1:
        raise Conflict(
            "'{}' exists more than once: {}; remove or rename all but one".format(
                _spec.label(spec), " and ".join(map(_place, sorted(copies, key=_place)))
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
    if found and not found[0]["managed"]:
        raise Conflict(_unmanaged(_spec.label(spec), found[0], fleet))
    return found[0] if found else None


def _without_arrivals(copies: list[Facts]) -> list[Facts]:
    """``copies`` without what the target of a live migration shows: it is paused there, and nobody's yet."""
    arriving = [vm for vm in copies if not vm["managed"] and vm["state"] == "paused"]
    left = [vm for vm in copies if vm not in arriving]
    moving = len(left) == 1 and left[0]["managed"] and left[0]["state"] not in _OFF
    return left if moving and len(arriving) == 1 and arriving[0]["uuid"] == left[0]["uuid"] else copies


def _unmanaged(name: str, vm: Facts, fleet: Fleet) -> str:
    """Why a machine that the agent beside it does not manage cannot be declared."""
    sources = fleet.holders.get(vm["uuid"])
    if sources:
        return (
            "'{}' is on its way from {} to {}, and its account is not there yet; try again in a minute. If it was "
            "moved without the agents, archipel_import brings it under management where it is".format(
                name, sources[0], vm["hypervisor"]
            )
        )
    text = "'{}' is used by a domain on {} that is not managed; ".format(name, vm["hypervisor"])
    if fleet.silent:
        text += "unless it has just come from {}, whose agent is silent, ".format(" or ".join(sorted(fleet.silent)))
    return text + "archipel_import brings it under management"


def _decide_new(spec: Spec, fleet: Fleet) -> Decision:
    """The decision about a machine that was found nowhere."""
    name, uuid = _spec.label(spec), identity(spec, fleet.domain)
    lost = sorted(set(spec["assume_lost"] or ()) & set(fleet.silent))
    silent = sorted(set(fleet.silent) - set(lost))
    if silent:
        raise AgentOffline(
            "'{}' was found nowhere, but may be on {}, so nothing is done: {}; what is lost for good is named in "
            "assume_lost".format(name, " or ".join(silent), "; ".join(fleet.silent[node] for node in silent))
        )
    if spec["state"] == "absent":
        # Where somebody undefined it past its agent, its account is still to go.
        holders = fleet.holders.get(uuid)
        return Decision(name, uuid, holders[0] if holders else None)
    if spec["name"] is None:
        raise Conflict(f"uuid: {uuid} was found on no hypervisor, and a new virtual machine needs a name")
    host = _host_of_new(spec, fleet, name, uuid)
    if spec["memory"] is None and spec["xml"] is None:
        raise InvalidSpec([f"memory: '{name}' is new, so say how much, such as 2GiB"])
    return Decision(name, uuid, host, warning=_of_account(fleet, name, uuid, lost, host))


def _host_of_new(spec: Spec, fleet: Fleet, name: str, uuid: str) -> str:
    """The hypervisor where a machine is made. One that was undefined past its agent is made where that agent is."""
    host, holders = spec["hypervisor"], fleet.holders.get(uuid, ())
    if holders and host not in (None, *holders):
        raise Conflict(
            f"'{name}' cannot be made on {host}: {holders[0]} manages it, though it has no definition there any more; "
            f"declare it on {holders[0]}, from where it can move"
        )
    if host is None and len(fleet.known) > 1 and not holders:
        raise InvalidSpec(["hypervisor: '{}' is new, so say where: {}".format(name, ", ".join(fleet.known))])
    host = host or (holders or fleet.known)[0]
    if host in fleet.silent:
        raise AgentOffline(f"'{name}' cannot be made on {host}: {fleet.silent[host]}")
    return host


def _of_account(fleet: Fleet, name: str, uuid: str, lost: t.Sequence[str], host: str) -> str:
    """What is to be said about the account of a machine that was found nowhere; "" if there is none."""
    if uuid not in fleet.registered:
        return ""
    account = jids.vm_jid(uuid, fleet.domain)
    if not lost:
        raise Conflict(
            f"'{name}' was found on no hypervisor, but has an account, {account}, so it may be on one that the platform"
            " does not know any more, and nothing is done; if it is lost, remove the account with archipel_user"
        )
    return (
        f"the account of '{name}', {account}, has a password that only {' or '.join(lost)} knows; remove it with "
        f"archipel_user, and the agent of {host} makes it anew"
    )


def _place(vm: Facts) -> str:
    return "{} on {}".format(vm["uuid"], vm["hypervisor"])
