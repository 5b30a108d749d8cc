# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a guest has come up, and waiting for it: ``wait_for`` and ``start_delay`` of a declaration.

libvirt has an event for a guest agent that connects (VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE), and none for a lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import typing as t

from archipel_protocol import states
from archipel_protocol.errors import CODE_DECLARATION, ArchipelError

from . import addresses, domain_xml
from .domain_xml import Element
from .domains import Machine
from .libvirt_facade import libvirt
from .plan import Plan
from .wanted import Desired

_STATE, _GUEST_AGENT, _ADDRESS = states.WAIT_FOR
CHANNEL = "org.qemu.guest_agent.0"
# Seconds between two looks. For a guest agent, only in case that an event was lost with the connection to libvirt.
_PAUSES = {_GUEST_AGENT: 15.0, _ADDRESS: 2.0}
_ADVICE = f"declare a channel '{CHANNEL}', and have qemu-guest-agent run in the guest"
_LATE = {
    _GUEST_AGENT: "its guest agent has not connected; have qemu-guest-agent run in it",
    _ADDRESS: "neither its guest agent nor a lease of libvirt's networks tells an address; have it ask for one",
}

# Leases that were there before a guest was started, so that they tell nothing of it.
Old = t.FrozenSet[addresses.Lease]
NOTHING: Old = frozenset()
# Raises ArchipelError where what it waits for does not come.
Wait = t.Callable[[], t.Awaitable[None]]


class Look(t.NamedTuple):
    """What is seen of a machine from outside. ``agent``: whether its guest agent is connected, None: has no way to."""

    state: int
    agent: bool | None
    macs: frozenset[str]


def waits(desired: Desired) -> bool:
    """Whether more is wanted of the guest than to run."""
    return desired.wait and desired.wait_for != _STATE and desired.state in states.UP


def refuse_in_vain(desired: Desired, definition: Element, running: Element | None) -> None:
    """Raises ArchipelError where what is waited for cannot come: not from ``running``, which goes on, or ever."""
    if not waits(desired):
        return
    if not _can_tell(desired, definition):
        also = "" if desired.wait_for == _GUEST_AGENT else ", or an interface of one of libvirt's networks"
        raise ArchipelError(f"wait_for: {desired.wait_for} can never be seen; {_ADVICE}{also}", CODE_DECLARATION)
    if running is not None and not _can_tell(desired, running):
        raise ArchipelError(
            f"wait_for: {desired.wait_for} cannot be seen before the next start, which brings the guest what it lacks; "
            "set allow_restart",
            CODE_DECLARATION,
        )


def _can_tell(desired: Desired, domain: Element) -> bool:
    leased = desired.wait_for == _ADDRESS and domain.find("devices/interface[@type='network']") is not None
    return leased or _channel(domain) is not None


def _channel(domain: Element) -> Element | None:
    return domain.find(f"devices/channel/target[@name='{CHANNEL}']")


async def before(agent: t.Any, desired: Desired, machine: Machine | None, plan: Plan) -> Old:
    """What is to be known before ``plan`` is carried out. A guest that goes on from where it was keeps its lease."""
    restored = machine is not None and machine.state == states.SAVED and desired.state != "restarted"
    if not waits(desired) or desired.wait_for != _ADDRESS or not plan.starts or restored:
        return NOTHING
    return t.cast(Old, await agent.libvirt.call(addresses.granted))


async def is_up(agent: t.Any, desired: Desired, old: Old = NOTHING) -> bool:
    """Whether the guest has come as far as is wanted. Raises ArchipelError where it does not run any more."""
    look = await agent.libvirt.call(_look, desired.uuid)
    if look.state not in (*states.ACTIVE, states.NOSTATE) or look.state == states.CRASHED:
        found = states.NAMES.get(look.state, "unknown")
        raise ArchipelError(f"its guest is {found}; it was waited for ({desired.wait_for})", CODE_DECLARATION)
    if desired.wait_for == _GUEST_AGENT:
        return bool(look.agent)
    leases = await agent.libvirt.call(addresses.granted)
    # A lease for ever looks the same after a start.
    if any(one.mac in look.macs and (one not in old or not one.until) for one in leases):
        return True
    told = await agent.guests.addresses([desired.uuid]) if look.agent else {}
    return bool(told.get(desired.uuid))


def later(agent: t.Any, desired: Desired, plan: Plan, old: Old = NOTHING) -> Wait | None:
    """What is to be awaited when ``plan`` was carried out; None: nothing."""
    if waits(desired) or plan.starts:
        return functools.partial(wait, agent, desired, old, plan.starts)
    return None


async def wait(agent: t.Any, desired: Desired, old: Old, started: bool) -> None:
    """Returns when the guest has come up as far as is wanted, and if it was started, ``start_delay`` later.

    Raises ArchipelError after ``wait_timeout``.
    """
    if waits(desired):
        await _wait(agent, desired, old)
    if started and desired.wait and desired.state in states.UP:
        await asyncio.sleep(desired.start_delay)


async def _wait(agent: t.Any, desired: Desired, old: Old) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + desired.wait_timeout
    with agent.libvirt.watch(desired.uuid) as changed:
        while True:
            changed.clear()
            if await is_up(agent, desired, old):
                return
            left = deadline - loop.time()
            if left <= 0:
                raise ArchipelError(
                    f"the guest runs, but within {desired.wait_timeout:g} s {_LATE[desired.wait_for]}, "
                    "or allow more with wait_timeout",
                    CODE_DECLARATION,
                )
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), min(left, _PAUSES[desired.wait_for]))


# In a thread


def _look(connection: libvirt.virConnect, uuid: str) -> Look:
    domain = connection.lookupByUUIDString(uuid)
    state = int(domain.state()[0])
    live = domain_xml.parse_domain(domain.XMLDesc())
    channel = _channel(live)
    cards = live.findall("devices/interface/mac")
    return Look(
        state,
        None if channel is None else channel.get("state") == "connected",
        frozenset(card.get("address", "").lower() for card in cards),
    )
