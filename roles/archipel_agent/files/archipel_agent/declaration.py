# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""``archipel:declaration``: what is there, what a declaration would change, and its change.

plan and apply make the same plan with the same function; only apply then takes its steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import typing as t

from archipel_protocol import declaration as wire, jids, namespaces as ns, permissions as names, states
from archipel_protocol.declaration import Facts, Result
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError, MalformedRequest, PermissionDenied

from . import (
    addresses,
    describe,
    domain_xml,
    domains,
    gate,
    host_access,
    image_chains,
    in_use,
    installed,
    metadata,
    plan,
    prediction,
    preflight,
    readiness,
    running,
    seeds,
    snapshots,
    storage,
    volumes,
    wanted,
)
from .dispatch import Request, handler
from .domain_xml import Element
from .domains import Machine
from .execution import Execution
from .snapshots import Snapshot
from .wanted import Desired

log = logging.getLogger(__name__)

# Machines of one request that are worked on at the same time; more would only queue before libvirt's workers.
_AT_ONCE = 32
# More machines than so many are looked at in so many calls at the same time.
_MANY, _CALLS = 64, 4
_UNMANAGED = ", which is not managed here; archipel_import brings it under management"


@handler(ns.DECLARATION, wire.INVENTORY, "declaration_inventory", on="hypervisor", code=CODE_DECLARATION)
async def inventory(entity: t.Any, request: Request) -> str:
    """All domains, or those asked for, managed or not; by UUID, and page by page for who asks so."""
    agent, selection = entity.agent, wanted.selection(wire.decode(request.text))
    known = await agent.libvirt.call(domains.identities)
    page, more = selection.page(known)
    machines = await _look_at(agent, page, selection.details)
    found = [facts(agent, machine) for machine in sorted(machines, key=lambda machine: machine.uuid)]
    if selection.addresses:
        gathered = await addresses.gather(agent, selection.addresses, machines)
        for one in found:
            one["addresses"] = gathered[one["uuid"]]
    answer: dict[str, t.Any] = {"hypervisor": agent.node, "vms": found}
    if not selection.after:
        defined = {one.uuid for one in known}
        undefined = {
            vm.uuid: vm.name
            for vm in agent.vms.values()
            if vm.uuid not in defined and vm in selection and agent.is_managed(vm.uuid)
        }
        answer.update({"undefined": undefined} if undefined else {})
    if selection.most is not None:
        count = wire.fitting(found)
        if count < len(found):
            answer.update(vms=found[:count], next=found[count - 1]["uuid"])
        elif more:
            answer["next"] = page[-1]
    return wire.encode(answer)


async def _look_at(agent: t.Any, uuids: t.Sequence[str], details: bool) -> list[Machine]:
    """The machines with these UUIDs; many of them in several calls, each of which waits for libvirt by itself."""

    def with_xml(uuid: str, name: str) -> bool:
        return details

    if len(uuids) <= _MANY:
        return list(await agent.libvirt.call(domains.survey, with_xml, frozenset(uuids)))
    listing = await agent.libvirt.call(domains.listing)
    parts = [frozenset(uuids[start::_CALLS]) for start in range(_CALLS)]
    calls = [agent.libvirt.call(domains.survey, with_xml, part, listing) for part in parts]
    return [machine for part in await asyncio.gather(*calls) for machine in part]


@handler(ns.DECLARATION, wire.PLAN, "declaration_plan", on="hypervisor", code=CODE_DECLARATION)
async def plan_machines(entity: t.Any, request: Request) -> str:
    """What apply would do to each machine."""
    return await _answer(entity.agent, request, _planned)


@handler(ns.DECLARATION, wire.APPLY, "declaration_apply", on="hypervisor", code=CODE_DECLARATION)
async def apply_machines(entity: t.Any, request: Request) -> str:
    """Make each machine what it is declared to be; answers when that is reached or has failed."""
    return await _answer(entity.agent, request, _applied, entity.agent.calm.work)


def facts(agent: t.Any, machine: Machine) -> Facts:
    """What is told of a machine; its definition only where it was read."""
    known = Facts(
        name=machine.name,
        uuid=machine.uuid,
        jid=jids.vm_jid(machine.uuid, agent.domain, agent.node),
        hypervisor=agent.node,
        state=states.NAMES.get(machine.state, states.NAMES[states.NOSTATE]),
        managed=agent.is_managed(machine.uuid),
        persistent=machine.persistent,
        autostart=machine.autostart,
        memory=machine.memory,
        vcpus=machine.vcpus,
        tags=list(machine.tags),
    )
    if machine.xml:
        known["definition"] = describe.definition(domain_xml.parse_domain(machine.xml))
    return known


_Work = t.Callable[[t.Any, Request, Desired, Snapshot], t.Awaitable[t.Tuple[Result, t.Optional[readiness.Wait]]]]


async def _answer(
    agent: t.Any, request: Request, work: _Work, while_working: t.Callable[[int], t.ContextManager[None]] | None = None
) -> str:
    desired, with_facts = wanted.machines(wire.decode(request.text))
    names_of = {one.uuid: one.name for one in desired}
    snapshot = await snapshots.take(agent.libvirt, names_of, any(map(_states_autostart, desired)))
    turns = asyncio.Semaphore(_AT_ONCE)

    async def done(one: Desired) -> tuple[Result, readiness.Wait | None]:
        async with turns:
            try:
                return await work(agent, request, one, snapshot)
            except ArchipelError as exc:
                return Result(uuid=one.uuid, error=_message(exc, one, snapshot), code=exc.code), None
            except Exception:
                log.exception("the declaration of %s (%s) failed", one.name, one.uuid)
                message = "the declaration failed inside the agent; its log has more"
                return Result(uuid=one.uuid, error=message, code=CODE_DECLARATION), None

    with while_working(len(desired)) if while_working else contextlib.nullcontext():
        ended = await asyncio.gather(*(done(one) for one in desired))
    results = [found for found, dummy in ended]
    waits = [_waited(found, wait) for found, wait in ended if wait is not None]
    if waits:
        # Guests may take minutes, and the sender's other requests need not wait with this one.
        async with gate.aside():
            await asyncio.gather(*waits)
    if with_facts:
        await _add_facts(agent, [one for one in results if "vm" not in one])
    else:
        for one in results:
            one.pop("vm", None)
    return wire.encode({"results": results})


def _message(fault: ArchipelError, desired: Desired, snapshot: Snapshot) -> str:
    """What an error says, without the secrets of what is declared and of what is there."""
    machine = snapshot.machines.get(desired.uuid)
    known = []
    for text in (desired.domain, "" if machine is None else machine.xml):
        # What is not well-formed has not come to anybody who could repeat it.
        with contextlib.suppress(MalformedRequest):
            known.append(domain_xml.parse_domain(text))
    return domain_xml.concealed(fault.message, *known)


def _states_autostart(desired: Desired) -> bool:
    return desired.autostart is not None


async def _waited(found: Result, wait: readiness.Wait) -> None:
    try:
        await wait()
    except ArchipelError as exc:
        log.warning("%s: %s", found["uuid"], exc.message)
        found.update(error=exc.message, code=exc.code)


async def _add_facts(agent: t.Any, results: list[Result]) -> None:
    uuids = {one["uuid"] for one in results}
    if not uuids:
        return
    try:
        machines = await agent.libvirt.call(domains.survey, lambda uuid, name: False, uuids)
    except ArchipelError as exc:
        # What was done is worth more than what is not known any more.
        log.warning("results go without facts: %s", exc.message)
        return
    found = {machine.uuid: machine for machine in machines}
    for one in results:
        machine = found.get(one["uuid"])
        one["vm"] = None if machine is None else facts(agent, machine)


async def _planned(
    agent: t.Any, request: Request, desired: Desired, snapshot: Snapshot
) -> tuple[Result, readiness.Wait | None]:
    made = await _plan(agent, request, desired, snapshot)
    live = [step.label for step in made.steps if step.do is plan.Do.LIVE]
    found = _result(desired, made, made.actions, live)
    if not made.changed and readiness.waits(desired) and not await readiness.is_up(agent, desired):
        found["waits"] = True
    return found, None


async def _applied(
    agent: t.Any, request: Request, desired: Desired, snapshot: Snapshot
) -> tuple[Result, readiness.Wait | None]:
    # What is not there is made, so one plan will do: that under its lock.
    if desired.uuid in snapshot.machines or desired.state == "absent":
        made = await _plan(agent, request, desired, snapshot)
        if not made.changed:
            return _result(desired, made, [], []), readiness.later(agent, desired, made)
    async with agent.lock(desired.uuid):
        if desired.uuid in snapshot.machines or agent.is_managed(desired.uuid):
            # Whoever held the lock before may have changed anything. One that comes past us is a conflict.
            snapshot = await snapshots.look(agent.libvirt, desired.uuid, desired.name, _states_autostart(desired))
        made = await _plan(agent, request, desired, snapshot)
        old = await readiness.before(agent, desired, snapshot.machines.get(desired.uuid), made)
        found = await _carried_out(agent, request, desired, snapshot, made)
    # Outside of the lock: whoever wants to stop the guest meanwhile may.
    return found, None if "error" in found else readiness.later(agent, desired, made, old)


async def _carried_out(agent: t.Any, request: Request, desired: Desired, snapshot: Snapshot, made: plan.Plan) -> Result:
    machine = snapshot.machines.get(desired.uuid)
    execution = Execution(agent, request, desired, None if machine is None else machine.xml)
    try:
        await execution.run(made)
    except ArchipelError as exc:
        message = _message(exc, desired, snapshot)
        log.warning("%s (%s): %s", desired.name, desired.uuid, message)
        failed = _result(desired, made, execution.done, execution.applied_live)
        failed.update(changed=bool(execution.done), error=message, code=exc.code)
        return failed
    log.info("%s (%s): %s", desired.name, desired.uuid, ", ".join(execution.done) or "unchanged")
    made.restart_required += execution.refused
    made.ignored += execution.ignored
    found = _result(desired, made, execution.done, execution.applied_live)
    if execution.machine is not None and not desired.start_delay and not readiness.waits(desired):
        # Nothing can have become of it since.
        found["vm"] = facts(agent, execution.machine)
    return found


def _result(desired: Desired, made: plan.Plan, actions: list[str], applied_live: list[str]) -> Result:
    found = Result(uuid=desired.uuid)
    if made.changed:
        found.update(changed=True, actions=actions, before=made.before, after=made.after)
    if made.restart_required:
        found["restart_required"] = made.restart_required
    if applied_live:
        found["applied_live"] = applied_live
    if made.ignored:
        found["ignored"] = made.ignored
    if desired.show_xml and made.changed:
        found["xml"] = describe.xml_difference(made.old, made.new)
    return found


async def _plan(agent: t.Any, request: Request, desired: Desired, snapshot: Snapshot) -> plan.Plan:
    """The plan for one machine; the one function behind plan and apply."""
    machine = snapshot.machines.get(desired.uuid)
    _check_identity(agent, desired, snapshot)
    existing = None
    if machine is not None:
        definition = domain_xml.parse_domain(machine.xml, "the definition")
        existing = plan.Existing(machine.name, machine.state, machine.persistent, machine.autostart, definition)
    begun = agent.store.volumes(desired.uuid)
    if desired.state == "absent":
        own = []
        if desired.remove_disks == "owned":
            own = [] if existing is None else metadata.owned(existing.definition)
            own = await in_use.removable(agent, desired, list(dict.fromkeys([*own, *begun])))
        return plan.removal(existing, desired, agent.is_managed(desired.uuid), own)
    stated = domain_xml.parse_domain(desired.domain, "domain")
    look = preflight.Look(agent.libvirt, desired.domain, request.permits(names.HOST_ACCESS))
    try:
        changes = await _resolve_volumes(agent, desired, stated, existing)
        changes = await seeds.resolve(agent, desired, stated, existing and existing.definition, changes)
        made = [*begun, *((volume["pool"], volume["name"]) for volume in changes.owned)]
        metadata.record(existing and existing.definition, stated, desired.protected, made)
        # While libvirt's driver is at work, or else when nothing is left to do but that.
        has = _Running(snapshot, desired.uuid, existing)
        normalise = look.beside(_normalise(agent, request, existing, stated), has.look)
        predicted, ignored = await _predict(agent, normalise, desired, stated, existing)
    except PermissionDenied:
        raise
    except ArchipelError as exc:
        # Whoever has to mend it wants to know of everything at once.
        raise ArchipelError("; ".join([exc.message, *await look.problems()]), exc.code) from exc
    if predicted is not None:
        problems = await look.problems()
        if problems:
            raise ArchipelError("; ".join(problems), CODE_DECLARATION)
    if not request.permits(names.HOST_ACCESS):
        definition = None if predicted is None else predicted.definition
        _refuse(request, await _host_access(agent, definition, changes, look))
    if existing is not None:
        existing = dataclasses.replace(existing, running=await has.look())
    found = plan.change(existing, desired, predicted, changes)
    stays = None if existing is None or found.starts else existing.running
    becomes = predicted.definition if predicted is not None else existing and existing.definition
    readiness.refuse_in_vain(desired, becomes, stays)
    found.ignored += ignored
    if predicted is None and found.opens_images:
        # A definition that changes has just been looked at.
        await image_chains.refuse_start(agent, request, desired.uuid)
    return found


class _Running:
    """What an active machine has, looked at once."""

    def __init__(self, snapshot: Snapshot, uuid: str, existing: plan.Existing | None) -> None:
        self._snapshot, self._uuid, self._existing = snapshot, uuid, existing
        self._found: Element | None = None

    async def look(self) -> Element | None:
        """As running.comparable() makes it; None of one that does not run."""
        existing = self._existing
        if self._found is None and existing is not None and existing.active:
            # Other plans wait for the same.
            runs = (await asyncio.shield(self._snapshot.runs)).get(self._uuid)
            if runs is not None:
                live = domain_xml.parse_domain(runs.xml, "the running machine")
                processor = domain_xml.parse(runs.processor, "the processor") if runs.processor else None
                self._found = running.comparable(live, existing.definition, processor)
        return self._found


def _check_identity(agent: t.Any, desired: Desired, snapshot: Snapshot) -> None:
    owner = snapshot.owners.get(desired.name, desired.uuid)
    if owner != desired.uuid:
        hint = "" if agent.is_managed(owner) else _UNMANAGED
        raise ArchipelError(f"the name '{desired.name}' is used by the domain {owner}{hint}", CODE_DECLARATION)
    machine = snapshot.machines.get(desired.uuid)
    if machine is not None and not agent.is_managed(desired.uuid):
        raise ArchipelError(
            f"the name '{machine.name}' is used by the domain {machine.uuid}{_UNMANAGED}", CODE_DECLARATION
        )


async def _resolve_volumes(
    agent: t.Any, desired: Desired, stated: Element, existing: plan.Existing | None
) -> storage.Changes:
    """Have disks name files; what is to be done to volumes for them."""
    definition = None if existing is None else existing.definition
    references, paths = storage.needed(stated, definition)
    references += storage.references(desired.volumes)
    if not references and not paths:
        return storage.Changes()
    found, formats = await agent.libvirt.call(volumes.look_up, dict.fromkeys(references), paths)
    storage.refuse_half(found, agent.store.volumes(desired.uuid), volumes.MARK)
    storage.resolve(stated, definition, found, formats, desired.volumes)
    return storage.changes(desired.volumes, found)


def _refuse(request: Request, reasons: list[str]) -> None:
    if reasons:
        sender = jids.bare(request.sender)
        message = f"this needs the permission '{names.HOST_ACCESS}', which {sender} lacks: {'; '.join(reasons)}"
        raise PermissionDenied(message)


def _normalise(agent: t.Any, request: Request, existing: plan.Existing | None, stated: Element) -> prediction.Normalise:
    """The normaliser; for who lacks host_access one that has seen the emulator.

    To learn what it can do, libvirt runs whatever <emulator> names, long before a definition is there to be judged.
    """
    if request.permits(names.HOST_ACCESS) or (existing is not None and not host_access.emulators(stated)):
        # A machine that is there keeps the emulator that it has.
        return agent.normaliser.normalise
    known = set() if existing is None else host_access.emulators(existing.definition)

    async def normalise(xml: str, domain_type: str) -> str | None:
        # Most machines state none, and their definitions need not be read for it.
        domain = domain_xml.parse_domain(xml) if "<emulator" in xml else None
        named = set() if domain is None else host_access.emulators(domain) - known
        if named:
            foreign = named - {await _emulator(agent, domain)}
            _refuse(request, [f"<emulator> is {path}, not libvirt's own choice" for path in sorted(foreign)])
        return await agent.normaliser.normalise(xml, domain_type)

    return normalise


async def _emulator(agent: t.Any, domain: Element) -> str:
    """The emulator that libvirt itself chooses for such a machine."""
    kind = domain.find("os/type")
    board = (None, None) if kind is None else (kind.get("arch"), kind.get("machine"))
    return await installed.told(agent.libvirt, domains.emulator, *board, domain.get("type"))


async def _predict(
    agent: t.Any, normalise: prediction.Normalise, desired: Desired, stated: Element, existing: plan.Existing | None
) -> prediction.Foretold:
    if existing is not None:
        foretold = await prediction.change(existing.definition, desired, stated, normalise)
        if foretold.prediction is None and not existing.persistent:
            # Running without a definition: it gets the one that it runs with.
            return foretold._replace(prediction=prediction.Prediction(existing.definition, False))
        return foretold
    defaults = domain_xml.parse_domain(desired.defaults, "defaults") if desired.defaults else None
    architecture = domain_xml.attribute_of(stated, "os/type", "arch")
    if defaults is not None:
        # record() has seen to what is stated.
        metadata.disown(defaults)
        architecture = architecture or domain_xml.attribute_of(defaults, "os/type", "arch")
    domain_type = await installed.told(agent.libvirt, domains.default_type, architecture or None)
    return await prediction.creation(desired, stated, defaults, domain_type, normalise)


async def _host_access(
    agent: t.Any, definition: Element | None, changes: storage.Changes, look: preflight.Look
) -> list[str]:
    """Why a new definition, and what is to be done to volumes, need the permission ``host_access``."""
    touched = {**changes.make, **{path: growth.volume for path, growth in changes.grow.items()}}
    if changes.seed is not None:
        touched[changes.seed.path] = changes.seed.volume
    outside = [volume for path, volume in touched.items() if not host_access.is_inside(path)]
    reasons = [f"the pool '{volume['pool']}' is no folder below {host_access.ALLOWED_ROOT}" for volume in outside]
    if not reasons and changes.origins:
        # Many machines may be made of one image, and the others' copies may take long.
        async with agent.disk_copies.none():
            reasons = await agent.libvirt.call(image_chains.chains_outside, changes.origins)
    if definition is None or reasons:
        return reasons
    to_make, harmless = frozenset(changes.make), await look.harmless()
    return await agent.libvirt.call(image_chains.reaching_out, definition, to_make, harmless)
