# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later

"""A managed virtual machine on XMPP: the presence that follows libvirt."""

from __future__ import annotations

import logging
import typing as t

from archipel_protocol import errors, states

from .libvirt_facade import DomainNotFound, libvirt
from .machine_account import MachineAccount
from .standings import Standing, full_standing

if t.TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

# What an event says by itself; the others are looked at. virDomainEventType,
# https://libvirt.org/html/libvirt-libvirt-domain.html
_STATE_AFTER = {
    libvirt.VIR_DOMAIN_EVENT_STARTED: states.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_SUSPENDED: states.PAUSED,
    libvirt.VIR_DOMAIN_EVENT_RESUMED: states.RUNNING,
    libvirt.VIR_DOMAIN_EVENT_STOPPED: states.SHUTOFF,
    libvirt.VIR_DOMAIN_EVENT_SHUTDOWN: states.SHUTDOWN,
    libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED: states.PMSUSPENDED,
    libvirt.VIR_DOMAIN_EVENT_CRASHED: states.CRASHED,
}
# After these the domain may be gone, or be another.
_LOOK_AFTER = (
    libvirt.VIR_DOMAIN_EVENT_DEFINED,
    libvirt.VIR_DOMAIN_EVENT_UNDEFINED,
    libvirt.VIR_DOMAIN_EVENT_STOPPED,
)


class VirtualMachineEntity(MachineAccount):
    """One row of the store. ``state`` is libvirt's, None where libvirt has no such domain."""

    def __init__(self, agent: Agent, uuid: str, name: str) -> None:
        super().__init__(agent, uuid, name)
        self.state: int | None = None
        self.cpu_sample: tuple[float, int] | None = None  # loop's seconds, nanoseconds of processor
        self._events = 0
        self.show(*states.LIBVIRT_LOST)

    # Presence

    def on_event(self, event: int, detail: int) -> None:
        """A lifecycle event of libvirt."""
        self._events += 1
        self.agent.pushes.on_event(self, event, detail)
        state = _STATE_AFTER.get(event)
        if event == libvirt.VIR_DOMAIN_EVENT_STOPPED and detail == libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED:
            state = states.CRASHED
        if state is not None:
            self._show_state(state)
        if event in _LOOK_AFTER:
            if self.agent.calm.crowded:
                self.agent.calm.put_off(self, self._look)
            else:
                self._look()

    def _look(self) -> None:
        # It may have gone since that was put off.
        if self.agent.vms.get(self.uuid) is self:
            self.agent.spawn(self.refresh(), f"look at {self.uuid}")

    async def refresh(self) -> None:
        """Looks at the domain; an event that comes meanwhile knows better, and has its own look."""
        events = self._events
        found: Standing | None
        try:
            found = await self.agent.libvirt.call(full_standing, self.uuid)
        except DomainNotFound:
            found = None
        except errors.ArchipelError as fault:
            log.info("cannot look at %s: %s", self.uuid, fault.message)
            return
        if events == self._events:
            self.stands(found)

    @property
    def events_seen(self) -> int:
        """A number that changes with each event."""
        return self._events

    def stands(self, found: Standing | None) -> None:
        """Takes over what libvirt says."""
        if found is not None and found.starting:
            # What comes of it, an event tells.
            return
        self.agent.pushes.stands(self, found)
        if found is None:
            self.state = None
            self.show(*states.NOT_DEFINED)
            return
        if found.name != self.name:
            self.name = found.name
            self.agent.store.change(self.bare, name=found.name)
            self.agent.profiles.check(self)
        self._show_state(states.CRASHED if found.crashed else found.state)
        self.state = found.state

    def libvirt_lost(self) -> None:
        """Nobody knows how the domain stands."""
        self._events += 1
        self.show(*states.LIBVIRT_LOST)

    def _show_state(self, state: int) -> None:
        self.state = state
        self.show(*states.PRESENCE.get(state, states.PRESENCE[states.NOSTATE]))
