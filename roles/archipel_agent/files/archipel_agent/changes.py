# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told of a machine, as data: from a libvirt event, and from the difference between then and now.

A change is (kind, value): archipel:push:<kind> with change="<value>". virDomainEventType and its details:
https://libvirt.org/html/libvirt-libvirt-domain.html
"""

from __future__ import annotations

import typing as t

from archipel_protocol import states

from .libvirt_facade import libvirt

CONTROL = "virtualmachine:control"
DEFINITION = "virtualmachine:definition"
SNAPSHOT = "snapshoting"
HYPERVISOR = "hypervisor"

Change = t.Tuple[str, str]

# The change, and the state that it leaves behind; None: the state stays.
_EVENTS: dict[int, tuple[Change, int | None]] = {
    libvirt.VIR_DOMAIN_EVENT_DEFINED: ((DEFINITION, "defined"), None),
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED: ((DEFINITION, "undefined"), None),
    libvirt.VIR_DOMAIN_EVENT_STARTED: ((CONTROL, "created"), states.RUNNING),
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: ((CONTROL, "suspended"), states.PAUSED),
    libvirt.VIR_DOMAIN_EVENT_RESUMED: ((CONTROL, "resumed"), states.RUNNING),
    libvirt.VIR_DOMAIN_EVENT_STOPPED: ((CONTROL, "shutoff"), states.SHUTOFF),
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: ((CONTROL, "shutdown"), states.SHUTDOWN),
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: ((CONTROL, "suspended"), states.PMSUSPENDED),
    libvirt.VIR_DOMAIN_EVENT_CRASHED: ((CONTROL, "crashed"), states.CRASHED),
}
# The machine comes or goes as it is: on its way, nothing changes but its place, which the hypervisors tell.
_ON_THE_WAY = frozenset(
    (
        (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_MIGRATED),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_MIGRATED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_MIGRATED),
    )
)
_RESTORED = frozenset(
    (
        (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT),
    )
)
_CRASHES = frozenset(
    (
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_FAILED),
    )
)
_SLEEPING = (states.PAUSED, states.PMSUSPENDED)
# States between which nothing is told: libvirt shows both for a machine that runs.
_SAME = {states.NOSTATE: states.RUNNING, states.BLOCKED: states.RUNNING}


def of_event(event: int, detail: int, before: int | None) -> tuple[list[Change], int | None]:
    """(changes that a lifecycle event tells, state after it), given the state that was told last."""
    which = (event, detail)
    if which in _ON_THE_WAY or event not in _EVENTS:
        return [], before
    change, state = _EVENTS[event]
    if state is None:
        return [change], before
    if which in _CRASHES:
        change, state = (CONTROL, "crashed"), states.CRASHED
    restored = [(SNAPSHOT, "restored")] if which in _RESTORED else []
    if event == libvirt.VIR_DOMAIN_EVENT_RESUMED and before not in _SLEEPING:
        # QEMU's, in the middle of each start: "started" follows.
        return restored, before
    if state == _plain(before):
        # A look was quicker.
        return restored, before
    if event == libvirt.VIR_DOMAIN_EVENT_STARTED and before in _SLEEPING:
        change = (CONTROL, "resumed")
    return [*restored, change], state


def of_states(before: int | None, now: int | None) -> list[Change]:
    """What happened between two looks, as far as one can tell; None: there is no domain."""
    before, now = _plain(before), _plain(now)
    if before == now:
        return []
    if now == states.RUNNING:
        return [(CONTROL, "resumed" if before in _SLEEPING else "created")]
    if now in _SLEEPING:
        started = [] if before in states.ACTIVE else [(CONTROL, "created")]
        return [*started, (CONTROL, "suspended")]
    if now == states.SHUTDOWN:
        return [(CONTROL, "shutdown")]
    if now == states.CRASHED:
        return [(CONTROL, "crashed")]
    # Off, or gone; a machine that was off before it went was not switched off again.
    return [(CONTROL, "shutoff")] if before in states.ACTIVE - {states.CRASHED} else []


def of_definitions(before: str | None, now: str | None) -> list[Change]:
    """The same for digests of definitions; "": there is none, None: nobody has looked, or it was told already."""
    if before is None or now is None or before == now:
        return []
    return [(DEFINITION, "defined" if now else "undefined")]


def _plain(state: int | None) -> int | None:
    return state if state is None else _SAME.get(state, state)
